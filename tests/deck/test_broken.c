/* tests/deck/test_broken.c - every wrong deck or word is refused as usage, with its place, what is wrong, how to mend. */
#include "deck/deck.h"
#include "support.h"
#include <stdlib.h>
#include <unistd.h>

typedef struct {
    const char *text;     /* of the deck x.ini, or NULL */
    const char *word;     /* beside it, or NULL */
    const char *fragment; /* of the message */
} broken;

/* Form of the file. */
static const broken FORMS[] = {
    {"epochs = 3\n", NULL, "x.ini:1: 'epochs' stands before any section"},
    {"\n\nepochs = 3\n[train]\n", NULL, "x.ini:3: "},
    {"train\n", NULL, "x.ini:1: neither [section] nor key = value"},
    {"[train]\nepochs 3\n", NULL, "x.ini:2: neither [section] nor key = value"},
    {"[train]\nepochs ; = 3\n", NULL, "x.ini:2: neither"},
    {"[train]\nepochs 3\n[trian]\n", NULL, "x.ini:2: neither"}, /* the first error is the one told */
    {"[train]\nepochs 3\nlr = x\nbatch = 0\n", NULL, "x.ini:2: neither"},
    {"[train]\n= 3\n", NULL, "x.ini:2: no key before '='"},
    {"[]\n", NULL, "x.ini:1: a section without a name"},
    {"[]\nepochs = 3\n", NULL, "x.ini:1: a section without a name"},
    {"[train\nepochs = 3\n", NULL, "x.ini:1: a section without ']'"},
    {"[", NULL, "x.ini:1: a section without ']'"},
    {"[train] epochs = 3\n", NULL, "x.ini:1: text after [train]"},
    {"[[train]]\n", NULL, "x.ini:1: [[train]: unknown section; did you mean 'train'?"},
    {"[trian]\n", NULL, "x.ini:1: [trian]: unknown section; did you mean 'train'?"},
    {"# one\n[run]\n\n[ train ]\n", NULL, "x.ini:4: [ train ]: unknown section"},
    {"[Train]\n", NULL, "did you mean 'train'?"},
    {"[zzzzzzzzzzzzzzzz]\n", NULL, "see --help for all sections"},
    {"[\xff\xfe\x01]\n", NULL, "x.ini:1: [???]: unknown section"},
    {"\t\xef\xbb\xbf[trian]\n", NULL, "x.ini:1: [trian]: unknown section"},
    {"\xef\xbb\xbf\xef\xbb\xbf[\x10]\nseed = 7\n", NULL, "x.ini:1: [?]: unknown section"},
    {"\n\xef\xbb\xbf[train]\n", NULL, "x.ini:2: neither [section] nor key = value"},
    {"[train]\nbathc = 3\n", NULL, "x.ini:2: [train] bathc: unknown key; did you mean 'batch'?"},
    {"[train]\nprobes = 3\n", NULL, "x.ini:2: [train] probes: unknown key; did you mean the one of [density]?"},
    {"[train]\nqqqqqqqqqqqqqq = 3\n", NULL, "see --help for the keys of [train]"},
    {"[train]\nEpochs = 3\n", NULL, "did you mean 'epochs'?"},
    {"[train]\n\xe2\x82\xac = 3\n", NULL, "x.ini:2: [train] ???: unknown key"},
    {"[train]\nbatch = 3\nlr = 1\nbatch = 3\n", NULL, "x.ini:4: [train] batch: set before, in line 2"},
    {"[train]\nbatch = 3\n[run]\n[train]\nbatch = 4\n", NULL, "x.ini:5: [train] batch: set before, in line 2"},
    {"[eigen]\ncount = 1\n[train]\nbatch = zero\n", NULL, "x.ini:4: [train] batch: 'zero'"},
    {"\xef\xbb\xbf[train]\r\n\r\nbatch = zero\r\n", NULL, "x.ini:3: [train] batch: 'zero'"},
    {"<html>\n</html>\n", NULL, "x.ini:1: neither"},
    {"{\"run\": {\"seed\": 1}}\n", NULL, "x.ini:1: '{\"run\"' stands before any section"},
    {"[train]\nepochs = 3 \\", NULL, "x.ini:2: ends with a backslash"},
    {"[run]\noutput = a\\\n\n", NULL, "ends with a backslash"},
    {"[train]\nepochs = 1\\\n2 x\n", NULL, "x.ini:2: [train] epochs: '12 x' is not a whole number"},
};

