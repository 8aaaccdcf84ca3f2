/* tests/curvature/test_messages.c - what a step of training sends: one sum over the ranks, of as few words as can be.
 * ranks: 1 2 4 */
#include "fixture.h"

enum { STEPS = 3, OUTCOME = HSGD_TALLIES_OF_LOSS, FAILURES = 1 };

/* Counts what goes through it. */
typedef struct {
    hsgd_comm *inner;
    int64_t sums, words; /* of sums */
    int64_t others;      /* calls of any other kind */
} counter;

static hsgd_status count_sum(void *self, hsgd_type type, int64_t count, void *data, hsgd_error *err)
{
    counter *c = self;

    c->sums++;
    c->words += count;
    return hsgd_comm_sum(c->inner, type, count, data, err);
}

static hsgd_status count_max(void *self, hsgd_type type, int64_t count, void *data, hsgd_error *err)
{
    counter *c = self;

    c->others++;
    return hsgd_comm_max(c->inner, type, count, data, err);
}

static hsgd_status count_reduce_scatter(void *self, hsgd_type type, const int64_t *counts, const void *send,
                                        void *receive, hsgd_error *err)
{
    counter *c = self;

    c->others++;
    return hsgd_comm_reduce_scatter(c->inner, type, counts, send, receive, err);
}

static hsgd_status count_all_gather(void *self, hsgd_type type, const int64_t *counts, const void *send, void *receive,
                                    hsgd_error *err)
{
    counter *c = self;

    c->others++;
    return hsgd_comm_all_gather(c->inner, type, counts, send, receive, err);
}

static hsgd_status count_broadcast(void *self, int root, size_t bytes, void *data, hsgd_error *err)
{
    counter *c = self;

    c->others++;
    return hsgd_comm_broadcast(c->inner, root, bytes, data, err);
}

static hsgd_status count_barrier(void *self, hsgd_error *err)
{
    counter *c = self;

    c->others++;
    return hsgd_comm_node_barrier(c->inner, err);
}

static const hsgd_comm_ops counting = {.name = "counting",
                                       .sum = count_sum,
                                       .max = count_max,
                                       .reduce_scatter = count_reduce_scatter,
                                       .all_gather = count_all_gather,
                                       .broadcast = count_broadcast,
                                       .node_barrier = count_barrier};

/* Words of STEPS steps over the ranks of this launch; *others: calls beside one sum a step. */
static int64_t words_of_steps(hsgd_reduction reduction, int64_t *n, int64_t *others)
{
    counter c = {.inner = test_comm()};
    hsgd_comm comm = *c.inner;
    fixture f;
    hsgd_objective *objective = NULL;
    hsgd_vector *w = NULL, *g = NULL;
    double outcome[HSGD_OUTCOMES];
    hsgd_error err = {0};

    comm.ops = &counting;
    comm.self = &c;
    f = fixture_create(&(fixture_plan){
        .layers = mixed_layers, .edge = 8, .classes = 3, .groups = 5, .reduction = reduction, .comm = &comm});
    assert_ok(hsgd_network_objective_create(problem_of(&f), f.replicated, f.count, &objective, &err));
    assert_ok(hsgd_vector_create(f.replicated, 1, &w, &err));
    assert_ok(hsgd_vector_create(f.replicated, 1, &g, &err));
    assert_ok(hsgd_vector_set_full(w, f.weights, &err));
    c.sums = c.words = c.others = 0;
    for (int step = 0; step < STEPS; step++) {
        assert_ok(objective->ops->begin(objective->self, w, f.index, f.count, g, outcome, &err));
    }
    *n = f.n;
    *others = c.sums - STEPS + c.others;
    hsgd_vector_destroy(&w);
    hsgd_vector_destroy(&g);
    hsgd_objective_destroy(&objective);
    fixture_destroy(&f);
    return c.words;
}

static void a_fast_step_sends_a_number_for_each_derivative_and_the_outcome(void **state)
{
    int64_t n = 0, others = 0;
    const int64_t words = words_of_steps(HSGD_REDUCTION_FAST, &n, &others);

    (void)state;
    if (test_comm()->ranks > 1) {
        assert_int_equal(words, STEPS * (n + OUTCOME + FAILURES));
        assert_int_equal(others, 0);
    } else {
        assert_int_equal(words, 0);
    }
}

/* Two words a number, and a count of those out of range for each of the two sums. */
static void a_reproducible_step_sends_twice_as_much(void **state)
{
    int64_t n = 0, others = 0;
    const int64_t words = words_of_steps(HSGD_REDUCTION_REPRODUCIBLE, &n, &others);

    (void)state;
    if (test_comm()->ranks > 1) {
        assert_int_equal(words, STEPS * (2 * n + 1 + 2 * OUTCOME + 1 + FAILURES));
        assert_int_equal(others, 0);
    } else {
        assert_int_equal(words, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fast_step_sends_a_number_for_each_derivative_and_the_outcome),
        cmocka_unit_test(a_reproducible_step_sends_twice_as_much),
    };

    return test_run(tests);
}
