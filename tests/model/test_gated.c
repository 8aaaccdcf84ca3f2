/* tests/model/test_gated.c - passes over gated convolutions in one step against the same passes layer by layer, on drawn
 * networks: all that can be told of both must be the same to rounding. */
#include <float.h>
#include "trial.h"

enum { CASES = 48, TEXT = 256, MOST_WORK = 200000000 };

/* A backend as it is, and without its kernels for gated convolutions; `spied` also counts how often it takes them. */
typedef struct {
    hsgd_backend *made;
    hsgd_backend spied, plain, dirty;
    hsgd_backend_ops spied_ops, plain_ops, dirty_ops;
} backends;

static const hsgd_backend_ops *real_ops;
static int64_t taken;

static size_t spied_bytes(void *self, const hsgd_gated *gated, int64_t m)
{
    const size_t bytes = real_ops->gates_bytes(self, gated, m);

    taken += bytes > 0;
    return bytes;
}

/* What a pass has taken must be written before it is read. */
static hsgd_status dirty_alloc(void *self, size_t bytes, void **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char *dirt = malloc(bytes);

    assert_non_null(dirt);
    memset(dirt, 0xff, bytes); /* NaN in both precisions */
    HSGD_TRY(real_ops->alloc(self, bytes, out, err));
    HSGD_TRY(real_ops->upload(self, bytes, dirt, *out, err));
done:
    free(dirt);
    return st;
}

static backends *backends_create(hsgd_precision precision)
{
    backends *all = calloc(1, sizeof *all);
    hsgd_error err = {0};

    assert_non_null(all);
    assert_ok(test_backend_create(precision, 2, &all->made, &err));
    real_ops = all->made->ops;
    all->spied = all->plain = all->dirty = *all->made;
    all->spied_ops = all->plain_ops = *real_ops;
    all->spied_ops.gates_bytes = real_ops->gates_bytes != NULL ? spied_bytes : NULL;
    all->plain_ops.gates_bytes = NULL;
    all->plain_ops.gated_base = NULL;
    all->plain_ops.gated_value = NULL;
    all->plain_ops.gated_adjoint_input = NULL;
    all->plain_ops.gated_adjoint_weight = NULL;
    all->dirty_ops = all->spied_ops;
    all->dirty_ops.alloc = dirty_alloc;
    all->spied.ops = &all->spied_ops;
    all->plain.ops = &all->plain_ops;
    all->dirty.ops = &all->dirty_ops;
    return all;
}

static void backends_destroy(backends *all)
{
    hsgd_backend_destroy(&all->made);
    free(all);
}

/* ---- drawn networks ---- */

/* S: the pooling.  The first three are gated convolutions in all their forms, and so are those with something behind. */
static const char *const stages[] = {
    "conv C K / relu / maxpool S", "conv C K / maxpool S / relu",
    "conv C K / maxpool S",        "conv C K / relu",
    "conv C K / tanh / avgpool S", "conv C K / relu / maxpool S / tanh",
    "avgpool 2 / conv C K / relu", "conv C K / maxpool S / relu / relu",
    "conv C K / tanh / maxpool S",
};
static const char *const tails[] = {"linear D", "linear D / relu / linear D", "linear D / tanh / linear D"};

/* Append `form` with numbers for its letters. */
static void write_form(char *text, const char *form, int64_t channels, int64_t kernel, int64_t pool)
{
    size_t end = strlen(text);

    for (; *form != '\0'; form++) {
        const int64_t number = *form == 'C' ? channels : *form == 'K' ? kernel : *form == 'S' ? pool : 0;

        end += (size_t)(number > 0     ? snprintf(text + end, TEXT - end, "%d", (int)number)
                        : *form == 'D' ? snprintf(text + end, TEXT - end, "%d", (int)draw_between(2, 12))
                                       : snprintf(text + end, TEXT - end, "%c", *form));
        assert_true(end < TEXT);
    }
}

/* From 1 to 64, each size as often as its double. */
static int64_t draw_channels(void)
{
    const int64_t size = INT64_C(1) << draw_between(0, 5);

    return draw_between(size, 2 * size);
}

/* Up to three stages and a tail.  Kernels 1, 3, 5, 7, poolings 2 and 3 and the forms of gated convolutions come first in
 * turn, so that each meets each. */
