"""Every file of a study holds what was promised: datasets, shapes, attributes, units, axes, and sensible values."""
import math
import re
import subprocess
from datetime import datetime

import h5py
import numpy as np

import harness
from harness import MPIEXEC, ProgramTest, flat

N = 4 * 25 + 4 + 6 * 4 * 9 + 6 + 10 * 6 * 49 + 10  # parameters of the small network
DIRECTIONS = ("eigenvector", "random", "gradient")
PARAMETERS = {
    "conv1/weight": (4, 1, 5, 5), "conv1/bias": (4,), "conv2/weight": (6, 4, 3, 3), "conv2/bias": (6,),
    "out/weight": (10, 294), "out/bias": (10,),
}
# Words beside harness.SMALL: 8 steps, an evaluation and a checkpoint every 4.
SHAPES = {
    "weights.h5": {f"/params/{name}": shape for name, shape in PARAMETERS.items()},
    "checkpoint-00000008.h5": {f"{root}/{name}": shape for name, shape in PARAMETERS.items()
                               for root in ("/params", "/optimizer/momentum")},
    "train.h5": {"/train/step": (8,), "/train/loss": (8,), "/train/lr": (8,),
                 "/test/step": (2,), "/test/loss": (2,), "/test/accuracy": (2,)},
    "evaluate.h5": {"/loss": (), "/accuracy": (), "/confusion": (10, 10)},
    "verify.h5": {},
    "hvp.h5": {"/loss": (), "/accuracy": (), "/gradient": (N,), "/products": (2, N)},
    "eigen.h5": {"/eigenvalues": (4,), "/eigenvectors": (4, N), "/residuals": (4,), "/converged": (4,),
                 "/products_used": ()},
    "density.h5": {"/ritz_values": (2, 10), "/weights": (2, 10), "/grid": (200,), "/density": (200,),
                   "/density_stderr": (200,), "/full/grid": (200,), "/full/density": (200,),
                   "/moments": (4,), "/moments_stderr": (4,)},
    "trace.h5": {"/trace": (), "/stderr": (), "/layers": (3,)},
    "landscape.h5": {
        **{f"/{d}/{name}": (5,) for d in DIRECTIONS for name in ("alpha", "loss", "accuracy")},
        **{f"/{d}/vector": (N,) for d in DIRECTIONS},
        "/plane/x": (3,), "/plane/y": (3,), "/plane/loss": (3, 3), "/plane/accuracy": (3, 3)},
}
# Dataset -> the datasets that are the dimension scales of its axes (None: no scale asked for).
AXES = {
    "train.h5": {"/train/loss": ["/train/step"], "/train/lr": ["/train/step"], "/test/loss": ["/test/step"],
                 "/test/accuracy": ["/test/step"]},
    "density.h5": {"/density": ["/grid"], "/density_stderr": ["/grid"], "/full/density": ["/full/grid"]},
    "trace.h5": {"/layers": ["/layer"], "/interval": ["/end"], "/layers_interval": ["/layer", "/end"]},
    "landscape.h5": {"/random/loss": ["/random/alpha"], "/gradient/accuracy": ["/gradient/alpha"],
                     "/plane/loss": ["/plane/y", "/plane/x"], "/plane/accuracy": ["/plane/y", "/plane/x"]},
}
ATTRIBUTES = ("program", "version", "format_version", "git_commit", "command", "deck", "created", "ranks", "threads",
              "binding", "backend", "instruction_set", "precision", "reduction", "data_source", "data_sha256")


def text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


