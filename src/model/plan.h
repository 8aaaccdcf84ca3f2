/* src/model/plan.h - where a pass keeps what: offsets into base states and into the workers' scratch memory; and its parts.
 * Known in this room alone.
 *
 * A network is passed through unit by unit: a unit is one layer, or a gated convolution (see backend.h).  Place p stands
 * for a value of the network: place 0 is the images, place q + 1 the output of unit q.  A ReLU or tanh that follows a
 * unit which never looks at its own output again works in place and shares that unit's memory. */
#pragma once
#include "model/pass.h"

typedef struct {
    const hsgd_layer *layer; /* the first of the unit */
    hsgd_shape out;          /* of the last */
    bool is_gated;           /* of several layers: */
    hsgd_gated gated;
    size_t value;       /* byte offset of the output in a state */
    size_t choice;      /* maxpool: byte offset of the choices in a state; gated: of the gates */
    size_t adjoint;     /* affine, above the lowest: byte offset of the loss's adjoint at its input in a state */
    bool in_place;      /* the output lies over the input */
    bool keeps_tangent; /* the adjoint pass will ask for the output's tangent */
    size_t tangent;     /* its byte offset in a worker's scratch */
    int64_t stride;     /* reals from one column of it to the next */
} unit_plan;

struct hsgd_pass {
    const hsgd_network *network;
    const hsgd_backend *backend;
    size_t real;     /* bytes of one */
    int64_t samples; /* of a group at most */
    int64_t columns; /* that go through the network at once */
    int64_t units;   /* in the network */
    int64_t first;   /* first unit with parameters: tangents start and adjoints end there */
    int64_t lowest;  /* lowest unit with a second derivative of its own, which asks for the loss's adjoint */
    unit_plan *plan; /* [units] */
    size_t probabilities, delta, state_bytes;
    size_t work[2], base[2]; /* byte offsets in scratch: two arrays for all columns, two for one, used in turn */
    int64_t work_stride;     /* reals in one column of either */
    size_t scratch_bytes;
    void **scratch; /* [workers] */
};

static inline bool is_affine(const hsgd_layer *layer)
{
    return layer->weight_count > 0;
}

static inline bool is_elementwise(const hsgd_layer *layer)
{
    return layer->kind == HSGD_LAYER_RELU || layer->kind == HSGD_LAYER_TANH;
}

static inline int64_t elements(hsgd_shape s)
{
    return s.channels * s.height * s.width;
}

/* What tangent and adjoint passes work from. */
typedef struct {
    const void *params;
    const void *tangents; /* [k][n], or NULL: no second-order terms */
    const void *state;    /* values */
    const void *choices;  /* the state whose ReLU signs and pooling choices hold; mostly the same */
    int64_t m, k;
} pass_input;

/* The memory `bytes` behind `memory`; backend memory is only ever pointed into, never read here. */
static inline void *at(const void *memory, size_t bytes)
{
    return (char *)memory + bytes;
}

static inline hsgd_columns shared(const void *memory)
{
    return (hsgd_columns){(void *)memory, 0};
}

/* Value of place p: the images, or the output of unit p - 1. */
static inline void *value(const hsgd_pass *pass, const void *state, int64_t p)
{
    return at(state, p == 0 ? 0 : pass->plan[p - 1].value);
}

/* The gates of unit q, as the choices of ReLUs and poolings stand in that state. */
static inline void *gates(const hsgd_pass *pass, const void *state, int64_t q)
{
    return at(state, pass->plan[q].choice);
}

/* Where a layer's weight (bias) stands in k parameter vectors. */
static inline hsgd_columns weight(const hsgd_pass *pass, const hsgd_layer *layer, const void *vectors, int64_t stride)
{
    return (hsgd_columns){at(vectors, (size_t)layer->weight * pass->real), stride};
}

static inline hsgd_columns bias(const hsgd_pass *pass, const hsgd_layer *layer, const void *vectors, int64_t stride)
{
    return (hsgd_columns){at(vectors, (size_t)layer->bias * pass->real), stride};
}

static inline hsgd_columns work(const hsgd_pass *pass, int worker, int which)
{
    return (hsgd_columns){at(pass->scratch[worker], pass->work[which]), pass->work_stride};
}

/* The kept tangents of unit q's output. */
static inline hsgd_columns kept(const hsgd_pass *pass, int worker, int64_t q)
{
    return (hsgd_columns){at(pass->scratch[worker], pass->plan[q].tangent), pass->plan[q].stride};
}

/* derivative.c: tangents of all units for in->k directions; those that the adjoint pass needs are kept.  *logits:
 * theirs. */
hsgd_status hsgd_pass_tangent(const hsgd_pass *pass, int worker, const pass_input *in, hsgd_columns *logits,
                              hsgd_error *err);

/* derivative.c: result[k][n] = J' tu_j for adjoints tu of the logits; with in->tangents also the terms of the second
 * derivative, for the tangents that were kept.  free_work: the work array that does not hold tu. */
hsgd_status hsgd_pass_adjoint(const hsgd_pass *pass, int worker, const pass_input *in, hsgd_columns tu, int free_work,
                              void *result, hsgd_error *err);
