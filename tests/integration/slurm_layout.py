"""How the batch scripts place their ranks, start and stop them, told by stand-ins for mpirun, srun and scontrol."""
import os
import subprocess
import unittest
from pathlib import Path

import harness
from harness import ProgramTest

JOBS = Path(__file__).resolve().parents[2] / "jobs" / "slurm"
SCRIPTS = ("train.sh", "spectrum.sh", "landscape.sh", "array.sh")
FREE = ["--bind-to", "none"]  # mpirun's options in front of all others
LAUNCHER = """#!/bin/sh
printf '%s\\n' "$@"
env | grep -E '^SLURM_(.*GPU|TRES_PER_TASK)' | sed 's/^/leaked /'
"""
# srun where MPI needs no more, in which two ranks do not find each other, which fails, and without the means for it.
SRUN = """#!/bin/sh
case "$*" in
    --mpi=list) printf '%%s\n' 'MPI plugin types are...' none %s; seq 20000 ;;
    *--version) %s ;;
    *) printf '%%s\\n' "$@" ;;
esac
"""
SRUNS = {"serves": SRUN % ("pmix", "echo noise >&2; echo hsgd-dist 1"), "none": SRUN % ("pmi2", "echo hsgd-dist 1"),
         "alone": SRUN % ("pmix", "echo hsgd-dist 1; echo hsgd-dist 1"),
         "fails": SRUN % ("pmix", "echo hsgd-dist 1; echo noise >&2; echo no plugin >&2; exit 1")}
# Slurm's word on a job, here one of the folder of the scripts.
SCONTROL = f"""#!/bin/sh
echo "JobId=7 JobName=x JobState=RUNNING EndTime=2030-01-02T03:04:05 Command={JOBS}/train.sh a=/b/c.sh WorkDir=/tmp"
"""
# What Slurm 22.05 was seen to set.
FOUR = {"SLURM_GPUS_ON_NODE": "4", "SLURM_GPUS_PER_NODE": "4", "SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS": "4",
        "SLURM_TASKS_PER_NODE": "4", "SLURM_CPUS_PER_TASK": "8", "SLURM_CPUS_ON_NODE": "32"}
TWICE_FOUR = FOUR | {"SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS": "8", "SLURM_TASKS_PER_NODE": "4(x2)"}


