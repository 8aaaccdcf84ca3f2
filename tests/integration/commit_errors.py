"""Any system call on its files fails once: a training says which file and why, exits with 5 and loses no checkpoint.

HSGD_TEST_EVERY_CASE=1 lets every call of one process fail in each of three ways, and 120 of each of two ranks; else a
few.
"""
import errno
import os
import shutil

import commits
import harness
import processes
import tracing
from harness import EXIT_IO

REASONS = ("ENOSPC", "EIO", "EDQUOT")
SAMPLE = 5
SAMPLE_OF_RANKS = None if harness.EVERY_CASE else 2
WORKERS = int(os.environ.get("HSGD_TEST_WORKERS", "2"))


def may_pass(call, rank, ranks):
    """What may fail unheard, as no byte depends on it.

    That is the closing of what was only read; the end of the lock, which the next run finds left over; the trial file
    by which Open MPI learns about locks; the second name of an old file, which then gets a new one instead; and, of
    several ranks, the closing that Open MPI does not tell of (each has flushed what it wrote, as commit_order.py sees)
    and the cutting to length by others than rank 0, which does it too.
    """
    if call.path.endswith(commits.LOCK):
        return call.name in ("unlink", "close")
    if call.name in tracing.LINKS:
        return True
    if call.name == "close":
        return call.mode == "O_RDONLY" or (ranks > 1 and call.mode == "O_RDWR")
    return (call.name == "ftruncate" and rank > 0) or ".locktest." in call.path


class Errors(commits.CommitTest):
    def name_of(self, call, folder):
        """The file that a message must name: the one in the making, not its temporary name."""
        name = os.path.basename(call.path).removeprefix(".").removesuffix(".tmp").removesuffix(".old")
        return folder.name if name.startswith("reference-") else name

    def check(self, calls, rank, ranks, reason, name, n):
        call = [call for call in calls if call.name == name][n - 1]
        folder = self.copy(f"{reason}-{rank}-{ranks}-{name}-{n}")
        done, told = self.tampered(folder, calls, rank, ranks, name, f"error={reason}:when={n}")
        self.assertIn("(INJECTED)", told, f"there was no such call\n{done}")
        if done.code == 0:
            self.assertTrue(may_pass(call, rank, ranks), f"unheard: {call}\n{done}")
            if call.name in tracing.REMOVALS:  # it stays until the next tidying
                (folder / os.path.basename(call.path)).unlink(missing_ok=True)
            self.check_same(folder)
            shutil.rmtree(folder)
            return 0
        self.assertEqual(done.code, EXIT_IO, f"{call}\n{done}")
        self.assertEqual(len(done.errors), 1, f"{call}\n{done}")
        self.assertIn(self.name_of(call, folder), done.errors[0], str(call))
        self.assertIn(os.strerror(getattr(errno, reason)), done.errors[0], str(call))
        if ranks == 1:  # a rank that the others leave alone within HDF5 is ended by its watch, and tidies nothing
            self.assertEqual([path.name for path in folder.glob(".*.tmp*")], [], str(call))
        self.assertEqual(commits.unfit(folder), [], str(call))
        old = folder / f"{commits.FIRST}.h5"
        if old.exists():
            self.assertEqual(old.read_bytes(), (self.half / old.name).read_bytes())
        self.go_on(folder)
        return 1

    def check_all(self, rank, ranks, sample):
        calls = self.reference(rank, ranks)
        cases = [(reason, name, n) for name, n in tracing.cases(calls) for reason in REASONS
                 if ranks == 1 or name != "openat"]  # Open MPI tells of its own reason for that
        total = len(cases)
        cases = cases[total // (2 * sample)::max(1, total // sample)] if sample is not None else cases
        heard = processes.all_hold(self, lambda *case: self.check(calls, rank, ranks, *case), cases, WORKERS)
        print(f"rank {rank} of {ranks}: {len(cases)} failures of {total} possible ({len(REASONS)} at each of "
              f"{total // len(REASONS)} calls): {sum(heard)} named, {len(heard) - sum(heard)} of no account, same bits",
              flush=True)

    def test_a_failing_call_is_named_and_loses_no_checkpoint(self):
        self.check_all(0, 1, None if harness.EVERY_CASE else SAMPLE)

    @harness.needs_ranks()
    def test_a_failing_call_of_one_of_two_ranks_ends_both(self):
        for rank in (0, 1):
            self.check_all(rank, 2, SAMPLE_OF_RANKS)


if __name__ == "__main__":
    harness.main()
