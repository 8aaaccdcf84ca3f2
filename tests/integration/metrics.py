"""metrics.jsonl tells, in whole lines of JSON, what the files of a study hold: also where it was killed or failed."""
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import h5py

import harness
from harness import EXIT_IO, EXIT_NUMERIC, EXIT_STOPPED, EXIT_USAGE, MPIEXEC, ProgramTest, differences

NAME = "metrics.jsonl"
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "output.md"
STAGES = ("train", "evaluate", "verify", "eigen", "density", "trace", "landscape")
ALWAYS = {"time": str, "elapsed": float, "event": str, "stage": str}
PACE = {"unit": str, "done": int, "total": int, "rate": float, "eta": float}
PAIRS = {"converged": int, "wanted": int, "worst_residual": float}
PARTS = ("compute", "communication", "input_output")
# The fields of each event beside ALWAYS, and of the events that are the stage's own.
FIELDS = {
    "begin study": {"program": str, "version": str, "git_commit": str, "command": str, "host": str, "ranks": int,
                    "restart": bool},
    "begin": {},
    "set-up": {"data_source": str, "train_samples": int, "test_samples": int, "parameters": int, "backend": str,
               "device": str, "communicator": str, "threads": int, "precision": str, "reduction": str},
    "step": {"step": int, "total": int, "epoch": float, "loss": float, "lr": float, "rate": float, "eta": float},
    "test": {"step": int, "epoch": float, "loss": float, "accuracy": float},
    "curvature": {"step": int, "largest": float, "two_over_lr": float, "trace": float, "gradient_share": float,
                  "not_converged": int},
    "checkpoint": {"file": str, "step": int, "seconds": float},
    "state": {"file": str, "seconds": float},
    "resume": {"file": str},
    "resume train": {"file": str, "step": int},
    "kept": {"file": str},
    "progress": PACE,
    "progress eigen": {**PACE, **PAIRS},
    "progress trace": {**PACE, "trace": float, "stderr": float},
    "ritz": {"products": int, "converged": int, "basis": int, "worst_residual": float, "largest": float},
    "result evaluate": {"samples": int, "loss": float, "accuracy": float},
    "result verify": {"hold": int, "skipped": int, "fail": int},
    "result hvp": {"products": int, "loss": float, "accuracy": float},
    "result eigen": {"products": int, **PAIRS, "largest": float, "smallest": float},
    "result density": {"probes": int, "steps": int, "deflated": int, "lowest_ritz": float, "highest_ritz": float},
    "result trace": {"method": str, "products": int, "trace": float, "stderr": float},
    "result landscape": {"points": int, "lowest_loss": float, "highest_loss": float},
    "warning": {"text": str},
    "stop": {},
    "stop train": {"step": int},
    "summary": {"ranks": int, "seconds": float, "seconds_most": float,
                **{f"{part}{most}": float for part in PARTS for most in ("", "_most")}},
    "end": {"seconds": float, "exit": int},
    "end study": {"seconds": float, "exit": int, "message": str},
}
MAY_BE_NULL = {"device", "rate", "eta", "stderr", "trace"}

# A training whose steps take well under a millisecond.
STEPS = ("data.train_samples=200", "data.test_samples=50", "model.layers=linear 10", "train.batch=50",
         "run.stages=train", "train.log_every=10", "train.checkpoint_every=200", "train.evaluate_every=1000")


def refuse_constant(name):
    """NaN and Infinity are no JSON."""
    raise ValueError(f"{name} is not JSON")


