"""HDF5 files made to harm, with manifests that vouch for them: a clean way past them, in bounded memory.

HSGD_TEST_EVERY_CASE=1 tries all that is done to every dataset and attribute of a checkpoint, else a few.
"""
import hashlib
import shutil
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np

import harness
from harness import EVERY_CASE, EXIT_DATA, ProgramTest

WORDS = (*harness.SMALL, "run.stages=train")
NEWEST, BEFORE = "checkpoint-00000008.h5", "checkpoint-00000004.h5"
MOST_MORE = 64 << 20  # bytes of memory more than an undisturbed restart takes
HUGE = 1 << 40
SMALL_BOMB = zlib.compress(bytes(32 << 20), 9)
BOMB = zlib.compress(bytes(512 << 20), 9)

# The most memory of a program, told by one that is small itself: a process begins with the size of its parent.
MEASURE = """
import os, sys
pid = os.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
status, usage = os.wait4(pid, 0)[1:]
open(sys.argv[1], "w").write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status) % 256)
"""


def replace(file, path, **how):
    """Put a dataset of another kind in place of `path`."""
    del file[path]
    return file.create_dataset(path, **how)


def shape_of(file, path):
    return file[path].shape


def poison(file, path, value):
    data = file[path][()].astype(float)
    data.flat[data.size - 1] = value
    replace(file, path, data=data)


def link_to(target):
    def change(file, path):
        del file[path]
        file[path] = target(file, path)

    return change


def loop(file, path):
    del file[path]
    file[path] = h5py.SoftLink("/around")
    file["/around"] = h5py.SoftLink(path)


def virtual(file, path):
    layout = h5py.VirtualLayout(shape_of(file, path), dtype="f8")
    layout[...] = h5py.VirtualSource("/etc/passwd", "x", shape_of(file, path))
    del file[path]
    file.create_virtual_dataset(path, layout)


def external(file, path):
    size = int(np.prod(shape_of(file, path))) * 8
    replace(file, path, shape=shape_of(file, path), dtype="f8", external=[("/dev/zero", 0, size)])


def bomb(file, path):
    """Small in the file, a thousand times as large unpacked: half a gibibyte."""
    shape = shape_of(file, path)
    dataset = replace(file, path, shape=shape, dtype="f8", chunks=shape, compression="gzip")
    small = np.prod(shape) * 8 < 256  # of such pieces HDF5 keeps the lengths in two bytes
    dataset.id.write_direct_chunk((0,) * len(shape), SMALL_BOMB if small else BOMB)


def rubbish(file, path):
    """A piece that is not what its filter packs."""
    shape = shape_of(file, path)
    dataset = replace(file, path, shape=shape, dtype="f8", chunks=shape, compression="gzip")
    dataset.id.write_direct_chunk((0,) * len(shape), b"not a stream of deflate" * 3)


def group(file, path):
    del file[path]
    file.create_group(path)


def cycle(file, path):
    """A group that holds itself in place of the dataset."""
    group(file, path)
    file[f"{path}/again"] = file[path]


TO_DATASETS = {
    "missing": lambda file, path: file.__delitem__(path),
    "text": lambda file, path: replace(file, path, data="0.1 0.2 0.3"),
    "compound": lambda file, path: replace(file, path, shape=shape_of(file, path), dtype=[("a", "f8"), ("b", "i4")]),
    "references": lambda file, path: replace(file, path, shape=shape_of(file, path), dtype=h5py.ref_dtype),
    "lists": lambda file, path: replace(file, path, shape=shape_of(file, path), dtype=h5py.vlen_dtype("f8")),
    "one dimension more": lambda file, path: replace(file, path, data=file[path][()][None]),
    "flat and longer": lambda file, path: replace(file, path, data=np.zeros(file[path].size + 1)),
    "a scalar": lambda file, path: replace(file, path, data=1.0),
    "nothing": lambda file, path: replace(file, path, data=h5py.Empty("f8")),
    "no entries": lambda file, path: replace(file, path, shape=(0,), dtype="f8"),
    "32 dimensions": lambda file, path: replace(file, path, shape=(1,) * 32, dtype="f8"),
    "huge": lambda file, path: replace(file, path, shape=(HUGE,), dtype="f8", chunks=(1024,)),
    "huge in every dimension": lambda file, path: replace(file, path, shape=(HUGE, HUGE), dtype="u1",
                                                          chunks=(1024, 1)),
    "a huge piece": lambda file, path: replace(file, path, shape=shape_of(file, path), dtype="f8",
                                               maxshape=(None,) * len(shape_of(file, path)),
                                               chunks=(1 << 28,) + (1,) * (len(shape_of(file, path)) - 1)),
    "a soft link": link_to(lambda file, path: h5py.SoftLink("/train/loss")),
    "a link to nowhere": link_to(lambda file, path: h5py.SoftLink("/no/where")),
    "a link in a loop": loop,
    "an external link": link_to(lambda file, path: h5py.ExternalLink("/etc/passwd", "/")),
    "virtual": virtual,
    "values elsewhere": external,
    "a group": group,
    "a group that holds itself": cycle,
    "never written": lambda file, path: replace(file, path, shape=shape_of(file, path), dtype="f8"),
    "never written, in pieces": lambda file, path: replace(file, path, shape=shape_of(file, path), dtype="f8",
                                                           chunks=shape_of(file, path), compression="gzip"),
    "NaN": lambda file, path: poison(file, path, np.nan),
    "infinity": lambda file, path: poison(file, path, np.inf),
    "rubbish": rubbish,
    "a bomb": bomb,
    "other values": lambda file, path: poison(file, path, 0.123),
}


