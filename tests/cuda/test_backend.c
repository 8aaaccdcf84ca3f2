/* tests/cuda/test_backend.c - mirrors cuda/backend_cuda.c: what its members do besides passing arguments on. */
#include "fixture.h"

typedef struct {
    int64_t seen, fails_at;
} record;

static hsgd_status body(void *context, int worker, int64_t group, hsgd_error *err)
{
    record *r = context;

    assert_int_equal(worker, 0);
    assert_int_equal(group, r->seen);
    r->seen++;
    return group == r->fails_at ? hsgd_error_set(err, HSGD_ERR_NUMERIC, "group %d", (int)group) : HSGD_OK;
}

static void groups_come_in_order_until_one_fails(void **state)
{
    fixture f = fixture_make(HSGD_SINGLE, false);
    record all = {0, -1}, some = {0, 2};
    hsgd_error err = {0};

    (void)state;
    assert_ok(f.backend->ops->for_groups(f.backend->self, 5, false, body, &all, &err));
    assert_int_equal(all.seen, 5);
    assert_int_equal(f.backend->ops->for_groups(f.backend->self, 5, true, body, &some, &err), HSGD_ERR_NUMERIC);
    assert_int_equal(some.seen, 3);
    assert_string_equal(err.text, "group 2");
    fixture_end(&f);
}

/* The loss of m samples of equal logits is m log(classes), also where the scratch memory must grow for it. */
static void the_loss_of_any_number_of_samples_fits_its_scratch(void **state)
{
    enum { MOST = 2500, CLASSES = 4 };
    static const int64_t sizes[] = {10, 1000, MOST};
    fixture f = fixture_make(HSGD_DOUBLE, false);
    const hsgd_backend *b = f.backend;
    void *z = NULL, *labels = NULL, *index = NULL, *p = NULL, *delta = NULL, *tally = NULL;
    double got[HSGD_TALLIES_OF_LOSS];
    hsgd_error err = {0};

    (void)state;
    assert_ok(b->ops->alloc(b->self, MOST * CLASSES * sizeof(double), &z, &err));
    assert_ok(b->ops->alloc(b->self, MOST * CLASSES * sizeof(double), &p, &err));
    assert_ok(b->ops->alloc(b->self, MOST * CLASSES * sizeof(double), &delta, &err));
    assert_ok(b->ops->alloc(b->self, 1, &labels, &err));
    assert_ok(b->ops->alloc(b->self, MOST * sizeof(int64_t), &index, &err));
    assert_ok(b->ops->alloc(b->self, sizeof got, &tally, &err));
    for (int i = 0; i < 3; i++) {
        assert_ok(b->ops->softmax_loss(b->self, 0, sizes[i], CLASSES, z, labels, index, p, delta, tally, NULL, &err));
        assert_ok(b->ops->download(b->self, sizeof got, tally, got, &err));
        assert_near(got[HSGD_TALLY_LOSS], (double)sizes[i] * 1.3862943611198906, 1e-12 * (double)sizes[i]);
        assert_true(got[HSGD_TALLY_CORRECT] == (double)sizes[i]); /* ties go to the lowest class, which is the label */
    }
    void *const all[] = {z, p, delta, labels, index, tally};
    for (int i = 0; i < 6; i++) {
        b->ops->release(b->self, all[i]);
    }
    fixture_end(&f);
}

/* A slot that is forgotten would be a call of address 0: only these have a meaning when empty, the optional five together. */
static void no_slot_is_forgotten(void **state)
{
    fixture f = fixture_make(HSGD_SINGLE, false);
    const hsgd_backend_ops *ops = f.backend->ops;
    void (*const *slots)(void) = (void (*const *)(void))(const void *)ops;
    int empty = 0;

    (void)state;
    for (size_t i = 1; i < sizeof *ops / sizeof *slots; i++) {
        empty += slots[i] == NULL;
    }
    assert_null(ops->weight_order);
    assert_int_equal(empty, 1 + (ops->gates_bytes == NULL ? 5 : 0));
    assert_true((ops->gates_bytes == NULL) == (ops->gated_base == NULL));
    assert_true((ops->gates_bytes == NULL) == (ops->gated_value == NULL));
    assert_true((ops->gates_bytes == NULL) == (ops->gated_adjoint_input == NULL));
    assert_true((ops->gates_bytes == NULL) == (ops->gated_adjoint_weight == NULL));
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_come_in_order_until_one_fails),
        cmocka_unit_test(the_loss_of_any_number_of_samples_fits_its_scratch),
        cmocka_unit_test(no_slot_is_forgotten),
    };
    return test_run(tests);
}
