/* tests/conformance/test_backend_vectors.c - what a step and a product do with numbers in backend memory on every backend:
 * the optimiser's update, sums in a fixed order, counts, the root of the softmax's Hessian, memory that is held.
 * devices: cuda */
#include "operands.h"

/* A number in backend memory, and back. */
static double *put_number(double x)
{
    return put_bytes(&x, sizeof x);
}

static double get_number(const double *memory)
{
    double x = 0.0;

    get_bytes(memory, &x, sizeof x);
    return x;
}

static void check_bits(const char *what, int64_t at, double got, double expected)
{
    if (memcmp(&got, &expected, sizeof got) != 0) {
        fail_msg("%s (%s, %s), entry %lld: %a instead of %a", what, subject->ops->name, subject->instruction_set,
                 (long long)at, got, expected);
    }
}

/* The nearest float.  By way of memory: gcc 12.2 at -O3 loses the rounding in the tail of a loop of known length that
 * rounds where a flag says so. */
static double as_float(double x)
{
    const volatile float y = (float)x;

    return (double)y;
}

/* ---- sums in a fixed order ---- */

/* Numbers of all sizes: another order of a sum gives other bits. */
static void draw_wide(double *x, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        x[i] = ldexp(draw_real(), (int)draw_between(-20, 40));
    }
}

/* Only in this order are these three sums 0, 1 and 1. */
static const double telling[3][3] = {{0x1p60, 1.0, -0x1p60}, {0x1p60, -0x1p60, 1.0}, {-0x1p60, 0x1p60, 1.0}};

static void check_add_blocks(const hsgd_backend *b)
{
    enum { BLOCKS = 128, PRODUCTS = 33 };
    static const int64_t blocks[] = {0, 1, 3, BLOCKS};
    double *partial = malloc((size_t)(BLOCKS * PRODUCTS) * sizeof *partial), g[PRODUCTS + 1];

    assert_non_null(partial);
    for (size_t n = 0; n < sizeof blocks / sizeof blocks[0]; n++) {
        hsgd_error err = {0};

        draw_wide(partial, BLOCKS * PRODUCTS);
        for (int i = 0; i <= PRODUCTS; i++) {
            g[i] = guard;
        }
        for (int block = 0; block < 3; block++) {
            for (int i = 0; i < 3; i++) {
                partial[block * PRODUCTS + i] = telling[i][block];
            }
        }
        void *from = put_bytes(partial, (size_t)(BLOCKS * PRODUCTS) * sizeof *partial), *to = put_bytes(g, sizeof g);
        assert_ok(b->ops->add_blocks(b->self, blocks[n], PRODUCTS, from, to, &err));
        get_bytes(to, g, sizeof g);
        for (int i = 0; i < PRODUCTS; i++) {
            double sum = 0.0;

            for (int64_t block = 0; block < blocks[n]; block++) {
                sum += partial[block * PRODUCTS + i];
            }
            check_bits("add_blocks", i, g[i], sum);
        }
        check_bits("add_blocks, beyond", PRODUCTS, g[PRODUCTS], guard);
        release(from);
        release(to);
    }
    free(partial);
}

static void blocks_are_added_in_their_order(void **state)
{
    (void)state;
    on_all_backends(check_add_blocks);
}

static void check_merge(const hsgd_backend *b)
{
    enum { WORDS = 301, MOST = 3 };
    double parts[MOST][WORDS], got[WORDS];
    int64_t whole[MOST][WORDS], exact[WORDS];
    void *sums[MOST], *words[MOST], *to = NULL;
    hsgd_error err = {0};

    for (int w = 0; w < MOST; w++) {
        draw_wide(parts[w], WORDS);
        for (int i = 0; i < WORDS; i++) {
            parts[w][i] = i < 3 ? telling[i][w] : parts[w][i];
            whole[w][i] = draw_between(-(INT64_C(1) << 60), INT64_C(1) << 60);
        }
        sums[w] = put_bytes(parts[w], sizeof parts[w]);
        words[w] = put_bytes(whole[w], sizeof whole[w]);
    }
    to = put_bytes(parts[0], sizeof got); /* overwritten */
    for (int workers = 1; workers <= MOST; workers++) {
        assert_ok(b->ops->merge(b->self, HSGD_REDUCTION_FAST, WORDS, workers, sums, to, &err));
        get_bytes(to, got, sizeof got);
        assert_ok(b->ops->merge(b->self, HSGD_REDUCTION_REPRODUCIBLE, WORDS, workers, words, to, &err));
        get_bytes(to, exact, sizeof exact);
        for (int i = 0; i < WORDS; i++) {
            double sum = 0.0;
            int64_t total = 0;

            for (int w = 0; w < workers; w++) {
                sum += parts[w][i];
                total += whole[w][i];
            }
            check_bits("merge, fast", i, got[i], sum);
            assert_true(exact[i] == total);
        }
    }
    for (int w = 0; w < MOST; w++) { /* what was merged is as it was */
        get_bytes(sums[w], got, sizeof got);
        assert_memory_equal(got, parts[w], sizeof got);
        get_bytes(words[w], exact, sizeof exact);
        assert_memory_equal(exact, whole[w], sizeof exact);
        release(sums[w]);
        release(words[w]);
    }
    release(to);
}

