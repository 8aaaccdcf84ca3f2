/* src/study/checks.c - exact identities of the network's Hessian, and comparisons of one way of computing with another.
 * Bounds: a product in precision eps is off by some eps times the norm of what it sums; the norm is measured (trace of
 * the Gauss-Newton matrix, norms of products), the factor ROUNDING leaves room for the number of terms. */
#include "study/checks.h"
#include "base/random.h"
#include "study/selection.h"
#include "study/small_vectors.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double ROUNDING = 256.0; /* about the square root of the 62,720 terms of a group's longest sum */

static double working_eps(const check_bench *b)
{
    return b->s->backend->precision == HSGD_DOUBLE ? DBL_EPSILON : FLT_EPSILON;
}

/* What a reordering of the sums may change: nothing in reproducible mode. */
static double order_bound(const check_bench *b, double size)
{
    return b->s->deck->run.reduction == 0 ? 0.0 : ROUNDING * working_eps(b) * size;
}

/* The operator of `way` over the bench's samples on `space`, or its block on `rows`.  Collective on way->comm. */
static hsgd_status make_operator(const check_bench *b, const check_way *way, const hsgd_space *space,
                                 const hsgd_space *rows, hsgd_linop **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const study_state *s = b->s;
    const hsgd_selection selection = selection_of(s);
    const hsgd_hessian_options options = {.kind = way->kind,
                                          .index = s->samples,
                                          .count = b->count,
                                          .weights = s->weights,
                                          .cache_bytes = way->cache_bytes,
                                          .stop = s->setup->stop,
                                          .context = s->setup->stop_context};
    hsgd_problem problem = study_studied(s, way->backend);

    problem.comm = way->comm;
    HSGD_TRY(hsgd_hessian_create(&problem, space, &options, out, err));
    if (way->block) {
        HSGD_TRY(hsgd_block_create(*out, &selection, rows, 0, out, err));
    }
done:
    return st;
}

/* With base passes kept it is done twice: the first fills what the second, whose outcome counts, takes. */
static hsgd_status product(check_bench *b, const check_way *way, int64_t k, const double *x, double *y, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t n = b->s->n, m = way->block ? b->s->m : n;
    const hsgd_reduction reduction = (hsgd_reduction)b->s->deck->run.reduction;
    const hsgd_selection selection = selection_of(b->s);
    hsgd_space *space = NULL, *rows = NULL;
    hsgd_vector *vx = NULL, *vy = NULL;
    hsgd_linop *op = NULL;
    double *entries = malloc((size_t)(k * m) * sizeof *entries);

    st = entries != NULL ? HSGD_OK : HSGD_ERR_MEMORY;
    st = st == HSGD_OK ? hsgd_space_create(n, HSGD_SPREAD, reduction, way->comm, way->backend, &space, err) : st;
    st = st == HSGD_OK ? hsgd_space_create(m, HSGD_SPREAD, reduction, way->comm, way->backend, &rows, err) : st;
    st = st == HSGD_OK ? hsgd_vector_create(way->block ? rows : space, k, &vx, err) : st;
    st = st == HSGD_OK ? hsgd_vector_create(way->block ? rows : space, k, &vy, err) : st;
    HSGD_TRY(hsgd_comm_agree(way->comm, st, err));
    if (way->block) {
        hsgd_selection_restrict(&selection, k, n, x, entries);
    }
    HSGD_TRY(hsgd_vector_set_full(vx, way->block ? entries : x, err));
    HSGD_TRY(make_operator(b, way, space, rows, &op, err));
    for (int turn = 0; turn < (way->cache_bytes > 0 ? 2 : 1); turn++) {
        HSGD_TRY(hsgd_linop_apply(op, vx, vy, err));
    }
    HSGD_TRY(hsgd_vector_gather(vy, way->block ? entries : y, err));
    if (way->block) {
        hsgd_selection_embed(&selection, k, n, entries, y);
    }
done:
    hsgd_linop_destroy(&op);
    hsgd_vector_destroy(&vy);
    hsgd_vector_destroy(&vx);
    hsgd_space_destroy(&rows);
    hsgd_space_destroy(&space);
    free(entries);
    return st;
}

/* The way of the studies: the operator studied, on the working backend and all ranks, nothing kept. */
static check_way studied_way(const check_bench *b)
{
    const bool gauss_newton = b->s->deck->hessian.operator_ == 1;

    return (check_way){.kind = gauss_newton ? HSGD_OPERATOR_GAUSS_NEWTON : HSGD_OPERATOR_HESSIAN,
                       .backend = b->s->backend,
                       .comm = b->s->comm};
}

