"""Full disks, failing system calls and killed ranks: one message, the right exit code, no half-written file."""
import errno
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import h5py
import numpy as np

import commits
import harness
from commits import JOURNAL, LOCK
from harness import EXIT_IO, ProgramTest, needs_ranks

CONV = "model.layers=conv 4 5 / relu / maxpool 2 / linear 10"
SHORT = ("data.train_samples=200", "data.test_samples=50", "model.layers=linear 10", "train.steps=4",
         "train.batch=50", "run.stages=train evaluate")

# The lock file of another machine's run that took the folder over, and what the first one says of it.
TAKER = "host elsewhere\npid 4711\njob 79\nsince 2026-01-31T12:00:00Z\n"
TAKEN = f"{LOCK}: this run has lost the lock: process 4711 on elsewhere (job 79) took it over"
ENDLESS = 1 << 38  # bytes, of a hole, whose end nobody comes to here

# Files larger than the limit, which itself leaves room for the shared memory of Open MPI.
LARGE = ("data.train_samples=200", "data.test_samples=50", "model.layers=linear 3000 / linear 10", "train.steps=2",
         "train.batch=50", "run.stages=train evaluate")
LIMIT = 8 << 20


def limit_file_size():
    """In the child: no file may grow beyond the limit, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))


class Faults(ProgramTest):
    def check_files(self, folder):
        """Whatever bears a final name is whole; nothing else is left."""
        for path in folder.glob("*"):
            self.assertRegex(path.name, r"\.h5(\.sha256)?$|^metrics\.jsonl$")
            if path.suffix == ".jsonl":
                continue
            if path.suffix == ".sha256":
                self.assertTrue(harness.is_certified(path.with_suffix("")), path)
                continue
            with h5py.File(path, "r") as file:
                self.assertIn("created", file.attrs)

    def check_full_disk(self, **options):
        done = self.program(*LARGE, "run.output=results", expect=EXIT_IO, prepare=limit_file_size, **options)
        self.assertEqual(len(done.errors), 1, str(done))
        self.check_files(self.folder / "results")

    def test_a_full_disk_is_an_input_output_failure(self):
        self.check_full_disk()

    @needs_ranks()
    def test_a_full_disk_ends_all_ranks(self):
        self.check_full_disk(ranks=2)

    def test_a_failing_system_call_leaves_no_half_written_file(self):
        if shutil.which("strace") is None or not self.can_trace():
            self.skipTest("strace is missing or may not trace here")
        for call, when in (*(("pwrite64", n) for n in (1, 2, 3, 5, 9, 12, 15)), ("fsync", 1), ("fsync", 2),
                           ("rename", 1), ("rename", 2)):
            output = f"results-{call}-{when}"
            with self.subTest(call=call, when=when):
                prefix = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                          f"inject={call}:error=ENOSPC:when={when}")
                done = self.program(*SHORT, f"run.output={output}", expect=EXIT_IO, prefix=prefix)
                self.assertEqual(len(done.errors), 1, str(done))
                self.check_files(self.folder / output)

    @needs_ranks()
    def test_a_rank_that_fails_alone_while_others_write_ends_them_all(self):
        if shutil.which("strace") is None or not self.can_trace():
            self.skipTest("strace is missing or may not trace here")
        trace = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64,pwritev", "-e",
                 "inject=pwrite64,pwritev:error=EIO:when=3")
        words = (harness.PROGRAM, *SHORT, "run.output=results")
        done = harness.finish(harness.start([harness.MPIEXEC, "-np", "1", *trace, *words, ":", "-np", "2", *words],
                                            cwd=self.folder))
        self.assertEqual(done.code, EXIT_IO, str(done))
        self.assertEqual(len(done.errors), 1, str(done))
        self.assertEqual([path.name for path in (self.folder / "results").glob("*.h5") if path.name[0] != "."], [])
        self.program(*SHORT, "run.output=results", "--restart", ranks=2)
        self.check_files(self.folder / "results")

    def test_a_disk_that_does_not_answer_costs_no_checkpoint(self):
        if shutil.which("strace") is None or not self.can_trace():
            self.skipTest("strace is missing or may not trace here")
        words = (*SHORT, "train.checkpoint_every=2", "run.output=results")
        results, newest = self.folder / "results", self.folder / "results" / "checkpoint-00000004.h5"
        self.program(*words)
        before = {path.name: path.read_bytes() for path in results.glob("*.h5*")}
        for call in ("read", "pread64"):  # of the look at the manifest's sum, and of HDF5
            with self.subTest(call=call):
                trace = ("strace", "-f", "-qq", "-o", "/dev/null", "-P", str(newest.resolve()), "-e", f"trace={call}",
                         "-e", f"inject={call}:error=EIO")
                done = self.program(*words, "--restart", prefix=trace, expect=EXIT_IO)
                self.assertEqual(len(done.errors), 1, str(done))
                self.assertIn(newest.name, done.errors[0])
                self.assertIn(os.strerror(errno.EIO), done.errors[0])
                for name, content in before.items():
                    self.assertEqual((results / name).read_bytes(), content, name)
        done = self.program(*words, "--restart")
        self.assertIn(f"goes on from results/{newest.name}", done.out)

    def can_trace(self):
        done = harness.finish(harness.launch("--version", cwd=self.folder, prefix=("strace", "-qq", "-o", "/dev/null")))
        return done.code == 0

    def test_a_folder_that_cannot_be_made_is_an_input_output_failure(self):
        (self.folder / "file").write_text("in the way\n")
        done = self.program(*SHORT, "run.output=file/results", expect=EXIT_IO)
        self.assertEqual(len(done.errors), 1, str(done))

    @needs_ranks()
    def test_a_killed_rank_ends_the_job_and_a_restart_goes_on(self):
        words = ("data.train_samples=600", "data.test_samples=50", CONV,
                 "train.batch=60", "train.checkpoint_every=5", "train.steps=100000", "run.stages=train",
                 "run.output=results")
        results = self.folder / "results"
        process = harness.launch(*words, ranks=2, cwd=self.folder)
        self.wait_for(lambda: list(results.glob("checkpoint-*.h5")), process)
        os.kill(self.a_rank_of(process), signal.SIGKILL)
        done = harness.finish(process, timeout=60)
        self.assertEqual(done.code, 128 + signal.SIGKILL, str(done))
        for path in results.glob("*.h5"):
            with h5py.File(path, "r") as file:
                self.assertIn("created", file.attrs)
        steps = max(int(path.stem.split("-")[1]) for path in results.glob("checkpoint-*.h5"))
        self.program(*words, f"train.steps={steps + 3}", "--restart", ranks=2)
        self.assertTrue((results / "weights.h5").exists())
        self.check_files(results)

    def test_a_second_run_in_the_same_folder_is_refused_and_the_first_unharmed(self):
        words = ("data.train_samples=600", "data.test_samples=50", CONV, "train.batch=60", "train.checkpoint_every=5",
                 "train.steps=100000", "run.stages=train")
        results = self.folder / "results"
        process = harness.launch(*words, "run.output=results", cwd=self.folder)
        self.wait_for(lambda: list(results.glob("checkpoint-*.h5.sha256")), process)
        for more in ((), ("--restart",)):
            done = self.program(*words, *more, "run.output=results", expect=harness.EXIT_USAGE)
            self.assertEqual(len(done.errors), 1, str(done))
        self.assertIn(f"process {process.pid} on ", done.errors[0])
        process.send_signal(signal.SIGUSR1)
        done = harness.finish(process, timeout=60)
        self.assertEqual(done.code, harness.EXIT_STOPPED, str(done))
        self.check_files(results)
        steps = int(max(results.glob("checkpoint-*.h5")).stem.split("-")[1])
        self.program(*words, f"train.steps={steps}", "run.output=whole")
        self.program(*words, f"train.steps={steps}", "--restart", "run.output=results")
        # (The stop, a step like any, is not tested.)
        for name, part in (("weights.h5", "/params"), ("train.h5", "/train")):
            first, second = (harness.datasets(self.folder / folder / name) for folder in ("results", "whole"))
            for path in filter(lambda path: path.startswith(part), second):
                self.assertEqual(first[path].tobytes(), second[path].tobytes(), path)

    def wait_for(self, condition, process, seconds=60):
        for _ in range(seconds * 20):
            if condition():
                return
            self.assertIsNone(process.poll(), "it ended too early")
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        self.fail("what was waited for did not come")

    @needs_ranks()
    def test_a_run_that_stood_still_while_another_machine_took_its_folder_writes_nothing_more(self):
        with h5py.File(self.folder / "vectors.h5", "w") as file:
            file["vectors"] = np.ones((32, 28938))  # rows of the default network's parameters: four sweeps
        cases = {"hvp": (1, ("data.train_samples=6000", "hessian.samples=6000", "hvp.vectors=vectors.h5")),
                 "train": (2, ("data.train_samples=600", CONV, "train.batch=60", "train.steps=1000000",
                               "train.checkpoint_every=1000000", "train.log_every=0", "train.evaluate_every=1000000"))}
        runs, members, before = {}, [], {}
        for stage, (ranks, words) in cases.items():
            process = harness.launch(*words, "data.test_samples=50", f"run.stages={stage}", f"run.output={stage}",
                                     ranks=ranks, cwd=self.folder)
            runs[stage], journal = process, self.folder / stage / JOURNAL
            self.wait_for(lambda journal=journal: journal.exists() and journal.stat().st_size > 0, process)
            for pid in self.ranks_of(process) if ranks > 1 else [process.pid]:
                os.kill(pid, signal.SIGSTOP)
                members.append(pid)
            (self.folder / stage / LOCK).write_text(TAKER)
            before[stage] = self.contents(self.folder / stage)
        time.sleep(10)  # from one look at the lock to the next, so that it sees the name as soon as it goes on
        for pid in members:
            os.kill(pid, signal.SIGCONT)
        for stage, process in runs.items():
            done = harness.finish(process, timeout=60)
            self.assertEqual(done.code, EXIT_IO, str(done))
            self.assertEqual(len(done.errors), 1, str(done))
            self.assertIn(TAKEN, done.errors[0])
            self.assertEqual(self.contents(self.folder / stage), before[stage], str(done))
            self.assertNotIn('"event": "end"', (self.folder / stage / JOURNAL).read_text())

    def test_a_restart_that_stood_still_while_another_machine_took_its_folder_retires_no_checkpoint(self):
        words = ("data.train_samples=100", "data.test_samples=50", "model.layers=linear 10", "train.batch=50",
                 "train.checkpoint_every=2", "run.stages=train", "run.output=results")
        self.program(*words, "train.steps=2")
        results = self.folder / "results"
        (results / JOURNAL).unlink()
        endless, newer = results / "checkpoint-00000004.h5", results / "checkpoint-00000006.h5"
        with endless.open("wb") as file:
            file.truncate(ENDLESS)
        manifest = f"# hsgd-dist manifest 1\n# {ENDLESS} bytes\n{64 * '0'}  {endless.name}\n"
        commits.manifest_of(endless).write_text(manifest)
        process = harness.launch(*words, "train.steps=8", "--restart", cwd=self.folder)
        self.wait_for(lambda: self.has_open(process.pid, endless), process)  # to hash it
        os.kill(process.pid, signal.SIGSTOP)
        os.truncate(endless, 10)
        (results / LOCK).write_text(TAKER)
        newer.write_text("of the other run")
        before = self.contents(results)
        os.kill(process.pid, signal.SIGCONT)
        done = harness.finish(process, timeout=60)
        self.assertEqual(done.code, EXIT_IO, str(done))
        self.assertEqual(len(done.errors), 1, str(done))
        self.assertIn(TAKEN, done.errors[0])
        self.assertEqual(self.contents(results), before, str(done))

    def has_open(self, pid, path):
        """Has the process opened the file?"""
        try:
            return any(os.path.samefile(entry, path) for entry in Path(f"/proc/{pid}/fd").iterdir())
        except OSError:  # one of them was closed just now
            return False

    def contents(self, folder):
        """What the files hold, but for the journal, of which a line may be on its way."""
        return {path.name: path.read_bytes() if path.name != JOURNAL else "" for path in folder.iterdir()}

    def a_rank_of(self, process):
        """The process number of one rank."""
        return self.ranks_of(process)[0]

    def ranks_of(self, process):
        """The process numbers of the ranks: the children of the launcher that run the program."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(entry.read_text().rsplit(")", 1)[1].split()[1])
                program = os.readlink(entry.parent / "exe")
            except OSError:
                continue
            if parent == process.pid and os.path.samefile(program, harness.PROGRAM):
                found.append(int(entry.parent.name))
        self.assertTrue(found, "no rank was found")
        return found


