"""hessian.layers: every stage studies the diagonal block that it names, the one of the dense matrix by columns.

With $HSGD_TEST_MODULE naming a CUDA module the stages run on CUDA, against the same dense matrix.
"""
import os
import shutil
import signal
import time

import h5py
import numpy as np

import harness
from harness import (EXIT_DATA, EXIT_NUMERIC, EXIT_STOPPED, EXIT_USAGE, MPIEXEC, SMALL, ProgramTest, datasets,
                     differences, needs_ranks)

MODULE = os.environ.get("HSGD_TEST_MODULE", "")
# 76 parameters: the whole matrix is 76 products.  Behind tanh the Hessian's diagonal blocks are not Gauss-Newton's.
TINY = ("model.layers=conv 1 5 / relu / maxpool 4 / conv 2 3 / tanh / maxpool 7 / linear 10", "model.precision=double",
        "hessian.samples=32", "train.steps=30", "train.lr=0.2")
ROWS = {"conv1.weight": range(0, 25), "conv1.bias": range(25, 26), "conv1": range(0, 26),
        "conv2.weight": range(26, 44), "conv2.bias": range(44, 46), "conv2": range(26, 46),
        "out.weight": range(46, 66), "out.bias": range(66, 76), "out": range(46, 76)}
N = 76
FULL_TRACE = 3 * N  # products of Hutch++ whose sketch is the whole space: its trace is exact


def rows_of(layers):
    return np.array(sorted(row for name in layers.replace(",", " ").split() for row in ROWS[name]))


class LayersTest(ProgramTest):
    backend = ("device.backend=cuda",) if MODULE else ()
    ranks = 1 if MODULE or not MPIEXEC else 3

    def tiny(self, output, *words, ranks=1, **options):
        """A study at the weights of one short training."""
        environment = {"HSGD_CUDA_MODULE": MODULE} if MODULE else {}
        if not (self.folder / "trained").exists():
            self.study("trained", *TINY, "run.stages=train")
        return self.study(output, *TINY, *self.backend, f"model.init={self.folder / 'trained' / 'weights.h5'}", *words,
                          ranks=ranks, **environment, **options)

    def vectors(self, name, dataset, rows):
        with h5py.File(self.folder / name, "w") as file:
            file[dataset] = rows
        return name

    def dense(self, *words):
        """The whole matrix by columns, and the gradient."""
        folder = self.tiny("dense", *words, "run.stages=hvp",
                           f"hvp.vectors={self.vectors('identity.h5', 'vectors', np.eye(N))}")
        found = datasets(folder / "hvp.h5")
        return found["/products"], found["/gradient"]


