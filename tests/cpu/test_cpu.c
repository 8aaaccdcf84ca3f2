/* tests/cpu/test_cpu.c - mirrors src/cpu/cpu.c: which kernels the CPU backend picks, and what it refuses. */
#include "cpu/cpu.h"
#include "support.h"
#include <stdlib.h>

/* hsgd_backend_destroy belongs to a room that this test does without. */
static void end(hsgd_backend *b)
{
    b->ops->destroy(b->self);
    free(b);
}

static hsgd_status create_with(const char *set, hsgd_backend **out, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;

    (void)setenv("HSGD_INSTRUCTION_SET", set, 1);
    st = hsgd_backend_cpu_create(HSGD_SINGLE, 1, out, err);
    (void)unsetenv("HSGD_INSTRUCTION_SET");
    return st;
}

static void an_unknown_instruction_set_is_refused_by_name(void **state)
{
    hsgd_backend *b = NULL;
    hsgd_error err = {0};

    (void)state;
    assert_int_equal(create_with("avx1024", &b, &err), HSGD_ERR_DEVICE);
    assert_null(b);
    assert_non_null(strstr(err.text, "avx1024"));
}

static void an_empty_name_narrows_nothing(void **state)
{
    hsgd_backend *any = NULL, *empty = NULL;
    hsgd_error err = {0};

    (void)state;
    assert_ok(hsgd_backend_cpu_create(HSGD_SINGLE, 1, &any, &err));
    assert_ok(create_with("", &empty, &err));
    assert_string_equal(any->instruction_set, empty->instruction_set);
    end(any);
    end(empty);
}

static void the_instruction_set_asked_for_is_recorded(void **state)
{
    hsgd_backend *b = NULL;
    hsgd_error err = {0};

    (void)state;
    assert_ok(create_with("generic", &b, &err));
    assert_string_equal(b->instruction_set, "generic");
    assert_string_equal(b->ops->name, "cpu");
    end(b);
}

/* The widest first: what a machine can run and this build has is never passed over. */
static void the_widest_instruction_set_is_chosen(void **state)
{
    static const char *const widest_first[] = {"avx512", "avx2", "generic"};
    hsgd_backend *chosen = NULL, *named = NULL;
    hsgd_error err = {0};
    int i = 0;

    (void)state;
    assert_ok(hsgd_backend_cpu_create(HSGD_DOUBLE, 2, &chosen, &err));
    while (create_with(widest_first[i], &named, &err) != HSGD_OK) {
        i++;
    }
    assert_string_equal(chosen->instruction_set, widest_first[i]);
    assert_int_equal(chosen->workers, 2);
    assert_true(chosen->group > 0);
    end(chosen);
    end(named);
}

/* Every width up to the machine's is another set; a greater one than it has is its widest. */
static void a_width_caps_the_instruction_set(void **state)
{
    char last[32] = "";
    int widest = -1;
    hsgd_backend *b = NULL, *any = NULL;
    hsgd_error err = {0};

    (void)state;
    assert_ok(hsgd_cpu_width(&widest, &err));
    assert_true(widest >= 0);
    assert_ok(hsgd_backend_cpu_create(HSGD_SINGLE, 1, &any, &err));
    for (int width = 0; width <= widest + 1; width++) {
        assert_ok(hsgd_backend_cpu_create_within(HSGD_SINGLE, 1, width, &b, &err));
        if (width == 0) {
            assert_string_equal(b->instruction_set, "generic");
        } else if (width <= widest) {
            assert_string_not_equal(b->instruction_set, last);
        }
        if (width >= widest) {
            assert_string_equal(b->instruction_set, any->instruction_set);
        }
        memcpy(last, b->instruction_set, sizeof last);
        end(b);
    }
    end(any);
}

static void the_environment_narrows_the_width(void **state)
{
    int width = -1;
    hsgd_error err = {0};

    (void)state;
    (void)setenv("HSGD_INSTRUCTION_SET", "generic", 1);
    assert_ok(hsgd_cpu_width(&width, &err));
    assert_int_equal(width, 0);
    (void)setenv("HSGD_INSTRUCTION_SET", "avx1024", 1);
    assert_int_equal(hsgd_cpu_width(&width, &err), HSGD_ERR_DEVICE);
    (void)unsetenv("HSGD_INSTRUCTION_SET");
}

static void a_backend_without_threads_is_refused(void **state)
{
    hsgd_backend *b = NULL;
    hsgd_error err = {0};

    (void)state;
    assert_int_equal(hsgd_backend_cpu_create(HSGD_SINGLE, 0, &b, &err), HSGD_ERR_DEVICE);
    assert_null(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unknown_instruction_set_is_refused_by_name),
        cmocka_unit_test(an_empty_name_narrows_nothing),
        cmocka_unit_test(the_instruction_set_asked_for_is_recorded),
        cmocka_unit_test(the_widest_instruction_set_is_chosen),
        cmocka_unit_test(a_width_caps_the_instruction_set),
        cmocka_unit_test(the_environment_narrows_the_width),
        cmocka_unit_test(a_backend_without_threads_is_refused),
    };

    return test_run(tests);
}
