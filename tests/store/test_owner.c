/* tests/store/test_owner.c - mirrors src/store/owner.c: what one run writes of itself another reads.
 * ranks: 1 */
#include "store/owner.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "support.h"

static void what_is_written_is_read(void **state)
{
    char text[OWNER_TEXT], host[64] = "";
    owner self, named;

    (void)state;
    assert_int_equal(unsetenv("SLURM_JOB_ID"), 0); /* also where these tests are a job of Slurm's */
    assert_int_equal(setenv("PBS_JOBID", "77[3].server", 1), 0);
    self = owner_self();
    assert_int_equal(unsetenv("PBS_JOBID"), 0);
    assert_int_equal(gethostname(host, sizeof host - 1), 0);
    assert_int_equal(self.pid, getpid());
    assert_string_equal(self.host, host);
    assert_string_equal(self.job, "77[3].server");
    owner_format(&self, text);
    named = owner_named_in(text);
    assert_int_equal(named.pid, self.pid);
    assert_string_equal(named.host, self.host);
    assert_string_equal(named.job, self.job);
}

static void the_longest_words_fit(void **state)
{
    char text[OWNER_TEXT];
    owner self = {.pid = 2147483647}, named;

    (void)state;
    memset(self.host, 'h', sizeof self.host - 1);
    memset(self.job, 'j', sizeof self.job - 1);
    owner_format(&self, text);
    assert_non_null(strstr(text, "\nsince 2"));
    assert_int_equal(text[strlen(text) - 1], '\n');
    named = owner_named_in(text);
    assert_string_equal(named.host, self.host);
    assert_string_equal(named.job, self.job);
    assert_non_null(strstr(owner_words(&named).text, "jjj)"));
}

static void other_texts_name_nobody(void **state)
{
    static const char *const texts[] = {"", "\n", "host node17", "host node17\npid x\n", "pid 4711\n", "4711"};

    (void)state;
    for (int i = 0; i < 6; i++) {
        const owner named = owner_named_in(texts[i]);

        assert_int_equal(named.pid, 0);
        assert_string_equal(owner_words(&named).text, "another process");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(the_longest_words_fit),
        cmocka_unit_test(other_texts_name_nobody),
    };

    return test_run(tests);
}
