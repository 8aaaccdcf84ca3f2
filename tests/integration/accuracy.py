"""Five epochs on real MNIST (HSGD_DATA) reach the accuracy that this network is known for."""
import os
import unittest

import harness
from harness import MPIEXEC, ProgramTest


class Accuracy(ProgramTest):
    @unittest.skipUnless(os.environ.get("HSGD_DATA"), "HSGD_DATA names no folder with MNIST")
    def test_five_epochs_reach_98_5_percent(self):
        # PyTorch, with the same settings, reaches 99.06 %; single seeds scatter by some 0.1 %.
        self.program("run.stages=train evaluate", "run.output=results", "train.lr=0.05", "train.momentum=0.9",
                     f"data.dir={os.environ['HSGD_DATA']}", ranks=2 if MPIEXEC else 1, timeout=1500)
        accuracy = float(harness.datasets(self.folder / "results" / "evaluate.h5")["/accuracy"])
        print(f"    test accuracy {accuracy:.4f}", flush=True)
        self.assertGreaterEqual(accuracy, 0.985)

    def test_generated_digits_are_learnt_by_the_default_network(self):
        self.program("run.stages=train evaluate", "run.output=results", "train.lr=0.05", "train.momentum=0.9",
                     "data.train_samples=10000", "data.test_samples=2000", ranks=2 if MPIEXEC else 1, timeout=900)
        accuracy = float(harness.datasets(self.folder / "results" / "evaluate.h5")["/accuracy"])
        print(f"    accuracy on generated digits {accuracy:.4f}", flush=True)
        self.assertGreaterEqual(accuracy, 0.95)


if __name__ == "__main__":
    harness.main()