class Metrics(ProgramTest):
    def events(self, folder):
        """All lines of a folder's file, each held to what is documented."""
        content = (folder / NAME).read_text(encoding="utf-8")
        self.assertTrue(content.endswith("\n"))
        found = [json.loads(line, parse_constant=refuse_constant) for line in content.splitlines()]
        for event in found:
            self.check_fields(event)
        return found

    def check_fields(self, event):
        own = f"{event['event']} {event['stage']}"
        fields = {**ALWAYS, **FIELDS[own if own in FIELDS and event.get("unit") != "groups" else event["event"]]}
        self.assertEqual(event.keys(), fields.keys(), event)
        for name, kind in fields.items():
            if event[name] is not None or name not in MAY_BE_NULL:
                self.assertIs(type(event[name]), kind, (name, event))
        self.assertRegex(event["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")

    def steps(self, events):
        return [event["step"] for event in events if event["event"] == "step"]


class Study(Metrics):
    """A whole study, on two ranks, which prints nothing."""

    @classmethod
    def setUpClass(cls):
        case = ProgramTest()
        ProgramTest.setUp(case)
        cls.addClassCleanup(case.doCleanups)
        words = ("trace.method=hutchinson", "run.output=results", "--quiet", "run.snapshot_every=0", "device.threads=1")
        cls.done = case.program(*harness.SMALL, *words, ranks=2 if MPIEXEC else 1)
        cls.results = case.folder / "results"

    def setUp(self):
        self.lines = self.events(self.results)

    def of(self, event, stage=None):
        return [line for line in self.lines if line["event"] == event and stage in (None, line["stage"])]

    def test_lines_are_in_order_and_every_stage_begins_and_ends(self):
        elapsed = [line["elapsed"] for line in self.lines]
        self.assertEqual(elapsed, sorted(elapsed))
        self.assertEqual([line["stage"] for line in self.of("begin")], ["study", *STAGES])
        self.assertEqual([line["stage"] for line in self.of("end")], [*STAGES, "study"])
        self.assertEqual({line["exit"] for line in self.of("end")}, {0})
        self.assertEqual(self.lines[-1]["event"], "end")
        self.assertEqual(self.of("begin", "study")[0]["ranks"], 2 if MPIEXEC else 1)
        self.assertEqual(self.done.out, "")

    def test_losses_and_tests_are_those_of_the_file_bit_for_bit(self):
        with h5py.File(self.results / "train.h5") as file:
            for event, group, names in (("step", "train", ("step", "loss", "lr")),
                                        ("test", "test", ("step", "loss", "accuracy"))):
                for name in names:
                    self.assertEqual([line[name] for line in self.of(event)], file[group][name][()].tolist(), name)

    def test_checkpoints_are_told_of(self):
        self.assertEqual([(line["file"], line["step"]) for line in self.of("checkpoint")],
                         [("checkpoint-00000004.h5", 4), ("checkpoint-00000008.h5", 8)])

    def test_results_are_those_of_the_files(self):
        with h5py.File(self.results / "eigen.h5") as file:
            eigen = self.of("result", "eigen")[0]
            self.assertEqual((eigen["largest"], eigen["smallest"]), (file["eigenvalues"][0], file["eigenvalues"][-1]))
            self.assertEqual((eigen["products"], eigen["converged"]),
                             (file["products_used"][()], file["converged"][()].sum()))
        with h5py.File(self.results / "density.h5") as file:
            density, nodes = self.of("result", "density")[0], file["ritz_values"][()]
            self.assertEqual((density["lowest_ritz"], density["highest_ritz"]), (nodes.min(), nodes.max()))
        for stage, names in (("evaluate", ("loss", "accuracy")), ("trace", ("trace", "stderr"))):
            with h5py.File(self.results / f"{stage}.h5") as file:
                for name in names:
                    self.assertEqual(self.of("result", stage)[0][name], file[name][()], (stage, name))
        with h5py.File(self.results / "verify.h5") as file:
            verify = self.of("result", "verify")[0]
            self.assertEqual(verify["hold"] + verify["skipped"] + verify["fail"], len(file["checks"]))

    def test_progress_is_told_first_and_last(self):
        totals = {"verify": 9, "density": 20, "trace": 4, "landscape": 24}  # of harness.SMALL
        for stage, total in totals.items():
            lines = self.of("progress", stage)
            done = [line["done"] for line in lines]
            self.assertEqual((done, done[-1], {line["total"] for line in lines}), (sorted(done), total, {total}), stage)
            self.assertIsNone(lines[0]["rate"])  # of one look at the clock there is none
            self.assertIsNone(lines[0]["eta"])
        groups = self.of("progress", "evaluate")  # of rank 0
        self.assertEqual((groups[0]["done"], groups[-1]["done"]), (1, groups[-1]["total"]))
        self.assertEqual(self.of("progress", "eigen")[-1]["done"], self.of("ritz")[-1]["products"])

    def test_states_are_told_of(self):
        stages = {"eigen", "density", "trace", "landscape"}
        self.assertEqual({line["stage"] for line in self.of("state")}, stages)
        self.assertEqual({line["file"] for line in self.of("state")}, {f"{stage}-state.h5" for stage in stages})

    def test_the_parts_of_a_stage_make_up_its_time(self):
        rows = self.of("summary")
        self.assertEqual([row["stage"] for row in rows], ["set-up", *STAGES, "study"])
        for row in rows:
            mean = [row[part] for part in PARTS]
            self.assertGreaterEqual(min(mean), 0.0, row)
            self.assertAlmostEqual(sum(mean), row["seconds"], delta=3e-6, msg=str(row))  # of rounded numbers
            for part in ("seconds", *PARTS):
                self.assertLessEqual(row[part], row[f"{part}_most"] + 2e-6, row)
        self.assertLessEqual(sum(row["seconds"] for row in rows[:-1]), rows[-1]["seconds"] + 1e-4)

    def test_a_restart_that_finds_all_done_adds_that(self):
        before = (self.results / NAME).read_bytes()
        done = harness.finish(harness.launch(*self.done.command[self.done.command.index(harness.PROGRAM) + 1:],
                                             "--restart", cwd=self.results.parent))
        self.assertEqual(done.code, 0, str(done))
        after = (self.results / NAME).read_bytes()
        self.assertEqual(after[:len(before)], before)
        added = self.events(self.results)[len(self.lines):]
        self.assertEqual([line["stage"] for line in added if line["event"] == "kept"], list(STAGES[1:]))
        self.assertEqual((added[0]["restart"], added[-1]["exit"]), (True, 0))
        (self.results / NAME).write_bytes(before)  # for the tests after this one

    def test_every_event_and_field_is_documented(self):
        text = DOCUMENT.read_text(encoding="utf-8")
        told = set(re.findall(r"`([a-z_-]+)`", text))
        names = set(ALWAYS).union(*FIELDS.values(), (key.split()[0] for key in FIELDS))
        self.assertEqual(sorted(names - told), [])


class Runs(Metrics):
    def test_after_a_kill_all_lines_are_whole_and_no_step_is_missing(self):
        results = self.folder / "results"
        process = harness.launch(*STEPS, "train.steps=10000000", "run.output=results", cwd=self.folder)
        while not (results / "checkpoint-00000400.h5").exists():
            self.assertIsNone(process.poll(), "it ended too early")
            time.sleep(0.01)
        process.kill()
        harness.finish(process)
        killed = self.steps(self.events(results))
        self.assertEqual(killed, list(range(10, killed[-1] + 10, 10)))
        with open(results / NAME, "ab") as file:
            file.write(b'{"time": "2026-01-31T12:00:00Z", "elapsed": 1.5, "event": "st')
        total = killed[-1] + 400
        self.program(*STEPS, f"train.steps={total}", "run.output=results", "--restart")
        events = self.events(results)
        again = self.steps(events)[len(killed):]
        resumed = next(event["step"] for event in events if event["event"] == "resume")
        self.assertEqual(again, list(range(resumed - resumed % 10 + 10, total + 1, 10)))
        self.assertLessEqual(resumed, killed[-1] + 10)
        self.assertEqual(len([event for event in events if event["stage"] == "study" and event["event"] == "begin"]), 2)
        with h5py.File(results / "train.h5") as file:
            losses = file["train/loss"][()]
        for event in events:
            if event["event"] == "step":
                self.assertEqual(event["loss"], losses[event["step"] - 1])

    def test_a_training_that_diverges_says_so_last(self):
        done = self.program(*STEPS, "train.steps=1000", "train.lr=1e30", "run.output=results", expect=EXIT_NUMERIC)
        end = self.events(self.folder / "results")[-1]
        self.assertEqual((end["event"], end["stage"], end["exit"]), ("end", "study", EXIT_NUMERIC))
        self.assertEqual(done.errors, [f"{harness.ERROR} {end['message']}"])

    def test_an_exact_trace_tells_of_its_samples(self):
        folder = self.study("results", "run.stages=trace", "trace.method=exact", "device.threads=1")
        lines = [line for line in self.events(folder) if line["event"] == "progress"]
        whole = [(line["unit"], line["done"], line["total"]) for line in lines if line["done"] == line["total"]]
        self.assertEqual(whole, [("groups", 7, 7)])  # 64 samples by tens

    def test_a_stop_is_told_with_its_step(self):
        self.program(*STEPS, "train.steps=10000000", "train.checkpoint_every=0", "run.time_limit=1",
                     "run.output=results", expect=EXIT_STOPPED)
        events = self.events(self.folder / "results")
        stop, *ends = [event for event in events if event["event"] in ("stop", "end")]
        self.assertTrue((self.folder / "results" / f"checkpoint-{stop['step']:08}.h5").exists())
        self.assertEqual([(end["stage"], end["exit"]) for end in ends],
                         [("train", EXIT_STOPPED), ("study", EXIT_STOPPED)])

    def test_text_from_outside_is_json_whatever_it_holds(self):
        words = (*STEPS, "train.steps=4", 'run.output=quote"back\\slash\ttab\u20ac')
        self.program(*words)
        begin = self.events(self.folder / words[-1].split("=", 1)[1])[0]
        self.assertTrue(begin["command"].split(" ", 1)[1].startswith(" ".join(words)), begin)

    def test_of_a_run_that_is_refused_nothing_is_written(self):
        self.program(*STEPS, "train.steps=4", "--dry-run", "run.output=results")
        self.assertEqual(list(self.folder.iterdir()), [])
        self.program(*STEPS, "train.steps=40", "train.checkpoint_every=20", "run.output=results")
        results = self.folder / "results"
        for name in ("train.h5", "weights.h5"):  # half done
            (results / name).unlink()
        before = (results / NAME).read_bytes()
        for words in ((), ("--restart", "train.lr=0.5"), ("--restart", "--dry-run")):
            expect = 0 if "--dry-run" in words else EXIT_USAGE
            self.program(*STEPS, "train.steps=40", *words, "run.output=results", expect=expect)
            self.assertEqual((results / NAME).read_bytes(), before)

    def test_a_line_that_cannot_be_written_stops_the_run_with_a_checkpoint(self):
        if shutil.which("strace") is None:
            self.skipTest("strace is missing")
        words = (*STEPS, "train.steps=400", "run.output=results")
        # Lines: begin, warning, set-up, begin, then a step each; the eighth fails, and all after it.
        inject = ("strace", "-f", "-qq", "-o", "/dev/null", "-P", str(self.folder / "results" / NAME), "-e",
                  "trace=write", "-e", "inject=write:error=ENOSPC:when=5+")
        done = self.program(*words, prefix=inject, expect=EXIT_IO)
        self.assertEqual(len(done.errors), 1, str(done))
        self.assertRegex(done.errors[0], rf"{NAME}: cannot write a line: No space left on device;.*--restart")
        results = self.folder / "results"
        self.assertLess(max(self.steps(self.events(results))), 100)
        stopped = [int(path.stem.split("-")[1]) for path in results.glob("checkpoint-*.h5")]
        self.assertEqual(len(stopped), 1, "it went on for long, or lost what it had")
        self.assertLess(stopped[0], 200)
        self.program(*words, "--restart")
        self.program(*STEPS, "train.steps=400", "run.output=whole")
        self.assertEqual(differences(self.folder / "whole", results), [])


if __name__ == "__main__":
    harness.main()
