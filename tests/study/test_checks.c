/* tests/study/test_checks.c - mirrors src/study/checks.c: every certificate holds for the true operators, and each turns
 * red for the faults it is there to find.  ranks: 1 3 */
#include "study/checks.h"
#include <math.h>
#include <stdlib.h>
#include "cpu/cpu.h"
#include "support.h"

enum { SYMMETRY, NULL_SPACE, DIFFERENCE, CACHED, LAYOUT, PRECISION, BLOCK, RESCALING, CERTIFICATES };

/* A study of 40 generated digits up to the point where `verify` begins.  The bench comes first, so that a product which
 * is given the bench finds the lab. */
typedef struct {
    check_bench bench;
    check_product truth;
    hsgd_deck deck;
    hsgd_study_setup setup;
    study_state state;
} lab;

static hsgd_status make_backend(void *context, hsgd_precision precision, hsgd_backend **out, hsgd_error *err)
{
    (void)context;
    return hsgd_backend_cpu_create(precision, 2, out, err);
}

static lab *lab_create(const char *precision, const char *operator_)
{
    const char *words[] = {"data.train_samples=50",
                           "data.test_samples=10",
                           "hessian.samples=40",
                           "run.stages=verify",
                           "model.layers=conv 3 5 / relu / maxpool 2 / conv 4 3 / tanh / maxpool 2 / linear 10",
                           "hessian.layers=conv2 out.bias",
                           precision,
                           operator_};
    lab *l = calloc(1, sizeof *l);
    double *weights = NULL;
    char source[STUDY_PATH];
    hsgd_error err = {0};

    assert_non_null(l);
    assert_int_equal(unsetenv("HSGD_DATA"), 0);
    assert_ok(hsgd_deck_resolve(NULL, words, sizeof words / sizeof words[0], &l->deck, &err));
    l->setup = (hsgd_study_setup){.comm = test_comm(), .deck = &l->deck, .make_backend = make_backend};
    l->state.setup = &l->setup;
    l->state.deck = &l->deck;
    l->state.comm = test_comm();
    assert_ok(hsgd_progress_create(1, true, false, &l->state.progress, &err)); /* the voice of a rank that is not 0 */
    assert_ok(study_open(&l->state, &err));
    weights = malloc((size_t)l->state.n * sizeof *weights);
    assert_non_null(weights);
    assert_ok(study_initial_weights(&l->state, weights, source, sizeof source, &err));
    assert_ok(study_set_weights(&l->state, weights, source, &err));
    free(weights);
    assert_ok(bench_create(&l->state, &l->bench, &err));
    l->truth = l->bench.product;
    return l;
}

static void lab_destroy(lab *l)
{
    hsgd_progress *progress = l->state.progress;

    bench_destroy(&l->bench);
    study_close(&l->state);
    hsgd_progress_destroy(&progress);
    free(l);
}

static hsgd_status certify(lab *l, int which, check *c, hsgd_error *err)
{
    static hsgd_status (*const all[])(check_bench *, check *, hsgd_error *) = {
        [SYMMETRY] = check_symmetry, [NULL_SPACE] = check_null_space, [DIFFERENCE] = check_central_difference,
        [CACHED] = check_cached,     [LAYOUT] = check_layout,         [PRECISION] = check_precision,
        [BLOCK] = check_block};

    return which == RESCALING ? check_rescaling(&l->bench, 0, c, err) : all[which](&l->bench, c, err);
}

/* Make all certificates: those in `red` (a set of bits) must fail, the others hold. */
static void expect(lab *l, unsigned red)
{
    for (int which = 0; which < CERTIFICATES; which++) {
        const bool must_fail = (red >> which & 1u) != 0;
        check c = {0};
        hsgd_error err = {0};

        assert_ok(certify(l, which, &c, &err));
        assert_string_equal(c.skipped, "");
        if ((c.value <= c.bound) == must_fail) {
            fail_msg("%s: %.3g, bound %.3g, should %s", c.name, c.value, c.bound, must_fail ? "fail" : "hold");
        }
    }
}

static void all_hold_for_the_true_operators(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        lab *l = lab_create(i / 2 == 0 ? "model.precision=single" : "model.precision=double",
                            i % 2 == 0 ? "hessian.operator=hessian" : "hessian.operator=gauss-newton");
        check c = {0};
        hsgd_error err = {0};

        expect(l, 0);
        assert_ok(check_rescaling(&l->bench, 1, &c, &err));
        assert_string_not_equal(c.skipped, ""); /* behind it stands tanh, which is not homogeneous */
        lab_destroy(l);
    }
}