def put(value, **how):
    def change(file, name):
        del file.attrs[name]
        file.attrs.create(name, value, **how)

    return change


TO_ATTRIBUTES = {
    "missing": lambda file, name: file.attrs.__delitem__(name),
    "text": put("seven"),
    "a fixed text": put(np.bytes_(b"x" * 100)),
    "real": put(8.0),
    "many": put(np.arange(5000)),
    "nothing": put(h5py.Empty("i8")),
    "negative": put(-8),
    "enormous": put(np.uint64(2 ** 64 - 1)),
}


def certify(path):
    """Give a forged file a manifest that vouches for it."""
    content = path.read_bytes()
    path.with_name(path.name + ".sha256").write_text(
        f"# hsgd-dist manifest 1\n# {len(content)} bytes\n{hashlib.sha256(content).hexdigest()}  {path.name}\n")


class Hostile(ProgramTest):
    def setUp(self):
        super().setUp()
        self.whole = self.study("whole", "run.stages=train")
        self.lock = threading.Lock()  # h5py's own files are not for threads

    def run_measured(self, number, *words):
        """Run the program; how it ended, and the most memory that it took."""
        told = self.folder / f"memory-{number}"
        done = harness.finish(harness.launch(*words, cwd=self.folder,
                                             prefix=(sys.executable, "-ISc", MEASURE, str(told))))
        return done, int(told.read_text()) * 1024

    def restart_with(self, number, change, path):
        """A restart whose newest checkpoint was changed so; what it said, and its folder."""
        folder = self.folder / f"case-{number}"
        folder.mkdir()
        for name in (BEFORE, f"{BEFORE}.sha256", NEWEST):
            shutil.copy(self.whole / name, folder / name)
        with self.lock, h5py.File(folder / NEWEST, "r+") as file:
            change(file, path)
        certify(folder / NEWEST)
        return (*self.run_measured(number, *WORDS, "--restart", f"run.output={folder.name}"), folder)

    def cases(self):
        with h5py.File(self.whole / NEWEST, "r") as file:
            found = []
            file.visititems(lambda name, item: found.append(f"/{name}") if isinstance(item, h5py.Dataset) else None)
        read = [path for path in found if path not in ("/train/step",)]  # which nobody reads
        number = 0
        for what, change in TO_DATASETS.items():
            for path in read:
                number += 1
                if EVERY_CASE or number % 29 == 3:
                    yield number, f"{path}: {what}", change, path
        for what, change in TO_ATTRIBUTES.items():
            for name in ("step", "total_steps", "stage_hash", "state_sha256"):
                number += 1
                if (EVERY_CASE or number % 16 == 3) and (name, what) not in (("stage_hash", "text"),):
                    yield number, f"{name}: {what}", change, name

    def test_a_checkpoint_made_to_harm_is_passed_over(self):
        _, usual = self.run_measured("usual", *WORDS, "run.output=usual")

        def check(case):
            number, what, change, path = case
            done, memory, folder = self.restart_with(number, change, path)
            problems = []
            if done.code != 0 or NEWEST not in done.err or f"goes on from {folder.name}/{BEFORE}" not in done.out:
                problems.append(f"{what}: {done}")
            if memory > usual + MOST_MORE:
                problems.append(f"{what}: took {memory} bytes of memory, {usual} are usual")
            with self.lock:
                problems += [f"{what}: {text}" for text in harness.differences(self.whole, folder)]
            shutil.rmtree(folder)
            return problems

        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(check, self.cases()))
        self.assertEqual([problem for problems in results for problem in problems], [])
        print(f"{len(results)} checkpoints made to harm: all passed over, in bounded memory", flush=True)

    def test_a_value_changed_under_a_manifest_that_vouches_is_found(self):
        """By the checkpoint's own sum of its content."""
        def change(file, path):
            file[path][...] = np.nextafter(file[path][...], np.inf)

        with h5py.File(self.whole / NEWEST, "r") as file:
            layer = next(iter(file["params"]))
        for number, path in enumerate((f"/params/{layer}/weight", f"/optimizer/momentum/{layer}/bias")):
            done, _, folder = self.restart_with(f"value-{number}", change, path)
            self.assertIn(f"{NEWEST}: its content is not what was written", done.err)
            self.assertIn(f"goes on from {folder.name}/{BEFORE}", done.out)
            self.assertEqual(harness.differences(self.whole, folder), [])

    def test_weights_made_to_harm_are_refused(self):
        count = 0
        for number, (what, change) in enumerate(TO_DATASETS.items()):
            if what == "other values" or not (EVERY_CASE or number % 9 == 2):
                continue
            weights = self.folder / "weights.h5"
            shutil.copy(self.whole / "weights.h5", weights)
            with h5py.File(weights, "r+") as file:
                change(file, "/params/conv1/weight")
            for manifest in (False, True):
                weights.with_name("weights.h5.sha256").unlink(missing_ok=True)
                if manifest:
                    certify(weights)
                with self.subTest(what=what, manifest=manifest):
                    done = self.refused(*WORDS, f"model.init={weights}", expect=EXIT_DATA)
                    self.assertIn("weights.h5", done.errors[0])
                    count += 1
        print(f"{count} weights made to harm: all refused", flush=True)


if __name__ == "__main__":
    harness.main()
