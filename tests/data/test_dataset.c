/* tests/data/test_dataset.c - mirrors src/data/dataset.c and digits.c: what is loaded, drawn and kept.
 * ranks: 1 2 4 */
#include "base/hash.h"
#include "data/digits.h"
#include "idx_files.h"

static const uint32_t counts[] = {50, 50, 20, 20};
enum { HEIGHT = 20, WIDTH = 30, CLASSES = 7, DIGIT = HSGD_DIGITS_EDGE * HSGD_DIGITS_EDGE };

/* File f of the whole set used here: 50 + 20 images of 20 x 30 in 7 classes. */
static void make_file(blob *b, int f)
{
    if (f == TRAIN_IMAGES || f == TEST_IMAGES) {
        make_images(b, counts[f], HEIGHT, WIDTH);
    } else {
        make_labels(b, counts[f], CLASSES);
    }
}

static void write_set(const char *dir, bool gzip)
{
    blob *b = malloc(sizeof *b);

    assert_non_null(b);
    for (int f = 0; f < FILES && test_comm()->rank == 0; f++) {
        make_file(b, f);
        if (gzip) {
            compress_blob(b);
        }
        write_blob(b, dir, file_names[f], gzip);
    }
    free(b);
    together();
}

/* The bytes of a loaded split are the first ones of the files' bodies. */
static void assert_holds(const hsgd_split *split, int image_file, int64_t kept)
{
    blob *b = malloc(sizeof *b);

    assert_non_null(b);
    assert_int_equal(split->count, kept);
    assert_int_equal(split->height, HEIGHT);
    assert_int_equal(split->width, WIDTH);
    assert_int_equal(split->classes, CLASSES);
    make_file(b, image_file);
    assert_memory_equal(split->pixels, b->bytes + 16, (size_t)kept * HEIGHT * WIDTH);
    make_file(b, image_file + 1);
    assert_memory_equal(split->labels, b->bytes + 8, (size_t)kept);
    free(b);
}

static void plain_and_compressed_sets_of_any_size_load_alike(void **state)
{
    hsgd_error err = {0};
    char sha256[2][65], dir[64];

    (void)state;
    for (int gzip = 0; gzip < 2; gzip++) {
        hsgd_dataset *data = NULL;

        make_folder(dir);
        write_set(dir, gzip != 0);
        assert_ok(hsgd_dataset_load(&(hsgd_dataset_options){.dir = dir}, test_comm(), &data, &err));
        assert_holds(&data->train, TRAIN_IMAGES, counts[TRAIN_IMAGES]);
        assert_holds(&data->test, TEST_IMAGES, counts[TEST_IMAGES]);
        assert_false(data->generated);
        assert_string_equal(data->source, dir);
        memcpy(sha256[gzip], data->sha256, sizeof sha256[gzip]);
        hsgd_dataset_destroy(&data);
        assert_null(data);
        remove_folder(dir);
    }
    assert_string_equal(sha256[0], sha256[1]);
}

/* The classes stay those of the whole set: the first three training samples alone would show three of the seven. */
static void the_first_samples_are_kept_and_hashed(void **state)
{
    hsgd_dataset *data = NULL;
    hsgd_error err = {0};
    char dir[64], hex[65];

    (void)state;
    make_folder(dir);
    write_set(dir, true);
    assert_ok(hsgd_dataset_load(&(hsgd_dataset_options){.dir = dir, .train_samples = 3, .test_samples = 20},
                                test_comm(), &data, &err));
    assert_holds(&data->train, TRAIN_IMAGES, 3);
    assert_holds(&data->test, TEST_IMAGES, 20);
    assert_ok(
        hsgd_sha256(4, (const void *[]){data->train.pixels, data->train.labels, data->test.pixels, data->test.labels},
                    (const size_t[]){3 * HEIGHT * WIDTH, 3, 20 * HEIGHT * WIDTH, 20}, hex, &err));
    assert_string_equal(data->sha256, hex);
    hsgd_dataset_destroy(&data);
    remove_folder(dir);
}

static void check_refusal(const hsgd_dataset_options *options, hsgd_status status, const char *says)
{
    hsgd_dataset *data = NULL;
    hsgd_error err = {0};

    assert_int_equal(hsgd_dataset_load(options, test_comm(), &data, &err), status);
    assert_null(data);
    if (strstr(err.text, says) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err.text, says);
    }
}

static void more_samples_than_there_are_is_a_usage_error(void **state)
{
    char dir[64];

    (void)state;
    make_folder(dir);
    write_set(dir, false);
    check_refusal(&(hsgd_dataset_options){.dir = dir, .train_samples = 51}, HSGD_ERR_USAGE,
                  "data.train_samples: 51 asked for, the files hold 50");
    check_refusal(&(hsgd_dataset_options){.dir = dir, .test_samples = 21}, HSGD_ERR_USAGE,
                  "data.test_samples: 21 asked for, the files hold 20");
    check_refusal(&(hsgd_dataset_options){.dir = dir, .test_samples = -1}, HSGD_ERR_USAGE, "data.test_samples: -1");
    remove_folder(dir);
}

