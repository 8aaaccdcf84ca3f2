"""In reproducible mode the bits of every result are the same on any number of ranks and threads."""
import harness
from harness import MPIEXEC, ProgramTest, differences


class SameBits(ProgramTest):
    def test_ranks_and_threads_do_not_change_a_bit_of_any_file(self):
        one = self.study("r1t1", "device.threads=1")
        layouts = [(1, 2)]
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

    def test_another_seed_changes_the_results(self):
        words = ("run.stages=train",)
        self.assertNotEqual(differences(self.study("a", *words), self.study("b", *words, "run.seed=2")), [])


if __name__ == "__main__":
    harness.main()
