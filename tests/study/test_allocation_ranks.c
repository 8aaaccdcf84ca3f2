/* tests/study/test_allocation_ranks.c - where one rank of two is refused memory, wherever that is, both end with the same
 * failure: neither waits for the other for ever.  The quick test takes some requests, the long one all.
 * ranks: 2.  long: 2 */
#include "allocation.h"
#include <signal.h>

enum { QUICK = 3, PATIENCE = 120, GOES_ON = 8 };

/* The same on all ranks: rank 0's. */
static uint64_t digest_of(const char *folder, int study)
{
    uint64_t digest = test_comm()->rank == 0 ? allocation_digest(folder, study) : 0;
    hsgd_error err = {0};

    assert_ok(hsgd_comm_broadcast(test_comm(), 0, sizeof digest, &digest, &err));
    return digest;
}

/* All ranks' greatest. */
static int64_t most(int64_t mine)
{
    hsgd_error err = {0};

    assert_ok(hsgd_comm_max(test_comm(), HSGD_TYPE_I64, 1, &mine, &err));
    return mine;
}

static void remove_folder(const char *folder)
{
    (void)most(0);
    if (test_comm()->rank == 0) {
        scratch_remove(folder);
    }
    (void)most(0);
}

static char hanging[96]; /* the present case, for the handler */

/* Ranks that wait for each other for ever. */
static void on_alarm(int signal)
{
    (void)signal;
    (void)!write(STDERR_FILENO, hanging, strlen(hanging));
    _exit(1);
}

/* Request n of `rank` in the study is in vain. */
static void refused(const char *folder, int study, int rank, int64_t n, uint64_t want)
{
    const bool whole_again = n % GOES_ON == 0;
    hsgd_error err = {0};
    hsgd_status st;

    (void)snprintf(hanging, sizeof hanging, "study %d, request %lld of rank %d in vain: the ranks hang\n", study,
                   (long long)n, rank);
    (void)alarm(PATIENCE);
    allocation_begin(test_comm()->rank == rank ? n : 0);
    st = allocation_study(test_comm(), folder, study, false, &err);
    (void)allocation_end();
    if (most(st) != st || (st != HSGD_OK && (st != HSGD_ERR_MEMORY || !allocation_told(&err))) ||
        allocation.live != 0 || (test_comm()->rank == 0 && !allocation_files_whole(folder))) {
        fail_msg(
            "study %d, request %lld of rank %d in vain: rank %d has status %d, \"%s\", %lld blocks kept (the first of "
            "request %lld)",
            study, (long long)n, rank, test_comm()->rank, st, err.text, (long long)allocation.live,
            (long long)(allocation.live > 0 ? allocation.blocks[0].call : 0));
    }
    if (st == HSGD_OK || whole_again) {
        err = (hsgd_error){0};
        if (st != HSGD_OK) {
            assert_ok(allocation_study(test_comm(), folder, study, true, &err));
        }
        assert_true(digest_of(folder, study) == want);
    }
    (void)alarm(0);
    remove_folder(folder);
}

/* The requests of one study; returns how many there are. */
static int64_t refuse_all(const char *folder, int study, int64_t *cases)
{
    int64_t calls = 0;
    uint64_t want = 0;
    hsgd_error err = {0};

    allocation_begin(0);
    assert_ok(allocation_study(test_comm(), folder, study, false, &err));
    calls = most(allocation_end());
    assert_int_equal(allocation.live, 0);
    want = digest_of(folder, study);
    assert_true(want != 0);
    remove_folder(folder);
    for (int rank = 0; rank < 2; rank++) {
        for (int64_t n = whole_every_case() ? 1 : 1 + rank; n <= calls;
             n += whole_every_case() ? 1 : calls / QUICK + 1) {
            refused(folder, study, rank, n, want);
            ++*cases;
        }
    }
    return calls;
}

static void both_ranks_end_with_the_failure_of_one(void **state)
{
    const scratch *at = *state;
    char folder[512];
    int64_t calls = 0, cases = 0;

    assert_int_equal(test_comm()->ranks, 2);
    (void)snprintf(folder, sizeof folder, "%s/study", at->folder);
    for (int study = 0; study < ALLOCATION_STUDIES; study++) {
        calls += refuse_all(folder, study, &cases);
    }
    if (test_comm()->rank == 0) {
        print_message(
            "%lld of the %lld requests for memory of one of two ranks failed, one at a time: both ranks ended "
            "with it\n",
            (long long)cases, (long long)(2 * calls));
    }
    assert_true(cases >= 2 * ALLOCATION_STUDIES * ((int64_t)QUICK - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {scratch_test(both_ranks_end_with_the_failure_of_one)};

    (void)unsetenv("HSGD_DATA");
    (void)signal(SIGALRM, on_alarm);
    return test_run(tests);
}
