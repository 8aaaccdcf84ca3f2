"""The batch scripts on a real one-node Slurm: trained once, found done the second time, then studied."""
import os
import shutil
import subprocess
from pathlib import Path

import harness
from harness import ProgramTest

SOURCE = Path(__file__).resolve().parents[2]
LOCAL = SOURCE / "tests" / "slurm-local.sh"
# Short: every stage on a small network; the scripts say which stages run.
WORDS = [word for word in harness.SMALL if not word.startswith("run.")] + ["run.output=results"]


class Slurm(ProgramTest):
    def setUp(self):
        if os.geteuid() != 0:
            self.skipTest("a Slurm of one's own needs root")
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        missing = [tool for tool in ("sbatch", "slurmctld", "slurmd", "munged") if not shutil.which(tool, path=path)]
        if missing:
            self.skipTest(f"not installed: {', '.join(missing)} (slurm-wlm and munge)")
        super().setUp()
        self.slurm = self.folder / "slurm"
        self.addCleanup(subprocess.run, [LOCAL, "stop", self.slurm], check=False)
        subprocess.run([LOCAL, "start", self.slurm], check=True)
        self.variables = {key: value for key, value in os.environ.items() if not key.startswith(("OMPI_", "HSGD_"))}
        lines = subprocess.run([LOCAL, "env", self.slurm], check=True, capture_output=True, text=True).stdout
        for line in lines.splitlines():
            self.variables.update(pair.split("=", 1) for pair in line.removeprefix("export ").split())
        self.variables["HSGD_BIN"] = harness.PROGRAM

    def submit(self, script, *words, expect=0):
        """Submit one script, wait for its end, check how it ended and return its log."""
        log = self.folder / "job.log"
        log.unlink(missing_ok=True)
        done = subprocess.run(
            ["sbatch", "--wait", "--ntasks=4", f"--output={log}", str(SOURCE / "jobs" / "slurm" / script), *WORDS,
             *words], cwd=self.folder, env=self.variables, capture_output=True, text=True, timeout=300, check=False)
        text = log.read_text() if log.exists() else "no log"
        self.assertEqual(done.returncode, expect, f"{done.stderr}\n{text}")
        return text

    def times(self):
        return {path.name: path.stat().st_mtime_ns for path in (self.folder / "results").glob("*.h5")}

    def test_a_study_in_three_jobs_each_submitted_twice(self):
        self.submit("train.sh")
        results = self.folder / "results"
        for name in ("weights.h5", "train.h5", "evaluate.h5", "verify.h5"):
            self.assertTrue((results / name).exists(), name)
        trained = self.times()
        self.submit("train.sh")
        self.assertEqual(self.times(), trained, "the second submission did something again")

        self.submit("spectrum.sh")
        self.submit("landscape.sh")
        for name in ("eigen.h5", "density.h5", "trace.h5", "landscape.h5"):
            self.assertTrue((results / name).exists(), name)
        whole = self.times()
        for script in ("train.sh", "spectrum.sh", "landscape.sh"):
            self.submit(script)
        self.assertEqual(self.times(), whole, "a later submission did something again")
        # The bits are those of one run without Slurm.
        self.assertEqual(harness.differences(results, self.study("direct")), [])

    def test_a_job_out_of_time_is_continued_by_the_next(self):
        whole = ["train.steps=120", "train.checkpoint_every=10000", "train.evaluate_every=60"]
        # So short that the first look at the clock stops it, however fast the machine is.
        self.submit("train.sh", *whole, "run.time_limit=0.01", expect=harness.EXIT_STOPPED)
        results = self.folder / "results"
        self.assertFalse((results / "weights.h5").exists())
        stopped = list(results.glob("checkpoint-*.h5"))
        self.assertEqual(len(stopped), 1, stopped)
        self.submit("train.sh", *whole)
        direct = self.study("direct", *whole, "run.stages=train evaluate verify")
        for path in stopped:
            path.unlink(missing_ok=True)  # the direct run has its last checkpoint alone
        self.assertEqual(harness.differences(results, direct), [])

    def test_threads_are_those_of_the_deck_where_it_names_them(self):
        deck = self.folder / "deck.ini"
        for text, threads in (("[device]\nthreads = 2\n", 2), ("[device]\nbackend = cpu\n", 1)):
            deck.write_text(text)
            self.variables["HSGD_DECK"] = str(deck)
            log = self.submit("train.sh", "--dry-run")
            self.assertIn(f"{threads} threads", log)

    def test_a_job_that_fails_says_so(self):
        done = subprocess.run(
            ["sbatch", "--wait", "--ntasks=2", f"--output={self.folder}/job.log", str(SOURCE / "jobs/slurm/train.sh"),
             "train.batch=0"], cwd=self.folder, env=self.variables, capture_output=True, text=True, timeout=300,
            check=False)
        self.assertEqual(done.returncode, harness.EXIT_USAGE)
        self.assertIn(harness.ERROR, (self.folder / "job.log").read_text())


if __name__ == "__main__":
    harness.main()
