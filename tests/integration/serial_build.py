"""A build without MPI: it takes serial HDF5, runs a study with the same bits, and refuses to be several ranks."""
import os
import shutil
import subprocess
from pathlib import Path

import harness
from harness import EXIT_DEVICE, MPIEXEC, SMALL, ProgramTest

SOURCE = Path(__file__).resolve().parents[2]


class SerialBuild(ProgramTest):
    @classmethod
    def setUpClass(cls):
        case = ProgramTest()
        ProgramTest.setUp(case)
        cls.addClassCleanup(case.doCleanups)
        build = case.folder / "build"
        subprocess.run(["cmake", "-S", SOURCE, "-B", build, "-DHSGD_MPI=OFF", "-DBUILD_TESTING=OFF"], check=True,
                       stdout=subprocess.DEVNULL)
        subprocess.run(["cmake", "--build", build, "--parallel", str(os.cpu_count()), "--target", "hsgd-dist"],
                       check=True, stdout=subprocess.DEVNULL)
        cls.serial = build / "hsgd-dist"

    def run_serial(self, *command):
        environment = {**os.environ, "HSGD_DATA": "", "OMPI_MCA_orte_execute_quiet": "1"}
        return subprocess.run([*map(str, command)], cwd=self.folder, env=environment, capture_output=True, text=True,
                              timeout=300, check=False)

    def test_it_is_linked_to_no_mpi(self):
        libraries = subprocess.run(["ldd", self.serial], check=True, capture_output=True, text=True).stdout
        self.assertNotIn("libmpi", libraries)

    def test_its_results_have_the_bits_of_the_parallel_build(self):
        done = self.run_serial(self.serial, *SMALL, "run.output=serial")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(harness.differences(self.folder / "serial", self.study("parallel")), [])

    def test_it_refuses_to_run_as_several_ranks(self):
        if not MPIEXEC or shutil.which(MPIEXEC) is None:
            self.skipTest("no launcher")
        done = self.run_serial(MPIEXEC, "-np", 2, self.serial, *SMALL, "run.output=several")
        self.assertEqual(done.returncode, EXIT_DEVICE, done.stderr)
        self.assertIn(harness.ERROR, done.stderr)
        self.assertFalse((self.folder / "several").exists())


if __name__ == "__main__":
    harness.main()