static void workers_sums_are_merged_in_their_order(void **state)
{
    (void)state;
    on_all_backends(check_merge);
}

/* Doubles with bits beyond float's, which a detour through reals would lose; two that no sum holds. */
static void check_accumulate_double(const hsgd_backend *b)
{
    enum { COUNT = 97, ADDENDS = 3 };
    const double scale = hsgd_sum_scale(ADDENDS);
    double x[COUNT], plain[COUNT] = {0}, got[COUNT];
    int64_t words[2 * COUNT + 1] = {0}, read[2 * COUNT + 1];
    void *fast = put_bytes(plain, sizeof plain), *exact = put_bytes(words, sizeof words);
    hsgd_error err = {0};

    for (int n = 0; n < ADDENDS; n++) {
        for (int i = 0; i < COUNT; i++) {
            x[i] = ldexp(draw_real() + 0x1p-30 * draw_real(), i % 34);
            plain[i] += x[i];
        }
        void *from = put_bytes(x, sizeof x);
        assert_ok(b->ops->accumulate_double(b->self, 0, HSGD_REDUCTION_FAST, COUNT, from, 0.0, fast, &err));
        release(from);
        x[5] = n == 1 ? NAN : x[5];
        x[6] = n == 2 ? -HSGD_SUM_LIMIT : x[6];
        from = put_bytes(x, sizeof x);
        assert_ok(b->ops->accumulate_double(b->self, 0, HSGD_REDUCTION_REPRODUCIBLE, COUNT, from, scale, exact, &err));
        release(from);
        for (int i = 0; i < COUNT; i++) {
            words[2 * COUNT] += hsgd_sum_add(x[i], scale, &words[i], &words[COUNT + i]);
        }
    }
    get_bytes(fast, got, sizeof got);
    get_bytes(exact, read, sizeof read);
    for (int i = 0; i < COUNT; i++) {
        check_bits("accumulate_double", i, got[i], plain[i]);
    }
    assert_int_equal(words[2 * COUNT], 2);
    assert_memory_equal(read, words, sizeof words);
    release(fast);
    release(exact);
}

static void doubles_are_added_up_as_doubles(void **state)
{
    (void)state;
    on_all_backends(check_accumulate_double);
}

/* ---- counts and squares ---- */

static void check_count_beyond(const hsgd_backend *b)
{
    static const double limits[] = {0.0, 1.5, DBL_MAX};
    enum { COUNT = 5000 };
    double *x = malloc(COUNT * sizeof *x), *out = put_number(3.0), expected = 3.0;
    hsgd_error err = {0};

    assert_non_null(x);
    for (size_t l = 0; l < sizeof limits / sizeof limits[0]; l++) {
        const double limit = limits[l],
                     edge[] = {limit,    -limit,   nextafter(limit, INFINITY), -nextafter(limit, INFINITY), NAN, -NAN,
                               INFINITY, -INFINITY};

        for (int i = 0; i < COUNT; i++) {
            x[i] = i % 7 == 0 ? edge[i / 7 % 8] : 3.0 * draw_real();
            expected += isnan(x[i]) || x[i] > limit || x[i] < -limit ? 1.0 : 0.0;
        }
        double *memory = put_bytes(x, COUNT * sizeof *x);
        assert_ok(b->ops->count_beyond(b->self, COUNT, memory, limit, out, &err));
        check_bits("count_beyond", (int64_t)l, get_number(out), expected);
        assert_ok(b->ops->count_beyond(b->self, 2, memory + 1, 3.0, out, &err)); /* none is beyond 3 */
        assert_ok(b->ops->count_beyond(b->self, 0, memory, 0.0, out, &err));
        check_bits("count_beyond, none", (int64_t)l, get_number(out), expected);
        release(memory);
    }
    release(out);
    free(x);
}

static void count_beyond_adds_what_is_not_within(void **state)
{
    (void)state;
    on_all_backends(check_count_beyond);
}

