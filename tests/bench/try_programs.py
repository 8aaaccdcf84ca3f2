"""bench.py and study.py print every figure that they promise, and their arithmetic is right; nothing is said of times.

ctest names the build in HSGD_TEST_BUILD and the launcher in HSGD_TEST_MPIEXEC (empty in a build without MPI).
"""
import argparse
import contextlib
import io
import os
import subprocess
import sys
import unittest

import bench
import study
import work

BUILD = os.environ["HSGD_TEST_BUILD"]
MPIEXEC = os.environ.get("HSGD_TEST_MPIEXEC", "")
HERE = os.path.dirname(os.path.abspath(__file__))
BATCHES = ("forward 100", "forward 1000", "train step 100", "train step 1000", "gradient 100", "gradient 1000",
           "product kept 100", "8 products kept 100", "product kept", "8 products kept")
SETS = ("product rebuilt", "8 products rebuilt", "forward", "gradient", "product", "8 products", "landscape points")


def run(program, *words, **environment):
    """The tables that one of the programs prints, on generated digits unless HSGD_DATA is given."""
    variables = {k: v for k, v in os.environ.items() if k != "HSGD_DATA"} | environment
    done = subprocess.run([sys.executable, os.path.join(HERE, program), BUILD, *words], env=variables, text=True,
                          check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise AssertionError(f"{program} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return tables(done.stdout)


def tables(text):
    """Each Markdown table as {first cell: cells}, with its head under ''."""
    found, inside = [], False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif not inside:
            found.append({"": cells})
            inside = True
        elif not cells[0].startswith("---"):
            found[-1][cells[0]] = cells
    return found


def number(cell):
    return float(cell.replace(",", ""))


class Bench(unittest.TestCase):
    def test_every_figure_stands_in_the_table(self):
        (table,) = run("bench.py", "--no-torch", "--brief", "--rounds", "1", "--seconds", "0.001", "--samples", "200",
                       "--kinds", "trained", "--threads", "1")
        head = table.pop("")
        self.assertEqual(set(table), set(BATCHES + SETS))
        needed, dense = head.index("GFLOP/s needed"), head.index("GFLOP/s dense")
        for figure, cells in table.items():
            with self.subTest(figure=figure):
                first, second = (float(share) / 100 for share in cells[head.index("active, %")].split(", "))
                self.assertTrue(0.0 < first <= 0.25 and 0.0 < second <= 0.25, (first, second))
                self.assertGreater(number(cells[head.index("fast")]), 0.0)
                self.assertGreater(number(cells[head.index("reproducible")]), 0.0)
                self.assertLessEqual(number(cells[needed]), number(cells[dense]))

    @unittest.skipUnless(MPIEXEC, "this build has no MPI")
    def test_growth_tells_times_and_messages(self):
        samples, vectors, fast, reproducible, messages = run(
            "bench.py", "--growth", "--brief", "--rounds", "1", "--seconds", "0.001", "--base", "20", "--ranks", "1",
            "2", "--threads", "1", "--mpiexec", MPIEXEC)
        self.assertEqual(set(samples), {"", "forward", "gradient", "product kept", "product rebuilt"})
        self.assertEqual(vectors[""][1:], ["1", "2", "4", "8", "16"])
        self.assertEqual(set(fast), set(reproducible))
        self.assertEqual(fast[""][1:3], ["1", "2"])
        self.assertEqual(set(messages), set(fast))
        head = messages.pop("")
        for figure, cells in messages.items():  # sums in integers take two words each
            with self.subTest(figure=figure):
                least, sent, more = (number(cells[head.index(key)].split(" to ")[0]) for key in
                                     ("least bytes", "bytes, fast", "bytes, reproducible"))
                self.assertGreaterEqual(sent, least)
                self.assertGreater(more, sent)

    def test_active_shares_are_those_counted_elsewhere(self):
        """An independent count over the same 1000 images, at the golden weights, gave these."""
        data, golden = (os.environ.get(name, "") for name in ("HSGD_DATA", "HSGD_GOLDEN"))
        if not data or not golden:
            self.skipTest("HSGD_DATA or HSGD_GOLDEN names no folder")
        for name, first, second in (("params", 0.159, 0.167), ("params_trained", 0.075, 0.0365)):
            weights = bench.flat_weights(os.path.join(golden, f"{name}.h5"))
            self.addCleanup(os.unlink, weights)
            told = bench.measure([os.path.join(BUILD, "tests/bench/hsgd-bench"), "cpu", "fast", "0.001", "mode=vectors",
                                  "samples=10"], bench.ROOT | {"HSGD_BENCH_WEIGHTS": weights})[1]
            self.assertAlmostEqual(float(told["active conv1"]), first, delta=0.0006)
            self.assertAlmostEqual(float(told["active conv2"]), second, delta=0.0006)


class Arithmetic(unittest.TestCase):
    def test_work_is_that_of_the_formulae(self):
        forward = 0.3136 + 2.5088 + 0.01568
        for figure, million in (("forward", forward), ("gradient", 8.2006), ("product kept", 15.7741),
                                ("product rebuilt", forward + 15.7741), ("8 products rebuilt", forward / 8 + 15.7741)):
            self.assertAlmostEqual(work.dense(figure), million, places=3)
        self.assertAlmostEqual(work.needed("product kept", 0.0, 0.0), 6 * 0.01568)
        self.assertAlmostEqual(work.needed("8 products", 0.1, 0.2), 2 * 0.03136 + 6 * 0.50176 + 6 * 0.01568)
        self.assertAlmostEqual(work.gflops(1000.0, 2.5), 5.0)

    def test_the_fastest_way_of_all_rounds_stands_in_the_table(self):
        kind = bench.Kind(argparse.Namespace(), "initial", None, True)
        kind.told = {"active conv1": "0.16", "active conv2": "0.17"}
        kind.rounds = {"fast": [{"product": 40.0}, {"product": 60.0}], "reproducible": [{"product": 40.0}] * 2,
                       "torch tuned": [{"product | a": 10.0, "product | b": 9.0, "product | c": 1.0},
                                       {"product | a": 10.0, "product | b": 12.0}],
                       "torch default": [{"product | a": 5.0}] * 2}
        self.assertEqual(bench.losers(kind.rounds["torch tuned"][0]), ["product | c"])
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            bench.print_figures(kind, [100.0, 100.0])
            bench.print_ways(kind)
        figures, ways = tables(out.getvalue())
        self.assertEqual(figures["product"][2:9], ["50", "40", "10", "5", "4.72", "10.00", "0.83"])
        self.assertEqual(ways["product"][1:], ["c", "(1)", ""])  # the last row of that figure


class Study(unittest.TestCase):
    def test_every_stage_stands_in_the_table_with_its_work(self):
        (table,) = run("study.py", "--rounds", "1", "--no-torch", "--threads", "1", "data.train_samples=200",
                       "data.test_samples=100", "train.epochs=2", "hessian.samples=20", "eigen.max_products=12",
                       "density.probes=2", "density.steps=5", "landscape.points=3")
        self.assertEqual(set(table), {"", *study.STAGES, "start", "all"})
        self.assertEqual(table["train"][1], "4 steps of 100, 2 tests")
        self.assertEqual(table["density"][1], "2 probes of 5 steps")
        self.assertEqual(table["landscape"][1], "9 points")
        self.assertRegex(table["eigen"][1], r"^\d+ products over 20$")

    def test_a_share_is_scaled_to_the_whole(self):
        a = argparse.Namespace(manners=["kept"])
        parts = {"start": [1.0, 1, 1], "train": [2.0, 10, 100], "landscape": [1.0, 1, 2], "kept graph": [1.0, 1, 1],
                 "kept eigen": [3.0, 4, 8], "kept density": [1.0, 2, 8], "kept trace": [1.0, 1, 1]}
        found = study.stages_of(a, "tuned", parts)["tuned, graph kept"]
        self.assertEqual(found, {"train": 20.0, "eigen": 7.0, "density": 4.0, "trace": 1.0, "landscape": 2.0,
                                 "start": 1.0, "all": 35.0})


if __name__ == "__main__":
    unittest.main()
