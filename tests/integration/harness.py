"""What the integration tests share: the program run in a scratch folder of its own, and its files compared.

ctest names the program and the launcher in HSGD_TEST_PROGRAM and HSGD_TEST_MPIEXEC (empty in a build without MPI).
A file of tests ends with `harness.main()`: it leaves with 77, ctest's "skipped", where every test was skipped.
"""
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import h5py
import numpy as np

PROGRAM = os.environ["HSGD_TEST_PROGRAM"]
MPIEXEC = os.environ.get("HSGD_TEST_MPIEXEC", "")
EXIT_USAGE, EXIT_DATA, EXIT_NUMERIC, EXIT_IO, EXIT_DEVICE, EXIT_STOPPED = 2, 3, 4, 5, 6, 75
ERROR = "hsgd-dist: error:"
EVERY_CASE = bool(os.environ.get("HSGD_TEST_EVERY_CASE"))  # of the tables on many ranks, instead of a few

# A whole study in about a second: every stage and every file, on a small network and few generated digits.
SMALL = (
    "data.train_samples=200", "data.test_samples=100",
    "model.layers=conv 4 5 / relu / maxpool 2 / conv 6 3 / relu / maxpool 2 / linear 10",
    "train.steps=8", "train.batch=30", "train.lr=0.05", "train.momentum=0.9", "train.checkpoint_every=4",
    "train.log_every=1", "train.evaluate_every=4", "hessian.samples=64",
    "eigen.max_products=40", "density.probes=2", "density.steps=10", "density.bins=200",
    "trace.probes=4", "landscape.points=5", "landscape.plane=eigenvector1 random", "landscape.plane_points=3",
)


class Finished:
    """How a run ended: exit code, standard output and standard error."""

    def __init__(self, command, code, out, err):
        self.command, self.code, self.out, self.err = command, code, out, err

    @property
    def errors(self):
        return [line for line in self.err.splitlines() if line.startswith(ERROR)]

    def __str__(self):
        command = " ".join(self.command)
        return f"{command}\nexit {self.code}\n--- stdout\n{self.out[-3000:]}\n--- stderr\n{self.err[-3000:]}"


def launch(*words, ranks=1, cwd, prepare=None, prefix=(), **environment):
    """Start the program; a value None takes a variable away.  prepare: called in the child before it runs."""
    command = [*prefix, PROGRAM, *map(str, words)]
    if "HSGD_CUDA_MODULE" not in environment and not any(str(word).startswith(("device.backend", "--help", "--version"))
                                                         for word in words):
        command.append("device.backend=cpu")  # what these tests are about, also on a machine with a GPU
    if ranks > 1:
        command = [MPIEXEC, "-np", str(ranks), *command]
    return start(command, cwd, prepare, **environment)


