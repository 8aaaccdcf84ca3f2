#!/usr/bin/env python3
"""PyTorch's side of the GPU table: every way that PyTorch and PyHessian have to each figure, timed; JSON lines.

usage: gpu_torch.py [--device cuda|cpu] [--tf32 off|on] [--seconds S] [--limit S] [--samples N] [--batch N]
                    [--points N] [--landscape N] [--only WORD]
       gpu_torch.py --serve ...      measure what each line of the standard input asks for; see `serve`
       gpu_torch.py --self-test      all ways to a figure agree: on the CPU, small, in double

A figure ("product") is got by a method ("double backward") carried out in one of three manners: eager; cuda graph (the
whole figure captured by hand and replayed); compile (torch.compile with mode="reduce-overhead").  A way that fails
gives a line that says why.  Names and units are those of hsgd-bench: `rate` is samples per second, for several products
at once times their number.  Images ($HSGD_DATA, else noise as sparse as digits) and labels lie ready on the device, as
floats, and batches are slices: nothing is gathered, copied or converted in the timed part.  cuDNN searches for its
fastest algorithms.  A time is that of a burst of calls of at least BURST seconds, with one synchronisation at its end;
rates are by the median.
"""
import argparse
import itertools
import json
import math
import os
import signal
import statistics
import sys
import time
import warnings

import numpy as np
import torch
import torch.nn.functional as F

from torch_bench import SHAPES, initial, network, read_idx

try:
    from torch import func
except ImportError:  # before PyTorch 2
    import functorch as func

PRODUCTS = 8
BURST = 0.02           # seconds: a thousand times what the clock and a synchronisation take
ATTEMPT = 60           # seconds that one way may take to be made ready: compilers have no limit of their own
KEPT_SHARE = 0.5       # of the free memory that kept graphs may take
MANNERS = ("eager", "cuda graph", "compile")


class Unavailable(Exception):
    """This way cannot be had here."""


def entropy(z, y):
    """Cross-entropy by operations that all have rules for forward-mode derivatives of their gradients."""
    return (torch.logsumexp(z, 1) - z.gather(1, y[:, None])[:, 0]).mean()


class Work:
    """Data, weights and vectors on the device, and the sizes of the figures."""

    def __init__(self, a, dtype=torch.float32):
        self.device, self.batch, self.points = torch.device(a.device), a.batch, a.points
        self.cuda = self.device.type == "cuda"
        self.samples = a.samples // a.batch * a.batch
        images, labels, self.data = load(max(self.samples, a.landscape))
        self.x, self.y = images.to(self.device, dtype), labels.to(self.device)
        self.landscape = min(a.landscape, len(self.x))
        self.p = [q.detach().to(self.device, dtype).requires_grad_(True) for q in initial(None)]
        torch.manual_seed(1)
        self.v = [torch.randn(s).to(self.device, dtype) for s in SHAPES]
        self.v8 = [torch.randn((PRODUCTS, *s)).to(self.device, dtype) for s in SHAPES]
        self.fixed = tuple(q.detach() for q in self.p)  # for torch.func, which tracks what it differentiates itself

    def batches(self):
        for i in range(0, self.samples, self.batch):
            yield self.x[i:i + self.batch], self.y[i:i + self.batch]

    def synchronize(self):
        if self.cuda:
            torch.cuda.synchronize()

    def free(self):
        if self.cuda:
            torch.cuda.empty_cache()


def load(count):
    folder = os.environ.get("HSGD_DATA", "")
    if folder:
        x = read_idx(folder, "train-images-idx3-ubyte")[:count]
        y = read_idx(folder, "train-labels-idx1-ubyte")[:count]
        if len(x) == count:
            return torch.from_numpy(x.astype("f4")).div(255)[:, None], torch.from_numpy(y.astype("i8")), "HSGD_DATA"
    g = np.random.default_rng(1)
    x = g.random((count, 1, 28, 28), dtype="f4") * (g.random((count, 1, 28, 28), dtype="f4") < 0.19)
    return torch.from_numpy(x), torch.from_numpy(g.integers(0, 10, count)), "noise"


# --- one batch -------------------------------------------------------------------------------------------------------

def gradient(w):
    return lambda x, y: torch.autograd.grad(F.cross_entropy(network(w.p, x), y), w.p)


def gradient_func(w):
    return lambda x, y: func.grad(lambda q: F.cross_entropy(network(q, x), y))(w.fixed)


def graph_of_gradient(w, x, y):
    return torch.autograd.grad(F.cross_entropy(network(w.p, x), y), w.p, create_graph=True)


def double_backward(w):
    return lambda x, y: torch.autograd.grad(graph_of_gradient(w, x, y), w.p, w.v)


def jvp_grad(w):
    return lambda x, y: func.jvp(func.grad(lambda q: entropy(network(q, x), y)), (w.fixed,), (tuple(w.v),))[1]


