/* tests/conformance/test_devices.c - one device against another, sample by sample: CUDA against the CPU's plainest
 * instruction set, or (where no CUDA is asked for) the CPU's widest against it.
 *
 * In single precision a ReLU's sign or a pool's choice that hangs on the last bit may fall otherwise on another device;
 * the derivatives of that sample then jump.  Such samples are counted, told and set aside; they must be few.
 * devices: cuda */
#include "backends.h"
#include "model/pass.h"

enum { EDGE = 14, PIXELS = EDGE * EDGE, SAMPLES = 96, CLASSES = 10 };
static const char layers[] = "conv 4 5 / relu / maxpool 2 / conv 6 3 / relu / maxpool 2 / linear 10";

typedef struct {
    hsgd_backend *backend;
    hsgd_pass *pass;
    int64_t n, *order;
    const void *pixels, *labels;
    int64_t *index;
    double *tally;
    void *params, *tangents, *state, *out;
} side;

static uint8_t pixels[SAMPLES * PIXELS], labels[SAMPLES];

/* Bright strokes on black, as digits are: most windows of the pools are ties. */
static void draw_samples(void)
{
    memset(pixels, 0, sizeof pixels);
    for (int64_t s = 0; s < SAMPLES; s++) {
        int64_t x = draw_between(3, EDGE - 4), y = draw_between(3, EDGE - 4);

        labels[s] = (uint8_t)(s % CLASSES);
        for (int step = 0; step < 25; step++) {
            pixels[s * PIXELS + y * EDGE + x] = (uint8_t)draw_between(60, 255);
            x += draw_between(-1, 1) * (x > 0 && x < EDGE - 1);
            y += draw_between(-1, 1) * (y > 0 && y < EDGE - 1);
        }
    }
}

static void *memory_of(const side *s, size_t bytes)
{
    hsgd_error err = {0};
    void *memory = NULL;

    assert_ok(s->backend->ops->alloc(s->backend->self, bytes, &memory, &err));
    return memory;
}

/* memory[n] = x[n] (canonical, exact in float) as reals in the backend's order. */
static void put(const side *s, const double *x, void *memory)
{
    hsgd_error err = {0};
    const size_t bytes = (size_t)s->n * sizeof(double);
    void *wide = memory_of(s, bytes), *order = memory_of(s, bytes);

    assert_ok(s->backend->ops->upload(s->backend->self, bytes, x, wide, &err));
    assert_ok(s->backend->ops->upload(s->backend->self, bytes, s->order, order, &err));
    assert_ok(s->backend->ops->narrow(s->backend->self, s->n, 1, wide, order, NULL, memory, &err));
    s->backend->ops->release(s->backend->self, wide);
    s->backend->ops->release(s->backend->self, order);
}

static side make_side(hsgd_backend *backend, const hsgd_network *net, const double *weights, const double *direction)
{
    const hsgd_backend_ops *ops = backend->ops;
    side s = {.backend = backend, .n = net->parameters};
    const size_t reals = (size_t)s.n * hsgd_real_size(backend->precision);
    int64_t index[SAMPLES];
    hsgd_error err = {0};

    assert_ok(hsgd_pass_create(net, backend, 1, 1, &s.pass, &err));
    s.order = malloc((size_t)s.n * sizeof *s.order);
    assert_non_null(s.order);
    hsgd_network_order(net, backend, s.order);
    s.params = memory_of(&s, reals);
    s.tangents = memory_of(&s, reals);
    s.out = memory_of(&s, reals);
    s.state = memory_of(&s, hsgd_pass_state_bytes(s.pass));
    s.tally = memory_of(&s, HSGD_TALLIES_OF_LOSS * sizeof *s.tally);
    s.index = memory_of(&s, sizeof index);
    for (int64_t i = 0; i < SAMPLES; i++) {
        index[i] = i;
    }
    assert_ok(ops->upload(backend->self, sizeof index, index, s.index, &err));
    assert_ok(ops->hold(backend->self, sizeof pixels, pixels, &s.pixels, &err));
    assert_ok(ops->hold(backend->self, sizeof labels, labels, &s.labels, &err));
    put(&s, weights, s.params);
    put(&s, direction, s.tangents);
    return s;
}

static void end_side(side *s)
{
    const hsgd_backend_ops *ops = s->backend->ops;
    void *const all[] = {s->params, s->tangents, s->out, s->state, s->tally, s->index};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        ops->release(s->backend->self, all[i]);
    }
    ops->let_go(s->backend->self, pixels);
    ops->let_go(s->backend->self, labels);
    hsgd_pass_destroy(&s->pass);
    hsgd_backend_destroy(&s->backend);
    free(s->order);
}