def start(command, cwd, prepare=None, **environment):
    """Start a whole command line as launch does."""
    variables = {**os.environ, "OMPI_MCA_orte_execute_quiet": "1", "HSGD_DATA": None, **environment}
    # Open MPI's launcher dies of a late SIGPIPE now and then where it is not ignored (common.sh tells more).
    return subprocess.Popen(
        command, cwd=cwd, env={k: v for k, v in variables.items() if v is not None}, preexec_fn=prepare,
        restore_signals=command[0] != MPIEXEC,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(process, timeout=120):
    """Wait for a launched program; one that hangs is ended and reported as a TimeoutError."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise TimeoutError(str(Finished(process.args, "none: it hung", out, err))) from None
    return Finished(process.args, process.returncode, out, err)


class ProgramTest(unittest.TestCase):
    """A test with a scratch folder, `self.folder`, in which the program runs."""

    maxDiff = None

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="hsgd-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def program(self, *words, expect=0, timeout=120, **options):
        """Run the program to its end and check its exit code."""
        done = finish(launch(*words, cwd=self.folder, **options), timeout)
        self.assertEqual(done.code, expect, str(done))
        return done

    def refused(self, *words, expect, output="results", **options):
        """Run the program, which must refuse with one message and write nothing."""
        done = self.program(*words, f"run.output={output}", expect=expect, **options)
        self.assertEqual(len(done.errors), 1, f"not exactly one error line\n{done}")
        self.assertFalse((self.folder / output).exists(), f"something was written\n{done}")
        return done

    def study(self, output, *words, **options):
        """A small study into `output`, and its folder."""
        self.program(*SMALL, *words, f"run.output={output}", **options)
        return self.folder / output


def needs_ranks():
    """Decorator: the test launches several ranks."""
    return unittest.skipUnless(MPIEXEC, "this build has no MPI")


def folder_of(variable):
    """The folder that an environment variable names; skips the test where it names none."""
    path = os.environ.get(variable, "")
    if not path:
        raise unittest.SkipTest(f"{variable} names no folder")
    return Path(path).resolve()


def need_device(module, *words):
    """Skips the test where a CUDA module finds no usable device, or fails it where HSGD_TEST_DEVICE_REQUIRED=1."""
    probe = finish(launch("--dry-run", "device.backend=cuda", *words, cwd="/", HSGD_CUDA_MODULE=module))
    if probe.code == EXIT_DEVICE and os.environ.get("HSGD_TEST_DEVICE_REQUIRED") != "1":
        raise unittest.SkipTest(probe.errors[0] if probe.errors else str(probe))
    if probe.code != 0:
        raise AssertionError(str(probe))


def datasets(path):
    """All datasets of an HDF5 file by path, as arrays."""
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            found["/" + name] = item[()]

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def is_certified(path):
    """Has the file a manifest, and is it what that tells of?"""
    try:
        lines = path.with_name(path.name + ".sha256").read_text().splitlines()
    except FileNotFoundError:
        return False
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return any(lines[i:i + 2] == [f"# {len(content)} bytes", f"{digest}  {path.name}"] for i in range(len(lines)))


def scales(dataset):
    """The names of the dimension scales of each axis."""
    return [[scale.name for scale in dimension.values()] for dimension in dataset.dims]


def differences(first, second):
    """What differs, bit for bit, between the results in two folders; times (time_...) may."""
    names = sorted({p.name for p in first.glob("*.h5")} | {p.name for p in second.glob("*.h5")})
    found = []
    for name in names:
        if not (first / name).exists() or not (second / name).exists():
            found.append(f"{name} is in one folder only")
            continue
        a, b = datasets(first / name), datasets(second / name)
        for path in sorted(a.keys() | b.keys()):
            if path.rsplit("/", 1)[-1].startswith("time_"):
                continue
            if path not in a or path not in b:
                found.append(f"{name}{path} is in one file only")
            elif np.asarray(a[path]).tobytes() != np.asarray(b[path]).tobytes():
                found.append(f"{name}{path} differs")
    return found


def flat(group):
    """The parameters of a group such as /params in flat order: convolutions, linear layers, out; weight before bias."""
    def place(layer):
        kind, number = re.fullmatch(r"(conv|linear|out)(\d*)", layer).groups()
        return ("conv", "linear", "out").index(kind), int(number or 0)

    layers = sorted(group, key=place)
    return np.concatenate([group[f"{layer}/{part}"][()].ravel() for layer in layers for part in ("weight", "bias")])


def main():
    """Run the tests of the calling file: 0 passed, 1 failed or none was picked, 77 all skipped."""
    result = unittest.main(exit=False, verbosity=2).result
    if not result.wasSuccessful() or (result.testsRun == 0 and not result.skipped):
        sys.exit(1)
    # A class that setUpClass skips is no TestCase and has run no test.
    skipped = sum(isinstance(test, unittest.TestCase) for test, _ in result.skipped)
    sys.exit(77 if result.testsRun <= skipped else 0)
