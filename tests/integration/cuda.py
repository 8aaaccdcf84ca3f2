"""The program on CUDA: the CPU's numbers stage by stage, the same bits on any number of GPUs, memory, what goes wrong.

$HSGD_TEST_MODULE names the CUDA module: the emulated one (then devices, memory and faults are as a test wishes), or
that of a GPU; without a usable device all is skipped, with the reason.
"""
import os
import re
import unittest

import h5py
import numpy as np

import harness
from harness import EXIT_DEVICE, SMALL, ProgramTest, datasets, differences, needs_ranks

MODULE = os.environ["HSGD_TEST_MODULE"]
EMULATED = "emulated" in MODULE
LAYERS = "model.layers=conv 4 5 / relu / maxpool 2 / conv 6 3 / relu / maxpool 2 / linear 10"
PARAMETERS = 4 * 25 + 4 + 6 * 4 * 9 + 6 + 10 * 6 * 49 + 10


def relative(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


emulation_only = unittest.skipUnless(EMULATED, "a GPU cannot be told to be so")


class CudaTest(ProgramTest):
    @classmethod
    def setUpClass(cls):
        cls.environment = {"HSGD_CUDA_MODULE": MODULE}
        harness.need_device(MODULE)

    def cuda(self, output, *words, **options):
        """A small study on CUDA, and its folder."""
        return self.study(output, "device.backend=cuda", *words, **{**self.environment, **options})

    def cpu(self, output, *words, **options):
        return self.study(output, "device.backend=cpu", *words, **options)


class Numbers(CudaTest):
    def given(self):
        with h5py.File(self.folder / "given.h5", "w") as file:
            draw = np.random.default_rng(5)
            file["vectors"] = draw.standard_normal((11, PARAMETERS))
        return self.folder / "given.h5"

    def both(self, *words):
        """The same deck on the CPU and on CUDA: the datasets of a file of both."""
        cpu, cuda = self.cpu("cpu", *words), self.cuda("cuda", *words)
        return lambda name: (datasets(cpu / name), datasets(cuda / name))

    def check_studies(self, precision, bound):
        """Every stage but training, from the same initial weights."""
        files = self.both(f"model.precision={precision}", f"hvp.vectors={self.given()}", "eigen.tolerance=1e-6",
                          "eigen.max_products=150", "run.stages=evaluate verify hvp eigen density trace landscape",
                          "landscape.directions=eigenvector gradient random")
        expected, found = files("hvp.h5")
        for path in ("/loss", "/gradient", "/products"):
            self.assertLessEqual(relative(found[path], expected[path]), bound, path)
        expected, found = files("evaluate.h5")
        self.assertEqual(found["/confusion"].tolist(), expected["/confusion"].tolist())
        expected, found = files("eigen.h5")
        scale = np.abs(expected["/eigenvalues"]).max()
        # An eigenvalue moves by at most the norm of the operators' difference (Weyl), and each side's by its residual.
        slack = bound * scale + expected["/residuals"] + found["/residuals"]
        self.assertTrue((np.abs(found["/eigenvalues"] - expected["/eigenvalues"]) <= slack).all())
        expected, found = files("trace.h5")
        self.assertLessEqual(relative(found["/layers"], expected["/layers"]), bound)
        expected, found = files("density.h5")
        self.assertLessEqual(np.abs(found["/moments"] - expected["/moments"]).max(), 10 * bound * max(1.0, scale**4))
        expected, found = files("landscape.h5")
        for path in ("/gradient/loss", "/random/loss", "/plane/loss"):
            self.assertLessEqual(relative(found[path], expected[path]), 10 * bound, path)
        checks = h5py.File(self.folder / "cuda" / "verify.h5", "r")
        self.addCleanup(checks.close)
        passed = [name for name, check in checks["checks"].items() if check.attrs.get("passed") == 1]
        skipped = [name for name, check in checks["checks"].items() if "skipped" in check.attrs]
        self.assertEqual(sorted(passed + skipped), sorted(checks["checks"]))
        self.assertGreater(len(passed), len(skipped))

    def test_every_study_in_double(self):
        self.check_studies("double", 1e-10)

    def test_every_study_in_single(self):
        self.check_studies("single", 2e-5)

    def test_tanh_and_averages_and_gauss_newton(self):
        layers = "conv 3 3 / tanh / avgpool 2 / conv 4 5 / relu / maxpool 3 / linear 7 / tanh / linear 10"
        files = self.both(f"model.layers={layers}", "model.precision=double", "hessian.operator=gauss-newton",
                          "run.stages=verify density trace", "data.normalize=0.13 0.31")
        expected, found = files("density.h5")
        self.assertLessEqual(np.abs(found["/ritz_values"] - expected["/ritz_values"]).max(), 1e-9)
        expected, found = files("trace.h5")
        self.assertLessEqual(relative(found["/layers"], expected["/layers"]), 1e-10)

    def check_training(self, precision, losses, update):
        words = (f"model.precision={precision}", "run.stages=train", "train.steps=20", "train.evaluate_every=20",
                 "train.checkpoint_every=0", "train.log_every=7")
        files = self.both(*words)
        expected, found = files("train.h5")
        self.assertLessEqual(np.abs(found["/train/loss"] - expected["/train/loss"]).max(), losses)
        expected, found = files("weights.h5")
        start = datasets(self.cpu("start", *words, "train.epochs=0", "train.steps=0") / "weights.h5")
        for path, value in expected.items():
            moved = np.linalg.norm(value - start[path])
            self.assertLessEqual(np.linalg.norm(found[path] - value), update * moved, path)

    def test_twenty_steps_in_double(self):
        self.check_training("double", 1e-10, 1e-9)

    def test_twenty_steps_in_single(self):
        self.check_training("single", 6e-6, 5e-4)


class Layouts(CudaTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        asked = harness.finish(harness.launch("--dry-run", "device.backend=cuda", "device.allreduce=nccl", cwd="/",
                                              **cls.environment))
        cls.nccl = EMULATED or "built without NCCL" not in asked.err

    def devices(self, count):
        return {"HSGD_EMULATION_DEVICES": str(count)} if EMULATED else {}

    SEVERAL = ("train.batch=150", "hessian.samples=160")  # groups of 50 samples: three in training, four in products

    @needs_ranks()
    @emulation_only
    def test_any_number_of_gpus_gives_the_same_bits_by_nccl(self):
        one = self.cuda("one", *self.SEVERAL)
        for ranks in (2, 3) if harness.EVERY_CASE else (3,):
            with self.subTest(ranks=ranks):
                other = self.cuda(f"r{ranks}", *self.SEVERAL, ranks=ranks, **self.devices(ranks))
                self.assertEqual(differences(one, other), [])
                with h5py.File(other / "eigen.h5", "r") as file:
                    self.assertEqual(file.attrs["communicator"], "nccl")

    @needs_ranks()
    def test_ranks_that_share_a_gpu_say_so_once_and_give_the_same_bits(self):
        one = self.cuda("one", *self.SEVERAL)
        done = self.program(*SMALL, *self.SEVERAL, "run.output=shared", "device.backend=cuda", ranks=2,
                            **{**self.environment, **self.devices(1)})
        self.assertEqual(differences(one, self.folder / "shared"), [])
        said = len(re.findall("share GPU", done.out + done.err))
        with h5py.File(self.folder / "shared" / "eigen.h5", "r") as file:
            if self.nccl and (EMULATED or file.attrs["communicator"] == "mpi"):  # else the machine has two
                self.assertEqual((said, file.attrs["communicator"]), (1, "mpi"))

    @needs_ranks()
    def test_groups_of_ranks_on_gpus_of_their_own_or_on_one_give_the_same_bits(self):
        words = (*self.SEVERAL, "run.stages=density", "density.probes=3")
        one = self.cuda("one", *words)
        layouts = ((4, 2, 4, "nccl"), (2, 2, 1, "mpi")) if EMULATED else ((2, 2, 1, None),)
        for ranks, groups, devices, communicator in layouts:
            with self.subTest(ranks=ranks, groups=groups):
                other = self.cuda(f"r{ranks}", *words, f"density.groups={groups}", ranks=ranks,
                                  **self.devices(devices))
                self.assertEqual(differences(one, other), [])
                with h5py.File(other / "density.h5", "r") as file:
                    self.assertEqual(int(file.attrs["groups"]), groups)
                    self.assertIn(communicator, (file.attrs["communicator"], None))

    @needs_ranks()
    def test_nccl_with_one_rank(self):
        if not self.nccl:
            self.skipTest("this build has no NCCL")
        words = ("run.stages=train trace", "train.steps=4")
        other = self.cuda("b", *words, "device.allreduce=nccl")
        self.assertEqual(differences(self.cuda("a", *words), other), [])
        with h5py.File(other / "trace.h5", "r") as file:
            self.assertEqual(file.attrs["communicator"], "nccl")

    @needs_ranks()
    @emulation_only
    def test_fast_sums_agree_to_rounding(self):
        words = (*self.SEVERAL, "run.reduction=fast", "model.precision=double", "run.stages=train density trace")
        one, two = self.cuda("one", *words), self.cuda("two", *words, ranks=2, **self.devices(2))
        for name in ("train.h5", "weights.h5", "density.h5", "trace.h5"):
            first, second = datasets(one / name), datasets(two / name)
            self.assertEqual(first.keys(), second.keys(), name)
            for path in first:
                np.testing.assert_allclose(first[path], second[path], rtol=1e-7, atol=1e-9, err_msg=name + path)

    def test_training_goes_on_from_the_other_device(self):
        words = ("model.precision=double", "run.stages=train", "train.shuffle=true")
        whole = datasets(self.cpu("whole", *words, "train.steps=8") / "weights.h5")
        self.cpu("half", *words, "train.steps=4")
        done = self.program(*SMALL, *words, "run.output=half", "train.steps=8", "device.backend=cuda", "--restart",
                            **self.environment)
        self.assertRegex(done.out + done.err, r"goes on from .*step 4 of 8")
        for path, value in datasets(self.folder / "half" / "weights.h5").items():
            self.assertLessEqual(relative(value, whole[path]), 1e-9, path)

    def test_files_say_what_computed(self):
        folder = self.cuda("results", "run.stages=evaluate", "device.tf32=true")
        with h5py.File(folder / "evaluate.h5", "r") as file:
            self.assertEqual(file.attrs["backend"], "cuda")
            self.assertTrue(file.attrs["device"])
            self.assertRegex(file.attrs["libraries"], r"CUDA .*cuDNN .*cuBLAS")
            self.assertRegex(file.attrs["instruction_set"], r"^sm_\d+$")
            self.assertEqual(int(file.attrs["tf32"]), 1)
            self.assertEqual((int(file.attrs["group_least"]), int(file.attrs["group"])), (50, 1000))


class Memory(CudaTest):
    def limited(self, mebibytes):
        return {**self.environment, "HSGD_EMULATION_MEMORY": str(mebibytes << 20)}

    def test_the_dry_run_names_device_place_and_memory(self):
        done = self.program(*SMALL, "--dry-run", "device.backend=cuda", **self.environment)
        self.assertRegex(done.out, r"rank 0: .* at [0-9a-fA-F:.]+, about [0-9.]+ MiB "
                                   r"\([0-9.]+ MiB of them kept base passes\) of [0-9.]+ MiB")

    @emulation_only
    def test_a_study_that_does_not_fit_is_refused_with_figures(self):
        done = self.refused("model.layers=linear 3000 / linear 10", "eigen.max_products=1000", "device.backend=cuda",
                            expect=EXIT_DEVICE, **self.limited(400))
        self.assertRegex(done.errors[0], r"needs about \d+ MiB .* \d+ of its \d+ MiB are free.*; lower")

    @emulation_only
    def test_fewer_base_passes_are_kept_where_memory_is_short_and_no_bit_changes(self):
        words = ("hessian.samples=200", "run.stages=density", "density.steps=4")
        kept = {}
        for name, memory in (("plenty", 2048), ("scarce", 118)):
            told = self.program(*SMALL, *words, "--dry-run", "device.backend=cuda", **self.limited(memory)).out
            kept[name] = float(re.search(r"([0-9.]+) MiB of them kept base passes", told).group(1))
            self.cuda(name, *words, **self.limited(memory))
        self.assertTrue(0 < kept["scarce"] < kept["plenty"], kept)
        self.assertEqual(differences(self.folder / "plenty", self.folder / "scarce"), [])


class Faults(CudaTest):
    SHORT = ("run.stages=train evaluate", LAYERS, "data.train_samples=200", "data.test_samples=50", "train.steps=20",
             "train.batch=100", "device.backend=cuda")

    def fails(self, *words, pattern, ranks=1, **environment):
        """The run ends with exit 6 and one message that matches."""
        done = self.program(*self.SHORT, *words, "run.output=results", expect=EXIT_DEVICE, ranks=ranks,
                            **{**self.environment, **environment})
        self.assertEqual(len(done.errors), 1, str(done))
        self.assertRegex(done.errors[0], pattern)

    @emulation_only
    def test_without_a_device_cuda_says_why_and_auto_takes_the_cpu(self):
        for devices, reason in (("-1", "driver"), ("0", "CUDA_VISIBLE_DEVICES|no .*device|no GPU")):
            with self.subTest(devices=devices):
                self.fails(pattern=reason, HSGD_EMULATION_DEVICES=devices)
                folder = self.study(f"auto{devices}", "run.stages=evaluate",
                                    **{**self.environment, "HSGD_EMULATION_DEVICES": devices})
                with h5py.File(folder / "evaluate.h5", "r") as file:
                    self.assertEqual(file.attrs["backend"], "cpu")

    @emulation_only
    def test_a_call_that_fails_in_the_middle_ends_the_run(self):
        for call, number, pattern in (("maxpool_value", 30, "cuda: .*launch failure"),
                                      ("cudaMemcpyAsync", 40, "cuda: cudaMemcpyAsync"),
                                      ("cudaMalloc", 20, "memory: the GPU .* has no room|cuda: cudaMalloc")):
            with self.subTest(call=call):
                self.fails(pattern=pattern, HSGD_EMULATION_FAIL=f"{call}:{number}")

    @needs_ranks()
    @emulation_only
    def test_a_gpu_that_one_rank_lacks(self):
        lacking = ("sh", "-c", 'test "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" != 1 || export HSGD_EMULATION_DEVICES=0; '
                   'exec "$@"', "sh")
        self.fails(pattern="no GPU is visible", ranks=2, HSGD_EMULATION_DEVICES="2", prefix=lacking)
        done = self.program(*SMALL, "run.stages=evaluate", "run.output=auto", ranks=2, prefix=lacking,
                            **{**self.environment, "HSGD_EMULATION_DEVICES": "2"})
        self.assertRegex(done.err, "the CPU serves, for 1 of 2 ranks can use a GPU: cuda: no GPU is visible")
        with h5py.File(self.folder / "auto" / "evaluate.h5", "r") as file:
            self.assertEqual(file.attrs["backend"], "cpu")

    @needs_ranks()
    @emulation_only
    def test_nccl_that_cannot_start_or_breaks_ends_all_ranks_with_one_message(self):
        for fault, pattern in (("init-fails:1", "nccl: .* failed on rank 1 .*ncclCommInitRankConfig"),
                               ("async-error:1:5", "nccl: .* failed on rank 1 .*remote process exited")):
            with self.subTest(fault=fault):
                self.fails(pattern=pattern, ranks=2, HSGD_EMULATION_DEVICES="2", HSGD_EMULATION_NCCL=fault)

    def test_nccl_needs_cuda(self):
        done = self.program(*SMALL, "device.backend=cpu", "device.allreduce=nccl", "run.output=results",
                            expect=EXIT_DEVICE, **self.environment)
        self.assertIn("device.allreduce = nccl", done.errors[0])


if __name__ == "__main__":
    harness.main()
