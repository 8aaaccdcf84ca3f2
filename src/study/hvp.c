/* src/study/hvp.c - loss, gradient and operator products with given vectors. */
#include "study/metrics.h"
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

/* y = Ax, some columns at a time: as many as one sweep over the samples takes, so that it takes no longer. */
static hsgd_status multiply(study_state *s, hsgd_linop *op, const hsgd_vector *x, hsgd_vector *y, hsgd_error *err)
{
    enum { COLUMNS = 8 };
    const int64_t k = x->columns;
    hsgd_status st = HSGD_OK;

    for (int64_t done = 0; done < k;) {
        const int64_t count = k - done < COLUMNS ? k - done : COLUMNS;
        const hsgd_vector from = hsgd_vector_view(x, done, count);
        hsgd_vector to = hsgd_vector_view(y, done, count);

        HSGD_TRY(hsgd_linop_apply(op, &from, &to, err));
        done += count;
        hsgd_progress_update(s->progress, "hvp", "products", done, k, "%lld of %lld products", (long long)done,
                             (long long)k);
        metrics_add_progress(s, metrics_progress(s, "hvp", "products", done, k));
    }
done:
    return st;
}

hsgd_status stage_hvp(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    double *vectors = NULL, *gradient = malloc((size_t)s->n * sizeof *gradient);
    hsgd_vector *x = NULL, *y = NULL;
    hsgd_linop *op = NULL;
    hsgd_loss loss = {0};
    hsgd_json *line;
    int64_t k = 0;

    HSGD_TRY(hsgd_comm_agree(s->comm, gradient != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    HSGD_TRY(selection_read_rows(s, s->deck->hvp.vectors, "/vectors", &vectors, &k, err));
    st = hsgd_vector_create(s->studied, k, &x, err);
    st = st == HSGD_OK ? hsgd_vector_create(s->studied, k, &y, err) : st;
    HSGD_TRY(hsgd_comm_agree(s->comm, st, err));
    HSGD_TRY(hsgd_vector_set_full(x, vectors, err));
    HSGD_TRY(study_gradient(s, gradient, &loss, err));
    HSGD_TRY(study_operator(s, &op, err));
    HSGD_TRY(multiply(s, op, x, y, err));
    HSGD_TRY(write(s, &loss, gradient, y, err));
    line = metrics_event(s, "result", "hvp");
    hsgd_json_integer(line, "products", k);
    hsgd_json_real(line, "loss", loss.loss);
    hsgd_json_real(line, "accuracy", loss.accuracy);
    metrics_add(s, line);
    summary_add(s, "  %lld products, loss %.6f on %lld samples", (long long)k, loss.loss, (long long)s->sample_count);
done:
    hsgd_linop_destroy(&op);
    hsgd_vector_destroy(&y);
    hsgd_vector_destroy(&x);
    free(vectors);
    free(gradient);
    return st;
}
