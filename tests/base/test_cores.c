/* tests/base/test_cores.c - mirrors src/base/cores.c: control groups as files of a scratch folder. */
#include "base/cores.h"
#include "support.h"
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch[256];

static int make_scratch(void **state)
{
    const char *place = getenv("TMPDIR");

    (void)state;
    (void)snprintf(scratch, sizeof scratch, "%.200s/hsgd-cores-XXXXXX", place != NULL ? place : "/tmp");
    return mkdtemp(scratch) == NULL;
}

/* Write text into scratch/path, making the folders on the way. */
static void put(const char *path, const char *text)
{
    char whole[512];
    FILE *file = NULL;

    (void)snprintf(whole, sizeof whole, "%s/%s", scratch, path);
    for (char *slash = whole + strlen(scratch) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        (void)mkdir(whole, 0700);
        *slash = '/';
    }
    file = fopen(whole, "w");
    assert_non_null(file);
    (void)fputs(text, file);
    (void)fclose(file);
}

static int remove_scratch(void **state)
{
    static const char *const all[] = {"mounts/cpu/job/step/cpu.cfs_quota_us",
                                      "mounts/cpu/job/step/cpu.cfs_period_us",
                                      "mounts/cpu/job/step",
                                      "mounts/cpu/job/cpu.cfs_quota_us",
                                      "mounts/cpu/job/cpu.cfs_period_us",
                                      "mounts/cpu/job",
                                      "mounts/cpu/cpu.cfs_quota_us",
                                      "mounts/cpu/cpu.cfs_period_us",
                                      "mounts/cpu",
                                      "mounts/job/step/cpu.max",
                                      "mounts/job/step",
                                      "mounts/job/cpu.max",
                                      "mounts/job",
                                      "mounts/cpu.max",
                                      "mounts",
                                      "membership"};
    char whole[512];

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        (void)snprintf(whole, sizeof whole, "%s/%s", scratch, all[i]);
        (void)remove(whole);
    }
    return rmdir(scratch);
}

static int quota(void)
{
    char membership[300], mounts[300];

    (void)snprintf(membership, sizeof membership, "%s/membership", scratch);
    (void)snprintf(mounts, sizeof mounts, "%s/mounts", scratch);
    return hsgd_cores_quota(membership, mounts);
}

static void the_second_generation_is_read_up_to_its_root(void **state)
{
    (void)state;
    put("membership", "0::/job/step\n");
    assert_int_equal(quota(), 0); /* no such folder */
    put("mounts/job/step/cpu.max", "max 100000\n");
    assert_int_equal(quota(), 0);
    put("mounts/job/cpu.max", "350000 100000\n");
    assert_int_equal(quota(), 3); /* half a core is none */
    put("mounts/job/step/cpu.max", "800000 100000\n");
    assert_int_equal(quota(), 3); /* the tightest counts */
    put("mounts/cpu.max", "50000 100000\n");
    assert_int_equal(quota(), 1); /* and there is always one */
}

static void the_first_generation_is_read_among_its_controllers(void **state)
{
    (void)state;
    put("membership", "9:name=systemd:/x\n4:cpuset,cpuacct:/job\n3:cpuacct,cpu:/job/step\n0::/\n");
    put("mounts/cpu/job/step/cpu.cfs_quota_us", "-1\n");
    put("mounts/cpu/job/step/cpu.cfs_period_us", "100000\n");
    assert_int_equal(quota(), 0);
    put("mounts/cpu/job/cpu.cfs_quota_us", "200000\n");
    put("mounts/cpu/job/cpu.cfs_period_us", "50000\n");
    assert_int_equal(quota(), 4);
}

/* In a container the path is the host's, and its own group is the root that it sees. */
static void a_path_of_the_host_ends_at_the_root(void **state)
{
    (void)state;
    put("membership", "3:cpu:/docker/0123\n");
    put("mounts/cpu/cpu.cfs_quota_us", "250000\n");
    put("mounts/cpu/cpu.cfs_period_us", "100000\n");
    assert_int_equal(quota(), 2);
}

static void nonsense_is_no_limit(void **state)
{
    (void)state;
    assert_int_equal(quota(), 0); /* no file at all */
    put("membership", "nothing\n\n1:cpu\n0::/job\n");
    put("mounts/job/cpu.max", "many few\n");
    assert_int_equal(quota(), 0);
    put("mounts/job/cpu.max", "100000 0\n");
    assert_int_equal(quota(), 0);
}

static void a_limit_leaves_at_least_one_core(void **state)
{
    cpu_set_t own;

    (void)state;
    assert_int_equal(hsgd_cores_within(8, 0), 8);
    assert_int_equal(hsgd_cores_within(8, 3), 3);
    assert_int_equal(hsgd_cores_within(2, 3), 2);
    assert_int_equal(hsgd_cores_within(0, 3), 1);
    assert_true(hsgd_cores_of(0, &own));
    assert_true(CPU_COUNT(&own) >= 1);
    assert_false(hsgd_cores_of(-2, &own));
    assert_int_equal(CPU_COUNT(&own), 0);
    assert_true(hsgd_cores_own_quota() >= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_second_generation_is_read_up_to_its_root, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(the_first_generation_is_read_among_its_controllers, make_scratch,
                                        remove_scratch),
        cmocka_unit_test_setup_teardown(a_path_of_the_host_ends_at_the_root, make_scratch, remove_scratch),
        cmocka_unit_test_setup_teardown(nonsense_is_no_limit, make_scratch, remove_scratch),
        cmocka_unit_test(a_limit_leaves_at_least_one_core),
    };

    return test_run(tests);
}
