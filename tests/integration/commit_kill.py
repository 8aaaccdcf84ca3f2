"""Killed at any system call on its files, either of two ranks, a training goes on with --restart to the same bits.

HSGD_TEST_EVERY_CASE=1 kills at every call of the training, else at a few.
"""
import os
import signal

import commits
import harness
import processes
import tracing

SAMPLE = 2  # of each rank's calls
WORKERS = int(os.environ.get("HSGD_TEST_WORKERS", "2"))


class Killed(commits.CommitTest):
    def check(self, calls, rank, name, n):
        folder = self.copy(f"killed-{rank}-{name}-{n}")
        done, told = self.tampered(folder, calls, rank, 2, name, f"signal=KILL:when={n}")
        self.assertIn("killed by SIGKILL", told, f"there was no such call\n{done}")
        self.assertEqual(done.code, 128 + signal.SIGKILL, str(done))
        self.assertEqual(commits.unfit(folder), [])
        self.go_on(folder, ranks=1 + n % 2)

    @harness.needs_ranks()
    def test_a_rank_killed_at_any_call_of_a_commit_loses_no_checkpoint(self):
        for rank in (0, 1):
            calls = self.reference(rank, 2)
            cases = tracing.cases(calls)
            total = len(cases)
            if not harness.EVERY_CASE:
                cases = cases[total // (2 * SAMPLE)::total // SAMPLE]
            processes.all_hold(self, lambda name, n: self.check(calls, rank, name, n), cases, WORKERS)
            kinds = ", ".join(f"{name} {number}" for name, number in tracing.counts(calls).items())
            print(f"rank {rank} of 2: {len(cases)} kills at {total} calls ({kinds}): a checkpoint loaded, same bits",
                  flush=True)


if __name__ == "__main__":
    harness.main()
