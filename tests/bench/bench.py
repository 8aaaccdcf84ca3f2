#!/usr/bin/env python3
"""Ours against PyTorch, in interleaved rounds of one run: a table of samples per second and ratios.

usage: bench.py BUILD_DIR [--threads 2] [--rounds 5] [--seconds 1] [--weights FILE.h5]

Every round runs our bench in both reduction modes and PyTorch both tuned and as it comes; the table shows medians over
the rounds, and the median of the rounds' ratios.  PyTorch's columns need python3-torch and $HSGD_DATA (MNIST).
'tuned': one BLAS thread beside PyTorch's own, and a malloc that keeps its memory.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TUNED = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "8589934592",
         "MALLOC_TOP_PAD_": "67108864"}


def measure(command, extra):
    environment = {k: v for k, v in os.environ.items() if k not in TUNED} | extra
    out = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout
    return {k: float(v) for k, v in (line.split(": ") for line in out.splitlines()
                                      if ": " in line and not line.startswith("#"))}


def flat_weights(path):
    import h5py
    import numpy as np
    names = [f"{layer}/{part}" for layer in ("conv1", "conv2", "out") for part in ("weight", "bias")]
    with h5py.File(path, "r") as f:
        flat = np.concatenate([f["params/" + n][()].astype("f8").ravel() for n in names])
    file = tempfile.NamedTemporaryFile(suffix=".f64", delete=False)
    flat.tofile(file)
    file.close()
    return file.name


def has_torch():
    return subprocess.run([sys.executable, "-c", "import torch"], stderr=subprocess.DEVNULL, check=False).returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--weights")
    a = parser.parse_args()
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OPENBLAS_NUM_THREADS": "1"}
    weights = flat_weights(a.weights) if a.weights else None
    ours = [os.path.join(a.build, "tests/bench/hsgd-bench"), "cpu"]
    own_words = [str(a.seconds), f"threads={a.threads}"]
    peer = [sys.executable, os.path.join(HERE, "torch_bench.py"), os.environ.get("HSGD_DATA", ""), str(a.threads),
            str(a.seconds)] + ([weights] if weights else [])
    own = root | ({"HSGD_BENCH_WEIGHTS": weights} if weights else {})
    columns = {mode: (ours + [mode] + own_words, own) for mode in ("fast", "reproducible")}
    if has_torch() and os.environ.get("HSGD_DATA"):
        columns |= {"torch tuned": (peer, TUNED), "torch default": (peer, {})}
    else:
        print("PyTorch's columns are left out: they need python3-torch for this interpreter and HSGD_DATA")
    rounds = {name: [] for name in columns}
    for _ in range(a.rounds):
        for name, (command, extra) in columns.items():
            rounds[name].append(measure(command, extra))
    if weights:
        os.unlink(weights)
    print("| samples/s | " + " | ".join(columns) + " | fast / tuned | fast / default | reproducible / fast |")
    print("| --- |" + " ---: |" * (len(columns) + 3))
    for figure in rounds["fast"][0]:
        cells = [figure]
        for name in columns:
            values = [r[figure] for r in rounds[name] if figure in r]
            cells.append(f"{statistics.median(values):,.0f}" if values else "")
        for top, bottom in (("fast", "torch tuned"), ("fast", "torch default"), ("reproducible", "fast")):
            pairs = [(t[figure], b[figure]) for t, b in zip(rounds[top], rounds.get(bottom, [])) if figure in b]
            cells.append(f"{statistics.median(t / b for t, b in pairs):.2f}" if pairs else "")
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