def grad_jvp(w):
    def one(x, y):
        return func.grad(lambda q: func.jvp(lambda r: entropy(network(r, x), y), (q,), (tuple(w.v),))[1])(w.fixed)
    return one


def eight_jvp_grad(w):
    def one(x, y):
        g = func.grad(lambda q: entropy(network(q, x), y))
        return func.vmap(lambda *v: func.jvp(g, (w.fixed,), (v,))[1])(*w.v8)
    return one


def eight_grad_jvp(w):
    def one(x, y):
        def single(*v):
            return func.grad(lambda q: func.jvp(lambda r: entropy(network(r, x), y), (q,), (v,))[1])(w.fixed)
        return func.vmap(single)(*w.v8)
    return one


def eight_batched(w):
    return lambda x, y: torch.autograd.grad(graph_of_gradient(w, x, y), w.p, w.v8, is_grads_batched=True)


def loop_over(w, g):
    """Eight times backward through one graph: 8 * 6 arrays."""
    return [h for k in range(PRODUCTS) for h in torch.autograd.grad(g, w.p, [v[k] for v in w.v8], retain_graph=True)]


def eight_loop(w):
    return lambda x, y: loop_over(w, graph_of_gradient(w, x, y))


# --- a figure: a call that leaves the whole result -------------------------------------------------------------------

def sums(w, count):
    """Where the batches' results are added, as `count` arrays: of one vector, or of eight as one array or one each."""
    lead = () if count == len(SHAPES) and not w.several else (PRODUCTS,)
    total = [torch.zeros((*lead, *s), dtype=w.x.dtype, device=w.device) for s in SHAPES]
    parts = total if count == len(SHAPES) else [t[k] for k in range(PRODUCTS) for t in total]
    return total, parts


def sweep(w, one):
    """Add one(x, y) over all batches."""
    def call():
        total, parts = None, None
        for x, y in w.batches():
            result = list(one(x, y))
            if total is None:
                total, parts = sums(w, len(result))
            torch._foreach_add_(parts, result)
        return total
    return call


def sweep_kept(w, one):
    """The same where one(graph) only goes backward through graphs made beforehand and kept."""
    free = torch.cuda.mem_get_info()[0] if w.cuda else math.inf
    before = torch.cuda.memory_allocated() if w.cuda else 0
    graphs = []
    for x, y in w.batches():
        graphs.append(graph_of_gradient(w, x, y))
        taken = torch.cuda.memory_allocated() - before if w.cuda else 0
        if taken / len(graphs) * (w.samples // w.batch) > KEPT_SHARE * free:
            raise Unavailable("the graphs of all batches do not fit the memory")

    def call():
        total, parts = None, None
        for g in graphs:
            result = list(one(g))
            if total is None:
                total, parts = sums(w, len(result))
            torch._foreach_add_(parts, result)
        return total
    return call


def one_batch_kept(w):
    g = graph_of_gradient(w, w.x[:w.batch], w.y[:w.batch])
    return lambda: list(torch.autograd.grad(g, w.p, w.v, retain_graph=True))


def forward(w, one):
    """The mean loss; each is copied, as a compiled function's result is overwritten by its next call."""
    def call():
        with torch.no_grad():
            return [torch.stack([one(w.p, x, y).clone() for x, y in w.batches()]).mean()]
    return call


def landscape(w, one):
    """The loss at `points` places along a line."""
    x, y, steps = w.x[:w.landscape], w.y[:w.landscape], np.linspace(-0.5, 0.5, w.points).tolist()

    def call():
        with torch.no_grad():
            return [torch.stack([one([q + t * d for q, d in zip(w.p, w.v)], x, y).clone() for t in steps])]
    return call


def loss_of(q, x, y):
    return F.cross_entropy(network(q, x), y)


def train_step(w, count, one):
    """One step of gradient descent with momentum; the rate is zero, so that the work stays the same."""
    q = [p.detach().clone().requires_grad_(True) for p in w.p]
    optimizer = torch.optim.SGD(q, lr=0.0, momentum=0.9)
    x, y = w.x[:count], w.y[:count]

    def call():
        optimizer.zero_grad(set_to_none=True)
        one(q, x, y).backward()
        optimizer.step()
        return [p.grad for p in q]
    return call


def methods(w):
    """figure: (samples, columns, {method: make}); make(wrap) gives the call, with wrap around its inner function."""
    b = w.batch

    def over_all(*pairs):
        return {name: (lambda wrap, one=one: sweep(w, wrap(one(w)))) for name, one in pairs}

    def over_kept(one):
        return lambda wrap: sweep_kept(w, one)

    small = min(100, b)
    return {
        "train step 100": (small, 1, {"autograd": lambda wrap: train_step(w, small, wrap(loss_of))}),
        "train step 1000": (b, 1, {"autograd": lambda wrap: train_step(w, b, wrap(loss_of))}),
        "gradient": (w.samples, 1, over_all(("autograd", gradient), ("torch.func", gradient_func))),
        "product": (w.samples, 1, over_all(("double backward", double_backward), ("jvp(grad)", jvp_grad),
                                           ("grad(jvp)", grad_jvp))
                    | {"double backward, graphs kept":
                       over_kept(lambda g: torch.autograd.grad(g, w.p, w.v, retain_graph=True))}),
        "product kept": (b, 1, {"double backward, graph kept": lambda wrap: one_batch_kept(w)}),
        "8 products": (w.samples, PRODUCTS,
                       over_all(("double backward, loop", eight_loop), ("double backward, batched", eight_batched),
                                ("vmap(jvp(grad))", eight_jvp_grad), ("vmap(grad(jvp))", eight_grad_jvp))
                       | {"double backward, loop, graphs kept": over_kept(lambda g: loop_over(w, g))}),
        "landscape points": (w.landscape * w.points, 1, {"forward": lambda wrap: landscape(w, wrap(loss_of))}),
        "forward": (w.samples, 1, {"forward": lambda wrap: forward(w, wrap(loss_of))}),
    }


def compilable(method):
    """torch.compile cannot trace through backward calls; torch.func's transforms it can."""
    return "backward" not in method


def ways(w, only=""):
    """All (figure, method, manner), the cheap and certain ones first; ceilings before all."""
    found = [("sgemm", size, "eager") for size in ("large", "larger")]
    found += [("bandwidth", kind, "eager") for kind in ("copy", "triad")]
    for manner in MANNERS:
        for figure, (_, _, ms) in methods(w).items():
            for m in ms:
                if figure == "gradient" and (m == "torch.func") != (manner == "compile"):
                    continue  # what each manner takes: one of the two computes the same by the same kernels
                if manner != "compile" or compilable(m):
                    found.append((figure, m, manner))
    return [way for way in found if only in " ".join(way)]


# --- carrying out ----------------------------------------------------------------------------------------------------

def captured(w, build):
    """The call as a CUDA graph.  All of it happens on one stream: what goes backward runs on the stream of its forward
    pass, and a capture may not reach for another."""
    if not w.cuda:
        raise Unavailable("CUDA graphs need CUDA")
    side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call = build(lambda one: one)
        for _ in range(2):
            call()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=side):
        result = call()

    def replay(_held=call):  # with the memory that the graph reads
        graph.replay()
        return result
    return replay


