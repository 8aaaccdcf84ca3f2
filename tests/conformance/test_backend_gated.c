/* tests/conformance/test_backend_gated.c - gated convolutions of every backend that has them, against plain loops in
 * double that follow the definition in backend.h.
 * devices: cuda */
#include "gated_case.h"

enum { CASES = 32 };

static int taken; /* cases that the present backend wants in one step */
static bool anywhere;

/* ---- the linear kernels ---- */

/* Weights stand anywhere: in column 1 and above, which no line of the cache begins with. */
enum { FIRST = 1 };

typedef struct {
    role which;
    int terms;
    operand first, second, result, bias;
} linear_case;

static linear_case make_linear(role which, const gated_case *c, int terms)
{
    linear_case l = {.which = which, .terms = terms};
    const int64_t weights = c->conv.weight_count, columns = FIRST + terms;

    l.first = which == VALUE ? inputs(c, columns) : outputs(c, columns, draw_between(0, 8));
    l.second = which == ADJOINT_WEIGHT ? inputs(c, columns) : weights_make(weights, columns, false, c->w_order);
    l.bias = weights_make(c->conv.bias_count, FIRST + 1, false, c->b_order);
    if (which == VALUE) {
        l.result = outputs(c, FIRST + 1, 0);
    } else if (which == ADJOINT_INPUT) {
        l.result = inputs(c, FIRST + 1);
    } else {
        l.result = weights_make(weights, FIRST + 1, false, c->w_order);
    }
    return l;
}

static void free_linear(linear_case *l)
{
    operand_free(&l->first);
    operand_free(&l->second);
    operand_free(&l->result);
    operand_free(&l->bias);
}

static void run_linear(const linear_case *l, const gated_case *c, int worker, const void *gates)
{
    const hsgd_backend_ops *ops = subject->ops;
    const void *first[HSGD_GATED_TERMS] = {NULL}, *second[HSGD_GATED_TERMS] = {NULL};
    void *bias = c->bias ? operand_at(&l->bias, FIRST).data : NULL, *result = operand_at(&l->result, FIRST).data;
    hsgd_error err = {0};

    for (int t = 0; t < l->terms; t++) {
        first[t] = operand_at(&l->first, FIRST + t).data;
        second[t] = operand_at(&l->second, FIRST + t).data;
    }
    switch (l->which) {
    case VALUE:
        assert_ok(ops->gated_value(subject->self, worker, &c->gated, c->m, gates, l->terms, first, second, bias, result,
                                   &err));
        break;
    case ADJOINT_INPUT:
        assert_ok(ops->gated_adjoint_input(subject->self, worker, &c->gated, c->m, gates, l->terms, first, second,
                                           result, &err));
        break;
    case ADJOINT_WEIGHT:
        assert_ok(ops->gated_adjoint_weight(subject->self, worker, &c->gated, c->m, gates, l->terms, first, second,
                                            result, bias, &err));
        break;
    }
}

/* What the result should be: prior content (of a weight), bias (of a value) and all terms at open gates. */
static reference expected_result(const linear_case *l, const gated_case *c, const int64_t *from)
{
    const int64_t count = l->result.m * l->result.count, pixels = c->pool.out.height * c->pool.out.width;
    reference r = reference_make(count);

    for (int64_t i = 0; i < count; i++) {
        if (l->which == ADJOINT_WEIGHT) {
            reference_add(&r, i, operand_column(&l->result, FIRST)[i]);
        } else if (l->which == VALUE && c->bias && from[i] >= 0) {
            reference_add(&r, i, operand_column(&l->bias, FIRST)[i / pixels % c->conv.bias_count]);
        }
    }
    for (int t = 0; t < l->terms; t++) {
        meet_open(l->which, &r, c, from, operand_column(&l->first, FIRST + t), operand_column(&l->second, FIRST + t));
    }
    return r;
}

/* Column 0 is as it was made, column FIRST as expected; to the rounding of the sums. */
static void check_columns(const char *what, const operand *a, const double *got, const reference *r)
{
    const int64_t count = a->m * a->count;

    for (int64_t i = 0; i < count; i++) {
        check_near("what stands before a result", i, got[i], (double)a->canonical[i], 0.0);
        check_near(what, i, got[FIRST * count + i], r->sum[i], sum_bound(r->terms[i] + 1, r->absolute[i]));
    }
}

