/* tests/mpi/test_launch.c - mirrors mpi/launch.c: who yields while it waits, before and after MPI is up.  ranks: 1 2 */
#include "launch.h"
#include "support.h"
#include <mpi.h>
#include <stdlib.h>

static const char VARIABLE[] = "OMPI_MCA_mpi_yield_when_idle", SIZE[] = "OMPI_COMM_WORLD_LOCAL_SIZE";
enum { MANY = 100000 }; /* more than any machine has cores */

/* What the variable says after a launch of so many ranks on this node, where the user said `before` (NULL: nothing). */
static const char *prepared(const char *ranks, const char *before)
{
    (void)unsetenv(VARIABLE);
    if (before != NULL) {
        (void)setenv(VARIABLE, before, 1);
    }
    if (ranks != NULL) {
        (void)setenv(SIZE, ranks, 1);
    } else {
        (void)unsetenv(SIZE);
    }
    hsgd_launch_prepare();
    return getenv(VARIABLE);
}

static void ranks_yield_where_they_are_more_than_the_cores(void **state)
{
    (void)state;
    assert_true(hsgd_launch_is_crowded(MANY));
    assert_false(hsgd_launch_is_crowded(1));
    assert_string_equal(prepared("100000", NULL), "1");
    assert_null(prepared("1", NULL));
    assert_null(prepared(NULL, NULL)); /* a launcher that tells nothing */
}

/* Of four nodes by srun, the last has one rank and the others many. */
static void srun_tells_the_ranks_of_each_node(void **state)
{
    (void)state;
    (void)setenv("SLURM_STEP_TASKS_PER_NODE", "100000(x2),90000,1", 1);
    for (int node = 0; node <= 4; node++) { /* the fifth is in no list */
        const char *const names[] = {"0", "1", "2", "3", "4"};

        (void)setenv("SLURM_NODEID", names[node], 1);
        if (node < 3) {
            assert_string_equal(prepared(NULL, NULL), "1");
        } else {
            assert_null(prepared(NULL, NULL));
        }
        assert_null(prepared("1", NULL)); /* mpirun within a batch job knows better */
    }
    (void)unsetenv("SLURM_NODEID");
    (void)setenv("SLURM_STEP_TASKS_PER_NODE", "100000", 1);
    assert_string_equal(prepared(NULL, NULL), "1");
    (void)setenv("SLURM_CPUS_ON_NODE", "1", 1); /* the step's, however many the node has */
    (void)setenv("SLURM_STEP_TASKS_PER_NODE", "2", 1);
    assert_string_equal(prepared(NULL, NULL), "1");
    assert_null(prepared("1", NULL));
    (void)setenv("SLURM_STEP_TASKS_PER_NODE", "1", 1);
    assert_null(prepared(NULL, NULL));
    (void)unsetenv("SLURM_CPUS_ON_NODE");
    (void)unsetenv("SLURM_STEP_TASKS_PER_NODE");
}

static void the_users_word_stands(void **state)
{
    (void)state;
    assert_string_equal(prepared("100000", "0"), "0");
    assert_string_equal(prepared("1", "1"), "1");
}

/* The last of the tests: MPI comes up once.  Open MPI tells by its tools interface what it goes by. */
static void open_mpi_hears_it(void **state)
{
    int provided = 0, index = 0, count = 0, value = 0;
    MPI_T_cvar_handle handle;

    (void)state;
    (void)prepared("100000", NULL);
    (void)test_comm(); /* would have prepared for itself, but for the number of ranks */
    assert_int_equal(MPI_T_init_thread(MPI_THREAD_SINGLE, &provided), MPI_SUCCESS);
    if (MPI_T_cvar_get_index("mpi_yield_when_idle", &index) == MPI_SUCCESS) {
        assert_int_equal(MPI_T_cvar_handle_alloc(index, NULL, &handle, &count), MPI_SUCCESS);
        assert_int_equal(MPI_T_cvar_read(handle, &value), MPI_SUCCESS);
        assert_int_equal(value, 1);
        (void)MPI_T_cvar_handle_free(&handle);
    } else {
        print_message("this MPI has no such setting\n");
    }
    (void)MPI_T_finalize();
}

/* Before MPI is up the rank is the launcher's word: Open MPI's before that of the batch system around it. */
static void the_rank_is_known_before_mpi_is_up(void **state)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"};
    enum { NAMES = sizeof names / sizeof names[0] };
    char before[NAMES][32] = {{0}};

    (void)state;
    for (int i = 0; i < NAMES; i++) {
        (void)snprintf(before[i], sizeof before[i], "%s", getenv(names[i]) != NULL ? getenv(names[i]) : "");
        (void)unsetenv(names[i]);
    }
    assert_int_equal(hsgd_launch_rank(), -1);
    for (int i = NAMES - 1; i >= 0; i--) {
        char rank[16];

        (void)snprintf(rank, sizeof rank, "%d", 10 + i);
        (void)setenv(names[i], rank, 1);
        assert_int_equal(hsgd_launch_rank(), 10 + i);
    }
    for (int i = 0; i < NAMES; i++) {
        (void)(before[i][0] != '\0' ? setenv(names[i], before[i], 1) : unsetenv(names[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_yield_where_they_are_more_than_the_cores),
        cmocka_unit_test(srun_tells_the_ranks_of_each_node),
        cmocka_unit_test(the_users_word_stands),
        cmocka_unit_test(the_rank_is_known_before_mpi_is_up),
        cmocka_unit_test(open_mpi_hears_it),
    };

    return test_run(tests);
}
