/* tests/base/test_base.c - the small parts of src/base: error, hash, nearest, shares, clock, progress. */
#include "base/clock.h"
#include "base/hash.h"
#include "base/nearest.h"
#include "base/progress.h"
#include "support.h"
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

static void exit_codes_are_the_documented_ones(void **state)
{
    (void)state;
    assert_int_equal(hsgd_error_exit_code(HSGD_OK), 0);
    assert_int_equal(hsgd_error_exit_code(HSGD_STOPPED), 75);
    assert_int_equal(hsgd_error_exit_code(HSGD_ERR_USAGE), 2);
    assert_int_equal(hsgd_error_exit_code(HSGD_ERR_DATA), 3);
    assert_int_equal(hsgd_error_exit_code(HSGD_ERR_NUMERIC), 4);
    assert_int_equal(hsgd_error_exit_code(HSGD_ERR_IO), 5);
    assert_int_equal(hsgd_error_exit_code(HSGD_ERR_MEMORY), 6);
    assert_int_equal(hsgd_error_exit_code(HSGD_ERR_DEVICE), 6);
}

static void an_error_holds_status_and_text_cut_to_its_room(void **state)
{
    hsgd_error err = {0};

    (void)state;
    assert_int_equal(hsgd_error_set(&err, HSGD_ERR_DATA, "%s:%d", "file", 7), HSGD_ERR_DATA);
    assert_int_equal(err.status, HSGD_ERR_DATA);
    assert_string_equal(err.text, "file:7");
    assert_int_equal(hsgd_error_set(&err, HSGD_ERR_IO, "%5000d", 1), HSGD_ERR_IO);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    assert_int_equal(hsgd_error_set(NULL, HSGD_ERR_IO, "unheard"), HSGD_ERR_IO);
}

static void a_number_that_is_not_finite_marks_its_failure_until_another_comes(void **state)
{
    hsgd_error err = {0};

    (void)state;
    assert_int_equal(hsgd_error_set(&err, HSGD_ERR_NUMERIC, "did not converge"), HSGD_ERR_NUMERIC);
    assert_false(err.not_finite);
    assert_int_equal(hsgd_error_set_not_finite(&err, "loss %d", 3), HSGD_ERR_NUMERIC);
    assert_int_equal(err.status, HSGD_ERR_NUMERIC);
    assert_string_equal(err.text, "loss 3");
    assert_true(err.not_finite);
    (void)hsgd_error_set(&err, HSGD_ERR_NUMERIC, "train: loss 3");
    assert_true(err.not_finite);
    (void)hsgd_error_set(&err, HSGD_ERR_IO, "disk");
    assert_false(err.not_finite);
    assert_int_equal(hsgd_error_set_not_finite(NULL, "unheard"), HSGD_ERR_NUMERIC);
}

/* Source: FIPS 180-4's examples, and the hash of nothing. */
static void sha256_gives_the_known_hashes(void **state)
{
    static const struct {
        const char *text, *hex;
    } known[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    hsgd_error err = {0};
    char hex[65];

    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const void *parts[] = {known[i].text};
        const size_t bytes[] = {strlen(known[i].text)};

        assert_ok(hsgd_sha256(1, parts, bytes, hex, &err));
        assert_string_equal(hex, known[i].hex);
    }
}

