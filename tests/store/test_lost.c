/* tests/store/test_lost.c - mirrors what src/store does without its lock: the files of the run that took it stay as they are.
 * ranks: 1 2 */
#include "locks.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>

/* On rank 0: another run takes the folder over as soon as what is named so is flushed, renamed or removed; NULL: never. */
static scratch *overtaken;
static const char *when;

static void overtake(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (when != NULL && slash != NULL && strcmp(slash + 1, when) == 0) {
        when = NULL;
        leave(overtaken, "elsewhere", "79");
    }
}

int fsync(int fd)
{
    char link[64], path[STORE_PATH] = "";
    const int code = (int)syscall(SYS_fsync, fd);

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    assert_true(readlink(link, path, sizeof path - 1) > 0);
    overtake(path);
    return code;
}

int rename(const char *from, const char *to)
{
    const int code = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);

    overtake(from);
    return code;
}

int unlink(const char *path)
{
    const int code = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);

    overtake(path);
    return code;
}

static void await_loss(scratch *s, const char *name)
{
    overtaken = s;
    when = test_comm()->rank == 0 ? name : NULL;
}

static void lose(scratch *s)
{
    if (test_comm()->rank == 0) {
        leave(s, "elsewhere", "79");
    }
    everybody_here();
}

static hsgd_lock *taken(const scratch *s)
{
    hsgd_lock *lock = NULL;
    char warnings[1024];
    hsgd_error err = {0};

    assert_ok(take(s, &lock, warnings, &err));
    return lock;
}

/* Another run has the file; it ends and leaves none. */
static void end_of_loss(scratch *s, hsgd_lock **lock)
{
    hsgd_lock_release(lock);
    if (test_comm()->rank == 0) {
        assert_int_equal(unlink(scratch_file(s, HSGD_LOCK_NAME)), 0);
    }
    everybody_here();
}

static hsgd_store *begun(const scratch *s, const char *name, hsgd_lock *lock)
{
    hsgd_store *store = NULL;
    hsgd_error err = {0};

    assert_ok(hsgd_store_create(test_comm(), s->folder, name, &scratch_provenance, lock, &store, &err));
    return store;
}

static void write_file(const scratch *s, const char *name, hsgd_lock *lock, hsgd_commit how)
{
    hsgd_store *store = begun(s, name, lock);
    hsgd_error err = {0};

    assert_ok(hsgd_store_commit(&store, how, &err));
}

static void write_checkpoints(const scratch *s, hsgd_lock *lock, int count)
{
    char name[64];

    for (int step = 1; step <= count; step++) {
        (void)snprintf(name, sizeof name, "checkpoint-%08d.h5", step);
        write_file(s, name, lock, HSGD_COMMIT_LAST);
    }
}

/* The call told of the loss; the folder holds `entries`. */
static void assert_lost(hsgd_status st, const hsgd_error *err, const scratch *s, int64_t entries)
{
    assert_int_equal(st, HSGD_ERR_IO);
    assert_non_null(strstr(err->text, "process 4711 on elsewhere (job 79) took it over"));
    everybody_here();
    assert_int_equal(scratch_entries(s), entries);
}

/* The other run makes files of the same names, hidden ones too: none is begun, put in place or removed. */
static void nothing_is_begun_or_committed(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = taken(s);
    hsgd_store *store;
    hsgd_error err = {0};

    write_file(s, "a.h5", lock, HSGD_COMMIT_REPLACE);
    assert_true(scratch_exists(s, "a.h5"));
    store = begun(s, "b.h5", lock);
    lose(s);
    assert_lost(hsgd_store_commit(&store, HSGD_COMMIT_CERTIFY, &err), &err, s, 3); /* a.h5, .b.h5.tmp and the lock */
    assert_null(store);
    assert_true(scratch_exists(s, ".b.h5.tmp"));
    assert_lost(hsgd_store_create(test_comm(), s->folder, "a.h5", &scratch_provenance, lock, &store, &err), &err, s, 3);
    assert_null(store);
    hsgd_lock_release(&lock);
    everybody_here();
}

