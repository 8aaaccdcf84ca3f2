/* src/store/write.c - datasets, their words and dimension scales; each rank writes a part. */
#include "base/comm.h"
#include "store/internal.h"
#include <errno.h>
#include <hdf5_hl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static hid_t file_type(hsgd_store_type type)
{
    switch (type) {
    case HSGD_STORE_F64:
        return H5T_IEEE_F64LE;
    case HSGD_STORE_F32:
        return H5T_IEEE_F32LE;
    case HSGD_STORE_I64:
        return H5T_STD_I64LE;
    default:
        return H5T_STD_U8LE;
    }
}

static hid_t memory_type(hsgd_store_type type)
{
    switch (type) {
    case HSGD_STORE_F64:
        return H5T_NATIVE_DOUBLE;
    case HSGD_STORE_F32:
        return H5T_NATIVE_FLOAT;
    case HSGD_STORE_I64:
        return H5T_NATIVE_INT64;
    default:
        return H5T_NATIVE_UINT8;
    }
}

/* The functions below stop at the first HDF5 call that fails and leave their handles as they are: no further call is to
 * be made, and the next one would clear the reason that store_failure tells. */

static bool put_text(hid_t object, const char *name, const char *value)
{
    const hid_t type = store_text_type(), space = H5Screate(H5S_SCALAR);
    const hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);

    return attribute >= 0 && H5Awrite(attribute, type, &value) >= 0 && H5Aclose(attribute) >= 0 &&
           H5Sclose(space) >= 0 && H5Tclose(type) >= 0;
}

static bool put_number(hid_t object, const char *name, hid_t type, hid_t memory, const void *value)
{
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);

    return attribute >= 0 && H5Awrite(attribute, memory, value) >= 0 && H5Aclose(attribute) >= 0 &&
           H5Sclose(space) >= 0;
}

typedef enum { ATTRIBUTE_TEXT, ATTRIBUTE_I64, ATTRIBUTE_F64 } attribute_kind;

static hsgd_status put_attribute(hsgd_store *store, const char *object, const char *name, attribute_kind kind,
                                 const void *value, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hid_t id;
    bool ok;

    if (kind == ATTRIBUTE_F64 && !isfinite(*(const double *)value)) { /* the same on all ranks */
        return hsgd_error_set_not_finite(err,
                                         "%s: the attribute %s of %s would be NaN or infinity; the file is not written",
                                         store->final, name, object);
    }
    errno = 0;
    hsgd_comm_enter(store->comm, HSGD_WATCH_FILE_ATTRIBUTE);
    id = H5Oopen(store->file, object, H5P_DEFAULT);
    ok = id >= 0;
    if (kind == ATTRIBUTE_TEXT) {
        ok = ok && put_text(id, name, value);
    } else if (kind == ATTRIBUTE_I64) {
        ok = ok && put_number(id, name, H5T_STD_I64LE, H5T_NATIVE_INT64, value);
    } else {
        ok = ok && put_number(id, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, value);
    }
    if (!ok || H5Oclose(id) < 0) {
        st = store_failure(store->final, "write an attribute", err);
    }
    hsgd_comm_leave(store->comm);
    return store_agree(store, st, err);
}

hsgd_status hsgd_store_attribute_text(hsgd_store *store, const char *object, const char *name, const char *value,
                                      hsgd_error *err)
{
    STORE_TIMED(store->comm);
    return put_attribute(store, object, name, ATTRIBUTE_TEXT, value, err);
}

hsgd_status hsgd_store_attribute_i64(hsgd_store *store, const char *object, const char *name, int64_t value,
                                     hsgd_error *err)
{
    STORE_TIMED(store->comm);
    return put_attribute(store, object, name, ATTRIBUTE_I64, &value, err);
}

hsgd_status hsgd_store_attribute_f64(hsgd_store *store, const char *object, const char *name, double value,
                                     hsgd_error *err)
{
    STORE_TIMED(store->comm);
    return put_attribute(store, object, name, ATTRIBUTE_F64, &value, err);
}

static bool is_axis(const hsgd_dataset_spec *spec, const char *path)
{
    return spec->rank == 1 && (spec->axes[0] == NULL || strcmp(spec->axes[0], path) == 0);
}

/* Attach the dimension scales; a vector without axes of its own may serve as one later. */
static bool attach_axes(hid_t file, hid_t dataset, const hsgd_dataset_spec *spec)
{
    bool ok = true;

    for (int d = 0; d < spec->rank && ok; d++) {
        hid_t scale;

        if (spec->axes[d] == NULL || is_axis(spec, spec->path)) {
            continue;
        }
        scale = H5Dopen2(file, spec->axes[d], H5P_DEFAULT);
        ok = scale >= 0 && (H5DSis_scale(scale) > 0 || H5DSset_scale(scale, spec->axes[d]) >= 0) &&
             H5DSattach_scale(dataset, scale, (unsigned)d) >= 0 && H5Dclose(scale) >= 0;
    }
    return ok;
}