static void sha256_of_parts_is_that_of_the_whole(void **state)
{
    const void *parts[] = {"a", "", "bc"};
    const size_t bytes[] = {1, 0, 2};
    hsgd_error err = {0};
    char hex[65];

    (void)state;
    assert_ok(hsgd_sha256(3, parts, bytes, hex, &err));
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void the_nearest_word_is_found_unless_all_are_far(void **state)
{
    static const char *const words[] = {"train", "evaluate", "eigen", "density", "x"};
    char longest[5000];

    (void)state;
    assert_string_equal(hsgd_nearest("trian", words, 5), "train");
    assert_string_equal(hsgd_nearest("evalute", words, 5), "evaluate");
    assert_string_equal(hsgd_nearest("eigens", words, 5), "eigen");
    assert_string_equal(hsgd_nearest("dens", words, 5), "density");
    assert_string_equal(hsgd_nearest("train", words, 5), "train");
    assert_null(hsgd_nearest("qqqqqqqqqqqq", words, 5));
    assert_null(hsgd_nearest("train", words, 0));
    memset(longest, 'q', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    assert_null(hsgd_nearest(longest, words, 5));
}

/* Shares follow one another without gap or overlap, and differ by at most one. */
static void shares_cover_everything_evenly(void **state)
{
    static const int64_t counts[] = {0, 1, 6, 7, 8, 60000, INT64_C(1) << 40};

    (void)state;
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        for (int ranks = 1; ranks <= 9; ranks++) {
            int64_t next = 0;

            for (int rank = 0; rank < ranks; rank++) {
                int64_t low = -1, high = -1;

                hsgd_share(counts[c], rank, ranks, &low, &high);
                assert_true(low == next);
                assert_true(high - low == counts[c] / ranks || high - low == counts[c] / ranks + 1);
                next = high;
            }
            assert_true(next == counts[c]);
        }
    }
}

static void time_is_iso_8601_and_does_not_run_backwards(void **state)
{
    char text[32];
    int year, month, day, hour, minute, second, length = 0;
    const double before = hsgd_clock();

    (void)state;
    hsgd_clock_iso(text, sizeof text);
    assert_int_equal(sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2dZ%n", &year, &month, &day, &hour, &minute, &second, &length),
                     6);
    assert_int_equal(length, strlen(text));
    assert_int_equal(length, 20);
    assert_true(year >= 2024 && month >= 1 && month <= 12 && day <= 31 && hour <= 23 && minute <= 59 && second <= 60);
    assert_true(hsgd_clock() >= before);
}

/* What a progress of this kind says on standard output and standard error, each in text[256]. */
static void record(int rank, bool quiet, bool verbose, char *output, char *errors)
{
    FILE *files[] = {tmpfile(), tmpfile()};
    char *const texts[] = {output, errors};
    const int streams[] = {STDOUT_FILENO, STDERR_FILENO}, kept[] = {dup(STDOUT_FILENO), dup(STDERR_FILENO)};
    hsgd_progress *p = NULL;
    hsgd_error err = {0};

    assert_true(files[0] != NULL && files[1] != NULL && kept[0] >= 0 && kept[1] >= 0);
    (void)fflush(stdout);
    for (int i = 0; i < 2; i++) {
        assert_true(dup2(fileno(files[i]), streams[i]) >= 0);
    }
    if (hsgd_progress_create(rank, quiet, verbose, &p, &err) == HSGD_OK) {
        hsgd_progress_say(p, "said %d", 1);
        hsgd_progress_detail(p, "detail %d", 2);
        hsgd_progress_update(p, "train", "steps", 0, 10, "loss %g", 0.5);
        hsgd_progress_done(p);
        hsgd_progress_warn(p, "beware of %d", 3);
        hsgd_progress_destroy(&p);
    }
    (void)fflush(stdout);
    for (int i = 0; i < 2; i++) {
        size_t length;

        (void)dup2(kept[i], streams[i]);
        (void)close(kept[i]);
        rewind(files[i]);
        length = fread(texts[i], 1, 255, files[i]);
        texts[i][length] = '\0';
        (void)fclose(files[i]);
    }
    assert_int_equal(err.status, HSGD_OK);
    assert_null(p);
}

static volatile sig_atomic_t signals_seen;

static void on_signal(int signal)
{
    (void)signal;
    signals_seen = 1;
}

static void a_sleep_is_not_cut_short_by_signals(void **state)
{
    const struct sigaction heard = {.sa_handler = on_signal};
    const struct itimerval often = {{.tv_usec = 10000}, {.tv_usec = 10000}}, never = {{0}, {0}};
    struct sigaction before;
    double began;

    (void)state;
    assert_int_equal(sigaction(SIGALRM, &heard, &before), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
    began = hsgd_clock();
    hsgd_clock_sleep(0.25);
    assert_true(hsgd_clock() - began >= 0.25 - 1e-6); /* rounding of a double that counts from the machine's start */
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
    assert_int_equal(signals_seen, 1);
}

static void progress_says_what_was_asked_for_and_on_rank_zero_alone(void **state)
{
    static const char warning[] = "hsgd-dist: warning: beware of 3\n";
    const struct {
        int rank;
        bool quiet, verbose;
        const char *output, *errors;
    } cases[] = {
        {0, false, false, "said 1\n", warning},
        {0, false, true, "said 1\ndetail 2\n", warning},
        {0, true, false, "", warning},
        {1, false, true, "", ""},
    };
    char output[256], errors[256];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        record(cases[i].rank, cases[i].quiet, cases[i].verbose, output, errors);
        assert_string_equal(output, cases[i].output);
        assert_string_equal(errors, cases[i].errors);
    }
}

static void keep_text(void *context, const char *warning)
{
    (void)snprintf(context, 64, "%s", warning);
}

static void warnings_are_heard_on_rank_zero_until_nobody_listens(void **state)
{
    (void)state;
    for (int rank = 0; rank < 2; rank++) {
        hsgd_progress *p = NULL;
        hsgd_error err = {0};
        char heard[64] = "";

        assert_ok(hsgd_progress_create(rank, true, false, &p, &err));
        hsgd_progress_listen(p, keep_text, heard);
        hsgd_progress_warn(p, "a warning of a test: %d", 1);
        assert_string_equal(heard, rank == 0 ? "a warning of a test: 1" : "");
        hsgd_progress_listen(p, NULL, NULL);
        hsgd_progress_warn(p, "a warning of a test: %d", 2);
        assert_string_equal(heard, rank == 0 ? "a warning of a test: 1" : "");
        hsgd_progress_destroy(&p);
    }
}

static void the_pace_is_told_from_the_second_update_on_also_when_quiet(void **state)
{
    hsgd_progress *p = NULL;
    hsgd_error err = {0};
    double rate = 0.0, left = 0.0, began;

    (void)state;
    assert_ok(hsgd_progress_create(0, true, false, &p, &err));
    for (int stage = 0; stage < 2; stage++) { /* each begins its own estimate */
        hsgd_progress_pace(p, &rate, &left);
        assert_true(isnan(rate) && isnan(left));
        hsgd_progress_update(p, "eigen", "products", 10, 50, "of a state");
        hsgd_progress_pace(p, &rate, &left);
        assert_true(isnan(rate) && isnan(left));
        began = hsgd_clock();
        while (hsgd_clock() == began) {
        }
        hsgd_progress_update(p, "eigen", "products", 20, 50, "more");
        hsgd_progress_pace(p, &rate, &left);
        assert_true(rate > 0.0 && fabs(left * rate - 30.0) < 1e-9); /* what is left, at that rate */
        hsgd_progress_done(p);
    }
    hsgd_progress_destroy(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exit_codes_are_the_documented_ones),
        cmocka_unit_test(an_error_holds_status_and_text_cut_to_its_room),
        cmocka_unit_test(a_number_that_is_not_finite_marks_its_failure_until_another_comes),
        cmocka_unit_test(sha256_gives_the_known_hashes),
        cmocka_unit_test(sha256_of_parts_is_that_of_the_whole),
        cmocka_unit_test(the_nearest_word_is_found_unless_all_are_far),
        cmocka_unit_test(shares_cover_everything_evenly),
        cmocka_unit_test(time_is_iso_8601_and_does_not_run_backwards),
        cmocka_unit_test(a_sleep_is_not_cut_short_by_signals),
        cmocka_unit_test(progress_says_what_was_asked_for_and_on_rank_zero_alone),
        cmocka_unit_test(warnings_are_heard_on_rank_zero_until_nobody_listens),
        cmocka_unit_test(the_pace_is_told_from_the_second_update_on_also_when_quiet),
    };

    return test_run(tests);
}
