"""density.accuracy and density.deflate: what is chosen and what is taken out stands in file and output, and is used."""
import math

import h5py
import numpy as np

import harness
from harness import EXIT_USAGE, MPIEXEC, SMALL, ProgramTest

NETWORK = ("model.layers=conv 2 5 / relu / maxpool 4 / linear 10", "model.precision=double", "hessian.samples=32")
N = 2 * 25 + 2 + 10 * 2 * 7 * 7 + 10
EIGEN = ("eigen.count=3", "eigen.tolerance=1e-6", "eigen.max_products=400")
DENSITY = ("run.stages=density", "density.steps=40", "density.probes=4")
RANKS = 3 if MPIEXEC else 1


def plan(accuracy):
    """Probes and steps of the theorem (arXiv 2105.06595) for eta = 0.05."""
    return (math.ceil(4 * math.log(2 * N / 0.05) / ((N + 2) * accuracy**2)), min(N, math.ceil(12 / accuracy + 0.5)))


class Density(ProgramTest):
    def test_the_accuracy_chooses_probes_and_steps(self):
        probes, steps = plan(0.15)
        self.assertGreater(probes, 1)
        words = (*SMALL, *NETWORK, "run.stages=density", "density.accuracy=0.15", "density.distribution=rademacher",
                 "run.output=own")
        told = self.program(*words, "--dry-run").out
        self.assertIn(f"accuracy 0.15: {probes} probes of {steps} steps: {probes * steps} products", told)
        done = self.program(*words, ranks=RANKS)
        self.assertIn(f"accuracy 0.15 takes {probes} probes of {steps} steps", done.out)
        with h5py.File(self.folder / "own" / "density.h5") as file:
            self.assertEqual(file["ritz_values"].shape, (probes, steps))
            self.assertEqual([file.attrs[name] for name in ("probes", "steps", "accuracy", "eta")],
                             [probes, steps, 0.15, 0.05])
            self.assertEqual(np.bytes_(file.attrs["start_vectors"]).decode(), "sphere")
            chosen = file["ritz_values"][()]
        same = self.study("same", *NETWORK, "run.stages=density", "density.distribution=sphere",
                          f"density.probes={probes}", f"density.steps={steps}")
        with h5py.File(same / "density.h5") as file:
            np.testing.assert_array_equal(file["ritz_values"][()], chosen)
            self.assertNotIn("accuracy", file.attrs)

    def test_more_steps_than_rows_repeat_the_last_node_which_the_file_says(self):
        folder = self.study("few", *NETWORK, "run.stages=density", "hessian.layers=conv1.bias", "density.steps=5")
        with h5py.File(folder / "density.h5") as file:
            nodes, weights = file["ritz_values"], file["weights"]
            np.testing.assert_array_equal(weights[:, 2:], 0.0)  # conv1.bias has two entries
            np.testing.assert_array_equal(nodes[:, 2:], np.repeat(nodes[:, 1:2], 3, axis=1))
            np.testing.assert_allclose(weights[()].sum(axis=1), 1.0, rtol=1e-12)
            for dataset in (nodes, weights):
                self.assertIn("repeated", np.bytes_(dataset.attrs["description"]).decode())

    def test_given_vectors_have_no_accuracy(self):
        done = self.refused(*SMALL, "run.stages=density", "density.accuracy=0.1", "density.start=some.h5",
                            expect=EXIT_USAGE)
        self.assertIn("density.start", done.errors[0])

    def test_deflated_pairs_stand_in_the_measure_exactly(self):
        words = (*NETWORK, *EIGEN, *DENSITY)
        self.assertIn("before them the eigen stage",
                      self.program(*SMALL, *words, "density.deflate=yes", "--dry-run").out)
        plain = self.study("plain", *words)
        deflated = self.study("deflated", *words, "density.deflate=yes", ranks=RANKS)  # the eigen stage runs first
        alone = self.study("alone", *words, "density.deflate=yes")
        self.assertEqual(harness.differences(deflated, alone), [])
        with h5py.File(deflated / "eigen.h5") as file:
            good = file["converged"][()] == 1
            values, reach = file["eigenvalues"][()], file["residuals"][()].max()
        self.assertGreaterEqual(good.sum(), 4)
        with h5py.File(deflated / "density.h5") as file, h5py.File(plain / "density.h5") as other:
            np.testing.assert_array_equal(file["deflated/values"][()], values[good])
            self.assertEqual(harness.scales(file["deflated/values"]), [["/deflated/pair"]])
            self.assertEqual(file.attrs["deflated"], good.sum())
            theta, weight = file["ritz_values"][()], file["weights"][()]
            np.testing.assert_allclose(weight.sum(axis=1), 1.0, atol=1e-12)
            self.check_measure(file, theta, weight, values[good])
            inner = values[good]
            self.assertLess(theta.max(), inner[inner > 0].min() + reach)  # what is deflated is not found again
            self.assertLess(file["moments_stderr"][1], other["moments_stderr"][1])  # the point of it
            off = np.abs(file["moments"][0] - other["moments"][0])
            self.assertLess(off, 5 * math.hypot(file["moments_stderr"][0], other["moments_stderr"][0]))

    def check_measure(self, file, theta, weight, values):
        """Moments, cumulative measure and density, from the nodes and the values deflated."""
        share = len(values) / N
        for order in (1, 2, 3, 4):
            mean = (1 - share) * (weight * theta**order).sum(axis=1).mean() + (values**order).sum() / N
            self.assertAlmostEqual(file["moments"][order - 1] / mean, 1.0, places=9)
        at, measure = file["cumulative/eigenvalue"][()], file["cumulative/measure"][()]
        self.assertAlmostEqual(measure[-1], 1.0, places=12)
        below = measure[np.searchsorted(at, values.max(), side="left") - 1]
        self.assertAlmostEqual(1.0 - below, 1.0 / N, places=9)  # the largest alone is above
        grid, density = file["full/grid"][()], file["full/density"][()]
        self.assertGreater(grid[-1], values.max())
        variance = file.attrs["sigma_squared"] * max(1.0, grid[-1] - grid[0])
        nodes = np.concatenate((theta.ravel(), values))
        mass = np.concatenate(((1 - share) * weight.ravel() / len(theta), np.full(len(values), 1 / N)))
        expected = (mass * np.exp(-(grid[:, None] - nodes)**2 / (2 * variance))).sum(axis=1)
        expected /= math.sqrt(2 * math.pi * variance) * file["full/mass"][()]
        np.testing.assert_allclose(density, expected, rtol=1e-8, atol=1e-10 * expected.max())

    def test_only_converged_pairs_are_deflated(self):
        few = ("eigen.count=3", "eigen.tolerance=1e-10", "eigen.max_products=14")
        folder = self.study("few", *NETWORK, *few, *DENSITY, "density.deflate=yes")
        with h5py.File(folder / "eigen.h5") as pairs, h5py.File(folder / "density.h5") as file:
            good = pairs["converged"][()] == 1
            self.assertLess(good.sum(), len(good))
            self.assertEqual(file.attrs["deflated"], good.sum())

    def test_other_eigen_keys_make_the_density_anew(self):
        words = (*NETWORK, *DENSITY, "density.deflate=yes", "eigen.tolerance=1e-4", "eigen.max_products=400")
        self.study("again", *words, "eigen.count=1")
        kept = self.program(*SMALL, *words, "eigen.count=1", "run.output=again", "--restart")
        self.assertIn("density: done before", kept.out)
        anew = self.program(*SMALL, *words, "eigen.count=2", "run.output=again", "--restart")
        self.assertNotIn("density: done before", anew.out)


if __name__ == "__main__":
    harness.main()