/* y[k][n] = A x[k][n] for the operator studied. */
static hsgd_status studied_product(check_bench *b, int64_t k, const double *x, double *y, hsgd_error *err)
{
    const check_way way = studied_way(b);

    return b->product(b, &way, k, x, y, err);
}

/* y[n] = H x[n] for the Hessian, whichever operator is studied. */
static hsgd_status hessian_product(check_bench *b, const hsgd_backend *backend, const double *x, double *y,
                                   hsgd_error *err)
{
    const check_way way = {.kind = HSGD_OPERATOR_HESSIAN, .backend = backend, .comm = b->s->comm};

    return b->product(b, &way, 1, x, y, err);
}

/* Two unit vectors with a large share in the top eigenspaces: products of random ones.  In a random direction itself
 * the curvature is n times smaller than the largest, and a check there would see nothing. */
static hsgd_status enrich(check_bench *b, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t n = b->s->n;

    for (int64_t j = 0; j < 2; j++) {
        const hsgd_random r = hsgd_random_stream((uint64_t)b->s->deck->run.seed, HSGD_RANDOM_VERIFY, (uint32_t)j);

        for (int64_t i = 0; i < n; i++) {
            b->x[j * n + i] = hsgd_random_normal(&r, (uint64_t)i);
        }
    }
    HSGD_TRY(studied_product(b, 2, b->x, b->rich, err));
    for (int64_t j = 0; j < 2; j++) {
        double *v = b->rich + j * n;
        const double length = small_norm(n, v);

        for (int64_t i = 0; i < n; i++) {
            v[i] = length > 0.0 ? v[i] / length : b->x[j * n + i] / small_norm(n, b->x + j * n);
        }
    }
done:
    return st;
}