def compiled(one):
    if not hasattr(torch, "compile"):
        raise Unavailable(f"PyTorch {torch.__version__} has no torch.compile")
    fast, begin = torch.compile(one, mode="reduce-overhead"), torch.compiler.cudagraph_mark_step_begin

    def call(*arguments):
        begin()  # the results of the last call have been used
        return fast(*arguments)
    return call


def make(w, figure, method, manner):
    w.several = figure == "8 products"
    build = methods(w)[figure][2][method]
    if manner == "cuda graph":
        return captured(w, build)
    return build(compiled if manner == "compile" else lambda one: one)


def flat(arrays):
    return torch.cat([t.detach().double().flatten().cpu() for t in arrays])


def timed(w, call, seconds):
    """Median seconds of a call that has been made once, and how many bursts.  At least three, but for calls so long
    that they would take more than five times `seconds`: rounds repeat them."""
    w.synchronize()
    start = time.perf_counter()
    call()
    w.synchronize()
    one = max(time.perf_counter() - start, 1e-9)
    burst, least = max(1, math.ceil(BURST / one)), max(1, min(3, int(5 * seconds / one)))
    times, end = [], time.perf_counter() + seconds
    while len(times) < least or (time.perf_counter() < end and len(times) < 400):
        start = time.perf_counter()
        for _ in range(burst):
            call()
        w.synchronize()
        times.append((time.perf_counter() - start) / burst)
    return statistics.median(times), len(times)


def ceiling(w, figure, method):
    """(call, amount): operations of a product of large matrices, or bytes moved by a pass over large arrays."""
    if figure == "sgemm":
        n = {"large": 4096, "larger": 8192}[method] if w.cuda else {"large": 256, "larger": 512}[method]
        a, b, c = (torch.randn(n, n, device=w.device) for _ in range(3))
        return lambda: torch.mm(a, b, out=c), 2 * n ** 3
    n = 2 ** 28 if w.cuda else 2 ** 20
    a, b, c = (torch.ones(n, device=w.device) for _ in range(3))
    if method == "copy":
        return lambda: a.copy_(b), 8 * n
    return lambda: torch.add(b, c, alpha=0.5, out=a), 12 * n


