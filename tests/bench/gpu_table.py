#!/usr/bin/env python3
"""The GPU table out of what gpu.sh and gpu_rounds.py left: Markdown, and all of it as JSON.

usage: gpu_table.py --measured FILE --steps FILE --head FILE --out FOLDER
       gpu_table.py --self-test

steps: lines `name<TAB>status<TAB>seconds<TAB>note`; head: lines `name<TAB>text`.  Either may be missing, as may
`measured`: what is not there is said to be not measured.  Writes FOLDER/gpu-table.md and FOLDER/gpu-results.json.

Work is the dense-equivalent count of the default network: what a program does that skips no zero, in multiply-adds of
its convolutions and linear layer; a program that skips some may come out beyond 100 %.  Traffic counts each layer's
inputs read and outputs written once in float32, no two layers fused.
"""
import argparse
import copy
import json
import os
import statistics
import sys

# Million multiply-adds a sample: the two convolutions and the linear layer.
CONV1, CONV2, LINEAR = 0.3136, 2.5088, 0.01568
FORWARD = CONV1 + CONV2 + LINEAR
GRADIENT = 2 * FORWARD + CONV2 + LINEAR                # no adjoint of the images is needed
KEPT = (CONV1 + 2 * CONV2 + 2 * LINEAR) + (4 * CONV2 + CONV1 + 4 * LINEAR)  # tangent, and tangent of the adjoint
REBUILT = FORWARD + KEPT

# Reals a sample between the layers: image, convolution, pool, convolution, pool, logits.
X, A, B, C, D, Z = 784, 12544, 3136, 6272, 1568, 10
POOLS = (A + 2 * B) + (C + 2 * D)                      # with the places chosen
MOVED_FORWARD = (X + A) + 2 * A + (B + C) + 2 * C + POOLS + (D + Z)
MOVED_ADJOINT = 2 * (D + Z) + 2 * (B + C) + POOLS + 3 * (A + C) + (A + X)
MOVED_TANGENT = (X + A) + 2 * (B + C) + POOLS + 3 * (A + C) + 2 * (D + Z)
MOVED_SECOND = 4 * (D + Z) + 4 * (B + C) + POOLS + 3 * (A + C) + (A + X)
MOVED_KEPT = MOVED_TANGENT + MOVED_SECOND


class Row:
    """One figure: how it is told, its work and traffic a sample, and which of PyTorch's ways stand against it."""

    def __init__(self, name, unit, per, work, moved, peer=None, kept=True, bar=False):
        self.name, self.unit, self.per, self.work, self.moved = name, unit, per, work, moved
        self.peer, self.kept, self.bar = peer or name, kept, bar

    def stands_against(self, line):
        return line["figure"] == self.peer and (self.kept or "kept" not in line["method"])


def rows(m):
    whole, batch, points = m.get("samples", 60000), m.get("batch", 1000), m.get("landscape", 2000)
    eighth = (MOVED_FORWARD + MOVED_ADJOINT) / 8
    return [
        Row("train step 100", "images/s", 1, GRADIENT, MOVED_FORWARD + MOVED_ADJOINT),
        Row("train step 1000", "images/s", 1, GRADIENT, MOVED_FORWARD + MOVED_ADJOINT, bar=True),
        Row("gradient", f"gradients of {whole:,} samples/s", whole, GRADIENT, MOVED_FORWARD + MOVED_ADJOINT, bar=True),
        Row("product", f"products over {whole:,} samples/s", whole, KEPT, MOVED_KEPT, bar=True),
        Row("product rebuilt", f"products over {whole:,} samples/s", whole, REBUILT,
            MOVED_FORWARD + MOVED_ADJOINT + MOVED_KEPT, peer="product", kept=False, bar=True),
        Row("product kept", f"products over {batch:,} samples/s", batch, KEPT, MOVED_KEPT, bar=True),
        Row("8 products", f"products over {whole:,} samples/s", whole, KEPT, MOVED_KEPT, bar=True),
        Row("8 products rebuilt", f"products over {whole:,} samples/s", whole, KEPT + FORWARD / 8, MOVED_KEPT + eighth,
            peer="8 products", kept=False, bar=True),
        Row("landscape points", f"points of {points:,} samples/s", points, FORWARD, MOVED_FORWARD),
        Row("forward", "images/s", 1, FORWARD, MOVED_FORWARD),
    ]


# --- figures ---------------------------------------------------------------------------------------------------------

def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def per_way(m, tf32, wanted):
    """{(method, manner): rates, one for each round, None where it was not measured}."""
    found = {}
    for i, r in enumerate(m.get("rounds", [])):
        for line in r["torch"].get(tf32, []):
            if wanted(line):
                found.setdefault((line["method"], line["manner"]), [None] * len(m["rounds"]))[i] = line["rate"]
    return found


