/* tests/deck/test_deck.c - defaults, what a deck may say, and that its text says the same again. */
#include "base/random.h"
#include "deck/schema.h"
#include "support.h"
#include <stdlib.h>

/* Resolve text (NULL: none) and one word (NULL: none), which must succeed. */
static void resolve(const char *text, const char *word, hsgd_deck *deck)
{
    hsgd_error err = {0};

    assert_ok(hsgd_deck_resolve_text("x.ini", text, &word, word != NULL, deck, &err));
}

static char *format(const hsgd_deck *deck)
{
    hsgd_error err = {0};
    char *text = NULL;

    assert_ok(hsgd_deck_format(deck, &text, &err));
    return text;
}

static char *stage_keys(const hsgd_deck *deck, hsgd_stage stage)
{
    hsgd_error err = {0};
    char *text = NULL;

    assert_ok(hsgd_deck_stage_keys(deck, stage, &text, &err));
    return text;
}

static void assert_same(const hsgd_deck *a, const hsgd_deck *b)
{
    char *one = format(a), *two = format(b);

    assert_string_equal(one, two);
    free(one);
    free(two);
}

/* The defaults that users were promised; a change here changes what a run without a deck does. */
static void the_defaults_are_the_promised_ones(void **state)
{
    static const char *const promised[] = {
        "[run]\nstages = train evaluate verify eigen density trace landscape\noutput = results/mnist\nseed = 1\n"
        "reduction = reproducible\ntime_limit = auto\nstall_timeout = 600\nsnapshot_every = 60\n",
        "[data]\ndir =\ntrain_samples = 0\ntest_samples = 0\nnormalize = none\n",
        "[model]\nlayers = conv 16 5 / relu / maxpool 2 / conv 32 5 / relu / maxpool 2 / linear 10\ninit = default\n"
        "precision = single\n",
        "[train]\nepochs = 5\nsteps = 0\nbatch = 100\nlr = 0.01\nschedule = constant\nmomentum = 0\ndampening = 0\n"
        "weight_decay = 0\nnesterov = false\nshuffle = true\nlog_every = 100\ncheckpoint_every = 600\n"
        "checkpoint_keep = 2\nevaluate_every = 0\n"
        "curvature_every = 0\ncurvature_count = 2\ncurvature_tolerance = 0.001\n",
        "[hessian]\nsplit = train\nsamples = 2000\nfirst = 0\nindices = none\noperator = hessian\nlayers = all\nbatch "
        "= 0\n"
        "cache = auto\nresample = 0\n",
        "[hvp]\nvectors = none\n",
        "[eigen]\nmethod = lanczos\ncount = 2\nwhich = both\ntolerance = 0.0001\nmax_products = 1000\nbasis = 0\nblock "
        "= 0\n"
        "confirm = false\nrequire_convergence = false\n",
        "[density]\nprobes = 4\nsteps = 80\nblock = 0\ngroups = 0\ndistribution = rademacher\nbins = "
        "10000\nsigma_squared = 1e-05\n"
        "overhead = 0.01\nstart = none\naccuracy = 0\ndeflate = false\n",
        "[trace]\nmethod = auto\nprobes = 32\n",
        "[landscape]\ndirections = eigenvector random gradient\npoints = 21\nrange = 0.5\nplane = none\n"
        "plane_points = 21\nplane_range = 0.5\nnormalize = vector\nvectors = none\n",
        "[device]\nbackend = auto\nthreads = 0\nallreduce = auto\n",
    };
    hsgd_deck deck;
    char *text;

    (void)state;
    resolve(NULL, NULL, &deck);
    text = format(&deck);
    for (size_t i = 0; i < sizeof promised / sizeof promised[0]; i++) {
        if (strstr(text, promised[i]) == NULL) {
            fail_msg("the defaults lack\n%s", promised[i]);
        }
    }
    free(text);
    assert_true(deck.run.time_limit == -1.0);
    assert_int_equal(deck.stages, 7);
    assert_int_equal(deck.stage[3], HSGD_STAGE_EIGEN);
    assert_true(deck.mean == 0.0f && deck.deviation == 1.0f);
    assert_int_equal(deck.cache_bytes, -1);
    assert_int_equal(deck.schedule, 0);
    assert_int_equal(deck.eigen.which, 0);
}

