/* src/study/input.c - vectors that the user supplies. */
#include "study/internal.h"
#include <stdlib.h>

hsgd_status study_read_rows(study_state *s, const char *file, const char *path, double **rows, int64_t *count,
                            hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t dims[4] = {0};
    int rank = 0;

    *rows = NULL;
    HSGD_TRY(hsgd_store_dims(s->comm, file, path, &rank, dims, err));
    HSGD_CHECK(rank == 2 && dims[0] >= 1 && dims[1] == s->n && dims[0] <= INT64_MAX / 8 / s->n, HSGD_ERR_DATA, err,
               "%s: %s must be [k, %lld] for this network; it has %d dimensions, the last of length %lld", file, path,
               (long long)s->n, rank, (long long)(rank > 0 ? dims[rank - 1] : 0));
    *rows = malloc((size_t)(dims[0] * dims[1]) * sizeof **rows);
    if (*rows == NULL) {
        st = hsgd_error_set(err, HSGD_ERR_MEMORY, "memory: cannot hold the %lld vectors of %s", (long long)dims[0],
                            file);
    }
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    HSGD_TRY(hsgd_store_read_f64(s->comm, file, path, 2, dims, *rows, err));
    *count = dims[0];
done:
    return st;
}
