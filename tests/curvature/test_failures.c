/* tests/curvature/test_failures.c - one rank that cannot do its share of a sum over samples: every rank gets its error,
 * none is left waiting, and the next sum is as it should be.  ranks: 1 2 3 4
 * devices: cuda */
#include "broken.h"

/* What an objective has done before: nothing, evaluated the loss alone, or with its gradient. */
enum { FRESH, AFTER_LOSS, AFTER_GRADIENT, HISTORIES };

typedef struct {
    fixture f;
    hsgd_backend_ops ops;
    hsgd_backend backend;
    hsgd_vector *weights, *gradient;
    double *good, *got; /* [n] */
    hsgd_loss loss;     /* as it should be, as `good` is */
} trial;

static hsgd_objective *objective_of(trial *t)
{
    hsgd_objective *objective = NULL;
    hsgd_error err = {0};

    assert_ok(hsgd_network_objective_create(problem_of(&t->f), t->f.replicated, t->f.count, &objective, &err));
    return objective;
}

static void evaluate_well(trial *t, hsgd_objective *objective, hsgd_vector *gradient)
{
    hsgd_loss loss = {0};
    hsgd_error err = {0};

    assert_ok(hsgd_objective_evaluate(objective, t->weights, t->f.index, t->f.count, gradient, &loss, &err));
    assert_memory_equal(&loss, &t->loss, sizeof loss);
    if (gradient != NULL) {
        assert_ok(hsgd_vector_get_local(gradient, t->got, &err));
        assert_memory_equal(t->got, t->good, (size_t)t->f.n * sizeof *t->got);
    }
}

static void trial_begin(trial *t, hsgd_reduction reduction)
{
    hsgd_error err = {0};
    hsgd_objective *objective = NULL;

    *t = (trial){.f = broken_fixture(reduction)};
    broken_install(&t->f, &t->ops, &t->backend);
    t->good = malloc((size_t)t->f.n * sizeof *t->good);
    t->got = malloc((size_t)t->f.n * sizeof *t->got);
    assert_true(t->good != NULL && t->got != NULL);
    assert_ok(hsgd_vector_create(t->f.replicated, 1, &t->weights, &err));
    assert_ok(hsgd_vector_create(t->f.replicated, 1, &t->gradient, &err));
    assert_ok(hsgd_vector_set_full(t->weights, t->f.weights, &err));
    objective = objective_of(t);
    assert_ok(hsgd_objective_evaluate(objective, t->weights, t->f.index, t->f.count, t->gradient, &t->loss, &err));
    assert_ok(hsgd_vector_get_local(t->gradient, t->good, &err));
    hsgd_objective_destroy(&objective);
}

static void trial_end(trial *t)
{
    hsgd_vector_destroy(&t->weights);
    hsgd_vector_destroy(&t->gradient);
    free(t->good);
    free(t->got);
    fixture_destroy(&t->f);
}

static void fail_an_evaluation(trial *t, broken_place place, int rank, int history, hsgd_vector *gradient)
{
    hsgd_objective *objective = objective_of(t);
    hsgd_loss loss = {.loss = -1.0};
    hsgd_error err = {0};

    if (history != FRESH) {
        evaluate_well(t, objective, history == AFTER_GRADIENT ? t->gradient : NULL);
    }
    broken_begin(place, rank);
    assert_int_equal(hsgd_objective_evaluate(objective, t->weights, t->f.index, t->f.count, gradient, &loss, &err),
                     HSGD_ERR_DEVICE);
    broken_end();
    assert_string_equal(err.text, broken_text);
    assert_true(loss.loss == -1.0);
    evaluate_well(t, objective, gradient == NULL ? t->gradient : NULL);
    evaluate_well(t, objective, gradient);
    hsgd_objective_destroy(&objective);
}

static void a_failed_share_of_a_batch_fails_on_all_ranks(void **state)
{
    (void)state;
    for (int mode = HSGD_REDUCTION_REPRODUCIBLE; mode <= HSGD_REDUCTION_FAST; mode++) {
        trial t;

        trial_begin(&t, (hsgd_reduction)mode);
        for (int place = AT_UPLOAD; place < BROKEN_PLACES; place++) {
            for (int rank = 0; rank < test_comm()->ranks; rank++) {
                for (int history = FRESH; history < HISTORIES; history++) {
                    fail_an_evaluation(&t, (broken_place)place, rank, history, NULL);
                    fail_an_evaluation(&t, (broken_place)place, rank, history, t.gradient);
                }
            }
        }
        trial_end(&t);
    }
}

