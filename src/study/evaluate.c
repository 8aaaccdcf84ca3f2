/* src/study/evaluate.c - loss, accuracy and confusion of the weights on the test set. */
#include "study/metrics.h"
#include <stdlib.h>

static void tell_groups(void *context, int64_t done, int64_t groups)
{
    metrics_sweep(context, HSGD_STAGE_EVALUATE, done, groups);
}

hsgd_status stage_evaluate(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_problem problem = study_problem(s, s->backend, true);
    const int64_t classes = s->network->classes, count = s->data->test.count;
    int64_t *index = malloc((size_t)count * sizeof *index);
    int64_t *confusion = calloc((size_t)(classes * classes), sizeof *confusion);
    hsgd_store *store = NULL;
    hsgd_json *line;
    hsgd_loss loss = {0};
    const hsgd_dataset_spec spec = {.path = "/confusion",
                                    .type = HSGD_STORE_I64,
                                    .rank = 2,
                                    .dims = {classes, classes},
                                    .units = "samples",
                                    .description = "test samples by label (row) and prediction (column)",
                                    .axes = {"/class", "/class"}};

    HSGD_TRY(hsgd_comm_agree(s->comm, index != NULL && confusion != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    for (int64_t i = 0; i < count; i++) {
        index[i] = i;
    }
    problem.told = tell_groups;
    problem.context = s;
    HSGD_TRY(hsgd_network_evaluate(&problem, s->weights, index, count, &loss, confusion, err));
    HSGD_TRY(output_begin(s, "evaluate.h5", HSGD_STAGE_EVALUATE, &store, err));
    HSGD_TRY(output_scalar(store, "/loss", "nats", "mean cross-entropy on the test set", loss.loss, err));
    HSGD_TRY(output_scalar(store, "/accuracy", "1", "share of the test set classified correctly", loss.accuracy, err));
    HSGD_TRY(output_axis(store, "/class", "class number", classes, 0, err));
    HSGD_TRY(hsgd_store_write(store, &spec, confusion, err));
    HSGD_TRY(hsgd_store_commit(&store, HSGD_COMMIT_KEEP_OLD, err));
    line = metrics_event(s, "result", "evaluate");
    hsgd_json_integer(line, "samples", count);
    hsgd_json_real(line, "loss", loss.loss);
    hsgd_json_real(line, "accuracy", loss.accuracy);
    metrics_add(s, line);
    summary_add(s, "  test accuracy %.2f %%, loss %.5f (%lld samples)", 100.0 * loss.accuracy, loss.loss,
                (long long)count);
done:
    hsgd_store_abandon(&store);
    free(confusion);
    free(index);
    return st;
}