class Blocks(LayersTest):
    def check(self, layers, operator, *words):
        """All that the stages say of the block against numpy's of the dense one."""
        matrix, gradient = self.dense(f"hessian.operator={operator}")
        rows = rows_of(layers)
        self.check_products(matrix, gradient, layers, rows, operator)
        block = matrix[np.ix_(rows, rows)]
        block = (block + block.T) / 2
        starts = np.random.default_rng(3).standard_normal((len(rows), N))  # outside the block: to be left away
        starts[:, rows] = np.eye(len(rows))
        folder = self.tiny(
            "block", f"hessian.layers={layers}", f"hessian.operator={operator}", *words, "eigen.count=3",
            "eigen.tolerance=1e-9", "eigen.max_products=500", f"density.steps={len(rows)}",
            f"density.probes={len(rows)}", f"density.start={self.vectors('start.h5', 'start', starts)}",
            f"landscape.vectors={self.vectors('given.h5', 'vectors', starts[:2])}",
            "landscape.directions=eigenvector random gradient file2", "landscape.plane=none",
            "run.stages=verify eigen density trace landscape", ranks=self.ranks)
        self.check_files(folder, layers, rows)
        self.check_eigen(folder, block, rows)
        self.check_density(folder, block)
        self.check_trace(folder, matrix, layers)
        self.check_directions(folder, gradient, rows, starts[1])
        return folder

    def check_products(self, matrix, gradient, layers, rows, operator):
        """The bits of the whole operator's rows where the vector lies in the block; nothing of what lies outside."""
        folder = self.tiny("products", f"hessian.layers={layers}", f"hessian.operator={operator}", "run.stages=hvp",
                           "hvp.vectors=identity.h5", ranks=self.ranks)
        found = datasets(folder / "hvp.h5")
        expected = np.zeros((N, N))
        expected[np.ix_(rows, rows)] = matrix[np.ix_(rows, rows)]
        np.testing.assert_array_equal(found["/products"], expected)
        np.testing.assert_array_equal(found["/gradient"], gradient)  # of the loss, whole

    def check_files(self, folder, layers, rows):
        for name in ("verify", "eigen", "density", "trace", "landscape"):
            with h5py.File(folder / f"{name}.h5") as file:
                self.assertEqual(np.bytes_(file.attrs["hessian_layers"]).decode(), " ".join(layers.split()))
                self.assertEqual(file.attrs["hessian_rows"], len(rows))
        with h5py.File(folder / "verify.h5") as file:
            self.assertEqual(file["checks/block"].attrs["passed"], 1)
            self.assertEqual(file["checks/block"].attrs["bound"], 0.0)  # not even a bit

    def check_eigen(self, folder, block, rows):
        found = datasets(folder / "eigen.h5")
        values, vectors, residuals = found["/eigenvalues"], found["/eigenvectors"], found["/residuals"]
        exact = np.linalg.eigvalsh(block)[::-1]
        scale = np.abs(exact).max()
        self.assertTrue(np.all(found["/converged"] == 1))
        slack = residuals + 100 * np.finfo(float).eps * scale
        self.assertTrue(np.all(np.abs(values - np.concatenate((exact[:3], exact[-3:]))) <= slack), (values, exact))
        self.assertEqual(vectors.shape, (6, N))
        self.assertFalse(np.any(np.delete(vectors, rows, axis=1)))
        inside = vectors[:, rows]
        np.testing.assert_allclose(np.linalg.norm(inside, axis=1), 1.0, rtol=1e-13)
        off = np.linalg.norm(inside @ block - values[:, None] * inside, axis=1)
        self.assertTrue(np.all(off <= slack), off)

    def check_density(self, folder, block):
        """Of all unit vectors of the block as start vectors: moments are traces of powers over its rows."""
        found = datasets(folder / "density.h5")
        exact = np.linalg.eigvalsh(block)
        scale = np.abs(exact).max()
        self.assertEqual(found["/ritz_values"].shape, (len(exact), len(exact)))
        self.assertLessEqual(found["/ritz_values"].max(), exact[-1] + 1e-12 * scale)
        self.assertGreaterEqual(found["/ritz_values"].min(), exact[0] - 1e-12 * scale)
        for order in range(1, 5):
            self.assertLessEqual(abs(found["/moments"][order - 1] - np.mean(exact**order)), 1e-12 * scale**order)

    def check_trace(self, folder, matrix, layers):
        found = datasets(folder / "trace.h5")
        traces = [np.trace(matrix[np.ix_(ROWS[name], ROWS[name])]) for name in layers.split()]
        slack = 1e-11 * np.linalg.norm(matrix, "nuc")
        with h5py.File(folder / "trace.h5") as file:
            self.assertEqual(np.bytes_(file.attrs["layers"]).decode().split(), layers.split())
        np.testing.assert_allclose(found["/layers"], traces, rtol=0, atol=slack)
        np.testing.assert_allclose(found["/trace"], sum(traces), rtol=0, atol=slack)

    def check_directions(self, folder, gradient, rows, given):
        whole = self.tiny("whole", "run.stages=landscape", "landscape.directions=random", "landscape.plane=none",
                          "landscape.points=1")
        drawn = datasets(whole / "landscape.h5")["/random/vector"]
        found = datasets(folder / "landscape.h5")
        first = datasets(folder / "eigen.h5")["/eigenvectors"][0]
        for name, vector in (("eigenvector", first), ("random", drawn), ("gradient", gradient), ("file2", given)):
            direction = found[f"/{name}/vector"]
            self.assertFalse(np.any(np.delete(direction, rows)), name)
            part = vector[rows] / np.linalg.norm(vector[rows])
            np.testing.assert_allclose(direction[rows], part, rtol=0, atol=1e-13, err_msg=name)

    def test_two_layers_of_the_hessian_by_hutch_plus_plus(self):
        self.check("conv1 out", "hessian", "trace.method=hutch++", f"trace.probes={FULL_TRACE}")

    def test_single_parameters_of_gauss_newton_by_the_exact_trace(self):
        folder = self.check("conv1 conv2.weight out.bias", "gauss-newton")
        self.assertEqual(float(datasets(folder / "trace.h5")["/stderr"]), 0.0)