/* Single values, in a file. */
static const broken VALUES[] = {
    {"[train]\nepochs = 3.5\n", NULL,
     "x.ini:2: [train] epochs: '3.5' is not a whole number; give one, 0 to 1000000000"},
    {"[train]\nepochs = -1\n", NULL, "'-1' is out of range; give a whole number, 0 to 1000000000"},
    {"[train]\nepochs = 1e3\n", NULL, "is not a whole number"},
    {"[train]\nepochs = 0x10\n", NULL, "is not a whole number"},
    {"[train]\nepochs = 3 # passes\n", NULL, "holds a comment"},
    {"[train]\nepochs =\n", NULL, "x.ini:2: [train] epochs: no value; give 0 to 1000000000"},
    {"[train]\nepochs = 18446744073709551616\n", NULL, "is out of range"}, /* 2^64 */
    {"[train]\nepochs = 4294967297\n", NULL, "is out of range"},           /* 2^32 + 1 */
    {"[train]\nbatch = 0\n", NULL, "'0' is out of range; give a whole number, 1 to"},
    {"[run]\nseed = 9223372036854775808\n", NULL, "is out of range; give a whole number, >= 0"},
    {"[run]\nseed = -1\n", NULL, "is out of range"},
    {"[train]\nlr = nan\n", NULL, "x.ini:2: [train] lr: 'nan' is not a number"},
    {"[train]\nlr = inf\n", NULL, "'inf' is not a number"},
    {"[train]\nlr = 1e999\n", NULL, "'1e999' is out of range; give a number, > 0"},
    {"[train]\nlr = 1e-999\n", NULL, "'1e-999' is out of range"},
    {"[train]\nlr = 0x1p3\n", NULL, "is not a number"},
    {"[train]\nlr = 0.1x\n", NULL, "is not a number"},
    {"[train]\nlr = 0,1\n", NULL, "is not a number"},
    {"[train]\nlr = 0.1 0.2\n", NULL, "is not a number"},
    {"[train]\nlr = 0\n", NULL, "is out of range; give a number, > 0"},
    {"[train]\nmomentum = 1\n", NULL, "is out of range; give a number, >= 0 and < 1"},
    {"[train]\ndampening = 1.5\n", NULL, "give a number, >= 0 and <= 1"},
    {"[train]\nweight_decay = -1e-9\n", NULL, "is out of range"},
    {"[train]\nshuffle = maybe\n", NULL, "'maybe' is neither true nor false"},
    {"[eigen]\nmethod = lanzcos\n", NULL, "did you mean 'lanczos'?"},
    {"[eigen]\nwhich = qqqqqqqqqqq\n", NULL, "give both | largest | smallest | magnitude"},
    {"[eigen]\ncount = 0\n", NULL, "is out of range"},
    {"[eigen]\ntolerance = 0\n", NULL, "is out of range"},
    {"[density]\nbins = 1\n", NULL, "give a whole number, 2 to"},
    {"[density]\nsteps = 0\n", NULL, "is out of range"},
    {"[run]\ntime_limit = 0\n", NULL, "give a number, auto | > 0"},
    {"[run]\ntime_limit = -1\n", NULL, "is out of range"},
    {"[run]\ntime_limit = soon\n", NULL, "is not a number"},
    {"[run]\noutput =\n", NULL, "x.ini:2: [run] output: '' is empty; give FOLDER"},
    {"[run]\noutput = a\x01z\n", NULL, "'a?z' holds a byte (0x01)"},
    {"[run]\noutput = \xff\xfe\n", NULL, "holds a byte (0xff) that is no UTF-8 text"},
    {"[run]\noutput = \xed\xa0\x80\n", NULL, "holds a byte (0xed)"}, /* a surrogate */
    {"[run]\noutput = \xc3\n", NULL, "holds a byte (0xc3)"},         /* cut short */
    {"[run]\noutput = \xf5\x80\x80\x80\n", NULL, "holds a byte (0xf5)"},
    {"[run]\noutput = results #1\n", NULL, "holds a comment"},
};