class Layout(ProgramTest):
    def setUp(self):
        super().setUp()
        for name in ("mpirun", "srun", "the-program"):
            self.stand_in(name, LAUNCHER)

    def stand_in(self, name, text):
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def run_script(self, script, words, variables, cwd=None):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "HSGD_", "OMPI_"))}
        environment = kept | {"PATH": f"{self.folder}/bin:{kept['PATH']}", "HSGD_BIN": "the-program"} | variables
        return subprocess.run(["bash", str(JOBS / script), *words], cwd=cwd or self.folder, env=environment,
                              capture_output=True, text=True, timeout=60, check=False)

    def placed(self, *words, script="train.sh", **variables):
        """The launcher's options, and the program's words but for the stages."""
        done = self.run_script(script, words, variables)
        self.assertEqual(done.returncode, 0, done.stderr)
        lines, self.told = done.stdout.splitlines(), done.stderr
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
        return [*FREE, "-np", str(gpus * nodes), "--map-by", f"ppr:{gpus}:node:OVERSUBSCRIBE"]

    def test_without_gpus_ranks_are_slurms_tasks(self):
        options, words = self.placed("train.epochs=1", SLURM_NTASKS="8", SLURM_CPUS_PER_TASK="2",
                                     SLURM_JOB_NUM_NODES="2", SLURM_TASKS_PER_NODE="5,3", SLURM_CPUS_ON_NODE="10")
        self.assertEqual(options, FREE)
        self.assertEqual(words, ["device.threads=2", "--restart", "train.epochs=1"])

    def test_ranks_are_as_many_as_slurm_counts_tasks(self):
        for tasks, ranks in (("16", 16), ("16(x2)", 32), ("7(x2),3,1(x4)", 21)):  # asked for by --ntasks-per-node
            options, _ = self.by_srun(SLURM_NTASKS="8", SLURM_TASKS_PER_NODE=tasks)
            self.assertIn(f"--ntasks={ranks}", options)

    def test_a_launcher_does_not_die_of_a_pipe_that_broke(self):
        for launcher in ("mpirun", "srun"):
            self.stand_in(launcher, "#!/bin/sh\nkill -s PIPE $$\nexit 9\n")
            done = self.run_script("train.sh", (), {"HSGD_LAUNCHER": launcher})
            self.assertEqual(done.returncode, 9, done.stderr)

    def outlive(self, first, seconds, code, launcher="mpirun", **variables):
        """A launcher that runs `first`, a rank, and itself ends with 3 after `seconds` more; gives what was said."""
        self.stand_in(launcher, f"#!/bin/bash\n{first}\n"
                                f"exec python3 -c 'import sys, time; time.sleep({seconds}); sys.exit(3)'\n")
        done = self.run_script("train.sh", (), {"HSGD_LAUNCHER": launcher, "HSGD_PATIENCE": "1"} | variables)
        self.assertEqual(done.returncode, code, f"{first}: {done.stderr}")
        self.assertEqual("without ranks" in done.stderr, code != 3, f"{first}: {done.stderr}")
        return done.stderr

    def test_an_mpirun_that_outlives_its_ranks_is_ended(self):
        """As Open MPI 4's may where a rank was lost."""
        self.outlive("sleep 0.1", 50, harness.EXIT_DEVICE)
        self.outlive("sleep 0.1 &", 50, harness.EXIT_DEVICE)  # which nobody waits for: a zombie
        self.stand_in("scontrol", SCONTROL)
        told = self.outlive("kill -TERM $PPID", 50, harness.EXIT_STOPPED, SLURM_JOB_ID="7", HSGD_REQUEUE="no")
        self.assertIn("stopped and saved, as far as is known", told)

    def test_an_mpirun_that_has_ranks_or_may_have_some_is_not(self):
        self.outlive("sleep 6 >/dev/null 2>&1 &", 4, 3)
        # Its first rank comes between two looks: a child of bash, which itself waits for nothing before.
        self.outlive("mkfifo late; read -t 4 <>late; sleep 5", 0, 3, HSGD_PATIENCE="3")
        self.outlive("sleep 0.1", 4, 3, launcher="srun")
        self.outlive("sleep 0.1", 3, 3, HSGD_PATIENCE="0")
        self.outlive("sleep 0.1", 3, 3, HSGD_PATIENCE="600")
        for works in (0, 1):  # a ps that does not know the words, and one that fails later
            asked = self.folder / f"asked{works}"
            self.stand_in("ps", f"#!/bin/sh\necho >>{asked}\n[ $(wc -l <{asked}) -le {works} ]\n")
            self.outlive("sleep 0.1", 4, 3)
            self.assertGreater(len(asked.read_text()), works)

    def test_a_patience_that_is_no_number_is_refused(self):
        for patience in ("1m", "-3", "00", "0.5"):
            done = self.run_script("train.sh", (), {"HSGD_PATIENCE": patience})
            self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
            self.assertIn(f"HSGD_PATIENCE={patience}: say whole seconds", done.stderr)

    def test_a_node_that_cannot_enter_the_jobs_folder_is_told(self):
        for folder, code in (("/tmp", 0), ("/scratch/a", 5)):
            self.stand_in("scontrol", SCONTROL.replace("WorkDir=/tmp", f"WorkDir={folder}"))
            done = self.run_script("train.sh", (), {"SLURM_JOB_ID": "7", "HSGD_LAUNCHER": "mpirun"}, cwd="/tmp")
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertEqual(f"cannot enter the job's folder {folder}:" in done.stderr, code != 0, done.stderr)

    def test_outside_slurm_it_is_one_plain_mpirun(self):
        self.assertEqual(self.placed(), (FREE, ["device.threads=1", "--restart"]))

    def test_four_gpus_of_a_node(self):
        for script in SCRIPTS[:3]:
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
        self.assertEqual(options, FREE)
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
        expected = (FREE, ["device.threads=8", "--restart", "device.backend=cpu"])
        self.assertEqual(self.placed("device.backend=cpu", **FOUR), expected)
        self.assertEqual(self.leaked, [])
        deck = self.folder / "deck.ini"
        deck.write_text("[device]\nbackend = cpu\n")
        options, words = self.placed(HSGD_DECK=str(deck), **FOUR)
        self.assertEqual((options, words), (FREE, [str(deck), "device.threads=8", "--restart"]))

    def test_gpus_of_the_job_that_this_one_was_submitted_from_do_not_count(self):
        others = FOUR | {"SLURM_JOB_ID": "7", "HSGD_LAUNCHER": "mpirun", "SLURM_GPUS": "4", "SLURM_JOB_GPUS": "0,1,2,3",
                         "SLURM_TRES_PER_TASK": "gres:gpu:1", "SLURM_NTASKS_PER_GPU": "1", "SLURM_GPU_BIND": "single:1"}
        for said, gpus in (("JOB_GRES=(null) TRES=cpu=2,node=1 GRES=", 0), ("JOB_GRES=gpu:4 TRES=cpu=2,node=1", 4),
                           ("TRES=cpu=2,node=1,gres/gpu=4", 4), ("AllocTRES=cpu=2,gres/gpu:a100=4", 4),
                           ("TRES=cpu=2,node=1 TresPerNode=gres:gpu:4", 4),
                           ("Gres=gpu:4 Reservation=(null)", 4)):
            self.stand_in("scontrol", SCONTROL.replace("JobState", f"{said} JobState"))
            options, words = self.placed(**others)
            self.assertEqual(options, self.layout(4, 1) if gpus > 0 else FREE, said)
            self.assertEqual("device.backend=cuda" in words, gpus > 0, said)
            self.assertEqual(self.leaked == [], gpus == 0, f"{said}: {self.leaked}")

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

    # ---- srun ----

    def by_srun(self, *words, **variables):
        return self.placed(*words, HSGD_LAUNCHER="srun", **variables)

    def test_srun_starts_slurms_tasks(self):
        options, words = self.by_srun(SLURM_NTASKS="8", SLURM_CPUS_PER_TASK="2", SLURM_CPUS_ON_NODE="16")
        self.assertEqual(options, ["--mpi=pmix", "--kill-on-bad-exit=1", "--ntasks=8", "--cpus-per-task=2"])
        self.assertEqual(words, ["device.threads=2", "--restart"])

    def test_srun_starts_a_rank_for_each_gpu_which_sees_all_of_its_node(self):
        for more in ({}, {"SLURM_GPUS": "8", "SLURM_GPU_BIND": "single:1", "SLURM_TRES_PER_TASK": "cpu:8"}):
            options, words = self.by_srun(**TWICE_FOUR | more)
            self.assertEqual(options, ["--mpi=pmix", "--kill-on-bad-exit=1", "--ntasks=8", "--cpus-per-task=8",
                                       "--ntasks-per-node=4", "--gpus-per-node=4", "--gpu-bind=none"])
            self.assertEqual(words, ["device.backend=cuda", "device.threads=8", "--restart"])
            self.assertEqual(sorted(self.leaked), ["leaked SLURM_GPUS_ON_NODE=4", "leaked SLURM_GPUS_PER_NODE=4"])

    def test_srun_puts_more_gpus_than_cores_to_use(self):
        options, words = self.by_srun(**FOUR | {"SLURM_NTASKS": "2", "SLURM_CPUS_PER_TASK": "1",
                                                "SLURM_CPUS_ON_NODE": "2"})
        self.assertIn("--overcommit", options)
        self.assertIn("--ntasks=4", options)
        self.assertIn("device.threads=1", words)

    def test_srun_puts_as_many_ranks_on_uneven_nodes(self):
        self.stand_in("scontrol", "#!/bin/sh\n[ \"$*\" = 'show hostnames n[1-2]' ] && printf 'n1\\nn2\\n'\n")
        nodes = "--nodelist=n1,n1,n1,n1,n2,n2,n2,n2"
        for cores, asked, threads, crowded in (("7,1", 1, 1, ["--overcommit"]), ("56,8", 8, 2, []), ("8,56", 8, 2, [])):
            options, words = self.by_srun(**TWICE_FOUR | {
                "SLURM_CPUS_PER_TASK": str(asked), "SLURM_CPUS_ON_NODE": cores.split(",", maxsplit=1)[0],
                "SLURM_JOB_CPUS_PER_NODE": cores, "SLURM_TASKS_PER_NODE": "7,1", "SLURM_JOB_NODELIST": "n[1-2]"})
            self.assertEqual(options, ["--mpi=pmix", "--kill-on-bad-exit=1", "--ntasks=8", f"--cpus-per-task={threads}",
                                       "--ntasks-per-node=4", "--gpus-per-node=4", *crowded, "--distribution=arbitrary",
                                       nodes, "--gpu-bind=none"], cores)
            self.assertIn(f"device.threads={threads}", words)
            self.assertEqual(self.placed(SLURM_JOB_CPUS_PER_NODE=cores, **TWICE_FOUR)[0], self.layout(4, 2))
        options, words = self.by_srun(**TWICE_FOUR | {"SLURM_JOB_CPUS_PER_NODE": "32(x2)"})
        self.assertNotIn(nodes, options)
        self.assertIn("device.threads=8", words)

    def test_srun_keeps_one_gpu_for_each_task_where_they_are_spread(self):
        options, _ = self.by_srun(**TWICE_FOUR | {"SLURM_GPUS_PER_TASK": "a100:1", "SLURM_NTASKS": "6",
                                                  "SLURM_TASKS_PER_NODE": "4,2", "SLURM_CPUS_PER_TASK": "3"})
        self.assertEqual(options, ["--mpi=pmix", "--kill-on-bad-exit=1", "--ntasks=6", "--cpus-per-task=3",
                                   "--gpus-per-task=1", "--gpu-bind=none"])

    def test_srun_is_taken_where_a_trial_shows_that_it_serves(self):
        self.stand_in("scontrol", SCONTROL)
        for name, told in (("serves", ""), ("alone", "hsgd-dist 1"), ("fails", "no plugin"), ("none", "no PMIx")):
            self.stand_in("srun", SRUNS[name])
            options, _ = self.placed(SLURM_JOB_ID="7", SLURM_NTASKS="2", SLURM_CPUS_PER_TASK="1")
            self.assertEqual(options[:1], ["--mpi=pmix"] if name == "serves" else FREE[:1], name)
            self.assertEqual("srun does not serve" in self.told, name != "serves", self.told)
            self.assertIn(told, self.told)
        self.stand_in("srun", SRUNS["serves"])
        self.assertEqual(self.placed(SLURM_JOB_ID="7", SLURM_NTASKS="2", HSGD_LAUNCHER="mpirun")[0], FREE)
        done = self.run_script("train.sh", (), {"HSGD_LAUNCHER": "rsh"})
        self.assertEqual(done.returncode, 2)
        self.assertIn("HSGD_LAUNCHER=rsh", done.stderr)

    # ---- what goes on around the ranks ----

    def test_the_common_part_is_found_from_the_copy_that_slurm_runs(self):
        spool, other = self.folder / "spool", self.folder / "elsewhere"
        spool.mkdir()
        other.mkdir()
        copy = spool / "slurm_script"
        copy.write_text((JOBS / "train.sh").read_text())
        decoy = self.folder / "jobs" / "slurm" / "common.sh"  # in the folder that it runs in
        decoy.parent.mkdir(parents=True)
        decoy.write_text("echo decoy\nexit 9\n")
        silent = "#!/bin/sh\nexit 1\n"
        for scontrol, variables, code in ((SCONTROL, {"SLURM_JOB_ID": "7"}, 0),
                                          (silent, {"HSGD_HOME": str(JOBS.parents[1])}, 0),
                                          (silent, {"SLURM_SUBMIT_DIR": str(JOBS.parents[1])}, 0), (silent, {}, 2)):
            self.stand_in("scontrol", scontrol)
            done = self.run_script(copy, (), {"SLURM_SUBMIT_DIR": str(other), "HSGD_LAUNCHER": "mpirun"} | variables)
            self.assertEqual(done.returncode, code, f"{variables}: {done.stderr}")
            self.assertEqual("the-program" in done.stdout.splitlines(), code == 0, variables)
            self.assertEqual("HSGD_HOME" in done.stderr, code == 2, done.stderr)

    def test_paths_are_meant_from_the_folder_that_slurm_starts_the_script_in(self):
        elsewhere = self.folder / "elsewhere"
        elsewhere.mkdir()
        self.stand_in("mpirun", "#!/bin/sh\npwd\n")
        done = self.run_script("train.sh", (), {"SLURM_SUBMIT_DIR": str(elsewhere)})  # as with sbatch --chdir
        self.assertEqual(done.stdout, f"{self.folder}\n", done.stderr)

    def test_a_program_or_a_deck_that_is_missing_is_told_once(self):
        done = self.run_script("train.sh", (), {"HSGD_BIN": "no/program"})
        self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (127, "", 1), done.stderr)
        self.assertIn("no program at no/program: build it", done.stderr)
        self.placed(HSGD_DECK="none.ini")
        self.assertNotIn("none.ini", self.told)  # the program tells it

    def test_ranks_get_what_the_scripts_set_whatever_sbatch_was_told_to_export(self):
        for launcher in ("mpirun", "srun"):
            self.stand_in(launcher, "#!/bin/sh\necho export $SLURM_EXPORT_ENV\n")
            done = self.run_script("train.sh", (), {"HSGD_LAUNCHER": launcher, "SLURM_EXPORT_ENV": "NONE"})
            self.assertEqual(done.stdout, "export ALL\n", done.stderr)

    def test_the_end_of_the_job_is_told_to_the_program(self):
        self.stand_in("mpirun", "#!/bin/sh\necho end $SLURM_JOB_END_TIME\n")
        for scontrol, before, told in ((SCONTROL, "", "1893553445"), (SCONTROL, "99", "99"),
                                       (SCONTROL.replace("2030-01-02T03:04:05", "Unknown"), "", ""),
                                       ("#!/bin/sh\nexit 1\n", "", "")):
            self.stand_in("scontrol", scontrol)
            done = self.run_script("train.sh", (), {"SLURM_JOB_ID": "7", "HSGD_LAUNCHER": "mpirun", "TZ": "UTC",
                                                    "SLURM_JOB_END_TIME": before})
            self.assertEqual(done.stdout.strip(), f"end {told}".strip(), done.stderr)

    def test_the_programs_code_is_the_jobs(self):
        for code in (0, 2, 75, 127, 137):
            self.stand_in("mpirun", f"#!/bin/sh\nexit {code}\n")
            self.assertEqual(self.run_script("train.sh", (), {}).returncode, code)
        self.stand_in("scontrol", SCONTROL)
        self.stand_in("mpirun", "#!/bin/sh\nexit 75\n")
        done = self.run_script("train.sh", (), {"SLURM_JOB_ID": "7", "HSGD_LAUNCHER": "mpirun", "HSGD_REQUEUE": "no"})
        self.assertIn("stopped with everything saved", done.stderr)

    def test_a_request_that_comes_before_the_ranks_listen_is_a_stop_as_well(self):
        self.stand_in("scontrol", SCONTROL)
        # The stand-in's parent is the script; what tells it is a TERM or a USR1, what it hears then is USR1.
        for name in ("USR1", "TERM"):
            self.stand_in("mpirun", f"""#!/usr/bin/env python3
import os, signal, time
signal.signal(signal.SIGUSR1, signal.SIG_DFL)
os.kill(os.getppid(), signal.SIG{name})
time.sleep(50)
""")
            done = self.run_script("train.sh", (), {"SLURM_JOB_ID": "7", "HSGD_LAUNCHER": "mpirun",
                                                    "HSGD_REQUEUE": "no"})
            self.assertEqual(done.returncode, harness.EXIT_STOPPED, done.stderr)
            self.assertIn("stopped before there was anything to save", done.stderr)
            self.assertEqual(done.stderr.count("asked to stop"), 1, done.stderr)
        self.stand_in("mpirun", "#!/bin/sh\nkill -USR1 $$\nexit 3\n")  # not asked; and ignored until it listens
        self.assertEqual(self.run_script("train.sh", (), {}).returncode, 3)

    # ---- arrays ----

    def test_an_array_deals_out_decks_and_seeds(self):
        decks = [self.folder / f"{name}.ini" for name in "abc"]
        for deck in decks:
            deck.write_text("[train]\nlr = 0.1\n")
        names = "\n".join(str(deck) for deck in decks)
        for number, variables, before in (
                ("5", {}, ["run.seed=5", "run.output=results/array/5-seed-5"]),
                ("1", {"HSGD_SEEDS": "7 11"}, ["run.seed=11", "run.output=results/array/1-seed-11"]),
                ("2", {"HSGD_DECKS": names}, [str(decks[2]), "run.output=results/array/2-c"]),
                ("3", {"HSGD_DECKS": names, "HSGD_SEEDS": "7\n11", "HSGD_OUTPUT": "out"},
                 [str(decks[1]), "run.seed=11", "run.output=out/3-b-seed-11"]),
                ("0", {"HSGD_DECK": str(decks[0]), "HSGD_SEEDS": "9"},
                 [str(decks[0]), "run.seed=9", "run.output=results/array/0-a-seed-9"])):
            _, words = self.placed("train.epochs=1", script="array.sh", SLURM_ARRAY_TASK_ID=number, **variables)
            self.assertEqual(words, [*before, "device.threads=1", "--restart", "train.epochs=1"])

    def test_an_array_refuses_what_would_go_wrong(self):
        for words, variables, text in (((), {}, "--array"),
                                       (("run.seed=3",), {"SLURM_ARRAY_TASK_ID": "1"}, "HSGD_SEEDS"),
                                       ((), {"SLURM_ARRAY_TASK_ID": "2", "HSGD_SEEDS": "7 11"}, "past the end"),
                                       (("run.output=x",), {"SLURM_ARRAY_TASK_ID": "0"}, "HSGD_OUTPUT")):
            done = self.run_script("array.sh", words, variables)
            self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
            self.assertIn(text, done.stderr)

    # ---- the pipeline ----

    def test_a_pipeline_is_submitted_whole_or_not_at_all(self):
        self.stand_in("scancel", "#!/bin/sh\necho cancelled $*\n")
        counting = """#!/bin/sh
n=$(cat count 2>/dev/null || echo 10); echo $((n + 1)) >count
echo "$@" >>submitted
[ "$n" -lt %d ] && echo "$n;cluster"
"""
        for most, code, told in ((99, 0, "10 train.sh\n11 spectrum.sh\n12 landscape.sh\n"),
                                 (12, 1, "10 train.sh\n11 spectrum.sh\ncancelled 10 11\n")):
            self.stand_in("sbatch", counting % most)
            (self.folder / "count").unlink(missing_ok=True)
            done = self.run_script("pipeline.sh", ("--ntasks=2", "train.epochs=1"), {})
            self.assertEqual((done.returncode, done.stdout), (code, told), done.stderr)
        lines = (self.folder / "submitted").read_text().splitlines()
        self.assertEqual(lines[0], f"--parsable --ntasks=2 {JOBS}/train.sh train.epochs=1")
        self.assertEqual(lines[2], "--parsable --ntasks=2 --dependency=afterok:11 --kill-on-invalid-dep=yes "
                                   f"{JOBS}/landscape.sh train.epochs=1")

    def test_the_scripts_begin_alike(self):
        def shared(script):
            lines = (JOBS / script).read_text().split("common.sh\"\n", 1)[0].splitlines()
            kept = [line for line in lines if line.startswith("#SBATCH") or not line.startswith("#")]
            return [line for line in kept if not line.startswith(("#SBATCH --job-name", "#SBATCH --output"))]

        for script in SCRIPTS[1:]:
            self.assertEqual(shared(script), shared(SCRIPTS[0]), script)


if __name__ == "__main__":
    harness.main()
