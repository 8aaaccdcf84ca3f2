"""The probes of the density dealt to groups of ranks: the same bits, whoever makes them; all end together, however."""
import os
import re
import shutil
import signal
import tempfile
import time
import unittest
from pathlib import Path

import h5py
import numpy as np

import harness
from harness import EXIT_NUMERIC, EXIT_STOPPED, MPIEXEC, ProgramTest, differences
from processes import family, is_alive

DATA = ("data.train_samples=120", "data.test_samples=20", "hessian.samples=120", "run.snapshot_every=0",
        "model.layers=conv 4 5 / tanh / maxpool 2 / linear 10", "model.precision=double", "device.threads=1")
DENSITY = ("run.stages=density", "density.steps=10", "density.bins=300")
STATE = "density-state.h5"


@unittest.skipUnless(MPIEXEC, "this build has no MPI")
class Groups(ProgramTest):
    def density(self, output, *words, **options):
        self.program(*DATA, *DENSITY, *words, f"run.output={output}", **options)
        return self.folder / output

    def write_start(self, rows):
        """start.h5 with so many start vectors."""
        done = self.program(*DATA, *DENSITY, "--dry-run", "run.output=none")
        count = int(next(line for line in done.out.splitlines() if line.startswith("parameters: ")).split()[1])
        start = np.random.default_rng(4).standard_normal((rows, count))
        with h5py.File(self.folder / "start.h5", "w") as file:
            file["start"] = start
        return start

    def groups_of(self, folder):
        with h5py.File(folder / "density.h5", "r") as file:
            return int(file.attrs["groups"])


class SameBits(Groups):
    def test_no_bit_depends_on_ranks_and_groups(self):
        words = ("density.probes=5", "density.block=2")
        whole = self.density("whole", *words)
        self.assertEqual(self.groups_of(whole), 1)
        for ranks, groups in ((2, 2), (3, 2), (4, 3), (6, 0), (6, 3)):
            with self.subTest(ranks=ranks, groups=groups):
                other = self.density(f"r{ranks}g{groups}", *words, f"density.groups={groups}", ranks=ranks)
                self.assertEqual(differences(whole, other), [])
                if groups > 0:
                    self.assertEqual(self.groups_of(other), groups)

    def test_given_start_vectors_go_to_their_groups(self):
        self.write_start(3)
        whole = self.density("whole", "density.start=start.h5")
        other = self.density("other", "density.start=start.h5", "density.groups=3", "density.block=1", ranks=4)
        self.assertEqual(differences(whole, other), [])

    def test_deflated_vectors_go_to_all_groups(self):
        words = ("run.stages=eigen density", "density.deflate=true", "density.probes=3", "eigen.count=1",
                 "eigen.max_products=60")
        whole = self.density("whole", *words)
        other = self.density("other", *words, "density.groups=2", "density.block=1", ranks=3)
        self.assertEqual(differences(whole, other), [])
        with h5py.File(whole / "density.h5", "r") as file:
            self.assertGreater(int(file.attrs["deflated"]), 0)

    def test_more_groups_than_there_can_be_are_fewer_and_said(self):
        for ranks, probes, groups in ((2, 3, 2), (3, 2, 2)):
            done = self.program(*DATA, *DENSITY, f"density.probes={probes}", "density.groups=5", "density.bins=5000",
                                f"run.output=p{probes}", ranks=ranks)
            self.assertIn(f"density.groups = 5: {probes} probes and {ranks} ranks make at most {groups} groups",
                          done.err)
            self.assertEqual(self.groups_of(self.folder / f"p{probes}"), groups)

    def test_more_than_one_group_is_chosen_where_ranks_would_be_idle(self):
        few = self.density("few", "hessian.samples=20", "density.probes=4", ranks=4)  # two groups of ten samples
        self.assertEqual(self.groups_of(few), 2)
        planned = self.program(*DATA, *DENSITY, "hessian.samples=20", "density.probes=4", "--dry-run",
                               "run.output=none", ranks=4)
        self.assertIn("density: 4 ranks in 2 groups", planned.out)
        enough = self.density("enough", "hessian.samples=120", "density.probes=4", ranks=4)
        self.assertEqual(self.groups_of(enough), 1)


