/* tests/deck/test_broken.c - every wrong deck or word is refused as usage, and the message says what is wrong. */
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
    {"epochs = 3\n", NULL, "x.ini:1: 'epochs' stands before the first section; put it under one, such as [run]"},
    {"\n\nepochs = 3\n[train]\n", NULL,
     "x.ini:3: 'epochs' stands before the first section; put it under one, such as [run]"},
    {"train\n", NULL, "x.ini:1: 'train' is no 'key = value'; comments begin with # or ;"},
    {"[train]\nepochs 3\n", NULL, "x.ini:2: 'epochs 3' is no 'key = value'; comments begin with # or ;"},
    {"[train]\nepochs ; = 3\n", NULL, "x.ini:2: not in INI form; write [section] and key = value lines"},
    {"[train]\nepochs 3\n[trian]\n", NULL,
     "x.ini:2: 'epochs 3' is no 'key = value'; comments begin with # or ;"}, /* the first error is the one told */
    {"[train]\nepochs 3\nlr = x\nbatch = 0\n", NULL,
     "x.ini:2: 'epochs 3' is no 'key = value'; comments begin with # or ;"},
    {"[train]\n= 3\n", NULL, "x.ini:2: [train] : unknown key; see --help for all keys"},
    {"[]\n", NULL, "x.ini:1: a section without a name; write one, such as [run]"},
    {"[]\nepochs = 3\n", NULL, "x.ini:1: a section without a name; write one, such as [run]"},
    {"[train\nepochs = 3\n", NULL, "x.ini:1: a section header needs a ']'"},
    {"[", NULL, "x.ini:1: a section header needs a ']'"},
    {"[train] epochs = 3\n", NULL, "x.ini:1: text after [train]; put it on a line of its own"},
    {"[[train]]\n", NULL, "x.ini:1: unknown section '[train'; did you mean 'train'?"},
    {"[trian]\n", NULL, "x.ini:1: unknown section 'trian'; did you mean 'train'?"},
    {"# one\n[run]\n\n[ train ]\n", NULL, "x.ini:4: unknown section ' train '; did you mean 'train'?"},
    {"[Train]\n", NULL, "x.ini:1: unknown section 'Train'; did you mean 'train'?"},
    {"[zzzzzzzzzzzzzzzz]\n", NULL, "x.ini:1: unknown section 'zzzzzzzzzzzzzzzz'; see --help for all sections"},
    {"[\xff\xfe\x01]\n", NULL, "x.ini:1: unknown section '"},
    {"[train]\nbathc = 3\n", NULL, "x.ini:2: [train] bathc: unknown key; did you mean 'batch'?"},
    {"[train]\nprobes = 3\n", NULL, "x.ini:2: [train] probes: unknown key; did you mean 'epochs'?"},
    {"[train]\nqqqqqqqqqqqqqq = 3\n", NULL, "x.ini:2: [train] qqqqqqqqqqqqqq: unknown key; see --help for all keys"},
    {"[train]\nEpochs = 3\n", NULL, "x.ini:2: [train] Epochs: unknown key; did you mean 'epochs'?"},
    {"[train]\n\xe2\x82\xac = 3\n", NULL, "x.ini:2: [train] "},
    {"[train]\nbatch = 3\nlr = 1\nbatch = 3\n", NULL,
     "x.ini:4: [train] batch: set before, on line 2; keep one of them"},
    {"[train]\nbatch = 3\n[run]\n[train]\nbatch = 4\n", NULL,
     "x.ini:5: [train] batch: set before, on line 2; keep one of them"},
    {"[eigen]\ncount = 1\n[train]\nbatch = zero\n", NULL,
     "x.ini:4: [train] batch = zero: not a whole number; allowed: at least 1"},
    {"\xef\xbb\xbf[train]\r\n\r\nbatch = zero\r\n", NULL,
     "x.ini:3: [train] batch = zero: not a whole number; allowed: at least 1"},
    {"<html>\n</html>\n", NULL, "x.ini:1: '<html>' is no 'key = value'; comments begin with # or ;"},
    {"{\"run\": {\"seed\": 1}}\n", NULL,
     "x.ini:1: '{\"run\"' stands before the first section; put it under one, such as [run]"},
};

