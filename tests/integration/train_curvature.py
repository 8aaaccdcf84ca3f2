"""Curvature along training: it changes nothing of the training, survives an interruption, and is the eigen stage's."""
import signal
import time

import h5py
import numpy as np

import harness
from harness import EXIT_NUMERIC, EXIT_STOPPED, SMALL, ProgramTest, datasets

MEASURED = ("run.stages=train", "train.curvature_every=4", "train.curvature_count=2", "train.curvature_tolerance=1e-5",
            "model.precision=double")


class TrainCurvature(ProgramTest):
    """Everything on the small study of 8 steps: measurements at steps 0, 4 and 8."""

    def test_training_itself_keeps_its_bits(self):
        plain = datasets(self.study("plain", "run.stages=train", "model.precision=double") / "weights.h5")
        measured = datasets(self.study("measured", *MEASURED) / "weights.h5")
        for name, value in plain.items():
            np.testing.assert_array_equal(value, measured[name], name)

    @harness.needs_ranks()
    def test_a_resumed_training_on_other_ranks_has_the_same_bits(self):
        whole = datasets(self.study("whole", *MEASURED) / "train.h5")
        self.study("parts", *MEASURED, "train.steps=4", ranks=2)
        parts = datasets(self.study("parts", *MEASURED, "--restart", ranks=3) / "train.h5")
        self.assertEqual(set(whole), set(parts))
        self.assertIn("/curvature/eigenvalues", whole)
        for name, value in whole.items():
            np.testing.assert_array_equal(value, parts[name], name)

    def test_a_stop_within_a_measurement_keeps_the_training_and_its_bits(self):
        """A measurement a step, few products and many probes: the request is heard when pairs are found already."""
        words = (*MEASURED, "train.curvature_every=1", "trace.method=hutchinson", "trace.probes=300", "train.steps=3",
                 "eigen.max_products=4")
        whole = datasets(self.study("whole", *words) / "train.h5")
        for stop in range(3):  # within the measurements at steps 1, 2 and 3, which is the last
            process = harness.launch(*SMALL, *words, "run.output=parts", "--restart", cwd=self.folder)
            for line in process.stdout:
                if line.startswith(f"train: step {stop}, largest"):
                    break
            time.sleep(0.1)
            process.send_signal(signal.SIGUSR1)
            done = harness.finish(process)
            self.assertEqual(done.code, EXIT_STOPPED, str(done))
            self.assertTrue((self.folder / "parts" / f"checkpoint-{stop + 1:08}.h5").exists(), str(done))
        parts = datasets(self.study("parts", *words, "--restart") / "train.h5")
        self.assertEqual(set(whole), set(parts))
        for name, value in whole.items():
            np.testing.assert_array_equal(value, parts[name], name)

    def test_a_stop_within_the_first_measurement_leaves_a_checkpoint(self):
        words = (*MEASURED, "trace.method=hutchinson", "trace.probes=1000000")
        process = harness.launch(*SMALL, *words, "run.output=results", cwd=self.folder)
        for line in process.stdout:
            if line.startswith("train: from"):
                break
        process.send_signal(signal.SIGUSR1)
        done = harness.finish(process)
        self.assertEqual(done.code, EXIT_STOPPED, str(done))
        self.assertTrue((self.folder / "results" / "checkpoint-00000000.h5").exists(), str(done))

    def test_the_last_measurement_is_that_of_the_stages(self):
        folder = self.study("study", *MEASURED, "run.stages=train eigen trace", "eigen.which=largest",
                            "eigen.tolerance=1e-8", "eigen.max_products=2000")
        with h5py.File(folder / "train.h5") as train, h5py.File(folder / "eigen.h5") as eigen, \
                h5py.File(folder / "trace.h5") as trace:
            np.testing.assert_array_equal(train["/curvature/step"][()], [0, 4, 8])
            values, residuals = train["/curvature/eigenvalues"][-1], train["/curvature/residuals"][-1]
            for value, residual, exact, rest in zip(values, residuals, eigen["/eigenvalues"], eigen["/residuals"]):
                self.assertLessEqual(abs(value - exact), residual + rest)
            self.assertEqual(train["/curvature/trace"][-1], trace["/trace"][()])
            told = train["/curvature"].attrs
            self.assertEqual(told["operator"], eigen.attrs["operator"])
            self.assertEqual(told["samples"], eigen.attrs["samples"])
            self.assertEqual(told["trace_method"], trace.attrs["method"])
            self.assertEqual((told["trace_probes"], told["tolerance"]), (0, 1e-5))
            np.testing.assert_allclose(train["/curvature/two_over_lr"][()], 2 / 0.05, rtol=1e-15)
            share = train["/curvature/gradient_share"][()]
            self.assertTrue(np.all((share > 0) & (share <= 1 + 1e-12)), share)
            np.testing.assert_array_equal(train["/curvature/converged"][()], np.ones((3, 2)))

    def test_what_does_not_converge_is_told_and_fails_where_convergence_is_required(self):
        short = ("eigen.max_products=2", "train.curvature_tolerance=1e-6")
        done = self.program(*SMALL, *MEASURED, *short, "run.output=told")
        self.assertEqual(done.err.count("train.curvature_tolerance"), 1, str(done))  # at three measurements
        with h5py.File(self.folder / "told" / "train.h5") as train:
            self.assertEqual(train["/curvature/converged"].shape, (3, 2))
            self.assertEqual(train["/curvature/converged"].dtype, np.uint8)
            self.assertFalse(train["/curvature/converged"][()].any())
        required = (*SMALL, *MEASURED, *short, "eigen.require_convergence=true", "run.output=required")
        for restart in ((), ("--restart",)):  # the training is done; the failure is told again
            done = self.program(*required, *restart, expect=EXIT_NUMERIC)
            self.assertEqual(len(done.errors), 1, str(done))
            self.assertIn("eigen.require_convergence", done.errors[0])
            self.assertTrue((self.folder / "required" / "train.h5").exists())

    def test_a_finished_training_is_kept_while_the_keys_of_its_measurements_stay(self):
        words = ("run.stages=train", "train.steps=1", "trace.method=hutchinson")
        for every, others in ((1, ("trace.probes=5", "trace.method=exact", "eigen.max_products=41")),
                              (0, ("trace.probes=5",))):
            folder = self.study(f"every-{every}", *words, f"train.curvature_every={every}")
            for other in others:
                with self.subTest(every=every, other=other):
                    before = (folder / "train.h5").read_bytes()
                    self.study(folder.name, *words, f"train.curvature_every={every}", other, "--restart")
                    self.assertEqual((folder / "train.h5").read_bytes() != before, every > 0)

    def test_the_default_of_more_pairs_than_there_are_means_all(self):
        folder = self.study("one", "run.stages=train", "train.steps=1", "train.curvature_every=1",
                            "model.layers=conv 1 3 / relu / maxpool 2 / linear 10", "hessian.layers=conv1.bias")
        self.assertEqual(datasets(folder / "train.h5")["/curvature/eigenvalues"].shape, (2, 1))

    def test_the_file_tells_of_which_operator_and_how_the_trace_was_probed(self):
        words = ("train.steps=1", "train.curvature_every=1", "model.layers=conv 4 5 / tanh / maxpool 2 / linear 10")
        for method, operator, how in (("hutch++", "hessian", ("hutchinson", 4)),  # no sketch along the training
                                      ("auto", "gauss-newton", ("exact", 0))):
            folder = self.study(operator, *words, f"trace.method={method}", f"hessian.operator={operator}",
                                "run.stages=train eigen")
            with h5py.File(folder / "train.h5") as train, h5py.File(folder / "eigen.h5") as eigen:
                told = train["/curvature"].attrs
                self.assertEqual(told["operator"], eigen.attrs["operator"])
                self.assertEqual((told["trace_method"], told["trace_probes"]), how)

    def test_a_tolerance_below_the_noise_floor_is_refused_at_the_first_measurement(self):
        done = self.program(*SMALL, *MEASURED, "model.precision=single", "train.curvature_tolerance=1e-9",
                            "run.output=below", expect=EXIT_NUMERIC)
        self.assertIn("train.curvature_tolerance", done.errors[0])
        self.assertIn("noise floor", done.errors[0])


if __name__ == "__main__":
    harness.main()
