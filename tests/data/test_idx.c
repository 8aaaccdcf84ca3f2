/* tests/data/test_idx.c - every defect of an IDX set ends the load with its own text, on all ranks alike.
 * ranks: 1 4 */
#include "idx_files.h"

typedef enum {
    LEAVE,  /* as it is */
    ABSENT, /* do not write it */
    SET,    /* the 32 bits at offset a become b */
    FLIP,   /* the byte at offset a, counted from the end where negative */
    CUT,    /* keep a bytes; where negative, all but -a */
    APPEND, /* a bytes of 0x55 */
    TWICE,  /* compress once more */
    IMAGES, /* another set: a images of b x 5 */
    LABELS, /* another set: a labels of b classes */
    FOLDER, /* what stands in the file's place */
    FIFO,
    LOOP,
    DANGLING,
    FORBIDDEN,
} edit;

typedef struct {
    const char *defect;
    int file;
    bool gzip;  /* write it compressed */
    bool after; /* the edit is to the compressed bytes */
    edit edit;
    int64_t a, b;
    const char *says; /* what the text must hold besides the file's name */
} broken;

static const broken table[] = {
    {"absent images", TRAIN_IMAGES, false, false, ABSENT, 0, 0, "missing file"},
    {"absent labels", TEST_LABELS, false, false, ABSENT, 0, 0,
     "neither t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte.gz"},
    {"dangling link", TEST_IMAGES, false, false, DANGLING, 0, 0, "missing file"},
    {"link to itself", TRAIN_IMAGES, false, false, LOOP, 0, 0, "cannot be opened"},
    {"no permission", TRAIN_LABELS, false, false, FORBIDDEN, 0, 0, "cannot be opened"},
    {"folder", TRAIN_IMAGES, false, false, FOLDER, 0, 0, "is a folder"},
    {"folder named .gz", TEST_LABELS, true, false, FOLDER, 0, 0, "is a folder"},
    {"fifo", TRAIN_IMAGES, false, false, FIFO, 0, 0, "is a FIFO"},
    {"fifo named .gz", TRAIN_LABELS, true, false, FIFO, 0, 0, "is a FIFO"},
    {"empty", TRAIN_IMAGES, false, false, CUT, 0, 0, "empty file"},
    {"empty .gz", TEST_IMAGES, true, true, CUT, 0, 0, "empty file"},
    {"labels as images", TRAIN_IMAGES, false, false, LABELS, 6, 3, "holds labels where images belong"},
    {"images as labels", TEST_LABELS, false, false, IMAGES, 4, 4, "holds images where labels belong"},
    {"little-endian images", TRAIN_IMAGES, false, false, SET, 0, 0x03080000, "bytes reversed"},
    {"little-endian labels", TRAIN_LABELS, false, false, SET, 0, 0x01080000, "bytes reversed"},
    {"floats", TRAIN_IMAGES, false, false, SET, 0, 0x00000d03, "element type 0x0d"},
    {"two dimensions", TRAIN_IMAGES, false, false, SET, 0, 0x00000802, "has 2 dimensions, images have 3"},
    {"four dimensions, .gz", TEST_IMAGES, true, false, SET, 0, 0x00000804, "has 4 dimensions, images have 3"},
    {"labels of two dimensions", TRAIN_LABELS, false, false, SET, 0, 0x00000802, "has 2 dimensions, labels have 1"},
    {"web page", TRAIN_IMAGES, false, false, SET, 0, 0x3c68746d, "looks like a web page"},
    {"something else", TEST_IMAGES, false, false, SET, 0, 0x7f454c46, "wrong magic 0x7f454c46"},
    {"something else, .gz", TRAIN_LABELS, true, false, SET, 0, 0x7f454c46, "wrong magic 0x7f454c46"},
    {"compressed twice", TRAIN_IMAGES, true, false, TWICE, 0, 0, "compressed twice"},
    {"no images", TRAIN_IMAGES, false, false, SET, 4, 0, "dimension 1 of its header is zero"},
    {"no rows", TRAIN_IMAGES, false, false, SET, 8, 0, "dimension 2 of its header is zero"},
    {"no columns", TEST_IMAGES, true, false, SET, 12, 0, "dimension 3 of its header is zero"},
    {"no labels", TRAIN_LABELS, false, false, SET, 4, 0, "dimension 1 of its header is zero"},
    {"edge just too long", TRAIN_IMAGES, false, false, SET, 8, 4097, "an edge of 4097 pixels"},
    {"edge of 2^32 - 1", TRAIN_IMAGES, true, false, SET, 12, 0xffffffff, "an edge of 4294967295 pixels"},
    {"count of 2^32 - 1", TRAIN_IMAGES, false, false, SET, 4, 0xffffffff, "truncated"},
    {"count of 2^32 - 1, .gz", TRAIN_IMAGES, true, false, SET, 4, 0xffffffff, "bytes of gzip can hold"},
    {"labels of 2^32 - 1, .gz", TEST_LABELS, true, false, SET, 4, 0xffffffff, "bytes of gzip can hold"},
    {"a few times what gzip can hold", TEST_LABELS, true, false, SET, 4, 100000, "bytes of gzip can hold"},
    {"half a magic", TRAIN_IMAGES, false, false, CUT, 2, 0, "truncated: 2 bytes"},
    {"half a header", TRAIN_IMAGES, false, false, CUT, 15, 0, "truncated: 15 bytes"},
    {"half a header of labels", TEST_LABELS, false, false, CUT, 7, 0, "truncated: 7 bytes"},
    {"half a header, .gz", TRAIN_LABELS, true, false, CUT, 7, 0, "truncated: 7 bytes"},
    {"one pixel short", TRAIN_IMAGES, false, false, CUT, -1, 0, "truncated: 135 bytes of the 136"},
    {"one label short", TEST_LABELS, false, false, CUT, -1, 0, "truncated: 11 bytes of the 12"},
    {"one pixel short, .gz", TRAIN_IMAGES, true, false, CUT, -1, 0, "truncated: 1 bytes short"},
    {"one byte more", TRAIN_IMAGES, false, false, APPEND, 1, 0, "1 trailing bytes"},
    {"labels with more", TRAIN_LABELS, false, false, APPEND, 9, 0, "9 trailing bytes"},
    {"one byte more, .gz", TEST_IMAGES, true, false, APPEND, 1, 0, "trailing bytes"},
    {"gzip's first two bytes", TRAIN_IMAGES, true, true, CUT, 2, 0, "gzip data stop early"},
    {"half the gzip", TRAIN_IMAGES, true, true, CUT, -40, 0, "gzip data stop early"},
    {"gzip without its length", TRAIN_IMAGES, true, true, CUT, -4, 0, "gzip data stop early"},
    {"gzip with a wrong CRC", TRAIN_IMAGES, true, true, FLIP, -8, 0, "damaged gzip data"},
    {"gzip with a wrong length", TEST_LABELS, true, true, FLIP, -4, 0, "damaged gzip data"},
    {"gzip of another method", TRAIN_LABELS, true, true, FLIP, 2, 0, "damaged gzip data"},
    {"bytes behind the gzip", TEST_IMAGES, true, true, APPEND, 3, 0, "trailing bytes behind the gzip data"},
    {"fewer labels than images", TRAIN_LABELS, false, false, LABELS, 5, 3, "5 labels for the 6 images"},
    {"fewer images than labels", TEST_IMAGES, false, false, IMAGES, 3, 4, "4 labels for the 3 images"},
    {"test images of another size", TEST_IMAGES, false, false, IMAGES, 4, 6, "4 x 5 pixels, test images 6 x 5"},
    {"one class alone", TRAIN_LABELS, false, false, LABELS, 6, 1, "labels out of range: all are 0"},
    {"label that cannot be a class", TRAIN_LABELS, false, false, SET, 8, 0x000102ff,
     "label out of range: sample 3 has 255, yet only 4 different labels occur"},
    {"test label beyond the classes", TEST_LABELS, false, false, SET, 8, 0x00010302,
     "label out of range: sample 2 has 3"},
};

