#!/usr/bin/env python3
"""Ours against PyTorch, in interleaved rounds of one run: tables of samples per second, ratios and shares of the peak.

usage: bench.py BUILD [--threads 2] [--rounds 5] [--seconds 1] [--samples 60000] [--cache MIB] [--kinds initial trained]
                      [--weights FILE.h5] [--no-torch]
       bench.py BUILD --growth [--rounds 3] [--seconds 1] [--base 1000] [--ranks 1 2 4 8]

Every round measures sgemm and a memory triad, then, at initial and at trained weights, our bench in both reduction
modes and PyTorch both tuned and as it comes.  A table shows medians over the rounds and medians of the rounds' ratios;
PyTorch stands there with its fastest way to each figure, and all its ways follow in a table of their own.  Ways that
lose the first round clearly sit out the later ones.  'tuned': one BLAS thread beside PyTorch's own, and a malloc that
keeps its memory.  Trained weights (two epochs, lr 0.05, momentum 0.9) are made first, unless they are given.
--growth: how cost grows with samples, vectors and ranks, and what is sent; without PyTorch.
PyTorch's columns need python3-torch and $HSGD_DATA (MNIST).  The output is Markdown.
"""
import argparse
import contextlib
import datetime
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile

import growth
import work

HERE = os.path.dirname(os.path.abspath(__file__))
TUNED = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "8589934592",
         "MALLOC_TOP_PAD_": "67108864"}
ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OPENBLAS_NUM_THREADS": "1"}
TWO_EPOCHS = ("run.stages=train", "train.epochs=2", "train.lr=0.05", "train.momentum=0.9", "train.checkpoint_every=0",
              "device.backend=cpu")
NEAR = 1.5  # a way slower than the fastest by more than this in the first round will not win a later one


def measure(command, extra):
    """One run's lines: ({figure: number}, {key: text}), the second from the lines that begin with #."""
    environment = {k: v for k, v in os.environ.items() if k not in TUNED} | extra
    out = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout
    figures, told = {}, {}
    for line in out.splitlines():
        key, _, value = line.lstrip("# ").rpartition(": ")
        if line.startswith("#"):
            told[key] = value
        elif re.fullmatch(r"[\d.]+", value):
            figures[key] = float(value)
    return figures, told


def brief(a):
    return ["brief=true"] if a.brief else []


# --- weights ---------------------------------------------------------------------------------------------------------

def flat_weights(path):
    """The weights of an HDF5 file as a file of float64 in flat order; its path."""
    import h5py
    import numpy as np
    names = [f"{layer}/{part}" for layer in ("conv1", "conv2", "out") for part in ("weight", "bias")]
    with h5py.File(path, "r") as f:
        flat = np.concatenate([f["params/" + n][()].astype("f8").ravel() for n in names])
    with tempfile.NamedTemporaryFile(suffix=".f64", delete=False) as file:
        flat.tofile(file)
    return file.name


