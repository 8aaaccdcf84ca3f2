/* src/model/plan.h - where a pass keeps what: offsets into base states and into the workers' scratch memory.
 * Known in this room alone.
 *
 * Place p stands for a value of the network: place 0 is the images, place l + 1 the output of layer l.  A ReLU or tanh
 * that follows a layer which never looks at its own output again works in place and shares that layer's memory. */
#pragma once
#include "model/pass.h"

typedef struct {
    size_t value;       /* byte offset of the output in a state */
    size_t choice;      /* maxpool: byte offset of the choices in a state */
    size_t adjoint;     /* affine, not the first: byte offset of the loss's adjoint at its input in a state */
    bool in_place;      /* the output lies over the input */
    bool keeps_tangent; /* the adjoint pass will ask for the output's tangent */
    size_t tangent;     /* its byte offset in a worker's scratch */
    int64_t stride;     /* reals from one column of it to the next */
} layer_plan;

struct hsgd_pass {
    const hsgd_network *network;
    const hsgd_backend *backend;
    size_t real;      /* bytes of one */
    int64_t samples;  /* of a group at most */
    int64_t first;    /* first layer with parameters: tangents start and adjoints end there */
    layer_plan *plan; /* [layers] */
    size_t probabilities, delta, state_bytes;
    size_t work[2], base[2]; /* byte offsets in scratch: two arrays for k columns, two for one, used in turn */
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
