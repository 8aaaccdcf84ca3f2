/* src/store/read.c - reading on rank 0, values for all.  Shapes are checked before memory is touched, and only hard
 * links inside the file are followed. */
#include "store/internal.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool is_among(int number, const int *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (number == list[i]) {
            return true;
        }
    }
    return false;
}

hsgd_status store_read_status(int number)
{
    static const int name[] = {ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, EACCES, EPERM, EISDIR, ENXIO};

    return is_among(number, name, sizeof name / sizeof *name) ? HSGD_ERR_DATA : HSGD_ERR_IO;
}

/* The same for an errno that HDF5 left behind, which need not be of the call that mattered: waiting threads leave EAGAIN,
 * a size that somebody forged ENOMEM. */
static hsgd_status status_after_hdf5(int number)
{
    static const int system[] = {EIO,       ESTALE,       ETIMEDOUT,  EMFILE,       ENFILE,       ENODEV,
                                 EREMOTEIO, ESHUTDOWN,    ENOTCONN,   ENETDOWN,     ENETUNREACH,  ENETRESET,
                                 EHOSTDOWN, EHOSTUNREACH, ECONNRESET, ECONNREFUSED, ECONNABORTED, EKEYEXPIRED};

    return is_among(number, system, sizeof system / sizeof *system) ? HSGD_ERR_IO : HSGD_ERR_DATA;
}

hsgd_status store_read_failure(const char *file, int number, hsgd_error *err)
{
    const hsgd_status st = store_read_status(number);

    return hsgd_error_set(err, st, "%s: cannot read: %s; %s", file, strerror(number),
                          st == HSGD_ERR_IO ? "run again, and move away a file that stays unreadable"
                                            : "check its permissions");
}

static hsgd_status open_file(const char *path, hid_t *file, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    struct stat info;
    htri_t is_hdf5;

    *file = H5I_INVALID_HID;
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    (void)H5PLset_loading_state(0); /* a file must not make us load code */
    (void)setenv("HDF5_USE_FILE_LOCKING", "BEST_EFFORT", 0);
    errno = 0; /* from here to close_file it tells of the calls of the system that failed */
    HSGD_CHECK(stat(path, &info) == 0, store_read_status(errno), err, "%s: cannot read: %s; name an existing HDF5 file",
               path, strerror(errno));
    HSGD_CHECK(S_ISREG(info.st_mode), HSGD_ERR_DATA, err, "%s: not a regular file; name an HDF5 file", path);
    HSGD_CHECK(info.st_size > 0, HSGD_ERR_DATA, err, "%s: the file is empty; make it again", path);
    is_hdf5 = H5Fis_hdf5(path);
    HSGD_CHECK(is_hdf5 >= 0, errno != 0 ? store_read_status(errno) : HSGD_ERR_DATA, err,
               "%s: cannot open: %s; check its permissions", path, errno != 0 ? strerror(errno) : "damaged");
    HSGD_CHECK(is_hdf5 > 0, HSGD_ERR_DATA, err, "%s: not an HDF5 file; is this the right one?", path);
    *file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    HSGD_CHECK(*file >= 0, HSGD_ERR_DATA, err, "%s: damaged or truncated HDF5 file; make it again", path);
done:
    return st;
}

/* Walk the path: every step must be a hard link. */
static hsgd_status check_links(hid_t file, const char *name, const char *path, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char part[512];

    HSGD_CHECK(strlen(path) < sizeof part, HSGD_ERR_DATA, err, "%s: %.100s...: the path is too long", name, path);
    for (const char *end = path; *end != '\0';) {
        H5L_info_t info;

        end += *end == '/';
        end += strcspn(end, "/");
        (void)snprintf(part, sizeof part, "%.*s", (int)(end - path), path);
        HSGD_CHECK(H5Lexists(file, part, H5P_DEFAULT) > 0, HSGD_ERR_DATA, err, "%s: has no %s; is this the right file?",
                   name, path);
        HSGD_CHECK(H5Lget_info(file, part, &info, H5P_DEFAULT) >= 0 && info.type == H5L_TYPE_HARD, HSGD_ERR_DATA, err,
                   "%s: %s is a soft or external link, which is not followed; store the data itself", name, part);
    }
done:
    return st;
}

