#!/usr/bin/env python3
"""The notebook's case, ours against PyHessian's algorithms re-run in PyTorch on the same batch: one Markdown table.

usage: pyhessian.py PROGRAM [--seeds 0 1 2] [--rounds 3] [--threads 1]

Weights come from a PyTorch default initialisation through tools/convert_weights.py; the batch is the first 100 training
images of $HSGD_DATA.  PyHessian's algorithms are those of pyhessian_algorithms.py, with one probe.  What is right is
said by neither: eigsh on PyTorch's products in float64 to 1e-10, and the trace by Gauss-Newton's diagonal in float64,
itself checked, coarsely, by random probes.
Times are medians over rounds in which all take turns.  Needs PyTorch, SciPy and h5py.
"""
import argparse
import datetime
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import TUNED

if __name__ == "__main__" and any(os.environ.get(k) != v for k, v in TUNED.items()):
    os.execve(sys.executable, [sys.executable] + sys.argv, {**os.environ, **TUNED})  # malloc reads them at its start

import h5py
import numpy as np
import scipy
import scipy.sparse.linalg
import torch
import torch.nn.functional as F

from pyhessian_algorithms import density_generate, inner, peer_pairs, peer_quadrature, peer_trace, signs
from torch_bench import SHAPES, network, read_idx

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["conv1.0.weight", "conv1.0.bias", "conv2.0.weight", "conv2.0.bias", "out.weight", "out.bias"]
SAMPLES = 100
REFERENCE_PROBES = 100  # a coarse check of the exact way: about 15 % of the trace is their standard error here


# --- the batch and its Hessian, in PyTorch ---------------------------------------------------------------------------

class Batch:
    """Mean cross-entropy of the batch at the given weights, with its gradient's graph kept for products."""

    def __init__(self, state, images, labels, dtype):
        self.p = [state[name].to(dtype).clone().requires_grad_(True) for name in NAMES]
        self.x, self.y = images.to(dtype), labels
        self.loss = F.cross_entropy(network(self.p, self.x), self.y)
        self.gradient = torch.autograd.grad(self.loss, self.p, create_graph=True)
        self.products = 0

    def product(self, v):
        self.products += 1
        return torch.autograd.grad(self.gradient, self.p, v, retain_graph=True)

    def parts(self, flat):
        """A flat vector as one tensor for each of the network's."""
        pieces = torch.as_tensor(flat, dtype=self.p[0].dtype).split([q.numel() for q in self.p])
        return [piece.reshape(shape) for piece, shape in zip(pieces, SHAPES)]

    def flat_product(self, flat):
        return flattened(self.product(self.parts(flat)))

    def size(self):
        return sum(q.numel() for q in self.p)

    def line(self, direction, alphas):
        """Losses at weights + alpha direction."""
        with torch.no_grad():
            d = self.parts(direction)
            return np.array([F.cross_entropy(network([q + a * e for q, e in zip(self.p, d)], self.x), self.y).item()
                             for a in alphas])


def flattened(tensors):
    return torch.cat([t.detach().reshape(-1) for t in tensors]).numpy()


def relative_residual(batch, value, vector):
    """norm(H v - value v) / |value| for the unit vector along `vector`."""
    v = vector / np.linalg.norm(vector)
    return np.linalg.norm(batch.flat_product(v) - value * v) / abs(value)


# --- the arbiter -----------------------------------------------------------------------------------------------------

def gauss_newton_trace(batch):
    """Sum over samples and classes of p_c norm(J'(e_c - p))^2 / samples: the Hessian's trace too, as ReLU and pooling
    leave each diagonal block Gauss-Newton's."""
    total = 0.0
    for x in batch.x:
        logits = network(batch.p, x[None])[0]
        share = logits.detach().softmax(0)
        for c in range(len(share)):
            row = F.one_hot(torch.tensor(c), len(share)) - share
            g = torch.autograd.grad(logits, batch.p, row, retain_graph=True)
            total += share[c].item() * inner(g, g)
    return total / len(batch.x)