static void each_value_reaches_its_member(void **state)
{
    hsgd_deck deck;

    (void)state;
    resolve("[run]\nseed = 9223372036854775807\nreduction = fast\ntime_limit = 2.5\nsnapshot_every = 0\n"
            "stall_timeout = 7\n"
            "[data]\ndir = /data/Ziffern m\xc3\xa4\xc3\x9fig\nnormalize = 0.1307 0.3081\n"
            "[train]\nlr = 1e-4\nschedule = step 2 0.5\nmomentum = .9\nnesterov = ON\nshuffle = no\n"
            "[hessian]\noperator = gauss-newton\ncache = 2G\nsplit = test\n"
            "[eigen]\nmethod = power\nwhich = magnitude\n"
            "[landscape]\ndirections = eigenvector eigenvector2 file3\nplane = eigenvector1 eigenvector2\n"
            "vectors = v.h5\nnormalize = filter\n",
            NULL, &deck);
    assert_true(deck.run.seed == INT64_MAX);
    assert_int_equal(deck.run.reduction, HSGD_REDUCTION_FAST);
    assert_true(deck.run.time_limit == 2.5);
    assert_int_equal(deck.run.snapshot_every, 0);
    assert_int_equal(deck.run.stall_timeout, 7);
    assert_string_equal(deck.data.dir, "/data/Ziffern m\xc3\xa4\xc3\x9fig");
    assert_true(deck.mean == 0.1307f && deck.deviation == 0.3081f);
    assert_true(deck.train.lr == 1e-4 && deck.train.momentum == 0.9);
    assert_true(deck.train.nesterov && !deck.train.shuffle);
    assert_int_equal(deck.schedule, 1);
    assert_true(deck.schedule_epochs == 2.0 && deck.schedule_factor == 0.5);
    assert_int_equal(deck.hessian.operator_, 1);
    assert_int_equal(deck.hessian.split, 1);
    assert_true(deck.cache_bytes == INT64_C(2) << 30);
    assert_int_equal(deck.eigen.which, 3);
    assert_int_equal(deck.landscape.normalize, 1);
}

static void bytes_are_read_with_binary_suffixes(void **state)
{
    static const struct {
        const char *word;
        int64_t bytes;
    } cases[] = {{"hessian.cache=0", 0},
                 {"hessian.cache=123456789012", INT64_C(123456789012)},
                 {"hessian.cache=3K", 3 * 1024},
                 {"hessian.cache=512M", INT64_C(512) << 20},
                 {"hessian.cache=8589934591G", INT64_C(8589934591) << 30},
                 {"hessian.cache=auto", -1}};
    hsgd_deck deck;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        resolve(NULL, cases[i].word, &deck);
        assert_true(deck.cache_bytes == cases[i].bytes);
    }
}

static void stages_run_in_one_order_however_they_are_named(void **state)
{
    hsgd_deck deck;

    (void)state;
    resolve(NULL, "run.stages=landscape  train\teigen", &deck);
    assert_int_equal(deck.stages, 3);
    assert_int_equal(deck.stage[0], HSGD_STAGE_TRAIN);
    assert_int_equal(deck.stage[1], HSGD_STAGE_EIGEN);
    assert_int_equal(deck.stage[2], HSGD_STAGE_LANDSCAPE);
}

static void the_last_word_wins_over_words_and_file(void **state)
{
    static const char *const words[] = {"train.batch=20", "train.lr=3", "train.batch= 30 "};
    hsgd_error err = {0};
    hsgd_deck deck;

    (void)state;
    assert_ok(hsgd_deck_resolve_text("x.ini", "[train]\nbatch = 10\nepochs = 7\n", words, 3, &deck, &err));
    assert_int_equal(deck.train.batch, 30);
    assert_int_equal(deck.train.epochs, 7);
    assert_true(deck.train.lr == 3.0);
}

