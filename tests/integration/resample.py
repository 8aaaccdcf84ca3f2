"""hessian.resample: what is told without a group of samples is what a study of the other samples alone finds, the
errors are the jackknife's, and neither ranks nor interruptions change a bit."""
import shutil
import signal
import time

import h5py
import numpy as np

import harness
from harness import EXIT_USAGE, MPIEXEC, ProgramTest, datasets, differences, needs_ranks

SAMPLES, GROUPS = 30, 4
STUDENT = 3.182446305284263  # 95 % of |t| for three degrees of freedom
BOUNDS = (0, 8, 16, 23, 30)  # of the groups: the first ones are longer by one
DECK = ("model.layers=conv 2 3 / relu / maxpool 4 / linear 10", "model.precision=double", "run.stages=eigen trace",
        "data.train_samples=100", "data.test_samples=10", f"hessian.samples={SAMPLES}", "hessian.first=5",
        "eigen.which=both", "eigen.count=2", "eigen.tolerance=1e-6", "eigen.max_products=300", "trace.probes=8")
RESAMPLED = (*DECK, f"hessian.resample={GROUPS}")
RANKS = 3 if MPIEXEC else 1


def jackknife(values, full):
    """Standard error, bias and interval of `full`, by the textbook."""
    groups = len(values)
    mean = values.mean(axis=0)
    error = np.sqrt((groups - 1) / groups * ((values - mean) ** 2).sum(axis=0))
    return error, (groups - 1) * (mean - full), np.stack([full - STUDENT * error, full + STUDENT * error], axis=-1)


class Resample(ProgramTest):
    def run_to(self, output, *words, **options):
        done = self.program(*words, f"run.output={output}", **options)
        return self.folder / output, done

    def check_jackknife(self, found, full, prefix, values, scale):
        error, bias, interval = jackknife(values, full)
        for name, want in (("error", error), ("interval", interval)):
            np.testing.assert_allclose(found[f"/jackknife/{prefix}{name}"], want, rtol=0, atol=1e-12 * scale)
        if not prefix:
            np.testing.assert_allclose(found["/jackknife/bias"], bias, rtol=0, atol=1e-11 * scale)
        self.assertTrue(np.all(error > 1e-6 * scale), error)

    def study_the_rest(self, group, *words):
        """The results of the samples outside a group, studied alone."""
        kept = np.delete(np.arange(5, 5 + SAMPLES), np.s_[BOUNDS[group]:BOUNDS[group + 1]])
        with h5py.File(self.folder / "rest.h5", "w") as file:
            file["indices"] = kept
        folder, _ = self.run_to("rest", *DECK, "hessian.indices=rest.h5", *words)
        found = {path: value for file in folder.glob("*.h5") for path, value in datasets(file).items()}
        shutil.rmtree(folder)
        return found

    def check_trace_without(self, group, trace, alone):
        np.testing.assert_allclose(trace["/jackknife/values"][group], alone["/trace"], rtol=1e-12)
        np.testing.assert_allclose(trace["/jackknife/layers_values"][group], alone["/layers"], rtol=0,
                                   atol=1e-12 * alone["/layers"].max())

    def check_trace(self, trace):
        self.check_jackknife(trace, trace["/trace"], "", trace["/jackknife/values"], trace["/trace"])
        self.check_jackknife(trace, trace["/layers"], "layers_", trace["/jackknife/layers_values"], trace["/trace"])

    def test_what_is_told_without_a_group_is_found_without_it(self):
        folder, _ = self.run_to("all", *RESAMPLED, "trace.method=exact", ranks=RANKS)
        eigen, trace = datasets(folder / "eigen.h5"), datasets(folder / "trace.h5")
        for group in range(GROUPS):
            alone = self.study_the_rest(group, "trace.method=exact")
            off = np.abs(eigen["/jackknife/values"][group] - alone["/eigenvalues"])
            self.assertTrue(np.all(off <= eigen["/jackknife/residuals"][group] + alone["/residuals"] + 1e-13), off)
            self.check_trace_without(group, trace, alone)
        self.check_jackknife(eigen, eigen["/eigenvalues"], "", eigen["/jackknife/values"], eigen["/eigenvalues"][0])
        self.check_trace(trace)
        with h5py.File(folder / "trace.h5") as file:
            self.assertEqual(harness.scales(file["/jackknife/interval"]), [["/end"]])
            self.assertEqual(harness.scales(file["/jackknife/layers_interval"]), [["/layer"], ["/end"]])
        with h5py.File(folder / "eigen.h5") as file:
            attributes = dict(file["/jackknife/values"].attrs)
            self.assertEqual(file.attrs["hessian_resample"], GROUPS)
            self.assertEqual((attributes["resample"], attributes["not_converged"]), (GROUPS, 0))
            self.assertLess(0, attributes["products_used"])
            # beginning from the eigenvectors of all samples, no search takes more than the one that began from nothing
            self.assertLessEqual(attributes["products_used"], GROUPS * file["products_used"][()])

    def test_probed_traces_are_those_of_the_same_probes(self):
        words = ("run.stages=trace", "trace.method=hutchinson")
        folder, _ = self.run_to("all", *RESAMPLED, *words, ranks=RANKS)
        trace = datasets(folder / "trace.h5")
        for group in range(GROUPS):
            self.check_trace_without(group, trace, self.study_the_rest(group, *words))
        self.check_trace(trace)

    def test_hutch_plus_plus_has_the_errors_of_its_groups_probed(self):
        found = {}
        for method in ("hutchinson", "hutch++"):
            folder, _ = self.run_to(method, *RESAMPLED, "run.stages=trace", f"trace.method={method}")
            found[method] = datasets(folder / "trace.h5")
        np.testing.assert_array_equal(found["hutchinson"]["/jackknife/error"], found["hutch++"]["/jackknife/error"])
        middle = found["hutch++"]["/jackknife/interval"].mean()
        np.testing.assert_allclose(middle, found["hutch++"]["/trace"], rtol=1e-12)

    def test_all_else_keeps_its_bits(self):
        plain, _ = self.run_to("plain", *DECK)
        resampled, _ = self.run_to("resampled", *RESAMPLED)
        for name in ("eigen.h5", "trace.h5"):
            with_groups = datasets(resampled / name)
            for path, value in datasets(plain / name).items():
                if "/time_" not in path:
                    np.testing.assert_array_equal(value, with_groups[path], name + path)

    @needs_ranks()
    def test_three_ranks_have_the_bits_of_one(self):
        words = (*RESAMPLED, "model.precision=single", "eigen.tolerance=1e-4", "trace.method=hutchinson")
        one, _ = self.run_to("one", *words)
        three, _ = self.run_to("three", *words, ranks=3)
        self.assertEqual(differences(one, three), [])

    def test_each_sample_may_be_a_group_but_no_more_are_there(self):
        words = ("hessian.samples=6", "trace.method=exact", "run.stages=trace", "hessian.resample=6")
        folder, _ = self.run_to("single", *DECK, *words)
        self.assertEqual(datasets(folder / "trace.h5")["/jackknife/values"].shape, (6,))
        with h5py.File(self.folder / "few.h5", "w") as file:
            file["indices"] = [3, 1, 2, 9, 7]
        done = self.refused(*DECK, *words, "hessian.indices=few.h5", expect=EXIT_USAGE)
        self.assertIn("only 5 studied samples", done.errors[0])
        self.run_to("unconcerned", *DECK, *words, "hessian.indices=few.h5", "run.stages=density", "density.steps=3",
                    "density.probes=1")

    def test_pairs_without_an_order_of_their_own_are_refused(self):
        done = self.refused(*RESAMPLED, "run.stages=eigen", "eigen.which=magnitude", expect=EXIT_USAGE)
        self.assertIn("eigen.which = both", done.errors[0])

    def test_a_search_that_did_not_converge_is_not_resampled(self):
        folder, done = self.run_to("short", *RESAMPLED, "run.stages=eigen", "eigen.max_products=5")
        self.assertIn("hessian.resample is left out", done.err)
        self.assertFalse(any("jackknife" in path for path in datasets(folder / "eigen.h5")))
        with h5py.File(folder / "eigen.h5") as file:
            self.assertEqual(file.attrs["hessian_resample"], 0)

    def test_the_dry_run_counts_the_groups(self):
        done = self.program(*RESAMPLED, "--dry-run", "run.output=dry")
        self.assertIn(f"at most {GROUPS * 304} products", done.out)
        self.assertIn("one by groups", done.out)


