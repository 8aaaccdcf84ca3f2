"""PyHessian's algorithms (arXiv:1912.07145), written anew from their description, with the choices that decide its
figures: norms enlarged by 1e-6, a stop on the change of the quotient or of the running mean, one pass of Gram-Schmidt.

`batch` has the parameters p, a list of tensors, and product(v), the Hessian times such a list.
"""
import numpy as np
import torch

EXTRA = 1e-6  # PyHessian adds it to each norm that it divides by


def inner(a, b):
    return sum((x * y).sum() for x, y in zip(a, b)).item()


def shrunk(v):
    """v over its norm, the norm enlarged: not quite a unit vector."""
    size = inner(v, v) ** 0.5 + EXTRA
    return [x / size for x in v]


def cleared(v, others):
    """v after one pass of Gram-Schmidt against `others`, normalised."""
    for other in others:
        overlap = inner(v, other)
        v = [x - overlap * y for x, y in zip(v, other)]
    return shrunk(v)


def signs(batch):
    return [torch.randint(0, 2, q.shape).to(q.dtype) * 2 - 1 for q in batch.p]


def peer_pairs(batch, count, max_products=100, tolerance=1e-3):
    """Power iteration with projection: [(value, vector, products)]; the value is that of the step before the last."""
    found = []
    for _ in range(count):
        v, before, steps = shrunk([torch.randn_like(q) for q in batch.p]), None, 0
        while steps < max_products:
            v = cleared(v, [pair[1] for pair in found])
            hv = batch.product(v)
            steps += 1
            quotient = inner(hv, v)
            v = shrunk(hv)
            if before is not None and abs(before - quotient) / (abs(before) + EXTRA) < tolerance:
                break
            before = quotient
        found.append((before, v, steps))
    return found


def peer_trace(batch, max_products=100, tolerance=1e-3):
    """Hutchinson's mean, stopped by how little one more probe moves it: (trace, products)."""
    drawn, mean = [], 0.0
    while len(drawn) < max_products:
        v = signs(batch)
        drawn.append(inner(batch.product(v), v))
        moved = abs(np.mean(drawn) - mean) / (abs(mean) + EXTRA)
        mean = np.mean(drawn)
        if moved < tolerance:
            break
    return mean, len(drawn)


def peer_quadrature(batch, steps=100):
    """Lanczos from one vector of signs: nodes and weights, in single precision, by a solver for general matrices."""
    basis, beta = [shrunk(signs(batch))], 0.0
    t = torch.zeros(steps, steps)
    for k in range(steps):
        w = batch.product(basis[k])
        t[k, k] = alpha = inner(w, basis[k])
        w = [x - alpha * y for x, y in zip(w, basis[k])]
        if k > 0:
            w = [x - beta * y for x, y in zip(w, basis[k - 1])]
        if k + 1 < steps:
            t[k, k + 1] = t[k + 1, k] = beta = inner(w, w) ** 0.5  # before it is cleared of the basis
            basis.append(cleared(w if beta != 0.0 else [torch.randn_like(q) for q in batch.p], basis))
    values, vectors = torch.linalg.eig(t)
    return values.real.numpy(), (vectors[0] ** 2).real.numpy()


def density_generate(nodes, weights, bins=10000, sigma_squared=1e-5, overhead=0.01):
    """PyHessian's curve for nodes and weights [probes, steps]: (grid, density)."""
    grid = np.linspace(nodes.min(axis=1).mean() - overhead, nodes.max(axis=1).mean() + overhead, bins)
    variance = sigma_squared * max(1.0, grid[-1] - grid[0])
    bells = np.exp(-(grid[:, None, None] - nodes) ** 2 / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    density = (bells * weights).sum(axis=2).mean(axis=1)
    return grid, density / (density.sum() * (grid[1] - grid[0]))