/* Blanks, comments, empty lines, Windows line ends, a byte order mark, a missing last newline, indented keys. */
static void the_form_of_a_file_does_not_matter(void **state)
{
    static const char *const forms[] = {
        "[train]\nbatch=30\nepochs=7",
        "\xef\xbb\xbf[train]\r\n\r\nbatch = 30\r\n  epochs : 7  ; passes\r\n",
        "\t\xef\xbb\xbf \xef\xbb\xbf[train]\nbatch = 30\nepochs = 7\n",
        "; a comment\n  # and one\n\t[train] ; here\n\tbatch\t=\t30\n\tepochs = 7\n\n[run]\n",
        "[train]\nbatch = 3\\\n# between\n\n   0\nepochs = \\\n  7 ; passes\n",
        "[train]\nbatch = 30\n[run]\n[train]\nepochs = 7\n",
    };
    hsgd_deck first, deck;

    (void)state;
    resolve(forms[0], NULL, &first);
    assert_int_equal(first.train.batch, 30);
    assert_int_equal(first.train.epochs, 7);
    for (size_t i = 1; i < sizeof forms / sizeof forms[0]; i++) {
        resolve(forms[i], NULL, &deck);
        assert_same(&first, &deck);
        assert_memory_equal(first.explicit_, deck.explicit_, sizeof deck.explicit_);
    }
}

static void a_comment_may_be_longer_than_a_line(void **state)
{
    char text[4000], *end;
    hsgd_deck deck;

    (void)state;
    memset(text, '-', sizeof text);
    text[0] = '#';
    end = text + 3000;
    (void)snprintf(end, 100, "\n[train]\nbatch = 30\n");
    resolve(text, NULL, &deck);
    assert_int_equal(deck.train.batch, 30);
}

/* What depends on being asked for: a default gives way to smaller data, a wish does not. */
static void only_what_differs_or_is_a_word_counts_as_asked_for(void **state)
{
    hsgd_deck deck;

    (void)state;
    resolve("[hessian]\nsamples = 2000\n[train]\nbatch = 30\n", "density.probes=4", &deck);
    assert_false(hsgd_deck_is_explicit(&deck, "hessian", "samples"));
    assert_true(hsgd_deck_is_explicit(&deck, "train", "batch"));
    assert_true(hsgd_deck_is_explicit(&deck, "density", "probes"));
    assert_false(hsgd_deck_is_explicit(&deck, "train", "epochs"));
    assert_false(hsgd_deck_is_explicit(&deck, "train", "no_such_key"));
}

static void a_long_value_comes_back_from_the_formatted_deck(void **state)
{
    char list[HSGD_TEXT + 16] = "model.layers=conv 16 5", path[HSGD_TEXT + 16] = "run.output=";
    hsgd_deck deck, again;
    char *text;

    (void)state;
    for (int i = 0; i < 60; i++) {
        strcat(list, i % 2 == 0 ? " / tanh" : "  / conv 16 5");
        strcat(path, i % 2 == 0 ? "/folder#with;signs" : "\\and many blanks");
    }
    strcat(path, "xyz"); /* as long as a value can be */
    for (int i = 0; i < 2; i++) {
        resolve(NULL, i == 0 ? list : path, &deck);
        text = format(&deck);
        resolve(text, NULL, &again);
        assert_string_equal(again.model.layers, deck.model.layers);
        assert_string_equal(again.run.output, deck.run.output);
        assert_same(&deck, &again);
        free(text);
    }
    assert_int_equal(strlen(deck.run.output), HSGD_TEXT - 1);
}

