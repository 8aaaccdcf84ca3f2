/* tests/cuda/test_conv.c - mirrors cuda/conv.c and cuda/conv_choice.c: what cuDNN is told, and what it may compute with. */
#include "fixture.h"
#include <limits.h>

static hsgd_layer conv(int64_t in, int64_t out, int64_t height, int64_t width, int64_t size)
{
    return (hsgd_layer){.kind = HSGD_LAYER_CONV,
                        .in = {in, height, width},
                        .out = {out, height, width},
                        .size = size,
                        .name = "conv2",
                        .weight_count = out * in * size * size,
                        .bias_count = out};
}

static void a_shape_names_samples_channels_height_and_width(void **state)
{
    const hsgd_layer l = conv(16, 32, 14, 13, 5);
    hsgd_cuda_conv_shape s;
    hsgd_error err = {0};

    (void)state;
    assert_ok(hsgd_cuda_conv_shape_of(&l, 1000, &s, &err));
    const hsgd_cuda_conv_shape expected = {
        .x = {1000, 16, 14, 13}, .y = {1000, 32, 14, 13}, .w = {32, 16, 5, 5}, .pad = 2};
    assert_memory_equal(&s, &expected, sizeof s);
}

static void padding_keeps_height_and_width(void **state)
{
    (void)state;
    for (int64_t size = 1; size <= 9; size += 2) {
        const hsgd_layer l = conv(1, 1, 7, 6, size);
        hsgd_cuda_conv_shape s;
        hsgd_error err = {0};

        assert_ok(hsgd_cuda_conv_shape_of(&l, 1, &s, &err));
        assert_int_equal(s.x[2] + 2 * s.pad - s.w[2] + 1, s.y[2]);
        assert_int_equal(s.x[3] + 2 * s.pad - s.w[3] + 1, s.y[3]);
    }
}

static void more_than_cudnn_counts_is_refused(void **state)
{
    const hsgd_layer exact = conv(1, 1 << 15, 16, 16, 1), wide = conv(1 << 16, 1 << 15, 1, 1, 1);
    const hsgd_layer even = conv(1, 1, 4, 4, 2);
    hsgd_cuda_conv_shape s;
    hsgd_error err = {0};

    (void)state;
    assert_ok(hsgd_cuda_conv_shape_of(&exact, 255, &s, &err)); /* 2^31 - 2^23 entries */
    assert_int_equal(hsgd_cuda_conv_shape_of(&exact, 256, &s, &err), HSGD_ERR_DEVICE);
    assert_non_null(strstr(err.text, "conv2"));
    assert_int_equal(hsgd_cuda_conv_shape_of(&exact, INT64_MAX, &s, &err), HSGD_ERR_DEVICE);
    assert_int_equal(hsgd_cuda_conv_shape_of(&wide, 1, &s, &err), HSGD_ERR_DEVICE); /* the weight */
    assert_int_equal(hsgd_cuda_conv_shape_of(&even, 1, &s, &err), HSGD_ERR_DEVICE);
    assert_int_equal(hsgd_cuda_conv_shape_of(&even, 0, &s, &err), HSGD_ERR_DEVICE);
}

/* ---- the choice of algorithms ---- */

/* All three passes of m samples, results unread. */
static hsgd_status run_passes(const fixture *f, const hsgd_layer *l, int64_t m, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    operand x = operand_make(f, m * l->in.channels * l->in.height * l->in.width, 1, false);
    operand y = operand_make(f, m * l->out.channels * l->out.height * l->out.width, 1, false);
    operand w = operand_make(f, l->weight_count, 1, false);
    const hsgd_backend *b = f->backend;
    const hsgd_columns none = {NULL, 0};

    HSGD_TRY(b->ops->affine_value(b->self, 0, l, m, 1, x.columns, w.columns, none, y.columns, false, err));
    HSGD_TRY(b->ops->affine_adjoint_input(b->self, 0, l, m, 1, y.columns, w.columns, x.columns, false, err));
    HSGD_TRY(b->ops->affine_adjoint_weight(b->self, 0, l, m, 1, y.columns, x.columns, w.columns, none, err));
done:
    operand_free(f, &x);
    operand_free(f, &y);
    operand_free(f, &w);
    return st;
}

