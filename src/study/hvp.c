/* src/study/hvp.c - loss, gradient and operator products with given vectors. */
#include "study/selection.h"
#include <stdlib.h>

static hsgd_status write(study_state *s, const hsgd_loss *loss, const double *gradient, const hsgd_vector *products,
                         hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_store *store = NULL;
    const hsgd_dataset_spec spec = {.path = "/products",
                                    .rank = 2,
                                    .dims = {products->columns, s->n},
                                    .units = "nats per squared parameter, times the vector's",
                                    .description = "operator times each row of hvp.vectors",
                                    .axes = {"/vector", "/parameter"}};

    HSGD_TRY(output_begin(s, "hvp.h5", HSGD_STAGE_HVP, &store, err));
    HSGD_TRY(hsgd_store_attribute_text(store, "/", "operator", study_operator_name(s), err));
    HSGD_TRY(output_scalar(store, "/loss", "nats", "mean cross-entropy of the studied samples", loss->loss, err));
    HSGD_TRY(output_scalar(store, "/accuracy", "1", "share of the studied samples classified correctly", loss->accuracy,
                           err));
    HSGD_TRY(output_axis(store, "/parameter", "place in the flat parameter vector", s->n, 0, err));
    HSGD_TRY(output_axis(store, "/vector", "row of hvp.vectors", products->columns, 0, err));
    HSGD_TRY(output_vector(store, "/gradient", "nats per parameter", "gradient of the mean loss", s->n, "/parameter",
                           gradient, err));
    HSGD_TRY(output_rows(s, store, &spec, products, err));
    HSGD_TRY(hsgd_store_commit(&store, HSGD_COMMIT_KEEP_OLD, err));
done:
    hsgd_store_abandon(&store);
    return st;
}

hsgd_status stage_hvp(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    double *vectors = NULL, *gradient = malloc((size_t)s->n * sizeof *gradient);
    hsgd_vector *x = NULL, *y = NULL;
    hsgd_linop *op = NULL;
    hsgd_loss loss = {0};
    int64_t k = 0;

    HSGD_TRY(hsgd_comm_agree(s->comm, gradient != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    HSGD_TRY(selection_read_rows(s, s->deck->hvp.vectors, "/vectors", &vectors, &k, err));
    st = hsgd_vector_create(s->studied, k, &x, err);
    st = st == HSGD_OK ? hsgd_vector_create(s->studied, k, &y, err) : st;
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    HSGD_TRY(hsgd_vector_set_full(x, vectors, err));
    HSGD_TRY(study_gradient(s, gradient, &loss, err));
    HSGD_TRY(study_operator(s, &op, err));
    HSGD_TRY(hsgd_linop_apply(op, x, y, err));
    HSGD_TRY(write(s, &loss, gradient, y, err));
    summary_add(s, "  %lld products, loss %.6f on %lld samples", (long long)k, loss.loss, (long long)s->sample_count);
done:
    hsgd_linop_destroy(&op);
    hsgd_vector_destroy(&y);
    hsgd_vector_destroy(&x);
    free(vectors);
    free(gradient);
    return st;
}