/* Whatever stands where a line would be full: runs that cannot begin the next one, and characters of several bytes. */
static void a_value_is_folded_where_nothing_of_it_is_lost(void **state)
{
    static const char *const unfit[] = {"\t", "#", ";#", " \t"};
    hsgd_deck deck, again;

    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        for (int shift = 1; shift < 120; shift++) {
            char word[HSGD_TEXT] = "run.output=", *text;

            memset(word + strlen(word), 'a', (size_t)shift); /* zeros behind it */
            for (size_t i = 0; i < HSGD_FOLD / 2; i += strlen(unfit[kind])) {
                strcat(word, i + strlen(unfit[kind]) <= HSGD_FOLD / 2 ? unfit[kind] : "");
            }
            for (int i = 0; i < 100; i++) {
                strcat(word, "\xe2\x82\xac");
            }
            resolve(NULL, word, &deck);
            text = format(&deck);
            resolve(text, NULL, &again);
            assert_string_equal(again.run.output, deck.run.output);
            for (const char *line = text; (line = strstr(line, "\\\n    ")) != NULL; line += 6) {
                assert_int_not_equal((unsigned char)line[6] & 0xC0, 0x80); /* no character is cut in two */
            }
            free(text);
        }
    }
}

/* Any double survives, shown as shortly as it can be. */
static void numbers_come_back_bit_for_bit(void **state)
{
    const hsgd_random r = hsgd_random_stream(1, HSGD_RANDOM_TEST, 0);
    hsgd_deck deck, again;

    (void)state;
    resolve(NULL, NULL, &deck);
    for (uint64_t i = 0; i < 200; i++) {
        char *text;

        deck.train.lr = hsgd_random_uniform(&r, i) + 1e-300;
        deck.density.sigma_squared = 1e-12 + hsgd_random_uniform(&r, 1000 + i) / 3e5;
        text = format(&deck);
        resolve(text, NULL, &again);
        free(text);
        assert_true(again.train.lr == deck.train.lr && again.density.sigma_squared == deck.density.sigma_squared);
    }
}

/* Decks with bytes changed at random: each is refused as usage, or says the same again. */
static void a_damaged_deck_is_refused_or_consistent(void **state)
{
    static const char bytes[] = "\n\n\r[]=;#\\ \t./-+0919aezTrue\x01\x7f\xc3\xff";
    const hsgd_random r = hsgd_random_stream(2, HSGD_RANDOM_TEST, 0);
    hsgd_deck deck, again;
    uint64_t drawn = 0;
    int accepted = 0, refused = 0;
    char *whole;

    (void)state;
    resolve(NULL, "hessian.cache=2G", &deck);
    whole = format(&deck);
    for (int round = 0; round < 3000; round++) {
        hsgd_error err = {0};
        char *text = strdup(whole), *formatted;
        const uint64_t changes = hsgd_random_below(&r, drawn++, 4);

        assert_non_null(text);
        for (uint64_t i = 0; i < changes; i++) {
            const uint64_t at = hsgd_random_below(&r, drawn++, strlen(whole));

            text[at] = bytes[hsgd_random_below(&r, drawn++, sizeof bytes - 1)];
        }
        if (hsgd_deck_resolve_text("x.ini", text, NULL, 0, &deck, &err) == HSGD_OK) {
            formatted = format(&deck);
            resolve(formatted, NULL, &again);
            assert_same(&deck, &again);
            assert_memory_equal(deck.explicit_, again.explicit_, sizeof deck.explicit_);
            free(formatted);
            accepted++;
        } else {
            assert_int_equal(err.status, HSGD_ERR_USAGE);
            assert_int_equal(strncmp(err.text, "x.ini:", 6), 0);
            refused++;
        }
        free(text);
    }
    free(whole);
    assert_true(accepted > 500 && refused > 500);
}