def measure(w, way, seconds, references):
    """The line of one way; raises what went wrong."""
    figure, method, manner = way
    line = {"figure": figure, "method": method, "manner": manner}
    if figure in ("sgemm", "bandwidth"):
        call, amount = ceiling(w, figure, method)
        call()
    else:
        call = make(w, *way)
        result = flat(call())
        reference = references.setdefault(figure, result)
        difference = float((result - reference).norm() / reference.norm())
        if not difference < 1e-2:  # TF32 rounds at 5e-4
            raise Unavailable(f"its result is off by {difference:.2g}")
        line["difference"] = difference
        samples, columns, _ = methods(w)[figure]
        amount = samples * columns
    signal.alarm(0)
    median, repeats = timed(w, call, seconds)
    return line | {"rate": amount / median, "repeats": repeats}


def too_long(*_):
    raise TimeoutError(f"not ready after {ATTEMPT} s")


def measure_all(w, wanted, seconds, limit, references):
    """Yield the lines of the ways wanted; what the limit leaves no time for is told."""
    end = time.monotonic() + limit
    signal.signal(signal.SIGALRM, too_long)
    for way in wanted:
        named = dict(zip(("figure", "method", "manner"), way))
        left = end - time.monotonic()
        if left <= 0:
            yield named | {"failed": "not tried: no time left"}
            continue
        try:
            signal.alarm(max(1, min(ATTEMPT, math.ceil(left))))
            yield measure(w, way, seconds, references)
        except Exception as e:  # whatever a way may raise, the others are still measured
            signal.alarm(0)
            text = " ".join(str(e).split()) or type(e).__name__
            yield named | {"failed": text[:200]}
        w.free()
        w.synchronize()  # raises where the device is lost: then nothing that follows would mean anything


def about(w, tf32):
    line = {"torch": torch.__version__, "data": w.data, "tf32": tf32, "samples": w.samples, "batch": w.batch,
            "points": w.points, "landscape": w.landscape, "device": str(w.device)}
    if w.cuda:
        line |= {"device": torch.cuda.get_device_name(), "cuda": torch.version.cuda,
                 "cudnn": torch.backends.cudnn.version(),
                 "nccl": ".".join(map(str, torch.cuda.nccl.version()))}
    return line


def serve(w, about_line, ways_here):
    """Answer each line {"ways": [[figure, method, manner], ...], "seconds": S, "limit": S} by the lines of its ways and
    {"done": true}.  The first line of all says what is here, and which ways there are."""
    references = {}
    print(json.dumps(about_line | {"ways": ways_here}), flush=True)
    for request in map(json.loads, sys.stdin):
        for line in measure_all(w, request["ways"], request["seconds"], request["limit"], references):
            print(json.dumps(line), flush=True)
        print(json.dumps({"done": True}), flush=True)


def self_test():
    """All eager ways to a figure agree in double; and a wrong way does not."""
    a = argparse.Namespace(device="cpu", batch=20, samples=60, points=3, landscape=40)
    w = Work(a, torch.float64)
    worst = 0.0
    for figure, (_, _, ms) in methods(w).items():
        results = [flat(make(w, figure, m, "eager")()) for m in ms]
        worst = max([worst] + [float((r - results[0]).norm() / results[0].norm()) for r in results])
        if not all(torch.isfinite(r).all() and r.norm() > 0 for r in results):
            sys.exit(f"self-test: {figure} is zero or not finite")
    if worst > 1e-10:  # the conditioning of two orders of summation, far above 60 additions in double
        sys.exit(f"self-test: two ways to a figure differ by {worst:.2g}")
    wrong = sweep(w, lambda x, y: [2 * g for g in gradient(w)(x, y)])
    w.several = False
    if float((flat(wrong()) - flat(sweep(w, gradient(w))())).norm()) < 1e-10:
        sys.exit("self-test: a wrong gradient was not noticed")
    print(f"self-test: all ways agree to {worst:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tf32", default="off", choices=("off", "on"))
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--limit", type=float, default=120.0)
    parser.add_argument("--samples", type=int, default=60000)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--points", type=int, default=21)
    parser.add_argument("--landscape", type=int, default=2000)
    parser.add_argument("--only", default="", help="only the ways whose figure, method and manner hold this")
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--self-test", action="store_true")
    a = parser.parse_args()
    warnings.simplefilter("ignore")
    if a.self_test:
        return self_test()
    if a.device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"gpu_torch: PyTorch {torch.__version__} sees no GPU; --device cpu --samples 200 tries the code")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = a.tf32 == "on"
    torch.backends.cudnn.benchmark = True
    w = Work(a)
    if a.serve:
        return serve(w, about(w, a.tf32), ways(w, a.only))
    for line in itertools.chain([about(w, a.tf32)], measure_all(w, ways(w, a.only), a.seconds, a.limit, {})):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
