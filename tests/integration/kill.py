"""Killed at any instant, on any number of ranks, a curvature stage goes on with --restart to an undisturbed run's bits.

HSGD_TEST_EVERY_CASE=1 kills each stage at 20 random instants, else at 1; HSGD_TEST_SEED gives others than seed 1.
"""
import os
import random
import shutil
import signal
import time

import harness
import tracing
from harness import EVERY_CASE, EXIT_IO, EXIT_STOPPED, EXIT_USAGE, MPIEXEC, ProgramTest, differences
from processes import Run, private_places

KEEPING = ("eigen", "density", "trace", "landscape")  # stages whose states must have been of use
# What the request to stop is made of in place of the stage's own words: it must come after the first state.
ASKED = {"landscape": ("landscape.directions=random", "landscape.plane=none", "landscape.points=81")}
PRECISIONS = {stage: ("single", "double") if EVERY_CASE else (precision,)
              for stage, precision in (("eigen", "single"), ("density", "double"), ("trace", "single"),
                                       ("landscape", "double"))}
INSTANTS = 10 if EVERY_CASE else 1  # for each stage and precision
MOST_KILLS = 3  # of one study; then it may end
SEED = int(os.environ.get("HSGD_TEST_SEED", "1"))

# Each stage takes 0.5 to 1 s on one core, in many steps.
DATA = ("data.train_samples=400", "data.test_samples=20", "hessian.samples=400", "run.snapshot_every=0",
        "model.layers=conv 4 5 / relu / maxpool 2 / conv 6 3 / tanh / maxpool 2 / linear 10")
STAGES = {
    "eigen": ("run.stages=eigen", "eigen.count=4", "eigen.max_products=150", "eigen.tolerance=1e-4"),
    "density": ("run.stages=density", "density.probes=4", "density.steps=20", "density.bins=500", "density.block=3"),
    "trace": ("run.stages=trace", "trace.method=hutchinson", "trace.probes=80"),
    "landscape": ("run.stages=landscape", "landscape.directions=eigenvector random", "landscape.points=15",
                  "landscape.plane=eigenvector1 random", "landscape.plane_points=5", "eigen.max_products=30"),
}


class Killed(ProgramTest):
    def setUp(self):
        super().setUp()
        self.random = random.Random(f"{SEED} {self.id()}")
        self.environment = private_places(self.folder)

    def ranks(self):
        return self.random.choice((1, 2, 3)) if MPIEXEC else 1

    def start(self, stage, *words, ranks=1):
        process = harness.launch(*DATA, *STAGES[stage], *words, ranks=ranks, cwd=self.folder, **self.environment)
        return Run(f"{stage}: begins", process)

    def whole(self, stage, precision, *words):
        """The folder of an undisturbed run, and the seconds of its stage."""
        run = self.start(stage, *words, f"model.precision={precision}", "run.output=whole")
        done = run.end()
        self.assertEqual(done.code, 0, str(done))
        return self.folder / "whole", time.monotonic() - run.began

    def wait_for_start(self, run):
        """Until the stage begins, or the run has ended."""
        if not run.started.wait(120):
            run.kill()
            self.fail(f"it hangs before the stage: {run.end()}")

    def check_same(self, whole, folder):
        self.assertEqual(sorted(path.name for path in folder.iterdir()),
                         sorted(path.name for path in whole.iterdir()))
        self.assertEqual(differences(whole, folder), [], f"{folder.name}, seed {SEED}")

    def kill_and_go_on(self, stage, precision, whole, seconds, output):
        """One study, killed a few times and then left alone: how often killed, and how often a state was of use."""
        kills = used = 0
        goal = self.random.randint(1, MOST_KILLS)
        words = (f"model.precision={precision}", f"run.output={output}")
        while True:
            run = self.start(stage, *words, *(("--restart",) if kills > 0 else ()), ranks=self.ranks())
            ended = kills == goal
            if not ended:
                self.wait_for_start(run)
                time.sleep(self.random.uniform(0.0, 0.9) * seconds)
                ended = not run.kill()
            done = run.end()
            used += f"{stage}: goes on from" in done.out
            if ended:
                self.assertEqual(done.code, 0, str(done))
                self.check_same(whole, self.folder / output)
                return kills, used
            kills += 1

    def check_stage(self, stage):
        total_kills = total_used = studies = 0
        for precision in PRECISIONS[stage]:
            whole, seconds = self.whole(stage, precision)
            kills = 0
            while kills < INSTANTS or (stage in KEEPING and total_used == 0):
                studies += 1
                more, used = self.kill_and_go_on(stage, precision, whole, seconds, f"killed-{studies}")
                kills += more
                total_used += used
                self.assertLess(studies, 20 + 4 * INSTANTS, f"killed {kills} times, {total_used} states were of use")
            total_kills += kills
            shutil.rmtree(whole)
        print(f"{stage}: {studies} studies, killed {total_kills} times, went on from a state {total_used} times: "
              f"the same bits", flush=True)

    def test_eigen(self):
        self.check_stage("eigen")

    def test_density(self):
        self.check_stage("density")

    def test_trace(self):
        self.check_stage("trace")

    def test_landscape(self):
        self.check_stage("landscape")