/* Squares and their sum are formed in double, whatever the reals: each term meets at most so many roundings. */
static void check_squares_case(const hsgd_backend *b, int64_t count, int64_t k, bool shared)
{
    int64_t *order = malloc((size_t)count * sizeof *order);
    double *out = put_number(2.5), sum = 2.5;
    operand a;
    hsgd_error err = {0};

    assert_non_null(order);
    for (int64_t i = 0; i < count; i++) {
        order[i] = i;
    }
    a = operand_make(1, count, k, shared, order, 1);
    for (int call = 0; call < 2; call++) {
        for (int64_t j = 0; j < k; j++) {
            for (int64_t i = 0; i < count; i++) {
                sum += operand_column(&a, j)[i] * operand_column(&a, j)[i];
            }
        }
        assert_ok(b->ops->squares(b->self, 0, count, k, a.columns, out, &err));
    }
    check_near("squares", 0, get_number(out), sum, 2.0 * (double)(2 * count * k + 2) * DBL_EPSILON * sum);
    operand_free(&a);
    release(out);
    free(order);
}

static void check_squares(const hsgd_backend *b)
{
    for (int number = 0; number < 12; number++) {
        check_squares_case(b, draw_between(1, 3000), draw_between(1, 13), number % 3 == 0);
    }
    check_squares_case(b, 1, 1, false);
}

static void squares_of_all_columns_are_added(void **state)
{
    (void)state;
    on_all_backends(check_squares);
}

/* ---- the root of the softmax's Hessian ---- */

enum { CLASSES = 11 };

/* s_b = sqrt(p_b) (e_b - p): computed in double, rounded to a real.  sum of s s' = diag(p) - p p' where p sums to 1;
 * the rounded p does to within CLASSES half-units, and each entry of each s is off by one rounding. */
static void check_softmax_root(const hsgd_backend *b)
{
    static const int64_t parts[][2] = {{0, CLASSES}, {0, 4}, {4, CLASSES - 4}, {CLASSES - 1, 1}};
    double z[CLASSES], total = 0.0, s[CLASSES * CLASSES] = {0};
    hsgd_error err = {0};

    for (int c = 0; c < CLASSES; c++) {
        z[c] = c == 3 ? 0.0 : exp(8.0 * draw_real()); /* a class that has vanished */
        total += z[c];
    }
    for (int c = 0; c < CLASSES; c++) {
        z[c] = b->precision == HSGD_SINGLE ? as_float(z[c] / total) : z[c] / total;
    }
    void *p = to_backend(z, CLASSES), *out = to_backend(s, CLASSES * CLASSES);
    for (size_t n = 0; n < sizeof parts / sizeof parts[0]; n++) {
        const int64_t first = parts[n][0], k = parts[n][1];

        assert_ok(b->ops->softmax_root(b->self, 0, CLASSES, first, k, p, out, &err));
        double *got = from_backend(out, k * CLASSES);
        for (int64_t i = 0; i < k * CLASSES; i++) {
            const int64_t c = i % CLASSES, at = first + i / CLASSES;
            const double exact = sqrt(z[at]) * ((c == at ? 1.0 : 0.0) - z[c]);

            check_near("softmax_root", i, got[i], exact, (roundoff() + 2.0 * DBL_EPSILON) * fabs(exact));
            s[at * CLASSES + c] = got[i];
        }
        free(got);
    }
    for (int c = 0; c < CLASSES; c++) {
        for (int d = 0; d < CLASSES; d++) {
            double sum = 0.0;

            for (int n = 0; n < CLASSES; n++) {
                sum += s[n * CLASSES + c] * s[n * CLASSES + d];
            }
            check_near("softmax_root, product", c * CLASSES + d, sum, (c == d ? z[c] : 0.0) - z[c] * z[d],
                       4.0 * CLASSES * roundoff() * sqrt(z[c] * z[d]));
        }
    }
    release(p);
    release(out);
}

static void softmax_root_times_itself_is_the_hessian(void **state)
{
    (void)state;
    on_all_backends(check_softmax_root);
}

/* ---- the optimiser's update ---- */

enum { PARAMETERS = 1003 };