class Reference:
    """Eigenvalues and trace from float64 products."""

    def __init__(self, batch):
        n = batch.size()
        h = scipy.sparse.linalg.LinearOperator((n, n), batch.flat_product, dtype=float)
        start = np.random.default_rng(0).standard_normal(n)
        values, vectors = scipy.sparse.linalg.eigsh(h, 2, which="LM", tol=1e-10, v0=start, ncv=40)
        order = np.argsort(-abs(values))
        self.top = values[order]
        self.residuals = [relative_residual(batch, values[k], vectors[:, k]) for k in order]
        self.ends = np.sort(scipy.sparse.linalg.eigsh(h, 2, which="BE", tol=1e-10, v0=start, ncv=40,
                                                      return_eigenvectors=False))
        self.loss = batch.loss.item()
        self.trace = gauss_newton_trace(batch)
        drawn = [inner(batch.product(v), v) for v in (signs(batch) for _ in range(REFERENCE_PROBES))]
        self.probed, self.deviation = np.mean(drawn), np.std(drawn, ddof=1)


# --- both programs, timed --------------------------------------------------------------------------------------------

class Timer:
    """Wall seconds of named parts, and CPU seconds of this process and its children, of all together."""

    def __init__(self):
        self.wall, self.cpu = {}, 0.0

    def __call__(self, name, call):
        start, used = time.perf_counter(), cpu_seconds()
        result = call()
        self.wall[name] = time.perf_counter() - start
        self.cpu += cpu_seconds() - used
        return result


def cpu_seconds():
    who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, who))


def run_ours(program, weights, threads, *words):
    """One run of the program: its results by file, and its timer, stages taken from the summary."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    with tempfile.TemporaryDirectory() as folder:
        command = [program, str(ROOT / "inputs/notebook.ini"), f"model.init={weights}", f"run.output={folder}/out",
                   f"device.threads={threads}", *words]
        timer = Timer()
        done = timer("all", lambda: subprocess.run(command, env=environment, text=True, check=False,
                                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        if done.returncode != 0:
            sys.exit(f"pyhessian.py: error: {' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
        timer.wall |= {m[1]: float(m[2]) for m in re.finditer(r"^ +(\w+) +took ([\d.]+) s$", done.stdout, re.M)}
        files = {path.stem: everything(path) for path in Path(folder, "out").glob("*.h5")}
    return files, timer


def everything(path):
    found = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def run_peer(make_batch, seed, lines):
    """One pass of PyHessian's algorithms: what they found, and the timer."""
    torch.manual_seed(seed)
    timer = Timer()
    batch = timer("graph", make_batch)
    found = {"loss": batch.loss.item()}
    found["pairs"] = timer("eigen", lambda: peer_pairs(batch, 2))
    found["trace"] = timer("trace", lambda: peer_trace(batch))
    nodes, weights = timer("density", lambda: peer_quadrature(batch))
    timer("curve", lambda: density_generate(nodes[None], weights[None]))
    timer.wall["density"] += timer.wall.pop("curve")
    found |= {"nodes": nodes, "weights": weights}
    found["lines"] = timer("landscape", lambda: {k: batch.line(*line) for k, line in lines.items()})
    timer.wall["all"] = sum(timer.wall.values())
    return found, timer


# --- the table -------------------------------------------------------------------------------------------------------

def lines_of(files):
    names = [key.split("/")[0] for key in files["landscape"] if key.endswith("/vector")]
    order = {name: k for k, name in enumerate(("eigenvector", "random", "gradient"))}
    return {name: (files["landscape"][f"{name}/vector"], files["landscape"][f"{name}/alpha"])
            for name in sorted(names, key=order.get)}


def far(value, right):
    return f"{abs(value - right) / abs(right):.1e}"