/* Close a file that was read with the outcome `st`.  HDF5 crashes over what it could not close when it ends with MPI: that
 * failure counts before all others, and after HSGD_ERR_IO main leaves without HDF5's end.  What HDF5 takes for damage is
 * none where the system could not read. */
static hsgd_status close_file(hid_t file, const char *name, hsgd_status st, hsgd_error *err)
{
    const int number = errno;

    errno = 0;
    if (file >= 0 && H5Fclose(file) < 0) {
        return store_failure(name, "close the file", err);
    }
    return st == HSGD_ERR_DATA && status_after_hdf5(number) == HSGD_ERR_IO ? store_read_failure(name, number, err) : st;
}

typedef struct {
    hid_t file, dataset;
    int rank;
    int64_t dims[4];
} opened;

static hsgd_status close_dataset(opened *o, const char *name, hsgd_status st, hsgd_error *err)
{
    if (o->dataset >= 0) {
        (void)H5Dclose(o->dataset);
    }
    st = close_file(o->file, name, st, err);
    o->file = o->dataset = H5I_INVALID_HID;
    return st;
}

static hsgd_status read_shape(opened *o, const char *name, const char *path, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hid_t type = H5Dget_type(o->dataset), space = H5Dget_space(o->dataset);
    const H5T_class_t class = H5Tget_class(type);
    hsize_t dims[H5S_MAX_RANK];
    int64_t bytes = 8; /* of one entry in memory */

    HSGD_CHECK(class == H5T_INTEGER || class == H5T_FLOAT, HSGD_ERR_DATA, err, "%s: %s does not hold numbers", name,
               path);
    HSGD_CHECK(H5Sget_simple_extent_type(space) != H5S_NULL, HSGD_ERR_DATA, err, "%s: %s is empty", name, path);
    o->rank = H5Sget_simple_extent_ndims(space);
    HSGD_CHECK(o->rank >= 0 && o->rank <= 4, HSGD_ERR_DATA, err, "%s: %s has %d dimensions; at most 4 are expected",
               name, path, o->rank);
    (void)H5Sget_simple_extent_dims(space, dims, NULL);
    for (int d = 0; d < o->rank; d++) {
        HSGD_CHECK(dims[d] <= (hsize_t)INT64_MAX, HSGD_ERR_DATA, err, "%s: %s has impossible dimensions", name, path);
        o->dims[d] = (int64_t)dims[d];
        HSGD_CHECK(!__builtin_mul_overflow(bytes, o->dims[d], &bytes), HSGD_ERR_DATA, err,
                   "%s: %s has impossible dimensions", name, path);
    }
done:
    (void)H5Sclose(space);
    (void)H5Tclose(type);
    return st;
}

static hsgd_status open_dataset(const char *name, const char *path, opened *o, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    H5O_info_t info;

    *o = (opened){.file = H5I_INVALID_HID, .dataset = H5I_INVALID_HID};
    HSGD_TRY(open_file(name, &o->file, err));
    HSGD_TRY(check_links(o->file, name, path, err));
    HSGD_CHECK(H5Oget_info_by_name(o->file, path, &info, H5P_DEFAULT) >= 0 && info.type == H5O_TYPE_DATASET,
               HSGD_ERR_DATA, err, "%s: %s is not a dataset", name, path);
    o->dataset = H5Dopen2(o->file, path, H5P_DEFAULT);
    HSGD_CHECK(o->dataset >= 0, HSGD_ERR_DATA, err, "%s: %s is damaged", name, path);
    HSGD_TRY(read_shape(o, name, path, err));
done:
    return st;
}