def groups_kept(state):
    """Groups that are finished in a stage's state; -1 where there is none, or one of the main solver's."""
    try:
        with h5py.File(state) as file:
            integers = file["integers"][:3]
    except (OSError, KeyError):
        return -1
    return int(integers[1]) if integers[0] == -1 else -1


class Killed(ProgramTest):
    """Killed among the groups, a stage goes on behind the last one that was kept."""

    GROUPS = 15
    DECK = (*DECK, f"hessian.resample={GROUPS}", "run.snapshot_every=0")

    def interrupt(self, stage, words, how, ranks):
        """Start a run and end it among its groups: the finished ones in what it left, or -1 where it was faster."""
        state = self.folder / "parts" / f"{stage}-state.h5"
        process = harness.launch(*words, "run.output=parts", ranks=ranks, cwd=self.folder)
        while process.poll() is None and groups_kept(state) < 2:
            time.sleep(0.001)
        if process.poll() is None:
            process.send_signal(how)
        harness.finish(process)
        return groups_kept(state)

    def check(self, stage, *more, how=signal.SIGKILL, ranks=1):
        words = (*self.DECK, f"run.stages={stage}", *more)
        self.program(*words, "run.output=whole")
        for _ in range(10):
            finished = self.interrupt(stage, words, how, ranks)
            if finished >= 0:
                break
            shutil.rmtree(self.folder / "parts")
        self.assertGreaterEqual(finished, 2)
        done = self.program(*words, "run.output=parts", "--restart", ranks=2 if MPIEXEC else 1)
        self.assertIn(f"{stage}: goes on from", done.out)
        if stage == "eigen":
            self.assertNotIn(f"without group {finished} of", done.out)
            self.assertIn(f"without group {finished + 1} of", done.out)
        self.assertEqual(differences(self.folder / "whole", self.folder / "parts"), [])
        shutil.rmtree(self.folder / "whole")
        shutil.rmtree(self.folder / "parts")

    def test_eigen(self):
        self.check("eigen")

    def test_trace_that_is_exact(self):
        self.check("trace", "trace.method=exact")

    def test_trace_by_probing(self):
        self.check("trace", "trace.method=hutchinson")

    def test_on_request(self):
        self.check("eigen", how=signal.SIGUSR1, ranks=RANKS)
        self.check("trace", "trace.method=hutch++", how=signal.SIGUSR1)


if __name__ == "__main__":
    harness.main()
