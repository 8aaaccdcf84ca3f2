/* src/store/storage.c - how a foreign dataset is stored: in its own file, and as much as it says, so that reading it takes
 * memory in proportion to the file. */
#include "store/internal.h"

enum { MOST_PIECE = 1 << 28, SLACK = 1 << 16 }; /* bytes */

/* What deflate, the filter that packs best, can make of one byte at most (RFC 1951: 258 bytes from two bits). */
static const double MOST_PACKED = 1032.0;

/* Bytes of one piece of a dataset that is stored in pieces, which are read and unpacked whole; 0: in one. */
static double piece_bytes(hid_t creation, double entry)
{
    hsize_t dims[H5S_MAX_RANK];
    const int rank = H5Pget_layout(creation) == H5D_CHUNKED ? H5Pget_chunk(creation, H5S_MAX_RANK, dims) : 0;
    double bytes = rank > 0 ? entry : 0.0;

    for (int d = 0; d < rank && d < H5S_MAX_RANK; d++) {
        bytes *= (double)dims[d];
    }
    return bytes;
}

/* Bytes of all entries, those included by which the last pieces of each dimension are longer than the dataset. */
static double whole_bytes(hid_t creation, int rank, const hsize_t dims[H5S_MAX_RANK], double entry)
{
    hsize_t piece[H5S_MAX_RANK] = {0};
    const bool pieces = H5Pget_layout(creation) == H5D_CHUNKED && H5Pget_chunk(creation, H5S_MAX_RANK, piece) == rank;
    double bytes = entry;

    for (int d = 0; d < rank; d++) {
        if (pieces && piece[d] > 0 && dims[d] > 0) {
            const hsize_t count = (dims[d] - 1) / piece[d] + 1; /* of pieces */

            bytes *= (double)count * (double)piece[d];
        } else {
            bytes *= (double)dims[d];
        }
    }
    return bytes;
}

static double entry_bytes(hid_t dataset)
{
    const hid_t type = H5Dget_type(dataset);
    const double bytes = (double)H5Tget_size(type);

    (void)H5Tclose(type);
    return bytes;
}

/* Stored as it is, a dataset takes its entries' bytes; packed, neither more (else it unpacks to more than it says) nor less
 * than deflate could make of them (else entries are missing, which would be made up). */
static hsgd_status check_amount(hid_t dataset, hid_t creation, const char *name, const char *path, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hid_t space = H5Dget_space(dataset);
    const double entry = entry_bytes(dataset), stored = (double)H5Dget_storage_size(dataset);
    const bool packed = H5Pget_nfilters(creation) != 0;
    hsize_t dims[H5S_MAX_RANK];
    const int rank = H5Sget_simple_extent_dims(space, dims, NULL);
    double least = entry, most = 0.0;

    HSGD_CHECK(rank >= 0, HSGD_ERR_DATA, err, "%s: %s is damaged", name, path);
    for (int d = 0; d < rank; d++) {
        least *= (double)dims[d];
    }
    most = whole_bytes(creation, rank, dims, entry);
    HSGD_CHECK(piece_bytes(creation, entry) <= MOST_PIECE, HSGD_ERR_DATA, err,
               "%s: %s is stored in pieces of %.0f bytes; store it in pieces of at most %d", name, path,
               piece_bytes(creation, entry), MOST_PIECE);
    HSGD_CHECK(stored >= (packed ? least / MOST_PACKED : least), HSGD_ERR_DATA, err,
               "%s: %s does not hold the %.0f bytes of its dimensions; write all of its values", name, path, least);
    HSGD_CHECK(!packed || stored <= most * 1.02 + SLACK, HSGD_ERR_DATA, err,
               "%s: %s is stored in more bytes than its values have; store it anew", name, path);
done:
    (void)H5Sclose(space);
    return st;
}

hsgd_status store_check_storage(hid_t dataset, const char *name, const char *path, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    const hid_t creation = H5Dget_create_plist(dataset);

    HSGD_CHECK(creation >= 0 && H5Pget_layout(creation) != H5D_VIRTUAL && H5Pget_external_count(creation) == 0,
               HSGD_ERR_DATA, err, "%s: %s keeps its values in other files, which are not read; store the data itself",
               name, path);
    HSGD_TRY(check_amount(dataset, creation, name, path, err));
done:
    if (creation >= 0) {
        (void)H5Pclose(creation);
    }
    return st;
}
