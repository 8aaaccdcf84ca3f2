"""PyTorch's side of the benchmark: the same figures as hsgd-bench, each by all the ways PyTorch and PyHessian have.

usage: torch_bench.py MNIST_DIR --threads N --seconds S [--samples N] [--weights FILE] [--leave-out "FIGURE | WAY; ..."]

WEIGHTS: n float64 in flat order.  Prints "figure | way: samples/s", the median over repetitions.  Images and labels lie
ready in memory and batches are slices of them: a data loader's own cost is left out.  Ways over the whole set go on to
the next batch with each repetition, and are timed over as many batches as the seconds allow, not over the set.
"PyHessian's loop" is its product over a data loader: for each batch anew the graph, the gradient with a graph of its
own, and the product, added up.  It has no other way to more than one batch, and no way to keep graphs of several.
"""
import argparse
import gzip
import itertools
import os
import time
import warnings

import numpy as np
import torch
import torch.nn.functional as F

try:
    from torch import func
except ImportError:  # before PyTorch 2
    import functorch as func

PRODUCTS = 8
SHAPES = [(16, 1, 5, 5), (16,), (32, 16, 5, 5), (32,), (10, 1568), (10,)]


def read_idx(folder, name):
    path = os.path.join(folder, name)
    opened = open(path, "rb") if os.path.exists(path) else gzip.open(path + ".gz", "rb")
    with opened as f:
        raw = f.read()
    dims = [int.from_bytes(raw[4 + 4 * i:8 + 4 * i], "big") for i in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(dims)


def network(p, x):
    h = F.max_pool2d(F.relu(F.conv2d(x, p[0], p[1], padding=2)), 2)
    h = F.max_pool2d(F.relu(F.conv2d(h, p[2], p[3], padding=2)), 2)
    return F.linear(h.flatten(1), p[4], p[5])


def median_rate(call, samples, seconds):
    """As hsgd-bench does it: at least three times, but once where that would take four times the seconds."""
    call()
    times, begun = [], time.perf_counter()
    while len(times) < 400 and time.perf_counter() - begun < seconds * (4 if len(times) < 3 else 1):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return samples / np.median(times)


def initial(weights):
    if weights:
        flat = torch.from_numpy(np.fromfile(weights)).float()
    else:
        torch.manual_seed(0)
        fan = [25, 25, 400, 400, 1568, 1568]
        flat = torch.cat([(torch.rand(int(np.prod(s))) * 2 - 1) / f ** 0.5 for s, f in zip(SHAPES, fan)])
    parts = torch.split(flat, [int(np.prod(s)) for s in SHAPES])
    return [q.reshape(s).clone().requires_grad_(True) for q, s in zip(parts, SHAPES)]


def entropy(z, y):
    """Cross-entropy by operations whose gradients have rules for forward-mode derivatives."""
    return (torch.logsumexp(z, 1) - z.gather(1, y[:, None])[:, 0]).mean()


class Work:
    """Data, weights and vectors."""

    def __init__(self, folder, samples, weights):
        self.x = torch.from_numpy(read_idx(folder, "train-images-idx3-ubyte")[:samples].astype("f4")).div(255)[:, None]
        self.y = torch.from_numpy(read_idx(folder, "train-labels-idx1-ubyte")[:samples].astype("i8"))
        self.p = initial(weights)
        self.fixed = tuple(q.detach() for q in self.p)  # functional transforms track what they differentiate themselves
        self.v = [torch.randn_like(q) for q in self.p]
        self.eight = [torch.randn((PRODUCTS, *s)) for s in SHAPES]
        self.total = [torch.zeros(s) for s in SHAPES]

    def first(self, m):
        return self.x[:m], self.y[:m]

    def onward(self, m, one):
        """A call that does one(batch) for the next batch of m samples each time."""
        starts = itertools.cycle(range(0, len(self.x) - m + 1, m))

        def call():
            i = next(starts)
            return one(self.x[i:i + m], self.y[i:i + m])
        return call

    def loss(self, x, y, p=None):
        return F.cross_entropy(network(p or self.p, x), y)

    def graph(self, x, y):
        return torch.autograd.grad(self.loss(x, y), self.p, create_graph=True)

    # --- of one batch ---

    def forward(self, x, y):
        with torch.no_grad():
            return self.loss(x, y)

    def gradient(self, x, y):
        return torch.autograd.grad(self.loss(x, y), self.p)

    def double_backward(self, x, y):
        return torch.autograd.grad(self.graph(x, y), self.p, self.v)

    def pyhessian(self, x, y):
        torch._foreach_add_(self.total, list(self.double_backward(x, y)), alpha=float(len(x)))

    def jvp_grad(self, x, y):
        return func.jvp(func.grad(lambda q: entropy(network(q, x), y)), (self.fixed,), (tuple(self.v),))[1]

    def grad_jvp(self, x, y):
        def tangent(q):
            return func.jvp(lambda r: F.cross_entropy(network(r, x), y), (q,), (tuple(self.v),))[1]
        return func.grad(tangent)(self.fixed)

    def eight_jvp_grad(self, x, y):
        g = func.grad(lambda q: entropy(network(q, x), y))
        return func.vmap(lambda *v: func.jvp(g, (self.fixed,), (v,))[1])(*self.eight)

    def eight_grad_jvp(self, x, y):
        def one(*v):
            return func.grad(lambda q: func.jvp(lambda r: entropy(network(r, x), y), (q,), (v,))[1])(self.fixed)
        return func.vmap(one)(*self.eight)

    def eight_loop(self, g):
        return [torch.autograd.grad(g, self.p, [v[k] for v in self.eight], retain_graph=True) for k in range(PRODUCTS)]

    # --- calls ---

    def kept(self, samples, batch, one):
        """A call that does one(graph) for the graphs of all batches of the first `samples`; made at first use, kept."""
        graphs = []

        def call():
            if not graphs:
                graphs.extend(self.graph(self.x[i:i + batch], self.y[i:i + batch]) for i in range(0, samples, batch))
            for g in graphs:
                one(g)
        return call

    def product_of(self, g):
        return torch.autograd.grad(g, self.p, self.v, retain_graph=True)

    def step(self):
        optimizer = torch.optim.SGD([q.detach().clone().requires_grad_(True) for q in self.p], lr=0.0, momentum=0.9)
        trained = optimizer.param_groups[0]["params"]

        def call(m):
            optimizer.zero_grad()
            self.loss(*self.first(m), trained).backward()
            optimizer.step()
        return call

    def over_all(self, *named):
        """{way: (call, samples)} of ways of one batch, in batches of two sizes that go through the set."""
        return {f"{name}, batches of {m}": (self.onward(m, one), m * times)
                for name, one, times in named for m in (100, 1000)}


def ways(w):
    """{figure: {way: (call, samples of one call, times vectors)}}."""
    step = w.step()
    eight = PRODUCTS
    return {
        "forward 100": {"no_grad": (lambda: w.forward(*w.first(100)), 100)},
        "forward 1000": {"no_grad": (lambda: w.forward(*w.first(1000)), 1000)},
        "train step 100": {"SGD": (lambda: step(100), 100)},
        "train step 1000": {"SGD": (lambda: step(1000), 1000)},
        "gradient 100": {"backward": (lambda: w.gradient(*w.first(100)), 100)},
        "gradient 1000": {"backward": (lambda: w.gradient(*w.first(1000)), 1000)},
        "product kept 100": {"graph kept": (w.kept(100, 100, w.product_of), 100),
                             "grad(jvp)": (lambda: w.grad_jvp(*w.first(100)), 100)},
        "8 products kept 100": {"graph kept, loop": (w.kept(100, 100, w.eight_loop), 100 * eight),
                                "graph kept, batched": (w.kept(100, 100, lambda g: torch.autograd.grad(
                                    g, w.p, w.eight, retain_graph=True, is_grads_batched=True)), 100 * eight),
                                "vmap(jvp(grad))": (lambda: w.eight_jvp_grad(*w.first(100)), 100 * eight),
                                "vmap(grad(jvp))": (lambda: w.eight_grad_jvp(*w.first(100)), 100 * eight)},
        "product kept": {"graph of 1000 kept": (w.kept(1000, 1000, w.product_of), 1000),
                         "10 graphs of 100 kept": (w.kept(1000, 100, w.product_of), 1000),
                         "grad(jvp)": (lambda: w.grad_jvp(*w.first(1000)), 1000)},
        "8 products kept": {"10 graphs of 100 kept, loop": (w.kept(1000, 100, w.eight_loop), 1000 * eight),
                            "vmap(jvp(grad)), batches of 100": (
                                w.onward(100, lambda x, y: w.eight_jvp_grad(x, y)), 100 * eight)},
        "product rebuilt": w.over_all(("double backward", w.double_backward, 1), ("jvp(grad)", w.jvp_grad, 1),
                                      ("grad(jvp)", w.grad_jvp, 1)),
        "8 products rebuilt": {"double backward, loop, batches of 100": (
                                   w.onward(100, lambda x, y: w.eight_loop(w.graph(x, y))), 100 * eight),
                               "vmap(jvp(grad)), batches of 100": (w.onward(100, w.eight_jvp_grad), 100 * eight)},
        "forward": w.over_all(("no_grad", w.forward, 1)),
        "gradient": w.over_all(("backward", w.gradient, 1)),
        "product": w.over_all(("PyHessian's loop", w.pyhessian, 1)),
        "8 products": {"PyHessian's loop, eight times, batches of 100": (
                           w.onward(100, lambda x, y: [w.pyhessian(x, y) for _ in range(eight)]), 100 * eight),
                       "double backward, loop, batches of 100": (
                           w.onward(100, lambda x, y: w.eight_loop(w.graph(x, y))), 100 * eight),
                       "vmap(jvp(grad)), batches of 100": (w.onward(100, w.eight_jvp_grad), 100 * eight)},
        "landscape points": w.over_all(("no_grad, point by point", w.forward, 1)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--samples", type=int, default=60000)
    parser.add_argument("--weights")
    parser.add_argument("--leave-out", default="")
    a = parser.parse_args()
    warnings.simplefilter("ignore")  # of vmap: that it is slow for some operations shows in its figures
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    left_out = {way.strip() for way in a.leave_out.split(";")}
    for figure, found in ways(Work(a.folder, max(a.samples, 1000), a.weights)).items():
        for way, (call, samples) in found.items():
            if f"{figure} | {way}" not in left_out:
                print(f"{figure} | {way}: {median_rate(call, samples, a.seconds):.0f}", flush=True)


if __name__ == "__main__":
    main()