/* No rank's sum is left that could give the failure away. */
static void a_failure_of_every_rank_is_a_failure(void **state)
{
    trial t;

    (void)state;
    trial_begin(&t, HSGD_REDUCTION_REPRODUCIBLE);
    for (int place = AT_UPLOAD; place < BROKEN_PLACES; place++) {
        fail_an_evaluation(&t, (broken_place)place, test_comm()->rank, FRESH, NULL);
        fail_an_evaluation(&t, (broken_place)place, test_comm()->rank, FRESH, t.gradient);
        fail_an_evaluation(&t, (broken_place)place, test_comm()->rank, AFTER_GRADIENT, NULL);
    }
    trial_end(&t);
}

static void fail_a_product(fixture *f, broken_place place, int rank, int64_t k)
{
    const hsgd_hessian_options options = options_of(f, HSGD_OPERATOR_HESSIAN);
    const size_t bytes = (size_t)(k * f->n) * sizeof(double);
    double *x = normals(k * f->n, 1), *good = products_of(f, &options, k, x), *got = malloc(bytes);
    hsgd_linop *op = operator_of(f, &options);
    hsgd_error err = {0};

    assert_non_null(got);
    for (int round = 0; round < 2; round++) { /* at the first product, and at a later one */
        broken_begin(place, rank);
        if (round == 0 || place != AT_UPLOAD) { /* later products upload nothing */
            assert_int_equal(apply_full(op, k, x, got, &err), HSGD_ERR_DEVICE);
            assert_string_equal(err.text, broken_text);
        }
        broken_end();
        assert_ok(apply_full(op, k, x, got, &err));
        assert_memory_equal(got, good, bytes);
    }
    hsgd_linop_destroy(&op);
    free(x);
    free(good);
    free(got);
}

static void a_failed_share_of_a_product_fails_on_all_ranks(void **state)
{
    (void)state;
    for (int mode = HSGD_REDUCTION_REPRODUCIBLE; mode <= HSGD_REDUCTION_FAST; mode++) {
        fixture f = broken_fixture((hsgd_reduction)mode);
        hsgd_backend_ops ops;
        hsgd_backend backend;

        broken_install(&f, &ops, &backend);
        for (int place = AT_UPLOAD; place < BROKEN_PLACES; place++) {
            for (int rank = 0; rank < test_comm()->ranks; rank++) {
                fail_a_product(&f, (broken_place)place, rank, 1);
                fail_a_product(&f, (broken_place)place, rank, 3);
            }
        }
        fixture_destroy(&f);
    }
}

/* The sums that are formed in one call: evaluation, exact trace, frozen gradient. */
static hsgd_status one_call(fixture *f, int which, double *out, hsgd_error *err)
{
    hsgd_loss loss = {0};
    int64_t confusion[9] = {0};
    hsgd_status st = HSGD_OK;

    if (which == 0) {
        st = hsgd_network_evaluate(problem_of(f), f->weights, f->index, f->count, &loss, confusion, err);
        out[0] = loss.loss;
        for (int i = 0; i < 9; i++) {
            out[1 + i] = (double)confusion[i];
        }
    } else if (which == 1) {
        st = hsgd_exact_trace(problem_of(f), f->weights, f->index, f->count, out, err);
    } else {
        st = hsgd_frozen_gradient(problem_of(f), f->weights, f->weights, f->index, f->count, out, &loss, err);
    }
    return st;
}

static void fail_one_call(fixture *f, int which, broken_place place, int rank)
{
    const size_t bytes = (size_t)(f->n + 10) * sizeof(double);
    double *good = calloc(1, bytes), *got = calloc(1, bytes);
    hsgd_error err = {0};

    assert_true(good != NULL && got != NULL);
    assert_ok(one_call(f, which, good, &err));
    broken_begin(place, rank);
    assert_int_equal(one_call(f, which, got, &err), HSGD_ERR_DEVICE);
    broken_end();
    assert_string_equal(err.text, broken_text);
    memset(got, 0, bytes);
    assert_ok(one_call(f, which, got, &err));
    assert_memory_equal(got, good, bytes);
    free(good);
    free(got);
}

static void a_failed_share_of_a_whole_set_fails_on_all_ranks(void **state)
{
    (void)state;
    for (int mode = HSGD_REDUCTION_REPRODUCIBLE; mode <= HSGD_REDUCTION_FAST; mode++) {
        fixture f = broken_fixture((hsgd_reduction)mode);
        hsgd_backend_ops ops;
        hsgd_backend backend;

        broken_install(&f, &ops, &backend);
        for (int which = 0; which < 3; which++) {
            for (int place = AT_UPLOAD; place < BROKEN_PLACES; place++) {
                for (int rank = 0; rank < test_comm()->ranks; rank++) {
                    fail_one_call(&f, which, (broken_place)place, rank);
                }
            }
        }
        fixture_destroy(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_share_of_a_batch_fails_on_all_ranks),
        cmocka_unit_test(a_failure_of_every_rank_is_a_failure),
        cmocka_unit_test(a_failed_share_of_a_product_fails_on_all_ranks),
        cmocka_unit_test(a_failed_share_of_a_whole_set_fails_on_all_ranks),
    };
    return test_run(tests);
}