/* Texts of several values, and keys against one another. */
static const broken TOGETHER[] = {
    {"[run]\nstages = train evalute\n", NULL,
     "x.ini:2: [run] stages: unknown stage 'evalute'; did you mean 'evaluate'?"},
    {"[run]\nstages = train,eigen\n", NULL, "unknown stage 'train,eigen'"},
    {"[run]\nstages = eigen train eigen\n", NULL, "'eigen' stands there twice"},
    {"[run]\n\nstages = hvp\n", NULL, "x.ini:3: [run] stages: the stage hvp needs hvp.vectors"},
    {"[data]\nnormalize = 0.1\n", NULL, "x.ini:2: [data] normalize: '0.1' is not a mean and a standard deviation"},
    {"[data]\nnormalize = 0.1 0\n", NULL, "standard deviation > 0"},
    {"[data]\nnormalize = 0.1 -2\n", NULL, "standard deviation > 0"},
    {"[data]\nnormalize = nan 1\n", NULL, "standard deviation > 0"},
    {"[data]\nnormalize = 0 1 2\n", NULL, "standard deviation > 0"},
    {"[data]\nnormalize = none none\n", NULL, "standard deviation > 0"},
    {"[train]\nschedule = cosin\n", NULL, "did you mean 'cosine'?"},
    {"[train]\nschedule = step 2\n", NULL, "step EPOCHS FACTOR"},
    {"[train]\nschedule = step 0 0.1\n", NULL, "both > 0"},
    {"[train]\nschedule = step 2 0.1 3\n", NULL, "'step 2 0.1 3' is no schedule"},
    {"[train]\nschedule = cosine 3\n", NULL, "'cosine 3' is no schedule"},
    {"[train]\nnesterov = true\n", NULL, "x.ini:2: [train] nesterov: needs train.momentum > 0 and train.dampening = 0"},
    {"[train]\nnesterov = true\nmomentum = 0.9\ndampening = 0.1\n", NULL, "which are 0.9 and 0.1"},
    {"[hessian]\ncache = lots\n", NULL, "x.ini:2: [hessian] cache: 'lots' is no number of bytes"},
    {"[hessian]\ncache = -1\n", NULL, "is no number of bytes"},
    {"[hessian]\ncache = 1.5G\n", NULL, "is no number of bytes"},
    {"[hessian]\ncache = 2GB\n", NULL, "is no number of bytes"},
    {"[hessian]\ncache = 8589934592G\n", NULL, "is no number of bytes"}, /* 2^63 */
    {"[hessian]\ncache = 99999999999999999999\n", NULL, "is no number of bytes"},
    {"[eigen]\n\nmethod = power\n", NULL,
     "x.ini:3: [eigen] method: power finds eigenvalues by magnitude alone; set eigen.which = magnitude"},
    {"[eigen]\nmethod = power\nwhich = smallest\n", NULL, "eigen.which = magnitude"},
    {"[landscape]\ndirections = up\n", NULL, "x.ini:2: [landscape] directions: unknown direction 'up'"},
    {"[landscape]\ndirections = eigenvector0\n", NULL, "unknown direction 'eigenvector0'"},
    {"[landscape]\ndirections = eigenvector1x\n", NULL, "unknown direction 'eigenvector1x'"},
    {"[landscape]\ndirections = randon\n", NULL, "did you mean 'random'?"},
    {"[landscape]\ndirections = file\n", NULL, "unknown direction 'file'"},
    {"[landscape]\ndirections = file1\n", NULL, "'file1' needs landscape.vectors"},
    {"[landscape]\ndirections = random gradient random\n", NULL, "'random' stands there twice"},
    {"[landscape]\ndirections =\n", NULL, "no direction and no plane"},
    {"[landscape]\nplane = random\n", NULL, "x.ini:2: [landscape] plane: 1 direction;"},
    {"[landscape]\nplane = random gradient eigenvector\n", NULL, "3 directions;"},
    {"[landscape]\nplane = random random\n", NULL, "'random' stands there twice"},
    {"[landscape]\nplane = eigenvector eigenvector1\n", NULL, "are one direction"},
};