class Files(ProgramTest):
    """One study for all tests of this class: they only read."""

    @classmethod
    def setUpClass(cls):
        case = ProgramTest()
        ProgramTest.setUp(case)
        cls.addClassCleanup(case.doCleanups)
        with h5py.File(case.folder / "vectors.h5", "w") as file:
            file["vectors"] = np.random.default_rng(1).standard_normal((2, N))
        stages = "run.stages=train evaluate verify hvp eigen density trace landscape"
        cls.results = case.study("results", stages, "hvp.vectors=vectors.h5", ranks=2 if MPIEXEC else 1)

    def setUp(self):
        """Nothing of its own."""

    def open(self, name):
        file = h5py.File(self.results / name, "r")
        self.addCleanup(file.close)
        return file

    def test_every_promised_dataset_has_its_shape(self):
        for name, shapes in SHAPES.items():
            file = self.open(name)
            for path, shape in shapes.items():
                with self.subTest(file=name, dataset=path):
                    self.assertIn(path, file)
                    self.assertEqual(file[path].shape, shape)

    def test_no_file_is_left_under_a_temporary_name(self):
        allowed = re.compile(r"(checkpoint-\d{8}|train|weights|evaluate|verify|hvp|eigen|density|trace|landscape)\.h5"
                             r"(\.sha256)?|metrics\.jsonl")
        self.assertEqual([p.name for p in self.results.iterdir() if not allowed.fullmatch(p.name)], [])

    def test_every_file_says_how_it_was_made(self):
        for path in sorted(self.results.glob("*.h5")):
            attributes = self.open(path.name).attrs
            with self.subTest(file=path.name):
                self.assertEqual([a for a in ATTRIBUTES if a not in attributes], [])
                self.assertEqual(text(attributes["program"]), "hsgd-dist")
                self.assertEqual(int(attributes["ranks"]), 2 if MPIEXEC else 1)
                self.assertEqual(text(attributes["precision"]), "single")
                self.assertIn("generated", text(attributes["data_source"]))
                self.assertRegex(text(attributes["data_sha256"]), r"^[0-9a-f]{64}$")
                self.assertIn("samples = 64", text(attributes["deck"]))
                datetime.strptime(text(attributes["created"]), "%Y-%m-%dT%H:%M:%SZ")
                if path.name != "train.h5":
                    self.assertRegex(text(attributes["weights_sha256"]), r"^[0-9a-f]{64}$")

    def test_the_deck_in_a_file_resolves_to_itself(self):
        deck = text(self.open("eigen.h5").attrs["deck"])
        (self.results.parent / "again.ini").write_text(deck)
        done = harness.finish(harness.launch("again.ini", "--dry-run", "--restart", cwd=self.results.parent))
        self.assertEqual(done.code, 0, str(done))
        for line in deck.splitlines():
            self.assertIn(line.strip(), done.out)

    def test_every_dataset_has_units_and_a_description(self):
        for path in sorted(self.results.glob("*.h5")):
            bare = []
            self.open(path.name).visititems(lambda name, item: bare.append(name) if isinstance(item, h5py.Dataset)
                                            and not (text(item.attrs.get("units", "")) and
                                                     text(item.attrs.get("description", ""))) else None)
            with self.subTest(file=path.name):
                self.assertEqual(bare, [])

    def test_axes_are_dimension_scales(self):
        for name, axes in AXES.items():
            file = self.open(name)
            for path, scales in axes.items():
                with self.subTest(file=name, dataset=path):
                    self.assertEqual(harness.scales(file[path]), [[scale] for scale in scales])

    def test_no_value_is_nan_or_infinite(self):
        for path in sorted(self.results.glob("*.h5")):
            for name, values in harness.datasets(path).items():
                with self.subTest(file=path.name, dataset=name):
                    self.assertTrue(np.isfinite(values).all())

    def test_training_history_counts_steps_from_one(self):
        file = self.open("train.h5")
        np.testing.assert_array_equal(file["/train/step"][()], np.arange(1, 9))
        np.testing.assert_array_equal(file["/test/step"][()], [4, 8])
        np.testing.assert_allclose(file["/train/lr"][()], 0.05)

    def test_the_last_checkpoint_holds_the_weights(self):
        checkpoint, weights = self.open("checkpoint-00000008.h5"), self.open("weights.h5")
        np.testing.assert_array_equal(flat(checkpoint["/params"]), flat(weights["/params"]))
        self.assertEqual(int(checkpoint.attrs["step"]), 8)
        self.assertEqual(int(checkpoint.attrs["seed"]), 1)
        self.assertEqual(int(checkpoint.attrs["samples_seen"]), 8 * 30 - 10)  # 200 = 6 * 30 + 20: an epoch ends ragged
        self.assertIn("epoch", checkpoint.attrs)

    def test_the_confusion_matrix_agrees_with_the_accuracy(self):
        file = self.open("evaluate.h5")
        confusion = file["/confusion"][()]
        self.assertEqual(confusion.sum(), 100)
        self.assertAlmostEqual(np.trace(confusion) / 100, float(file["/accuracy"][()]), places=14)

    def test_every_check_of_verify_passed_or_was_skipped_with_a_reason(self):
        checks = self.open("verify.h5")["/checks"]
        self.assertGreaterEqual(len(checks), 5)
        for name, check in checks.items():
            with self.subTest(check=name):
                if "skipped" in check.attrs:
                    self.assertTrue(text(check.attrs["skipped"]))
                else:
                    self.assertTrue(check.attrs["passed"])
                    self.assertLessEqual(float(check.attrs["value"]), float(check.attrs["bound"]))

    def test_eigenpairs_are_sorted_of_unit_norm_and_signed_by_the_rule(self):
        file = self.open("eigen.h5")
        values, vectors = file["/eigenvalues"][()], file["/eigenvectors"][()]
        self.assertTrue((np.diff(values) < 0).all())
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
        for row in vectors:
            self.assertGreater(row[np.abs(row).argmax()], 0.0)
        self.assertTrue((file["/residuals"][()] >= 0).all())
        self.assertTrue(np.isin(file["/converged"][()], (0, 1)).all())
        self.assertGreaterEqual(int(file["/products_used"][()]), 4)

    def test_quadrature_weights_are_probabilities_and_the_density_integrates_to_one(self):
        file = self.open("density.h5")
        np.testing.assert_allclose(file["/weights"][()].sum(axis=1), 1.0, atol=1e-10)
        grid, density = file["/grid"][()], file["/density"][()]
        self.assertAlmostEqual(density.sum() * (grid[1] - grid[0]), 1.0, places=10)

    def test_the_full_density_is_normalised_by_the_mass_within_its_grid(self):
        file = self.open("density.h5")
        theta, weight, grid = (file[name][()].ravel() for name in ("/ritz_values", "/weights", "/full/grid"))
        width = math.sqrt(2 * file.attrs["sigma_squared"] * max(1.0, grid[-1] - grid[0]))
        weight = weight / len(file["/weights"])
        mass = sum(w * (math.erf((grid[-1] - t) / width) - math.erf((grid[0] - t) / width)) / 2
                   for t, w in zip(theta, weight))
        self.assertAlmostEqual(float(file["/full/mass"][()]), mass, places=12)
        bumps = weight * np.exp(-((grid[:, None] - theta) / width)**2)
        expected = bumps.sum(axis=1) / width / math.sqrt(math.pi) / mass
        np.testing.assert_allclose(file["/full/density"][()], expected, rtol=1e-9, atol=1e-12 * expected.max())

    def test_moments_are_those_of_the_quadrature(self):
        file = self.open("density.h5")
        theta, weight = file["/ritz_values"][()], file["/weights"][()]
        expected = [(weight * theta**j).sum(axis=1).mean() for j in (1, 2, 3, 4)]
        np.testing.assert_allclose(file["/moments"][()], expected, rtol=1e-12)

    def test_the_trace_is_the_sum_over_the_layers(self):
        file = self.open("trace.h5")
        self.assertAlmostEqual(float(file["/trace"][()]) / file["/layers"][()].sum(), 1.0, places=12)
        self.assertEqual(float(file["/stderr"][()]), 0.0)

    def test_landscapes_meet_in_the_studied_loss(self):
        file, studied = self.open("landscape.h5"), float(self.open("hvp.h5")["/loss"][()])
        centres = [float(file[f"/{d}/loss"][2]) for d in DIRECTIONS]
        centres.append(float(file["/plane/loss"][1, 1]))
        np.testing.assert_allclose(centres, studied, rtol=1e-6)
        for direction in DIRECTIONS:
            np.testing.assert_allclose(file[f"/{direction}/alpha"][()], [-0.5, -0.25, 0.0, 0.25, 0.5])
            self.assertAlmostEqual(float(np.linalg.norm(file[f"/{direction}/vector"][()])), 1.0, places=6)

    def test_products_and_gradient_belong_to_the_same_hessian(self):
        """u'Hv = v'Hu for the two vectors given, in single precision."""
        with h5py.File(self.results.parent / "vectors.h5", "r") as file:
            u, v = file["vectors"][()]
        hu, hv = self.open("hvp.h5")["/products"][()]
        scale = np.linalg.norm(u) * np.linalg.norm(hv) + np.linalg.norm(v) * np.linalg.norm(hu)
        self.assertLessEqual(abs(u @ hv - v @ hu), 1e-5 * scale)

    def test_h5dump_reads_every_file(self):
        for path in sorted(self.results.glob("*.h5")):
            with self.subTest(file=path.name):
                subprocess.run(["h5dump", "-H", str(path)], check=True, stdout=subprocess.DEVNULL)


