/* tests/store/test_write.c - mirrors src/store/write.c: values, words and axes of datasets come back as they went.
 * ranks: 1 2 4
 * The datasets have three rows, so that on four ranks one of them has nothing to write. */
#include <hdf5_hl.h>
#include <math.h>
#include "scratch.h"
#include "store/internal.h"

enum { MOST = 3 * 2 * 5 * 4 };

static const int64_t shape[4] = {3, 2, 5, 4};

static hsgd_store *begin(const scratch *s)
{
    hsgd_store *store = NULL;
    hsgd_error err = {0};

    assert_ok(hsgd_store_create(test_comm(), s->folder, "t.h5", &scratch_provenance, NULL, &store, &err));
    return store;
}

static void finish(hsgd_store **store)
{
    hsgd_error err = {0};

    assert_ok(hsgd_store_commit(store, HSGD_COMMIT_REPLACE, &err));
    assert_null(*store);
}

static hsgd_dataset_spec describe(const char *path, hsgd_store_type type, int rank)
{
    hsgd_dataset_spec spec = {.path = path, .type = type, .rank = rank, .units = "nat", .description = "test values"};

    memcpy(spec.dims, shape, sizeof shape);
    return spec;
}

static void every_type_and_rank_comes_back(void **state)
{
    static const hsgd_store_type types[] = {HSGD_STORE_F64, HSGD_STORE_F32, HSGD_STORE_I64, HSGD_STORE_U8};
    scratch *s = *state;
    hsgd_store *store = begin(s);
    hsgd_error err = {0};
    double real[MOST], real_back[MOST];
    int64_t whole[MOST], whole_back[MOST];
    char path[64];

    for (int i = 0; i < MOST; i++) {
        real[i] = 1.0 / (i + 1) - 0.25;
        whole[i] = 2 * i; /* fits a byte */
    }
    for (int t = 0; t < 4; t++) {
        for (int rank = 0; rank <= 4; rank++) {
            const hsgd_dataset_spec spec = describe(path, types[t], rank);

            (void)snprintf(path, sizeof path, "/type%d/below/rank%d", t, rank);
            assert_ok(hsgd_store_write(store, &spec, t < 2 ? (const void *)real : whole, &err));
        }
    }
    finish(&store);
    (void)scratch_file(s, "t.h5");
    for (int t = 0; t < 4; t++) {
        for (int rank = 0, count = 1; rank <= 4; count *= (int)shape[rank & 3], rank++) {
            (void)snprintf(path, sizeof path, "/type%d/below/rank%d", t, rank);
            assert_ok(hsgd_store_read_f64(test_comm(), s->file, path, rank, shape, real_back, &err));
            for (int i = 0; i < count; i++) {
                const double want = t == 0 ? real[i] : t == 1 ? (double)(float)real[i] : (double)whole[i];

                assert_true(real_back[i] == want);
            }
            if (t >= 2) {
                assert_ok(hsgd_store_read_i64(test_comm(), s->file, path, rank, shape, whole_back, &err));
                assert_memory_equal(whole_back, whole, (size_t)count * sizeof whole[0]);
            }
        }
    }
}

static void a_dataset_without_entries_keeps_its_shape(void **state)
{
    scratch *s = *state;
    hsgd_store *store = begin(s);
    hsgd_error err = {0};
    hsgd_dataset_spec spec = describe("/none", HSGD_STORE_F64, 2);
    int rank = -1;
    int64_t dims[4] = {-1, -1, -1, -1};
    double nothing = 7.0;

    spec.dims[0] = 0;
    assert_ok(hsgd_store_write(store, &spec, &nothing, &err));
    finish(&store);
    assert_ok(hsgd_store_dims(test_comm(), scratch_file(s, "t.h5"), "/none", &rank, dims, &err));
    assert_int_equal(rank, 2);
    assert_int_equal(dims[0], 0);
    assert_int_equal(dims[1], shape[1]);
    assert_ok(hsgd_store_read_f64(test_comm(), s->file, "/none", 2, dims, &nothing, &err));
    assert_true(nothing == 7.0);
}

/* Columns spread as Lanczos vectors are; on more than one rank, the last rank holds none. */
static void rows_whose_columns_are_spread_come_back_whole(void **state)
{
    enum { ROWS = 3, COLUMNS = 11 };
    scratch *s = *state;
    const hsgd_comm *comm = test_comm();
    hsgd_store *store = begin(s);
    hsgd_error err = {0};
    const int holders = comm->ranks > 1 ? comm->ranks - 1 : 1;
    const int64_t any[] = {-1, -1};
    hsgd_dataset_spec spec = describe("/rows", HSGD_STORE_F64, 2);
    double mine[ROWS * COLUMNS], back[ROWS * COLUMNS];
    int64_t low = COLUMNS, high = COLUMNS;

    if (comm->rank < holders) {
        hsgd_share(COLUMNS, comm->rank, holders, &low, &high);
    }
    for (int64_t row = 0; row < ROWS; row++) {
        for (int64_t c = low; c < high; c++) {
            mine[row * (high - low) + c - low] = (double)(100 * row + c);
        }
    }
    spec.dims[0] = ROWS;
    spec.dims[1] = COLUMNS;
    assert_ok(hsgd_store_write_rows(store, &spec, low, high, mine, &err));
    finish(&store);
    assert_ok(hsgd_store_read_f64(test_comm(), scratch_file(s, "t.h5"), "/rows", 2, any, back, &err));
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        assert_true(back[i] == 100 * (i / COLUMNS) + i % COLUMNS);
    }
}