def fastest(found, eager=None):
    """(way, rates) of the greatest median; eager: of the eager ways alone."""
    chosen = {w: r for w, r in found.items() if eager is None or (w[1] == "eager") == eager}
    return max(chosen.items(), key=lambda item: median(item[1]), default=(None, []))


def ours(m, which, name):
    return [r["ours"].get(which, {}).get(name) for r in m.get("rounds", [])]


def ratio(top, bottom):
    """Median of the rounds' ratios; where no round has both, the ratio of the medians."""
    pairs = [t / b for t, b in zip(top, bottom) if t is not None and b]
    if pairs:
        return statistics.median(pairs)
    t, b = median(top), median(bottom)
    return t / b if t is not None and b else None


def ceiling(m, tf32, figure):
    return median(fastest(per_way(m, tf32, lambda line: line["figure"] == figure))[1])


def evaluate(m):
    """All that the table shows, a dictionary for each row."""
    peak, peak_tf32 = ceiling(m, "off", "sgemm"), ceiling(m, "on", "sgemm")
    bandwidth = ceiling(m, "off", "bandwidth")
    table = []
    for row in rows(m):
        mine = {which: ours(m, which, row.name) for which in ("fast", "reproducible", "fast tf32", "reproducible tf32")}
        peers = per_way(m, "off", row.stands_against)
        eager, other, best = fastest(peers, True), fastest(peers, False), fastest(peers)
        best_tf32 = fastest(per_way(m, "on", row.stands_against))
        e = {"figure": row.name, "unit": row.unit, "work_mmac": row.work, "moved_bytes": 4 * row.moved}
        e |= {which: per(median(rates), row.per) for which, rates in mine.items()}
        for key, (way, rates) in (("eager", eager), ("accelerated", other), ("torch tf32", best_tf32)):
            e |= {key: per(median(rates), row.per), f"{key} way": list(way) if way else None}
        fast, fast_tf32 = median(mine["fast"]), median(mine["fast tf32"])
        e |= {"to eager": ratio(mine["fast"], eager[1]), "to fastest": ratio(mine["fast"], best[1]),
              "tf32 to fastest": ratio(mine["fast tf32"], best_tf32[1]),
              "gflops": scaled(fast, 2e-3 * row.work), "share": share(fast, 2e6 * row.work, peak),
              "bandwidth share": share(fast, 4 * row.moved, bandwidth),
              "tf32 share": share(fast_tf32, 2e6 * row.work, peak_tf32)}
        e["bar"] = verdict(e["to eager"]) if row.bar else ""
        table.append(e)
    return {"rows": table, "sgemm": peak, "sgemm tf32": peak_tf32, "bandwidth": bandwidth}


def per(rate, samples):
    return None if rate is None else rate / samples


def scaled(rate, factor):
    return None if rate is None else rate * factor


def share(rate, amount, limit):
    return None if rate is None or not limit else rate * amount / limit


def verdict(value):
    if value is None:
        return "not measured"
    return "met" if value >= 1.0 else "missed"


# --- text ------------------------------------------------------------------------------------------------------------