class Variants(ProgramTest):
    def test_every_file_of_curvature_names_its_operator(self):
        with h5py.File(self.folder / "vectors.h5", "w") as file:
            file["vectors"] = np.ones((1, N))
        for operator in ("hessian", "gauss-newton"):
            for method in ("exact", "hutchinson"):
                folder = self.study(f"{operator}-{method}", "run.stages=hvp eigen density trace",
                                    "hvp.vectors=vectors.h5", f"hessian.operator={operator}", f"trace.method={method}")
                for name in ("hvp.h5", "eigen.h5", "density.h5", "trace.h5"):
                    with self.subTest(name=name, operator=operator), h5py.File(folder / name, "r") as file:
                        self.assertEqual(text(file.attrs["operator"]), operator)

    def test_one_probe_has_no_standard_error(self):
        folder = self.study("one", "run.stages=density trace", "density.probes=1", "trace.probes=1",
                            "trace.method=hutchinson")
        density, trace = harness.datasets(folder / "density.h5"), harness.datasets(folder / "trace.h5")
        self.assertEqual([k for k in {**density, **trace} if "stderr" in k], [])
        self.assertEqual(trace["/samples"].shape, (1,))

    def test_dry_run_reports_and_writes_nothing(self):
        done = self.program(*harness.SMALL, "--dry-run", "run.output=dry")
        self.assertEqual(sorted(self.folder.iterdir()), [])
        self.assertIn(str(N), done.out.replace(",", ""))

    def test_without_training_the_weights_of_the_folder_are_studied(self):
        folder = self.study("results", "run.stages=train")
        self.study("results", "run.stages=evaluate eigen", "--restart")
        with h5py.File(folder / "weights.h5", "r") as weights, h5py.File(folder / "eigen.h5", "r") as eigen:
            self.assertEqual(weights.attrs["weights_sha256"], eigen.attrs["weights_sha256"])

    def test_help_names_every_key_and_version_is_one_line(self):
        self.assertIn("density", self.program("--help").out)
        self.assertRegex(self.program("--version").out, r"^hsgd-dist \d+\.\d+\.\d+")


if __name__ == "__main__":
    harness.main()
