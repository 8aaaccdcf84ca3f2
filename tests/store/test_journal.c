/* tests/store/test_journal.c - mirrors src/store/journal.c: whole lines, appended, and nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include "scratch.h"
#include "store/journal.h"

static const char NAME[] = "metrics.jsonl";

static void assert_content(scratch *s, const char *want)
{
    char found[4096] = "";
    FILE *file = fopen(scratch_file(s, NAME), "rb");

    assert_non_null(file);
    found[fread(found, 1, sizeof found - 1, file)] = '\0';
    assert_int_equal(fclose(file), 0);
    assert_string_equal(found, want);
}

static void leave(scratch *s, const char *content)
{
    FILE *file = fopen(scratch_file(s, NAME), "wb");

    assert_non_null(file);
    assert_true(fputs(content, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* A run that adds one line. */
static void run(const char *folder, const char *line)
{
    hsgd_journal *j = NULL;
    hsgd_error err = {0};

    assert_ok(hsgd_journal_create(folder, NAME, &j, &err));
    assert_ok(hsgd_journal_open(j, &err));
    hsgd_journal_add(j, line);
    assert_ok(hsgd_journal_close(j, &err));
    hsgd_journal_destroy(&j);
    assert_null(j);
}

static void nothing_is_written_before_it_is_opened(void **state)
{
    scratch *s = *state;
    hsgd_journal *j = NULL;
    hsgd_error err = {0};
    char folder[512];

    (void)snprintf(folder, sizeof folder, "%s/a/b", s->folder);
    assert_ok(hsgd_journal_create(folder, NAME, &j, &err));
    hsgd_journal_add(j, "{\"n\": 1}\n");
    hsgd_journal_destroy(&j);
    assert_int_equal(scratch_entries(s), 0);

    assert_ok(hsgd_journal_create(folder, NAME, &j, &err));
    hsgd_journal_add(j, "{\"n\": 1}\n");
    hsgd_journal_add(j, "{\"n\": 2}\n");
    assert_false(hsgd_journal_is_open(j));
    assert_ok(hsgd_journal_open(j, &err));
    assert_true(hsgd_journal_is_open(j));
    assert_ok(hsgd_journal_open(j, &err)); /* once is enough */
    hsgd_journal_add(j, "{\"n\": 3}\n");
    (void)snprintf(s->folder, sizeof s->folder, "%.240s", folder);
    assert_content(s, "{\"n\": 1}\n{\"n\": 2}\n{\"n\": 3}\n"); /* there for readers before it is closed */
    assert_true(hsgd_journal_seconds(j) >= 0.0);
    hsgd_journal_destroy(&j);
    s->folder[strlen(s->folder) - strlen("/a/b")] = '\0';
}

static void half_a_line_is_cut_off_and_a_whole_one_never(void **state)
{
    static const char whole[] = "{\"event\": \"step\", \"text\": \"a } b \\\" { c\", \"n\": 1}";
    static const struct {
        const char *before, *kept;
    } cases[] = {
        {"", ""},
        {"{\"n\": 0}\n", "{\"n\": 0}\n"},
        {"{\"n\": 0}\n{", "{\"n\": 0}\n"},
        {"{\"n\": 0}\n\n", "{\"n\": 0}\n\n"},
        {"{\"n\": 0", ""},
        {"not JSON", ""},
        {"{\"n\": 0}\n{\"n\": 1}", "{\"n\": 0}\n{\"n\": 1}\n"}, /* whole but for its newline */
        {"{\"n\": 0}\n{\"n\": 1} ", "{\"n\": 0}\n"},
        {"{\"n\": 0}\n}", "{\"n\": 0}\n"},
        {"{\"n\": 0}\n{\"a\": {\"b\": 1}", "{\"n\": 0}\n"},
    };
    scratch *s = *state;
    char left[256], want[512];

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        leave(s, cases[i].before);
        run(s->folder, "{\"n\": 9}\n");
        (void)snprintf(want, sizeof want, "%s{\"n\": 9}\n", cases[i].kept);
        assert_content(s, want);
    }
    for (size_t cut = 0; cut <= strlen(whole); cut++) { /* killed after any byte */
        (void)snprintf(left, sizeof left, "{\"n\": 0}\n%.*s", (int)cut, whole);
        leave(s, left);
        run(s->folder, "{\"n\": 9}\n");
        (void)snprintf(want, sizeof want, "{\"n\": 0}\n%s%s{\"n\": 9}\n", cut == strlen(whole) ? whole : "",
                       cut == strlen(whole) ? "\n" : "");
        assert_content(s, want);
    }
}