def eigen_rows(exact, ref, ours, peers):
    rows = []
    for k in range(2):
        values = [o["eigen"]["eigenvalues"][k] for o in ours] + [p["pairs"][k][0] for p in peers]
        vectors = [o["eigen"]["eigenvectors"][k] for o in ours]
        vectors += [flattened(p["pairs"][k][1]).astype(float) for p in peers]
        said = [f"{o['eigen']['residuals'][k] / abs(v):.2e}" for o, v in zip(ours, values)]
        rows.append([f"λ{k + 1}", f"{ref.top[k]:.8f}"] + [f"{v:.6f}" for v in values])
        rows.append([f"λ{k + 1}: relative error", ""] + [far(v, ref.top[k]) for v in values])
        rows.append([f"λ{k + 1}: residual over its size, as the program says", ""] + said + ["none"] * len(peers))
        rows.append([f"λ{k + 1}: residual over its size, measured in float64", f"{ref.residuals[k]:.1e}"]
                    + [f"{relative_residual(exact, v, x):.2e}" for v, x in zip(values, vectors)])
    rows.append(["products for both pairs", ""] + [str(o["eigen"]["products_used"]) for o in ours]
                + [" + ".join(str(pair[2]) for pair in p["pairs"]) for p in peers])
    return rows


def trace_rows(ref, ours, peers):
    values = [float(o["trace"]["trace"]) for o in ours] + [p["trace"][0] for p in peers]
    return [["trace", f"{ref.trace:.6f}"] + [f"{v:.6f}" for v in values[:len(ours)]]
            + [f"{v:.3f}" for v in values[len(ours):]],
            ["trace: relative error", ""] + [far(v, ref.trace) for v in values],
            ["trace: products", ""] + ["exact, no probe"] * len(ours) + [str(p["trace"][1]) for p in peers]]


def density_rows(ref, ours, peers):
    nodes = [o["density"]["ritz_values"] for o in ours] + [p["nodes"][None] for p in peers]
    weights = [o["density"]["weights"] for o in ours] + [p["weights"][None] for p in peers]
    curves = []
    for o in ours:
        _, curve = density_generate(o["density"]["ritz_values"], o["density"]["weights"])
        curves.append(f"{abs(curve - o['density']['density']).max() / curve.max():.1e}")
    rows = [[f"Ritz values: {name}", f"{end:.8f}"] + [f"{pick(x):.6f} ({far(pick(x), end)})" for x in nodes]
            for name, end, pick in (("smallest", ref.ends[0], np.min), ("largest", ref.ends[1], np.max))]
    rows.append(["1 − sum of weights", ""] + [f"{1.0 - w.astype(float).sum():.1e}" for w in weights])
    rows.append(["curve against `density_generate` of the same nodes", ""] + curves + [""] * len(peers))
    return rows


def landscape_rows(exact, ours, peers):
    rows = []
    for name in lines_of(ours[0]):
        cells = []
        for o in ours:
            cells.append(f"{abs(o['landscape'][name + '/loss'] - exact.line(*lines_of(o)[name])).max():.1e}")
        right = exact.line(*lines_of(ours[0])[name])
        cells += [f"{abs(p['lines'][name] - right).max():.1e}" for p in peers]
        rows.append([f"loss along {name}: largest error", f"{right.min():.4f} to {right.max():.4f}"] + cells)
    return rows


def time_rows(timers):
    """timers: for each column the timers of all rounds; the first two columns are ours."""
    def median(column, name):
        seconds = [t.wall[name] for t in column if name in t.wall]
        return f"{statistics.median(seconds):.1f}" if seconds else ""
    parts = [("verify", "verify: its eight checks"), ("graph", "graph of the gradient"), ("eigen", "eigenpairs"),
             ("density", "density"), ("trace", "trace"), ("landscape", "landscapes"), ("all", "all")]
    rows = [[f"s: {text}", ""] + [median(column, name) for column in timers] for name, text in parts]
    rows.append(["CPU s: all", ""] + [f"{statistics.median(t.cpu for t in column):.1f}" for column in timers])
    return rows


def print_table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    for row in rows:
        print("| " + " | ".join(cell or "–" for cell in row) + " |")


def print_place(program, threads, rounds, loads):
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    done = subprocess.run([program, "--version"], text=True, check=True, stdout=subprocess.PIPE)
    version = done.stdout.splitlines()[0]
    print(f"{datetime.date.today()}; {version}; PyTorch {torch.__version__}, SciPy {scipy.__version__}, NumPy "
          f"{np.__version__}, Python {platform.python_version()}; {model[1] if model else platform.machine()}, "
          f"{os.cpu_count()} cores, threads each: {threads}; {rounds} rounds, load average {min(loads):.1f} to "
          f"{max(loads):.1f}\n")