/* s->out as doubles in canonical order. */
static void get(const side *s, double *out)
{
    const size_t real = hsgd_real_size(s->backend->precision);
    hsgd_error err = {0};
    char *reals = malloc((size_t)s->n * real);

    assert_non_null(reals);
    assert_ok(s->backend->ops->download(s->backend->self, (size_t)s->n * real, s->out, reals, &err));
    for (int64_t i = 0; i < s->n; i++) {
        out[s->order[i]] = real == sizeof(double) ? ((double *)(void *)reals)[i] : (double)((float *)(void *)reals)[i];
    }
    free(reals);
}

/* Loss [1], gradient [n] and product [n] of one sample, one behind the other. */
static void study_sample(side *s, int64_t sample, double *out)
{
    const hsgd_group group = {s->pixels, s->labels, s->index + sample, 1, 0.0f, 1.0f};
    double tally[HSGD_TALLIES_OF_LOSS];
    hsgd_error err = {0};

    assert_ok(hsgd_pass_base(s->pass, 0, s->params, &group, s->state, s->tally, NULL, &err));
    assert_ok(hsgd_pass_base_adjoint(s->pass, 0, s->params, 1, s->state, &err));
    assert_ok(s->backend->ops->download(s->backend->self, sizeof tally, s->tally, tally, &err));
    out[0] = tally[HSGD_TALLY_LOSS];
    assert_ok(hsgd_pass_gradient(s->pass, 0, s->params, 1, s->state, s->out, &err));
    get(s, out + 1);
    assert_ok(
        hsgd_pass_products(s->pass, 0, HSGD_OPERATOR_HESSIAN, s->params, 1, 1, s->tangents, s->state, s->out, &err));
    get(s, out + 1 + s->n);
}

static double relative(int64_t n, const double *x, const double *y)
{
    double difference = 0.0, size = 0.0;

    for (int64_t i = 0; i < n; i++) {
        difference += (x[i] - y[i]) * (x[i] - y[i]);
        size += y[i] * y[i];
    }
    return sqrt(difference / size);
}

/* The worst of loss, gradient and product; the loss does not jump and may never be off. */
static double compare(int64_t n, const double *found, const double *expected, double bound)
{
    const double gradient = relative(n, found + 1, expected + 1);
    const double product = relative(n, found + 1 + n, expected + 1 + n);

    assert_true(fabs(found[0] - expected[0]) <= bound * expected[0]);
    assert_true(isfinite(gradient) && isfinite(product));
    return gradient > product ? gradient : product;
}

static void compare_devices(hsgd_precision precision, double bound, int most_flips)
{
    hsgd_error err = {0};
    hsgd_backend *plain = NULL, *other = NULL;
    hsgd_network *net = NULL;
    double *weights, *direction, *expected, *found, worst = 0.0;
    int flips = 0;
    side a, b;

    assert_ok(make_cpu("generic", precision, &plain, &err));
    assert_ok(test_backend_create(precision, 1, &other, &err));
    assert_ok(hsgd_network_create(layers, (hsgd_shape){1, EDGE, EDGE}, CLASSES, &net, &err));
    weights = malloc((size_t)net->parameters * sizeof *weights);
    expected = malloc((size_t)(2 * net->parameters + 1) * sizeof *expected);
    found = malloc((size_t)(2 * net->parameters + 1) * sizeof *found);
    assert_true(weights != NULL && expected != NULL && found != NULL);
    direction = draw_reals(net->parameters, 0);
    hsgd_network_init(net, 3, weights);
    draw_samples();
    a = make_side(plain, net, weights, direction);
    b = make_side(other, net, weights, direction);
    for (int64_t s = 0; s < SAMPLES; s++) {
        double off = 0.0;

        study_sample(&a, s, expected);
        study_sample(&b, s, found);
        off = compare(a.n, found, expected, bound);
        flips += !(off <= bound);
        worst = off <= bound && off > worst ? off : worst;
    }
    print_message("%s: %s (%s) against the CPU: %.1e at most; %d of %d samples set aside for a flipped choice\n",
                  precision == HSGD_DOUBLE ? "double" : "single", other->ops->name, other->instruction_set, worst,
                  flips, SAMPLES);
    assert_true(flips <= most_flips);
    end_side(&a);
    end_side(&b);
    hsgd_network_destroy(&net);
    free(weights);
    free(direction);
    free(expected);
    free(found);
}

static void devices_agree_in_double(void **state)
{
    (void)state;
    compare_devices(HSGD_DOUBLE, 1e-10, 0);
}

static void devices_agree_in_single_but_for_flipped_choices(void **state)
{
    (void)state;
    compare_devices(HSGD_SINGLE, 2e-5, SAMPLES / 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_agree_in_double),
        cmocka_unit_test(devices_agree_in_single_but_for_flipped_choices),
    };

    return test_run(tests);
}
