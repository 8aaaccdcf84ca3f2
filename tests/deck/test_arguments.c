/* tests/deck/test_arguments.c - mirrors src/deck/arguments.c: what each word of a command line is taken for. */
#include "deck/arguments.h"
#include "support.h"

enum { MOST = 8 };

typedef struct {
    const char *word[MOST];
    const char *says; /* of the refusal */
} refused;

/* Parse the words behind the program's name; they end with a NULL. */
static hsgd_status parse(const char *const *words, hsgd_arguments *out, hsgd_error *err)
{
    char *argv[MOST + 2] = {(char *)"hsgd-dist"};
    int argc = 1;

    while (words[argc - 1] != NULL) {
        argv[argc] = (char *)words[argc - 1]; /* as main gets them; nothing writes to them */
        argc++;
    }
    return hsgd_arguments_parse(argc, argv, out, err);
}

static void options_words_and_the_deck_come_in_any_order(void **state)
{
    static const char *const words[] = {"train.lr=0.1", "--dry-run", "a.ini", "--verbose", "=", "--restart", NULL};
    hsgd_arguments a;
    hsgd_error err = {0};

    (void)state;
    assert_ok(parse(words, &a, &err));
    assert_string_equal(a.input, "a.ini");
    assert_int_equal(a.count, 2);
    assert_string_equal(a.words[0], "train.lr=0.1");
    assert_string_equal(a.words[1], "=");
    assert_true(a.dry_run && a.verbose && a.restart);
    assert_false(a.quiet || a.help || a.version);
    hsgd_arguments_free(&a);
    assert_null(a.words);
}

static void no_word_is_the_built_in_study(void **state)
{
    static const char *const none[] = {NULL};
    char *nothing[] = {NULL};
    hsgd_arguments a;
    hsgd_error err = {0};

    (void)state;
    assert_ok(parse(none, &a, &err));
    assert_null(a.input);
    assert_int_equal(a.count, 0);
    hsgd_arguments_free(&a);
    assert_ok(hsgd_arguments_parse(0, nothing, &a, &err)); /* a program may be started without even its name */
    assert_int_equal(a.count, 0);
    hsgd_arguments_free(&a);
}

static void what_is_wrong_is_said_in_one_printable_line(void **state)
{
    static const refused table[] = {
        {{"--dryrun"}, "unknown option '--dryrun'; did you mean '--dry-run'?"},
        {{"a.ini", "-x=1"}, "unknown option '-x=1'"},
        {{"--qqqqqqqqqqqqqqqq"}, "see --help"},
        {{"--res\ntart\x1b[2J"}, "unknown option '--res?tart?[2J'"},
        {{"a.ini", "b\n.ini"}, "two input decks, 'a.ini' and 'b?.ini'"},
        {{"--restart", ""}, "an empty word"},
        {{"--quiet", "--verbose"}, "give one of them"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        hsgd_arguments a;
        hsgd_error err = {0};

        assert_int_equal(parse(table[i].word, &a, &err), HSGD_ERR_USAGE);
        assert_non_null(strstr(err.text, "command line: "));
        if (strstr(err.text, table[i].says) == NULL || strpbrk(err.text, "\n\x1b") != NULL) {
            fail_msg("\"%s\" (wanted \"%s\")", err.text, table[i].says);
        }
        hsgd_arguments_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_words_and_the_deck_come_in_any_order),
        cmocka_unit_test(no_word_is_the_built_in_study),
        cmocka_unit_test(what_is_wrong_is_said_in_one_printable_line),
    };

    return test_run(tests);
}