/* Single values, in a file. */
static const broken VALUES[] = {
    {"[train]\nepochs = 3.5\n", NULL, "x.ini:2: [train] epochs = 3.5: not a whole number; allowed: at least 0"},
    {"[train]\nepochs = -1\n", NULL, "x.ini:2: [train] epochs = -1: out of range; allowed: at least 0"},
    {"[train]\nepochs = 1e3\n", NULL, "x.ini:2: [train] epochs = 1e3: not a whole number; allowed: at least 0"},
    {"[train]\nepochs = 0x10\n", NULL, "x.ini:2: [train] epochs = 0x10: not a whole number; allowed: at least 0"},
    {"[train]\nepochs = 3 # passes\n", NULL,
     "x.ini:2: [train] epochs = 3 # passes: not a whole number; allowed: at least 0"},
    {"[train]\nepochs =\n", NULL, "x.ini:2: [train] epochs = : not a whole number; allowed: at least 0"},
    {"[train]\nepochs = 18446744073709551616\n", NULL,
     "x.ini:2: [train] epochs = 18446744073709551616: out of range; allowed: at least 0"}, /* 2^64 */
    {"[train]\nepochs = 4294967297\n", NULL,
     "x.ini:2: [train] epochs = 4294967297: out of range; allowed: at least 0"}, /* 2^32 + 1 */
    {"[train]\nbatch = 0\n", NULL, "x.ini:2: [train] batch = 0: out of range; allowed: at least 1"},
    {"[run]\nseed = 9223372036854775808\n", NULL,
     "x.ini:2: [run] seed = 9223372036854775808: out of range; allowed: at least 0"},
    {"[run]\nseed = -1\n", NULL, "x.ini:2: [run] seed = -1: out of range; allowed: at least 0"},
    {"[train]\nlr = nan\n", NULL, "x.ini:2: [train] lr = nan: not a number; allowed: greater than 0"},
    {"[train]\nlr = inf\n", NULL, "x.ini:2: [train] lr = inf: not a number; allowed: greater than 0"},
    {"[train]\nlr = 1e999\n", NULL, "x.ini:2: [train] lr = 1e999: out of range; allowed: greater than 0"},
    {"[train]\nlr = 1e-999\n", NULL, "x.ini:2: [train] lr = 1e-999: out of range; allowed: greater than 0"},
    {"[train]\nlr = 0x1p3\n", NULL, "x.ini:2: [train] lr = 0x1p3: not a number; allowed: greater than 0"},
    {"[train]\nlr = 0.1x\n", NULL, "x.ini:2: [train] lr = 0.1x: not a number; allowed: greater than 0"},
    {"[train]\nlr = 0,1\n", NULL, "x.ini:2: [train] lr = 0,1: not a number; allowed: greater than 0"},
    {"[train]\nlr = 0.1 0.2\n", NULL, "x.ini:2: [train] lr = 0.1 0.2: not a number; allowed: greater than 0"},
    {"[train]\nlr = 0\n", NULL, "x.ini:2: [train] lr = 0: out of range; allowed: greater than 0"},
    {"[train]\nmomentum = 1\n", NULL, "train.momentum = 1: must be less than 1"},
    {"[train]\ndampening = 1.5\n", NULL,
     "x.ini:2: [train] dampening = 1.5: out of range; allowed: at least 0 and at most 1"},
    {"[train]\nweight_decay = -1e-9\n", NULL,
     "x.ini:2: [train] weight_decay = -1e-9: out of range; allowed: at least 0"},
    {"[train]\nshuffle = maybe\n", NULL, "x.ini:2: [train] shuffle = maybe: not true or false; allowed: true false"},
    {"[eigen]\nmethod = lanzcos\n", NULL,
     "x.ini:2: [eigen] method = lanzcos: unknown; did you mean 'lanczos'?; allowed: lanczos power"},
    {"[eigen]\nwhich = qqqqqqqqqqq\n", NULL,
     "x.ini:2: [eigen] which = qqqqqqqqqqq: unknown; allowed: both largest smallest magnitude"},
    {"[eigen]\ncount = 0\n", NULL, "x.ini:2: [eigen] count = 0: out of range; allowed: at least 1"},
    {"[eigen]\ntolerance = 0\n", NULL,
     "x.ini:2: [eigen] tolerance = 0: out of range; allowed: greater than 0 and at most 1"},
    {"[density]\nbins = 1\n", NULL, "x.ini:2: [density] bins = 1: out of range; allowed: at least 2"},
    {"[density]\nsteps = 0\n", NULL, "x.ini:2: [density] steps = 0: out of range; allowed: at least 1"},
    {"[run]\ntime_limit = 0\n", NULL, "x.ini:2: [run] time_limit = 0: out of range; allowed: greater than 0"},
    {"[run]\ntime_limit = -1\n", NULL, "x.ini:2: [run] time_limit = -1: out of range; allowed: greater than 0"},
    {"[run]\ntime_limit = soon\n", NULL, "x.ini:2: [run] time_limit = soon: not a number; allowed: greater than 0"},
    {"[run]\noutput =\n", NULL, "run.output: empty; name a folder for the results"},
    {"[run]\noutput = a\x01z\n", NULL,
     "x.ini:2: [run] output: holds the byte 0x01, which is no UTF-8 text; write plain text"},
    {"[run]\noutput = \xff\xfe\n", NULL,
     "x.ini:2: [run] output: holds the byte 0xff, which is no UTF-8 text; write plain text"},
    {"[run]\noutput = \xed\xa0\x80\n", NULL,
     "x.ini:2: [run] output: holds the byte 0xed, which is no UTF-8 text; write plain text"}, /* a surrogate */
    {"[run]\noutput = \xc3\n", NULL,
     "x.ini:2: [run] output: holds the byte 0xc3, which is no UTF-8 text; write plain text"}, /* cut short */
    {"[run]\noutput = \xf5\x80\x80\x80\n", NULL,
     "x.ini:2: [run] output: holds the byte 0xf5, which is no UTF-8 text; write plain text"},
    {"[run]\noutput = results #1\n", NULL,
     "x.ini:2: [run] output: holds a comment; put it on a line of its own, or begin it with ' ;'"},
};