static void draw_layers(char *text, int64_t number)
{
    const int64_t count = draw_between(1, 3);

    text[0] = '\0';
    write_form(text, stages[number / 4 % 3], draw_channels(), 2 * (number % 4) + 1, 2 + number / 12 % 2);
    for (int64_t i = 1; i < count; i++) {
        const int64_t kinds = sizeof stages / sizeof stages[0];

        write_form(text, " / ", 0, 0, 0);
        write_form(text, stages[draw_between(0, 1) == 1 ? draw_between(0, 2) : draw_between(0, kinds - 1)],
                   draw_channels(), 2 * draw_between(0, 3) + 1, draw_between(2, 3));
    }
    write_form(text, " / ", 0, 0, 0);
    write_form(text, tails[draw_between(0, 2)], 0, 0, 0);
}

/* Multiplications of one sample's value, or 0 where the images are too small for the layers. */
static int64_t work_of(const trial_plan *plan)
{
    hsgd_network *net = NULL;
    hsgd_error err = {0};
    int64_t work = 0;

    if (hsgd_network_create(plan->layers, plan->input, 2, &net, &err) != HSGD_OK) {
        return 0;
    }
    for (int64_t l = 0; l < net->count; l++) {
        work += net->layers[l].weight_count * net->layers[l].out.height * net->layers[l].out.width;
    }
    hsgd_network_destroy(&net);
    return work;
}

/* Drawn until the trial takes but a moment: a product costs about six values. */
static trial_plan draw_plan(char *text, int64_t number, int64_t most_work)
{
    trial_plan plan = {.layers = text, .m = draw_between(1, MOST_SAMPLES), .k = draw_between(1, MOST_COLUMNS)};

    for (int64_t work = 0; work == 0 || work * plan.m * (6 * plan.k + 4) > most_work;) {
        draw_layers(text, number);
        plan.input = (hsgd_shape){1, draw_between(5, 29), draw_between(5, 29)};
        work = work_of(&plan);
        if (work > 0) { /* rather fewer samples than smaller networks */
            plan.m = plan.m > 1 ? plan.m - 1 : draw_between(1, MOST_SAMPLES);
            plan.k = plan.k > 2 ? plan.k - 2 : draw_between(1, MOST_COLUMNS);
        }
    }
    return plan;
}

/* ---- the comparison ---- */

static double norm(int64_t n, const double *x)
{
    double sum = 0.0;

    for (int64_t i = 0; i < n; i++) {
        sum += x[i] * x[i];
    }
    return sqrt(sum);
}

/* The relative error of one operation, times the size of the largest pixel or bias: softmax and tanh turn what a value is
 * off by, not what it is off by relative to its size, into a relative error. */
static double unit_of(const trial *t)
{
    const trial_plan *p = &t->plan;
    const double pixel = p->deviation > 0.0f ? fmax(p->mean, 1.0 - p->mean) / p->deviation : 1.0;

    return fmax(fmax(pixel, fabs(p->shift)), 1.0) * (t->precision == HSGD_DOUBLE ? DBL_EPSILON : FLT_EPSILON);
}

/* The weight or the bias of one layer, in norm and entry by entry.  Both ways sum the same terms, at most some thousand to
 * an entry, in different orders: off by the root of their number for each of at most ten layers, together some hundred
 * units.  Where the terms cancel that is relative to them: not to the part, but to the whole, of which they are parts. */
static void compare_part(const trial *t, const char *what, const char *layer, int64_t count, const double *got,
                         const double *expected, double whole)
{
    double off = 0.0, most = 0.0, largest = 0.0;

    for (int64_t i = 0; i < count; i++) {
        off += (got[i] - expected[i]) * (got[i] - expected[i]);
        most = fmax(most, fabs(got[i] - expected[i]));
        largest = fmax(largest, fabs(expected[i]));
    }
    off = sqrt(off);
    if (!(off <= unit_of(t) * (300.0 * norm(count, expected) + 30.0 * whole)) ||
        !(most <= unit_of(t) * (300.0 * largest + 30.0 * whole))) {
        fail_msg("%s of '%s', layer %s, %s: off by %.3g of %.3g, the worst entry by %.3g; the whole is %.3g", what,
                 t->plan.layers, layer, t->precision == HSGD_DOUBLE ? "double" : "single", off, norm(count, expected),
                 most, whole);
    }
}

static void compare_vectors(const trial *t, const char *what, const double *got, const double *expected)
{
    const double whole = norm(t->n, expected);

    for (int64_t l = 0; l < t->network->count; l++) {
        const hsgd_layer *at = &t->network->layers[l];

        if (at->weight_count > 0) {
            compare_part(t, what, at->name, at->weight_count, got + at->weight, expected + at->weight, whole);
            compare_part(t, what, at->name, at->bias_count, got + at->bias, expected + at->bias, whole);
        }
    }
}

/* The base has the same bits either way: were they not, a rounding might decide for another place of a window, and nothing
 * of what follows would have to agree.  With frozen choices there is no such thing. */
