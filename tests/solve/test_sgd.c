/* tests/solve/test_sgd.c - mirrors src/solve/sgd.c.
 * ranks: 1 3
 * devices: cuda */
#include "solve/sgd.h"
#include "matrix.h"

enum { N = 5000 }; /* more than is updated at a time */

/* f(p) = sum h_i p_i^2 / 2 with h_i = 1 + i % 3: gradient h_i p_i. */
typedef struct {
    double poison;     /* added to every gradient entry and the loss: 0, NaN or Inf */
    int64_t poisoned;  /* from this evaluation on, counted from 0 */
    hsgd_status st;    /* what a share ends with */
    int64_t calls;     /* evaluations so far */
    int64_t evaluated; /* the sum of the sample numbers given */
} quadratic;

static hsgd_status begin(void *self, const hsgd_vector *weights, const int64_t *index, int64_t count,
                         hsgd_vector *gradient, double *outcome, hsgd_error *err)
{
    quadratic *q = self;
    hsgd_status st = HSGD_OK;
    const hsgd_backend *backend = weights->space->backend;
    const double poison = q->calls++ >= q->poisoned ? q->poison : 0.0;
    double *p = calloc(N, sizeof *p), result[HSGD_OUTCOMES] = {[HSGD_OUTCOME_FAILED] = q->st != HSGD_OK};

    HSGD_TRY(hsgd_vector_get_local(weights, p, err));
    result[HSGD_OUTCOME_LOSS] = poison;
    for (int i = 0; i < N; i++) {
        const double h = 1.0 + i % 3;

        result[HSGD_OUTCOME_LOSS] += h * p[i] * p[i] / 2.0;
        p[i] = h * p[i] + poison;
    }
    result[HSGD_OUTCOME_TROUBLE] = !isfinite(result[HSGD_OUTCOME_LOSS]);
    for (int64_t i = 0; i < count; i++) {
        q->evaluated += index[i];
    }
    HSGD_TRY(hsgd_vector_set_local(gradient, p, err));
    HSGD_TRY(backend->ops->upload(backend->self, sizeof result, result, outcome, err));
done:
    free(p);
    return st;
}

static hsgd_status failure(void *self, hsgd_error *err)
{
    const quadratic *q = self;

    return hsgd_error_set(err, q->st, "quadratic: refused");
}

typedef struct {
    hsgd_backend *backend;
    hsgd_space *space;
    hsgd_objective objective;
    quadratic quadratic;
    hsgd_sgd_state state;
    double p[N], start[N];
} fixture;

static const hsgd_objective_ops quadratic_ops = {.begin = begin, .failure = failure};

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    hsgd_error err = {0};

    assert_ok(test_backend_create(HSGD_DOUBLE, 1, &f->backend, &err));
    assert_ok(
        hsgd_space_create(N, HSGD_REPLICATED, HSGD_REDUCTION_REPRODUCIBLE, test_comm(), f->backend, &f->space, &err));
    assert_ok(hsgd_sgd_create(f->space, &f->state, &err));
    f->objective = (hsgd_objective){.ops = &quadratic_ops, .self = &f->quadratic, .space = f->space};
    for (int i = 0; i < N; i++) {
        f->start[i] = sin(1.0 + i);
    }
    assert_ok(hsgd_vector_set_local(f->state.weights, f->start, &err));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;

    hsgd_sgd_destroy(&f->state);
    hsgd_space_destroy(&f->space);
    hsgd_backend_destroy(&f->backend);
    free(f);
    return 0;
}

/* The rule as it is written, for one parameter of curvature h. */
static double by_hand(const hsgd_sgd_options *o, const double *lr, int steps, double h, double p)
{
    double buffer = 0.0;

    for (int step = 0; step < steps; step++) {
        double d = lr[step] * (h * p + o->weight_decay * p);

        if (o->momentum != 0.0) {
            buffer = step == 0 ? d : o->momentum * buffer + (1.0 - o->dampening) * d;
            d = o->nesterov ? d + o->momentum * buffer : buffer;
        }
        p -= d;
        p = o->round_to_single ? (double)(float)p : p;
    }
    return p;
}