#define TABS_7  "\t\t\t\t\t\t\t"
#define TABS_28 TABS_7 TABS_7 TABS_7 TABS_7

/* Words, alone or beside a file. */
static const broken WORDS[] = {
    {NULL, "train.bathc=3", "word 'train.bathc=3': unknown key 'bathc' in [train]; did you mean 'batch'?"},
    {NULL, "trian.batch=3", "word 'trian.batch=3': unknown section 'trian'; did you mean 'train'?"},
    {NULL, "train.batch=0", "word 'train.batch=0': '0' is out of range; give a whole number, 1 to"},
    {NULL, "train.batch", "word 'train.batch': no '='; write section.key=value"},
    {NULL, "train.batch=", "word 'train.batch=': no value"},
    {NULL, "train.batch= 3 4", "is not a whole number"},
    {NULL, "", "word '': no '='"},
    {NULL, "=1", "word '=1': no section"},
    {NULL, "seed=1", "word 'seed=1': no section; write run.seed=value"},
    {NULL, "sede=1", "no section; write section.key=value"},
    {NULL, ".seed=1", "unknown section ''"},
    {NULL, "run.=1", "unknown key '' in [run]"},
    {NULL, "run.seed.x=1", "unknown key 'seed.x' in [run]"},
    {NULL, "run.output=", "word 'run.output=': '' is empty"},
    {NULL, "run.output=a;b ;c", "holds a comment"},
    {NULL, "run.output=a\nb", "holds a byte (0x0a)"},
    {NULL, "run.output=a\\", "ends with a backslash"},
    {NULL, "run.output=a" TABS_28 TABS_28 "b", "holds more than 55 blanks, tabs, '#' or ';' in a row"},
    {NULL, "run.output=a########################################################",
     "holds more than 55 blanks, tabs, '#' or ';' in a row"},
    {NULL, "run.stages=", "word 'run.stages=': '' is empty"},
    {NULL, "run.stages= ", "word 'run.stages= ': '' is empty"},
    {NULL, "eigen.method=power", "word 'eigen.method=power': power finds eigenvalues by magnitude alone"},
    {"[eigen]\nwhich = magnitude\nmethod = power\n", "eigen.which=both", "x.ini:3: [eigen] method: power"},
    {"[train]\nbatch = 3\n", "train.batch=x", "word 'train.batch=x'"},
    {NULL, "train.momentum=1e999", "'1e999' is out of range"},
    {NULL, "train.nesterov=yes", "word 'train.nesterov=yes': needs train.momentum"},
};

static void expect(const broken *b)
{
    static const char ending[] = "; ";
    hsgd_error err = {0};
    hsgd_deck deck;
    const hsgd_status st = hsgd_deck_resolve_text("x.ini", b->text, &b->word, b->word != NULL, &deck, &err);

    if (st != HSGD_ERR_USAGE || err.status != st || strstr(err.text, b->fragment) == NULL) {
        fail_msg("deck \"%s\", word \"%s\": status %d, \"%s\" instead of \"%s\"", b->text != NULL ? b->text : "",
                 b->word != NULL ? b->word : "", st, err.text, b->fragment);
    }
    if (strstr(err.text, ending) == NULL) {
        fail_msg("\"%s\" does not say how to mend it", err.text);
    }
    for (const char *c = err.text; *c != '\0'; c++) {
        assert_in_range(*c, ' ', '~'); /* whatever the deck holds, a terminal can show the message */
    }
}

#define EXPECT_ALL(table)                                                                                              \
    for (size_t i = 0; i < sizeof(table) / sizeof(table)[0]; i++) {                                                    \
        expect(&(table)[i]);                                                                                           \
    }

static void a_malformed_file_is_refused_at_its_line(void **state)
{
    (void)state;
    EXPECT_ALL(FORMS)
}

static void a_value_of_wrong_type_or_range_is_refused(void **state)
{
    (void)state;
    EXPECT_ALL(VALUES)
}

static void values_that_contradict_one_another_are_refused(void **state)
{
    (void)state;
    EXPECT_ALL(TOGETHER)
}

static void a_wrong_word_is_refused_by_name(void **state)
{
    (void)state;
    EXPECT_ALL(WORDS)
}

