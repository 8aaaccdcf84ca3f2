"""Killed with kill -9 at any instant, on 1, 2, 4 or 8 ranks, a training goes on with --restart and no run is lost.

HSGD_TEST_EVERY_CASE=1 kills 1,000 times, else 20; HSGD_TEST_SEED gives other instants than seed 1.
"""
import os
import random
import re
import shutil
import time

import commits
import harness
import processes
from harness import EVERY_CASE, MPIEXEC
from processes import Run

KILLS = 1000 if EVERY_CASE else 20
MOST_KILLS = 10 if EVERY_CASE else 5  # of one training; then it may end
AHEAD = 8  # steps beyond its start within which a run is killed
RANKS = (1, 2, 4, 8) if MPIEXEC else (1,)
SEED = int(os.environ.get("HSGD_TEST_SEED", "1"))
WORKERS = int(os.environ.get("HSGD_TEST_WORKERS", "2"))

# Some 0.3 s of updates on one core, a checkpoint after every second one.
STEPS = 40
TRAINING = ("data.train_samples=200", "data.test_samples=20", "train.batch=50", f"train.steps={STEPS}",
            "model.layers=conv 4 5 / relu / maxpool 4 / linear 10", "train.momentum=0.9", "train.checkpoint_every=2",
            "train.evaluate_every=10", "run.stages=train", "device.threads=1")


class Killed(harness.ProgramTest):
    def start(self, output, *words, ranks=1, places=None):
        process = harness.launch(*TRAINING, f"run.output={output}", *words, ranks=ranks, cwd=self.folder,
                                 **(places or {}))
        return Run("train: begins", process)

    def check_start(self, done, step, text):
        """The run went on from the newest checkpoint that was committed, or afresh where there was none."""
        if "train: begins" in done.out and any(line.startswith("train: ") for line in done.out.split("begins\n")[-1:]):
            expected = f"checkpoint-{step:08d}.h5 (step {step} of {STEPS})" if step > 0 else "from initialisation"
            self.assertIn(expected, done.out, text)

    def wait(self, run, output, before, dice):
        """Until an instant to kill at: somewhere in the next steps, or (one time in four) in the start of the run."""
        if dice.random() < 0.25:
            time.sleep(dice.uniform(0.0, 1.0))
            return
        step = before + dice.randint(0, AHEAD)
        deadline = time.monotonic() + 120
        while run.process.poll() is None and commits.committed(output) < step:
            if time.monotonic() > deadline:
                run.kill()
                self.fail(f"it hangs before step {step}: {run.end()}")
            time.sleep(0.002)
        time.sleep(dice.uniform(0.0, 0.02))

    def kill_and_go_on(self, number):
        """One training, killed a few times and then left alone: kills by ranks, and how often a checkpoint was used."""
        dice = random.Random(f"{SEED} {number}")
        kills, used, runs, output = dict.fromkeys(RANKS, 0), 0, number, self.folder / f"killed-{number}"
        while True:
            ranks, before = RANKS[runs % len(RANKS)], commits.committed(output)
            places = processes.private_places(self.folder)
            run = self.start(output.name, "--restart", ranks=ranks, places=places)
            killed = False
            if sum(kills.values()) < MOST_KILLS:
                self.wait(run, output, before, dice)
                killed = run.kill()
            done = run.end()
            shutil.rmtree(places["TMPDIR"])
            self.assertEqual(commits.unfit(output), [], str(done))
            self.check_start(done, before, f"training {number}, seed {SEED}\n{done}")
            runs += 1
            used += before > 0
            kills[ranks] += killed
            if not killed:
                self.assertEqual(done.code, 0, str(done))
                self.check_same(output)
                return kills, used

    def check_same(self, output):
        names, expected = ({path.name for path in place.iterdir()} for place in (output, self.whole))
        # Of a checkpoint whose commit was cut short --restart keeps what there is.
        names = {name for name in names if not re.fullmatch(r"(weights|checkpoint-\d{8})\.h5\.old", name)}
        self.assertEqual(names, expected, f"{output.name}, seed {SEED}")
        self.assertEqual(harness.differences(self.whole, output), [], f"{output.name}, seed {SEED}")
        shutil.rmtree(output)

    def test_a_killed_training_is_never_lost(self):
        self.whole = self.folder / "whole"
        self.program(*TRAINING, "run.output=whole")
        total, used, trainings = dict.fromkeys(RANKS, 0), 0, 0
        while sum(total.values()) < KILLS:
            more = -(-(KILLS - sum(total.values())) // MOST_KILLS)
            some = [(trainings + i,) for i in range(more)]
            trainings += more
            for kills, uses in processes.all_hold(self, self.kill_and_go_on, some, WORKERS):
                used += uses
                total = {ranks: total[ranks] + kills[ranks] for ranks in RANKS}
        self.assertGreater(used, 0)
        by_ranks = ", ".join(f"{number} on {ranks}" for ranks, number in total.items())
        print(f"{sum(total.values())} kills of {trainings} trainings ({by_ranks}, number of ranks): went on from a "
              f"checkpoint {used} times, no run lost, no hang, the same bits", flush=True)


if __name__ == "__main__":
    harness.main()
