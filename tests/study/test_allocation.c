/* tests/study/test_allocation.c - whichever request for memory fails in a study of all stages, it ends with that failure,
 * gives back what it took, leaves whole files, and can be gone on with.  The quick test takes some of them.  ranks: 1.  long: 1 */
#include "allocation.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { QUICK = 20, GOES_ON = 8, PATIENCE = 120 }; /* GOES_ON: of so many cases one is gone on with */

/* What the children tell. */
typedef struct {
    int study;     /* which */
    int64_t calls; /* for memory, of the undisturbed study */
    uint64_t digest;
    int64_t optional; /* failures that changed nothing but time */
} told;

/* In a child: the study with request number n in vain (0: none).  The exit code is 0 where all is as it should be. */
static int child(const char *folder, int64_t n, told *all)
{
    hsgd_comm *comm = NULL;
    hsgd_error err = {0};
    hsgd_status st = HSGD_OK;
    bool good = true;

    (void)alarm(PATIENCE); /* kills a study that hangs */
    allocation_begin(n);
    st = hsgd_comm_serial_create(&comm, &err);
    if (st == HSGD_OK) {
        st = allocation_study(comm, folder, all->study, false, &err);
    }
    hsgd_comm_destroy(&comm);
    (void)allocation_end();
    if (n == 0) {
        all->calls = allocation.calls;
        all->digest = allocation_digest(folder, all->study);
    }
    good = st == HSGD_OK ? allocation_digest(folder, all->study) == all->digest
                         : n > 0 && st == HSGD_ERR_MEMORY && allocation_told(&err);
    all->optional += n > 0 && st == HSGD_OK;
    if (!good || allocation.live != 0 || allocation.overflowed || !allocation_files_whole(folder)) {
        (void)fprintf(stderr,
                      "request %lld for memory in vain: status %d, \"%s\", %lld blocks kept (the first of request "
                      "%lld)\n",
                      (long long)n, st, err.text, (long long)allocation.live,
                      (long long)(allocation.live > 0 ? allocation.blocks[0].call : 0));
        return 1;
    }
    if (n % GOES_ON == 0) {
        err = (hsgd_error){0};
        st = hsgd_comm_serial_create(&comm, &err);
        st = st == HSGD_OK ? allocation_study(comm, folder, all->study, true, &err) : st;
        if (st != HSGD_OK || allocation_digest(folder, all->study) != all->digest) {
            (void)fprintf(stderr, "after request %lld in vain it does not go on: status %d, \"%s\"\n", (long long)n, st,
                          err.text);
            return 1;
        }
    }
    return 0;
}

/* The case in a process of its own: true where it ended well. */
static bool ends_well(const char *folder, int64_t n, told *all)
{
    int status = 0;
    const pid_t pid = fork();

    if (pid == 0) {
        _exit(child(folder, n, all));
    }
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    if (WIFSIGNALED(status)) {
        print_message("request %lld for memory in vain: %s\n", (long long)n,
                      WTERMSIG(status) == SIGALRM ? "it hangs" : strsignal(WTERMSIG(status)));
    }
    scratch_remove(folder);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void every_request_for_memory_may_fail(void **state)
{
    const char *where = getenv("TMPDIR");
    char place[256], folder[300];
    told *all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int64_t cases = 0, calls = 0, bad = 0;

    (void)state;
    assert_true(all != MAP_FAILED);
    (void)snprintf(place, sizeof place, "%.200s/hsgd-allocation-XXXXXX", where != NULL ? where : "/tmp");
    assert_non_null(mkdtemp(place));
    (void)snprintf(folder, sizeof folder, "%s/study", place);
    for (int study = 0; study < ALLOCATION_STUDIES; study++) {
        int64_t step = 1;

        all->study = study;
        assert_true(ends_well(folder, 0, all));
        assert_true(all->calls > QUICK && all->digest != 0);
        step = whole_every_case() ? 1 : all->calls / QUICK + 1;
        calls += all->calls;
        for (int64_t n = 1; n <= all->calls; n += step) {
            bad += !ends_well(folder, n, all);
            cases++;
        }
    }
    print_message(
        "%lld of the %lld requests for memory of %d studies failed, one at a time: %lld crashed, hung, leaked or "
        "left something half done; %lld could be done without\n",
        (long long)cases, (long long)calls, ALLOCATION_STUDIES, (long long)bad, (long long)all->optional);
    assert_int_equal(bad, 0);
    scratch_remove(place);
    (void)munmap(all, sizeof *all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_request_for_memory_may_fail)};

    (void)unsetenv("HSGD_DATA");
    return test_run(tests);
}
