"""A tolerance below the noise of the products in single precision ends the eigen stage at once, with exit code 4 and
the floor in the message; one above it is reached; in double the same tolerance is."""
import re

import h5py

import harness
from harness import EXIT_NUMERIC, MPIEXEC, ProgramTest

RANKS = 2 if MPIEXEC else 1
EIGEN = ("run.stages=train eigen", "eigen.which=largest", "eigen.max_products=400")
BELOW = 1e-9


class NoiseFloor(ProgramTest):
    def test_a_tolerance_below_it_is_refused_in_single_and_reached_in_double(self):
        done = self.program(*harness.SMALL, *EIGEN, "model.precision=single", f"eigen.tolerance={BELOW}",
                            "run.output=below", ranks=RANKS, expect=EXIT_NUMERIC)
        self.assertEqual(len(done.errors), 1, done)
        found = re.search(r"below the noise floor of the products in single precision, ([0-9.e-]+)", done.errors[0])
        self.assertIsNotNone(found, done)
        floor = float(found[1])
        self.assertTrue(BELOW < floor < 1e-4, done)
        self.assertFalse((self.folder / "below" / "eigen.h5").exists())
        self.assert_converged("above", "single", 20 * floor, 0.5 * floor, 2 * floor)
        self.assert_converged("double", "double", BELOW, 0.0, 1e-3 * BELOW)

    def assert_converged(self, name, precision, tolerance, low, high):
        """All pairs are within the tolerance, and the floor in the file lies between low and high."""
        folder = self.study(name, *EIGEN, f"model.precision={precision}", f"eigen.tolerance={tolerance:.17g}",
                            "eigen.require_convergence=true", ranks=RANKS)
        with h5py.File(folder / "eigen.h5") as file:
            values, residuals = file["eigenvalues"][...], file["residuals"][...]
            self.assertTrue(low < file.attrs["noise_floor"] < high, file.attrs["noise_floor"])
            self.assertTrue((file["converged"][...] == 1).all())
        self.assertLessEqual(residuals.max(), 1.001 * tolerance * abs(values).max())


if __name__ == "__main__":
    harness.main()