hsgd_status hsgd_store_dims(hsgd_comm *comm, const char *file, const char *path, int *rank, int64_t dims[4],
                            hsgd_error *err)
{
    STORE_TIMED(comm);
    hsgd_status st = HSGD_OK;
    opened o = {.file = H5I_INVALID_HID, .dataset = H5I_INVALID_HID};

    if (comm->rank == 0) {
        st = open_dataset(file, path, &o, err);
        if (st == HSGD_OK) {
            st = store_check_storage(o.dataset, file, path, err);
        }
        st = close_dataset(&o, file, st, err);
    }
    HSGD_TRY(hsgd_comm_agree(comm, st, err));
    HSGD_TRY(hsgd_comm_broadcast(comm, 0, sizeof o.rank, &o.rank, err));
    HSGD_TRY(hsgd_comm_broadcast(comm, 0, sizeof o.dims, o.dims, err));
    *rank = o.rank;
    memcpy(dims, o.dims, sizeof o.dims);
done:
    return st;
}

static void shape_text(int rank, const int64_t *dims, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "[");

    for (int d = 0; d < rank && used < size; d++) {
        used += (size_t)snprintf(text + used, size - used, dims[d] < 0 ? "%sany" : "%s%lld", d > 0 ? ", " : "",
                                 (long long)dims[d]);
    }
    if (used < size) {
        (void)snprintf(text + used, size - used, "]");
    }
}

static hsgd_status check_shape(const opened *o, const char *name, const char *path, int rank, const int64_t *dims,
                               int64_t *count, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    bool same = o->rank == rank;
    char want[128], found[128];

    *count = 1;
    for (int d = 0; d < rank && same; d++) {
        same = dims[d] < 0 || dims[d] == o->dims[d];
        *count *= o->dims[d];
    }
    shape_text(rank, dims, want, sizeof want);
    shape_text(o->rank, o->dims, found, sizeof found);
    HSGD_CHECK(same, HSGD_ERR_DATA, err, "%s: %s has shape %s, expected %s; is the file of another network or study?",
               name, path, found, want);
    HSGD_TRY(store_check_storage(o->dataset, name, path, err));
done:
    return st;
}

hsgd_status hsgd_store_expect(hsgd_comm *comm, const char *file, const char *path, int rank, const int64_t *dims,
                              hsgd_error *err)
{
    STORE_TIMED(comm);
    hsgd_status st = HSGD_OK;
    opened o = {.file = H5I_INVALID_HID, .dataset = H5I_INVALID_HID};
    int64_t count = 0;

    if (comm->rank == 0) {
        st = open_dataset(file, path, &o, err);
        if (st == HSGD_OK) {
            st = check_shape(&o, file, path, rank, dims, &count, err);
        }
        st = close_dataset(&o, file, st, err);
    }
    return hsgd_comm_agree(comm, st, err);
}

