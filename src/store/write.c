/* src/store/write.c - datasets, their words and dimension scales; each rank writes a part. */
#include "base/comm.h"
#include "store/internal.h"
#include <errno.h>
#include <hdf5_hl.h>
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
    return type == HSGD_STORE_F64 || type == HSGD_STORE_F32 ? H5T_NATIVE_DOUBLE : H5T_NATIVE_INT64;
}

static bool put_text(hid_t object, const char *name, const char *value)
{
    const hid_t type = store_text_type(), space = H5Screate(H5S_SCALAR);
    const hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    const bool ok = attribute >= 0 && H5Awrite(attribute, type, &value) >= 0 && H5Aclose(attribute) >= 0;

    (void)H5Sclose(space);
    (void)H5Tclose(type);
    return ok;
}

static bool put_number(hid_t object, const char *name, hid_t type, hid_t memory, const void *value)
{
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    const bool ok = attribute >= 0 && H5Awrite(attribute, memory, value) >= 0 && H5Aclose(attribute) >= 0;

    (void)H5Sclose(space);
    return ok;
}

typedef enum { ATTRIBUTE_TEXT, ATTRIBUTE_I64, ATTRIBUTE_F64 } attribute_kind;

static hsgd_status put_attribute(hsgd_store *store, const char *object, const char *name, attribute_kind kind,
                                 const void *value, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hid_t id;
    bool ok;

    errno = 0;
    id = H5Oopen(store->file, object, H5P_DEFAULT);
    ok = id >= 0;
    if (kind == ATTRIBUTE_TEXT) {
        ok = ok && put_text(id, name, value);
    } else if (kind == ATTRIBUTE_I64) {
        ok = ok && put_number(id, name, H5T_STD_I64LE, H5T_NATIVE_INT64, value);
    } else {
        ok = ok && put_number(id, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, value);
    }
    if (!ok) {
        st = store_failure(store->final, "write an attribute", err);
    }
    if (id >= 0 && ok) {
        (void)H5Oclose(id);
    }
    return store_agree(store, st, err);
}

hsgd_status hsgd_store_attribute_text(hsgd_store *store, const char *object, const char *name, const char *value,
                                      hsgd_error *err)
{
    return put_attribute(store, object, name, ATTRIBUTE_TEXT, value, err);
}

hsgd_status hsgd_store_attribute_i64(hsgd_store *store, const char *object, const char *name, int64_t value,
                                     hsgd_error *err)
{
    return put_attribute(store, object, name, ATTRIBUTE_I64, &value, err);
}

hsgd_status hsgd_store_attribute_f64(hsgd_store *store, const char *object, const char *name, double value,
                                     hsgd_error *err)
{
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
             H5DSattach_scale(dataset, scale, (unsigned)d) >= 0;
        if (scale >= 0) {
            (void)H5Dclose(scale);
        }
    }
    return ok;
}

static hid_t make_dataset(hsgd_store *store, const hsgd_dataset_spec *spec)
{
    const hid_t links = H5Pcreate(H5P_LINK_CREATE), creation = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t dims[4] = {0};
    hid_t space, dataset;

    for (int d = 0; d < spec->rank; d++) {
        dims[d] = (hsize_t)spec->dims[d];
    }
    space = spec->rank == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(spec->rank, dims, NULL);
    (void)H5Pset_create_intermediate_group(links, 1);
    (void)H5Pset_obj_track_times(creation, false);         /* equal results give equal bytes */
    (void)H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER); /* every entry is written */
    dataset = H5Dcreate2(store->file, spec->path, file_type(spec->type), space, links, creation, H5P_DEFAULT);
    (void)H5Sclose(space);
    (void)H5Pclose(creation);
    (void)H5Pclose(links);
    if (dataset >= 0 &&
        !(put_text(dataset, "units", spec->units != NULL ? spec->units : "1") &&
          put_text(dataset, "description", spec->description) && attach_axes(store->file, dataset, spec))) {
        (void)H5Dclose(dataset);
        return H5I_INVALID_HID;
    }
    return dataset;
}

/* Write the block [first, first + count) of the dataset from data; counts of 0 take part with nothing. */
static bool write_block(hsgd_store *store, hid_t dataset, const hsgd_dataset_spec *spec, const hsize_t *first,
                        const hsize_t *count, const void *data)
{
    const hid_t target = H5Dget_space(dataset);
    hid_t memory;
    bool ok, empty = false;

    if (spec->rank == 0) {
        memory = H5Screate(H5S_SCALAR);
        empty = store->comm->rank != 0;
    } else {
        memory = H5Screate_simple(spec->rank, count, NULL);
        for (int d = 0; d < spec->rank; d++) {
            empty = empty || count[d] == 0;
        }
        if (!empty) {
            (void)H5Sselect_hyperslab(target, H5S_SELECT_SET, first, NULL, count, NULL);
        }
    }
    if (empty) {
        (void)H5Sselect_none(target);
        (void)H5Sselect_none(memory);
    }
    ok = H5Dwrite(dataset, memory_type(spec->type), memory, target, store->transfer, data) >= 0;
    (void)H5Sclose(memory);
    (void)H5Sclose(target);
    return ok;
}

static hsgd_status write_part(hsgd_store *store, const hsgd_dataset_spec *spec, const hsize_t *first,
                              const hsize_t *count, const void *data, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hid_t dataset;

    errno = 0;
    dataset = make_dataset(store, spec);
    if (dataset < 0) {
        st = store_failure(store->final, "make a dataset", err);
    }
    HSGD_TRY(store_agree(store, st, err));
    errno = 0;
    if (!write_block(store, dataset, spec, first, count, data)) {
        st = store_failure(store->final, "write a dataset", err);
    }
    HSGD_TRY(store_agree(store, st, err));
    (void)H5Dclose(dataset);
done:
    return st;
}

hsgd_status hsgd_store_write(hsgd_store *store, const hsgd_dataset_spec *spec, const void *data, hsgd_error *err)
{
    hsize_t first[4] = {0}, count[4] = {0};
    int64_t low = 0, high = 0, row = 1;

    for (int d = 0; d < spec->rank; d++) {
        count[d] = (hsize_t)spec->dims[d];
        row *= d > 0 ? spec->dims[d] : 1;
    }
    if (spec->rank > 0) { /* rows of the first dimension are dealt to the ranks */
        hsgd_share(spec->dims[0], store->comm->rank, store->comm->ranks, &low, &high);
        first[0] = (hsize_t)low;
        count[0] = (hsize_t)(high - low);
    }
    return write_part(store, spec, first, count, (const char *)data + (size_t)(low * row) * 8, err);
}

hsgd_status hsgd_store_write_rows(hsgd_store *store, const hsgd_dataset_spec *spec, int64_t low, int64_t high,
                                  const double *data, hsgd_error *err)
{
    const hsize_t first[4] = {0, (hsize_t)low}, count[4] = {(hsize_t)spec->dims[0], (hsize_t)(high - low)};

    return write_part(store, spec, first, count, data, err);
}

hsgd_status hsgd_store_write_parameters(hsgd_store *store, const char *prefix, const hsgd_parameter *list,
                                        int64_t count, hsgd_store_type type, const double *flat, hsgd_error *err)
{
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
