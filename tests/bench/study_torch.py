"""PyTorch's side of study.py: the stages of a study, or a share of each; JSON in, JSON out.

usage: study_torch.py, with one object on the standard input:
    data, weights (n float64 in flat order), threads, share, manners, batch, lr, momentum, steps, tests (over the test
    set), samples, first, products (of eigen), probes, density_steps, bins, trace_probes, points (of all lines together)

Prints {part: [seconds, done, of]}: `done` of `of` steps, products or points took so many seconds.  Products are made in
one of two manners: kept, the graph of the gradient of all studied samples as one batch, built once (PyHessian's way to
one batch); loader, for each batch of 100 the graph anew (its way to more).
"""
import json
import math
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

from pyhessian_algorithms import density_generate, inner, peer_pairs, peer_quadrature, signs
from torch_bench import initial, network, read_idx

BATCH = 100  # of the loader and of plain losses: on 2 cores as fast as 1000 or faster


class Kept:
    """Products with the graph of one batch of all samples."""

    def __init__(self, p, x, y):
        self.p = p
        self.graph = torch.autograd.grad(F.cross_entropy(network(p, x), y), p, create_graph=True)

    def product(self, v):
        return torch.autograd.grad(self.graph, self.p, v, retain_graph=True)


class Loader:
    """Products that rebuild the graph for each batch."""

    def __init__(self, p, x, y):
        self.p, self.x, self.y = p, x, y

    def product(self, v):
        total = [torch.zeros_like(q) for q in self.p]
        for i in range(0, len(self.x), BATCH):
            x, y = self.x[i:i + BATCH], self.y[i:i + BATCH]
            g = torch.autograd.grad(F.cross_entropy(network(self.p, x), y), self.p, create_graph=True)
            torch._foreach_add_(total, list(torch.autograd.grad(g, self.p, v)), alpha=len(x) / len(self.x))
        return total


MANNERS = {"kept": Kept, "loader": Loader}


def timed(call):
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def load(folder, split):
    images, labels = (read_idx(folder, f"{split}-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    return torch.from_numpy(images.astype("f4")).div(255)[:, None], torch.from_numpy(labels.astype("i8"))


def train(q, data, steps):
    """So many steps of stochastic gradient descent, each epoch in a new order."""
    x, y = data
    p = initial(None)
    optimizer = torch.optim.SGD(p, lr=q["lr"], momentum=q["momentum"])
    order, at = torch.randperm(len(x)), 0
    for _ in range(steps):
        if at + q["batch"] > len(x):
            order, at = torch.randperm(len(x)), 0
        chosen = order[at:at + q["batch"]]
        at += q["batch"]
        optimizer.zero_grad()
        F.cross_entropy(network(p, x[chosen]), y[chosen]).backward()
        optimizer.step()


def evaluate(p, data, batches):
    """Loss and accuracy over so many batches of the set, which goes round."""
    x, y = data
    total, right = 0.0, 0
    with torch.no_grad():
        for k in range(batches):
            i = k * BATCH % len(x)
            z = network(p, x[i:i + BATCH])
            total += F.cross_entropy(z, y[i:i + BATCH]).item()
            right += (z.argmax(1) == y[i:i + BATCH]).sum().item()
    return total, right


def landscape(p, x, y, points):
    """Losses at so many points of a line."""
    direction = [torch.randn_like(q) / 170.0 for q in p]  # of about unit norm
    with torch.no_grad():
        for k in range(points):
            moved = [w + 0.05 * (k - points // 2) * d for w, d in zip(p, direction)]
            sum(F.cross_entropy(network(moved, x[i:i + BATCH]), y[i:i + BATCH]).item()
                for i in range(0, len(x), BATCH))


def some(share, count):
    """That share of a count, at least one."""
    return min(count, max(1, round(share * count)))


def products(q, h, parts, manner):
    """The stages that are made of products."""
    h.product(signs(h))  # not timed: the first of its kind takes longer, which a share would multiply
    share, pairs = q["share"], 4
    each = max(1, math.ceil(some(share, q["products"]) / pairs))
    parts[f"{manner} eigen"] = [timed(lambda: peer_pairs(h, pairs, each, 0.0))[1], each * pairs, q["products"]]
    probes, steps = q["probes"], q["density_steps"]
    done = max(1, int(share * probes))
    short = min(steps, max(2, round(share * probes * steps))) if share * probes < 1.0 else steps
    found, seconds = timed(lambda: [peer_quadrature(h, short) for _ in range(done)])
    parts[f"{manner} density"] = [seconds, done * short, probes * steps]
    nodes, weights = (np.resize(np.array([f[k] for f in found]), (probes, steps)) for k in (0, 1))
    curve = timed(lambda: [density_generate(n[None], w[None], q["bins"]) for n, w in zip(nodes, weights)])[1]
    parts[f"{manner} density curve"] = [curve, 1, 1]
    done = some(share, q["trace_probes"])
    parts[f"{manner} trace"] = [timed(lambda: [inner(h.product(v), v) for v in (signs(h) for _ in range(done))])[1],
                                done, q["trace_probes"]]


def main():
    q, parts = json.load(sys.stdin), {}
    torch.set_num_threads(q["threads"])
    torch.manual_seed(1)
    (data, test), seconds = timed(lambda: (load(q["data"], "train"), load(q["data"], "t10k")))
    parts["start"] = [seconds, 1, 1]
    train(q, data, 2)  # not timed, as in `products`
    steps = some(q["share"], q["steps"])
    parts["train"] = [timed(lambda: train(q, data, steps))[1], steps, q["steps"]]
    p = initial(q["weights"])
    batches = q["tests"] * (len(test[0]) // BATCH)
    if batches > 0:
        done = some(q["share"], batches)
        parts["train, tests"] = [timed(lambda: evaluate(p, test, done))[1], done, batches]
    x, y = (part[q["first"]:q["first"] + q["samples"]] for part in data)
    done = some(q["share"], q["points"])
    parts["landscape"] = [timed(lambda: landscape(p, x, y, done))[1], done, q["points"]]
    for manner in q["manners"]:
        h, seconds = timed(lambda m=manner: MANNERS[m](p, x, y))
        parts[f"{manner} graph"] = [seconds, 1, 1]
        products(q, h, parts, manner)
        del h
    print(json.dumps(parts))


if __name__ == "__main__":
    main()