def trained_weights(a):
    """Trains; the path of the flat weights."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*TWO_EPOCHS, f"run.output={folder}/out", f"device.threads={a.threads}"]
        if a.samples < 60000:
            words.append(f"data.train_samples={a.samples}")
        subprocess.run([os.path.join(a.build, "hsgd-dist"), *words], env=os.environ | ROOT, check=True,
                       stdout=subprocess.DEVNULL)
        return flat_weights(f"{folder}/out/weights.h5")


def weights_of_kinds(a):
    """{kind: path of flat weights, or None for the bench's own}."""
    found = {}
    for kind in a.kinds:
        found[kind] = None
        if kind == "trained":
            found[kind] = flat_weights(a.weights) if a.weights else trained_weights(a)
    return found


# --- rounds ----------------------------------------------------------------------------------------------------------

def has_torch(a):
    """Whether PyTorch can be measured; says why not."""
    if a.no_torch:
        return False
    there = subprocess.run([sys.executable, "-c", "import torch"], stderr=subprocess.DEVNULL, check=False)
    if there.returncode != 0 or not os.environ.get("HSGD_DATA"):
        print("PyTorch's columns are left out: they need python3-torch for this interpreter and HSGD_DATA\n")
        return False
    return True


def losers(rates):
    """Of {figure | way: samples/s} the ways that need not be measured again."""
    best = {}
    for key, rate in rates.items():
        figure = key.split(" | ")[0]
        best[figure] = max(best.get(figure, 0.0), rate)
    return [key for key, rate in rates.items() if rate * NEAR < best[key.split(" | ")[0]]]


class Kind:
    """The rounds of one kind of weights."""

    def __init__(self, a, name, weights, torch):
        self.a, self.name, self.weights, self.told = a, name, weights, {}
        self.columns = ["fast", "reproducible"] + (["torch tuned", "torch default"] if torch else [])
        self.rounds = {column: [] for column in self.columns}

    def once(self):
        """One more round of all columns."""
        for column in self.columns:
            print(f"{self.name} weights, round {len(self.rounds[column]) + 1}: {column}", file=sys.stderr, flush=True)
            figures, told = self.peer(column) if column.startswith("torch") else self.ours(column)
            self.rounds[column].append(figures)
            self.told |= told

    def ours(self, mode):
        a = self.a
        command = [os.path.join(a.build, "tests/bench/hsgd-bench"), "cpu", mode, str(a.seconds), f"threads={a.threads}",
                   f"samples={a.samples}", f"cache={a.cache}", *brief(a)]
        return measure(command, ROOT | ({"HSGD_BENCH_WEIGHTS": self.weights} if self.weights else {}))

    def peer(self, column):
        a, before = self.a, self.rounds[column]
        command = [sys.executable, os.path.join(HERE, "torch_bench.py"), os.environ["HSGD_DATA"], "--threads",
                   str(a.threads), "--seconds", str(a.seconds), "--samples", str(a.samples)]
        command += ["--weights", self.weights] if self.weights else []
        command += ["--leave-out", ";".join(losers(before[0]))] if before else []
        return measure(command, TUNED if column == "torch tuned" else {})

    def ways(self, column, figure):
        """PyTorch's ways to a figure: {way: rates by round}, those of all rounds alone."""
        rounds = self.rounds[column]
        return {key.split(" | ")[1]: [r[key] for r in rounds]
                for key in (rounds[-1] if rounds else {}) if key.split(" | ")[0] == figure}

    def rates(self, column, figure):
        """Of each round; empty where the column has no such figure."""
        if column not in self.columns:
            return []
        if not column.startswith("torch"):
            return [r[figure] for r in self.rounds[column]]
        return max(self.ways(column, figure).values(), key=statistics.median, default=[])

    def active(self):
        return float(self.told["active conv1"]), float(self.told["active conv2"])


# --- tables ----------------------------------------------------------------------------------------------------------

def median_ratio(tops, bottoms):
    return statistics.median(t / b for t, b in zip(tops, bottoms)) if bottoms else None


def shown(value, form):
    return "" if value is None else format(value, form)


def print_figures(kind, peaks):
    f1, f2 = kind.active()
    tuned = "torch tuned" in kind.columns
    head = ["samples/s", "active, %", *kind.columns, "fast / tuned", "fast / default", "reproducible / fast",
            "GFLOP/s needed", "of sgemm, %", "GFLOP/s dense", "of sgemm, %"] + (["tuned, of sgemm, %"] if tuned else [])
    print("| " + " | ".join(head) + " |\n| --- |" + " ---: |" * (len(head) - 1))
    for figure in kind.rounds["fast"][0]:
        fast, rates = kind.rates("fast", figure), {c: kind.rates(c, figure) for c in kind.columns}
        cells = [figure, f"{100 * f1:.1f}, {100 * f2:.1f}"]
        cells += [f"{statistics.median(rates[c]):,.0f}" if rates[c] else "" for c in kind.columns]
        for top, bottom in (("fast", "torch tuned"), ("fast", "torch default"), ("reproducible", "fast")):
            cells.append(shown(median_ratio(rates[top], rates.get(bottom, [])), ".2f"))
        for million in (work.needed(figure, f1, f2), work.dense(figure)):
            done = [work.gflops(rate, million) for rate in fast]
            cells += [f"{statistics.median(done):.1f}", f"{100 * median_ratio(done, peaks):.0f}"]
        if tuned:
            done = [work.gflops(rate, work.dense(figure)) for rate in rates["torch tuned"]]
            cells.append(f"{100 * median_ratio(done, peaks):.0f}" if done else "")
        print("| " + " | ".join(cells) + " |")


def print_ways(kind):
    """All of PyTorch's ways: medians over the rounds that each was in."""
    columns = [c for c in kind.columns if c.startswith("torch")]
    print("\nPyTorch's ways, samples/s (in brackets: of the first round alone):\n")
    print("| figure | way | " + " | ".join(columns) + " |\n| --- | --- |" + " ---: |" * len(columns))
    for key in kind.rounds[columns[0]][0]:
        cells = list(key.split(" | "))
        for column in columns:
            rates = [r[key] for r in kind.rounds[column] if key in r]
            text = f"{statistics.median(rates):,.0f}" if rates else ""
            cells.append(text if len(rates) in (0, len(kind.rounds[column])) else f"({text})")
        print("| " + " | ".join(cells) + " |")


def place(a, loads, rounds):
    """Where, with what and in which rounds this was measured."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    version = subprocess.run([os.path.join(a.build, "hsgd-dist"), "--version"], env=os.environ | ROOT, text=True,
                             check=True, stdout=subprocess.PIPE).stdout.splitlines()[0]
    words = [str(datetime.date.today()), version, model[1] if model else platform.machine(),
             f"{os.cpu_count()} cores", f"{a.threads} threads", rounds,
             f"load average {min(loads):.1f} to {max(loads):.1f}"]
    return "; ".join(words)


def spread(values):
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def rounds_of(a):
    return f"{a.rounds} rounds of {a.seconds:g} s a figure"


def print_all(a, kinds, peaks, loads):
    print(place(a, loads, rounds_of(a)))
    print(f"\nIn the same rounds: sgemm {spread([p['sgemm'] for p in peaks])} GFLOP/s, memory triad "
          f"{spread([p['triad'] for p in peaks])} GB/s, multiply-adds from the first-level cache "
          f"{spread([p['cache'] for p in peaks])} GFLOP/s.  Figures without a number are over {a.samples:,} samples; "
          "\"8 products\" count each.\n\"Active\": the shares of both convolutions' outputs that carry a derivative; "
          "\"needed\": the work at these; \"dense\": that of a\nprogram that uses no zero.  PyTorch's figures over the "
          "whole set are timed over as many batches as the seconds allow.")
    for kind in kinds:
        f1, f2 = kind.active()
        print(f"\n{kind.name.capitalize()} weights, {100 * f1:.1f} % and {100 * f2:.1f} % active:\n")
        print_figures(kind, [p["sgemm"] for p in peaks])
        if "torch tuned" in kind.columns:
            print_ways(kind)


# --- main ------------------------------------------------------------------------------------------------------------

def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--samples", type=int, default=60000, help="of the figures over a whole set")
    parser.add_argument("--cache", type=int, default=8192, help="MiB that kept base passes may take")
    parser.add_argument("--kinds", nargs="+", choices=("initial", "trained"), default=["initial", "trained"])
    parser.add_argument("--weights", help="trained ones, instead of two epochs here")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--brief", action="store_true", help="the least of everything: to try this program itself")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--base", type=int, default=1000, help="samples from which --growth starts")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--mpiexec", default="mpirun")
    return parser.parse_args()


def main():
    a = parsed()
    loads = [os.getloadavg()[0]]
    if a.growth:
        growth.run(a, lambda command, extra: measure(command, ROOT | extra))
        print("\n" + place(a, [*loads, os.getloadavg()[0]], rounds_of(a)))
        return
    torch, peaks, weights = has_torch(a), [], weights_of_kinds(a)
    try:
        kinds = [Kind(a, name, path, torch) for name, path in weights.items()]
        for _ in range(a.rounds):
            peaks.append(measure([os.path.join(a.build, "tests/bench/hsgd-bench-peak"), str(a.threads), str(a.seconds)],
                                 {})[0])
            for kind in kinds:
                kind.once()
            loads.append(os.getloadavg()[0])
    finally:
        for path in filter(None, weights.values()):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    print_all(a, kinds, peaks, loads)


if __name__ == "__main__":
    main()