/* An empty folder to stand in, with $HSGD_DATA unset: nothing is named and nothing is found there. */
typedef struct {
    char dir[64], home[4096];
    char *variable; /* $HSGD_DATA before, or NULL */
} elsewhere;

static void enter(elsewhere *e)
{
    e->variable = getenv("HSGD_DATA") != NULL ? strdup(getenv("HSGD_DATA")) : NULL;
    make_folder(e->dir);
    assert_non_null(getcwd(e->home, sizeof e->home));
    assert_int_equal(chdir(e->dir), 0);
    assert_int_equal(unsetenv("HSGD_DATA"), 0);
}

static void leave(elsewhere *e)
{
    assert_int_equal(chdir(e->home), 0);
    assert_int_equal(e->variable != NULL ? setenv("HSGD_DATA", e->variable, 1) : unsetenv("HSGD_DATA"), 0);
    free(e->variable);
    remove_folder(e->dir);
}

/* Generated digits, whatever the surroundings. */
static hsgd_dataset *generate(const hsgd_dataset_options *options)
{
    hsgd_dataset *data = NULL;
    hsgd_error err = {0};
    elsewhere e;

    enter(&e);
    assert_ok(hsgd_dataset_load(options, test_comm(), &data, &err));
    leave(&e);
    assert_true(data->generated);
    return data;
}

static void a_named_place_without_the_files_is_an_error(void **state)
{
    char longest[600];
    elsewhere e;

    (void)state;
    enter(&e);
    check_refusal(&(hsgd_dataset_options){.dir = e.dir}, HSGD_ERR_DATA, "missing file");
    check_refusal(&(hsgd_dataset_options){.dir = "/nowhere/at/all"}, HSGD_ERR_DATA, "/nowhere/at/all: missing file");
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    check_refusal(&(hsgd_dataset_options){.dir = longest}, HSGD_ERR_USAGE, "more than 511 bytes");
    assert_int_equal(setenv("HSGD_DATA", "/nowhere/else", 1), 0);
    check_refusal(&(hsgd_dataset_options){0}, HSGD_ERR_DATA, "/nowhere/else: missing file");
    leave(&e);
}

static void nothing_named_and_nothing_found_means_generated_digits(void **state)
{
    hsgd_dataset *data = NULL;
    hsgd_error err = {0};
    elsewhere e;

    (void)state;
    enter(&e);
    assert_int_equal(setenv("HSGD_DATA", "", 1), 0); /* empty is unset */
    assert_ok(hsgd_dataset_load(&(hsgd_dataset_options){.dir = "", .train_samples = 20, .test_samples = 10, .seed = 5},
                                test_comm(), &data, &err));
    assert_true(data->generated);
    assert_string_equal(data->source, "generated digits (seed 5)");
    hsgd_dataset_destroy(&data);
    check_refusal(&(hsgd_dataset_options){.train_samples = 60001}, HSGD_ERR_USAGE, "the generated digits are 60000");
    leave(&e);
}

static void part_of_a_set_in_the_default_place_is_an_error(void **state)
{
    blob *b = malloc(sizeof *b);
    elsewhere e;

    (void)state;
    assert_non_null(b);
    enter(&e);
    if (test_comm()->rank == 0) {
        assert_int_equal(mkdir("data", 0700), 0);
        assert_int_equal(mkdir("data/mnist", 0700), 0);
        make_file(b, TEST_LABELS);
        write_blob(b, "data/mnist", file_names[TEST_LABELS], false);
    }
    together();
    check_refusal(&(hsgd_dataset_options){0}, HSGD_ERR_DATA, "data/mnist: missing file");
    together();
    if (test_comm()->rank == 0) {
        clear_folder("data/mnist");
        assert_int_equal(rmdir("data/mnist") + rmdir("data"), 0);
    }
    leave(&e);
    free(b);
}

/* However many ranks share the drawing, the bytes are those that one rank draws; the checksum pins them: a change of
 * the generator changes every result on generated digits and has to be meant. */
static void generated_digits_do_not_depend_on_the_ranks(void **state)
{
    enum { TRAIN = 301, TEST = 103 };
    hsgd_dataset *data = generate(&(hsgd_dataset_options){.train_samples = TRAIN, .test_samples = TEST, .seed = 1});
    uint8_t *pixels = malloc((size_t)TRAIN * DIGIT), labels[TRAIN];

    (void)state;
    assert_non_null(pixels);
    assert_int_equal(data->train.classes, 10);
    hsgd_digits_draw(1, 0, 0, TRAIN, pixels, labels);
    assert_int_equal(data->train.count, TRAIN);
    assert_memory_equal(data->train.pixels, pixels, (size_t)TRAIN * DIGIT);
    assert_memory_equal(data->train.labels, labels, TRAIN);
    hsgd_digits_draw(1, 1, 0, TEST, pixels, labels);
    assert_int_equal(data->test.count, TEST);
    assert_memory_equal(data->test.pixels, pixels, (size_t)TEST * DIGIT);
    assert_memory_equal(data->test.labels, labels, TEST);
    assert_string_equal(data->sha256, "f121447c8d39dc430e391c1a4056874d7455de7bfd73c62001b0efed52c3cdad");
    free(pixels);
    hsgd_dataset_destroy(&data);
}