static bool make_dataset(hsgd_store *store, const hsgd_dataset_spec *spec, hid_t *out)
{
    const hid_t links = H5Pcreate(H5P_LINK_CREATE), creation = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t dims[4] = {0};
    hid_t space, dataset;
    bool ok;

    for (int d = 0; d < spec->rank; d++) {
        dims[d] = (hsize_t)spec->dims[d];
    }
    space = spec->rank == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(spec->rank, dims, NULL);
    ok = links >= 0 && creation >= 0 && space >= 0 && H5Pset_create_intermediate_group(links, 1) >= 0 &&
         H5Pset_obj_track_times(creation, false) >= 0 &&       /* equal results give equal bytes */
         H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER) >= 0; /* every entry is written */
    if (!ok) {
        return false;
    }
    *out = dataset = H5Dcreate2(store->file, spec->path, file_type(spec->type), space, links, creation, H5P_DEFAULT);
    return dataset >= 0 && H5Sclose(space) >= 0 && H5Pclose(creation) >= 0 && H5Pclose(links) >= 0 &&
           put_text(dataset, "units", spec->units != NULL ? spec->units : "1") &&
           put_text(dataset, "description", spec->description != NULL ? spec->description : "") &&
           attach_axes(store->file, dataset, spec);
}

/* The part of a dataset that one rank writes. */
typedef struct {
    hsize_t first[4], count[4];
    const void *data;
} part;

static size_t entries(const hsgd_dataset_spec *spec, const part *p)
{
    size_t count = 1;

    for (int d = 0; d < spec->rank; d++) {
        count *= (size_t)p->count[d];
    }
    return count;
}

/* The part's values in the type of the file, in memory that the caller frees; NULL where they are so already or there
 * are none.  HDF5 would convert them itself, but then writes rank by rank instead of together. */
static hsgd_status stage(const hsgd_dataset_spec *spec, part *p, void **memory, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const size_t count = entries(spec, p);

    *memory = NULL;
    if (count == 0 || spec->type == HSGD_STORE_F64 || spec->type == HSGD_STORE_I64) {
        return HSGD_OK;
    }
    *memory = calloc(count, sizeof(float));
    HSGD_CHECK(*memory != NULL, HSGD_ERR_MEMORY, err, "memory: cannot hold %s for writing", spec->path);
    for (size_t i = 0; i < count; i++) {
        if (spec->type == HSGD_STORE_F32) {
            ((float *)*memory)[i] = (float)((const double *)p->data)[i];
        } else {
            ((uint8_t *)*memory)[i] = (uint8_t)((const int64_t *)p->data)[i];
        }
    }
    p->data = *memory;
done:
    return st;
}

/* What is not a number is no result: it is told, and no file with it appears.  A rank without memory for its part has none. */
static hsgd_status check_part(const hsgd_store *store, const hsgd_dataset_spec *spec, const part *p, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const size_t count = spec->type == HSGD_STORE_F64 || spec->type == HSGD_STORE_F32 ? entries(spec, p) : 0;
    const double *data = p->data;

    HSGD_CHECK(data != NULL || entries(spec, p) == 0, HSGD_ERR_MEMORY, err, "memory: cannot hold %s for writing",
               spec->path);
    for (size_t i = 0; i < count; i++) {
        HSGD_CHECK_FINITE(spec->type == HSGD_STORE_F64 ? isfinite(data[i]) : isfinite((float)data[i]), err,
                          "%s: %s would hold NaN or infinity (entry %zu of rank %d's part); the file is not written",
                          store->final, spec->path, i, store->comm->rank);
    }
done:
    return st;
}

/* Bytes of the whole dataset; 8 an entry is the most. */
static size_t whole_bytes(const hsgd_dataset_spec *spec)
{
    size_t bytes = 8;

    for (int d = 0; d < spec->rank; d++) {
        bytes *= (size_t)spec->dims[d];
    }
    return bytes;
}