/* Texts of several values, and keys against one another. */
static const broken TOGETHER[] = {
    {"[run]\nstages = train evalute\n", NULL, "run.stages: unknown stage 'evalute'; did you mean 'evaluate'?"},
    {"[run]\nstages = train,eigen\n", NULL, "run.stages: unknown stage 'train,eigen'; did you mean 'train'?"},
    {"[run]\nstages = eigen train eigen\n", NULL, "run.stages: 'eigen' twice; name it once"},
    {"[run]\n\nstages = hvp\n", NULL,
     "hvp.vectors: the stage hvp needs an HDF5 file with /vectors; set hvp.vectors=FILE"},
    {"[data]\nnormalize = 0.1\n", NULL,
     "data.normalize = 0.1: neither 'none' nor 'MEAN STD' with STD > 0, such as 0.1307 0.3081"},
    {"[data]\nnormalize = 0.1 0\n", NULL,
     "data.normalize = 0.1 0: neither 'none' nor 'MEAN STD' with STD > 0, such as 0.1307 0.3081"},
    {"[data]\nnormalize = 0.1 -2\n", NULL,
     "data.normalize = 0.1 -2: neither 'none' nor 'MEAN STD' with STD > 0, such as 0.1307 0.3081"},
    {"[data]\nnormalize = nan 1\n", NULL,
     "data.normalize = nan 1: neither 'none' nor 'MEAN STD' with STD > 0, such as 0.1307 0.3081"},
    {"[data]\nnormalize = 0 1 2\n", NULL,
     "data.normalize = 0 1 2: neither 'none' nor 'MEAN STD' with STD > 0, such as 0.1307 0.3081"},
    {"[data]\nnormalize = none none\n", NULL,
     "data.normalize = none none: neither 'none' nor 'MEAN STD' with STD > 0, such as 0.1307 0.3081"},
    {"[train]\nschedule = cosin\n", NULL,
     "train.schedule = cosin: allowed: constant; step EPOCHS FACTOR (both > 0); cosine"},
    {"[train]\nschedule = step 2\n", NULL,
     "train.schedule = step 2: allowed: constant; step EPOCHS FACTOR (both > 0); cosine"},
    {"[train]\nschedule = step 0 0.1\n", NULL,
     "train.schedule = step 0 0.1: allowed: constant; step EPOCHS FACTOR (both > 0); cosine"},
    {"[train]\nschedule = step 2 0.1 3\n", NULL,
     "train.schedule = step 2 0.1 3: allowed: constant; step EPOCHS FACTOR (both > 0); cosine"},
    {"[train]\nschedule = cosine 3\n", NULL,
     "train.schedule = cosine 3: allowed: constant; step EPOCHS FACTOR (both > 0); cosine"},
    {"[train]\nnesterov = true\n", NULL, "train.nesterov = true: needs train.momentum > 0 and train.dampening = 0"},
    {"[train]\nnesterov = true\nmomentum = 0.9\ndampening = 0.1\n", NULL,
     "train.nesterov = true: needs train.momentum > 0 and train.dampening = 0"},
    {"[hessian]\ncache = lots\n", NULL, "hessian.cache = lots: allowed: auto, or bytes such as 0, 512M or 2G"},
    {"[hessian]\ncache = -1\n", NULL, "hessian.cache = -1: allowed: auto, or bytes such as 0, 512M or 2G"},
    {"[hessian]\ncache = 2GB\n", NULL, "hessian.cache = 2GB: allowed: auto, or bytes such as 0, 512M or 2G"},
    {"[hessian]\ncache = 8589934592G\n", NULL,
     "hessian.cache = 8589934592G: allowed: auto, or bytes such as 0, 512M or 2G"}, /* 2^63 */
    {"[hessian]\ncache = 99999999999999999999\n", NULL,
     "hessian.cache = 99999999999999999999: allowed: auto, or bytes such as 0, 512M or 2G"},
    {"[eigen]\n\nmethod = power\n", NULL,
     "eigen.method = power finds eigenvalues by magnitude only; set eigen.which=magnitude, or eigen.method"},
    {"[eigen]\nmethod = power\nwhich = smallest\n", NULL,
     "eigen.method = power finds eigenvalues by magnitude only; set eigen.which=magnitude, or eigen.method"},
    {"[landscape]\ndirections = up\n", NULL, "landscape.directions: unknown direction 'up'; see --help"},
    {"[landscape]\ndirections = eigenvector0\n", NULL,
     "landscape.directions: unknown direction 'eigenvector0'; did you mean 'eigenvector'?"},
    {"[landscape]\ndirections = eigenvector1x\n", NULL,
     "landscape.directions: unknown direction 'eigenvector1x'; did you mean 'eigenvector'?"},
    {"[landscape]\ndirections = randon\n", NULL,
     "landscape.directions: unknown direction 'randon'; did you mean 'random'?"},
    {"[landscape]\ndirections = file\n", NULL, "landscape.directions: unknown direction 'file'; did you mean 'file1'?"},
    {"[landscape]\ndirections = file1\n", NULL,
     "landscape.directions: 'file1' needs landscape.vectors, an HDF5 file with /vectors"},
    {"[landscape]\ndirections = random gradient random\n", NULL, "landscape.directions: 'random' twice; name it once"},
    {"[landscape]\ndirections =\n", NULL,
     "landscape.directions = : 0 directions; give at least one (and at most 64), such as eigenvector rando"},
    {"[landscape]\nplane = random\n", NULL,
     "landscape.plane = random: 1 directions; give 'none' or two, such as eigenvector random"},
    {"[landscape]\nplane = random gradient eigenvector\n", NULL,
     "landscape.plane = random gradient eigenvector: 3 directions; give 'none' or two, such as eigenvector"},
    {"[landscape]\nplane = random random\n", NULL, "landscape.plane: 'random' twice; name it once"},
    {"[landscape]\nplane = eigenvector eigenvector1\n", NULL,
     "landscape.plane: 'eigenvector' and 'eigenvector1' are one direction; name two"},
};