/* db += sum of dy_0 over samples and open windows; other kernels leave the bias alone. */
static void check_bias(const linear_case *l, const gated_case *c, const int64_t *from)
{
    const int64_t channels = c->conv.bias_count, pixels = c->pool.out.height * c->pool.out.width;
    reference r = reference_make(channels);
    double *got = operand_read(&l->bias);

    for (int64_t i = 0; i < channels; i++) {
        reference_add(&r, i, operand_column(&l->bias, FIRST)[i]);
    }
    for (int64_t i = 0; l->which == ADJOINT_WEIGHT && c->bias && i < c->m * channels * pixels; i++) {
        if (from[i] >= 0) {
            reference_add(&r, i / pixels % channels, operand_column(&l->first, FIRST)[i]);
        }
    }
    check_columns("bias", &l->bias, got, &r);
    free(got);
    reference_free(&r);
}

/* Right, and the same bits by another worker. */
static void check_linear(role which, const gated_case *c, int terms, const int64_t *from, const void *gates)
{
    static const char *const names[] = {"value", "adjoint in the input", "adjoint in the weight"};
    linear_case l = make_linear(which, c, terms), again = l;
    reference r = expected_result(&l, c, from);
    double *before = operand_laid(&l.result), *bias = operand_laid(&l.bias), *got = NULL, *other = NULL;

    again.result.columns.data = to_backend(before, (FIRST + 1) * l.result.stride);
    again.bias.columns.data = to_backend(bias, (FIRST + 1) * l.bias.stride);
    run_linear(&l, c, 0, gates);
    run_linear(&again, c, subject->workers - 1, gates);
    got = operand_read(&l.result);
    other = operand_read(&again.result);
    check_columns(names[which], &l.result, got, &r);
    check_bias(&l, c, from);
    assert_memory_equal(got, other, (size_t)((FIRST + 1) * l.result.m * l.result.count) * sizeof *got);
    release(again.result.columns.data);
    release(again.bias.columns.data);
    free(before);
    free(bias);
    free(got);
    free(other);
    reference_free(&r);
    free_linear(&l);
}

/* ---- gates ---- */

/* Memory for the gates, and behind it what nobody may touch; NULL where the backend goes layer by layer. */
static const uint8_t untouched[64] = {7, 7, 7, 7};

static void *take_gates(const gated_case *c, size_t *bytes)
{
    uint8_t *host = NULL;
    void *memory = NULL;

    *bytes = subject->ops->gates_bytes(subject->self, &c->gated, c->m);
    if (*bytes == 0) {
        return NULL;
    }
    host = malloc(*bytes + sizeof untouched);
    assert_non_null(host);
    memset(host, 0xff, *bytes); /* nothing may be expected of it */
    memcpy(host + *bytes, untouched, sizeof untouched);
    memory = put_bytes(host, *bytes + sizeof untouched);
    free(host);
    taken++;
    anywhere = true;
    return memory;
}

static void end_gates(void *gates, size_t bytes)
{
    uint8_t behind[sizeof untouched];

    get_bytes((const char *)gates + bytes, behind, sizeof behind);
    assert_memory_equal(behind, untouched, sizeof untouched);
    release(gates);
}

/* The largest of each window, cut by the ReLU, is off by no more than the worst of its entries. */
static void check_values(const gated_case *c, const reference *z, const double *y)
{
    for (int64_t i = 0; i < c->m * elements(c->pool.out); i++) {
        double largest = -INFINITY, bound = 0.0;

        for (int64_t place = 0; place < c->pool.size * c->pool.size; place++) {
            const int64_t from = pooled_from(c, i, place);

            largest = fmax(largest, z->sum[from]);
            bound = fmax(bound, sum_bound(z->terms[from] + 1, z->absolute[from]));
        }
        check_near("base", i, y[i], c->gated.relu ? fmax(largest, 0.0) : largest, c->steps > 0.0 ? 0.0 : bound);
    }
}

/* x, w and b of a base: whole numbers, or (steps 0) reals. */
static void make_whole(const gated_case *c, operand *a)
{
    if (c->steps == 0.0) {
        return;
    }
    for (int64_t i = 0; i < operand_arrays(a) * a->m * a->count; i++) {
        a->canonical[i] = rint(c->steps * a->canonical[i]);
    }
    operand_renew(a);
}

