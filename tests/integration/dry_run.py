"""--dry-run: tells work, places, memory and disk of the study at hand, refuses what the run would, writes nothing."""
import re

import h5py
import numpy as np

import harness
from harness import EXIT_DATA, EXIT_DEVICE, EXIT_USAGE, SMALL, ProgramTest, needs_ranks


class DryRun(ProgramTest):
    def dry(self, *words, **options):
        """A dry run that must succeed; its lines."""
        done = self.program(*SMALL, "--dry-run", "run.output=dry", *words, **options)
        self.assertFalse((self.folder / "dry").exists(), str(done))
        return done.out.splitlines()

    def stage(self, name, *words):
        """The line of one stage."""
        return next(line for line in self.dry(*words) if line.startswith(f"stage {name}"))

    def megabytes(self, start, *words, **options):
        """The first number of MiB in the first line that begins with `start`."""
        line = next(line for line in self.dry(*words, **options) if line.startswith(start))
        return float(re.search(r"([0-9.]+) MiB", line).group(1))

    def test_nothing_is_written(self):
        self.dry()
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_the_work_follows_the_keys(self):
        for name, words, told in (
                ("train", (), "240 images"),
                ("train", ("train.curvature_every=4",),
                 "3 measurements, each of at most 42 products and an exact trace"),
                ("train", ("train.curvature_every=3", "trace.method=hutchinson"), "3 measurements, each of at most 46"),
                ("eigen", ("eigen.count=3",), "at most 46 products"),  # 40, and the residuals of 6 pairs
                ("density", (), "20 products"),
                ("trace", (), "exact"),
                ("trace", ("trace.method=hutchinson",), "4 products"),
                ("trace", ("trace.method=hutch++", "trace.tolerance=0.1"), "hutch++: at most 4 products"),
                ("trace", ("model.layers=conv 4 5 / tanh / linear 10",), "4 products"),
                ("trace", ("model.layers=conv 4 5 / tanh / linear 10", "hessian.operator=gauss-newton"), "exact"),
                ("landscape", (), "24 points: 3 directions and a plane"),
                ("landscape", ("landscape.plane=none", "landscape.directions=random"), "5 points: 1 directions"),
                ("landscape", ("run.stages=train landscape",), "eigen stage")):
            with self.subTest(name=name, words=words):
                self.assertIn(told, self.stage(name, *words))
        with h5py.File(self.folder / "list.h5", "w") as file:
            file["vectors"] = np.ones((7, 10 * 784 + 10))
        told = self.stage("hvp", "model.layers=linear 10", "run.stages=hvp", "hvp.vectors=list.h5")
        self.assertIn("7 products", told)

    def test_only_a_valid_eigen_file_saves_its_search(self):
        self.study("done", "run.stages=eigen")
        for stages in (("run.stages=density", "density.deflate=true"),
                       ("run.stages=landscape", "landscape.plane=none")):
            for words, searched in (((), False), (("eigen.count=1",), True), (("hessian.samples=60",), True)):
                with self.subTest(stages=stages, words=words):
                    done = self.program(*SMALL, *stages, *words, "--dry-run", "--restart", "run.output=done")
                    self.assertEqual("before them the eigen stage" in done.out, searched, str(done))

    def test_memory_and_disk_follow_the_keys(self):
        kept = self.megabytes("rank 0:", "hessian.samples=200", "hessian.cache=auto")
        self.assertGreater(kept, self.megabytes("rank 0:", "hessian.samples=200", "hessian.cache=0"))
        self.assertGreater(self.megabytes("rank 0:", "device.threads=4"), self.megabytes("rank 0:", "device.threads=1"))
        # 2000 more images of 28 x 28 are 1.5 MiB on the node.
        images = self.megabytes("node", "data.train_samples=2200") - self.megabytes("node")
        self.assertAlmostEqual(images, 2000 * 785 / 2**20, delta=0.15)
        self.assertGreater(self.megabytes("disk:", "train.checkpoint_keep=100"), self.megabytes("disk:"))
        self.assertGreater(self.megabytes("disk:", "density.bins=1000000"), self.megabytes("disk:") + 30)

    def test_probes_count_as_vectors_only_where_a_file_holds_them(self):
        few, many = (("run.stages=density", "density.steps=2", f"density.probes={probes}") for probes in (500, 100000))
        # nodes and weights twice, and the measure: seven numbers a node
        self.assertAlmostEqual(self.megabytes("rank 0:", *many) - self.megabytes("rank 0:", *few),
                               7 * 8 * 2 * (100000 - 500) / 2**20, delta=1.0)
        n = 104 + 222 + 2950  # parameters
        with h5py.File(self.folder / "start.h5", "w") as file:
            file["start"] = np.ones((500, n))
        given = self.megabytes("rank 0:", *few, "density.start=start.h5")
        self.assertAlmostEqual(given - self.megabytes("rank 0:", *few), 8 * 500 * n / 2**20, delta=1.0)

    def test_what_does_not_fit_is_told_with_the_key_that_counts(self):
        for word, advice in (("density.accuracy=4.5e-5", "raise density.accuracy"),  # ten steps each: 0.5 TiB
                             ("density.probes=999999999", "lower density.probes")):
            done = self.program("data.train_samples=200", "data.test_samples=100", "run.stages=density",
                                "hessian.layers=out.bias", word, "--dry-run", expect=EXIT_DEVICE)
            self.assertIn(advice, done.errors[0])

    def test_measurements_along_the_training_count_beside_it(self):
        train = ("run.stages=train", "hessian.cache=0", "device.threads=1")
        n = int(next(line.split()[1] for line in self.dry(*train) if line.startswith("parameters:")))
        basis = 8 * 128 * n / 2**20  # on the CPU, one rank
        plain = self.megabytes("rank 0:", *train)
        self.assertGreater(self.megabytes("rank 0:", *train, "train.curvature_every=4"), plain + basis)
        pairs = self.megabytes("disk:", *train, "train.curvature_every=4", "train.curvature_count=40")
        self.assertGreater(pairs, self.megabytes("disk:", *train) + 3 * 8 * 40 * n / 2**20)  # in three checkpoints
        every = "train.curvature_every=4"
        passes = [float(re.search(r"about (\S+) forward", self.stage("train", *train, *words)).group(1))
                  for words in ((), (every,), (every, "trace.method=hutchinson"))]
        # 64 samples: noise 3, 40 products, 2 residuals; a gradient is 3 passes, the exact trace 1 + 2 * 10, a probe 6
        for told, trace in zip(passes[1:], (21, 4 * 6)):
            self.assertAlmostEqual(told - passes[0], 64 * (6 * 3 + 3 * (6 * 42 + 3 + trace)), delta=0.01 * told)

    def test_what_the_run_would_refuse_is_refused(self):
        folder = self.study("dry", "run.stages=train")
        before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
        done = self.program(*SMALL, "--dry-run", "run.output=dry", expect=EXIT_USAGE)
        self.assertIn("--restart", done.errors[0])
        done = self.program(*SMALL, "--dry-run", "run.output=dry", "run.stages=evaluate", "--restart")
        self.assertIn("weights: dry/weights.h5", done.out)
        self.assertEqual({path.name: path.stat().st_mtime_ns for path in folder.iterdir()}, before)
        self.refused(*SMALL, "--dry-run", "hessian.samples=500", expect=EXIT_USAGE)
        self.refused(*SMALL, "--dry-run", "data.dir=nowhere", expect=EXIT_DATA)

    @needs_ranks()
    def test_every_rank_tells_its_place(self):
        lines = self.dry("device.threads=1", ranks=3)
        place = re.compile(r"rank \d: host \S+, local rank \d, device cpu \(\w+\), 1 thr")
        places = [line for line in lines if place.match(line)]
        self.assertEqual(len(places), 3, lines)
        self.assertEqual(sum(line.startswith("node ") for line in lines), 1, lines)


if __name__ == "__main__":
    harness.main()
