/* tests/store/test_read.c - mirrors src/store/read.c: what fits is read, and each thing that does not is told apart.
 * ranks: 1 2 */
#include <fcntl.h>
#include <math.h>
#include "scratch.h"
#include "store/internal.h"

enum { COUNT = 6 };

static const hsize_t two_by_three[5] = {2, 3, 1, 1, 1};
static const double values[COUNT] = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0};

/* ---- makers of /data (and what else it takes) on rank 0 ---- */

static void put(hid_t file, const char *path, hid_t type, int rank, const hsize_t *dims, const void *data)
{
    const hid_t space = H5Screate_simple(rank, dims, NULL);
    const hid_t id = H5Dcreate2(file, path, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);

    assert_true(id >= 0);
    assert_true(data == NULL || H5Dwrite(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    assert_true(H5Dclose(id) >= 0 && H5Sclose(space) >= 0);
}

static void make_group(hid_t file, const char *path)
{
    const hid_t id = H5Gcreate2(file, path, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);

    assert_true(id >= 0 && H5Gclose(id) >= 0);
}

static void make_good(hid_t file)
{
    put(file, "/data", H5T_NATIVE_DOUBLE, 2, two_by_three, values);
}

static void make_nothing(hid_t file)
{
    make_group(file, "/other");
}

static void make_group_in_place(hid_t file)
{
    make_group(file, "/data");
}

static void make_named_type(hid_t file)
{
    const hid_t type = H5Tcopy(H5T_NATIVE_INT);

    assert_true(H5Tcommit2(file, "/data", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT) >= 0 && H5Tclose(type) >= 0);
}

static void make_soft_link(hid_t file)
{
    put(file, "/real", H5T_NATIVE_DOUBLE, 2, two_by_three, values);
    assert_true(H5Lcreate_soft("/real", file, "/data", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

static void make_dangling_link(hid_t file)
{
    assert_true(H5Lcreate_soft("/nowhere", file, "/data", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

static void make_external_link(hid_t file)
{
    assert_true(H5Lcreate_external("other.h5", "/data", file, "/data", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

static void make_linked_group(hid_t file)
{
    make_group(file, "/real");
    put(file, "/real/data", H5T_NATIVE_DOUBLE, 2, two_by_three, values);
    assert_true(H5Lcreate_soft("/real", file, "/group", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

static void make_with_type(hid_t file, hid_t type)
{
    put(file, "/data", type, 2, two_by_three, NULL);
    assert_true(H5Tclose(type) >= 0);
}

static void make_text(hid_t file)
{
    const hid_t type = H5Tcopy(H5T_C_S1);

    assert_true(H5Tset_size(type, 8) >= 0);
    make_with_type(file, type);
}

static void make_compound(hid_t file)
{
    const hid_t type = H5Tcreate(H5T_COMPOUND, 16);

    assert_true(H5Tinsert(type, "a", 0, H5T_NATIVE_DOUBLE) >= 0 && H5Tinsert(type, "b", 8, H5T_NATIVE_DOUBLE) >= 0);
    make_with_type(file, type);
}

static void make_enumeration(hid_t file)
{
    const hid_t type = H5Tenum_create(H5T_NATIVE_INT);
    const int one = 1;

    assert_true(H5Tenum_insert(type, "one", &one) >= 0);
    make_with_type(file, type);
}

static void make_lists(hid_t file)
{
    make_with_type(file, H5Tvlen_create(H5T_NATIVE_DOUBLE));
}

static void make_opaque(hid_t file)
{
    make_with_type(file, H5Tcreate(H5T_OPAQUE, 8));
}

static void make_references(hid_t file)
{
    make_with_type(file, H5Tcopy(H5T_STD_REF_OBJ));
}

static void make_null_space(hid_t file)
{
    const hid_t space = H5Screate(H5S_NULL);
    const hid_t id = H5Dcreate2(file, "/data", H5T_NATIVE_DOUBLE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);

    assert_true(id >= 0 && H5Dclose(id) >= 0 && H5Sclose(space) >= 0);
}

static void make_scalar(hid_t file)
{
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t id = H5Dcreate2(file, "/data", H5T_NATIVE_DOUBLE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);

    assert_true(id >= 0 && H5Dclose(id) >= 0 && H5Sclose(space) >= 0);
}

static void make_vector(hid_t file)
{
    put(file, "/data", H5T_NATIVE_DOUBLE, 1, (const hsize_t[]){COUNT}, values);
}

static void make_three_axes(hid_t file)
{
    put(file, "/data", H5T_NATIVE_DOUBLE, 3, two_by_three, values);
}

static void make_five_axes(hid_t file)
{
    put(file, "/data", H5T_NATIVE_DOUBLE, 5, two_by_three, values);
}

static void make_turned(hid_t file)
{
    put(file, "/data", H5T_NATIVE_DOUBLE, 2, (const hsize_t[]){3, 2}, values);
}

/* A dataset without its values in the file: chunked, so that its size is a claim only. */
static void make_claim(hid_t file, hsize_t rows, hsize_t columns)
{
    const hsize_t dims[] = {rows, columns}, chunk[] = {1, 64};
    const hid_t space = H5Screate_simple(2, dims, NULL), creation = H5Pcreate(H5P_DATASET_CREATE);
    hid_t id;

    assert_true(H5Pset_chunk(creation, 2, chunk) >= 0);
    id = H5Dcreate2(file, "/data", H5T_NATIVE_UINT8, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    assert_true(id >= 0 && H5Dclose(id) >= 0 && H5Pclose(creation) >= 0 && H5Sclose(space) >= 0);
}

static void make_huge(hid_t file)
{
    make_claim(file, (hsize_t)1 << 40, 64);
}

static void make_impossible(hid_t file)
{
    make_claim(file, (hsize_t)1 << 58, 64);
}

static void make_nan(hid_t file)
{
    const double with[COUNT] = {1.0, 2.0, NAN};

    put(file, "/data", H5T_NATIVE_DOUBLE, 2, two_by_three, with);
}

static void make_infinity(hid_t file)
{
    const float with[COUNT] = {0, 0, 0, 0, 0, -INFINITY};

    put(file, "/data", H5T_NATIVE_FLOAT, 2, two_by_three, with);
}

static void make_with_creation(hid_t file, hid_t creation, const void *data)
{
    const hid_t space = H5Screate_simple(2, two_by_three, NULL);
    const hid_t id = H5Dcreate2(file, "/data", H5T_NATIVE_DOUBLE, space, H5P_DEFAULT, creation, H5P_DEFAULT);

    assert_true(id >= 0);
    assert_true(data == NULL || H5Dwrite(id, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    assert_true(H5Dclose(id) >= 0 && H5Pclose(creation) >= 0 && H5Sclose(space) >= 0);
}

static void make_external_storage(hid_t file)
{
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);

    assert_true(H5Pset_external(creation, "/etc/passwd", 0, sizeof values) >= 0);
    make_with_creation(file, creation, NULL);
}

static void make_virtual(hid_t file)
{
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(2, two_by_three, NULL);

    assert_true(H5Pset_virtual(creation, space, "other.h5", "/data", space) >= 0 && H5Sclose(space) >= 0);
    make_with_creation(file, creation, NULL);
}

static size_t invert(unsigned flags, size_t count, const unsigned parameters[], size_t bytes, size_t *size,
                     void **buffer)
{
    (void)flags, (void)count, (void)parameters, (void)size;
    for (size_t i = 0; i < bytes; i++) {
        ((unsigned char *)*buffer)[i] ^= 255;
    }
    return bytes;
}

/* Packed by a filter that the reader does not have, and must not go looking for. */
static void make_unknown_filter(hid_t file)
{
    enum { OURS = 500 };
    const H5Z_class2_t filter = {H5Z_CLASS_T_VERS, OURS, 1, 1, "inverted", NULL, NULL, invert};
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);

    assert_true(H5Zregister(&filter) >= 0);
    assert_true(H5Pset_chunk(creation, 2, two_by_three) >= 0 &&
                H5Pset_filter(creation, OURS, H5Z_FLAG_MANDATORY, 0, NULL) >= 0);
    make_with_creation(file, creation, values);
    assert_true(H5Fflush(file, H5F_SCOPE_GLOBAL) >= 0 && H5Zunregister(OURS) >= 0);
}

static void make_checksummed(hid_t file)
{
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);

    assert_true(H5Pset_chunk(creation, 2, two_by_three) >= 0 && H5Pset_fletcher32(creation) >= 0);
    make_with_creation(file, creation, values);
}

static void make_file(const char *path, void (*make)(hid_t file))
{
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);

    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    assert_true(file >= 0);
    make(file);
    assert_true(H5Fclose(file) >= 0);
}

static void make_bytes(const char *path, const char *bytes, size_t count)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

/* ---- what must be refused ---- */

typedef struct {
    void (*make)(hid_t file);
    const char *path;
    bool integer;
    const char *fragment; /* of the message */
} refusal;

static const refusal refusals[] = {
    {make_nothing, "/data", false, "has no /data"},
    {make_nothing, "/absent/data", false, "has no /absent/data"},
    {make_good, "/data/below", false, "has no /data/below"},
    {make_group_in_place, "/data", false, "/data is not a dataset"},
    {make_named_type, "/data", false, "/data is not a dataset"},
    {make_soft_link, "/data", false, "/data is a soft or external link"},
    {make_dangling_link, "/data", false, "/data is a soft or external link"},
    {make_external_link, "/data", false, "/data is a soft or external link"},
    {make_linked_group, "/group/data", false, "/group is a soft or external link"},
    {make_text, "/data", false, "does not hold numbers"},
    {make_compound, "/data", false, "does not hold numbers"},
    {make_enumeration, "/data", false, "does not hold numbers"},
    {make_lists, "/data", false, "does not hold numbers"},
    {make_opaque, "/data", false, "does not hold numbers"},
    {make_references, "/data", false, "does not hold numbers"},
    {make_null_space, "/data", false, "/data is empty"},
    {make_scalar, "/data", false, "has shape [], expected [2, 3]"},
    {make_vector, "/data", false, "has shape [6], expected [2, 3]"},
    {make_three_axes, "/data", false, "has shape [2, 3, 1], expected [2, 3]"},
    {make_five_axes, "/data", false, "has 5 dimensions"},
    {make_turned, "/data", false, "has shape [3, 2], expected [2, 3]"},
    {make_huge, "/data", false, "has shape [1099511627776, 64], expected [2, 3]"},
    {make_impossible, "/data", false, "impossible dimensions"},
    {make_nan, "/data", false, "holds NaN or infinity (entry 2)"},
    {make_infinity, "/data", false, "holds NaN or infinity (entry 5)"},
    {make_good, "/data", true, "holds real numbers"},
    {make_external_storage, "/data", false, "values in other files"},
    {make_virtual, "/data", false, "values in other files"},
    {make_unknown_filter, "/data", false, "damaged or truncated"},
};

/* Read /data-like [2, 3] from s->file and expect status DATA, naming the file and holding `fragment`, on all ranks. */
static void assert_refused(const scratch *s, const char *path, bool integer, const char *fragment)
{
    const int64_t dims[] = {2, 3};
    double real[COUNT];
    int64_t whole[COUNT];
    hsgd_error err = {0};
    const hsgd_status st = integer ? hsgd_store_read_i64(test_comm(), s->file, path, 2, dims, whole, &err)
                                   : hsgd_store_read_f64(test_comm(), s->file, path, 2, dims, real, &err);

    if (st != HSGD_ERR_DATA || strstr(err.text, fragment) == NULL || strstr(err.text, s->file) == NULL) {
        fail_msg("expected \"%s\", got status %d: %s", fragment, st, err.text);
    }
    assert_int_equal(H5Fget_obj_count(H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
}

static void files_that_do_not_fit_are_refused_each_in_its_words(void **state)
{
    scratch *s = *state;

    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        char name[32];

        (void)snprintf(name, sizeof name, "r%zu.h5", i);
        (void)scratch_file(s, name);
        if (test_comm()->rank == 0) {
            make_file(s->file, refusals[i].make);
        }
        assert_refused(s, refusals[i].path, refusals[i].integer, refusals[i].fragment);
    }
}

static void files_that_are_not_whole_hdf5_are_refused_each_in_its_words(void **state)
{
    static const char signature[] = "\x89HDF\r\n\x1a\n";
    scratch *s = *state;
    const bool first = test_comm()->rank == 0;
    char garbage[2048];
    struct stat info;

    memset(garbage, 0x5a, sizeof garbage);
    (void)scratch_file(s, "absent.h5");
    assert_refused(s, "/data", false, "No such file");
    (void)scratch_file(s, "");
    assert_refused(s, "/data", false, "not a regular file");
    (void)scratch_file(s, "empty.h5");
    if (first) {
        make_bytes(s->file, "", 0);
    }
    assert_refused(s, "/data", false, "the file is empty");
    (void)scratch_file(s, "text.h5");
    if (first) {
        make_bytes(s->file, "weights: none\n", 14);
    }
    assert_refused(s, "/data", false, "not an HDF5 file");
    (void)scratch_file(s, "signature.h5");
    if (first) {
        make_bytes(s->file, signature, 8);
    }
    assert_refused(s, "/data", false, "damaged or truncated");
    (void)scratch_file(s, "garbage.h5");
    if (first) {
        memcpy(garbage, signature, 8);
        make_bytes(s->file, garbage, sizeof garbage);
    }
    assert_refused(s, "/data", false, "damaged or truncated");
    (void)scratch_file(s, "cut.h5");
    if (first) {
        make_file(s->file, make_good);
        assert_int_equal(stat(s->file, &info), 0);
        assert_int_equal(truncate(s->file, info.st_size - 8), 0);
    }
    assert_refused(s, "/data", false, "damaged or truncated");
}

/* Invert one byte of the values; the checksum that HDF5 keeps of them must tell. */
static void a_changed_value_is_told_where_there_is_a_checksum(void **state)
{
    scratch *s = *state;

    (void)scratch_file(s, "checksum.h5");
    if (test_comm()->rank == 0) {
        unsigned char bytes[16384];
        size_t count, at = 0;
        FILE *file;

        make_file(s->file, make_checksummed);
        file = fopen(s->file, "r+b");
        assert_non_null(file);
        count = fread(bytes, 1, sizeof bytes, file);
        while (at + sizeof values <= count && memcmp(bytes + at, values, sizeof values) != 0) {
            at++;
        }
        assert_true(at + sizeof values <= count);
        assert_int_equal(fseek(file, (long)at + 6, SEEK_SET), 0);
        assert_int_equal(fputc(bytes[at + 6] ^ 255, file), bytes[at + 6] ^ 255);
        assert_int_equal(fclose(file), 0);
    }
    assert_refused(s, "/data", false, "damaged or truncated");
}

static void any_kind_of_number_is_read(void **state)
{
    static const int64_t any[] = {-1, 3};
    const hid_t types[] = {H5T_IEEE_F32BE, H5T_IEEE_F64BE, H5T_STD_I8LE, H5T_STD_U16BE, H5T_STD_I64BE};
    scratch *s = *state;
    hsgd_error err = {0};
    double real[COUNT];
    int64_t whole[COUNT], dims[4];
    int rank = 0;

    for (int t = 0; t < 5; t++) {
        char name[32];

        (void)snprintf(name, sizeof name, "t%d.h5", t);
        (void)scratch_file(s, name);
        if (test_comm()->rank == 0) {
            const hid_t file = H5Fcreate(s->file, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT),
                        space = H5Screate_simple(2, two_by_three, NULL);
            const hid_t id = H5Dcreate2(file, "/data", types[t], space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);

            assert_true(H5Dwrite(id, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
            assert_true(H5Dclose(id) >= 0 && H5Sclose(space) >= 0 && H5Fclose(file) >= 0);
        }
        assert_ok(hsgd_store_dims(test_comm(), s->file, "/data", &rank, dims, &err));
        assert_int_equal(rank, 2);
        assert_true(dims[0] == 2 && dims[1] == 3);
        assert_ok(hsgd_store_read_f64(test_comm(), s->file, "/data", 2, any, real, &err));
        assert_memory_equal(real, values, sizeof values);
        if (t >= 2) {
            assert_ok(hsgd_store_read_i64(test_comm(), s->file, "/data", 2, any, whole, &err));
            assert_true(whole[0] == 1 && whole[5] == 6);
        }
    }
}

static void make_attributes(hid_t file)
{
    static const char *const long_text = "a text that is longer than the room for it";
    const hid_t space = H5Screate(H5S_SCALAR), pair = H5Screate_simple(1, (const hsize_t[]){2}, NULL),
                text = store_text_type();
    const hid_t t = H5Acreate2(file, "text", text, space, H5P_DEFAULT, H5P_DEFAULT),
                i = H5Acreate2(file, "whole", H5T_STD_I32BE, space, H5P_DEFAULT, H5P_DEFAULT),
                r = H5Acreate2(file, "real", H5T_NATIVE_DOUBLE, space, H5P_DEFAULT, H5P_DEFAULT),
                p = H5Acreate2(file, "pair", H5T_NATIVE_INT, pair, H5P_DEFAULT, H5P_DEFAULT);
    const int64_t minus = -7;

    assert_true(H5Awrite(t, text, &long_text) >= 0 && H5Awrite(i, H5T_NATIVE_INT64, &minus) >= 0);
    assert_true(H5Aclose(p) >= 0 && H5Aclose(r) >= 0 && H5Aclose(i) >= 0 && H5Aclose(t) >= 0);
    assert_true(H5Tclose(text) >= 0 && H5Sclose(pair) >= 0 && H5Sclose(space) >= 0);
}

static void attributes_are_read_or_refused(void **state)
{
    static const char *const not_whole[] = {"text", "real", "pair"}, *const not_text[] = {"whole", "real", "pair"};
    scratch *s = *state;
    hsgd_error err = {0};
    char text[7];
    int64_t whole = 0;

    (void)scratch_file(s, "a.h5");
    if (test_comm()->rank == 0) {
        make_file(s->file, make_attributes);
    }
    assert_ok(hsgd_store_read_attribute_text(test_comm(), s->file, "text", text, sizeof text, &err));
    assert_string_equal(text, "a text");
    assert_ok(hsgd_store_read_attribute_i64(test_comm(), s->file, "whole", &whole, &err));
    assert_int_equal(whole, -7);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(hsgd_store_read_attribute_i64(test_comm(), s->file, not_whole[i], &whole, &err),
                         HSGD_ERR_DATA);
        assert_non_null(strstr(err.text, "wrong type"));
        assert_int_equal(hsgd_store_read_attribute_text(test_comm(), s->file, not_text[i], text, sizeof text, &err),
                         HSGD_ERR_DATA);
        assert_non_null(strstr(err.text, "wrong type"));
    }
    assert_int_equal(hsgd_store_read_attribute_i64(test_comm(), s->file, "absent", &whole, &err), HSGD_ERR_DATA);
    assert_non_null(strstr(err.text, "has no attribute absent"));
    assert_int_equal(H5Fget_obj_count(H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
}

/* ---- parameters ---- */

static const hsgd_parameter network[] = {
    {"conv1", "weight", 4, {2, 1, 3, 3}, 0, 18},
    {"conv1", "bias", 1, {2}, 18, 2},
    {"out", "weight", 2, {3, 4}, 20, 12},
    {"out", "bias", 1, {3}, 32, 3},
};
enum { PARAMETERS = 35 };

static void write_network(scratch *s, const hsgd_parameter *list, int64_t count, hsgd_store_type type,
                          const double *flat)
{
    hsgd_store *store = NULL;
    hsgd_error err = {0};

    assert_ok(hsgd_store_create(test_comm(), s->folder, "w.h5", &scratch_provenance, NULL, &store, &err));
    assert_ok(hsgd_store_write_parameters(store, "/params", list, count, type, flat, &err));
    assert_ok(hsgd_store_commit(&store, HSGD_COMMIT_REPLACE, &err));
    (void)scratch_file(s, "w.h5");
}

static void parameters_come_back_in_flat_order(void **state)
{
    scratch *s = *state;
    hsgd_error err = {0};
    double flat[PARAMETERS], back[PARAMETERS];

    for (int i = 0; i < PARAMETERS; i++) {
        flat[i] = 1.0 / (i + 3);
    }
    write_network(s, network, 4, HSGD_STORE_F64, flat);
    assert_ok(hsgd_store_read_parameters(test_comm(), s->file, "/params", network, 4, back, &err));
    assert_memory_equal(back, flat, sizeof flat);
    write_network(s, network, 4, HSGD_STORE_F32, flat);
    assert_ok(hsgd_store_read_parameters(test_comm(), s->file, "/params", network, 4, back, &err));
    for (int i = 0; i < PARAMETERS; i++) {
        assert_true(back[i] == (double)(float)flat[i]);
    }
}

static void parameters_of_another_network_are_refused_and_nothing_is_read(void **state)
{
    static const struct {
        int first, count; /* of the network, what is in the file */
        int change;       /* which of them gets another shape there; -1: none */
        const char *prefix, *fragment;
    } cases[] = {
        {0, 2, -1, "/params", "has no /params/out/weight"},
        {0, 3, -1, "/params", "has no /params/out/bias"},
        {0, 4, 2, "/params", "/params/out/weight has shape [5, 4], expected [3, 4]"},
        {0, 4, -1, "/optimizer", "has no /optimizer"},
        {0, 4, -1, "/params/out/bias", "is not a group of layers"},
    };
    scratch *s = *state;
    hsgd_error err = {0};
    double flat[PARAMETERS + 20] = {0.0}, back[PARAMETERS];

    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        hsgd_parameter list[4];

        memcpy(list, network, sizeof list);
        if (cases[c].change >= 0) {
            list[cases[c].change].dims[0] = 5;
        }
        write_network(s, list + cases[c].first, cases[c].count, HSGD_STORE_F64, flat);
        for (int i = 0; i < PARAMETERS; i++) {
            back[i] = 9.0;
        }
        assert_int_equal(hsgd_store_read_parameters(test_comm(), s->file, cases[c].prefix, network, 4, back, &err),
                         HSGD_ERR_DATA);
        if (strstr(err.text, cases[c].fragment) == NULL) {
            fail_msg("expected \"%s\", got: %s", cases[c].fragment, err.text);
        }
        for (int i = 0; i < PARAMETERS; i++) {
            assert_true(back[i] == 9.0);
        }
    }
    write_network(s, network, 4, HSGD_STORE_F64, flat);
    assert_int_equal(hsgd_store_read_parameters(test_comm(), s->file, "/params", network, 2, back, &err),
                     HSGD_ERR_DATA); /* the file has a layer more */
    assert_non_null(strstr(err.text, "/params/out: the network of model.layers has no such layer"));
    assert_int_equal(H5Fget_obj_count(H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(files_that_do_not_fit_are_refused_each_in_its_words),
        scratch_test(files_that_are_not_whole_hdf5_are_refused_each_in_its_words),
        scratch_test(a_changed_value_is_told_where_there_is_a_checksum),
        scratch_test(any_kind_of_number_is_read),
        scratch_test(attributes_are_read_or_refused),
        scratch_test(parameters_come_back_in_flat_order),
        scratch_test(parameters_of_another_network_are_refused_and_nothing_is_read),
    };
    return test_run(tests);
}