/* The base of a case, alone and as the first of k columns, its values checked; *from: where its gates lead. */
static void check_base(const gated_case *c, void *gates, int64_t **from)
{
    const hsgd_backend_ops *ops = subject->ops;
    const int64_t k = draw_between(1, 3);
    operand x = operand_make(c->m, elements(c->conv.in), k, draw_between(0, 1) == 1, c->x_order, c->zeros);
    operand w = weights_make(c->conv.weight_count, k, false, c->w_order);
    operand b = weights_make(c->conv.bias_count, k, false, c->b_order), y = outputs(c, k, 0), lone = outputs(c, 1, 0);
    double *got = NULL, *alone = NULL;
    hsgd_error err = {0};

    make_whole(c, &x);
    make_whole(c, &w);
    make_whole(c, &b);
    assert_ok(ops->gated_base(subject->self, 0, &c->gated, c->m, 1, operand_at(&x, 0), operand_at(&w, 0),
                              operand_at(&b, 0), operand_at(&lone, 0), gates, &err));
    assert_ok(ops->gated_base(subject->self, subject->workers - 1, &c->gated, c->m, k, x.columns, w.columns, b.columns,
                              y.columns, NULL, &err));
    got = operand_read(&y);
    alone = operand_read(&lone);
    assert_memory_equal(got, alone, (size_t)(y.m * y.count) * sizeof *got);
    for (int64_t column = 0; column < k; column++) {
        reference z = convolve(c, operand_column(&x, column), operand_column(&w, column), operand_column(&b, column));

        check_values(c, &z, got + column * y.m * y.count);
        *from = column == 0 ? gates_of(c, z.sum) : *from;
        reference_free(&z);
    }
    free(got);
    free(alone);
    operand *const all[] = {&x, &w, &b, &y, &lone};
    for (int i = 0; i < 5; i++) {
        operand_free(all[i]);
    }
}

/* ---- tests ---- */

/* `check` for every case that the backend wants in one step. */
static void for_cases(void (*check)(gated_case *c, void *gates))
{
    for (int64_t number = 0; number < CASES && subject->ops->gates_bytes != NULL; number++) {
        gated_case c = {0};
        size_t bytes = 0;
        void *gates = NULL;

        draw_layers(&c, number);
        gates = take_gates(&c, &bytes);
        if (gates != NULL) {
            find_orders(&c);
            check(&c, gates);
            free_orders(&c);
            end_gates(gates, bytes);
        }
    }
}

static void on_all_that_have_gates(void (*check)(const hsgd_backend *b))
{
    anywhere = false;
    on_all_backends(check);
    if (!anywhere) {
        print_message("skipped: no backend here has gated convolutions\n");
        skip();
    }
}

static void check_whole(gated_case *c, void *gates)
{
    int64_t *from = NULL;

    check_base(c, gates, &from);
    for (role which = VALUE; which <= ADJOINT_WEIGHT; which++) {
        for (int terms = 1; terms <= HSGD_GATED_TERMS; terms++) {
            check_linear(which, c, terms, from, gates);
        }
    }
    free(from);
}

static void check_all_kernels(const hsgd_backend *b)
{
    taken = 0;
    for_cases(check_whole);
    assert_true(b->ops->gates_bytes == NULL || taken >= CASES / 4); /* else nothing was tested */
}

static void all_kernels_follow_the_definition(void **state)
{
    (void)state;
    on_all_that_have_gates(check_all_kernels);
}

static void check_reals(gated_case *c, void *gates)
{
    int64_t *from = NULL;

    c->steps = 0.0;
    check_base(c, gates, &from);
    free(from);
}

static void check_real_bases(const hsgd_backend *b)
{
    (void)b;
    for_cases(check_reals);
}

static void the_base_is_right_to_the_rounding_of_its_sums(void **state)
{
    (void)state;
    on_all_that_have_gates(check_real_bases);
}

/* One pixel is NaN: so are all outputs whose windows it reaches, and no others. */
static void check_nan(gated_case *c, void *gates)
{
    operand x = inputs(c, 1), w = weights_make(c->conv.weight_count, 1, false, c->w_order);
    operand b = weights_make(c->conv.bias_count, 1, false, c->b_order), y = outputs(c, 1, 0);
    const int64_t at = draw_between(0, x.m * x.count - 1);
    double *got = NULL;
    reference z;
    hsgd_error err = {0};

    x.canonical[at] = NAN;
    operand_renew(&x);
    z = convolve(c, x.canonical, w.canonical, b.canonical);
    assert_ok(subject->ops->gated_base(subject->self, 0, &c->gated, c->m, 1, x.columns, w.columns, b.columns, y.columns,
                                       gates, &err));
    got = operand_read(&y);
    for (int64_t i = 0; i < y.m * y.count; i++) {
        bool reached = false;

        for (int64_t place = 0; place < c->pool.size * c->pool.size; place++) {
            reached = reached || isnan(z.sum[pooled_from(c, i, place)]);
        }
        check_near("NaN in the base", i, isnan(got[i]), reached, 0.0);
    }
    free(got);
    reference_free(&z);
    operand_free(&x);
    operand_free(&w);
    operand_free(&b);
    operand_free(&y);
}

static void check_nans(const hsgd_backend *b)
{
    (void)b;
    for_cases(check_nan);
}

static void the_base_does_not_hide_nan(void **state)
{
    (void)state;
    on_all_that_have_gates(check_nans);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_kernels_follow_the_definition),
        cmocka_unit_test(the_base_is_right_to_the_rounding_of_its_sums),
        cmocka_unit_test(the_base_does_not_hide_nan),
    };

    return test_run(tests);
}