/* A stage is kept on restart while its keys stay: every key that shapes a result must be among them. */
static void the_keys_of_a_stage_are_those_its_result_depends_on(void **state)
{
    static const struct {
        const char *word;
        unsigned stages; /* whose keys the word must change */
    } cases[] = {
        {"run.output=elsewhere", 0},
        {"run.time_limit=5", 0},
        {"run.stall_timeout=5", 0},
        {"data.dir=elsewhere", 0},
        {"device.threads=3", 0},
        {"train.epochs=9", 0},
        {"train.steps=9", 0},
        {"train.checkpoint_every=9", 0},
        {"train.lr=9", 1u << HSGD_STAGE_TRAIN},
        {"train.nesterov=false", 0}, /* as it was */
        {"run.reduction=fast", (1u << HSGD_STAGES) - 1},
        {"model.layers=linear 10", (1u << HSGD_STAGES) - 1},
        {"model.precision=double", (1u << HSGD_STAGES) - 1},
        {"hessian.operator=gauss-newton", 1u << HSGD_STAGE_VERIFY | 1u << HSGD_STAGE_HVP | 1u << HSGD_STAGE_EIGEN |
                                              1u << HSGD_STAGE_DENSITY | 1u << HSGD_STAGE_TRACE |
                                              1u << HSGD_STAGE_LANDSCAPE},
        {"hessian.layers=conv1", 1u << HSGD_STAGE_VERIFY | 1u << HSGD_STAGE_HVP | 1u << HSGD_STAGE_EIGEN |
                                     1u << HSGD_STAGE_DENSITY | 1u << HSGD_STAGE_TRACE | 1u << HSGD_STAGE_LANDSCAPE},
        {"hessian.layers=all", 0}, /* as it was */
        {"hessian.resample=5", 1u << HSGD_STAGE_EIGEN | 1u << HSGD_STAGE_TRACE},
        {"eigen.count=3", 1u << HSGD_STAGE_EIGEN},
        {"density.probes=3", 1u << HSGD_STAGE_DENSITY},
        {"density.groups=3", 0},
        {"trace.probes=3", 1u << HSGD_STAGE_TRACE},
        {"landscape.range=3", 1u << HSGD_STAGE_LANDSCAPE},
    };
    hsgd_deck defaults, deck;

    (void)state;
    resolve(NULL, NULL, &defaults);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned changed = 0;

        resolve(NULL, cases[i].word, &deck);
        for (int stage = 0; stage < HSGD_STAGES; stage++) {
            char *before = stage_keys(&defaults, (hsgd_stage)stage), *after = stage_keys(&deck, (hsgd_stage)stage);

            changed |= (unsigned)(strcmp(before, after) != 0) << stage;
            free(before);
            free(after);
        }
        if (changed != cases[i].stages) {
            fail_msg("%s changes the stages 0x%x, not 0x%x", cases[i].word, changed, cases[i].stages);
        }
    }
}

static void the_keys_of_a_stage_read_as_words(void **state)
{
    hsgd_deck deck;
    char *keys;

    (void)state;
    resolve(NULL, NULL, &deck);
    keys = stage_keys(&deck, HSGD_STAGE_TRACE);
    assert_non_null(strstr(keys, "\ntrace.method = auto\ntrace.probes = 32\n"));
    assert_null(strstr(keys, "epochs"));
    free(keys);
}

/* --help is complete: each row stands in it, under its section, with default, range and explanation. */
static void help_shows_every_row_of_the_schema(void **state)
{
    int count;
    const hsgd_key *schema = hsgd_schema(&count);
    char *help = NULL, *at;
    size_t size;
    FILE *out = open_memstream(&help, &size);

    (void)state;
    assert_non_null(out);
    hsgd_deck_help(out);
    assert_int_equal(fclose(out), 0);
    at = help;
    for (int i = 0; i < count; i++) {
        char piece[HSGD_TEXT];

        (void)snprintf(piece, sizeof piece, "\n[%s]\n", schema[i].section);
        if (i == 0 || strcmp(schema[i].section, schema[i - 1].section) != 0) {
            at = strstr(at, piece);
            assert_non_null(at);
        }
        (void)snprintf(piece, sizeof piece, "\n  %s ", schema[i].key);
        at = strstr(at, piece);
        if (at == NULL) {
            fail_msg("--help lacks %s.%s", schema[i].section, schema[i].key);
        }
        (void)snprintf(piece, sizeof piece, "[%s] ", schema[i].initial);
        assert_non_null(strstr(at, piece));
        assert_true(strlen(schema[i].help) > 5);
        (void)snprintf(piece, sizeof piece, "%.20s", schema[i].help);
        assert_non_null(strstr(at, piece));
    }
    for (const char *line = help, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        assert_in_range(end - line, 0, 120);
    }
    free(help);
}