class Stopped(ProgramTest):
    def test_a_signal_stops_after_a_checkpoint_and_a_restart_goes_on(self):
        words = ("data.train_samples=600", "data.test_samples=50", CONV,
                 "train.batch=60", "train.checkpoint_every=1000000", "train.steps=1000000", "run.stages=train",
                 "train.log_every=1", "run.output=results")
        process = harness.launch(*words, cwd=self.folder)
        time.sleep(3)
        process.send_signal(signal.SIGUSR1)
        done = harness.finish(process, timeout=60)
        self.assertEqual(done.code, harness.EXIT_STOPPED, str(done))
        steps = [int(path.stem.split("-")[1]) for path in (self.folder / "results").glob("checkpoint-*.h5")]
        self.assertEqual(len(steps), 1)
        self.program(*words, f"train.steps={steps[0] + 2}", "--restart")

    def test_a_time_limit_stops_after_a_checkpoint(self):
        done = self.program("data.train_samples=600", "data.test_samples=50", "train.steps=1000000", "run.time_limit=2",
                            "run.stages=train", "run.output=results", expect=harness.EXIT_STOPPED, timeout=60)
        self.assertEqual(done.errors, [])
        self.assertEqual(len(list((self.folder / "results").glob("checkpoint-*.h5"))), 1)

    def test_slurms_end_of_the_job_leaves_most_of_a_short_one_to_the_run(self):
        # 160 s are less than what a long job keeps in reserve; an end in the past is that of a limit since raised.
        endless = "train.steps=1000000"
        for name, seconds, words, expect in (("short", 160, (), 0), ("past", -50, (), 0),
                                             ("near", 2, (endless,), harness.EXIT_STOPPED),
                                             ("told", 160, (endless, "run.time_limit=0.01"), harness.EXIT_STOPPED)):
            # 100 steps: the clock is looked at every 1000 samples.
            self.program(*harness.SMALL, "run.stages=train", "train.steps=100", *words, f"run.output={name}",
                         expect=expect, SLURM_JOB_END_TIME=str(int(time.time()) + seconds))
            self.assertEqual((self.folder / name / "weights.h5").exists(), expect == 0, name)


if __name__ == "__main__":
    harness.main()
