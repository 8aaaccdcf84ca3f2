/* tests/solve/test_sgd_network.c - src/solve/sgd.c on the network's own loss, where one rank cannot do its share of one
 * of the pending updates: told to all when they are settled, and no rank's weights have moved on.  ranks: 1 2 3
 * devices: cuda */
#include "curvature/broken.h"
#include "solve/sgd.h"

static const hsgd_sgd_options options = {.momentum = 0.9, .weight_decay = 1e-3};
enum { UPDATES = 5 };

static void step_well(fixture *f, hsgd_objective *objective, hsgd_sgd_state *sgd, int updates)
{
    hsgd_error err = {0};

    for (int i = 0; i < updates; i++) {
        assert_ok(hsgd_sgd_step(&options, 0.1, objective, f->index, f->count, sgd, &err));
    }
}

static void start(fixture *f, hsgd_sgd_state *sgd)
{
    hsgd_error err = {0};

    assert_ok(hsgd_sgd_create(f->replicated, sgd, &err));
    assert_ok(hsgd_vector_set_full(sgd->weights, f->weights, &err));
}

/* Weights and momentum after so many updates, [2][n]; to be freed. */
static double *content(const hsgd_sgd_state *sgd)
{
    const int64_t n = sgd->space->n;
    double *x = malloc((size_t)(2 * n) * sizeof *x);
    hsgd_error err = {0};

    assert_non_null(x);
    assert_ok(hsgd_vector_get_local(sgd->weights, x, &err));
    assert_ok(hsgd_vector_get_local(sgd->momentum, x + n, &err));
    return x;
}

/* UPDATES updates, of which number `bad` fails on `rank`; then all of them again, well. */
static void fail_an_update(fixture *f, broken_place place, int rank, int bad)
{
    const size_t bytes = (size_t)(2 * f->n) * sizeof(double);
    hsgd_objective *objective = NULL;
    hsgd_sgd_state sgd = {0};
    double *good = NULL, *got = NULL;
    hsgd_error err = {0};

    assert_ok(hsgd_network_objective_create(problem_of(f), f->replicated, f->count, &objective, &err));
    start(f, &sgd);
    step_well(f, objective, &sgd, bad);
    good = content(&sgd);
    broken_begin(place, rank);
    step_well(f, objective, &sgd, 1); /* queued like any other */
    broken_end();
    step_well(f, objective, &sgd, UPDATES - 1 - bad);
    assert_int_equal(hsgd_sgd_settle(objective, &sgd, NULL, &err), HSGD_ERR_DEVICE);
    assert_string_equal(err.text, broken_text);
    assert_int_equal(sgd.step, bad);
    assert_int_equal(sgd.pending, 0);
    got = content(&sgd);
    assert_memory_equal(got, good, bytes);
    free(got);
    free(good);
    hsgd_sgd_destroy(&sgd);

    start(f, &sgd);
    step_well(f, objective, &sgd, UPDATES);
    assert_ok(hsgd_sgd_settle(objective, &sgd, NULL, &err));
    assert_int_equal(sgd.step, UPDATES);
    hsgd_sgd_destroy(&sgd);
    hsgd_objective_destroy(&objective);
}

static void a_failed_share_of_an_update_stops_all_ranks_before_it(void **state)
{
    (void)state;
    for (int mode = HSGD_REDUCTION_REPRODUCIBLE; mode <= HSGD_REDUCTION_FAST; mode++) {
        fixture f = broken_fixture((hsgd_reduction)mode);
        hsgd_backend_ops ops;
        hsgd_backend backend;

        broken_install(&f, &ops, &backend);
        for (int place = AT_UPLOAD; place < BROKEN_PLACES; place++) {
            for (int rank = 0; rank < test_comm()->ranks; rank++) {
                for (int bad = 0; bad < UPDATES; bad += 2) {
                    fail_an_update(&f, (broken_place)place, rank, bad);
                }
            }
        }
        fixture_destroy(&f);
    }
}

/* On different ranks, at different updates. */
static void two_failures_are_settled_at_once(void **state)
{
    fixture f = broken_fixture(HSGD_REDUCTION_REPRODUCIBLE);
    hsgd_backend_ops ops;
    hsgd_backend backend;
    hsgd_objective *objective = NULL;
    hsgd_sgd_state sgd = {0};
    hsgd_error err = {0};

    (void)state;
    broken_install(&f, &ops, &backend);
    assert_ok(hsgd_network_objective_create(problem_of(&f), f.replicated, f.count, &objective, &err));
    start(&f, &sgd);
    step_well(&f, objective, &sgd, 1);
    for (int update = 0; update < 2; update++) {
        broken_begin(AT_IMAGES, update == 0 ? test_comm()->ranks - 1 : 0);
        step_well(&f, objective, &sgd, 1);
        broken_end();
    }
    assert_int_equal(hsgd_sgd_settle(objective, &sgd, NULL, &err), HSGD_ERR_DEVICE);
    assert_int_equal(sgd.step, 1);
    hsgd_sgd_destroy(&sgd);

    start(&f, &sgd); /* neither is told again, with a later one */
    broken_text = "device: too hot";
    broken_begin(AT_IMAGES, test_comm()->ranks - 1);
    step_well(&f, objective, &sgd, 1);
    broken_end();
    assert_int_equal(hsgd_sgd_settle(objective, &sgd, NULL, &err), HSGD_ERR_DEVICE);
    assert_string_equal(err.text, broken_text);
    hsgd_sgd_destroy(&sgd);
    hsgd_objective_destroy(&objective);
    fixture_destroy(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_share_of_an_update_stops_all_ranks_before_it),
        cmocka_unit_test(two_failures_are_settled_at_once),
    };
    return test_run(tests);
}
