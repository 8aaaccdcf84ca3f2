"""The order of system calls by which files are committed: bytes, name, folder, each on the disk before the next.

    flush of the file by every rank that wrote < rename < flush of the folder
      < bytes of the manifest < flush of the manifest < rename < flush of the folder < removal of older checkpoints
"""
import re

import commits
import harness
import tracing

# Two updates and a look at the curvature; a state of the eigenvalue search at each of its points.
STAGES = (*commits.TRAINING, "run.stages=train evaluate eigen", "train.steps=7", "hessian.samples=20", "eigen.count=1",
          "eigen.max_products=8", "run.snapshot_every=0")
MANIFEST = ".sha256"
KEEP = 2  # train.checkpoint_keep
CHECKPOINT = re.compile(r"checkpoint-\d{8}\.h5")


class Disk:
    """What of a folder is sure to be on the disk, as its calls pass by."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.unflushed = {}  # by file, who wrote to it since flushing it
        self.names = []  # given in the folder since flushing it
        self.sure = set()  # files whose manifest is on the disk
        self.commits, self.removed, self.wrong = [], [], []

    def see(self, call):
        if not call.good or call.path.endswith((commits.LOCK, commits.JOURNAL)):  # which may end with the machine
            return
        if call.name in tracing.WRITES:
            self.unflushed.setdefault(call.path, set()).add(call.pid)
        elif call.name in ("fsync", "fdatasync"):
            self.flush(call)
        elif call.name in tracing.RENAMES:
            self.rename(call, *call.paths)
        elif call.name in tracing.REMOVALS:
            self.remove(call)

    def flush(self, call):
        if call.path != self.folder:
            self.unflushed.get(call.path, set()).discard(call.pid)
            return
        self.sure.update(name.removesuffix(MANIFEST) for name in self.names if name.endswith(MANIFEST))
        self.names.clear()

    def rename(self, call, old, new):
        """A file gets its final name: all of it is on the disk, and so are the names given before."""
        name = new.removeprefix(self.folder + "/")
        if self.unflushed.pop(old, None):
            self.wrong.append(f"{name} is renamed before it is flushed: {call}")
        early = [other for other in self.names if other != f"{name}.old"]  # which goes with the file that replaces it
        if early:
            self.wrong.append(f"{name} has its name before the folder of {early} is flushed")
        self.names.append(name)
        if old.startswith(f"{self.folder}/."):
            self.commits.append(name)

    def remove(self, call):
        """A checkpoint goes after as many newer ones are committed as are kept."""
        name = call.path.removeprefix(self.folder + "/")
        if CHECKPOINT.fullmatch(name):
            self.removed.append(name)
            if self.names or sum(other > name for other in self.sure if CHECKPOINT.fullmatch(other)) < KEEP:
                self.wrong.append(f"{name} goes before newer ones are committed")

    def end(self):
        self.wrong += [f"{name} is never made sure of" for name in self.names]
        self.wrong += [f"{path} is not flushed" for path, pids in self.unflushed.items() if pids]


class Order(commits.CommitTest):
    def watch(self, ranks):
        out, folder = self.folder / f"order-{ranks}.trace", self.folder / f"order-{ranks}"
        plain = tracing.command((*STAGES, f"run.output={folder}"), ranks)
        done = self.run_command((*tracing.watching(out), *plain))
        self.assertEqual(done.code, 0, str(done))
        disk = Disk(folder)
        for call in tracing.inside(tracing.parse(out.read_text()), folder):
            disk.see(call)
        disk.end()
        self.assertEqual(disk.wrong, [])
        for name in ("checkpoint-00000002.h5", "checkpoint-00000007.h5", "weights.h5", "train.h5", "evaluate.h5",
                     "eigen-state.h5", "eigen.h5"):
            self.assertIn(name, disk.commits)
        for name in disk.commits:
            if name.startswith("checkpoint-") and not name.endswith(MANIFEST):
                self.assertLess(disk.commits.index(name), disk.commits.index(name + MANIFEST), name)
        self.assertEqual(len(disk.removed), 2)
        manifests = sum(name.endswith(MANIFEST) for name in disk.commits)
        print(f"{ranks} ranks: {len(disk.commits) - manifests} files and {manifests} manifests committed in order, "
              f"{len(disk.removed)} checkpoints removed after newer ones", flush=True)

    def test_one_process_commits_in_order(self):
        self.watch(1)

    @harness.needs_ranks()
    def test_two_ranks_commit_in_order(self):
        self.watch(2)


if __name__ == "__main__":
    harness.main()
