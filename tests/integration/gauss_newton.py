"""hessian.operator = gauss-newton is what every stage studies, not its name alone; on a network with tanh, whose
Hessian has another trace."""
import h5py
import numpy as np

import harness
from harness import MPIEXEC, ProgramTest

NETWORK = ("model.layers=conv 2 5 / tanh / maxpool 2 / linear 10", "model.precision=double", "hessian.samples=32")
EIGEN = ("eigen.which=largest", "eigen.count=2", "eigen.tolerance=1e-6", "eigen.max_products=300")
N = 2 * 25 + 2 + 10 * 2 * 14 * 14 + 10
RANKS = 2 if MPIEXEC else 1


class GaussNewton(ProgramTest):
    def test_every_stage_studies_it(self):
        own = self.study("own", *NETWORK, *EIGEN, "hessian.operator=gauss-newton", "density.probes=8",
                         "run.stages=train verify eigen density trace landscape", ranks=RANKS)
        with h5py.File(own / "eigen.h5") as file:
            self.assertEqual(np.bytes_(file.attrs["operator"]).decode(), "gauss-newton")
            self.assertTrue(np.all(file["converged"][...] == 1))
            values, vectors, residuals = (file[name][...] for name in ("eigenvalues", "eigenvectors", "residuals"))
        with h5py.File(own / "density.h5") as file:
            self.assertGreater(file["ritz_values"][...].min(), -1e-12 * values[0])
            moment, error = file["moments"][0], file["moments_stderr"][0]
        with h5py.File(own / "trace.h5") as file:
            trace = float(file["trace"][()])
            self.assertEqual(float(file["stderr"][()]), 0.0)  # exact
        self.assertLess(abs(N * moment - trace), 5 * N * error)
        self.assertGreater(trace, values.sum())
        with h5py.File(own / "landscape.h5") as file:
            vector = file["eigenvector/vector"][...]
        np.testing.assert_allclose(vector, vectors[0], rtol=0, atol=1e-13)  # made of unit norm once more
        self.assert_products(own, values, vectors, residuals)

    def assert_products(self, own, values, vectors, residuals):
        """hvp of the eigenvectors: lambda v for the same operator, something else for the Hessian."""
        with h5py.File(self.folder / "vectors.h5", "w") as file:
            file["vectors"] = vectors
        off = {}
        for name in ("gauss-newton", "hessian"):
            folder = self.study(name, *NETWORK, f"hessian.operator={name}", f"model.init={own / 'weights.h5'}",
                                "hvp.vectors=vectors.h5", "run.stages=hvp", ranks=RANKS)
            with h5py.File(folder / "hvp.h5") as file:
                off[name] = np.linalg.norm(file["products"][...] - values[:, None] * vectors, axis=1)
        self.assertTrue(np.all(off["gauss-newton"] <= residuals + 1e-12 * values[0]), off)
        self.assertTrue(np.all(off["hessian"] > 1e-3 * values[0]), off)


if __name__ == "__main__":
    harness.main()