/* To the bit: the rule is elementwise and fixes the order of its operations. */
static void follows_the_rule_with_every_combination_of_flags(void **state)
{
    static const hsgd_sgd_options settings[] = {
        {.momentum = 0.0},
        {.weight_decay = 0.01},
        {.momentum = 0.9},
        {.momentum = 0.9, .dampening = 0.5},
        {.momentum = 0.9, .nesterov = true},
        {.momentum = 0.9, .dampening = 0.1, .weight_decay = 0.01, .nesterov = true},
        {.momentum = 0.9, .dampening = 0.1, .weight_decay = 0.01, .nesterov = true, .round_to_single = true},
    };
    static const double lr[4] = {0.1, 0.1, 0.05, 0.025}; /* a schedule: lr enters before the buffer */
    const int64_t index[2] = {3, 4};
    fixture *f = *state;
    hsgd_error err = {0};

    for (size_t k = 0; k < sizeof settings / sizeof *settings; k++) {
        f->state.step = 0; /* the momentum of the setting before must not matter to a first step */
        f->quadratic.evaluated = 0;
        assert_ok(hsgd_vector_set_local(f->state.weights, f->start, &err));
        for (int step = 0; step < 4; step++) {
            assert_ok(hsgd_sgd_step(&settings[k], lr[step], &f->objective, index, 2, &f->state, &err));
        }
        assert_int_equal(f->state.pending, 4);
        assert_ok(hsgd_sgd_settle(&f->objective, &f->state, NULL, &err));
        assert_int_equal(f->state.step, 4);
        assert_int_equal(f->quadratic.evaluated, 4 * 7);
        assert_ok(hsgd_vector_get_local(f->state.weights, f->p, &err));
        for (int i = 0; i < N; i++) {
            assert_true(f->p[i] == by_hand(&settings[k], lr, 4, 1.0 + i % 3, f->start[i]));
        }
    }
}

static void the_loss_is_the_one_before_the_update_and_falls(void **state)
{
    const hsgd_sgd_options options = {.momentum = 0.5};
    fixture *f = *state;
    double before = 0.0;
    hsgd_error err = {0};
    double loss[2];

    for (int i = 0; i < N; i++) {
        before += (1.0 + i % 3) * f->start[i] * f->start[i] / 2.0;
    }
    assert_ok(hsgd_sgd_step(&options, 0.1, &f->objective, NULL, 0, &f->state, &err));
    assert_ok(hsgd_sgd_step(&options, 0.1, &f->objective, NULL, 0, &f->state, &err));
    assert_ok(hsgd_sgd_settle(&f->objective, &f->state, loss, &err));
    assert_int_equal(f->state.pending, 0);
    assert_near(loss[0], before, N * DBL_EPSILON * before);
    assert_true(loss[1] < loss[0]);
}

/* Three updates are queued, the second meets what is not finite: weights, momentum and count are those after the first. */
static void a_step_that_is_not_finite_changes_nothing_and_names_itself(void **state)
{
    static const double poison[] = {NAN, INFINITY};
    const hsgd_sgd_options options = {.momentum = 0.5};
    fixture *f = *state;

    for (int i = 0; i < 3; i++) { /* last: the objective finds it itself */
        hsgd_error err = {0};
        static double after[N], momentum[N], kept[N];

        hsgd_sgd_destroy(&f->state);
        assert_ok(hsgd_sgd_create(f->space, &f->state, &err));
        assert_ok(hsgd_vector_set_local(f->state.weights, f->start, &err));
        f->quadratic = (quadratic){.poison = i < 2 ? poison[i] : 0.0, .poisoned = 1};
        f->state.step = 41;
        assert_ok(hsgd_sgd_step(&options, 0.1, &f->objective, NULL, 0, &f->state, &err));
        assert_ok(hsgd_vector_get_local(f->state.weights, after, &err));
        assert_ok(hsgd_vector_get_local(f->state.momentum, momentum, &err));
        f->quadratic.st = i < 2 ? HSGD_OK : HSGD_ERR_NUMERIC;
        assert_ok(hsgd_sgd_step(&options, 0.1, &f->objective, NULL, 0, &f->state, &err));
        f->quadratic = (quadratic){.st = f->quadratic.st};
        assert_ok(hsgd_sgd_step(&options, 0.1, &f->objective, NULL, 0, &f->state, &err));
        assert_int_equal(hsgd_sgd_settle(&f->objective, &f->state, NULL, &err), HSGD_ERR_NUMERIC);
        assert_non_null(strstr(err.text, "step 43"));
        assert_int_equal(f->state.step, 42);
        assert_ok(hsgd_vector_get_local(f->state.weights, f->p, &err));
        assert_memory_equal(f->p, after, sizeof f->p);
        assert_ok(hsgd_vector_get_local(f->state.momentum, kept, &err));
        assert_memory_equal(kept, momentum, sizeof kept);
        f->quadratic = (quadratic){.st = HSGD_OK}; /* and a good one moves on from there */
        assert_ok(hsgd_sgd_step(&options, 0.1, &f->objective, NULL, 0, &f->state, &err));
        assert_ok(hsgd_sgd_settle(&f->objective, &f->state, NULL, &err));
        assert_ok(hsgd_vector_get_local(f->state.weights, f->p, &err));
        assert_true(fabs(f->p[0]) < fabs(after[0]));
    }
}