/* On rank 0: check and read all values as `memory` type. */
static hsgd_status read_values(const char *name, const char *path, int rank, const int64_t *dims, hid_t memory,
                               void *data, int64_t *count, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    opened o;

    HSGD_TRY(open_dataset(name, path, &o, err));
    HSGD_TRY(check_shape(&o, name, path, rank, dims, count, err));
    if (memory == H5T_NATIVE_INT64) {
        const hid_t type = H5Dget_type(o.dataset);
        const bool integer = H5Tget_class(type) == H5T_INTEGER;

        (void)H5Tclose(type);
        HSGD_CHECK(integer, HSGD_ERR_DATA, err, "%s: %s holds real numbers; whole numbers are expected", name, path);
    }
    HSGD_CHECK(H5Dread(o.dataset, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0, HSGD_ERR_DATA, err,
               "%s: cannot read %s: the file is damaged or truncated", name, path);
    for (int64_t i = 0; memory == H5T_NATIVE_DOUBLE && i < *count; i++) {
        HSGD_CHECK(isfinite(((const double *)data)[i]), HSGD_ERR_DATA, err, "%s: %s holds NaN or infinity (entry %lld)",
                   name, path, (long long)i);
    }
done:
    return close_dataset(&o, name, st, err);
}

static hsgd_status read_for_all(hsgd_comm *comm, const char *file, const char *path, int rank, const int64_t *dims,
                                bool integer, void *data, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t count = 0;

    if (comm->rank == 0) {
        st = read_values(file, path, rank, dims, integer ? H5T_NATIVE_INT64 : H5T_NATIVE_DOUBLE, data, &count, err);
    }
    HSGD_TRY(hsgd_comm_agree(comm, st, err));
    HSGD_TRY(hsgd_comm_broadcast(comm, 0, sizeof count, &count, err)); /* dims may hold -1 */
    HSGD_TRY(hsgd_comm_broadcast(comm, 0, (size_t)count * 8, data, err));
done:
    return st;
}

hsgd_status hsgd_store_read_f64(hsgd_comm *comm, const char *file, const char *path, int rank, const int64_t *dims,
                                double *data, hsgd_error *err)
{
    STORE_TIMED(comm);
    return read_for_all(comm, file, path, rank, dims, false, data, err);
}

hsgd_status hsgd_store_read_i64(hsgd_comm *comm, const char *file, const char *path, int rank, const int64_t *dims,
                                int64_t *data, hsgd_error *err)
{
    STORE_TIMED(comm);
    return read_for_all(comm, file, path, rank, dims, true, data, err);
}

static hsgd_status read_attribute(const char *name, const char *attribute, bool is_text, int64_t *number, char *text,
                                  size_t size, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hid_t file = H5I_INVALID_HID, id = H5I_INVALID_HID, type = H5I_INVALID_HID, space = H5I_INVALID_HID;
    char *value = NULL;

    HSGD_TRY(open_file(name, &file, err));
    HSGD_CHECK(H5Aexists(file, attribute) > 0, HSGD_ERR_DATA, err, "%s: has no attribute %s; is this the right file?",
               name, attribute);
    id = H5Aopen(file, attribute, H5P_DEFAULT);
    HSGD_CHECK(id >= 0, HSGD_ERR_DATA, err, "%s: attribute %s is damaged", name, attribute);
    type = H5Aget_type(id);
    space = H5Aget_space(id);
    HSGD_CHECK(H5Sget_simple_extent_npoints(space) == 1 &&
                   (is_text ? H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) > 0
                            : H5Tget_class(type) == H5T_INTEGER),
               HSGD_ERR_DATA, err, "%s: attribute %s has the wrong type", name, attribute);
    if (is_text) {
        const hid_t memory = store_text_type();
        const bool ok = H5Aread(id, memory, &value) >= 0 && value != NULL;

        (void)H5Tclose(memory);
        HSGD_CHECK(ok, HSGD_ERR_DATA, err, "%s: cannot read attribute %s", name, attribute);
        (void)snprintf(text, size, "%s", value);
    } else {
        HSGD_CHECK(H5Aread(id, H5T_NATIVE_INT64, number) >= 0, HSGD_ERR_DATA, err, "%s: cannot read attribute %s", name,
                   attribute);
    }
done:
    (void)H5free_memory(value);
    if (space >= 0) {
        (void)H5Sclose(space);
    }
    if (type >= 0) {
        (void)H5Tclose(type);
    }
    if (id >= 0) {
        (void)H5Aclose(id);
    }
    return close_file(file, name, st, err);
}

hsgd_status hsgd_store_read_attribute_i64(hsgd_comm *comm, const char *file, const char *name, int64_t *value,
                                          hsgd_error *err)
{
    STORE_TIMED(comm);
    hsgd_status st = HSGD_OK;

    if (comm->rank == 0) {
        st = read_attribute(file, name, false, value, NULL, 0, err);
    }
    HSGD_TRY(hsgd_comm_agree(comm, st, err));
    HSGD_TRY(hsgd_comm_broadcast(comm, 0, sizeof *value, value, err));
done:
    return st;
}

