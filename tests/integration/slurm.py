"""The batch scripts on a real Slurm of this machine: done, stopped and gone on to the same bits, lost, cancelled.

The jobs of all tests run at the same time, as most of their time is Slurm's: waiting for a limit, or in the queue.
"""
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import harness

SOURCE = Path(__file__).resolve().parents[2]
LOCAL, JOBS = SOURCE / "tests" / "slurm-local.sh", SOURCE / "jobs" / "slurm"
LAUNCHERS = ("srun", "mpirun")
RANKS = 2
# Every stage on a small network; the scripts say which stages run.
SMALL = [word for word in harness.SMALL if not word.startswith("run.")]
# A training of a second or two with checkpoints all along, one that writes none before its end, one without an end.
STEPS = ["train.steps=400", "train.checkpoint_every=20", "train.log_every=100", "train.evaluate_every=200"]
TRAIN = [*SMALL, *STEPS, "run.stages=train"]
SILENT = [*TRAIN, "train.steps=3000", "train.checkpoint_every=1000000", "train.evaluate_every=1000000"]
ENDLESS = [*TRAIN, "train.steps=100000000"]
PATIENCE = 240  # seconds: more than Slurm takes for a limit of one minute, a requeue and what the machine does beside
# Seconds from the start to the end of all waiting: ctest's limit (600) would kill the test and leave its daemons.
DEADLINE = time.monotonic() + 440


def wait_until(condition, what, seconds=PATIENCE, pause=0.3):
    """Its first value that is true, or a failure."""
    end = min(time.monotonic() + seconds, DEADLINE)
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(pause)
    raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")


class Job:
    """A job of the cluster and its log."""

    def __init__(self, cluster, number, folder):
        self.cluster, self.number, self.folder = cluster, number, folder

    def __str__(self):
        return f"job {self.number}: {self.says()}\n{self.log()}"

    def says(self):
        """What Slurm says of it: JobState, ExitCode, Restarts, ..."""
        text = self.cluster.call("scontrol", "--oneliner", "show", "job", self.number)
        return dict(pair.split("=", 1) for pair in text.split() if "=" in pair)

    @functools.lru_cache(maxsize=None)
    def id(self):
        """The number that its processes know it by."""
        return self.says()["JobId"]

    def log(self):
        path = self.folder / f"log-{self.number}"
        return path.read_text() if path.exists() else ""

    def ended(self, state, code=0, seconds=PATIENCE):
        """Wait for its end and check which it was."""
        said = wait_until(lambda: self.is_over() and self.says(), lambda: str(self), seconds)
        if said["JobState"] != state or said["ExitCode"].split(":")[0] != str(code):
            raise AssertionError(f"not {state} with {code}: {self}")
        return said

    def is_over(self):
        return self.says()["JobState"] in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")

    def processes(self, program=None):
        """The ids of its processes on this machine, the shell's, the launcher's and the ranks', or the ranks' alone."""
        marks = {f"SLURM_JOB_ID={self.id()}".encode(), f"SLURM_CONF={self.cluster.variables['SLURM_CONF']}".encode()}
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if program is None or os.path.samefile(entry / "exe", program):
                    if marks <= set((entry / "environ").read_bytes().split(b"\0")):
                        found.append(int(entry.name))
            except OSError:
                continue
        return found

    def signal(self, number, count=None):
        """A signal for its ranks, or for so many of them."""
        for pid in self.processes(harness.PROGRAM)[:count]:
            os.kill(pid, number)

    def leaves_nothing(self):
        wait_until(lambda: not self.processes(), lambda: f"{self.processes()} are left of {self}", 30)