/* Apply an edit of bytes. */
static void apply(const broken *c, blob *b)
{
    const size_t at = (size_t)(c->a >= 0 ? c->a : (int64_t)b->size + c->a);

    switch (c->edit) {
    case SET:
        put_u32(b, at, (uint32_t)c->b);
        break;
    case FLIP:
        b->bytes[at] ^= 0xff;
        break;
    case CUT:
        b->size = at;
        break;
    case APPEND:
        memset(b->bytes + b->size, 0x55, (size_t)c->a);
        b->size += (size_t)c->a;
        break;
    case TWICE:
        compress_blob(b);
        break;
    case IMAGES:
        make_images(b, (uint32_t)c->a, (uint32_t)c->b, 5);
        break;
    case LABELS:
        make_labels(b, (uint32_t)c->a, (uint32_t)c->b);
        break;
    default:
        break;
    }
}

/* Put what is no regular file, or is not readable, in the file's place. */
static void replace(const broken *c, const blob *b, const char *dir)
{
    char path[256];

    path_of(path, dir, file_names[c->file], c->gzip);
    switch (c->edit) {
    case ABSENT:
        break;
    case FOLDER:
        assert_int_equal(mkdir(path, 0700), 0);
        break;
    case FIFO:
        assert_int_equal(mkfifo(path, 0600), 0);
        break;
    case LOOP:
        assert_int_equal(symlink(path, path), 0);
        break;
    case DANGLING:
        assert_int_equal(symlink("/nowhere/at/all", path), 0);
        break;
    default:
        write_blob(b, dir, file_names[c->file], c->gzip);
        assert_true(c->edit != FORBIDDEN || chmod(path, 0) == 0);
        break;
    }
}

