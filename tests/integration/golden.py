"""The program against independent float64 references on real MNIST: HSGD_GOLDEN and HSGD_DATA name both folders.

$HSGD_TEST_MODULE, where it is set, names a CUDA module that computes.  The errors seen are printed.  Bounds are
relative: 1e-10 in double, 2e-5 in single for gradient and product.
"""
import os

import h5py
import numpy as np

import harness
from harness import ProgramTest, flat, folder_of

MODULE = os.environ.get("HSGD_TEST_MODULE", "")
DEVICE = ("device.backend=cuda",) if MODULE else ()

DOUBLE, SINGLE = 1e-10, 2e-5


def relative(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


class Golden(ProgramTest):
    @classmethod
    def setUpClass(cls):
        cls.golden, cls.data = folder_of("HSGD_GOLDEN"), folder_of("HSGD_DATA")
        if MODULE:
            harness.need_device(MODULE)

    def program(self, *words, **options):
        if MODULE:
            options = {"HSGD_CUDA_MODULE": MODULE, **options}
        return super().program(*words, *DEVICE, **options)

    def reference(self, name):
        file = h5py.File(self.golden / name, "r")
        self.addCleanup(file.close)
        return file

    def result(self, name):
        file = h5py.File(self.folder / "results" / name, "r")
        self.addCleanup(file.close)
        return file

    def run_stage(self, stage, case, params, *words, precision="double"):
        """Run one stage on the samples of a case at given weights; read its answer with self.result."""
        self.program(f"run.stages={stage}", f"model.init={self.golden / params}", f"model.precision={precision}",
                     f"hessian.indices={self.golden / case}", f"data.dir={self.data}", "run.output=results", *words,
                     timeout=600)

    def bounded(self, what, error, bound):
        print(f"    {what}: error {error:.2e} (bound {bound:.0e})", flush=True)
        self.assertLessEqual(error, bound, what)

    def check_product(self, case, params, precision, bound):
        self.run_stage("hvp", case, params, f"hvp.vectors={self.golden / case}", precision=precision)
        expected, found = self.reference(case), self.result("hvp.h5")
        name = f"{case} {precision}"
        self.bounded(f"{name} loss", abs(found["/loss"][()] / expected["/loss"][()] - 1), bound)
        self.assertEqual(float(found["/accuracy"][()]), float(expected["/accuracy"][()]))
        self.bounded(f"{name} gradient", relative(found["/gradient"][()], flat(expected["grad"])), bound)
        self.bounded(f"{name} product", relative(found["/products"][0], flat(expected["hv"])), bound)

    def test_product_untrained_double(self):
        self.check_product("case_untrained.h5", "params.h5", "double", DOUBLE)

    def test_product_untrained_single(self):
        self.check_product("case_untrained.h5", "params.h5", "single", SINGLE)

    def test_product_trained_double(self):
        self.check_product("case_trained.h5", "params_trained.h5", "double", DOUBLE)

    def test_product_trained_single(self):
        self.check_product("case_trained.h5", "params_trained.h5", "single", SINGLE)

    def test_every_sgd_setting_step_by_step(self):
        reference = self.reference("case_sgd.h5")
        for setting in ("setting_0", "setting_1", "setting_2", "setting_3"):
            case = reference[setting]
            output = f"run.output={setting}"
            keys = [f"train.{key}={float(case[key][()])!r}" for key in ("lr", "momentum", "dampening", "weight_decay")]
            keys.append(f"train.nesterov={'true' if case['nesterov'][()] else 'false'}")
            self.program("run.stages=train", output, f"data.dir={self.data}", "data.train_samples=2000",
                         f"model.init={self.golden / 'params.h5'}", "model.precision=double", "train.shuffle=false",
                         "train.steps=20", "train.batch=100", "train.log_every=1", *keys, timeout=600)
            loss = harness.datasets(self.folder / setting / "train.h5")["/train/loss"]
            self.bounded(f"{setting} loss", float(np.abs(loss - case["loss"][()]).max()), 1e-9)
            with h5py.File(self.folder / setting / "weights.h5", "r") as weights:
                self.bounded(f"{setting} weights", relative(flat(weights["/params"]), flat(case["final"])), 1e-9)

    def check_eigenvalues(self, case, params):
        self.run_stage("eigen", case, params, "eigen.count=8", "eigen.which=both", "eigen.tolerance=1e-7",
                       "eigen.max_products=400")
        expected, found = self.reference(case)["eigenvalues"], self.result("eigen.h5")
        values, top, bottom = found["/eigenvalues"][()], expected["top"][()], expected["bottom"][()]
        self.assertTrue(found["/converged"][()].all())
        self.bounded(f"{case} top 8", float(np.abs(values[:8] - top).max() / top[0]), 1e-8)
        self.bounded(f"{case} bottom 4", float(np.abs(values[:-5:-1] - bottom).max() / top[0]), 1e-8)

    def test_eigenvalues_untrained(self):
        self.check_eigenvalues("case_untrained.h5", "params.h5")

    def test_eigenvalues_trained(self):
        self.check_eigenvalues("case_trained.h5", "params_trained.h5")

    def test_landscapes_and_plane(self):
        case = "case_landscape.h5"
        self.run_stage("landscape", case, "params_trained.h5", f"landscape.vectors={self.golden / case}",
                       "landscape.directions=file1 file3 file4", "landscape.points=21", "landscape.range=0.5",
                       "landscape.plane=file1 file2", "landscape.plane_points=11", "landscape.plane_range=0.5")
        expected, found = self.reference(case), self.result("landscape.h5")
        for ours, theirs in (("file1", "eig1"), ("file3", "random"), ("file4", "gradient")):
            error = np.abs(found[f"/{ours}/loss"][()] / expected[f"loss/{theirs}"][()] - 1).max()
            self.bounded(f"landscape {theirs}", float(error), DOUBLE)
        plane = expected["grid/loss"][()].T  # references are [x, y], results [y, x]
        self.bounded("plane", float(np.abs(found["/plane/loss"][()] / plane - 1).max()), DOUBLE)

    def test_gradient_direction_is_the_gradient_at_the_studied_weights(self):
        case = "case_landscape.h5"
        self.run_stage("landscape", case, "params_trained.h5", "landscape.directions=gradient", "landscape.points=3")
        expected = flat(self.reference(case)["direction/gradient"])
        self.bounded("gradient direction", relative(self.result("landscape.h5")["/gradient/vector"][()], expected),
                     DOUBLE)

    def test_exact_columns_of_the_hessian(self):
        reference = self.reference("case_dense.h5")
        columns, n = reference["parameter_indices"][()], len(flat(reference["grad"]))
        with h5py.File(self.folder / "unit.h5", "w") as file:
            unit = np.zeros((len(columns), n))
            unit[np.arange(len(columns)), columns] = 1.0
            file["vectors"] = unit
        self.run_stage("hvp", "case_dense.h5", "params_trained.h5", f"hvp.vectors={self.folder / 'unit.h5'}")
        found = self.result("hvp.h5")
        products, block = found["/products"][()], reference["block"][()]
        self.bounded("64 x 64 block", relative(products[:, columns], block), DOUBLE)
        self.bounded("columns (stored in 26 bits)", relative(products, reference["columns"][()]), 1e-8)
        probe = products @ reference["probe"][()].astype(float)
        self.bounded("columns times a probe", relative(probe, reference["probe_hv"][()]), DOUBLE)
        self.bounded("gradient of 16 samples", relative(found["/gradient"][()], flat(reference["grad"])), DOUBLE)

    def test_quadrature_from_given_start_vectors(self):
        case = "case_density.h5"
        self.run_stage("density", case, "params_trained.h5", f"density.start={self.golden / case}", "density.probes=4",
                       "density.steps=40", "density.bins=1000", "density.sigma_squared=1e-5", "density.overhead=0.01")
        expected, found = self.reference(case), self.result("density.h5")
        scale = np.abs(expected["ritz"][()]).max()
        # Both sides re-orthogonalise twice, so T is known to some multiple of eps norm(H) an entry; Ritz values
        # follow it (Weyl), weights by way of the gaps.
        ritz = np.abs(found["/ritz_values"][()] - expected["ritz"][()]).max() / scale
        self.bounded("Ritz values", float(ritz), DOUBLE)
        self.bounded("weights", float(np.abs(found["/weights"][()] - expected["weights"][()]).max()), 1e-8)
        self.bounded("grid", float(np.abs(found["/grid"][()] - expected["grids"][()]).max() / scale), 1e-10)
        self.bounded("density", relative(found["/density"][()], expected["density"][()]), 1e-7)


if __name__ == "__main__":
    harness.main()
