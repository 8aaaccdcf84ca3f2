"""Broken images, labels, weights and vectors: exit 3 (or what the table says), one message, nothing written."""
import gzip
import os
import shutil
import struct
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np

import harness
from harness import EXIT_DATA, EXIT_NUMERIC, EXIT_USAGE, ProgramTest, needs_ranks

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
COUNT, SIDE = 60, 12
LAYERS = "model.layers=conv 2 3 / relu / maxpool 2 / linear 10"


def images(count=COUNT, height=SIDE, width=SIDE, magic=0x00000803):
    pixels = np.random.default_rng(count).integers(0, 256, count * SIDE * SIDE, dtype=np.uint8)
    return struct.pack(">IIII", magic, count, height, width) + pixels.tobytes()


def labels(count=COUNT, magic=0x00000801):
    return struct.pack(">II", magic, count) + bytes(i % 10 for i in range(count))


def header(*words):
    return b"".join(struct.pack(">I", word) for word in words)


GOOD = {IMAGES: images(), LABELS: labels(), TEST_IMAGES: images(20), TEST_LABELS: labels(20)}
ZIPPED = gzip.compress(GOOD[IMAGES])
BODY = GOOD[IMAGES][16:]

# What is wrong -> the file it stands in and its bytes (None: the file is not there).  A name with .gz replaces the
# plain file.
IDX = {
    "no training images": (IMAGES, None),
    "no training labels": (LABELS, None),
    "no test images": (TEST_IMAGES, None),
    "no test labels": (TEST_LABELS, None),
    "empty images": (IMAGES, b""),
    "empty labels": (LABELS, b""),
    "empty test labels": (TEST_LABELS, b""),
    "three bytes": (IMAGES, b"\0\0\x08"),
    "magic alone": (IMAGES, header(0x803)),
    "header cut short": (IMAGES, GOOD[IMAGES][:12]),
    "label header cut short": (LABELS, GOOD[LABELS][:6]),
    "labels in place of images": (IMAGES, GOOD[LABELS]),
    "images in place of labels": (LABELS, GOOD[IMAGES]),
    "two dimensions": (IMAGES, header(0x802, COUNT, SIDE * SIDE) + BODY),
    "four dimensions": (IMAGES, header(0x804, COUNT, SIDE, SIDE, 1) + BODY),
    "signed bytes": (IMAGES, images(magic=0x903)),
    "floats": (IMAGES, images(magic=0xD03)),
    "first bytes not zero": (IMAGES, images(magic=0x01000803)),
    "wrong byte order": (IMAGES, struct.pack("<IIII", 0x803, COUNT, SIDE, SIDE) + BODY),
    "text": (IMAGES, b"these are not the digits you are looking for\n" * 10),
    "no image at all": (IMAGES, header(0x803, 0, SIDE, SIDE)),
    "no rows": (IMAGES, header(0x803, COUNT, 0, SIDE)),
    "no columns": (IMAGES, header(0x803, COUNT, SIDE, 0)),
    "a count beyond the file": (IMAGES, images()[:4] + header(COUNT + 1) + images()[8:]),
    "a count of four thousand million": (IMAGES, header(0x803, 0xFFFFFFFF, SIDE, SIDE) + BODY),
    "a size that overflows": (IMAGES, header(0x803, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF) + BODY),
    "a negative height": (IMAGES, header(0x803, COUNT, 0x80000000, SIDE) + BODY),
    "one byte missing": (IMAGES, GOOD[IMAGES][:-1]),
    "one byte too many": (IMAGES, GOOD[IMAGES] + b"\0"),
    "one label missing": (LABELS, GOOD[LABELS][:-1]),
    "one label too many": (LABELS, GOOD[LABELS] + b"\0"),
    "fewer labels than images": (LABELS, labels(COUNT - 1)),
    "more labels than images": (LABELS, labels(COUNT + 1)),
    "fewer test labels than images": (TEST_LABELS, labels(19)),
    "a label of 255": (LABELS, GOOD[LABELS][:-1] + b"\xff"),
    "test images of another size": (TEST_IMAGES, header(0x803, 20, SIDE, SIDE - 1) + bytes(20 * SIDE * (SIDE - 1))),
    "gzip: empty": (IMAGES + ".gz", b""),
    "gzip: not compressed": (IMAGES + ".gz", b"not gzip at all"),
    "gzip: cut in the middle": (IMAGES + ".gz", ZIPPED[:len(ZIPPED) // 2]),
    "gzip: checksum missing": (IMAGES + ".gz", ZIPPED[:-8]),
    "gzip: checksum wrong": (IMAGES + ".gz", ZIPPED[:-8] + b"\0\0\0\0" + ZIPPED[-4:]),
    "gzip: a flipped byte": (IMAGES + ".gz", ZIPPED[:200] + bytes([ZIPPED[200] ^ 0x55]) + ZIPPED[201:]),
    "gzip: an image short": (IMAGES + ".gz", gzip.compress(GOOD[IMAGES][:-SIDE * SIDE])),
    "gzip: one byte too many": (IMAGES + ".gz", gzip.compress(GOOD[IMAGES] + b"\0")),
}


class BadImages(ProgramTest):
    def write(self, folder, name, content):
        """The good set in `folder`, but for file `name`."""
        folder.mkdir()
        for good, data in GOOD.items():
            if good != name.removesuffix(".gz"):
                (folder / good).write_bytes(data)
        if content is not None:
            (folder / name).write_bytes(content)

    def refused_set(self, number, **options):
        return self.refused(f"data.dir=set-{number}", LAYERS, "train.steps=1", "train.batch=10", expect=EXIT_DATA,
                            output=f"results-{number}", **options)

    def test_the_good_set_is_accepted_plain_and_zipped(self):
        self.write(self.folder / "plain", "none", None)
        (self.folder / "zipped").mkdir()
        for name, data in GOOD.items():
            (self.folder / "zipped" / (name + ".gz")).write_bytes(gzip.compress(data))
        words = (LAYERS, "train.steps=2", "train.batch=10", "run.stages=train evaluate")
        for name in ("plain", "zipped"):
            self.program(f"data.dir={name}", *words, f"run.output=results-{name}")
        self.assertEqual(harness.differences(self.folder / "results-plain", self.folder / "results-zipped"), [])

    def test_every_broken_set_is_refused_and_names_the_file(self):
        def one(numbered):
            number, (what, (name, content)) = numbered
            self.write(self.folder / f"set-{number}", name, content)
            try:
                done = self.refused_set(number)
                self.assertRegex(done.errors[0], f"{name.split('-')[0]}|test images")
            except (AssertionError, TimeoutError) as failure:
                return f"{what}: {failure}"
            return None

        self.assertGreaterEqual(len(IDX), 40)
        with ThreadPoolExecutor(2) as pool:
            failures = [text for text in pool.map(one, enumerate(IDX.items())) if text]
        self.assertEqual(failures, [], f"{len(failures)} of {len(IDX)} cases\n" + "\n\n".join(failures))

    def test_defects_have_messages_of_their_own(self):
        seen = {}
        for number, what in enumerate(("no training images", "signed bytes", "four dimensions", "one byte missing",
                                       "one byte too many", "fewer labels than images", "a label of 255")):
            self.write(self.folder / f"set-{number}", *IDX[what])
            message = self.refused_set(number).errors[0].replace(f"set-{number}", "set")
            self.assertNotIn(message, seen.values(), what)
            seen[what] = message

    def test_a_label_beyond_the_network_is_refused(self):
        self.write(self.folder / "set", LABELS, GOOD[LABELS][:-1] + b"\x0a")
        done = harness.finish(harness.launch("data.dir=set", LAYERS, "run.output=results", cwd=self.folder))
        self.assertIn(done.code, (EXIT_USAGE, EXIT_DATA), str(done))  # network too small, or label too large
        self.assertEqual(len(done.errors), 1, str(done))
        self.assertFalse((self.folder / "results").exists())

    def test_a_folder_or_a_loop_of_links_in_place_of_a_file_is_refused(self):
        self.write(self.folder / "set-0", IMAGES, None)
        (self.folder / "set-0" / IMAGES).mkdir()
        self.refused_set(0)
        self.write(self.folder / "set-1", IMAGES, None)
        (self.folder / "set-1" / IMAGES).symlink_to(IMAGES)
        self.refused_set(1)

    def test_a_named_place_without_files_is_refused_and_never_replaced(self):
        self.refused_set("absent")
        (self.folder / "set-bare").mkdir()
        self.refused_set("bare")
        self.refused(LAYERS, expect=EXIT_DATA, HSGD_DATA=str(self.folder / "nowhere"))

    @needs_ranks()
    def test_four_ranks_refuse_as_one(self):
        few = ("no test labels", "one byte missing", "a size that overflows", "a label of 255", "gzip: checksum wrong")
        for number, what in enumerate(IDX if harness.EVERY_CASE else few):
            with self.subTest(what=what):
                self.write(self.folder / f"set-{number}", *IDX[what])
                self.refused_set(number, ranks=4, timeout=60)

    def test_a_file_that_may_not_be_read_is_refused(self):
        prefix = ()
        if os.geteuid() == 0:
            prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
            if shutil.which("setpriv") is None or not self.nobody_can_run(prefix):
                self.skipTest("root reads everything, and another user cannot run the program where it lies")
        self.write(self.folder / "set-0", "none", None)
        self.folder.chmod(0o777)
        (self.folder / "set-0" / IMAGES).chmod(0)
        done = self.refused_set(0, prefix=prefix, HOME=str(self.folder))
        self.assertIn("ermission", done.errors[0])

    def nobody_can_run(self, prefix):
        try:
            return harness.finish(harness.launch("--version", cwd="/", prefix=prefix)).code == 0
        except OSError:
            return False


class BadWeights(ProgramTest):
    """HDF5 files that the deck names: weights, sample numbers, vectors."""

    WORDS = ("data.train_samples=100", "data.test_samples=20",
             "model.layers=maxpool 2 / conv 2 3 / relu / linear 10", "train.steps=1", "hessian.samples=20",
             "eigen.count=1", "density.probes=2", "density.steps=3")
    PARAMETERS = {"conv1/weight": (2, 1, 3, 3), "conv1/bias": (2,), "out/weight": (10, 392), "out/bias": (10,)}
    N = 18 + 2 + 3920 + 10

    def weights(self, path, **changed):
        """A good weights file, but for the datasets given (None: left out; '__' stands for '/')."""
        changed = {name.replace("__", "/"): value for name, value in changed.items()}
        with h5py.File(path, "w") as file:
            for name, shape in self.PARAMETERS.items():
                value = changed.get(name, np.full(shape, 0.01))
                if value is not None:
                    file[f"params/{name}"] = value
        return path

    def broken_weights(self):
        """(what is wrong, file) for model.init."""
        make, folder = self.weights, self.folder
        good = make(folder / "good.h5").read_bytes()
        nan, infinite = np.zeros((10,)), np.zeros((10,))
        nan[3], infinite[3] = np.nan, np.inf
        yield "absent", folder / "absent.h5"
        yield "a folder", folder
        for what, content in (("empty", b""), ("text", b"[run]\n"), ("cut in half", good[:len(good) // 2]),
                              ("cut short", good[:-1]), ("signature alone", good[:8]),
                              ("a hole in the middle", good[:600] + b"\xff" * 600 + good[1200:])):
            (folder / f"{what}.h5").write_bytes(content)
            yield what, folder / f"{what}.h5"
        with h5py.File(folder / "bare.h5", "w"):
            yield "no /params", folder / "bare.h5"
        with h5py.File(folder / "group.h5", "w") as file:
            file.create_group("params/conv1/weight")
        yield "a group in place of a dataset", folder / "group.h5"
        with h5py.File(self.weights(folder / "link.h5", conv1__bias=None), "a") as file:
            file["params/conv1/bias"] = h5py.ExternalLink("good.h5", "/params/conv1/bias")
        yield "a link to another file", folder / "link.h5"
        with h5py.File(self.weights(folder / "dangling.h5", conv1__bias=None), "a") as file:
            file["params/conv1/bias"] = h5py.SoftLink("/nowhere")
        yield "a link to nowhere", folder / "dangling.h5"
        yield "no bias", make(folder / "1.h5", conv1__bias=None)
        yield "no output layer", make(folder / "2.h5", out__weight=None, out__bias=None)
        yield "too few entries", make(folder / "3.h5", conv1__bias=np.zeros(1))
        yield "too many entries", make(folder / "4.h5", conv1__bias=np.zeros(3))
        yield "transposed", make(folder / "5.h5", out__weight=np.zeros((392, 10)))
        yield "flattened", make(folder / "6.h5", conv1__weight=np.zeros(18))
        yield "one dimension more", make(folder / "7.h5", conv1__bias=np.zeros((2, 1)))
        yield "a scalar", make(folder / "8.h5", conv1__bias=0.0)
        yield "empty dataset", make(folder / "9.h5", conv1__bias=np.zeros(0))
        yield "null dataspace", make(folder / "10.h5", conv1__bias=h5py.Empty("f8"))
        yield "NaN", make(folder / "11.h5", out__bias=nan)
        yield "infinite", make(folder / "12.h5", out__bias=infinite)
        yield "strings", make(folder / "13.h5", out__bias=np.array([b"x"] * 10))
        yield "compound", make(folder / "14.h5", out__bias=np.zeros(10, dtype=[("re", "f8"), ("im", "f8")]))

    def test_every_broken_weights_file_is_refused_by_name(self):
        for what, path in self.broken_weights():
            with self.subTest(what=what):
                done = self.refused(*self.WORDS, "run.stages=evaluate", f"model.init={path}", expect=EXIT_DATA)
                self.assertIn(path.name, done.errors[0])

    def test_good_weights_are_accepted_in_any_numeric_type(self):
        path = self.weights(self.folder / "good.h5", conv1__bias=np.array([1, 2], dtype="i4"),
                            out__bias=np.zeros(10, dtype=">f4"))
        self.program(*self.WORDS, "run.stages=evaluate", f"model.init={path}", "run.output=results")

    def broken_lists(self):
        """(what is wrong, word's key, dataset, value, stage, exit code)."""
        n, zero, nan = self.N, np.zeros((1, self.N)), np.zeros((1, self.N))
        nan[0, 5] = np.nan
        indices = ("hessian.indices", "indices", "trace", EXIT_DATA)
        vectors = ("hvp.vectors", "vectors", "hvp", EXIT_DATA)
        start = ("density.start", "start", "density", EXIT_DATA)
        for what, value in (("missing", None), ("negative", [0, -1]), ("beyond the set", [0, 100]),
                            ("far beyond", [2**40]), ("empty", np.zeros(0, "i8")), ("a matrix", [[1, 2]]),
                            ("a scalar", 3), ("fractions", [0.5, 1.5]), ("strings", [b"1", b"2"])):
            yield f"indices {what}", value, *indices
        for what, value in (("missing", None), ("too short", np.ones((1, n - 1))), ("too long", np.ones((1, n + 1))),
                            ("transposed", np.ones((n, 2))), ("one dimension", np.ones(n)), ("none", np.ones((0, n))),
                            ("NaN", nan), ("strings", np.full((1, n), b"1"))):
            yield f"vectors {what}", value, *vectors
        for what, value in (("missing", None), ("one too few", np.ones((1, n))), ("too short", np.ones((2, n - 1))),
                            ("NaN", np.vstack((nan, nan))), ("zero", np.vstack((zero, zero)))):
            yield f"start {what}", value, *start

    def test_every_broken_list_or_vector_is_refused_before_training(self):
        for what, value, key, dataset, stage, code in self.broken_lists():
            path = self.folder / "list.h5"
            with h5py.File(path, "w") as file:
                if value is not None:
                    file[dataset] = value
            with self.subTest(what=what):
                self.refused(*self.WORDS, f"run.stages=train {stage}", f"{key}={path}", expect=code)

    def test_what_a_later_stage_cannot_do_is_refused_before_training(self):
        with h5py.File(self.folder / "list.h5", "w") as file:
            file["vectors"] = file["start"] = np.ones((3, self.N))
        file = "landscape.vectors=list.h5"
        for code, stages, *words in (
                (EXIT_USAGE, "eigen", f"eigen.count={self.N + 1}"),
                (EXIT_USAGE, "landscape", f"eigen.count={self.N + 1}"),
                (EXIT_USAGE, "eigen landscape", "landscape.directions=eigenvector3"),
                (EXIT_USAGE, "landscape", "landscape.directions=random", "landscape.plane=gradient eigenvector3"),
                (EXIT_USAGE, "eigen landscape", "eigen.which=largest", "landscape.directions=eigenvector2"),
                (EXIT_DATA, "landscape", "landscape.directions=file4", file),
                (EXIT_DATA, "landscape", "landscape.directions=random", "landscape.plane=file1 file4", file),
                (EXIT_DATA, "landscape", "landscape.directions=file1", "landscape.vectors=/nonexistent.h5"),
                (EXIT_DATA, "hvp", "hvp.vectors=/nonexistent.h5"),
                (EXIT_DATA, "density", "density.start=/nonexistent.h5"),
                (EXIT_DATA, "density", "density.start=list.h5"),  # three vectors, density.probes=2
                (EXIT_DATA, "evaluate", "model.init=list.h5")):
            with self.subTest(words=words):
                self.refused(*self.WORDS, f"run.stages=train {stages}", *words, expect=code)
                self.refused(*self.WORDS, f"run.stages=train {stages}", *words, "--dry-run", expect=code)

    def test_limits_bind_only_the_stages_that_run(self):
        self.program(*self.WORDS, "run.stages=train", f"eigen.count={self.N + 1}", "hvp.vectors=/nonexistent.h5",
                     "density.start=/nonexistent.h5", "landscape.directions=eigenvector99", "run.output=results")

    def test_eigenvectors_of_an_earlier_run_are_taken(self):
        words = (*self.WORDS, "landscape.points=1", "run.output=results", "--restart")
        self.program(*words, "run.stages=train eigen", "eigen.count=2")
        self.program(*words, "run.stages=landscape", "eigen.count=2", "landscape.directions=eigenvector4")

    def test_directions_that_lead_nowhere_are_refused(self):
        path = self.folder / "list.h5"
        with h5py.File(path, "w") as file:
            file["vectors"] = np.zeros((1, self.N))
        words = (*self.WORDS, "run.stages=landscape", f"landscape.vectors={path}")
        self.refused(*words, "landscape.directions=file2", expect=EXIT_DATA)  # there is no such row
        done = self.program(*words, "landscape.directions=file1", "run.output=results", expect=EXIT_NUMERIC)
        self.assertEqual(len(done.errors), 1, str(done))  # which only the stage sees: its log is all that it leaves
        self.assertEqual([path.name for path in (self.folder / "results").iterdir()], ["metrics.jsonl"])

    @needs_ranks()
    def test_four_ranks_refuse_as_one(self):
        for what, path in list(self.broken_weights())[::1 if harness.EVERY_CASE else 6]:
            with self.subTest(what=what):
                self.refused(*self.WORDS, "run.stages=evaluate", f"model.init={path}", expect=EXIT_DATA, ranks=4,
                             timeout=60)


if __name__ == "__main__":
    harness.main()