/* A sample depends on seed, split and its own number: drawn alone it is the same, and each of the three matters. */
static void a_generated_digit_stands_for_itself(void **state)
{
    enum { SAMPLES = 40 };
    static uint8_t whole[SAMPLES][DIGIT], other[SAMPLES][DIGIT];
    uint8_t labels[SAMPLES], other_labels[SAMPLES] = {0};

    (void)state;
    hsgd_digits_draw(9, 0, 0, SAMPLES, whole[0], labels);
    hsgd_digits_draw(9, 0, 17, 18, other[0], other_labels);
    assert_memory_equal(other[17], whole[17], DIGIT);
    assert_int_equal(other_labels[17], labels[17]);
    for (int i = 1; i < SAMPLES; i++) {
        assert_memory_not_equal(whole[i], whole[i - 1], DIGIT);
    }
    hsgd_digits_draw(9, 1, 0, SAMPLES, other[0], other_labels);
    assert_memory_not_equal(whole, other, sizeof whole);
    hsgd_digits_draw(10, 0, 0, SAMPLES, other[0], other_labels);
    assert_memory_not_equal(whole, other, sizeof whole);
}

/* The class of the training digit nearest to x, by squared distance. */
static int nearest(const uint8_t *x, const uint8_t *pixels, const uint8_t *labels, int count)
{
    int64_t least = INT64_MAX;
    int label = -1;

    for (int i = 0; i < count; i++) {
        int32_t distance = 0; /* at most 784 * 255^2 < 2^31 */

        for (int k = 0; k < DIGIT; k++) {
            const int32_t d = x[k] - pixels[(size_t)i * DIGIT + (size_t)k];

            distance += d * d;
        }
        if (distance < least) {
            least = distance;
            label = labels[i];
        }
    }
    return label;
}

/* Worth learning and not trivial: the nearest of 2000 digits tells most of the classes, and not all.  The bounds are
 * far from the value on both sides (it is 361 of 400), which is the same each time. */
static void generated_digits_can_be_learned_but_not_by_heart(void **state)
{
    enum { TRAIN = 2000, TEST = 400 };
    hsgd_dataset *data = generate(&(hsgd_dataset_options){.train_samples = TRAIN, .test_samples = TEST, .seed = 1});
    int right = 0, of_class[10] = {0};

    (void)state;
    for (int i = 0; i < TRAIN; i++) {
        assert_in_range(data->train.labels[i], 0, 9);
        of_class[data->train.labels[i]]++;
    }
    for (int c = 0; c < 10; c++) { /* binomial: mean 200, standard deviation 13.4; five of them */
        assert_in_range(of_class[c], 133, 267);
    }
    for (int i = 0; i < TEST; i++) {
        right += nearest(data->test.pixels + (size_t)i * DIGIT, data->train.pixels, data->train.labels, TRAIN) ==
                 data->test.labels[i];
    }
    assert_in_range(right, TEST * 7 / 10, TEST * 99 / 100);
    hsgd_dataset_destroy(&data);
}

/* Known of the set of 1998: its first label, and the SHA-256 that Python's hashlib finds for the four bodies. */
static void mnist_is_read_as_it_is(void **state)
{
    const char *dir = test_data();
    hsgd_dataset *data = NULL;
    hsgd_error err = {0};

    (void)state;
    if (dir == NULL) {
        skip();
    }
    assert_ok(hsgd_dataset_load(&(hsgd_dataset_options){0}, test_comm(), &data, &err));
    assert_string_equal(data->source, dir);
    assert_int_equal(data->train.count, 60000);
    assert_int_equal(data->test.count, 10000);
    assert_int_equal(data->train.height, 28);
    assert_int_equal(data->train.width, 28);
    assert_int_equal(data->test.classes, 10);
    assert_int_equal(data->train.labels[0], 5);
    assert_int_equal(data->test.labels[0], 7);
    assert_string_equal(data->sha256, "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16");
    hsgd_dataset_destroy(&data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_and_compressed_sets_of_any_size_load_alike),
        cmocka_unit_test(the_first_samples_are_kept_and_hashed),
        cmocka_unit_test(more_samples_than_there_are_is_a_usage_error),
        cmocka_unit_test(a_named_place_without_the_files_is_an_error),
        cmocka_unit_test(nothing_named_and_nothing_found_means_generated_digits),
        cmocka_unit_test(part_of_a_set_in_the_default_place_is_an_error),
        cmocka_unit_test(generated_digits_do_not_depend_on_the_ranks),
        cmocka_unit_test(a_generated_digit_stands_for_itself),
        cmocka_unit_test(generated_digits_can_be_learned_but_not_by_heart),
        cmocka_unit_test(mnist_is_read_as_it_is),
    };
    (void)test_comm();
    return test_run(tests);
}