/* ---- wrong products ---- */

static hsgd_status true_product(check_bench *b, const check_way *way, int64_t k, const double *x, double *y,
                                hsgd_error *err)
{
    return ((const lab *)b)->truth(b, way, k, x, y, err);
}

/* With an entry above the diagonal that has no partner below it. */
static hsgd_status lopsided(check_bench *b, const check_way *way, int64_t k, const double *x, double *y,
                            hsgd_error *err)
{
    const hsgd_status st = true_product(b, way, k, x, y, err);

    for (int64_t i = 0; st == HSGD_OK && i + 1 < k * b->s->n; i++) {
        y[i] += 0.1 * b->scale * ((i + 1) % b->s->n != 0 ? x[i + 1] : 0.0);
    }
    return st;
}

/* Symmetric, but another matrix: A + c I. */
static hsgd_status shifted(check_bench *b, const check_way *way, int64_t k, const double *x, double *y, hsgd_error *err)
{
    const hsgd_status st = true_product(b, way, k, x, y, err);

    for (int64_t i = 0; st == HSGD_OK && i < k * b->s->n; i++) {
        y[i] += 0.1 * b->scale * x[i];
    }
    return st;
}

/* Without the curvature of the network itself. */
static hsgd_status gauss_newton(check_bench *b, const check_way *way, int64_t k, const double *x, double *y,
                                hsgd_error *err)
{
    check_way other = *way;

    other.kind = HSGD_OPERATOR_GAUSS_NEWTON;
    return true_product(b, &other, k, x, y, err);
}

/* Another matrix where Gauss-Newton is asked for. */
static hsgd_status shifted_gauss_newton(check_bench *b, const check_way *way, int64_t k, const double *x, double *y,
                                        hsgd_error *err)
{
    const hsgd_status st = true_product(b, way, k, x, y, err);

    for (int64_t i = 0; st == HSGD_OK && way->kind == HSGD_OPERATOR_GAUSS_NEWTON && i < k * b->s->n; i++) {
        y[i] += 0.1 * b->scale * x[i];
    }
    return st;
}

/* Off by one bit in one entry on one rank alone. */
static hsgd_status off_alone(check_bench *b, const check_way *way, int64_t k, const double *x, double *y,
                             hsgd_error *err)
{
    const hsgd_status st = true_product(b, way, k, x, y, err);

    if (st == HSGD_OK && way->comm != b->s->comm) {
        y[0] = nextafter(y[0], 1e300);
    }
    return st;
}

/* Off by a hundredth in single precision. */
static hsgd_status off_in_single(check_bench *b, const check_way *way, int64_t k, const double *x, double *y,
                                 hsgd_error *err)
{
    const hsgd_status st = true_product(b, way, k, x, y, err);

    for (int64_t i = 0; st == HSGD_OK && way->backend->precision == HSGD_SINGLE && i < k * b->s->n; i++) {
        y[i] *= 1.01;
    }
    return st;
}

/* A block that is off by one bit in one selected entry. */
static hsgd_status block_off(check_bench *b, const check_way *way, int64_t k, const double *x, double *y,
                             hsgd_error *err)
{
    const hsgd_status st = true_product(b, way, k, x, y, err);
    const int64_t last = b->s->n - 1; /* of out.bias */

    if (st == HSGD_OK && way->block) {
        y[last] = nextafter(y[last], 1e300);
    }
    return st;
}

/* A block whose columns are another parameter's: it takes the entry before. */
static hsgd_status block_displaced(check_bench *b, const check_way *way, int64_t k, const double *x, double *y,
                                   hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t n = b->s->n;
    double *moved = malloc((size_t)(k * n) * sizeof *moved);

    assert_non_null(moved);
    for (int64_t i = 0; i < k * n; i++) {
        moved[i] = way->block && i % n != 0 ? x[i - 1] : x[i];
    }
    st = true_product(b, way, k, moved, y, err);
    free(moved);
    return st;
}

static void each_fault_of_the_product_is_found(void **state)
{
    const struct {
        check_product product;
        const char *operator_;
        unsigned red;
    } faults[] = {
        {lopsided, "hessian.operator=hessian",
         1u << SYMMETRY | 1u << NULL_SPACE | 1u << DIFFERENCE | 1u << BLOCK |
             1u << RESCALING}, /* also beside the block */
        {shifted, "hessian.operator=hessian", 1u << NULL_SPACE | 1u << DIFFERENCE | 1u << RESCALING},
        {gauss_newton, "hessian.operator=hessian", 1u << DIFFERENCE | 1u << RESCALING},
        {shifted_gauss_newton, "hessian.operator=gauss-newton", 1u << NULL_SPACE}, /* the one that is studied */
        {off_alone, "hessian.operator=hessian", 1u << LAYOUT},
        {block_off, "hessian.operator=hessian", 1u << BLOCK},
        {block_displaced, "hessian.operator=gauss-newton", 1u << BLOCK},
    };

    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        lab *l = lab_create("model.precision=double", faults[i].operator_);

        l->bench.product = faults[i].product;
        expect(l, faults[i].red);
        lab_destroy(l);
    }
}

