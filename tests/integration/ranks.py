"""In reproducible mode the bits of every result are the same on any number of ranks and threads."""
import h5py

import harness
from harness import MPIEXEC, ProgramTest, differences, needs_ranks


class SameBits(ProgramTest):
    def test_ranks_and_threads_do_not_change_a_bit_of_any_file(self):
        one = self.study("r1t1", "device.threads=1")
        layouts = [(1, 2), (1, 3)]
        if MPIEXEC:
            layouts += [(2, 1), (2, 2), (3, 1), (4, 1), (7, 1), (8, 1)]
        for ranks, threads in layouts:
            with self.subTest(ranks=ranks, threads=threads):
                other = self.study(f"r{ranks}t{threads}", f"device.threads={threads}", ranks=ranks)
                self.assertEqual(differences(one, other), [])

    def test_a_batch_smaller_than_the_ranks_leaves_some_idle_and_changes_nothing(self):
        words = ("train.batch=3", "train.steps=4", "run.stages=train evaluate")
        one = self.study("one", *words)
        with self.subTest(ranks=8):
            if MPIEXEC:
                self.assertEqual(differences(one, self.study("eight", *words, ranks=8)), [])

    @needs_ranks()
    def test_a_rank_with_fewer_instructions_narrows_all_and_the_files_say_so(self):
        words = ("train.steps=4", "run.stages=train verify trace")
        all_narrow = self.study("all", *words, ranks=3, HSGD_INSTRUCTION_SET="generic")
        narrow_on_rank_1 = ("sh", "-c", 'test "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" != 1 || '
                            'export HSGD_INSTRUCTION_SET=generic; exec "$@"', "sh")
        one_narrow = self.study("one", *words, ranks=3, prefix=narrow_on_rank_1, HSGD_INSTRUCTION_SET=None)
        self.assertEqual(differences(all_narrow, one_narrow), [])
        with h5py.File(one_narrow / "trace.h5", "r") as file:
            self.assertEqual(file.attrs["instruction_set"], "generic")

    def test_another_seed_changes_the_results(self):
        words = ("run.stages=train",)
        self.assertNotEqual(differences(self.study("a", *words), self.study("b", *words, "run.seed=2")), [])


if __name__ == "__main__":
    harness.main()