/* Write the part; a rank without entries takes part with nothing, and rank 0 writes a scalar. */
static bool write_block(hsgd_store *store, hid_t dataset, const hsgd_dataset_spec *spec, const part *p)
{
    const bool empty = entries(spec, p) == 0 || (spec->rank == 0 && store->comm->rank != 0);
    const hid_t target = H5Dget_space(dataset),
                memory = spec->rank == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(spec->rank, p->count, NULL);
    bool ok = target >= 0 && memory >= 0;

    if (ok && empty) {
        ok = H5Sselect_none(target) >= 0 && H5Sselect_none(memory) >= 0;
    } else if (ok && spec->rank > 0) {
        ok = H5Sselect_hyperslab(target, H5S_SELECT_SET, p->first, NULL, p->count, NULL) >= 0;
    }
    return ok && H5Dwrite(dataset, memory_type(spec->type), memory, target, store->transfer, p->data) >= 0 &&
           H5Sclose(memory) >= 0 && H5Sclose(target) >= 0 && H5Dclose(dataset) >= 0;
}

static hsgd_status write_part(hsgd_store *store, const hsgd_dataset_spec *spec, part *p, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hid_t dataset = H5I_INVALID_HID;
    void *staged = NULL;
    char what[320];

    st = check_part(store, spec, p, err);
    if (st == HSGD_OK) {
        st = stage(spec, p, &staged, err);
    }
    HSGD_TRY(hsgd_comm_agree(store->comm, st, err)); /* no failure of HDF5: the file can be closed as ever */
    HSGD_TRY(store_reserve(store, whole_bytes(spec) + STORE_RESERVE_DATASET, err));
    (void)snprintf(what, sizeof what, "write %.300s", spec->path);
    errno = 0;
    hsgd_comm_enter(store->comm, HSGD_WATCH_FILE_DATASET);
    if (!make_dataset(store, spec, &dataset)) {
        st = store_failure(store->final, what, err);
    }
    hsgd_comm_leave(store->comm);
    HSGD_TRY(store_agree(store, st, err));
    errno = 0;
    hsgd_comm_enter(store->comm, HSGD_WATCH_FILE_WRITE);
    /* a dataset without entries has no place in the file, which HDF5's collective write takes for an error */
    if (whole_bytes(spec) == 0 ? H5Dclose(dataset) < 0 : !write_block(store, dataset, spec, p)) {
        st = store_failure(store->final, what, err);
    }
    hsgd_comm_leave(store->comm);
    HSGD_TRY(store_agree(store, st, err));
done:
    free(staged);
    return st;
}

hsgd_status hsgd_store_write(hsgd_store *store, const hsgd_dataset_spec *spec, const void *data, hsgd_error *err)
{
    STORE_TIMED(store->comm);
    part p = {.data = data};
    int64_t low = 0, high = 0, row = 1;

    for (int d = 0; d < spec->rank; d++) {
        p.count[d] = (hsize_t)spec->dims[d];
        row *= d > 0 ? spec->dims[d] : 1;
    }
    if (spec->rank > 0) { /* rows of the first dimension are dealt to the ranks */
        hsgd_share(spec->dims[0], store->comm->rank, store->comm->ranks, &low, &high);
        p.first[0] = (hsize_t)low;
        p.count[0] = (hsize_t)(high - low);
        p.data = data != NULL ? (const char *)data + (size_t)(low * row) * 8 : NULL;
    }
    return write_part(store, spec, &p, err);
}

hsgd_status hsgd_store_write_rows(hsgd_store *store, const hsgd_dataset_spec *spec, int64_t low, int64_t high,
                                  const double *data, hsgd_error *err)
{
    STORE_TIMED(store->comm);
    part p = {.first = {0, (hsize_t)low}, .count = {(hsize_t)spec->dims[0], (hsize_t)(high - low)}, .data = data};

    return write_part(store, spec, &p, err);
}

hsgd_status hsgd_store_write_parameters(hsgd_store *store, const char *prefix, const hsgd_parameter *list,
                                        int64_t count, hsgd_store_type type, const double *flat, hsgd_error *err)
{
    STORE_TIMED(store->comm);
    hsgd_status st = HSGD_OK;

    for (int64_t i = 0; i < count; i++) {
        char path[256], description[128];
        const hsgd_dataset_spec spec = {.path = path,
                                        .type = type,
                                        .rank = list[i].rank,
                                        .dims = {list[i].dims[0], list[i].dims[1], list[i].dims[2], list[i].dims[3]},
                                        .units = "1",
                                        .description = description};

        (void)snprintf(path, sizeof path, "%s/%s/%s", prefix, list[i].layer, list[i].part);
        (void)snprintf(description, sizeof description, "%s of layer %s%s", list[i].part, list[i].layer,
                       list[i].rank == 4   ? ", [out, in, y, x]"
                       : list[i].rank == 2 ? ", [out, in]"
                                           : "");
        HSGD_TRY(hsgd_store_write(store, &spec, flat + list[i].offset, err));
    }
done:
    return st;
}