/* The emulated heuristics name FFT, Winograd, algorithms of varying bits, a refused one and one with a huge workspace
 * before these. */
static void the_first_plain_deterministic_algorithm_of_modest_workspace_is_taken(void **state)
{
    const hsgd_layer l = conv(2, 3, 6, 5, 3);
    fixture f = fixture_make(HSGD_SINGLE, false);
    hsgd_error err = {0};

    (void)state;
    assert_ok(run_passes(&f, &l, 4, &err));
    const hsgd_cuda_conv *c = f.device->convs;
    assert_int_equal(c->pass[HSGD_CUDA_FORWARD].algorithm, CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM);
    assert_int_equal(c->pass[HSGD_CUDA_BACKWARD_DATA].algorithm, CUDNN_CONVOLUTION_BWD_DATA_ALGO_1);
    assert_int_equal(c->pass[HSGD_CUDA_BACKWARD_FILTER].algorithm, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1);
    for (int pass = 0; pass < HSGD_CUDA_PASSES; pass++) {
        assert_true(c->pass[pass].workspace <= f.device->conv_workspace.bytes);
    }
    fixture_end(&f);
}

static void without_advice_the_allowed_ones_are_tried(void **state)
{
    const hsgd_layer l = conv(2, 3, 6, 5, 3);
    fixture f = fixture_make(HSGD_SINGLE, false);
    hsgd_error err = {0};

    (void)state;
    set("HSGD_EMULATION_FAIL", "cudnnGetConvolutionForwardAlgorithm_v7:1");
    assert_ok(run_passes(&f, &l, 4, &err));
    set("HSGD_EMULATION_FAIL", NULL);
    assert_int_equal(f.device->convs->pass[HSGD_CUDA_FORWARD].algorithm,
                     CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM);
    fixture_end(&f);
}

static int known_shapes(const fixture *f)
{
    int known = 0;

    for (const hsgd_cuda_conv *c = f->device->convs; c != NULL; c = c->next) {
        known++;
    }
    return known;
}

static void a_shape_is_described_once(void **state)
{
    const hsgd_layer one = conv(2, 3, 6, 5, 3), other = conv(2, 3, 5, 6, 3);
    fixture f = fixture_make(HSGD_SINGLE, false);
    hsgd_backend *doubles = NULL;
    hsgd_error err = {0};

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_ok(run_passes(&f, &one, 4, &err));
        assert_ok(run_passes(&f, &one, 3, &err));
        assert_ok(run_passes(&f, &other, 4, &err));
        assert_int_equal(known_shapes(&f), 3);
    }
    assert_ok(hsgd_backend_cuda_create(f.device, HSGD_DOUBLE, &doubles, &err));
    const fixture g = {f.device, doubles, 0};
    assert_ok(run_passes(&g, &one, 4, &err));
    assert_int_equal(known_shapes(&f), 4);
    backend_end(&doubles);
    fixture_end(&f);
}

static void a_failure_of_cudnn_is_told_by_name(void **state)
{
    const hsgd_layer l = conv(2, 3, 6, 5, 3);
    fixture f = fixture_make(HSGD_SINGLE, false);
    hsgd_error err = {0};

    (void)state;
    set("HSGD_EMULATION_FAIL", "cudnnConvolutionBackwardData:1");
    assert_int_equal(run_passes(&f, &l, 4, &err), HSGD_ERR_DEVICE);
    set("HSGD_EMULATION_FAIL", NULL);
    assert_non_null(strstr(err.text, "cudnnConvolutionBackwardData"));
    assert_non_null(strstr(err.text, "CUDNN_STATUS_EXECUTION_FAILED"));
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shape_names_samples_channels_height_and_width),
        cmocka_unit_test(padding_keeps_height_and_width),
        cmocka_unit_test(more_than_cudnn_counts_is_refused),
        cmocka_unit_test(the_first_plain_deterministic_algorithm_of_modest_workspace_is_taken),
        cmocka_unit_test(without_advice_the_allowed_ones_are_tried),
        cmocka_unit_test(a_shape_is_described_once),
        cmocka_unit_test(a_failure_of_cudnn_is_told_by_name),
    };
    return test_run(tests);
}