hsgd_status hsgd_store_read_attribute_text(hsgd_comm *comm, const char *file, const char *name, char *text, size_t size,
                                           hsgd_error *err)
{
    STORE_TIMED(comm);
    hsgd_status st = HSGD_OK;

    if (comm->rank == 0) {
        memset(text, 0, size);
        st = read_attribute(file, name, true, NULL, text, size, err);
    }
    HSGD_TRY(hsgd_comm_agree(comm, st, err));
    HSGD_TRY(hsgd_comm_broadcast(comm, 0, size, text, err));
done:
    return st;
}

typedef struct {
    const hsgd_parameter *list;
    int64_t count;
    const char *file, *prefix;
    hsgd_error *err;
    hsgd_status status;
} layer_check;

/* Called for every member of PREFIX: a layer that the network lacks means another network. */
static herr_t known_layer(hid_t group, const char *name, const H5L_info_t *info, void *data)
{
    layer_check *check = data;

    (void)group, (void)info;
    for (int64_t i = 0; i < check->count; i++) {
        if (strcmp(check->list[i].layer, name) == 0) {
            return 0;
        }
    }
    check->status =
        hsgd_error_set(check->err, HSGD_ERR_DATA,
                       "%s: %s/%.60s: the network of model.layers has no such layer; the file is of another one",
                       check->file, check->prefix, name);
    return 1;
}

static hsgd_status check_layers(const char *file, const char *prefix, const hsgd_parameter *list, int64_t count,
                                hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hid_t id = H5I_INVALID_HID;
    layer_check check = {list, count, file, prefix, err, HSGD_OK};

    HSGD_TRY(open_file(file, &id, err));
    HSGD_TRY(check_links(id, file, prefix, err));
    HSGD_CHECK(H5Literate_by_name(id, prefix, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, known_layer, &check, H5P_DEFAULT) >=
                   0,
               HSGD_ERR_DATA, err, "%s: %s is not a group of layers", file, prefix);
    st = check.status;
done:
    return close_file(id, file, st, err);
}

static void parameter_path(const char *prefix, const hsgd_parameter *parameter, char *path, size_t size)
{
    (void)snprintf(path, size, "%s/%s/%s", prefix, parameter->layer, parameter->part);
}

/* On rank 0: all names and shapes first, so that nothing is read of a file that does not fit. */
static hsgd_status check_parameters(const char *file, const char *prefix, const hsgd_parameter *list, int64_t count,
                                    hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    opened o = {.file = H5I_INVALID_HID, .dataset = H5I_INVALID_HID};
    char path[256];
    int64_t size = 0;

    HSGD_TRY(check_layers(file, prefix, list, count, err));
    for (int64_t i = 0; i < count; i++) {
        parameter_path(prefix, &list[i], path, sizeof path);
        HSGD_TRY(open_dataset(file, path, &o, err));
        HSGD_TRY(check_shape(&o, file, path, list[i].rank, list[i].dims, &size, err));
        HSGD_TRY(close_dataset(&o, file, HSGD_OK, err));
    }
done:
    return close_dataset(&o, file, st, err);
}

hsgd_status hsgd_store_read_parameters(hsgd_comm *comm, const char *file, const char *prefix,
                                       const hsgd_parameter *list, int64_t count, double *flat, hsgd_error *err)
{
    STORE_TIMED(comm);
    hsgd_status st = HSGD_OK;
    char path[256];

    if (comm->rank == 0) {
        st = check_parameters(file, prefix, list, count, err);
    }
    HSGD_TRY(hsgd_comm_agree(comm, st, err));
    for (int64_t i = 0; i < count; i++) {
        parameter_path(prefix, &list[i], path, sizeof path);
        HSGD_TRY(hsgd_store_read_f64(comm, file, path, list[i].rank, list[i].dims, flat + list[i].offset, err));
    }
done:
    return st;
}