static void half_a_line_may_be_long(void **state)
{
    enum { LONG = 100000 };
    scratch *s = *state;
    FILE *file = fopen(scratch_file(s, NAME), "wb");

    assert_non_null(file);
    assert_true(fputs("{\"n\": 0}\n{\"t\": \"", file) >= 0);
    for (int i = 0; i < LONG; i++) {
        assert_int_equal(fputc('x', file), 'x');
    }
    assert_int_equal(fclose(file), 0);
    run(s->folder, "{\"n\": 9}\n");
    assert_content(s, "{\"n\": 0}\n{\"n\": 9}\n");
}

static void a_full_disk_is_told_once_and_leaves_whole_lines(void **state)
{
    scratch *s = *state;
    struct rlimit before, narrow;
    hsgd_journal *j = NULL;
    hsgd_error err = {0};

    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    narrow = (struct rlimit){.rlim_cur = 20, .rlim_max = before.rlim_max};
    assert_ok(hsgd_journal_create(s->folder, NAME, &j, &err));
    assert_ok(hsgd_journal_open(j, &err));
    hsgd_journal_add(j, "{\"n\": 1}\n");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &narrow), 0);
    hsgd_journal_add(j, "{\"n\": \"no room for this\"}\n"); /* half of it fits */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    hsgd_journal_add(j, "{\"n\": 3}\n"); /* not after a gap */
    assert_int_equal(hsgd_journal_state(j, &err), HSGD_ERR_IO);
    assert_non_null(strstr(err.text, "metrics.jsonl: cannot write"));
    assert_non_null(strstr(err.text, strerror(EFBIG)));
    assert_int_equal(hsgd_journal_close(j, &err), HSGD_ERR_IO);
    hsgd_journal_destroy(&j);
    assert_content(s, "{\"n\": 1}\n");
}

static void what_is_no_file_is_refused(void **state)
{
    scratch *s = *state;
    hsgd_journal *j = NULL;
    hsgd_error err = {0};

    assert_int_equal(mkdir(scratch_file(s, NAME), 0777), 0);
    assert_ok(hsgd_journal_create(s->folder, NAME, &j, &err));
    assert_int_equal(hsgd_journal_open(j, &err), HSGD_ERR_IO);
    assert_non_null(strstr(err.text, strerror(EISDIR)));
    hsgd_journal_destroy(&j);
    assert_int_equal(rmdir(scratch_file(s, NAME)), 0);

    assert_int_equal(mkfifo(scratch_file(s, NAME), 0666), 0);
    assert_ok(hsgd_journal_create(s->folder, NAME, &j, &err));
    assert_int_equal(hsgd_journal_open(j, &err), HSGD_ERR_IO);
    assert_non_null(strstr(err.text, "not a regular file"));
    hsgd_journal_destroy(&j);

    assert_ok(hsgd_journal_create(s->file, "below", &j, &err)); /* a folder that is none */
    assert_int_equal(hsgd_journal_open(j, &err), HSGD_ERR_IO);
    assert_int_equal(hsgd_journal_open(j, &err), HSGD_ERR_IO);
    assert_false(hsgd_journal_is_open(j));
    hsgd_journal_destroy(&j);
}

static void without_a_journal_nothing_is_done(void **state)
{
    hsgd_journal *none = NULL;
    hsgd_error err = {0};

    (void)state;
    assert_ok(hsgd_journal_open(none, &err));
    assert_false(hsgd_journal_is_open(none));
    hsgd_journal_add(none, "x\n");
    assert_ok(hsgd_journal_state(none, &err));
    assert_true(hsgd_journal_seconds(none) == 0.0);
    assert_ok(hsgd_journal_close(none, &err));
    hsgd_journal_destroy(&none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(nothing_is_written_before_it_is_opened),
        scratch_test(half_a_line_is_cut_off_and_a_whole_one_never),
        scratch_test(half_a_line_may_be_long),
        scratch_test(a_full_disk_is_told_once_and_leaves_whole_lines),
        scratch_test(what_is_no_file_is_refused),
        scratch_test(without_a_journal_nothing_is_done),
    };

    return test_run(tests);
}