class Numbers(LayersTest):
    """What is said of all layers, of one and of few samples."""

    def test_all_by_name_is_the_whole_operator(self):
        whole, named = (self.tiny(output, *words, "run.stages=eigen density trace landscape")
                        for output, words in (("whole", ()), ("named", ("hessian.layers=out,conv2 conv1",))))
        self.assertEqual(differences(whole, named), [])
        with h5py.File(whole / "eigen.h5") as file:
            self.assertEqual(np.bytes_(file.attrs["hessian_layers"]).decode(), "all")
            self.assertEqual(file.attrs["hessian_rows"], N)

    @needs_ranks()
    def test_the_number_of_ranks_changes_no_bit(self):
        words = ("hessian.layers=conv1.weight out", "run.stages=verify eigen density trace landscape",
                 "trace.method=hutchinson", "trace.probes=16")
        one, three = self.tiny("one", *words), self.tiny("three", *words, ranks=3)
        self.assertEqual(differences(one, three), [])

    def test_a_layers_share_of_the_exact_trace_is_the_block_s(self):
        words = ("run.stages=trace", "hessian.operator=gauss-newton")
        whole = datasets(self.tiny("whole", *words) / "trace.h5")
        block = datasets(self.tiny("block", *words, "hessian.layers=conv2") / "trace.h5")
        self.assertEqual(block["/layers"].tolist(), whole["/layers"][1:2].tolist())
        self.assertEqual(block["/trace"], block["/layers"][0])