/* Several ranks take room for a file under its name, which may lead to the other run's by now. */
static void no_room_is_taken(void **state)
{
    static const hsgd_dataset_spec spec = {
        .path = "/x", .type = HSGD_STORE_F64, .rank = 1, .dims = {2}, .units = "1", .description = "x"};
    static const double data[2] = {1.0, 2.0};
    scratch *s = *state;
    hsgd_lock *lock = taken(s);
    hsgd_store *store = begun(s, "a.h5", lock);
    hsgd_error err = {0};

    lose(s);
    if (test_comm()->ranks > 1) {
        assert_lost(hsgd_store_write(store, &spec, data, &err), &err, s, 2);
    }
    hsgd_store_abandon(&store);
    hsgd_lock_release(&lock);
    everybody_here();
}

/* Flushing and hashing take their time: what the other run puts in place meanwhile is not replaced. */
static void nothing_gets_its_name_after_a_loss_within_a_commit(void **state)
{
    static const struct {
        const char *flushed; /* when the lock is lost; NULL: the folder */
        hsgd_commit how;
        bool old;              /* there is such a file before, without a manifest */
        bool named, vouched;   /* is there such a file after it, a manifest? */
        const char *temporary; /* what stays under such a name */
    } cases[] = {
        {".a.h5.tmp", HSGD_COMMIT_REPLACE, false, false, false, ".a.h5.tmp"},
        {".a.h5.tmp", HSGD_COMMIT_KEEP_OLD, true, true, false, ".a.h5.tmp"},
        {".a.h5.tmp", HSGD_COMMIT_CERTIFY, false, false, false, ".a.h5.tmp"},
        {".a.h5.sha256.tmp", HSGD_COMMIT_CERTIFY, false, false, true, ".a.h5.tmp"},
        {NULL, HSGD_COMMIT_LAST, false, true, false, NULL},
    };
    scratch *s = *state;
    hsgd_error err = {0};

    for (int i = 0; i < 5; i++) {
        hsgd_lock *lock = taken(s);
        hsgd_store *store = begun(s, "a.h5", lock);

        if (cases[i].old) {
            scratch_cut(s, "a.h5", 3);
        }
        await_loss(s, cases[i].flushed != NULL ? cases[i].flushed : strrchr(s->folder, '/') + 1);
        assert_lost(hsgd_store_commit(&store, cases[i].how, &err), &err, s,
                    1 + cases[i].named + cases[i].vouched + (cases[i].temporary != NULL));
        assert_int_equal(scratch_exists(s, "a.h5"), cases[i].named);
        assert_int_equal(scratch_exists(s, "a.h5.sha256"), cases[i].vouched);
        assert_true(cases[i].temporary == NULL || scratch_exists(s, cases[i].temporary));
        end_of_loss(s, &lock);
        assert_ok(hsgd_store_remove(test_comm(), s->folder, "a.h5", NULL, &err));
    }
}

/* Nobody has seen the loss yet. */
static void what_is_given_up_is_not_removed(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = taken(s);
    hsgd_store *store = begun(s, "a.h5", lock);

    lose(s);
    hsgd_store_abandon(&store);
    everybody_here();
    assert_true(scratch_exists(s, ".a.h5.tmp"));
    end_of_loss(s, &lock);
    lock = taken(s);
    store = begun(s, "a.h5", lock);
    hsgd_store_abandon(&store);
    everybody_here();
    assert_false(scratch_exists(s, ".a.h5.tmp"));
    hsgd_lock_release(&lock);
    everybody_here();
}

