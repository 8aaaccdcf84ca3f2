"""How the batch scripts place their ranks, told by a stand-in for mpirun, for allocations with and without GPUs."""
import os
import subprocess
import unittest
from pathlib import Path

import harness
from harness import ProgramTest

JOBS = Path(__file__).resolve().parents[2] / "jobs" / "slurm"
SCRIPTS = ("train.sh", "spectrum.sh", "landscape.sh")
MPIRUN = """#!/bin/sh
printf '%s\\n' "$@"
env | grep -E '^SLURM_(GPUS|GPU_BIND|TRES_PER_TASK|NTASKS_PER_GPU)' | sed 's/^/leaked /'
"""
# What Slurm 22.05 was seen to set.
FOUR = {"SLURM_GPUS_ON_NODE": "4", "SLURM_GPUS_PER_NODE": "4", "SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS": "4",
        "SLURM_TASKS_PER_NODE": "4", "SLURM_CPUS_PER_TASK": "8", "SLURM_CPUS_ON_NODE": "32"}
TWICE_FOUR = FOUR | {"SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS": "8", "SLURM_TASKS_PER_NODE": "4(x2)"}


class Layout(ProgramTest):
    def setUp(self):
        super().setUp()
        stand_in = self.folder / "bin" / "mpirun"
        stand_in.parent.mkdir()
        stand_in.write_text(MPIRUN)
        stand_in.chmod(0o755)

    def run_script(self, script, words, variables):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "HSGD_", "OMPI_"))}
        environment = kept | {"PATH": f"{self.folder}/bin:{kept['PATH']}", "HSGD_BIN": "the-program"} | variables
        return subprocess.run(["bash", str(JOBS / script), *words], cwd=self.folder, env=environment,
                              capture_output=True, text=True, timeout=60, check=False)

    def placed(self, *words, script="train.sh", **variables):
        """mpirun's options, and the program's words but for the stages."""
        done = self.run_script(script, words, variables)
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stdout.splitlines()
        self.leaked = [line for line in lines if line.startswith("leaked ")]
        lines = [line for line in lines if line not in self.leaked]
        at = lines.index("the-program")
        return lines[:at], [line for line in lines[at + 1:] if not line.startswith("run.stages=")]

    def refused(self, **variables):
        done = self.run_script("train.sh", (), variables)
        self.assertEqual(done.returncode, 2, f"{done.stdout}\n{done.stderr}")
        self.assertEqual(done.stdout, "")
        self.assertIn("--gpus-per-node", done.stderr)

    def layout(self, gpus, nodes):
        return ["-np", str(gpus * nodes), "--map-by", f"ppr:{gpus}:node:OVERSUBSCRIBE"]

    def test_without_gpus_ranks_are_slurms_tasks(self):
        options, words = self.placed("train.epochs=1", SLURM_NTASKS="8", SLURM_CPUS_PER_TASK="2",
                                     SLURM_JOB_NUM_NODES="2", SLURM_TASKS_PER_NODE="5,3", SLURM_CPUS_ON_NODE="10")
        self.assertEqual(options, [])
        self.assertEqual(words, ["device.threads=2", "--restart", "train.epochs=1"])

    def test_outside_slurm_it_is_one_plain_mpirun(self):
        self.assertEqual(self.placed(), ([], ["device.threads=1", "--restart"]))

    def test_four_gpus_of_a_node(self):
        for script in SCRIPTS:
            options, words = self.placed(script=script, **FOUR)
            self.assertEqual(options, self.layout(4, 1), script)
            self.assertEqual(words, ["device.backend=cuda", "device.threads=8", "--restart"], script)

    def test_two_nodes_of_four_gpus(self):
        options, words = self.placed(**TWICE_FOUR)
        self.assertEqual(options, self.layout(4, 2))
        self.assertIn("device.threads=8", words)

    def test_more_tasks_than_gpus_share_their_cores(self):
        options, words = self.placed(**FOUR | {"SLURM_NTASKS": "8", "SLURM_TASKS_PER_NODE": "8",
                                               "SLURM_CPUS_PER_TASK": "1", "SLURM_CPUS_ON_NODE": "8"})
        self.assertEqual(options, self.layout(4, 1))
        self.assertIn("device.threads=2", words)

    def test_fewer_tasks_than_gpus_leave_no_gpu_idle(self):
        options, words = self.placed(**FOUR | {"SLURM_NTASKS": "2", "SLURM_TASKS_PER_NODE": "2",
                                               "SLURM_CPUS_PER_TASK": "1", "SLURM_CPUS_ON_NODE": "2"})
        self.assertEqual(options, self.layout(4, 1))
        self.assertIn("device.threads=1", words)

    def test_an_older_slurm_that_tells_the_gpus_numbers_alone(self):
        variables = {k: v for k, v in FOUR.items() if "GPUS" not in k} | {"SLURM_JOB_GPUS": "0,1,2,3"}
        self.assertEqual(self.placed(**variables)[0], self.layout(4, 1))

    def test_one_gpu_for_each_task_is_slurms_own_layout_even_if_uneven(self):
        options, words = self.placed(**TWICE_FOUR | {"SLURM_GPUS_PER_TASK": "a100:1", "SLURM_NTASKS": "6",
                                                     "SLURM_TASKS_PER_NODE": "4,2", "SLURM_CPUS_PER_TASK": "3"})
        self.assertEqual(options, [])
        self.assertEqual(words, ["device.backend=cuda", "device.threads=3", "--restart"])

    def test_several_gpus_for_each_task(self):
        options, words = self.placed(**FOUR | {"SLURM_GPUS_PER_TASK": "2", "SLURM_NTASKS": "2",
                                               "SLURM_TASKS_PER_NODE": "2", "SLURM_CPUS_ON_NODE": "16"})
        self.assertEqual(options, self.layout(4, 1))
        self.assertIn("device.threads=4", words)

    def test_a_total_of_gpus_that_falls_evenly(self):
        self.assertEqual(self.placed(**TWICE_FOUR | {"SLURM_GPUS": "h100:8"})[0], self.layout(4, 2))

    def test_uneven_gpus_are_refused(self):
        self.refused(**TWICE_FOUR | {"SLURM_GPUS": "6"})
        self.refused(**TWICE_FOUR | {"SLURM_GPUS_PER_TASK": "2", "SLURM_TASKS_PER_NODE": "2,1"})

    def test_the_cpu_may_be_asked_for_on_a_node_with_gpus(self):
        expected = ([], ["device.threads=8", "--restart", "device.backend=cpu"])
        self.assertEqual(self.placed("device.backend=cpu", **FOUR), expected)
        deck = self.folder / "deck.ini"
        deck.write_text("[device]\nbackend = cpu\n")
        options, words = self.placed(HSGD_DECK=str(deck), **FOUR)
        self.assertEqual((options, words), ([], [str(deck), "device.threads=8", "--restart"]))

    def test_the_decks_device_and_threads_stand(self):
        deck = self.folder / "deck.ini"
        deck.write_text("[device]\nbackend = auto\nthreads = 3\n")
        options, words = self.placed(HSGD_DECK=str(deck), **FOUR)
        self.assertEqual((options, words), (self.layout(4, 1), [str(deck), "--restart"]))

    def test_words_come_last_and_so_decide(self):
        words = self.placed("device.threads=5", **FOUR)[1]
        self.assertEqual(words[-1], "device.threads=5")

    def test_the_daemons_of_mpirun_get_all_gpus_of_their_node(self):
        self.placed(**TWICE_FOUR | {"SLURM_GPUS": "8", "SLURM_GPUS_PER_TASK": "1", "SLURM_GPU_BIND": "single:1",
                                    "SLURM_TRES_PER_TASK": "gres:gpu:1", "SLURM_NTASKS_PER_GPU": "1"})
        self.assertEqual(sorted(self.leaked), ["leaked SLURM_GPUS_ON_NODE=4", "leaked SLURM_GPUS_PER_NODE=4"])

    def test_the_scripts_differ_in_name_and_stages_alone(self):
        def shared(script):
            body = (JOBS / script).read_text().split("set -euo pipefail", 1)[1]
            return [line.split("run.stages=")[0].replace(script, "") for line in body.splitlines()]

        for script in SCRIPTS[1:]:
            self.assertEqual(shared(script), shared(SCRIPTS[0]), script)


if __name__ == "__main__":
    harness.main()