static void other_failures_of_the_objective_pass_unchanged(void **state)
{
    const hsgd_sgd_options options = {.momentum = 0.0};
    fixture *f = *state;
    hsgd_error err = {0};

    f->quadratic.st = HSGD_ERR_DEVICE;
    assert_ok(hsgd_sgd_step(&options, 0.1, &f->objective, NULL, 0, &f->state, &err));
    assert_int_equal(hsgd_sgd_settle(&f->objective, &f->state, NULL, &err), HSGD_ERR_DEVICE);
    assert_string_equal(err.text, "quadratic: refused");
    assert_int_equal(f->state.step, 0);
}

static void more_updates_than_can_be_pending_are_refused(void **state)
{
    const hsgd_sgd_options options = {.momentum = 0.0};
    fixture *f = *state;
    hsgd_error err = {0};

    for (int i = 0; i < HSGD_SGD_PENDING; i++) {
        assert_ok(hsgd_sgd_step(&options, 0.1, &f->objective, NULL, 0, &f->state, &err));
    }
    assert_int_equal(hsgd_sgd_step(&options, 0.1, &f->objective, NULL, 0, &f->state, &err), HSGD_ERR_USAGE);
    assert_ok(hsgd_sgd_settle(&f->objective, &f->state, NULL, &err));
    assert_ok(hsgd_sgd_step(&options, 0.1, &f->objective, NULL, 0, &f->state, &err));
}

static void rates_follow_their_schedule(void **state)
{
    const hsgd_sgd_options constant = {.lr = 0.1};
    const hsgd_sgd_options step = {.lr = 0.8, .schedule = HSGD_SCHEDULE_STEP, .step_epochs = 2.0, .step_factor = 0.5};
    const hsgd_sgd_options cosine = {.lr = 0.2, .schedule = HSGD_SCHEDULE_COSINE};

    (void)state;
    assert_true(hsgd_sgd_rate(&constant, 999, 10, 1000) == 0.1);
    assert_true(hsgd_sgd_rate(&step, 0, 10, 100) == 0.8);
    assert_true(hsgd_sgd_rate(&step, 19, 10, 100) == 0.8); /* the last step of the second epoch */
    assert_true(hsgd_sgd_rate(&step, 20, 10, 100) == 0.4);
    assert_true(hsgd_sgd_rate(&step, 60, 10, 100) == 0.1);
    assert_true(hsgd_sgd_rate(&cosine, 0, 10, 100) == 0.2);
    assert_near(hsgd_sgd_rate(&cosine, 50, 10, 100), 0.1, 4.0 * DBL_EPSILON);
    assert_near(hsgd_sgd_rate(&cosine, 100, 10, 100), 0.0, DBL_EPSILON);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(follows_the_rule_with_every_combination_of_flags, setup, teardown),
        cmocka_unit_test_setup_teardown(the_loss_is_the_one_before_the_update_and_falls, setup, teardown),
        cmocka_unit_test_setup_teardown(a_step_that_is_not_finite_changes_nothing_and_names_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(other_failures_of_the_objective_pass_unchanged, setup, teardown),
        cmocka_unit_test_setup_teardown(more_updates_than_can_be_pending_are_refused, setup, teardown),
        cmocka_unit_test(rates_follow_their_schedule),
    };
    return test_run(tests);
}
