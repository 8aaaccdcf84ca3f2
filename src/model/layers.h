/* src/model/layers.h - a network as a list of layers, with one flat parameter vector. */
#pragma once
#include "backend.h"

typedef struct {
    hsgd_layer *layers; /* [count] */
    int64_t count;
    hsgd_shape input;
    int64_t classes;       /* outputs of the last layer */
    int64_t parameters;    /* length n of the flat vector: layers in order, weight then bias, each in C order */
    bool piecewise_linear; /* no tanh: the Hessian's diagonal blocks are Gauss-Newton's */
} hsgd_network;

/* Read a layer list such as "conv 16 5 / relu / maxpool 2 / linear 10" for inputs of shape `input`.
 * Layers that hold parameters are named conv1, conv2, ..., linear1, ...; the last of them is `out`.
 * Local.  Errors: HSGD_ERR_USAGE: unknown layer (with the nearest known name), wrong argument, a window larger than its
 * input, an even kernel or one with weights that meet no pixel, a conv or pool after a linear, the last layer not
 * linear, its outputs fewer than `classes`.  HSGD_ERR_MEMORY. */
hsgd_status hsgd_network_create(const char *layers, hsgd_shape input, int64_t classes, hsgd_network **out,
                                hsgd_error *err);
void hsgd_network_destroy(hsgd_network **network);

/* PyTorch's default initialisation in distribution: weight and bias uniform in +-1/sqrt(fan_in)
 * (kaiming_uniform with a = sqrt(5)), rounded to float.  params: [parameters], canonical order.  Local. */
void hsgd_network_init(const hsgd_network *network, uint64_t seed, double *params);

/* Map between canonical order and the backend's: backend[i] = canonical[order[i]].  order: [parameters].  Local. */
void hsgd_network_order(const hsgd_network *network, const hsgd_backend *backend, int64_t *order);
