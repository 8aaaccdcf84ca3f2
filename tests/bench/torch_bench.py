"""PyTorch's side of the benchmark: the same figures as bench.c, by the ways PyTorch and PyHessian have.

usage: torch_bench.py MNIST_DIR THREADS SECONDS [WEIGHTS]     (WEIGHTS: n float64 in flat order)
Prints "figure: samples/s", the median over repetitions, for the figures that it has.
"""
import gzip
import os
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

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
    call()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or (time.perf_counter() < end and len(times) < 400):
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


def main():
    folder, threads, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    torch.set_num_threads(threads)
    x = torch.from_numpy(read_idx(folder, "train-images-idx3-ubyte")[:1000].astype("f4")).div(255)[:, None]
    y = torch.from_numpy(read_idx(folder, "train-labels-idx1-ubyte")[:1000].astype("i8"))
    p = initial(sys.argv[4] if len(sys.argv) > 4 else None)
    v = [torch.randn_like(q) for q in p]
    optimizer = torch.optim.SGD([q.detach().clone().requires_grad_(True) for q in p], lr=0.0, momentum=0.9)
    trained = optimizer.param_groups[0]["params"]

    def loss(q, m):
        return F.cross_entropy(network(q, x[:m]), y[:m])

    def forward(m):
        with torch.no_grad():
            loss(p, m)

    def step():
        optimizer.zero_grad()
        loss(trained, 100).backward()
        optimizer.step()

    def rebuilt(m):
        g = torch.autograd.grad(loss(p, m), p, create_graph=True)
        torch.autograd.grad(g, p, v)

    kept = torch.autograd.grad(loss(p, 100), p, create_graph=True)
    eight = [[torch.randn_like(q) for q in p] for _ in range(8)]
    figures = [
        ("forward 100", lambda: forward(100), 100),
        ("forward 1000", lambda: forward(1000), 1000),
        ("train step 100", step, 100),
        ("gradient 100", lambda: torch.autograd.grad(loss(p, 100), p), 100),
        ("gradient 1000", lambda: torch.autograd.grad(loss(p, 1000), p), 1000),
        ("product kept", lambda: torch.autograd.grad(kept, p, v, retain_graph=True), 100),
        ("product rebuilt", lambda: rebuilt(100), 100),
        ("8 products kept", lambda: [torch.autograd.grad(kept, p, w, retain_graph=True) for w in eight], 800),
    ]
    for name, call, samples in figures:
        print(f"{name}: {median_rate(call, samples, seconds):.0f}", flush=True)


if __name__ == "__main__":
    main()
