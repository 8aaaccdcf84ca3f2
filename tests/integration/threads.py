"""Threads and their cores: the number by itself, the deck's number, how they are bound, what output and files say."""
import os
import re
import signal
import time
from pathlib import Path

import h5py

import harness
from harness import SMALL, ProgramTest, needs_ranks

CORES = sorted(os.sched_getaffinity(0))
NOTHING_BOUND = {"OMPI_MCA_hwloc_base_binding_policy": "none"}
# Variables of this test's own surroundings that would decide for the program.
CLEAN = {name: None for name in ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")}
WARNING = "warning: device.threads"


def numbers(text):
    """The set that "0-3,8" names."""
    found = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def limit_of_time():
    """What a container's limit says beside its set of cores: the program then takes fewer, as its own test has it."""
    for path in ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"):
        try:
            with open(path, encoding="ascii") as file:
                first = file.read().split()[0]
        except OSError:
            continue
        if first not in ("max", "-1"):
            return f"{path}: {first}"
    return None


class Threads(ProgramTest):
    def setUp(self):
        if limit_of_time():
            self.skipTest(f"fewer threads than cores here: {limit_of_time()}")
        super().setUp()

    def places(self, *words, **options):
        """(threads, bound?, cores) of every rank, as --dry-run tells them, and the whole output."""
        done = self.program(*SMALL, "--dry-run", *words, **{**NOTHING_BOUND, **CLEAN, **options})
        found = re.findall(r"^rank \d+: .*, (\d+) threads (bound to|on) cores ([0-9,-]+),", done.out, re.M)
        self.assertEqual(len(found), options.get("ranks", 1), str(done))
        return [(int(threads), how == "bound to", numbers(cores)) for threads, how, cores in found], done

    def test_by_itself_a_rank_takes_the_cores_that_it_may_use(self):
        self.assertEqual(self.places()[0], [(len(CORES), True, set(CORES))])
        one = CORES[-1]
        told, done = self.places(prepare=lambda: os.sched_setaffinity(0, {one}))
        self.assertEqual(told, [(1, True, {one})])
        self.assertNotIn(WARNING, done.err)

    @needs_ranks()
    def test_ranks_of_a_node_share_its_cores(self):
        for ranks in (2, 3, 4):
            with self.subTest(ranks=ranks):
                told, done = self.places(ranks=ranks)
                self.assertLessEqual(sum(threads for threads, _, _ in told), max(len(CORES), ranks))
                bound = [cores for _, is_bound, cores in told if is_bound]
                self.assertEqual(len(bound), ranks if len(CORES) % ranks == 0 else 0)
                self.assertEqual(sum(map(len, bound)), len(set().union(*bound)), "two ranks on one core")
                self.assertNotIn(WARNING, done.err)

    @needs_ranks()
    def test_ranks_that_mpirun_binds_to_a_core_have_one_thread(self):
        told, done = self.places(ranks=len(CORES), OMPI_MCA_hwloc_base_binding_policy="core")
        self.assertEqual([threads for threads, _, _ in told], [1] * len(CORES))
        self.assertEqual(set().union(*(cores for _, _, cores in told)), set(CORES))
        self.assertNotIn(WARNING, done.err)

    @needs_ranks()
    def test_the_decks_number_stands_with_one_warning_where_it_is_too_great(self):
        told, done = self.places("device.threads=1")
        self.assertEqual(told, [(1, len(CORES) == 1, set(CORES))])
        self.assertNotIn(WARNING, done.err)
        many = len(CORES)  # twice as many on two ranks
        told, done = self.places(f"device.threads={many}", ranks=2)
        self.assertEqual(told, [(many, False, set(CORES))] * 2)
        self.assertEqual(done.err.count(WARNING), 1, str(done))
        self.assertIn(f"{2 * many} threads for the {len(CORES)} cores", done.err)

    def test_openmps_variables_stand(self):
        for name, value in (("OMP_PROC_BIND", "true"), ("OMP_PROC_BIND", "false"), ("OMP_PLACES", "threads")):
            with self.subTest(name=name, value=value):
                told, done = self.places("--verbose", **{name: value})
                self.assertEqual(told, [(len(CORES), False, set(CORES))])
                self.assertIn("(binding: environment)", done.out)

    def test_files_tell_threads_and_binding(self):
        for threads, binding in ((len(CORES), "core"), (len(CORES) + 1, "none")):
            folder = self.study(f"t{threads}", "run.stages=train", f"device.threads={threads}", **CLEAN,
                                **NOTHING_BOUND)
            with h5py.File(folder / "weights.h5", "r") as file:
                self.assertEqual(int(file.attrs["threads"]), threads)
                self.assertEqual(file.attrs["binding"], binding)

    def test_running_threads_are_where_the_dry_run_says(self):
        process = harness.launch(*SMALL, "train.steps=1000000", "run.stages=train", "--quiet", cwd=self.folder,
                                 **CLEAN, **NOTHING_BOUND)
        try:
            # The cores of those threads that have just one: OpenMP's.  The program's own helpers compute nothing.
            deadline, alone = time.monotonic() + 60, []
            while set(map(tuple, alone)) != {(core,) for core in CORES} and time.monotonic() < deadline:
                self.assertIsNone(process.poll())
                alone = []
                for task in os.listdir(f"/proc/{process.pid}/task"):
                    if Path(f"/proc/{process.pid}/task/{task}/comm").read_text().strip() in ("hsgd-lock", "hsgd-watch"):
                        continue
                    cores = os.sched_getaffinity(int(task))
                    alone += [sorted(cores)] if len(cores) == 1 else []
                time.sleep(0.05)
            self.assertEqual(sorted(alone), [[core] for core in CORES])
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


if __name__ == "__main__":
    harness.main()
