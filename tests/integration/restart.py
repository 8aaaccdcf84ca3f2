"""A study that was stopped goes on as if nothing had happened; one that is done is left alone."""
import shutil

import h5py
import numpy as np

import harness
from harness import EXIT_USAGE, MPIEXEC, ProgramTest, differences

FILES_OF_TRAINING = ("weights.h5", "train.h5")
LOG = ("metrics.jsonl",)  # tells of the restart


def snapshot(folder, but=()):
    """Names, bytes and times of change of all files; not of those in `but`."""
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.iterdir())
            if p.is_file() and p.name not in but}


class Restart(ProgramTest):
    def half_done(self, name):
        """A training of 8 steps as a crash after step 4 leaves it: one checkpoint and no result."""
        folder = self.study(name, "run.stages=train")
        for path in folder.iterdir():
            if not path.name.startswith("checkpoint-00000004.h5"):  # it and its manifest
                path.unlink()
        return folder

    def test_training_goes_on_bit_for_bit_also_on_another_number_of_ranks(self):
        whole = self.study("whole")
        for ranks in (1, 3) if MPIEXEC else (1,):
            with self.subTest(ranks=ranks):
                self.half_done(f"half{ranks}")
                self.assertEqual(differences(whole, self.study(f"half{ranks}", "--restart", ranks=ranks)), [])

    def test_a_finished_training_can_be_made_longer(self):
        whole, longer = self.study("whole"), self.folder / "longer"
        self.study("longer", "run.stages=train", "train.steps=5")
        self.study("longer", "--restart")
        whole_weights, whole_train = (harness.datasets(whole / name) for name in FILES_OF_TRAINING)
        weights, train = (harness.datasets(longer / name) for name in FILES_OF_TRAINING)
        for path in whole_weights:
            self.assertEqual(whole_weights[path].tobytes(), weights[path].tobytes(), path)
        for path in ("/train/step", "/train/loss", "/train/lr"):
            self.assertEqual(whole_train[path].tobytes(), train[path].tobytes(), path)

    def test_finished_stages_are_kept(self):
        folder = self.study("done")
        before = snapshot(folder, LOG)
        self.study("done", "--restart")
        self.assertEqual(snapshot(folder, LOG), before)

    def test_a_missing_result_is_computed_again_and_nothing_else(self):
        folder = self.study("done")
        before = snapshot(folder, LOG)
        (folder / "trace.h5").unlink()
        self.study("done", "--restart")
        after = snapshot(folder, LOG)
        self.assertEqual({k: v for k, v in after.items() if k != "trace.h5"},
                         {k: v for k, v in before.items() if k != "trace.h5"})
        self.assertIn("trace.h5", after)

    def test_a_result_of_other_weights_is_computed_again_and_kept_beside(self):
        folder = self.study("done")
        self.study("done", "--restart", "train.steps=12")
        self.assertTrue((folder / "eigen.h5.old").exists())
        fresh = self.study("fresh", "train.steps=12")
        for name in ("weights.h5", "train.h5", "eigen.h5", "density.h5", "trace.h5", "landscape.h5"):
            first, second = self.folder / "a", self.folder / "b"
            for target, source in ((first, folder), (second, fresh)):
                target.mkdir(exist_ok=True)
                shutil.copy(source / name, target / name)
        self.assertEqual(differences(first, second), [])

    def test_a_damaged_newest_checkpoint_is_passed_over(self):
        whole = self.study("whole", "run.stages=train")
        folder = self.study("hurt", "run.stages=train", "train.steps=5")
        newest = sorted(folder.glob("checkpoint-*.h5"))[-1]
        newest.write_bytes(newest.read_bytes()[:1000])
        self.study("hurt", "run.stages=train", "--restart")
        for name in FILES_OF_TRAINING:
            self.assertEqual(harness.datasets(whole / name).keys(), harness.datasets(folder / name).keys())
        self.assertTrue((harness.datasets(whole / "weights.h5")["/params/out/weight"]
                         == harness.datasets(folder / "weights.h5")["/params/out/weight"]).all())

    def test_results_are_never_overwritten_without_restart(self):
        folder = self.study("done", "run.stages=train")
        before = snapshot(folder)
        done = self.program(*harness.SMALL, "run.output=done", expect=EXIT_USAGE)
        self.assertEqual(len(done.errors), 1, str(done))
        self.assertIn("--restart", done.errors[0])
        self.assertEqual(snapshot(folder), before)

    def test_a_changed_key_of_a_half_done_training_is_refused(self):
        folder = self.half_done("half")
        before = snapshot(folder)
        for word in ("train.lr=0.01", "run.seed=7", "train.batch=20", "model.layers=linear 10"):
            with self.subTest(word=word):
                done = self.program(*harness.SMALL, word, "--restart", "run.output=half", expect=EXIT_USAGE)
                self.assertEqual(len(done.errors), 1, str(done))
                self.assertEqual(snapshot(folder), before)

    def test_a_finished_training_of_other_keys_is_done_again_and_kept_beside(self):
        folder = self.study("done", "run.stages=train")
        self.study("done", "run.stages=train", "train.lr=0.01", "--restart")
        self.assertTrue((folder / "weights.h5.old").exists())
        fresh = harness.datasets(self.study("fresh", "run.stages=train", "train.lr=0.01") / "weights.h5")
        for path, values in harness.datasets(folder / "weights.h5").items():
            self.assertEqual(values.tobytes(), fresh[path].tobytes(), path)

    def test_a_failed_stage_fails_again(self):
        words = ("run.stages=eigen", "eigen.max_products=2", "eigen.tolerance=1e-6", "eigen.require_convergence=true")
        for more in ((), ("--restart",)):
            done = self.program(*harness.SMALL, *words, *more, "run.output=open", expect=harness.EXIT_NUMERIC)
            self.assertEqual(len(done.errors), 1, str(done))
        self.program(*harness.SMALL, *words, "eigen.require_convergence=false", "--restart", "run.output=open")

    def test_eigenvectors_of_a_search_that_failed_are_not_taken(self):
        words = ("eigen.max_products=2", "eigen.tolerance=1e-6", "eigen.require_convergence=true", "run.output=open")
        self.program(*harness.SMALL, *words, "run.stages=eigen", expect=harness.EXIT_NUMERIC)
        done = self.program(*harness.SMALL, *words, "run.stages=density", "density.deflate=true", "--restart",
                            expect=harness.EXIT_NUMERIC)
        self.assertIn("eigen: failed before", done.out)
        self.assertFalse((self.folder / "open" / "density.h5").exists())

    def test_an_eigen_file_of_other_keys_is_not_taken_and_said(self):
        folder = self.study("other", "run.stages=eigen", "eigen.count=3")
        done = self.program(*harness.SMALL, "run.stages=density", "density.deflate=true", "--restart",
                            "run.output=other")
        self.assertIn("eigen.h5 belongs to other keys, weights or samples; it is kept as eigen.h5.old", done.out)
        self.assertNotIn("there are no eigenvectors", done.out)
        self.assertTrue((folder / "eigen.h5.old").exists())

    def test_an_eigen_file_of_other_keys_switches_off_no_limit_of_the_search(self):
        folder = self.study("other", "run.stages=eigen", "eigen.count=1")
        before = snapshot(folder)
        for words in (("hessian.samples=0", "hessian.resample=201"), ("hessian.layers=conv1.bias", "eigen.count=20")):
            for stages in (("run.stages=density", "density.deflate=true"),
                           ("run.stages=landscape", "landscape.directions=eigenvector", "landscape.plane=none")):
                with self.subTest(words=words, stages=stages):
                    done = self.program(*harness.SMALL, *stages, *words, "--restart", "run.output=other",
                                        expect=EXIT_USAGE)
                    self.assertEqual(len(done.errors), 1, str(done))
                    self.assertNotIn("begins", done.out)
                    self.assertEqual(snapshot(folder), before)

    def test_a_result_of_an_earlier_training_is_not_taken_for_that_of_the_checkpoint(self):
        folder = self.study("done", "run.stages=train")
        self.study("done", "run.stages=train", "train.lr=0.01", "--restart")
        fresh = snapshot(folder)
        for name in FILES_OF_TRAINING:  # as a crash between the last checkpoint and the results would leave it
            shutil.copy(folder / f"{name}.old", folder / name)
        self.study("done", "run.stages=train", "train.lr=0.01", "--restart")
        for path, values in harness.datasets(folder / "weights.h5").items():
            (self.folder / "fresh.h5").write_bytes(fresh["weights.h5"][1])
            self.assertEqual(values.tobytes(), harness.datasets(self.folder / "fresh.h5")[path].tobytes(), path)

    def test_a_half_done_extension_of_a_finished_training_is_half_done(self):
        folder = self.study("done", "run.stages=train", "train.steps=5")
        for name in FILES_OF_TRAINING:
            shutil.copy(folder / name, self.folder / name)
        self.study("done", "run.stages=train", "--restart")
        for name in FILES_OF_TRAINING:  # as a crash before the results of the longer training would leave it
            shutil.copy(self.folder / name, folder / name)
        before = snapshot(folder)
        self.program(*harness.SMALL, "train.lr=0.01", "--restart", "run.output=done", expect=EXIT_USAGE)
        self.assertEqual(snapshot(folder), before)

    def test_a_checkpoint_without_a_manifest_was_never_completed(self):
        whole = self.study("whole", "run.stages=train")
        folder = self.study("half", "run.stages=train", "train.steps=5")
        newest = sorted(folder.glob("checkpoint-*.h5"))[-1]
        newest.with_name(newest.name + ".sha256").unlink()
        done = self.program(*harness.SMALL, "run.stages=train", "--restart", "run.output=half")
        self.assertIn(f"{newest.name}: was never completed", done.err)
        self.assertIn("goes on from half/checkpoint-00000004.h5", done.out)
        for path, values in harness.datasets(whole / "weights.h5").items():
            self.assertEqual(values.tobytes(), harness.datasets(folder / "weights.h5")[path].tobytes(), path)

    def test_damaged_checkpoints_do_not_push_out_the_good_ones(self):
        folder = self.study("hurt", "run.stages=train", "train.steps=12", "train.checkpoint_every=1")
        damaged = sorted(folder.glob("checkpoint-*.h5"))
        self.assertEqual(len(damaged), 2)
        for path in (*damaged, *folder.glob("weights.h5*"), *folder.glob("train.h5*")):
            if path in damaged:
                path.write_bytes(path.read_bytes()[:1000])
            else:
                path.unlink()
        words = (*harness.SMALL, "run.stages=train", "run.output=hurt", "--restart", "train.checkpoint_every=1")
        stopped = self.program(*words, "train.steps=100000", "run.time_limit=0.01", expect=harness.EXIT_STOPPED)
        self.assertEqual(stopped.err.count("damaged"), 2, str(stopped))
        kept = [path.name for path in folder.glob("checkpoint-*.h5")]
        self.assertTrue(kept and all(path.with_name(f"{path.name}.old").exists() for path in damaged), kept)
        done = self.program(*words, f"train.steps={int(max(kept)[11:19]) + 1}")
        self.assertIn(f"goes on from hurt/{max(kept)}", done.out)

    def test_weights_that_differ_from_their_manifest_are_refused(self):
        folder = self.study("done", "run.stages=train")
        with h5py.File(folder / "weights.h5", "r+") as file:
            file["params/out/weight"][0, 0] += 1
        words = ("run.stages=evaluate", "run.output=other", f"model.init={folder}/weights.h5")
        done = self.program(*harness.SMALL, *words, expect=harness.EXIT_DATA)
        self.assertIn("remove the manifest", done.errors[0])
        (folder / "weights.h5.sha256").unlink()  # as anybody's weights
        self.program(*harness.SMALL, *words, "--restart")

    def test_changed_bytes_of_a_checkpoint_are_noticed(self):
        whole = self.study("whole", "run.stages=train")
        folder = self.study("hurt", "run.stages=train", "train.steps=5")
        newest = sorted(folder.glob("checkpoint-*.h5"))[-1]
        with h5py.File(newest, "r+") as file:
            file["params/out/weight"][0, 0] += 1
        self.study("hurt", "run.stages=train", "--restart")
        for path, values in harness.datasets(whole / "weights.h5").items():
            self.assertEqual(values.tobytes(), harness.datasets(folder / "weights.h5")[path].tobytes(), path)

    def test_a_finished_training_without_checkpoints_is_kept(self):
        folder = self.study("done", "run.stages=train")
        for path in folder.glob("checkpoint-*"):
            path.unlink()
        before = snapshot(folder, LOG)
        self.study("done", "run.stages=train", "--restart")
        self.assertEqual(snapshot(folder, LOG), before)

    def test_the_content_of_a_named_file_counts(self):
        vectors = self.folder / "vectors.h5"
        products = []
        for sign in (1.0, -1.0):
            weights = harness.datasets(self.study("weights", "run.stages=train", "--restart") / "weights.h5")
            length = sum(values.size for path, values in weights.items() if path.startswith("/params"))
            with h5py.File(vectors, "w") as file:
                file["vectors"] = np.full((1, length), sign)
            folder = self.study("products", "run.stages=hvp", f"hvp.vectors={vectors}", "--restart")
            products.append(harness.datasets(folder / "hvp.h5")["/products"])
        self.assertTrue((products[0] == -products[1]).all())

    def test_restart_in_an_empty_folder_starts_afresh(self):
        (self.folder / "empty").mkdir()
        self.study("empty", "--restart", "run.stages=train")
        self.assertTrue((self.folder / "empty" / "weights.h5").exists())


if __name__ == "__main__":
    harness.main()