class Stages(LayersTest):
    """Names, limits, restarts and what is measured while training."""

    def test_bad_names_and_counts_are_refused(self):
        cases = (
            ("hessian.layers=conv3", "no layer 'conv3'", "did you mean 'conv1'?", "conv1 conv2 out"),
            ("hessian.layers=conv1.biass", "no layer 'conv1.biass'", "conv1.bias"),
            ("hessian.layers=relu", "no layer 'relu'", "conv1 conv2 out"),
            ("hessian.layers=conv1 out conv1.bias", "'conv1.bias' names what stands there already"),
            ("hessian.layers=,", "no name"),
            ("eigen.count=3", "hessian.layers=conv2.bias", "eigen.count = 3: hessian.layers selects only 2 parameters"),
        )
        for ranks in (1, 3) if MPIEXEC else (1,):
            for number, case in enumerate(cases if ranks == 1 else cases[::5]):
                words = [word for word in case if word.startswith(("hessian.layers=", "eigen.count="))]
                with self.subTest(case=case, ranks=ranks):
                    done = self.refused(*SMALL, *TINY, *words, expect=EXIT_USAGE, ranks=ranks,
                                        output=f"refused-{ranks}-{number}")
                    for text in case[len(words):]:
                        self.assertIn(text, done.errors[0])

    def test_a_direction_outside_the_block_is_zero(self):
        outside = np.zeros((1, N))
        outside[0, list(ROWS["conv1"])] = 1.0
        done = self.program(*SMALL, *TINY, "run.stages=landscape", "landscape.directions=file1", "landscape.plane=none",
                            f"landscape.vectors={self.vectors('given.h5', 'vectors', outside)}", "hessian.layers=out",
                            "run.output=zero", expect=EXIT_NUMERIC)
        self.assertIn("within hessian.layers", done.errors[0])

    def test_a_start_vector_outside_the_block_is_refused(self):
        outside = np.ones((2, N))
        outside[1, list(ROWS["out"])] = 0.0
        done = self.refused(*SMALL, *TINY, "run.stages=train density", "hessian.layers=out",
                            f"density.start={self.vectors('start.h5', 'start', outside)}", expect=EXIT_DATA)
        self.assertIn("row 2 of start.h5 is zero within hessian.layers", done.errors[0])

    def test_a_dry_run_tells_the_block(self):
        done = self.program(*SMALL, *TINY, "hessian.layers=conv2,out.bias", "--dry-run")
        self.assertIn("studied block: 30 of 76 parameters (conv2 out.bias)", done.out)
        self.assertIn("layers = conv2,out.bias", done.out)

    def test_another_block_leaves_the_training_alone(self):
        words = ("run.stages=train eigen trace", "model.precision=double", "eigen.max_products=300")
        folder = self.study("results", *words, "hessian.layers=conv1")
        before = datasets(folder / "eigen.h5")["/eigenvalues"]
        self.program(*SMALL, *words, "hessian.layers=conv2", "run.output=results", "--restart")
        self.assertFalse((folder / "weights.h5.old").exists())
        np.testing.assert_array_equal(datasets(folder / "eigen.h5.old")["/eigenvalues"], before)
        self.assertTrue(np.all(datasets(folder / "eigen.h5")["/eigenvalues"] != before))

    def test_the_curvature_of_a_training_is_the_block_s(self):
        words = ("model.precision=double", "train.curvature_every=4", "train.curvature_tolerance=1e-6",
                 "eigen.max_products=500", "eigen.which=largest", "eigen.tolerance=1e-8", "hessian.layers=conv2")
        folder = self.study("whole", *words, "run.stages=train eigen trace")
        train, eigen = datasets(folder / "train.h5"), datasets(folder / "eigen.h5")
        off = np.abs(train["/curvature/eigenvalues"][-1] - eigen["/eigenvalues"])
        self.assertTrue(np.all(off <= train["/curvature/residuals"][-1] + eigen["/residuals"]), off)
        self.assertEqual(train["/curvature/trace"][-1], datasets(folder / "trace.h5")["/trace"])
        share = train["/curvature/gradient_share"]
        self.assertTrue(np.all((share > 0) & (share <= 1 + 1e-12)), share)
        self.study("parts", *words, "run.stages=train", "train.steps=4")
        parts = self.study("parts", *words, "run.stages=train", "--restart", ranks=3 if MPIEXEC else 1) / "train.h5"
        for name, value in train.items():
            np.testing.assert_array_equal(value, datasets(parts)[name], name)
        for other in ("hessian.layers=conv1", "hessian.split=test"):  # measured anew
            again = datasets(self.study("parts", *words, other, "run.stages=train", "--restart") / "train.h5")
            np.testing.assert_array_equal(again["/train/loss"], train["/train/loss"])
            self.assertTrue(np.all(again["/curvature/eigenvalues"] != train["/curvature/eigenvalues"]), other)

    def test_half_done_stages_of_a_block_go_on(self):
        words = ("hessian.layers=conv2", "model.precision=double", "run.stages=eigen", "eigen.tolerance=1e-9",
                 "eigen.basis=12", "eigen.max_products=120", "run.snapshot_every=0")
        whole = self.study("whole", *words)
        for _ in range(5):  # one that was done before it was asked is tried again
            process = harness.launch(*SMALL, *words, "run.output=asked", cwd=self.folder)
            while not (self.folder / "asked" / "eigen-state.h5").exists() and process.poll() is None:
                time.sleep(0.005)
            process.send_signal(signal.SIGUSR1)
            done = harness.finish(process)
            if done.code != 0:
                break
            shutil.rmtree(self.folder / "asked")
        self.assertEqual(done.code, EXIT_STOPPED, str(done))
        done = self.program(*SMALL, *words, "run.output=asked", "--restart", ranks=3 if MPIEXEC else 1)
        self.assertIn("eigen: goes on from", done.out)
        self.assertEqual(differences(whole, self.folder / "asked"), [])


if __name__ == "__main__":
    harness.main()