def number(value):
    """Three digits at least."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def percent(value):
    return "–" if value is None else f"{100 * value:.0f} %"


def times(value):
    return "–" if value is None else f"{value:.2f}"


def named(value, way):
    return number(value) + (f" ({way[0]}{'' if way[1] == 'eager' else ', ' + way[1]})" if way else "")


COLUMNS = ["figure", "unit", "fast", "reproducible", "PyTorch eager", "PyTorch compiled or CUDA graph", "fast / eager",
           "fast / fastest", "first bar", "GFLOP/s", "of sgemm", "of bandwidth", "fast, TF32", "reproducible, TF32",
           "of TF32 sgemm", "PyTorch fastest, TF32", "fast / fastest, TF32"]


def cells(e):
    return [e["figure"], e["unit"], number(e["fast"]), number(e["reproducible"]), named(e["eager"], e["eager way"]),
            named(e["accelerated"], e["accelerated way"]), times(e["to eager"]), times(e["to fastest"]), e["bar"],
            number(e["gflops"]), percent(e["share"]), percent(e["bandwidth share"]), number(e["fast tf32"]),
            number(e["reproducible tf32"]), percent(e["tf32 share"]), named(e["torch tf32"], e["torch tf32 way"]),
            times(e["tf32 to fastest"])]


def line(values):
    return "| " + " | ".join(str(v).replace("|", "/") for v in values) + " |"


def first_bar(table):
    verdicts = {e["figure"]: e["bar"] for e in table if e["bar"]}
    if all(v == "met" for v in verdicts.values()):
        return "met"
    return "; ".join(f"{name} {v}" for name, v in verdicts.items() if v != "met")


def head_lines(head, steps, m, found):
    yield from (f"- {key}: {text}" for key, text in head)
    about = m.get("torch", {}).get("off", {})
    if about:
        yield (f"- PyTorch {about.get('torch')}: CUDA {about.get('cuda')}, cuDNN {about.get('cudnn')}, "
               f"NCCL {about.get('nccl')}; images: {about.get('data')}")
    else:
        yield "- PyTorch: not measured"
    yield from (f"- ours, {key}: {text}" for key, text in m.get("ours", {}).items())
    yield f"- rounds: {len(m.get('rounds', []))} in {m.get('seconds', 0.0):.0f} s"
    tera = {key: scaled(found[key], 1e-12) for key in ("sgemm", "sgemm tf32", "bandwidth")}
    yield (f"- ceilings of this run: sgemm {number(tera['sgemm'])} TFLOP/s, with TF32 {number(tera['sgemm tf32'])} "
           f"TFLOP/s, bandwidth {number(tera['bandwidth'])} TB/s")
    yield f"- first bar (`fast` not slower than PyTorch eager, TF32 off): {first_bar(found['rows'])}"
    for name, status, seconds, note in steps:
        yield f"- step {name}: {status}, {seconds} s{'; ' + note if note else ''}"


def text(head, steps, m):
    found = evaluate(m)
    out = ["# Measured on a GPU", ""] + list(head_lines(head, steps, m, found))
    out += ["", "Medians over the rounds; ratios are medians of the rounds' ratios.  *product* has the base passes "
            "kept over all samples, *rebuilt* has none; of *8 products* each counts.  PyTorch's ways that keep graphs "
            "stand against the kept figures only.", ""]
    out += [line(COLUMNS), line(["---", "---"] + ["---:"] * (len(COLUMNS) - 2))]
    out += [line(cells(e)) for e in found["rows"]]
    out += ["", "## PyTorch's ways", "", line(["figure", "method", "manner", "TF32 off", "TF32 on"]),
            line(["---"] * 3 + ["---:"] * 2)]
    out += list(way_lines(m))
    if m.get("failures"):
        out += ["", "## What did not run", ""]
        out += list(failure_lines(m["failures"]))
    return "\n".join(out) + "\n", found


def way_lines(m):
    """Samples per second of every way, its products counted one by one."""
    seen = {}
    for tf32 in ("off", "on"):
        for r in m.get("rounds", []):
            for w in r["torch"].get(tf32, []):
                seen.setdefault((w["figure"], w["method"], w["manner"]), {}).setdefault(tf32, []).append(w["rate"])
    for way, rates in seen.items():
        yield line([*way, number(median(rates.get("off", []))), number(median(rates.get("on", [])))])


NO_TIME = "not tried: no time left"


def failure_lines(failures):
    """Each once; what there was no time for in one line."""
    told = dict.fromkeys((f["who"], f["what"], f["why"]) for f in failures)
    late = {}
    for who, what, why in told:
        if why == NO_TIME:
            late.setdefault(who, []).append(what)
        else:
            yield f"- {who}: {what}: {why}"
    for who, names in late.items():
        yield f"- {who}: in one round at least there was no time for: {'; '.join(names)}"


# --- files -----------------------------------------------------------------------------------------------------------

def read_table(path, width):
    """Lines of `width` fields; a shorter one is filled."""
    if not path or not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as f:
        found = [row.rstrip("\n").split("\t") for row in f if row.strip()]
    return [tuple((row + [""] * width)[:width]) for row in found]


def read_json(path):
    """What was measured; {} where that is missing or was cut off."""
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except (OSError, ValueError):
        return {}


def write(a):
    m, steps, head = read_json(a.measured), read_table(a.steps, 4), read_table(a.head, 2)
    table, found = text(head, steps, m)
    with open(os.path.join(a.out, "gpu-table.md"), "w", encoding="utf-8") as f:
        f.write(table)
    with open(os.path.join(a.out, "gpu-results.json"), "w", encoding="utf-8") as f:
        json.dump({"head": dict(head), "steps": steps, "table": found, "measured": m}, f, indent=1)


# --- self-test -------------------------------------------------------------------------------------------------------

def canned():
    """Two rounds with round numbers.  The sgemm ceiling is 10 TFLOP/s."""
    def way(figure, method, manner, rate):
        return {"figure": figure, "method": method, "manner": manner, "rate": rate}

    def one(factor):
        off = [way("sgemm", "large", "eager", 9e12), way("sgemm", "larger", "eager", 1e13),
               way("bandwidth", "copy", "eager", 1e12),
               way("train step 1000", "autograd", "eager", 1e5 * factor),
               way("train step 1000", "autograd", "cuda graph", 2e5 * factor),
               way("product", "double backward", "eager", 6e4 * factor),
               way("product", "jvp(grad)", "eager", 5e4 * factor),
               way("product", "double backward, graphs kept", "eager", 9e4 * factor)]
        on = [way("sgemm", "larger", "eager", 4e13), way("train step 1000", "autograd", "cuda graph", 4e5 * factor)]
        return {"ours": {"fast": {"train step 1000": 3e5 * factor, "product": 1.2e5 * factor,
                                  "product rebuilt": 4.5e4 * factor},
                         "reproducible": {"train step 1000": 2.5e5}, "fast tf32": {"train step 1000": 6e5 * factor}},
                "torch": {"off": off, "on": on}}

    return {"samples": 60000, "batch": 1000, "landscape": 2000, "points": 21, "seconds": 100.0,
            "ours": {"device": "a GPU"}, "torch": {"off": {"torch": "2.0", "cuda": "12.1"}},
            "rounds": [one(1.0), one(1.5)],
            "failures": [{"who": "PyTorch, TF32 off", "what": "forward, forward, compile", "why": "no compiler"}] * 2}


def complaints(m):
    """What is wrong with the table of the canned measurements."""
    table, found = text([("date", "a day")], [("build", "ok", "10", ""), ("memcheck", "FAILED", "3", "exit 9")], m)
    by = {e["figure"]: e for e in found["rows"]}
    step, product, rebuilt = by["train step 1000"], by["product"], by["product rebuilt"]
    expected = [
        ("images/s", step["fast"], 3.75e5), ("eager", step["eager"], 1.25e5), ("to eager", step["to eager"], 3.0),
        ("to fastest", step["to fastest"], 1.5), ("TF32", step["tf32 to fastest"], 1.5),
        ("GFLOP/s", step["gflops"], 3.75e5 * 2 * 8.20064e-3), ("share", step["share"], 3.75e5 * 2 * 8.20064e6 / 1e13),
        ("TF32 share", step["tf32 share"], 7.5e5 * 2 * 8.20064e6 / 4e13),
        ("bandwidth", step["bandwidth share"], 3.75e5 * step["moved_bytes"] / 1e12),
        ("products/s", product["fast"], 2.5), ("a kept graph is a peer", product["to eager"], 1.2e5 / 9e4),
        ("no kept graph is a peer", rebuilt["to eager"], 0.75),
    ]
    wrong = [f"{name}: {value} instead of {wanted}" for name, value, wanted in expected
             if value is None or abs(value - wanted) > 1e-9 * abs(wanted)]
    verdicts = {"train step 1000": "met", "product": "met", "product rebuilt": "missed", "8 products": "not measured"}
    wrong += [f"first bar of {name}: {by[name]['bar']} instead of {v}" for name, v in verdicts.items()
              if by[name]["bar"] != v]
    for part in ("- step memcheck: FAILED, 3 s; exit 9", "product rebuilt missed", "| 250,000 (autograd, cuda graph) |",
                 "- PyTorch, TF32 off: forward, forward, compile: no compiler", "- ours, device: a GPU"):
        if table.count(part) != 1:
            wrong.append(f"the text holds {table.count(part)} times: {part}")
    widths = {row.count("|") for row in table.splitlines()
              if row.startswith(("| train", "| product", "| figure | unit")) and row.count("|") > 6}
    return wrong + ([] if widths == {len(COLUMNS) + 1} else [f"columns: {widths}"])


def self_test():
    """The canned measurements give the table they must; with a number or a way changed they do not."""
    wrong = complaints(canned())
    slower, keptless, empty = copy.deepcopy(canned()), copy.deepcopy(canned()), {}
    for r in slower["rounds"]:
        r["ours"]["fast"]["train step 1000"] *= 0.3
    for r in keptless["rounds"]:
        r["torch"]["off"].pop()
    wrong += ["a slower figure was not noticed"] * (not complaints(slower))
    wrong += ["a missing way was not noticed"] * (not complaints(keptless))
    nothing, found = text([], [("build", "FAILED", "1", "exit 1")], empty)
    if "PyTorch: not measured" not in nothing or any(e["bar"] not in ("", "not measured") for e in found["rows"]):
        wrong.append("a run that measured nothing claims something")
    totals = {"forward": (FORWARD, 2.838), "gradient": (GRADIENT, 8.201), "kept": (KEPT, 15.77),
              "rebuilt": (REBUILT, 18.61)}
    wrong += [f"work of {name}: {value}" for name, (value, wanted) in totals.items() if abs(value - wanted) > 0.005]
    if wrong:
        sys.exit("gpu_table self-test:\n" + "\n".join(wrong))
    print("gpu_table self-test: passed")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", default="")
    parser.add_argument("--steps", default="")
    parser.add_argument("--head", default="")
    parser.add_argument("--out", default=".")
    parser.add_argument("--self-test", action="store_true")
    a = parser.parse_args()
    return self_test() if a.self_test else write(a)


if __name__ == "__main__":
    main()