/* Rank 0's view of a committed file. */
static void with_file(scratch *s, void (*look)(hid_t file))
{
    if (test_comm()->rank == 0) {
        const hid_t file = H5Fopen(scratch_file(s, "t.h5"), H5F_ACC_RDONLY, H5P_DEFAULT);

        assert_true(file >= 0);
        look(file);
        assert_true(H5Fclose(file) >= 0);
    }
}

static void assert_text(hid_t file, const char *object, const char *name, const char *want)
{
    char *value = NULL;
    const hid_t id = H5Aopen_by_name(file, object, name, H5P_DEFAULT, H5P_DEFAULT), type = H5Aget_type(id);

    assert_true(id >= 0);
    assert_int_equal(H5Tget_class(type), H5T_STRING);
    assert_int_equal(H5Tget_cset(type), H5T_CSET_UTF8); /* h5py gives str, not bytes */
    assert_true(H5Aread(id, type, &value) >= 0);
    assert_string_equal(value, want);
    assert_true(H5free_memory(value) >= 0 && H5Tclose(type) >= 0 && H5Aclose(id) >= 0);
}

static void look_at_words(hid_t file)
{
    H5O_info_t info;
    int64_t whole = 0;
    double real = 0.0;

    assert_text(file, "/x", "units", "nat");
    assert_text(file, "/x", "description", "test values");
    assert_text(file, "/x", "reason",
                "gr\xc3\xb6\xc3\x9f"
                "er than \xce\xbc");
    assert_text(file, "/", "note", "");
    assert_true(H5LTget_attribute(file, "/x", "count", H5T_NATIVE_INT64, &whole) >= 0);
    assert_true(whole == INT64_MIN);
    assert_true(H5LTget_attribute(file, "/", "value", H5T_NATIVE_DOUBLE, &real) >= 0);
    assert_true(real == 0.1);
    assert_true(H5Oget_info_by_name(file, "/x", &info, H5P_DEFAULT) >= 0);
    assert_int_equal(info.mtime, 0); /* times would make equal results differ */
}

static void words_and_numbers_stand_beside_the_values(void **state)
{
    hsgd_store *store = begin(*state);
    hsgd_error err = {0};
    const hsgd_dataset_spec spec = describe("/x", HSGD_STORE_F64, 0);
    const double one = 1.0;

    assert_ok(hsgd_store_write(store, &spec, &one, &err));
    assert_ok(hsgd_store_attribute_text(store, "/x", "reason",
                                        "gr\xc3\xb6\xc3\x9f"
                                        "er than \xce\xbc",
                                        &err));
    assert_ok(hsgd_store_attribute_text(store, "/", "note", "", &err));
    assert_ok(hsgd_store_attribute_i64(store, "/x", "count", INT64_MIN, &err));
    assert_ok(hsgd_store_attribute_f64(store, "/", "value", 0.1, &err));
    finish(&store);
    with_file(*state, look_at_words);
}

static void look_at_axes(hid_t file)
{
    const hid_t loss = H5Dopen2(file, "/plane/loss", H5P_DEFAULT), x = H5Dopen2(file, "/plane/x", H5P_DEFAULT),
                y = H5Dopen2(file, "/plane/y", H5P_DEFAULT);

    assert_true(H5DSis_scale(x) > 0 && H5DSis_scale(y) > 0 && H5DSis_scale(loss) == 0);
    assert_int_equal(H5DSget_num_scales(loss, 0), 1);
    assert_int_equal(H5DSget_num_scales(loss, 1), 1);
    assert_true(H5DSis_attached(loss, y, 0) > 0 && H5DSis_attached(loss, x, 1) > 0);
    assert_true(H5Dclose(y) >= 0 && H5Dclose(x) >= 0 && H5Dclose(loss) >= 0);
}