# --- main ------------------------------------------------------------------------------------------------------------

def default_network():
    """PyTorch's own initialisation, as a state dict."""
    torch.manual_seed(0)
    layers = {"conv1.0": torch.nn.Conv2d(1, 16, 5, padding=2), "conv2.0": torch.nn.Conv2d(16, 32, 5, padding=2),
              "out": torch.nn.Linear(1568, 10)}
    return {f"{name}.{part}": value.detach() for name, layer in layers.items() for part, value in
            layer.state_dict().items()}


def converted(state, folder):
    """Saves the weights both ways; the program's come through the conversion tool."""
    torch.save(state, f"{folder}/weights.pt")
    subprocess.run([sys.executable, str(ROOT / "tools/convert_weights.py"), f"{folder}/weights.pt",
                    f"{folder}/weights.h5"], check=True, stdout=subprocess.DEVNULL)
    with h5py.File(f"{folder}/weights.h5", "r") as file:
        for name, value in state.items():
            there = file["params/" + name.replace(".0.", "/").replace(".", "/")][()]
            assert there.dtype == np.float32 and np.array_equal(there, value.numpy()), name
    return f"{folder}/weights.h5"


def measure(a, state, make_batch, weights):
    """All rounds: the last results of each column (none depends on the round), timers by column, Lanczos, loads."""
    timers, loads = [[] for _ in range(2 + len(a.seeds))], []
    for _ in range(a.rounds):
        loads.append(os.getloadavg()[0])
        ours = []
        for k, precision in enumerate(("single", "double")):
            files, timer = run_ours(a.program, weights, a.threads, f"model.precision={precision}")
            ours.append(files)
            timers[k].append(timer)
        peers = []
        for k, seed in enumerate(a.seeds):
            found, timer = run_peer(make_batch, seed, lines_of(ours[0]))
            peers.append(found)
            timers[2 + k].append(timer)
        loads.append(os.getloadavg()[0])
    lanczos, timer = run_ours(a.program, weights, a.threads, "run.stages=eigen", "eigen.method=lanczos")
    return ours, peers, timers, (lanczos["eigen"], timer.wall["eigen"]), loads


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    data = os.environ["HSGD_DATA"]
    images = torch.from_numpy(read_idx(data, "train-images-idx3-ubyte")[:SAMPLES].astype("f4")).div(255)[:, None]
    labels = torch.from_numpy(read_idx(data, "train-labels-idx1-ubyte")[:SAMPLES].astype("i8"))
    state = default_network()
    with tempfile.TemporaryDirectory() as folder:
        weights = converted(state, folder)
        ours, peers, timers, (lanczos, seconds), loads = measure(
            a, state, lambda: Batch(state, images, labels, torch.float32), weights)
    exact = Batch(state, images, labels, torch.float64)
    torch.manual_seed(0)
    ref = Reference(exact)

    losses = [o["landscape"]["random/loss"][o["landscape"]["random/alpha"] == 0.0][0] for o in ours]
    losses += [p["loss"] for p in peers]
    rows = [["loss", f"{ref.loss:.8f}"] + [f"{v:.8f}" for v in losses]]
    rows += eigen_rows(exact, ref, ours, peers) + trace_rows(ref, ours, peers) + density_rows(ref, ours, peers)
    rows += landscape_rows(exact, ours, peers) + time_rows(timers)
    print_place(a.program, a.threads, a.rounds, loads)
    print_table(["", "float64 reference", "ours, single", "ours, double"] + [f"PyHessian's, seed {s}" for s in a.seeds],
                rows)
    errors = ", ".join(far(v, right) for v, right in zip(lanczos["eigenvalues"], ref.top))
    print(f"\nThe reference's trace by {REFERENCE_PROBES} probes in float64: {ref.probed:.3f}, standard error "
          f"{ref.deviation / REFERENCE_PROBES ** 0.5:.3f}; the standard deviation of one probe is "
          f"{ref.deviation:.3f}.\nOur Lanczos, single, with the same tolerance: {lanczos['products_used']} products, "
          f"relative errors {errors}, {seconds:.1f} s.")


if __name__ == "__main__":
    main()