/* Words, alone or beside a file. */
static const broken WORDS[] = {
    {NULL, "train.bathc=3", "word 'train.bathc=3': [train] bathc: unknown key; did you mean 'batch'?"},
    {NULL, "trian.batch=3", "word 'trian.batch=3': unknown section 'trian'; did you mean 'train'?"},
    {NULL, "train.batch=0", "word 'train.batch=0': [train] batch = 0: out of range; allowed: at least 1"},
    {NULL, "train.batch", "word 'train.batch': not of the form section.key=value, such as train.epochs=5"},
    {NULL, "train.batch=", "word 'train.batch=': [train] batch = : not a whole number; allowed: at least 1"},
    {NULL, "train.batch= 3 4",
     "word 'train.batch= 3 4': [train] batch =  3 4: not a whole number; allowed: at least 1"},
    {NULL, "", "word '': not of the form section.key=value, such as train.epochs=5"},
    {NULL, "=1", "word '=1': not of the form section.key=value, such as train.epochs=5"},
    {NULL, "seed=1", "word 'seed=1': not of the form section.key=value, such as train.epochs=5"},
    {NULL, "sede=1", "word 'sede=1': not of the form section.key=value, such as train.epochs=5"},
    {NULL, ".seed=1", "word '.seed=1': unknown section ''; see --help for all sections"},
    {NULL, "run.=1", "word 'run.=1': [run] : unknown key; see --help for all keys"},
    {NULL, "run.seed.x=1", "word 'run.seed.x=1': [run] seed.x: unknown key; did you mean 'seed'?"},
    {NULL, "run.output=", "run.output: empty; name a folder for the results"},
    {NULL, "run.output=a;b ;c",
     "word 'run.output=a;b ;c': [run] output: holds a comment; put it on a line of its own, or begin it wi"},
    {NULL, "run.output=a\nb", "word 'run.output=a"},
    {NULL, "run.stages=", "run.stages: empty; name at least one stage, such as train"},
    {NULL, "run.stages= ", "run.stages: empty; name at least one stage, such as train"},
    {NULL, "eigen.method=power",
     "eigen.method = power finds eigenvalues by magnitude only; set eigen.which=magnitude, or eigen.method"},
    {"[eigen]\nwhich = magnitude\nmethod = power\n", "eigen.which=both",
     "eigen.method = power finds eigenvalues by magnitude only; set eigen.which=magnitude, or eigen.method"},
    {"[train]\nbatch = 3\n", "train.batch=x",
     "word 'train.batch=x': [train] batch = x: not a whole number; allowed: at least 1"},
    {NULL, "train.momentum=1e999",
     "word 'train.momentum=1e999': [train] momentum = 1e999: out of range; allowed: at least 0 and at most"},
    {NULL, "train.nesterov=yes", "train.nesterov = true: needs train.momentum > 0 and train.dampening = 0"},
};