/* To the bit: the rule fixes every operation and their order.  Without momentum there is none to be touched. */
static void check_sgd_case(const hsgd_backend *b, const hsgd_sgd_rule *rule, double halted)
{
    double p[PARAMETERS], m[PARAMETERS], g[PARAMETERS], got_p[PARAMETERS], got_m[PARAMETERS];
    double *stop = put_number(halted);
    hsgd_error err = {0};

    for (int i = 0; i < PARAMETERS; i++) {
        p[i] = draw_real() + 0x1p-30 * draw_real();
        g[i] = draw_real() + 0x1p-40 * draw_real();
        m[i] = rule->first && i % 2 == 0 ? NAN : draw_real(); /* a first step begins the buffer, whatever it held */
    }
    void *weights = put_bytes(p, sizeof p), *momentum = put_bytes(m, sizeof m), *gradient = put_bytes(g, sizeof g);
    assert_ok(b->ops->sgd_update(b->self, rule, PARAMETERS, gradient, stop, weights,
                                 rule->momentum == 0.0 ? NULL : momentum, &err));
    get_bytes(weights, got_p, sizeof p);
    get_bytes(momentum, got_m, sizeof m);
    for (int i = 0; i < PARAMETERS && halted == 0.0; i++) {
        double d = rule->lr * (g[i] + rule->weight_decay * p[i]);

        if (rule->momentum != 0.0) {
            m[i] = rule->first ? d : rule->momentum * m[i] + (1.0 - rule->dampening) * d;
            d = rule->nesterov ? d + rule->momentum * m[i] : m[i];
        }
        p[i] = rule->round_to_single ? as_float(p[i] - d) : p[i] - d;
    }
    for (int i = 0; i < PARAMETERS; i++) {
        check_bits("sgd_update, weights", i, got_p[i], p[i]);
        check_bits("sgd_update, momentum", i, got_m[i], m[i]);
    }
    release(weights);
    release(momentum);
    release(gradient);
    release(stop);
}

static void check_sgd_update(const hsgd_backend *b)
{
    for (unsigned flags = 0; flags < 64; flags++) {
        const hsgd_sgd_rule rule = {.lr = 0.1,
                                    .weight_decay = flags & 1 ? 0.01 : 0.0,
                                    .momentum = flags & 2 ? 0.9 : 0.0,
                                    .dampening = flags & 4 ? 0.3 : 0.0,
                                    .nesterov = (flags & 8) != 0,
                                    .first = (flags & 16) != 0,
                                    .round_to_single = (flags & 32) != 0};

        check_sgd_case(b, &rule, 0.0);
        check_sgd_case(b, &rule, flags % 3 == 0 ? NAN : 1.0 + flags);
    }
}

static void sgd_update_follows_its_rule_until_halted(void **state)
{
    (void)state;
    on_all_backends(check_sgd_update);
}

/* ---- held memory ---- */

/* Pixel i of both samples, as images reads it. */
static void check_held(const hsgd_backend *b, const uint8_t *pixels, const void *held)
{
    enum { PIXELS = 40 };
    static const int64_t index[] = {1, 0};
    double nothing[2 * PIXELS] = {0};
    void *indices = put_bytes(index, sizeof index), *x = to_backend(nothing, 2 * PIXELS);
    hsgd_error err = {0};

    assert_ok(b->ops->images(b->self, 0, held, PIXELS, 2, indices, 0.0f, 1.0f, x, &err));
    double *got = from_backend(x, 2 * PIXELS);
    for (int i = 0; i < 2 * PIXELS; i++) {
        check_bits("images", i, got[i], (double)((float)pixels[index[i / PIXELS] * PIXELS + i % PIXELS] / 255.0f));
    }
    free(got);
    release(indices);
    release(x);
}

/* Held twice and let go once it is still there; let go twice and held again it is what it has become. */
static void check_hold(const hsgd_backend *b)
{
    uint8_t first[80], second[80];

    for (int i = 0; i < 80; i++) {
        first[i] = (uint8_t)(3 * i);
        second[i] = (uint8_t)(250 - 2 * i);
    }
    const void *held = hold(first, sizeof first), *other = hold(second, sizeof second);
    assert_true(held != other);
    assert_true(hold(first, sizeof first) == held);
    check_held(b, first, held);
    check_held(b, second, other);
    let_go(first);
    check_held(b, first, held);
    let_go(second);
    check_held(b, first, held);
    let_go(first);
    first[7] = 99; /* nobody holds it: it may change */
    check_held(b, first, hold(first, sizeof first));
    let_go(first);
    let_go(NULL);
}

static void held_memory_is_shared_and_stays_until_let_go(void **state)
{
    (void)state;
    on_all_backends(check_hold);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_added_in_their_order),
        cmocka_unit_test(workers_sums_are_merged_in_their_order),
        cmocka_unit_test(doubles_are_added_up_as_doubles),
        cmocka_unit_test(count_beyond_adds_what_is_not_within),
        cmocka_unit_test(squares_of_all_columns_are_added),
        cmocka_unit_test(softmax_root_times_itself_is_the_hessian),
        cmocka_unit_test(sgd_update_follows_its_rule_until_halted),
        cmocka_unit_test(held_memory_is_shared_and_stays_until_let_go),
    };

    return test_run(tests);
}