class GoesOn(Groups):
    words = ("density.probes=12", "density.block=1", "density.steps=25")

    @classmethod
    def setUpClass(cls):
        cls.whole = Path(tempfile.mkdtemp(prefix="hsgd-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.whole, ignore_errors=True)
        done = harness.finish(harness.launch(*DATA, *DENSITY, *cls.words, f"run.output={cls.whole}/r", cwd=cls.whole))
        if done.code != 0:
            raise AssertionError(str(done))

    def setUp(self):
        super().setUp()
        place = str(self.folder)  # what Open MPI would leave behind where it is killed goes with the test's folder
        self.environment = {"TMPDIR": place, "OMPI_MCA_btl_vader_backing_directory": place,
                            "OMPI_MCA_osc_sm_backing_directory": place, "OMPI_MCA_osc_sm_backing_store": place}

    def begin(self, output, ranks, groups):
        """A run that has kept its first state and goes on."""
        process = harness.launch(*DATA, *DENSITY, *self.words, f"density.groups={groups}", f"run.output={output}",
                                 ranks=ranks, cwd=self.folder, **self.environment)
        for _ in range(1200):
            if (self.folder / output / STATE).exists():
                return process
            self.assertIsNone(process.poll(), "it ended too early")
            time.sleep(0.02)
        return self.fail("no state appeared")

    def go_on(self, output, ranks, groups):
        done = self.program(*DATA, *DENSITY, *self.words, f"density.groups={groups}", f"run.output={output}",
                            "--restart", ranks=ranks)
        self.assertIn("density: goes on from", done.out)
        self.assertEqual(differences(self.whole / "r", self.folder / output), [])
        self.assertFalse((self.folder / output / STATE).exists())

    def ranks_of(self, process):
        """The process numbers of the ranks."""
        found = []
        for pid in family(process.pid):
            try:
                if os.path.samefile(os.readlink(f"/proc/{pid}/exe"), harness.PROGRAM):
                    found.append(pid)
            except OSError:
                continue
        return sorted(found)

    def test_killed_it_goes_on_with_other_groups(self):
        for ranks, groups, other_ranks, other_groups in ((4, 2, 3, 3), (2, 1, 4, 2)):
            with self.subTest(ranks=ranks, groups=groups):
                process = self.begin("killed", ranks, groups)
                members = family(process.pid)
                for pid in members:
                    os.kill(pid, signal.SIGKILL)
                process.communicate()
                while any(is_alive(pid) for pid in members):
                    time.sleep(0.01)
                self.go_on("killed", other_ranks, other_groups)
                shutil.rmtree(self.folder / "killed")

    def test_a_killed_rank_ends_all_groups(self):
        process = self.begin("killed", 3, 3)
        os.kill(self.ranks_of(process)[-1], signal.SIGKILL)
        done = harness.finish(process, timeout=60)
        self.assertEqual(done.code, 128 + signal.SIGKILL, str(done))
        self.go_on("killed", 2, 2)

    def test_asked_to_stop_it_goes_on_with_other_groups(self):
        process = self.begin("asked", 4, 2)
        process.send_signal(signal.SIGUSR1)
        done = harness.finish(process, timeout=60)
        self.assertEqual((done.code, done.errors), (EXIT_STOPPED, []), str(done))
        self.go_on("asked", 3, 3)

    def counts(self, output):
        """Finished probes, and the steps of each that was begun, in the state that was kept."""
        if not (self.folder / output / STATE).exists():
            return 0, []
        with h5py.File(self.folder / output / STATE, "r") as file:
            done, running, *rest = file["integers"][()]
        return int(done), [int(steps) for steps in rest[::2]][:running]

    def stop_after_steps(self, output, *words, line):
        """As stop_in_round, once some steps are done, however fast the machine is."""
        for until in (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6):
            done, steps = self.stop_in_round(output, *words, line=line, until=until)
            if sum(steps) > 0:
                return done, steps
            shutil.rmtree(self.folder / output, ignore_errors=True)
        return self.fail("it was always stopped before its first step")

    def stop_in_round(self, output, *words, line, until):
        """Ask a run to stop soon after it has said `line`, in the midst of a round of one block."""
        process = harness.launch(*DATA, *DENSITY, *self.words, *words, "run.snapshot_every=3600",
                                 f"run.output={output}", ranks=2, cwd=self.folder, **self.environment)
        self.assertTrue(any(line in text for text in process.stdout), f"never said: {line}")
        time.sleep(until)
        process.send_signal(signal.SIGUSR1)
        done = harness.finish(process, timeout=60)
        self.assertEqual((done.code, done.errors), (EXIT_STOPPED, []), str(done))
        return self.counts(output)

    def test_a_stop_within_a_round_keeps_what_all_groups_had_begun(self):
        words = ("density.groups=2", "density.block=6", "hessian.samples=120")
        done, steps = self.stop_after_steps("round", *words, line="in 2 groups, which take")
        self.assertEqual((done, len(steps)), (0, 12))
        done, further = self.stop_in_round("round", *words, "--restart", line="finish the probes that were begun",
                                           until=0.01)
        self.assertEqual((done, len(further)), (0, 12))
        self.assertTrue(all(after >= before for before, after in zip(steps, further)), (steps, further))
        self.go_on("round", 2, 2)

    def test_a_stop_keeps_a_better_state(self):
        """Probes begun by one group are finished first; what they had done is not lost to a round of two groups."""
        _, steps = self.stop_after_steps("one", "density.groups=1", line="density: begins")
        done, further = self.stop_in_round("one", "density.groups=2", "--restart",
                                           line="finish the probes that were begun", until=0.05)
        self.assertTrue(done > 0 or sum(further) >= sum(steps), (steps, done, further))
        self.go_on("one", 2, 2)

    def test_one_rank_that_is_asked_to_stop_stops_all_groups(self):
        process = self.begin("asked", 3, 3)
        os.kill(self.ranks_of(process)[-1], signal.SIGUSR1)
        done = harness.finish(process, timeout=60)
        self.assertEqual((done.code, done.errors), (EXIT_STOPPED, []), str(done))
        self.go_on("asked", 2, 1)


class Waits(Groups):
    """Groups without a probe in a round wait for the one that has one, who makes no call that all its group makes."""

    timeout = 2  # seconds: run.stall_timeout; in a deck's file, so that it does not count for the launch
    attempts = 6  # of a run that so short a time-out ended elsewhere, for the machine was busy
    sizes = [2000 * 2 ** doublings for doublings in range(7)]  # samples: the first that takes long enough here

    def waited(self, samples, steps):
        """Seconds that the idle rank has spent in communication."""
        size = (f"data.train_samples={samples}", f"hessian.samples={samples}", f"density.steps={steps}")
        for _ in range(self.attempts):
            done = harness.finish(harness.launch(
                "short.ini", *DATA, *DENSITY, *size, "density.probes=3", "density.groups=2", "density.block=1",
                "run.output=waits", ranks=2, cwd=self.folder), timeout=300)
            shutil.rmtree(self.folder / "waits", ignore_errors=True)
            self.assertFalse(any("meeting of the groups" in line for line in done.errors), str(done))
            if not any("run.stall_timeout" in line for line in done.errors):
                break
        self.assertEqual(done.code, 0, str(done))
        line = next(line for line in done.out.splitlines() if line.startswith("  time density "))
        return float(re.findall(r"\(([0-9.]+)\)", line)[2])

    def test_longer_than_the_time_out(self):
        (self.folder / "short.ini").write_text(f"[run]\nstall_timeout = {self.timeout}\n")
        self.assertTrue(any(self.waited(samples, 20) >= 2 * self.timeout for samples in self.sizes),
                        "the idle rank never waited for two time-outs: a case that tests nothing")


class Fails(Groups):
    def check_failure(self, start, words):
        with h5py.File(self.folder / "start.h5", "r+") as file:
            file["start"][...] = start
        for ranks, groups in ((2, 1), (2, 2), (4, 2)):
            with self.subTest(ranks=ranks, groups=groups):
                done = self.program(*DATA, *DENSITY, "density.start=start.h5", "density.block=1",
                                    f"density.groups={groups}", f"run.output=r{ranks}g{groups}", ranks=ranks,
                                    expect=EXIT_NUMERIC, timeout=60)
                self.assertEqual(len(done.errors), 1, str(done))
                self.assertIn(words, done.errors[0])
                self.assertFalse((self.folder / f"r{ranks}g{groups}" / "density.h5").exists())

    def test_what_one_group_alone_finds_wrong_ends_all(self):
        start = self.write_start(4)
        start[1] = 1e200  # the second group's: its squares are beyond all numbers
        self.check_failure(start, "norm")


if __name__ == "__main__":
    harness.main()