static void expect(const broken *b)
{
    hsgd_error err = {0};
    hsgd_deck deck;
    const hsgd_status st = hsgd_deck_resolve_text("x.ini", b->text, &b->word, b->word != NULL, &deck, &err);

    if (st != HSGD_ERR_USAGE || err.status != st || strstr(err.text, b->fragment) == NULL) {
        fail_msg("deck \"%.200s\", word \"%.200s\": status %d, \"%s\" instead of \"%s\"",
                 b->text != NULL ? b->text : "", b->word != NULL ? b->word : "", st, err.text, b->fragment);
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

static void a_line_or_word_that_is_too_long_is_refused(void **state)
{
    char *line = long_text(100000, "[run]\noutput = ", 'x', "\n");
    char *section = long_text(100000, "[", 'x', "]\n");
    char *word = long_text(100000, "run.output=", 'x', "");
    char *name = long_text(100000, "train.", 'x', "=3");

    (void)state;
    expect(&(broken){line, NULL, "x.ini:2: the line is longer than 198 bytes; shorten it"});
    expect(&(broken){section, NULL, "x.ini:1: the line is longer than 198 bytes; shorten it"});
    expect(&(broken){NULL, word, "[run] output: longer than 1023 bytes; shorten it"});
    expect(&(broken){NULL, name, "xx': not of the form section.key=value"});
    free(line);
    free(section);
    free(word);
    free(name);
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

static void a_file_that_is_no_deck_is_refused(void **state)
{
    enum { LONGEST = 1 << 20 };
    static const char *const absent[] = {"/nowhere/deck.ini", "", "/"};
    char *large = long_text(LONGEST + 1, "[run]\n", '\n', "\n");
    hsgd_error err = {0};
    hsgd_deck deck;

    (void)state;
    expect_file("[run]\nseed = 1\n\0\n", 17, ": holds a NUL byte; a deck is plain text");
    expect_file(large, LONGEST + 1, ": longer than 1 MiB");
    expect_file("[run]\nsede = 1\n", 15, ":2: [run] sede: unknown key; did you mean 'seed'?");
    free(large);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(hsgd_deck_resolve(absent[i], NULL, 0, &deck, &err), HSGD_ERR_USAGE);
        assert_non_null(strstr(err.text, "; name an existing INI file"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_malformed_file_is_refused_at_its_line),
        cmocka_unit_test(a_value_of_wrong_type_or_range_is_refused),
        cmocka_unit_test(values_that_contradict_one_another_are_refused),
        cmocka_unit_test(a_wrong_word_is_refused_by_name),
        cmocka_unit_test(a_line_or_word_that_is_too_long_is_refused),
        cmocka_unit_test(a_file_that_is_no_deck_is_refused),
    };

    return test_run(tests);
}
