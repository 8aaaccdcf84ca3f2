"""As ranks.py, for what the default deck does not use: tanh, average pooling, double precision, Gauss-Newton, given
vectors and samples, power iteration, Hutchinson's trace, cosine schedule, Nesterov, filter normalisation."""
import h5py
import numpy as np

import harness
from harness import MPIEXEC, ProgramTest, differences, needs_ranks

LAYERS = "conv 3 3 / tanh / avgpool 2 / conv 4 5 / relu / maxpool 3 / linear 7 / tanh / linear 10"
PARAMETERS = 3 * 9 + 3 + 4 * 3 * 25 + 4 + 7 * 64 + 7 + 10 * 7 + 10


class OtherDecks(ProgramTest):
    def inputs(self):
        """Files of the user's: vectors, start vectors and sample numbers."""
        draw = np.random.default_rng(5)
        with h5py.File(self.folder / "given.h5", "w") as file:
            file["vectors"] = draw.standard_normal((11, PARAMETERS))
            file["start"] = draw.standard_normal((2, PARAMETERS))
            file["indices"] = draw.permutation(200)[:73]
        return self.folder / "given.h5"

    def compare(self, *words):
        one = self.study("one", *words, "device.threads=1")
        for ranks, threads in ((3, 1), (7, 1), (8, 2)) if MPIEXEC else ((1, 2),):
            with self.subTest(ranks=ranks, threads=threads):
                other = self.study(f"r{ranks}", *words, f"device.threads={threads}", ranks=ranks)
                self.assertEqual(differences(one, other), [])

    def test_double_precision_with_given_vectors_and_tanh(self):
        given = self.inputs()
        self.compare(
            f"model.layers={LAYERS}", "model.precision=double", "train.schedule=cosine", "train.nesterov=true",
            "train.weight_decay=0.001", f"hessian.indices={given}", f"hvp.vectors={given}", f"density.start={given}",
            f"landscape.vectors={given}", "landscape.directions=file2 random", "landscape.plane=file1 gradient",
            "landscape.normalize=filter", "data.normalize=0.13 0.31",
            "run.stages=train verify hvp eigen density trace landscape")

    def test_gauss_newton_by_power_iteration_on_the_test_set(self):
        self.compare("hessian.operator=gauss-newton", "hessian.split=test", "hessian.first=11", "hessian.samples=71",
                     "eigen.method=power", "eigen.which=magnitude", "eigen.tolerance=1e-2", "trace.method=hutchinson",
                     "density.distribution=sphere", "train.dampening=0.1", "train.schedule=step 1 0.5",
                     "run.stages=train evaluate eigen density trace landscape")

    @needs_ranks()
    def test_the_fast_mode_agrees_to_rounding(self):
        words = ("run.reduction=fast", "model.precision=double", "run.stages=train trace")
        one, four = self.study("one", *words), self.study("four", *words, ranks=4)
        for name in ("train.h5", "weights.h5", "trace.h5"):
            first, second = harness.datasets(one / name), harness.datasets(four / name)
            for path in first:
                np.testing.assert_allclose(first[path], second[path], rtol=1e-9, atol=1e-12, err_msg=name + path)


if __name__ == "__main__":
    harness.main()
