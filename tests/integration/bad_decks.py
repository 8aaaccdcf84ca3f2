"""Broken decks, words and command lines: each is exit 2 with one message, and nothing is written."""
from concurrent.futures import ThreadPoolExecutor

import harness
from harness import EXIT_USAGE, ProgramTest, needs_ranks

# Values that must be refused, by key.
VALUES = {
    "run.stages": ("", "tain", "train;evaluate", "train,eigen"),
    "run.output": ("",),
    "run.seed": ("", "-1", "1.5", "99999999999999999999", "one"),
    "run.reduction": ("", "exact"),
    "run.time_limit": ("-5", "ten"),
    "run.stall_timeout": ("-1", "1.5", "never"),
    "data.train_samples": ("-1", "many"),
    "data.test_samples": ("1e3x",),
    "data.normalize": ("0.1", "0.1 0", "0.1 -1", "a b", "0 1 2"),
    "model.layers": (
        "", "conv 16 5", "conf 16 5 / linear 10", "conv 16 / linear 10", "conv 0 5 / linear 10",
        "conv 16 4 / linear 10", "conv 16 5 3 / linear 10", "linear 9", "linear 10 / maxpool 2",
        "linear 10 / conv 4 3 / linear 10", "maxpool 29 / linear 10", "maxpool 0 / linear 10", "relu 3 / linear 10",
        "linear 10 / relu", "linear 10 / / linear 10", "linear x"),
    "model.precision": ("half", "Single2"),
    "model.init": ("",),
    "train.epochs": ("-1", "five"),
    "train.steps": ("-2",),
    "train.batch": ("0", "-100", "1.5"),
    "train.lr": ("0", "-0.1", "nan", "inf", "fast"),
    "train.schedule": ("linear", "step", "step 0 0.1", "step 2 x"),
    "train.momentum": ("-0.1", "1.5", "nan"),
    "train.dampening": ("2",),
    "train.weight_decay": ("-1",),
    "train.nesterov": ("maybe",),
    "train.shuffle": ("2",),
    "train.log_every": ("-1",),
    "train.checkpoint_every": ("-1",),
    "train.checkpoint_keep": ("-1",),
    "train.evaluate_every": ("-1",),
    "train.curvature_every": ("-1",),
    "train.curvature_count": ("0",),
    "train.curvature_tolerance": ("0", "2"),
    "hessian.split": ("both",),
    "hessian.samples": ("-1",),
    "hessian.first": ("-1",),
    "hessian.operator": ("fisher",),
    "hessian.layers": ("conv3", "conv1.gain", "relu1", "conv1 conv1", "out out.bias", "all conv1", ","),
    "hessian.batch": ("-1",),
    "hessian.cache": ("lots",),
    "hessian.resample": ("-1", "1", "2001"),
    "eigen.method": ("qr",),
    "eigen.count": ("0", "-2"),
    "eigen.which": ("top",),
    "eigen.tolerance": ("0", "-1"),
    "eigen.max_products": ("0",),
    "eigen.basis": ("-1",),
    "eigen.block": ("-1",),
    "eigen.confirm": ("maybe",),
    "eigen.require_convergence": ("perhaps",),
    "density.probes": ("0",),
    "density.steps": ("0",),
    "density.groups": ("-1",),
    "density.bins": ("1",),
    "density.sigma_squared": ("0", "-1"),
    "density.overhead": ("-1",),
    "density.distribution": ("gauss",),
    "density.accuracy": ("-0.1", "1.5"),
    "density.deflate": ("some",),
    "trace.method": ("guess",),
    "trace.probes": ("0",),
    "trace.tolerance": ("-1",),
    "landscape.directions": ("up", "eigenvector0", "file0"),
    "landscape.points": ("0",),
    "landscape.range": ("0", "-1"),
    "landscape.plane": ("random", "random random gradient"),
    "landscape.plane_points": ("0",),
    "landscape.normalize": ("layer",),
    "device.backend": ("tpu",),
    "device.threads": ("-1",),
    "device.allreduce": ("gossip",),
}
# Words without a known key.
NAMELESS = ("run.stage=train", "data.normalise=none", "modle.layers=linear 10", "hessian.cash=auto", "devise.threads=1",
            "device.thread=1", "seed=1", "run.=1", ".seed=1", "run.seed", "=1", "run.seed.x=1")
