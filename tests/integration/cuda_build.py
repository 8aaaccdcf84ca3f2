"""Where nvcc is: the CUDA module is built with the real toolkit, the emulation agrees with its headers, and the program
behaves on a machine without a driver: auto takes the CPU and loads none of CUDA's libraries, cuda says why not."""
import os
import shutil
import subprocess
import unittest
from pathlib import Path

import harness
from harness import EXIT_DEVICE, SMALL, ProgramTest

ROOT = Path(__file__).resolve().parents[2]
NVCC = shutil.which("nvcc")
EMULATION = ROOT / "tests/emulation"


def has_driver():
    tool = shutil.which("nvidia-smi")
    return bool(tool) and subprocess.run([tool], capture_output=True, check=False).returncode == 0


@unittest.skipUnless(NVCC, "nvcc is not installed")
class CudaBuild(ProgramTest):
    def run_checked(self, *command, **options):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                              **options)
        self.assertEqual(done.returncode, 0, done.stdout[-4000:])
        return done.stdout

    def build(self):
        folder = self.folder / "build"
        self.run_checked("cmake", "-S", str(ROOT), "-B", str(folder), "-DHSGD_CUDA=ON", "-DHSGD_NCCL=ON",
                         "-DBUILD_TESTING=OFF", *(["-G", "Ninja"] if shutil.which("ninja") else []))
        self.run_checked("cmake", "--build", str(folder), "--parallel", str(os.cpu_count()))
        return folder

    def with_program(self, program, *words, **environment):
        command = [str(program), *SMALL, *words]
        return harness.finish(harness.start(command, self.folder, **{"HSGD_CUDA_MODULE": None, **environment}))

    def test_the_module_is_built_and_the_program_starts_without_a_driver(self):
        folder = self.build()
        self.assertTrue((folder / "hsgd-cuda.so").exists())
        installed = self.folder / "installed"
        self.run_checked("cmake", "--install", str(folder), "--prefix", str(installed))
        for program in (folder / "hsgd-dist", installed / "bin" / "hsgd-dist"):
            with self.subTest(program=program):
                if has_driver():
                    self.skipTest("this machine has a driver: the tests with the label gpu say more")
                done = self.with_program(program, "device.backend=cuda", "run.output=refused")
                self.assertEqual(done.code, EXIT_DEVICE, str(done))
                self.assertEqual(len(done.errors), 1, str(done))
                self.assertIn("driver", done.errors[0])
        if has_driver():
            return
        done = self.with_program(folder / "hsgd-dist", "run.stages=evaluate", "run.output=auto", LD_DEBUG="files")
        self.assertEqual(done.code, 0, str(done)[-3000:])
        for library in ("hsgd-cuda.so", "libcudnn", "libcublas", "libnccl"):
            self.assertNotIn(library, done.err, f"{library} was loaded for a run on the CPU")

    def test_the_emulation_agrees_with_the_toolkit(self):
        include = Path(NVCC).resolve().parents[1] / "include"
        if not (include / "cudnn.h").exists():
            self.skipTest("no cuDNN beside nvcc")
        common = ["cc", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-I", str(ROOT / "src"), "-I", str(EMULATION)]
        for source in ("agreement.c", "agreement_nccl.c"):
            self.run_checked(*common, "-std=gnu17", "-I", str(EMULATION / "include"), str(EMULATION / source))
            self.run_checked(*common, "-std=gnu17", "-isystem", str(include), str(EMULATION / source))
        for source in ("cublas.c", "cudnn.c", "cudnn_loops.c", "nccl.c", "nccl_rounds.c"):
            self.run_checked(*common, "-std=gnu17", "-D_GNU_SOURCE", "-isystem", str(include), str(EMULATION / source))


if __name__ == "__main__":
    harness.main()