static void compare(const trial *t, const findings *got, const findings *expected)
{
    const double loss = expected->frozen_tally[HSGD_TALLY_LOSS];

    assert_memory_equal(got->tally, expected->tally, sizeof got->tally);
    assert_near(got->frozen_tally[HSGD_TALLY_LOSS], loss, 30.0 * unit_of(t) * ((double)t->plan.m + loss));
    for (int kind = 0; kind < KINDS; kind++) {
        assert_int_equal(got->columns[kind], expected->columns[kind]);
        for (int64_t j = 0; j < expected->columns[kind]; j++) {
            compare_vectors(t, kind_names[kind], got->vectors[kind] + j * t->n, expected->vectors[kind] + j * t->n);
        }
    }
}

static void try(const backends *all, const trial_plan *plan)
{
    trial *t = trial_create(plan, all->made->precision);
    const manner fused = {.backend = &all->spied, .samples = plan->m, .columns = plan->k};
    const manner composed = {.backend = &all->plain, .samples = plan->m, .columns = plan->k};
    findings got = find(t, &fused), expected = find(t, &composed);

    compare(t, &got, &expected);
    findings_free(&got);
    findings_free(&expected);
    trial_destroy(t);
}

/* `check` in both precisions; skipped where the backend has no gated convolutions. */
static void in_both(void (*check)(const backends *all))
{
    bool any = false;

    for (hsgd_precision p = HSGD_SINGLE; p <= HSGD_DOUBLE; p++) {
        backends *all = backends_create(p);

        if (real_ops->gates_bytes != NULL) {
            any = true;
            taken = 0;
            check(all);
            assert_true(taken > 0); /* else nothing was tested */
        }
        backends_destroy(all);
    }
    if (!any) {
        print_message("skipped: this backend has no gated convolutions\n");
        skip();
    }
}

/* ---- tests ---- */

static void try_drawn(const backends *all)
{
    for (int64_t number = 0; number < CASES; number++) {
        char text[TEXT];
        const trial_plan plan = draw_plan(text, number, MOST_WORK);

        try(all, &plan);
    }
}

static void drawn_networks_agree(void **state)
{
    (void)state;
    in_both(try_drawn);
}

/* Windows of one place and of more than a byte counts, kernels larger than their image, more channels than any drawn. */
static void try_corners(const backends *all)
{
    static const char *const corners[] = {
        "conv 3 3 / relu / maxpool 1 / conv 2 3 / maxpool 4 / relu / linear 3",
        "conv 2 3 / relu / maxpool 17 / linear 3",
        "conv 5 9 / relu / maxpool 2 / conv 4 15 / maxpool 2 / relu / conv 3 5 / maxpool 4 / linear 3",
        "conv 64 3 / maxpool 3 / relu / conv 64 7 / relu / maxpool 2 / linear 4",
        "conv 130 1 / relu / maxpool 5 / conv 70 3 / maxpool 3 / linear 4",
    };

    for (size_t i = 0; i < sizeof corners / sizeof corners[0]; i++) {
        const trial_plan plan = {.layers = corners[i], .input = {1, 17 + (int64_t)i % 2, 23}, .m = 2, .k = 1};

        try(all, &plan);
    }
}

/* Images whose padded rows are as long as a word of 64 marks, and longer: wider ones are not searched for zero patches. */
static void try_wide(const backends *all)
{
    const int64_t widths[] = {59, 60, 61, 90};

    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        const trial_plan plan = {.layers = "conv 3 5 / relu / maxpool 2 / conv 2 3 / relu / maxpool 2 / linear 3",
                                 .input = {1, 7 + (int64_t)i, widths[i]},
                                 .m = 2,
                                 .k = 1};

        try(all, &plan);
    }
}

static void wide_images_agree(void **state)
{
    (void)state;
    in_both(try_wide);
}

static void corners_agree(void **state)
{
    (void)state;
    in_both(try_corners);
}

/* Three in a row, as deep as 28 x 28 pixels go; and one whose images are as odd as can be. */
static const char *const deep =
    "conv 16 5 / relu / maxpool 2 / conv 32 5 / maxpool 2 / relu / conv 12 3 / relu / maxpool "
    "2 / linear 10";
static const char *const odd = "conv 6 3 / maxpool 2 / conv 9 7 / relu / maxpool 3 / linear 5 / tanh / linear 3";