WORDS = [f"{key}={value}" for key, values in VALUES.items() for value in values] + list(NAMELESS)
# Words that are right alone and wrong together, or wrong for the data (200 and 100 generated digits).
CONFLICTS = (
    ("eigen.method=power", "eigen.which=both"),
    ("eigen.method=power", "eigen.which=smallest"),
    ("train.nesterov=true",),
    ("train.nesterov=true", "train.momentum=0.9", "train.dampening=0.1"),
    ("trace.method=hutch++", "trace.probes=2"),
    ("trace.method=exact", "model.layers=conv 4 5 / tanh / maxpool 2 / linear 10"),
    ("trace.method=exact", "model.layers=conv 4 5 / tanh / maxpool 2 / linear 10", "run.stages=train", "train.steps=1",
     "train.curvature_every=1"),
    ("run.stages=train", "train.steps=1", "train.curvature_every=1", "train.curvature_count=5", "eigen.max_products=3"),
    ("run.stages=train", "train.steps=1", "train.curvature_every=1", "train.curvature_count=11",
     "hessian.layers=out.bias"),
    ("train.batch=500",),
    ("hessian.samples=500",),
    ("hessian.resample=201",),
    ("hessian.resample=33", "hessian.samples=32"),
    ("hessian.first=200",),
    ("density.accuracy=1e-9",),
    ("density.accuracy=1e-6", "hessian.layers=out.bias", "run.stages=density"),
    ("hessian.first=150", "hessian.samples=100"),
    ("landscape.directions=file1",),
    ("run.stages=hvp",),
)
# The text of a deck that must be refused, and what its message must name.
DECKS = (
    ("[run]\nseed 1\n", "deck.ini:2"),
    ("seed = 1\n", "deck.ini:1"),
    ("[run\nseed = 1\n", "deck.ini:1"),
    ("[rum]\nseed = 1\n", "run"),
    ("[run]\nsede = 1\n", "seed"),
    ("[run]\n\n\nseed = x\n", "deck.ini:4"),
    ("[train]\nlr = 0.1 0.2\n", "deck.ini:2"),
    ("[model]\nlayers = conv 16 5 / rely / linear 10\n", "relu"),
    ("[run]\nstages = train evalute\n", "evaluate"),
    ("[eigen]\ncount = 1\n[train]\nbatch = zero\n", "deck.ini:4"),
    ("[eigen]\nmethod = lanzcos\n", "lanczos"),
    ("[train]\nmomentum = 1.5\n", "deck.ini:2"),
    ("\x00\x01\x02\x7fELF\n", "deck.ini"),
    ("<html>\n</html>\n", "deck.ini:1"),
    ("[run]\nseed = 1\n[[train]]\nlr = 1\n", "deck.ini"),
    ("[run]\nseed = 1\n = 4\n", "deck.ini:3"),
)
COMMAND_LINES = (
    ("--restrat",), ("--dry-run=yes",), ("-x",), ("absent.ini",), (".",), ("one.ini", "two.ini"),
    ("--quiet", "--verbose"), ("one.ini", "run.seed"),
)


class BadDecks(ProgramTest):
    def check_all(self, cases, check):
        """check(number, case) for all cases, two at a time; failures are collected by case."""
        def one(numbered):
            try:
                check(*numbered)
            except (AssertionError, TimeoutError) as failure:
                return f"{numbered[1]!r}: {failure}"
            return None

        with ThreadPoolExecutor(2) as pool:
            failures = [text for text in pool.map(one, enumerate(cases)) if text]
        self.assertEqual(failures, [], f"{len(failures)} of {len(cases)} cases\n" + "\n\n".join(failures))

    def test_every_bad_word_is_refused(self):
        self.assertGreaterEqual(len(WORDS), 60)

        def check(number, word):
            done = self.refused_words(word, number)
            name = word.split("=")[0]
            self.assertIn(name, done.errors[0])

        self.check_all(WORDS, check)

    def refused_words(self, word, number, **options):
        """A bad run.output must come last, or the test's own would override it."""
        if word.startswith("run.output="):
            return self.program("data.train_samples=200", word, expect=EXIT_USAGE, **options)
        return self.refused("data.train_samples=200", "data.test_samples=100", word, expect=EXIT_USAGE,
                            output=f"results-{number}", **options)

    def test_conflicts_and_limits_of_the_data_are_refused(self):
        small = ("data.train_samples=200", "data.test_samples=100")
        self.check_all(CONFLICTS, lambda number, case: self.refused(*small, *case, expect=EXIT_USAGE,
                                                                    output=f"results-{number}"))

    def test_a_default_larger_than_the_data_means_all(self):
        self.program("data.train_samples=50", "data.test_samples=20", "run.stages=train trace", "train.steps=1",
                     "model.layers=linear 10", "run.output=all")
        self.assertTrue((self.folder / "all" / "trace.h5").exists())

    def test_more_eigenpairs_than_there_are_mean_all_unless_asked_for(self):
        words = ("data.train_samples=50", "data.test_samples=20", "hessian.layers=conv1.bias", "run.stages=eigen",
                 "model.layers=conv 1 3 / relu / maxpool 4 / linear 10")
        self.program(*words, "run.output=all")
        self.assertEqual(harness.datasets(self.folder / "all" / "eigen.h5")["/eigenvalues"].shape, (1,))
        self.refused(*words, "eigen.count=2", expect=EXIT_USAGE, output="asked")

    def test_every_bad_deck_is_refused_with_its_place(self):
        def check(number, case):
            text, place = case
            folder = self.folder / str(number)
            folder.mkdir()
            (folder / "deck.ini").write_text(text)
            done = self.refused(f"{number}/deck.ini", expect=EXIT_USAGE, output=f"results-{number}")
            self.assertIn(place, done.errors[0])

        self.check_all(DECKS, check)

    def test_every_bad_command_line_is_refused(self):
        for name in ("one.ini", "two.ini"):
            (self.folder / name).write_text("[run]\nseed = 1\n")
        self.check_all(COMMAND_LINES, lambda number, case: self.refused(*case, expect=EXIT_USAGE,
                                                                        output=f"results-{number}"))

    @needs_ranks()
    def test_four_ranks_refuse_as_one(self):
        (self.folder / "deck.ini").write_text("[run]\nsede = 1\n")
        cases = [(word,) for word in (WORDS if harness.EVERY_CASE else WORDS[5::20])]
        cases += [("deck.ini",), ("--restrat",), ("absent.ini",), ("hessian.samples=500", "data.train_samples=200")]
        for number, case in enumerate(cases):
            with self.subTest(case=case):
                self.refused(*case, expect=EXIT_USAGE, ranks=4, output=f"results-{number}", timeout=60)


if __name__ == "__main__":
    harness.main()
