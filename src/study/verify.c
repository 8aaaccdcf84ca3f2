/* src/study/verify.c - certify the curvature before anyone trusts it. */
#include "study/checks.h"
#include "study/metrics.h"
#include <stdlib.h>
#include <string.h>

enum { CHECKS_MOST = 9 + STUDY_MAX_PARAMETERS };

static hsgd_status run_checks(check_bench *b, check *checks, int64_t *count, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    static hsgd_status (*const all[])(check_bench *, check *, hsgd_error *) = {
        check_symmetry,  check_null_space, check_central_difference, check_cached, check_layout,
        check_precision, check_block};
    const int64_t layers = b->s->parameter_count / 2, always = sizeof all / sizeof all[0];
    const int64_t total = always + layers - 1 < CHECKS_MOST ? always + layers - 1 : CHECKS_MOST;

    while (*count < total) {
        const int64_t i = (*count)++;

        HSGD_TRY(i < always ? all[i](b, &checks[i], err) : check_rescaling(b, i - always, &checks[i], err));
        hsgd_progress_update(b->s->progress, "verify", "checks", *count, total, "%lld of %lld checks",
                             (long long)*count, (long long)total);
        metrics_add_progress(b->s, metrics_progress(b->s, "verify", "checks", *count, total));
    }
done:
    return st;
}

static hsgd_status write_check(hsgd_store *store, const check *c, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    char path[64];
    const int64_t passed = c->skipped[0] != '\0' ? -1 : c->value <= c->bound;
    const hsgd_dataset_spec spec = {.path = path, .type = HSGD_STORE_I64, .units = "1", .description = c->description};

    (void)snprintf(path, sizeof path, "/checks/%s", c->name);
    HSGD_TRY(hsgd_store_write(store, &spec, &passed, err));
    if (c->skipped[0] != '\0') {
        HSGD_TRY(hsgd_store_attribute_text(store, path, "skipped", c->skipped, err));
    } else {
        HSGD_TRY(hsgd_store_attribute_f64(store, path, "value", c->value, err));
        HSGD_TRY(hsgd_store_attribute_f64(store, path, "bound", c->bound, err));
        HSGD_TRY(hsgd_store_attribute_i64(store, path, "passed", passed, err));
    }
done:
    return st;
}

static bool holds(const check *c)
{
    return c->skipped[0] != '\0' || c->value <= c->bound; /* not for NaN */
}

static hsgd_status write(study_state *s, const check *checks, int64_t count, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    hsgd_store *store = NULL;
    bool failed = false;

    for (int64_t i = 0; i < count; i++) {
        failed = failed || !holds(&checks[i]);
    }
    HSGD_TRY(output_begin(s, "verify.h5", HSGD_STAGE_VERIFY, &store, err));
    HSGD_TRY(hsgd_store_attribute_i64(store, "/", OUTPUT_FAILED, failed, err));
    for (int64_t i = 0; i < count; i++) {
        HSGD_TRY(write_check(store, &checks[i], err));
    }
    HSGD_TRY(hsgd_store_commit(&store, HSGD_COMMIT_KEEP_OLD, err));
done:
    hsgd_store_abandon(&store);
    return st;
}

static hsgd_status judge(study_state *s, const check *checks, int64_t count, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    int64_t passed = 0, skipped = 0;
    const check *failed = NULL;
    hsgd_json *line;

    for (int64_t i = 0; i < count; i++) {
        const check *c = &checks[i];
        if (c->skipped[0] != '\0') {
            skipped++;
            hsgd_progress_say(s->progress, "verify: %-20s skipped: %s", c->name, c->skipped);
            continue;
        }
        hsgd_progress_say(s->progress, "verify: %-20s %s: %.2e, bound %.2e", c->name, holds(c) ? "holds" : "FAILS",
                          c->value, c->bound);
        passed += holds(c);
        failed = holds(c) || failed != NULL ? failed : c;
    }
    line = metrics_event(s, "result", "verify");
    hsgd_json_integer(line, "hold", passed);
    hsgd_json_integer(line, "skipped", skipped);
    hsgd_json_integer(line, "fail", count - passed - skipped);
    metrics_add(s, line);
    summary_add(s, "  verify: %lld certificates hold, %lld do not apply, %lld fail", (long long)passed,
                (long long)skipped, (long long)(count - passed - skipped));
    HSGD_CHECK(failed == NULL, HSGD_ERR_NUMERIC, err,
               "verify: certificate '%s' fails (%.3e, bound %.3e): the curvature cannot be trusted on this machine; "
               "see verify.h5, and try model.precision = double or HSGD_INSTRUCTION_SET=generic",
               failed->name, failed->value, failed->bound);
done:
    return st;
}

hsgd_status stage_verify(study_state *s, hsgd_error *err)
{
    hsgd_status st = HSGD_OK;
    check_bench bench = {0};
    check *checks = calloc(CHECKS_MOST, sizeof *checks);
    int64_t count = 0;

    HSGD_TRY(hsgd_comm_agree(s->comm, checks != NULL ? HSGD_OK : HSGD_ERR_MEMORY, err));
    HSGD_TRY(bench_create(s, &bench, err));
    HSGD_TRY(run_checks(&bench, checks, &count, err));
    HSGD_TRY(write(s, checks, count, err));
    HSGD_TRY(judge(s, checks, count, err));
done:
    bench_destroy(&bench);
    free(checks);
    return st;
}