class Cluster:
    """The Slurm of one's own."""

    def __init__(self, folder):
        self.folder, self.variables = folder, {}

    def start(self):
        subprocess.run([LOCAL, "start", self.folder], check=True, timeout=150)
        lines = subprocess.run([LOCAL, "env", self.folder], check=True, capture_output=True, text=True).stdout
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMPI_", "HSGD_", "SLURM_"))}
        # The jobs of all tests share the cores: none knows that its ranks must yield to those of the others.
        self.variables = kept | {"HSGD_BIN": harness.PROGRAM, "OMPI_MCA_mpi_yield_when_idle": "1"}
        for line in lines.splitlines():
            self.variables.update(pair.split("=", 1) for pair in line.removeprefix("export ").split())

    def stop(self):
        subprocess.run([LOCAL, "stop", self.folder], check=False, timeout=150)

    def call(self, *command, cwd="/", **variables):
        done = subprocess.run(command, cwd=cwd, env=self.variables | variables, capture_output=True, text=True,
                              timeout=60, check=False)
        if done.returncode != 0:
            raise AssertionError(f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout


def beside(method):
    """A test that runs beside the others: its jobs are begun with theirs, and its turn only waits for their end."""
    @functools.wraps(method)
    def join(self):
        self.begun[method.__name__].result()
    join.body = method
    return join


class Slurm(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0:
            raise unittest.SkipTest("a Slurm of one's own needs root")
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        missing = [tool for tool in ("sbatch", "slurmctld", "slurmd", "munged") if not shutil.which(tool, path=path)]
        if missing:
            raise unittest.SkipTest(f"not installed: {', '.join(missing)} (slurm-wlm and munge)")
        cls.folder = Path(tempfile.mkdtemp(prefix="hsgd-slurm-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.cluster = Cluster(cls.folder / "slurm")
        cls.addClassCleanup(cls.cluster.stop)  # also of what is there where the start fails
        cls.cluster.start()
        pool = ThreadPoolExecutor(32)
        cls.addClassCleanup(pool.shutdown)
        cls.direct = pool.submit(cls.undisturbed, "direct", *TRAIN)
        cls.silent = pool.submit(cls.undisturbed, "silent", *SILENT)
        tests = {name: test.body for name, test in vars(cls).items() if hasattr(test, "body")}
        cls.begun = {name: pool.submit(body, cls(name)) for name, body in tests.items()}

    @classmethod
    def undisturbed(cls, name, *words):
        """The folder of a run without Slurm, by one process."""
        done = harness.finish(harness.launch(*words, f"run.output={name}", cwd=cls.folder))
        if done.code != 0:
            raise AssertionError(str(done))
        return cls.folder / name

    def place(self, *names):
        folder = self.folder.joinpath(*names)
        folder.mkdir(parents=True)
        return folder

    def submit(self, folder, *words, script="train.sh", options=(), **variables):
        """Submit a script from a folder of its own."""
        if not any(word.startswith("device.backend=") for word in words):
            words = (*words, "device.backend=cpu")
        number = self.cluster.call("sbatch", "--parsable", f"--ntasks={RANKS}", "--time=10", "--signal=B:USR1@30",
                                   f"--output={folder}/log-%j", *options, str(JOBS / script), *words, cwd=folder,
                                   **variables)
        return Job(self.cluster, number.strip(), folder)

    def submit_all(self, folder, *words):
        """The pipeline's three jobs."""
        lines = self.cluster.call("bash", str(JOBS / "pipeline.sh"), f"--ntasks={RANKS}", f"--output={folder}/log-%j",
                                  *words, "device.backend=cpu", cwd=folder).splitlines()
        self.assertEqual([line.split()[1] for line in lines], ["train.sh", "spectrum.sh", "landscape.sh"])
        return [Job(self.cluster, line.split()[0], folder) for line in lines]

    def same_bits(self, folder, direct):
        self.assertEqual(harness.differences(direct, folder), [], folder)

    def stopped_half_way(self, job, results, how):
        """Hold a training that has begun, ask it to stop by `how`, and let it see the request; then it goes on."""
        job.id()  # asked for now, as later each moment counts
        wait_until(lambda: list(results.glob("checkpoint-*.h5")), lambda: f"no checkpoint: {job}", pause=0.02)
        job.signal(signal.SIGSTOP)
        self.assertFalse((results / "weights.h5").exists(), f"too fast to be stopped: {job}")
        try:
            how(job)
        finally:
            job.signal(signal.SIGCONT)
        said = job.ended("COMPLETED")
        self.assertEqual(said["Restarts"], "1", str(job))
        for text, times in (("train: stopped at step", 1), ("back into the queue, restart 1", 1),
                            ("train: goes on from", 1), (harness.ERROR, 0)):
            self.assertEqual(job.log().count(text), times, f"{text}: {job}")

    # ---- done ----

    @beside
    def test_a_pipeline_waits_for_a_job_that_stops_and_gives_the_bits_of_one_run_and_is_found_done(self):
        folder = self.place("pipeline")
        results = folder / "results"
        jobs = self.submit_all(folder, *SMALL, *STEPS, "run.output=results")
        direct = self.undisturbed("whole", *SMALL, *STEPS)
        self.stopped_half_way(jobs[0], results, lambda job: self.cluster.call(
            "scancel", "--batch", "--signal=TERM", job.number))
        before = ""  # the end of the job before
        for job in jobs:
            said = job.ended("COMPLETED")
            self.assertIn(f"{RANKS} ranks by srun", job.log())  # Debian's Open MPI and Slurm both know PMIx
            self.assertGreaterEqual(said["StartTime"], before, f"it did not wait: {job}")
            before = said["EndTime"]
        self.same_bits(results, direct)
        times = {path.name: path.stat().st_mtime_ns for path in results.glob("*.h5")}
        for script in ("train.sh", "spectrum.sh", "landscape.sh"):
            self.submit(folder, *SMALL, *STEPS, "run.output=results", script=script).ended("COMPLETED")
        again = {path.name: path.stat().st_mtime_ns for path in results.glob("*.h5")}
        self.assertEqual(again, times, "a later submission did something again")

    @beside
    def test_threads_are_those_of_the_deck_where_it_names_them(self):
        jobs = []
        for text, threads in (("[device]\nthreads = 2\n", 2), ("[device]\nbackend = cpu\n", 1)):
            folder = self.place("threads", str(threads))
            (folder / "deck.ini").write_text(text)
            jobs.append((self.submit(folder, *SMALL, "--dry-run", HSGD_DECK="deck.ini"), threads))
        for job, threads in jobs:
            job.ended("COMPLETED")
            self.assertIn(f"{threads} threads", job.log())

    @beside
    def test_a_job_is_what_its_submission_says(self):
        folder, other = self.place("said"), self.place("said-elsewhere")
        program = folder / "program"
        program.write_text(f'#!/bin/sh\necho "in $(pwd), locks $HDF5_USE_FILE_LOCKING"\nexec {harness.PROGRAM} "$@"\n')
        program.chmod(0o755)
        names = [name for name in self.cluster.variables if name.startswith(("PATH", "HSGD_", "OMPI_"))]
        # Variables such as a job with GPUs hands on to one that is submitted in it.
        gpus = {"SLURM_GPUS": "4", "SLURM_GPUS_ON_NODE": "4", "SLURM_JOB_GPUS": "0,1,2,3"}
        options = ["--nodes=1", "--ntasks-per-node=4", f"--chdir={other}", f"--export={','.join(names)}"]
        job = self.submit(folder, *SMALL, "--dry-run", "device.backend=auto", options=options, HSGD_BIN=str(program),
                          **gpus)
        job.ended("COMPLETED")
        self.assertIn("4 ranks by srun", job.log())
        self.assertEqual(job.log().count(f"in {other}, locks BEST_EFFORT"), 4, str(job))

    # ---- stopped and gone on ----

    def by_limit(self, launcher):
        folder = self.place("limit", launcher)
        job = self.submit(folder, *TRAIN, "run.output=results", options=["--time=1"], HSGD_LAUNCHER=launcher)

        def warned(job):
            wait_until(lambda: "asked to stop" in job.log(), lambda: f"no warning: {job}")
            self.cluster.call("scontrol", "update", f"JobId={job.number}", "TimeLimit=10")  # for the rest of its way

        self.stopped_half_way(job, folder / "results", warned)
        self.same_bits(folder / "results", self.direct.result())

    @beside
    def test_a_time_limit_under_srun_puts_the_job_back_and_it_goes_on_to_the_same_bits(self):
        self.by_limit("srun")

    @beside
    def test_a_time_limit_under_mpirun_puts_the_job_back_and_it_goes_on_to_the_same_bits(self):
        self.by_limit("mpirun")

    def by_term(self, launcher, *options):
        folder = self.place("-".join(("term", launcher, *options)))
        job = self.submit(folder, *TRAIN, "run.output=results", HSGD_LAUNCHER=launcher)
        self.stopped_half_way(job, folder / "results", lambda job: self.cluster.call(
            "scancel", *options, "--signal=TERM", job.number))
        self.same_bits(folder / "results", self.direct.result())

    @beside
    def test_a_term_to_the_script_does_the_same_under_srun(self):
        self.by_term("srun", "--batch")

    @beside
    def test_a_term_to_the_script_does_the_same_under_mpirun(self):
        self.by_term("mpirun", "--batch")

    @beside
    def test_a_term_to_the_ranks_alone_does_the_same_under_srun(self):
        self.by_term("srun")

    @beside
    def test_a_term_while_mpi_starts_is_a_stop_under_srun(self):
        shim = os.environ.get("HSGD_TEST_SHIM")
        if not shim:
            self.skipTest("HSGD_TEST_SHIM names no library that asks for it")
        folder = self.place("early")
        program = folder / "early"  # under srun all ranks pass for rank 0 until MPI numbers them
        program.write_text(f'''#!/bin/sh
export LD_PRELOAD={shim} HSGD_FAULT_CALL=MPI_Init_thread HSGD_FAULT_NUMBER=1 HSGD_FAULT_RANK=0 HSGD_FAULT_ACTION=term
export HSGD_FAULT_MARK={folder}/mark
exec {harness.PROGRAM} "$@"
''')
        program.chmod(0o755)
        job = self.submit(folder, *TRAIN, "run.output=results", HSGD_BIN=str(program), HSGD_LAUNCHER="srun",
                          HSGD_REQUEUE="no")
        job.ended("FAILED", harness.EXIT_STOPPED)
        self.assertTrue((folder / "mark").exists(), str(job))
        self.assertIn("stopped with everything saved", job.log())

    @beside
    def test_a_slurm_that_does_not_start_leaves_nothing_behind(self):
        folder = self.place("broken")
        (folder / "slurmd").write_text("#!/bin/sh\nexit 1\n")
        (folder / "slurmd").chmod(0o755)
        path = {"PATH": f"{folder}:{os.environ['PATH']}"}
        done = subprocess.run([LOCAL, "start", folder / "slurm"], env=os.environ | path, capture_output=True, text=True,
                              timeout=100, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        pids = [(folder / "slurm" / f"{name}.pid").read_text().strip() for name in ("munge", "slurmctld")]
        self.assertTrue(all(Path("/proc", pid).exists() for pid in pids), "nothing was started")
        subprocess.run([LOCAL, "stop", folder / "slurm"], check=True, timeout=100)
        self.assertEqual([pid for pid in pids if Path("/proc", pid).exists()], [])

    @beside
    def test_a_job_that_has_to_make_way_goes_on_to_the_same_bits(self):
        folder = self.place("preempted")
        job = self.submit(folder, *TRAIN, "run.output=results", options=["--partition=spare"], HSGD_LAUNCHER="srun")
        urgent = []
        self.stopped_half_way(job, folder / "results", lambda job: urgent.append(
            self.cluster.call("sbatch", "--parsable", "--partition=urgent", f"--ntasks={RANKS}", "--output=/dev/null",
                              "--wrap=true").strip()))
        Job(self.cluster, urgent[0], folder).ended("COMPLETED")
        self.same_bits(folder / "results", self.direct.result())

    @beside
    def test_a_task_of_an_array_goes_on_alone(self):
        folder = self.place("array")
        number = self.submit(folder, *TRAIN, script="array.sh", options=["--array=0-1", "--output=log-%A_%a"],
                             HSGD_SEEDS="3 4").number
        tasks = [Job(self.cluster, f"{number}_{task}", folder) for task in range(2)]
        results = [folder / "results" / "array" / f"{task}-seed-{seed}" for task, seed in enumerate((3, 4))]
        wait_until(lambda: all(task.says()["JobState"] != "PENDING" for task in tasks), "both tasks run", pause=0.1)
        one = [task.id() for task in tasks].index(number)  # its number is to Slurm that of the whole array as well
        self.stopped_half_way(tasks[one], results[one], lambda job: self.cluster.call(
            "scancel", "--batch", "--signal=TERM", job.number))
        self.assertEqual(tasks[1 - one].ended("COMPLETED")["Restarts"], "0", str(tasks[1 - one]))
        for folder, seed in zip(results, (3, 4)):
            self.same_bits(folder, self.undisturbed(f"seed-{seed}", *TRAIN, f"run.seed={seed}"))

    def by_loss(self, launcher):
        folder = self.place("lost", launcher)
        job = self.submit(folder, *SILENT, "run.output=results", HSGD_LAUNCHER=launcher)
        job.id()  # asked for now, as later each moment counts
        wait_until(lambda: "train: from initialisation" in job.log(), lambda: str(job), pause=0.02)
        job.signal(signal.SIGKILL, 1)
        job.ended("FAILED", 128 + signal.SIGKILL)
        job.leaves_nothing()
        self.assertEqual(list((folder / "results").glob("*.h5")), [], f"too fast to be killed: {job}")
        self.cluster.call("scontrol", "requeue", job.number)
        wait_until(lambda: not job.is_over(), lambda: str(job))
        self.assertEqual(job.ended("COMPLETED")["Restarts"], "1", str(job))
        self.assertEqual(job.log().count("train: from initialisation"), 2, str(job))
        self.same_bits(folder / "results", self.silent.result())

    @beside
    def test_a_job_lost_under_srun_before_its_first_checkpoint_starts_afresh(self):
        self.by_loss("srun")

    @beside
    def test_a_job_lost_under_mpirun_before_its_first_checkpoint_starts_afresh(self):
        self.by_loss("mpirun")

    @beside
    def test_restarts_have_an_end_and_a_job_submitted_again_goes_on(self):
        at_once = "run.time_limit=0.01"  # the first look at the clock stops it
        jobs = [(self.submit(self.place("ends", name), *TRAIN, "run.output=results", at_once, **variables), restarts)
                for name, restarts, variables in (("one", "1", {"HSGD_MOST_RESTARTS": "1"}),
                                                  ("no", "0", {"HSGD_REQUEUE": "no"}))]
        for job, restarts in jobs:
            self.assertEqual(job.ended("FAILED", harness.EXIT_STOPPED)["Restarts"], restarts, str(job))
            self.assertEqual(job.log().count("submit the same job again to go on"), 1, str(job))
        for job, _ in jobs:
            self.submit(job.folder, *TRAIN, "run.output=results").ended("COMPLETED")
            self.same_bits(job.folder / "results", self.direct.result())

    @beside
    def test_a_launcher_that_did_not_hear_is_told_again(self):
        folder = self.place("again")
        (folder / "mpirun").write_text("""#!/usr/bin/env python3
import os, signal, time
told = []
signal.signal(signal.SIGUSR1, lambda *_: told.append(1))
os.kill(os.getppid(), signal.SIGTERM)
for _ in range(600):
    if len(told) < 2:
        time.sleep(0.1)
os._exit(9 if len(told) == 2 else 1)
""")
        (folder / "mpirun").chmod(0o755)
        done = subprocess.run(["bash", str(JOBS / "train.sh")], cwd=folder, capture_output=True, text=True, timeout=100,
                              env=self.cluster.variables | {"PATH": f"{folder}:{os.environ['PATH']}"}, check=False)
        self.assertEqual(done.returncode, 9, done.stderr)
        self.assertEqual(done.stderr.count("asked to stop"), 1, done.stderr)

    # ---- ended for good ----

    @beside
    def test_a_cancelled_job_leaves_nothing_running_and_does_not_come_back(self):
        jobs = [self.submit(self.place("cancelled", launcher), *ENDLESS, "run.output=results", HSGD_LAUNCHER=launcher)
                for launcher in LAUNCHERS]
        for job in jobs:
            wait_until(lambda job=job: list((job.folder / "results").glob("checkpoint-*.h5")), lambda job=job: str(job))
            self.assertGreater(len(job.processes()), RANKS, str(job))
            self.cluster.call("scancel", job.number)
        for job in jobs:
            wait_until(job.is_over, lambda job=job: str(job))
            job.leaves_nothing()
        time.sleep(8)  # a requeue is seen after the 5 s that a credential of munge lasts here
        for job in jobs:
            self.assertEqual((job.says()["JobState"], job.says()["Restarts"]), ("CANCELLED", "0"), str(job))
            self.assertNotIn("back into the queue", job.log())

    @beside
    def test_a_failing_deck_fails_the_job_with_the_programs_code_and_one_message(self):
        jobs = [self.submit(self.place("fails", launcher), *SMALL, "train.batch=0", "run.output=results",
                            HSGD_LAUNCHER=launcher) for launcher in LAUNCHERS]
        jobs.append(self.submit(self.place("fails", "none"), HSGD_DECK="none.ini", HSGD_LAUNCHER="srun"))
        for job in jobs:
            job.ended("FAILED", harness.EXIT_USAGE)
            self.assertEqual(job.log().count(harness.ERROR), 1, str(job))
        self.assertEqual(jobs[-1].log().count("none.ini"), 1, str(jobs[-1]))
        for job in jobs:
            self.assertFalse((job.folder / "results").exists(), str(job))

    @beside
    def test_what_depends_on_a_failed_job_is_cancelled(self):
        folder = self.place("chain")
        first, *others = self.submit_all(folder, *SMALL, "train.batch=0", "run.output=results")
        first.ended("FAILED", harness.EXIT_USAGE)
        for job in others:
            job.ended("CANCELLED")
            self.assertEqual(job.log(), "")


if __name__ == "__main__":
    harness.main()
