"""The tools: weights to PyTorch and back without a changed bit, every figure of a study, what a setup needs."""
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

import harness
from harness import ProgramTest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def load(name):
    """A tool as a module."""
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Tools(ProgramTest):
    def tool(self, name, *words, expect=0):
        done = subprocess.run([sys.executable, str(TOOLS / name), *map(str, words)], cwd=self.folder,
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, expect, f"{done.stdout}\n{done.stderr}")
        return done

    def there_and_back(self, ending):
        weights = self.study("results", "run.stages=train evaluate") / "weights.h5"
        self.tool("convert_weights.py", weights, f"state{ending}")
        self.tool("convert_weights.py", f"state{ending}", "back.h5")
        first, second = harness.datasets(weights), harness.datasets(self.folder / "back.h5")
        self.assertEqual(first.keys(), second.keys())
        for path, values in first.items():
            np.testing.assert_array_equal(values, second[path])
        self.study("again", "run.stages=evaluate", "model.init=back.h5")
        self.assertEqual(harness.datasets(self.folder / "results" / "evaluate.h5")["/loss"],
                         harness.datasets(self.folder / "again" / "evaluate.h5")["/loss"])

    def test_weights_to_numpy_and_back(self):
        self.there_and_back(".npz")

    def test_weights_to_pytorch_and_back(self):
        try:
            import torch
        except ImportError:
            self.skipTest("PyTorch is not installed")
        self.there_and_back(".pt")
        names = ["conv1.0.weight", "conv1.0.bias", "conv2.0.weight", "conv2.0.bias", "out.weight", "out.bias"]
        self.assertEqual(list(torch.load(self.folder / "state.pt")), names)

    def test_unusable_weights_are_refused_with_the_reason(self):
        with h5py.File(self.folder / "odd.h5", "w") as file:
            file["params/out/weight"], file["params/out/bias"] = np.zeros((10, 4)), np.zeros(9)
        with h5py.File(self.folder / "none.h5", "w"):
            pass
        np.savez(self.folder / "names.npz", fc=np.zeros(3))
        for source, reason in (("odd.h5", "shape"), ("none.h5", "/params"), ("names.npz", "'fc'"),
                               ("absent.h5", "absent.h5"), ("odd.txt", "ending")):
            with self.subTest(source=source):
                self.assertIn(reason, self.tool("convert_weights.py", source, "x.npz", expect=1).stderr)
                self.assertFalse((self.folder / "x.npz").exists())

    def test_setup_on_a_system_without_debians_packages_tells_what_it_misses(self):
        place = self.folder / "bin"
        place.mkdir()
        for name in ("bash", "cat", "dirname"):
            (place / name).symlink_to(shutil.which(name))
        (self.folder / "tools").mkdir()
        for name in ("setup.sh", "packages.txt"):
            shutil.copy(TOOLS / name, self.folder / "tools" / name)
        setup = [str(place / "bash"), str(self.folder / "tools" / "setup.sh"), "run"]
        needed = ["cmake", "mpicc", "h5pcc", "pkg-config"]
        for there in ([], needed[1:], needed):  # this pkg-config finds all
            for name in there:
                (place / name).write_text("#!/bin/sh\n")
                (place / name).chmod(0o755)
            for sections in ((), ("test",)):
                done = subprocess.run([*setup, *sections], env={"PATH": str(place)}, capture_output=True, text=True,
                                      check=False)
                missing = [name for name in needed if name not in there]
                if "pkg-config" in missing:
                    missing += ["inih", "openblas", *(["cmocka"] if sections else [])]
                self.assertEqual(done.returncode, 1 if missing else 0, done.stderr)
                self.assertEqual("not found: " + " ".join(missing) + "\n" in done.stderr, bool(missing), done.stderr)
                self.assertEqual("README.md" in done.stderr, bool(missing), done.stderr)
        (place / "h5pcc").unlink()
        (self.folder / "build").mkdir()
        (self.folder / "build" / "CMakeCache.txt").touch()  # set up by hand: it found its own
        self.assertEqual(subprocess.run(setup, env={"PATH": str(place)}, check=False).returncode, 0)

    def test_every_figure_is_drawn(self):
        words = ("train.curvature_every=4", "train.curvature_count=1")
        results = self.study("results", *words)
        done = self.tool("plot.py", results)
        drawn = {path.stem for path in (results / "figures").glob("*.png")}
        self.assertEqual(drawn, {"training", "confusion", "curvature", "eigenvalues", "density", "cumulative",
                                 "landscape-lines", "landscape-plane"})
        self.assertIn("generated digits", done.stdout)
        # A folder with pictures in it is still one to go on with.
        self.study("results", *words, "--restart")

    def test_a_title_names_operator_and_block(self):
        plot = load("plot")
        for number, (attributes, words) in enumerate((
                ({}, "the Hessian"), ({"operator": "hessian", "hessian_layers": "all"}, "the Hessian"),
                ({"operator": "gauss-newton", "hessian_layers": "all"}, "the Gauss-Newton matrix"),
                ({"operator": "hessian", "hessian_layers": "conv1 out"}, "the Hessian, block conv1 out"))):
            with h5py.File(self.folder / f"{number}.h5", "w") as file:
                file.attrs.update(attributes)
                self.assertEqual(plot.subject(file), words)

    def test_figures_that_cannot_be_drawn_are_left_out_and_said(self):
        results = self.study("results", "run.stages=train")
        self.assertIn("density.h5 is not there", self.tool("plot.py", results, "-o", "pictures").stdout)
        self.assertTrue((self.folder / "pictures" / "training.png").exists())
        self.assertIn("no such folder", self.tool("plot.py", "absent", expect=1).stderr)
        (self.folder / "bare").mkdir()
        self.assertIn("no results", self.tool("plot.py", "bare", expect=1).stderr)


if __name__ == "__main__":
    harness.main()