static hsgd_status measure(check_bench *b, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_state *s = b->s;
    const hsgd_problem problem = study_studied(s, s->backend);
    double *layers = calloc((size_t)s->parameter_count, sizeof *layers);
    hsgd_loss loss;

    HSGD_TRY(hsgd_comm_agree(s->comm, layers != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    HSGD_TRY(hsgd_frozen_gradient(&problem, s->weights, s->weights, s->samples, b->count, b->gradient, &loss, err));
    b->gradient_norm = small_norm(s->n, b->gradient);
    HSGD_TRY(hsgd_exact_trace(&problem, s->weights, s->samples, b->count, layers, err));
    for (int64_t i = 0; i < s->parameter_count / 2; i++) {
        b->scale += layers[i];
    }
done:
    free(layers);
    return st;
}

hsgd_status bench_create(study_state *s, check_bench *b, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const bool works_in_double = s->backend->precision == HSGD_DOUBLE;
    const size_t columns = (size_t)s->n * CHECK_COLUMNS * sizeof(double);

    b->s = s;
    b->product = product;
    b->count = s->sample_count < CHECK_SAMPLES ? s->sample_count : CHECK_SAMPLES;
    b->single = works_in_double ? NULL : s->backend;
    b->twofold = works_in_double ? s->backend : NULL;
    st = s->setup->make_backend(s->setup->context, works_in_double ? HSGD_SINGLE : HSGD_DOUBLE,
                                works_in_double ? &b->single : &b->twofold, err);
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    b->gradient = malloc((size_t)s->n * sizeof(double));
    b->x = malloc(columns);
    b->y = malloc(columns);
    b->z = malloc(columns);
    b->rich = malloc(columns);
    if (b->gradient == NULL || b->x == NULL || b->y == NULL || b->z == NULL || b->rich == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot hold the vectors of verify");
    }
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    HSGD_TRY(measure(b, err));
    HSGD_TRY(enrich(b, err));
done:
    return st;
}

void bench_destroy(check_bench *b)
{
    if (b->s != NULL) {
        hsgd_backend_destroy(b->s->backend->precision == HSGD_DOUBLE ? &b->single : &b->twofold);
    }
    free(b->gradient);
    free(b->x);
    free(b->y);
    free(b->z);
    free(b->rich);
}

hsgd_status check_symmetry(check_bench *b, check *c, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t n = b->s->n;
    const double *u = b->rich, *v = b->rich + n, *hu = b->y, *hv = b->y + n;

    *c = (check){.name = "symmetry", .description = "|u'Av - v'Au| for unit u, v and the studied operator A"};
    HSGD_TRY(studied_product(b, 2, b->rich, b->y, err));
    c->value = fabs(small_dot(n, u, hv) - small_dot(n, v, hu));
    c->bound = ROUNDING * working_eps(b) * fmax(small_norm(n, hu), small_norm(n, hv));
done:
    return st;
}

hsgd_status check_null_space(check_bench *b, check *c, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const study_state *s = b->s;
    const hsgd_parameter *weight = &s->parameters[s->parameter_count - 2], *bias = weight + 1;
    const int64_t width = weight->dims[1];
    const hsgd_random r = hsgd_random_stream((uint64_t)s->deck->run.seed, HSGD_RANDOM_VERIFY, 2);
    double length;

    *c = (check){.name = "softmax_null_space",
                 .description = "norm(Av), v adding one unit vector to every class row of the output layer"};
    memset(b->x, 0, (size_t)s->n * sizeof(double));
    for (int64_t row = 0; row < weight->dims[0]; row++) {
        for (int64_t i = 0; i < width; i++) {
            b->x[weight->offset + row * width + i] = hsgd_random_normal(&r, (uint64_t)i);
        }
        b->x[bias->offset + row] = hsgd_random_normal(&r, (uint64_t)width);
    }
    length = small_norm(s->n, b->x);
    for (int64_t i = 0; i < s->n; i++) {
        b->x[i] /= length;
    }
    HSGD_TRY(studied_product(b, 1, b->x, b->y, err));
    c->value = small_norm(s->n, b->y);
    c->bound = ROUNDING * working_eps(b) * (b->scale + b->gradient_norm);
done:
    return st;
}

/* Is everything between parameters `layer` and the next positively homogeneous, channel by channel? */
static bool homogeneous(const study_state *s, int64_t layer)
{
    int64_t seen = -1;

    for (int64_t i = 0; i < s->network->count && seen <= layer; i++) {
        const hsgd_layer *l = &s->network->layers[i];

        seen += l->weight >= 0;
        if (seen == layer && l->kind == HSGD_LAYER_TANH) {
            return false;
        }
    }
    return true;
}

/* x = sum over channels j of c_j s_j, s_j: weights into channel j and its bias, less the weights out of it; and
 * y = -(sum of c_j times the gradient's same entries, with the sign of the weights' turned back). */
static void rescaling_vectors(check_bench *b, int64_t layer, double *x, double *y)
{
    const study_state *s = b->s;
    const hsgd_parameter *in = &s->parameters[2 * layer], *bias = in + 1, *out = in + 2;
    const hsgd_random r = hsgd_random_stream((uint64_t)s->deck->run.seed, HSGD_RANDOM_VERIFY, 3 + (uint32_t)layer);
    const int64_t channels = in->dims[0], fan_in = in->count / channels;
    const int64_t rows = out->dims[0], per_row = out->count / rows, fan_out = per_row / channels;

    memset(x, 0, (size_t)s->n * sizeof *x);
    memset(y, 0, (size_t)s->n * sizeof *y);
    for (int64_t j = 0; j < channels; j++) {
        const double c = hsgd_random_normal(&r, (uint64_t)j);

        for (int64_t i = 0; i < fan_in; i++) {
            x[in->offset + j * fan_in + i] = c * s->weights[in->offset + j * fan_in + i];
            y[in->offset + j * fan_in + i] = -c * b->gradient[in->offset + j * fan_in + i];
        }
        x[bias->offset + j] = c * s->weights[bias->offset + j];
        y[bias->offset + j] = -c * b->gradient[bias->offset + j];
        for (int64_t row = 0; row < rows; row++) {
            for (int64_t i = 0; i < fan_out; i++) { /* inputs of one channel stand together: [row][channel][...] */
                const int64_t place = out->offset + row * per_row + j * fan_out + i;

                x[place] = -c * s->weights[place];
                y[place] = c * b->gradient[place];
            }
        }
    }
}

hsgd_status check_rescaling(check_bench *b, int64_t layer, check *c, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t n = b->s->n;

    *c =
        (check){.description = "norm(Hs + (+g on incoming, -g on outgoing weights)), s rescaling the layer's channels"};
    (void)snprintf(c->name, sizeof c->name, "rescaling_%s", b->s->parameters[2 * layer].layer);
    if (!homogeneous(b->s, layer)) {
        (void)snprintf(c->skipped, sizeof c->skipped, "tanh is not homogeneous: the identity does not hold");
        return HSGD_OK;
    }
    rescaling_vectors(b, layer, b->x, b->z);
    HSGD_TRY(hessian_product(b, b->s->backend, b->x, b->y, err));
    c->value = small_distance(n, b->y, b->z);
    c->bound = ROUNDING * working_eps(b) * (b->scale * small_norm(n, b->x) + b->gradient_norm);
done:
    return st;
}

/* d = (gradient(w + h v) - gradient(w - h v)) / 2h in double, choices frozen at w. */
static hsgd_status difference(check_bench *b, const double *v, double h, double *d, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    study_state *s = b->s;
    const hsgd_problem problem = study_studied(s, b->twofold);
    double *shifted = b->x, *back = b->x + s->n;
    hsgd_loss loss;

    for (int64_t i = 0; i < s->n; i++) {
        shifted[i] = s->weights[i] + h * v[i];
    }
    HSGD_TRY(hsgd_frozen_gradient(&problem, shifted, s->weights, s->samples, b->count, d, &loss, err));
    for (int64_t i = 0; i < s->n; i++) {
        shifted[i] = s->weights[i] - h * v[i];
    }
    HSGD_TRY(hsgd_frozen_gradient(&problem, shifted, s->weights, s->samples, b->count, back, &loss, err));
    for (int64_t i = 0; i < s->n; i++) {
        d[i] = (d[i] - back[i]) / (2.0 * h);
    }
done:
    return st;
}

hsgd_status check_central_difference(check_bench *b, check *c, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t n = b->s->n;
    const double h = 1e-4; /* halved once: the difference of the two estimates bounds what is left of h^2 */
    double *coarse = b->z, *fine = b->z + n;

    *c = (check){.name = "central_difference",
                 .description = "norm(Hv - central difference of the gradient), unit v, double, choices frozen"};
    HSGD_TRY(difference(b, b->rich, h, coarse, err));
    HSGD_TRY(difference(b, b->rich, 0.5 * h, fine, err));
    HSGD_TRY(hessian_product(b, b->twofold, b->rich, b->y, err));
    c->value = small_distance(n, b->y, fine);
    c->bound = small_distance(n, coarse, fine) + ROUNDING * DBL_EPSILON * (b->gradient_norm + b->scale) / h;
done:
    return st;
}

hsgd_status check_cached(check_bench *b, check *c, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t n = b->s->n;
    check_way way = studied_way(b);

    way.cache_bytes = SIZE_MAX / 2; /* all of them */
    *c = (check){.name = "cached",
                 .description = "norm of the difference of products with and without kept base passes"};
    HSGD_TRY(studied_product(b, 1, b->rich, b->y, err));
    HSGD_TRY(b->product(b, &way, 1, b->rich, b->z, err));
    c->value = small_distance(n, b->y, b->z);
    c->bound = order_bound(b, small_norm(n, b->y));
done:
    return st;
}

hsgd_status check_layout(check_bench *b, check *c, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t n = b->s->n;
    hsgd_comm *alone = NULL;
    check_way way = studied_way(b);

    *c = (check){.name = "layout", .description = "norm of the difference of products on these ranks and on one alone"};
    HSGD_TRY(studied_product(b, 1, b->rich, b->y, err));
    st = hsgd_comm_serial_create(&alone, err);
    if (st == HSGD_OK) {
        way.comm = alone;
        st = b->product(b, &way, 1, b->rich, b->z, err);
    }
    HSGD_TRY(hsgd_comm_agree(b->s->comm, st, err));
    c->value = small_distance(n, b->y, b->z);
    HSGD_TRY(hsgd_comm_max(b->s->comm, HSGD_TYPE_F64, 1, &c->value, err));
    c->bound = order_bound(b, small_norm(n, b->y));
done:
    hsgd_comm_destroy(&alone);
    return st;
}

hsgd_status check_precision(check_bench *b, check *c, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const int64_t n = b->s->n;
    check_way way = studied_way(b);

    *c = (check){.name = "precision",
                 .description = "norm of the difference of products in single and in double precision"};
    way.backend = b->single;
    HSGD_TRY(b->product(b, &way, 1, b->rich, b->y, err));
    way.backend = b->twofold;
    HSGD_TRY(b->product(b, &way, 1, b->rich, b->z, err));
    c->value = small_distance(n, b->y, b->z);
    /* four times the rounding: a ReLU or pooling choice within rounding of a tie may flip */
    c->bound = 4.0 * ROUNDING * FLT_EPSILON * (b->scale + b->gradient_norm);
done:
    return st;
}

hsgd_status check_block(check_bench *b, check *c, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const study_state *s = b->s;
    check_way way = studied_way(b);

    way.block = true;
    *c = (check){.name = "block",
                 .description = "norm of the difference of a product by the block of hessian.layers and those rows of "
                                "the whole operator's"};
    if (!selection_is_block(s)) {
        (void)snprintf(c->skipped, sizeof c->skipped, "hessian.layers selects all: there is no block");
        return HSGD_OK;
    }
    memcpy(b->x, b->rich, (size_t)s->n * sizeof *b->x);
    selection_confine(s, b->x);
    HSGD_TRY(studied_product(b, 1, b->x, b->y, err));
    selection_confine(s, b->y);
    HSGD_TRY(b->product(b, &way, 1, b->x, b->z, err));
    c->value = small_distance(s->n, b->y, b->z);
    c->bound = order_bound(b, small_norm(s->n, b->y));
done:
    return st;
}
