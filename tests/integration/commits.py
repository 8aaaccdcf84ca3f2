"""A finished training that is made longer: it commits two more checkpoints and replaces its results.

And what its folder must look like at any instant.
"""
import hashlib
import re
import shutil

import h5py

import harness
import processes
import tracing

# Checkpoints at 2 (there already), 4 and 6, the first removed when the third is there; then weights.h5 and train.h5,
# each in the place of an older one.
TRAINING = ("data.train_samples=60", "data.test_samples=20", "model.layers=linear 10", "train.batch=20",
            "train.momentum=0.9", "train.evaluate_every=2", "train.steps=6", "train.checkpoint_every=2",
            "run.stages=train", "device.threads=1")
FIRST = "checkpoint-00000002"
LOCK, JOURNAL = "hsgd-dist.lock", "metrics.jsonl"


def manifest_of(path):
    return path.with_name(path.name + ".sha256")


def unfit(folder):
    """What bears a final name and is not whole, by h5py and by its manifest."""
    found = []
    for path in sorted(folder.glob("*.h5")):
        if path.name.startswith("."):
            continue
        try:
            with h5py.File(path, "r") as file:
                if "created" not in file.attrs:
                    found.append(f"{path.name} has no attribute created")
        except OSError as wrong:
            found.append(f"{path.name}: {wrong}")
        manifest, digest = manifest_of(path), hashlib.sha256(path.read_bytes()).hexdigest()
        if manifest.exists() and digest not in manifest.read_text():
            found.append(f"{path.name} is not what its manifest tells of")
    return found


def committed(folder):
    """The step of the newest checkpoint that has its manifest; 0: there is none."""
    return max((int(path.stem.split("-")[1]) for path in folder.glob("checkpoint-*.h5") if manifest_of(path).exists()),
               default=0)


class CommitTest(harness.ProgramTest):
    """Tests of a training that is made longer: `whole` is where it leads, `half` where it starts from."""

    def setUp(self):
        super().setUp()
        tracing.needs_strace(self.folder)
        self.whole, self.half = self.folder / "whole", self.folder / "half"
        self.program(*TRAINING, "run.output=half", "train.steps=2")
        for path in self.half.iterdir():
            if not path.name.startswith((FIRST, "weights.h5", "train.h5")):
                path.unlink()
        shutil.copytree(self.half, self.whole)
        self.program(*TRAINING, "run.output=whole", "--restart")

    def copy(self, name):
        """A half-done training of its own."""
        return shutil.copytree(self.half, self.folder / name)

    def run_command(self, words, timeout=120):
        places = processes.private_places(self.folder)
        done = harness.finish(harness.start(list(map(str, words)), self.folder, **places), timeout)
        shutil.rmtree(places["TMPDIR"])
        return done

    def reference(self, rank, ranks):
        """The calls of one rank on files of the training's folder."""
        out, folder = self.folder / f"reference-{rank}-{ranks}.trace", self.copy(f"reference-{rank}-{ranks}")
        words = (*TRAINING, "--restart", f"run.output={folder}")
        done = self.run_command(tracing.command(words, ranks, rank, tracing.watching(out)))
        self.assertEqual(done.code, 0, str(done))
        calls = tracing.inside(tracing.parse(out.read_text()), folder)
        pids = {call.pid for call in calls if call.name != "openat"}
        self.assertEqual(len(pids), 1, "two threads touch files")
        self.check_same(folder)
        return [call for call in calls if call.pid in pids]  # strace counts the calls of each thread

    def tampered(self, folder, calls, rank, ranks, name, how):
        """The training in `folder` with calls of one kind tampered with; and what strace tells."""
        known = {path for call in calls for path in call.paths}
        renamed = {re.sub(r"^.*/reference-\d-\d", str(folder), path) for path in known}
        out = folder.with_name(folder.name + ".trace")
        words = (*TRAINING, "--restart", f"run.output={folder}")
        done = self.run_command(tracing.command(words, ranks, rank, tracing.tampering(out, renamed, name, how)))
        told = out.read_text() if out.exists() else ""
        out.unlink(missing_ok=True)
        return done, told

    def go_on(self, folder, ranks=1):
        """Go on to the end: from the newest committed checkpoint, to the bits and the files of an undisturbed run."""
        step = committed(folder)
        self.assertTrue(harness.is_certified(folder / "weights.h5"), "nothing vouches for weights.h5")
        bare = [path.name + ".old" for path in folder.glob("checkpoint-*.h5") if not manifest_of(path).exists()]
        done = self.run_command(tracing.command((*TRAINING, "--restart", f"run.output={folder}"), ranks))
        self.assertEqual(done.code, 0, str(done))
        self.assertGreaterEqual(step, 2, "the old checkpoint is gone")
        self.assertIn(f"goes on from {folder}/checkpoint-{step:08d}.h5", done.out)
        self.check_same(folder, bare)  # one that was never committed is kept aside
        shutil.rmtree(folder)

    def check_old(self, path):
        """A result in NAME.old is of the shorter training, or of a run that ended between it and the next file."""
        values = [harness.datasets(place) for place in (path, self.half / path.stem, self.whole / path.stem)]
        old, *known = [{name: data.tobytes() for name, data in each.items() if "/time_" not in name} for each in values]
        self.assertIn(old, known, path.name)

    def check_same(self, folder, aside=()):
        """The files and the bits of an undisturbed run; aside: of a checkpoint without manifest that may be kept."""
        names, expected = (sorted(path.name for path in place.iterdir()) for place in (folder, self.whole))
        self.assertEqual([name for name in names if name not in aside or name in expected], expected)
        self.assertEqual(harness.differences(self.whole, folder), [])
        for name in ("weights.h5.old", "train.h5.old"):
            self.check_old(folder / name)