class Asked(Killed):
    """The same by request: SIGUSR1 leaves a state and exit code 75."""

    test_eigen = test_density = test_trace = test_landscape = None

    def check_stage(self, stage, ranks):
        words = (*ASKED.get(stage, ()), "model.precision=double", "run.output=asked", "run.snapshot_every=1000000")
        whole, seconds = self.whole(stage, "double", *ASKED.get(stage, ()))
        for attempt in range(6):  # a run that was done before it was asked is tried again, asked sooner
            run = self.start(stage, *words, ranks=ranks)
            self.wait_for_start(run)
            time.sleep(0.3 * seconds / 2 ** attempt)
            run.process.send_signal(signal.SIGUSR1)
            done = run.end()
            if done.code != 0:
                break
            shutil.rmtree(self.folder / "asked")
        self.assertEqual(done.code, EXIT_STOPPED, str(done))
        self.assertIn("--restart", done.out)
        self.assertEqual(done.errors, [])
        self.assertIn(f"{stage}-state.h5", [path.name for path in (self.folder / "asked").iterdir()])
        for more in ((), ("--restart", "run.seed=9")):  # neither overwritten nor taken for another's
            refused = self.start(stage, *words, *more).end()
            self.assertEqual((refused.code, len(refused.errors)), (EXIT_USAGE, 1), str(refused))
        self.check_unreadable(stage, words)
        done = self.start(stage, *words, "--restart", ranks=3 - ranks if MPIEXEC else 1).end()
        self.assertEqual(done.code, 0, str(done))
        self.assertIn(f"{stage}: goes on from", done.out)
        self.check_same(whole, self.folder / "asked")
        shutil.rmtree(whole)
        shutil.rmtree(self.folder / "asked")

    def check_unreadable(self, stage, words):
        """A disk that does not answer costs no state."""
        if shutil.which("strace") is None or not KEEPING[0] == stage:
            return
        state = self.folder / "asked" / f"{stage}-state.h5"
        for call in ("read", "pread64"):  # of the look at the manifest's sum, and of HDF5
            trace = tracing.tampering("/dev/null", [state.resolve()], call, "error=EIO")
            done = harness.finish(harness.launch(*DATA, *STAGES[stage], *words, "--restart", cwd=self.folder,
                                                 prefix=trace, **self.environment))
            self.assertEqual((done.code, len(done.errors)), (EXIT_IO, 1), str(done))
            self.assertIn(state.name, done.errors[0])
            self.assertTrue(harness.is_certified(state), str(done))

    def test_a_stage_that_is_asked_to_stop_goes_on_from_its_state(self):
        for stage in KEEPING:
            for ranks in (1, 2) if MPIEXEC and (EVERY_CASE or stage == "eigen") else (2,) if MPIEXEC else (1,):
                with self.subTest(stage=stage, ranks=ranks):
                    self.check_stage(stage, ranks)


if __name__ == "__main__":
    harness.main()