static void axes_are_dimension_scales(void **state)
{
    hsgd_store *store = begin(*state);
    hsgd_error err = {0};
    hsgd_dataset_spec x = describe("/plane/x", HSGD_STORE_F64, 1), y = describe("/plane/y", HSGD_STORE_F64, 1),
                      loss = describe("/plane/loss", HSGD_STORE_F64, 2);
    double values[MOST] = {0.0};

    x.dims[0] = shape[1];
    loss.axes[0] = "/plane/y";
    loss.axes[1] = "/plane/x";
    assert_ok(hsgd_store_write(store, &x, values, &err));
    assert_ok(hsgd_store_write(store, &y, values, &err));
    assert_ok(hsgd_store_write(store, &loss, values, &err));
    loss.path = "/plane/accuracy"; /* a second user of the same axes */
    assert_ok(hsgd_store_write(store, &loss, values, &err));
    finish(&store);
    with_file(*state, look_at_axes);
}

static void a_dataset_written_twice_is_refused_with_its_name(void **state)
{
    const scratch *s = *state;
    hsgd_store *store = begin(s);
    hsgd_error err = {0};
    const hsgd_dataset_spec spec = describe("/x", HSGD_STORE_F64, 1);
    const double values[3] = {0.0};

    assert_ok(hsgd_store_write(store, &spec, values, &err));
    assert_int_equal(hsgd_store_write(store, &spec, values, &err), HSGD_ERR_IO);
    assert_non_null(strstr(err.text, "t.h5: cannot write /x: "));
    assert_non_null(strstr(err.text, "exists")); /* HDF5's own reason */
    hsgd_store_abandon(&store);
    assert_int_equal(scratch_entries(s), 0);
}

#ifdef H5_HAVE_PARALLEL
/* Also where the file's type is not the memory's, and on ranks without rows. */
static void all_ranks_write_together_through_mpi_io(void **state)
{
    static const hsgd_store_type types[] = {HSGD_STORE_F64, HSGD_STORE_F32, HSGD_STORE_I64, HSGD_STORE_U8};
    static const char *const paths[] = {"/f64", "/f32", "/i64", "/u8"};
    hsgd_store *store = begin(*state);
    hsgd_error err = {0};
    const hid_t access = H5Fget_access_plist(store->file);
    const int64_t whole[3] = {1, 2, 3};
    const double real[3] = {1, 2, 3};

    if (test_comm()->ranks > 1) {
        assert_true(H5Pget_driver(access) == H5FD_MPIO);
        for (int t = 0; t < 4; t++) {
            const hsgd_dataset_spec spec = describe(paths[t], types[t], 1);
            H5D_mpio_actual_io_mode_t mode = H5D_MPIO_NO_COLLECTIVE;

            assert_ok(hsgd_store_write(store, &spec, t < 2 ? (const void *)real : whole, &err));
            assert_true(H5Pget_mpio_actual_io_mode(store->transfer, &mode) >= 0);
            assert_int_equal(mode, H5D_MPIO_CONTIGUOUS_COLLECTIVE);
        }
    } else {
        assert_true(H5Pget_driver(access) == H5FD_SEC2);
    }
    assert_true(H5Pclose(access) >= 0);
    finish(&store);
}
#endif

/* On whichever rank the number stands, all learn of it, and no file is left. */
static void a_number_that_is_not_finite_is_never_written(void **state)
{
    static const double bad[] = {NAN, INFINITY, -INFINITY, 1e39};
    scratch *s = *state;
    double data[3], attribute = NAN;

    for (int at = 0; at < 3; at++) {
        for (int i = 0; i < 4; i++) {
            const hsgd_store_type type = i == 3 ? HSGD_STORE_F32 : HSGD_STORE_F64; /* 1e39 is infinite in single */
            const hsgd_dataset_spec spec = describe("/x", type, 1);
            hsgd_store *store = begin(s);
            hsgd_error err = {0};

            data[0] = data[1] = data[2] = 1.0;
            data[at] = bad[i];
            assert_int_equal(hsgd_store_write(store, &spec, data, &err), HSGD_ERR_NUMERIC);
            assert_non_null(strstr(err.text, "t.h5: /x would hold NaN or infinity"));
            hsgd_store_abandon(&store);
            assert_ok(hsgd_comm_agree(test_comm(), HSGD_OK, &err));
            assert_int_equal(scratch_entries(s), 0);
        }
    }
    {
        hsgd_store *store = begin(s);
        hsgd_error err = {0};

        assert_int_equal(hsgd_store_attribute_f64(store, "/", "x", attribute, &err), HSGD_ERR_NUMERIC);
        hsgd_store_abandon(&store);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(every_type_and_rank_comes_back),
        scratch_test(a_dataset_without_entries_keeps_its_shape),
        scratch_test(rows_whose_columns_are_spread_come_back_whole),
        scratch_test(words_and_numbers_stand_beside_the_values),
        scratch_test(axes_are_dimension_scales),
#ifdef H5_HAVE_PARALLEL
        scratch_test(all_ranks_write_together_through_mpi_io),
#endif
        scratch_test(a_dataset_written_twice_is_refused_with_its_name),
        scratch_test(a_number_that_is_not_finite_is_never_written),
    };
    return test_run(tests);
}