/* The whole of inputs/<name>, beside which this file was compiled. */
static char *input(const char *name)
{
    char path[4096];
    const char *slash = strrchr(__FILE__, '/');
    hsgd_error err = {0};
    char *text = NULL;

    (void)snprintf(path, sizeof path, "%.*s/../../inputs/%s", (int)(slash - __FILE__), __FILE__, name);
    assert_ok(hsgd_deck_read(path, &text, &err));
    return text;
}

static void the_explained_deck_is_the_default_one_and_names_every_key(void **state)
{
    int count;
    const hsgd_key *schema = hsgd_schema(&count);
    char *text = input("mnist.ini"), *at = text;
    hsgd_deck defaults, deck;

    (void)state;
    resolve(NULL, NULL, &defaults);
    resolve(text, NULL, &deck);
    assert_same(&defaults, &deck);
    assert_memory_equal(defaults.explicit_, deck.explicit_, sizeof deck.explicit_);
    for (int i = 0; i < count; i++) { /* in the schema's order */
        char piece[HSGD_TEXT];

        (void)snprintf(piece, sizeof piece, "\n%s =", schema[i].key);
        at = strstr(at, piece);
        if (at == NULL) {
            fail_msg("inputs/mnist.ini lacks %s.%s (or has it elsewhere)", schema[i].section, schema[i].key);
        }
    }
    free(text);
}

static void the_other_decks_resolve(void **state)
{
    char *notebook = input("notebook.ini"), *quick = input("quick.ini");
    hsgd_deck deck;

    (void)state;
    resolve(notebook, NULL, &deck);
    assert_string_equal(deck.run.output, "results/notebook");
    assert_int_equal(deck.hessian.samples, 100);
    assert_int_equal(deck.eigen.method, 1);
    resolve(quick, NULL, &deck);
    assert_string_equal(deck.run.output, "results/quick");
    assert_int_equal(deck.train.epochs, 1);
    free(notebook);
    free(quick);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_defaults_are_the_promised_ones),
        cmocka_unit_test(each_value_reaches_its_member),
        cmocka_unit_test(bytes_are_read_with_binary_suffixes),
        cmocka_unit_test(stages_run_in_one_order_however_they_are_named),
        cmocka_unit_test(the_last_word_wins_over_words_and_file),
        cmocka_unit_test(the_form_of_a_file_does_not_matter),
        cmocka_unit_test(a_comment_may_be_longer_than_a_line),
        cmocka_unit_test(only_what_differs_or_is_a_word_counts_as_asked_for),
        cmocka_unit_test(a_long_value_comes_back_from_the_formatted_deck),
        cmocka_unit_test(a_value_is_folded_where_nothing_of_it_is_lost),
        cmocka_unit_test(numbers_come_back_bit_for_bit),
        cmocka_unit_test(a_damaged_deck_is_refused_or_consistent),
        cmocka_unit_test(the_keys_of_a_stage_are_those_its_result_depends_on),
        cmocka_unit_test(the_keys_of_a_stage_read_as_words),
        cmocka_unit_test(help_shows_every_row_of_the_schema),
        cmocka_unit_test(the_explained_deck_is_the_default_one_and_names_every_key),
        cmocka_unit_test(the_other_decks_resolve),
    };

    return test_run(tests);
}