static void products_that_are_worse_in_single_precision_are_found(void **state)
{
    lab *l = lab_create("model.precision=double", "hessian.operator=hessian");

    (void)state;
    l->bench.product = off_in_single;
    expect(l, 1u << PRECISION);
    lab_destroy(l);
}

/* ---- a gradient and weights that do not belong together ---- */

static void a_wrong_gradient_is_found(void **state)
{
    lab *l = lab_create("model.precision=single", "hessian.operator=hessian");

    (void)state;
    for (int64_t i = 0; i < l->state.n; i++) {
        l->bench.gradient[i] *= 1.1;
    }
    expect(l, 1u << RESCALING);
    lab_destroy(l);
}

static void weights_other_than_the_gradient_s_are_found(void **state)
{
    lab *l = lab_create("model.precision=single", "hessian.operator=hessian");

    (void)state;
    for (int64_t i = 0; i < l->state.n; i++) {
        l->state.weights[i] *= 1.1;
    }
    expect(l, 1u << RESCALING);
    lab_destroy(l);
}

/* ---- kept base passes that are lost ---- */

/* A backend that empties the block allocated last at the end of each sweep: where base passes are kept that is theirs,
 * elsewhere it is that of the tangents, which the next sweep fills anew. */
static struct {
    hsgd_backend_ops ops;
    const hsgd_backend_ops *truth;
    void *last;
    size_t bytes;
} forgetful;

static hsgd_status remembering_alloc(void *self, size_t bytes, void **out, hsgd_error *err)
{
    const hsgd_status st = forgetful.truth->alloc(self, bytes, out, err);

    forgetful.last = *out;
    forgetful.bytes = st == HSGD_OK ? bytes : 0;
    return st;
}

static hsgd_status emptying_merge(void *self, hsgd_reduction reduction, int64_t count, int workers, void *const *sums,
                                  void *out, hsgd_error *err)
{
    memset(forgetful.last, 0, forgetful.bytes);
    return forgetful.truth->merge(self, reduction, count, workers, sums, out, err);
}

static void kept_base_passes_that_are_lost_are_found(void **state)
{
    lab *l = lab_create("model.precision=double", "hessian.operator=hessian");
    check c = {0};
    hsgd_error err = {0};

    (void)state;
    forgetful.truth = l->state.backend->ops;
    forgetful.ops = *forgetful.truth;
    forgetful.ops.alloc = remembering_alloc;
    forgetful.ops.merge = emptying_merge;
    l->state.backend->ops = &forgetful.ops;
    assert_ok(check_cached(&l->bench, &c, &err));
    assert_false(c.value <= c.bound);
    assert_ok(check_symmetry(&l->bench, &c, &err)); /* which keeps nothing */
    assert_true(c.value <= c.bound);
    l->state.backend->ops = forgetful.truth;
    lab_destroy(l);
}

/* Has the last rank been asked to stop? */
static bool asked(void *context)
{
    (void)context;
    return test_comm()->rank == test_comm()->ranks - 1;
}

static void a_certificate_stops_on_all_ranks_where_one_is_asked_to(void **state)
{
    lab *l = lab_create("model.precision=double", "hessian.operator=hessian");

    (void)state;
    l->setup.stop = asked;
    for (int which = 0; which < CERTIFICATES; which++) {
        check c = {0};
        hsgd_error err = {0};

        assert_int_equal(certify(l, which, &c, &err), HSGD_STOPPED);
    }
    lab_destroy(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_hold_for_the_true_operators),
        cmocka_unit_test(each_fault_of_the_product_is_found),
        cmocka_unit_test(products_that_are_worse_in_single_precision_are_found),
        cmocka_unit_test(a_wrong_gradient_is_found),
        cmocka_unit_test(weights_other_than_the_gradient_s_are_found),
        cmocka_unit_test(kept_base_passes_that_are_lost_are_found),
        cmocka_unit_test(a_certificate_stops_on_all_ranks_where_one_is_asked_to),
    };

    return test_run(tests);
}