static void try_images(const backends *all)
{
    /* weights are small, images at most 1: at a bias of 5 every ReLU lets everything through, at -100 nothing */
    const double shifts[] = {0.0, 5.0, -100.0};

    for (image_kind kind = HALF_BLACK; kind <= TWO_TONES; kind++) {
        for (int i = 0; i < 3; i++) {
            trial_plan plan = {
                .layers = deep, .input = {1, 28, 28}, .m = 3, .k = 1, .images = kind, .shift = shifts[i]};

            try(all, &plan);
            plan.layers = odd;
            plan.input = (hsgd_shape){1, 13, 29};
            plan.k = 2;
            try(all, &plan);
        }
    }
}

static void plain_images_and_gates_all_shut_or_open_agree(void **state)
{
    (void)state;
    in_both(try_images);
}

/* Pixels of some hundreds, the ends of what a byte and a sane normalisation can make. */
static void try_extremes(const backends *all)
{
    for (image_kind kind = HALF_BLACK; kind <= TWO_TONES; kind++) {
        const trial_plan plan = {
            .layers = odd, .input = {1, 17, 12}, .m = 4, .k = 2, .images = kind, .mean = 0.5f, .deviation = 1e-3f};

        try(all, &plan);
    }
}

static void extreme_pixels_agree(void **state)
{
    (void)state;
    in_both(try_extremes);
}

/* With pixels of 0 and 1 and weights that are multiples of 1/8 every sum of two convolutions is exact, in any order, and
 * many windows hold equals of different origin: the first wins, and a largest of exactly 0 shuts. */
static void try_ties(const backends *all)
{
    for (int64_t number = 0; number < CASES / 4; number++) {
        char text[TEXT] = "";
        trial_plan plan = {.layers = text, .m = 5, .k = 2, .images = TWO_TONES, .grain = 0.125};

        write_form(text, stages[number % 3], draw_between(1, 24), 2 * draw_between(0, 2) + 1, 2);
        write_form(text, " / ", 0, 0, 0);
        write_form(text, stages[draw_between(0, 2)], draw_between(1, 24), 2 * draw_between(0, 1) + 1, 2);
        write_form(text, " / linear 3", 0, 0, 0);
        plan.input = (hsgd_shape){1, draw_between(6, 16), draw_between(6, 16)};
        try(all, &plan);
    }
}

static void the_first_of_equals_wins(void **state)
{
    (void)state;
    in_both(try_ties);
}

static void assert_same_findings(const trial *t, const findings *x, const findings *y)
{
    assert_memory_equal(x->tally, y->tally, sizeof x->tally);
    assert_memory_equal(x->frozen_tally, y->frozen_tally, sizeof x->frozen_tally);
    for (int kind = 0; kind < KINDS; kind++) {
        assert_int_equal(x->columns[kind], y->columns[kind]);
        assert_memory_equal(x->vectors[kind], y->vectors[kind], (size_t)(x->columns[kind] * t->n) * sizeof(double));
    }
}

/* Another company of columns, passes made for more samples and columns, another worker, dirty memory, and kernels'
 * scratch memory that is full of NaN or was last used at other sizes. */
static void try_manners(const backends *all)
{
    for (int64_t number = 0; number < CASES; number += 5) {
        char text[TEXT];
        const trial_plan plan = draw_plan(text, number, MOST_WORK / 2);
        const manner first = {.backend = &all->spied, .samples = plan.m, .columns = plan.k};
        const manner others[] = {
            {.backend = &all->spied, .samples = MOST_SAMPLES, .columns = plan.k, .singly = true},
            {.backend = &all->dirty, .samples = plan.m, .columns = MOST_COLUMNS},
            {.backend = &all->dirty, .samples = plan.m + 1, .columns = 1, .worker = all->made->workers - 1},
        };
        trial *t = trial_create(&plan, all->made->precision);
        findings expected = find(t, &first);

        for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
            manner spoiling = others[i];
            findings got = {0};

            spoiling.spoiled = true;
            got = find(t, &spoiling);
            assert_true(isnan(got.tally[HSGD_TALLY_LOSS]));
            findings_free(&got);
            got = find(t, &others[i]);
            assert_same_findings(t, &got, &expected);
            findings_free(&got);
        }
        findings_free(&expected);
        trial_destroy(t);
    }
}

static void no_bit_depends_on_company_or_on_what_was_there_before(void **state)
{
    (void)state;
    in_both(try_manners);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drawn_networks_agree),
        cmocka_unit_test(corners_agree),
        cmocka_unit_test(wide_images_agree),
        cmocka_unit_test(plain_images_and_gates_all_shut_or_open_agree),
        cmocka_unit_test(extreme_pixels_agree),
        cmocka_unit_test(the_first_of_equals_wins),
        cmocka_unit_test(no_bit_depends_on_company_or_on_what_was_there_before),
    };
    return test_run(tests);
}