/* `size` bytes: `head`, then as many `c`, then `tail`. */
static char *long_text(size_t size, const char *head, char c, const char *tail)
{
    char *text = malloc(size + 1);

    assert_non_null(text);
    memset(text, c, size);
    memcpy(text, head, strlen(head));
    memcpy(text + size - strlen(tail), tail, strlen(tail));
    text[size] = '\0';
    return text;
}

static void a_line_or_file_or_word_that_is_too_long_is_refused(void **state)
{
    char *line = long_text(100000, "[run]\noutput = ", 'x', "\n");
    char *section = long_text(100000, "[", 'x', "]\n");
    char *file = long_text(HSGD_DECK_LONGEST + 1, "[run]\n", '\n', "\n");
    char *word = long_text(100000, "run.output=", 'x', "");
    char *name = long_text(100000, "train.", 'x', "=3");

    (void)state;
    expect(&(broken){line, NULL, "x.ini:2: a line of 99993 bytes; at most "});
    expect(&(broken){section, NULL, "x.ini:1: a line of 99999 bytes"});
    expect(&(broken){file, NULL, "x.ini: more than 1048576 bytes"});
    expect(&(broken){NULL, word, "is 99989 bytes long; a value has at most 1023"});
    expect(&(broken){NULL, name, "xx...': unknown key 'xx"});
    free(line);
    free(section);
    free(file);
    free(word);
    free(name);
}

static void a_value_longer_than_the_deck_holds_is_refused_also_over_many_lines(void **state)
{
    char *text = malloc(64 * 110 + 64), *end = text + sprintf(text, "[run]\noutput = a\\\n");

    (void)state;
    for (int i = 0; i < 64; i++) {
        end += sprintf(end, "%099d\\\n", i);
    }
    (void)sprintf(end, "end\n");
    expect(&(broken){text, NULL, "x.ini:2: [run] output: the value has more than 1023 bytes"});
    free(text);
}

/* Write bytes[size] to a new file and expect the message `fragment` for it. */
static void expect_file(const char *bytes, size_t size, const char *fragment)
{
    char path[] = "/tmp/hsgd_deck_XXXXXX";
    const int file = mkstemp(path);
    hsgd_error err = {0};
    hsgd_deck deck;

    assert_true(file >= 0);
    assert_int_equal(write(file, bytes, size), size);
    assert_int_equal(close(file), 0);
    assert_int_equal(hsgd_deck_resolve(path, NULL, 0, &deck, &err), HSGD_ERR_USAGE);
    assert_int_equal(unlink(path), 0);
    if (strstr(err.text, fragment) == NULL || strncmp(err.text, path, strlen(path)) != 0) {
        fail_msg("\"%s\" instead of \"%s\"", err.text, fragment);
    }
}

static void a_file_that_is_no_text_is_refused(void **state)
{
    static const char *const absent[] = {"/nowhere/deck.ini", "", "/"};
    char *large = long_text(HSGD_DECK_LONGEST + 1, "[run]\n", '\n', "\n");
    hsgd_error err = {0};
    hsgd_deck deck;

    (void)state;
    expect_file("[run]\nseed = 1\n\0\n", 17, ":3: a NUL byte; a deck is plain text");
    expect_file(large, HSGD_DECK_LONGEST + 1, ": 1048577 bytes; a deck has at most 1048576");
    expect_file("[run]\nsede = 1\n", 15, ":2: [run] sede: unknown key; did you mean 'seed'?");
    free(large);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(hsgd_deck_resolve(absent[i], NULL, 0, &deck, &err), HSGD_ERR_USAGE);
        assert_non_null(strstr(err.text, "; name "));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_malformed_file_is_refused_at_its_line),
        cmocka_unit_test(a_value_of_wrong_type_or_range_is_refused),
        cmocka_unit_test(values_that_contradict_one_another_are_refused),
        cmocka_unit_test(a_wrong_word_is_refused_by_name),
        cmocka_unit_test(a_line_or_file_or_word_that_is_too_long_is_refused),
        cmocka_unit_test(a_value_longer_than_the_deck_holds_is_refused_also_over_many_lines),
        cmocka_unit_test(a_file_that_is_no_text_is_refused),
    };

    return test_run(tests);
}