static void nothing_is_removed_or_set_aside(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = taken(s);
    hsgd_error err = {0};

    write_file(s, "a.h5", lock, HSGD_COMMIT_CERTIFY);
    scratch_cut(s, ".a.h5.tmp", 1);
    lose(s);
    if (test_comm()->rank == 0) {
        hsgd_store_discard(s->folder, "a.h5", lock); /* before any other has seen the loss */
    }
    everybody_here();
    assert_int_equal(scratch_entries(s), 4);
    end_of_loss(s, &lock);
    lock = taken(s);
    lose(s);
    assert_lost(hsgd_store_remove(test_comm(), s->folder, "a.h5", lock, &err), &err, s, 4);
    end_of_loss(s, &lock);
    lock = taken(s);
    lose(s);
    assert_lost(hsgd_store_set_aside(test_comm(), s->folder, "a.h5", lock, &err), &err, s, 4);
    assert_true(scratch_exists(s, "a.h5") && scratch_exists(s, "a.h5.sha256") && scratch_exists(s, ".a.h5.tmp"));
    end_of_loss(s, &lock);
    lock = taken(s);
    assert_ok(hsgd_store_set_aside(test_comm(), s->folder, "a.h5", lock, &err));
    assert_ok(hsgd_store_remove(test_comm(), s->folder, "a.h5", lock, &err));
    assert_int_equal(scratch_entries(s), 2); /* a.h5.old and the lock */
    hsgd_lock_release(&lock);
    everybody_here();
}

/* The other run's are the newest. */
static void no_checkpoint_is_retired(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = taken(s);
    hsgd_error err = {0};

    write_checkpoints(s, lock, 3);
    lose(s);
    assert_lost(hsgd_store_retire_checkpoints(test_comm(), s->folder, -1, lock, &err), &err, s, 3 * 2 + 1);
    assert_true(scratch_exists(s, "checkpoint-00000001.h5"));
    end_of_loss(s, &lock);
    lock = taken(s);
    await_loss(s, "checkpoint-00000001.h5");
    assert_lost(hsgd_store_retire_checkpoints(test_comm(), s->folder, -1, lock, &err), &err, s, 1 + 2 * 2 + 1);
    assert_true(scratch_exists(s, "checkpoint-00000001.h5.old"));
    assert_true(scratch_exists(s, "checkpoint-00000002.h5") && scratch_exists(s, "checkpoint-00000003.h5"));
    hsgd_lock_release(&lock);
    everybody_here();
}

static void no_checkpoint_is_pruned(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = taken(s);
    hsgd_error err = {0};

    write_checkpoints(s, lock, 3);
    lose(s);
    assert_lost(hsgd_store_prune_checkpoints(test_comm(), s->folder, 1, lock, &err), &err, s, 3 * 2 + 1);
    end_of_loss(s, &lock);
    lock = taken(s);
    await_loss(s, "checkpoint-00000002.h5");
    assert_lost(hsgd_store_prune_checkpoints(test_comm(), s->folder, 1, lock, &err), &err, s, 2 * 2 + 1);
    assert_true(scratch_exists(s, "checkpoint-00000001.h5") && scratch_exists(s, "checkpoint-00000003.h5"));
    hsgd_lock_release(&lock);
    everybody_here();
}

/* The other run's files in the making. */
static void nothing_is_tidied_away(void **state)
{
    scratch *s = *state;
    hsgd_lock *lock = taken(s);
    hsgd_error err = {0};

    scratch_cut(s, ".train.h5.tmp", 1);
    scratch_cut(s, "weights.h5.sha256", 1);
    write_checkpoints(s, lock, 1);
    lose(s);
    assert_lost(hsgd_store_tidy(test_comm(), s->folder, lock, &err), &err, s, 2 + 2 + 1);
    end_of_loss(s, &lock);
    lock = taken(s);
    lose(s);
    assert_lost(hsgd_store_prune_checkpoints(test_comm(), s->folder, 1, lock, &err), &err, s, 2 + 2 + 1);
    assert_true(scratch_exists(s, ".train.h5.tmp") && scratch_exists(s, "weights.h5.sha256"));
    hsgd_lock_release(&lock);
    everybody_here();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(nothing_is_begun_or_committed),
        scratch_test(no_room_is_taken),
        scratch_test(nothing_gets_its_name_after_a_loss_within_a_commit),
        scratch_test(what_is_given_up_is_not_removed),
        scratch_test(nothing_is_removed_or_set_aside),
        scratch_test(no_checkpoint_is_retired),
        scratch_test(no_checkpoint_is_pruned),
        scratch_test(nothing_is_tidied_away),
    };

    return test_run(tests);
}
