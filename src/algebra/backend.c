/* src/algebra/backend.c - ends a backend of whatever kind. */
#include "backend.h"
#include <stdlib.h>

void hsgd_backend_destroy(hsgd_backend **backend)
{
    if (backend == NULL || *backend == NULL) {
        return;
    }
    (*backend)->ops->destroy((*backend)->self);
    free(*backend);
    *backend = NULL;
}