/* The valid set of 6 + 4 images of 4 x 5 in 3 classes, but for one file.  Rank 0. */
static void write_broken(const broken *c, const char *dir)
{
    blob *b = malloc(sizeof *b);

    assert_non_null(b);
    for (int f = 0; f < FILES; f++) {
        const uint32_t count = f < TEST_IMAGES ? 6 : 4;

        if (f == TRAIN_IMAGES || f == TEST_IMAGES) {
            make_images(b, count, 4, 5);
        } else {
            make_labels(b, count, 3);
        }
        if (f != c->file) {
            write_blob(b, dir, file_names[f], false);
            continue;
        }
        if (!c->after) {
            apply(c, b);
        }
        if (c->gzip) {
            compress_blob(b);
        }
        if (c->after) {
            apply(c, b);
        }
        replace(c, b, dir);
    }
    free(b);
}

static void each_defect_has_its_own_text_on_every_rank(void **state)
{
    hsgd_comm *comm = test_comm();
    char dir[64];
    int wrong = 0;

    (void)state;
    make_folder(dir);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const broken *c = &table[i];
        const hsgd_dataset_options options = {.dir = dir};
        hsgd_dataset *data = NULL;
        hsgd_error err = {0};
        hsgd_status st = HSGD_OK;

        if (c->edit == FORBIDDEN && geteuid() == 0) {
            print_message("skipped: %s: root may read everything\n", c->defect);
            continue;
        }
        if (comm->rank == 0) {
            write_broken(c, dir);
        }
        together();
        st = hsgd_dataset_load(&options, comm, &data, &err);
        if (st != HSGD_ERR_DATA || err.status != st || data != NULL || strstr(err.text, c->says) == NULL ||
            strstr(err.text, dir) == NULL || (strstr(err.text, file_names[c->file]) == NULL && c->edit != IMAGES)) {
            print_error("%s: status %d, text \"%s\" (wanted \"%s\")\n", c->defect, st, err.text, c->says);
            wrong++;
        }
        hsgd_dataset_destroy(&data);
        together();
        if (comm->rank == 0) {
            clear_folder(dir);
        }
    }
    remove_folder(dir);
    assert_int_equal(wrong, 0);
}

/* The table must be able to fail: unedited, plain or compressed, the same set loads. */
static void the_set_without_a_defect_loads(void **state)
{
    static const broken whole[] = {{"plain", TRAIN_IMAGES, false, false, LEAVE, 0, 0, ""},
                                   {"gzip", TEST_LABELS, true, false, LEAVE, 0, 0, ""}};
    hsgd_comm *comm = test_comm();
    char dir[64];

    (void)state;
    make_folder(dir);
    for (int i = 0; i < 2; i++) {
        const hsgd_dataset_options options = {.dir = dir};
        hsgd_dataset *data = NULL;
        hsgd_error err = {0};

        if (comm->rank == 0) {
            write_broken(&whole[i], dir);
        }
        together();
        assert_ok(hsgd_dataset_load(&options, comm, &data, &err));
        assert_int_equal(data->train.classes, 3);
        hsgd_dataset_destroy(&data);
        together();
        if (comm->rank == 0) {
            clear_folder(dir);
        }
    }
    remove_folder(dir);
}

static void an_edge_of_just_the_largest_length_loads(void **state)
{
    hsgd_comm *comm = test_comm();
    hsgd_dataset *data = NULL;
    hsgd_error err = {0};
    char dir[64];

    (void)state;
    make_folder(dir);
    if (comm->rank == 0) {
        blob *b = malloc(sizeof *b);

        assert_non_null(b);
        for (int f = 0; f < FILES; f++) {
            if (f == TRAIN_IMAGES || f == TEST_IMAGES) {
                make_images(b, 4, 4096, 2);
            } else {
                make_labels(b, 4, 3);
            }
            write_blob(b, dir, file_names[f], false);
        }
        free(b);
    }
    together();
    assert_ok(hsgd_dataset_load(&(hsgd_dataset_options){.dir = dir}, comm, &data, &err));
    assert_int_equal(data->train.height, 4096);
    hsgd_dataset_destroy(&data);
    remove_folder(dir);
}

/* The end of a compressed file is checked also when only its first samples are used. */
static void damage_beyond_the_samples_in_use_is_found(void **state)
{
    static const broken crc = {"crc", TRAIN_IMAGES, true, true, FLIP, -8, 0, ""};
    hsgd_comm *comm = test_comm();
    hsgd_dataset *data = NULL;
    hsgd_error err = {0};
    char dir[64];

    (void)state;
    make_folder(dir);
    if (comm->rank == 0) {
        write_broken(&crc, dir);
    }
    together();
    assert_int_equal(hsgd_dataset_load(&(hsgd_dataset_options){.dir = dir, .train_samples = 1}, comm, &data, &err),
                     HSGD_ERR_DATA);
    assert_non_null(strstr(err.text, "damaged gzip data"));
    remove_folder(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_set_without_a_defect_loads),
        cmocka_unit_test(each_defect_has_its_own_text_on_every_rank),
        cmocka_unit_test(an_edge_of_just_the_largest_length_loads),
        cmocka_unit_test(damage_beyond_the_samples_in_use_is_found),
    };
    (void)test_comm();
    return test_run(tests);
}
