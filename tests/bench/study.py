#!/usr/bin/env python3
"""The whole study of a deck by this program and by PyTorch with PyHessian's algorithms: seconds by stage, Markdown.

usage: study.py BUILD [--deck inputs/mnist.ini] [--threads 2] [--rounds 3] [--share 1] [--reduction fast]
                      [--settings tuned,default] [--manners kept,loader] [--no-torch] [KEY=VALUE ...]

Stages: train (with its tests), eigen, density, trace and landscape, with the deck's keys.  How much PyTorch has to do
is read from the files of our run: as many steps, tests, products over as many samples, probes, points.  It differs in
one place: where our trace is exact, PyTorch makes the deck's trace.probes products.  With --share S PyTorch does that
share of each stage and its times are scaled linearly; parts that cost little are done whole.  Rounds interleave all;
figures are medians, ratios medians of the rounds' ratios.  Manners of products: kept, one graph of all studied samples;
loader, graphs rebuilt for each batch of 100 of them (see study_torch.py).
"""
import argparse
import configparser
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py

from bench import ROOT, TUNED, flat_weights, place

HERE = Path(__file__).resolve().parent
STAGES = ("train", "eigen", "density", "trace", "landscape")
MANNERS = {"kept": "graph kept", "loader": "data loader"}


# --- ours ------------------------------------------------------------------------------------------------------------

def run_ours(a, folder):
    """Seconds by stage, `start` being all that is no stage: launch, data, files."""
    command = [os.path.join(a.build, "hsgd-dist"), a.deck, f"run.stages={' '.join(STAGES)}", f"run.output={folder}",
               f"run.reduction={a.reduction}", f"device.threads={a.threads}", "device.backend=cpu", *a.words]
    begun = time.perf_counter()
    done = subprocess.run(command, env=os.environ | ROOT, text=True, check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    whole = time.perf_counter() - begun
    if done.returncode != 0:
        sys.exit(f"study.py: error: {' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    taken = {m[1]: float(m[2]) for m in re.finditer(r"^ +(\w+) +took ([\d.]+) s$", done.stdout, re.M)}
    return {stage: taken[stage] for stage in STAGES} | {"start": max(0.0, whole - sum(taken.values())), "all": whole}


def work_done(folder):
    """What our files say was done: the request that study_torch.py takes."""
    with h5py.File(folder / "train.h5") as file:
        deck = configparser.ConfigParser()
        deck.read_string(file.attrs["deck"])
        done = {"batch": deck.getint("train", "batch"), "lr": deck.getfloat("train", "lr"),
                "momentum": deck.getfloat("train", "momentum"), "steps": int(file.attrs["step"]),
                "tests": len(file["test/step"])}
    with h5py.File(folder / "eigen.h5") as file:
        done |= {"products": int(file["products_used"][()]), "samples": int(file.attrs["samples"]),
                 "first": deck.getint("hessian", "first")}
    with h5py.File(folder / "density.h5") as file:
        probes, steps = file["ritz_values"].shape
        done |= {"probes": probes, "density_steps": steps, "bins": len(file["grid"])}
    with h5py.File(folder / "trace.h5") as file:
        done |= {"trace_exact": file.attrs["method"] == "exact",
                 "trace_probes": int(file["probes_used"][()]) or deck.getint("trace", "probes")}
    with h5py.File(folder / "landscape.h5") as file:
        done["points"] = sum(len(line["loss"]) for line in file.values() if "alpha" in line)
    return done


# --- PyTorch's -------------------------------------------------------------------------------------------------------

def run_peer(a, setting, request):
    """What study_torch.py prints, by (setting, manner) and stage."""
    environment = {k: v for k, v in os.environ.items() if k not in TUNED} | (TUNED if setting == "tuned" else {})
    out = subprocess.run([sys.executable, str(HERE / "study_torch.py")], input=json.dumps(request), env=environment,
                         text=True, check=True, stdout=subprocess.PIPE).stdout
    return stages_of(a, setting, json.loads(out))


def stages_of(a, setting, parts):
    """Seconds by stage, scaled to all of it, and of all stages, for each manner of products."""
    scaled = {name: seconds * of / done for name, (seconds, done, of) in parts.items()}
    found = {}
    for manner in a.manners:
        def of(*names, manner=manner):
            return sum(scaled.get(name, 0.0) + scaled.get(f"{manner} {name}", 0.0) for name in names)
        stages = {"train": of("train", "train, tests"), "eigen": of("graph", "eigen"),
                  "density": of("density", "density curve"), "trace": of("trace"), "landscape": of("landscape"),
                  "start": of("start")}
        found[f"{setting}, {MANNERS[manner]}"] = stages | {"all": sum(stages.values())}
    return found


# --- the table -------------------------------------------------------------------------------------------------------

def work_of(stage, w, peer):
    texts = {"train": f"{w['steps']} steps of {w['batch']}, {w['tests']} tests",
             "eigen": f"{w['products']} products over {w['samples']}",
             "density": f"{w['probes']} probes of {w['density_steps']} steps", "landscape": f"{w['points']} points",
             "trace": f"{w['trace_probes']} probes", "start": "data read, files, launch", "all": ""}
    if stage == "trace" and w["trace_exact"]:
        return "ours exact" + (f", PyTorch's {w['trace_probes']} probes" if peer else "")
    return texts[stage]


def print_table(rounds, w):
    columns = list(rounds[0])
    peers = columns[1:]
    head = ["stage", "work", *[f"{c}, s" for c in columns], *[f"{p} / ours" for p in peers]]
    print("\n| " + " | ".join(head) + " |\n| --- | --- |" + " ---: |" * (len(head) - 2))
    for stage in (*STAGES, "start", "all"):
        cells = [stage, work_of(stage, w, peers)]
        cells += [f"{statistics.median(r[c][stage] for r in rounds):.2f}" for c in columns]
        there = all(r["ours"][stage] > 0.0 for r in rounds)  # the program tells tenths of a second
        cells += [f"{statistics.median(r[p][stage] / r['ours'][stage] for r in rounds):.1f}" if there else ""
                  for p in peers]
        print("| " + " | ".join(cells) + " |")


def listed(*known):
    """A type of arguments: some of the known words, with commas between them."""
    def words(text):
        found = text.split(",")
        if not set(found) <= set(known):
            raise argparse.ArgumentTypeError(f"{text}: not some of {','.join(known)}")
        return found
    return words


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="for our run, and so for PyTorch's")
    parser.add_argument("--deck", default=str(HERE.parents[1] / "inputs/mnist.ini"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--reduction", default="fast", choices=("fast", "reproducible"))
    parser.add_argument("--settings", type=listed("tuned", "default"), default=["tuned", "default"])
    parser.add_argument("--manners", type=listed(*MANNERS), default=list(MANNERS))
    parser.add_argument("--no-torch", action="store_true")
    return parser.parse_intermixed_args()


def main():
    a = parsed()
    if not a.no_torch and not os.environ.get("HSGD_DATA"):
        sys.exit("study.py: error: PyTorch needs MNIST: set HSGD_DATA, or give --no-torch")
    rounds, loads = [], [os.getloadavg()[0]]
    for number in range(a.rounds):
        print(f"round {number + 1}: ours", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            results = Path(folder, "out")
            rounds.append({"ours": run_ours(a, results)})
            done = work_done(results)
            weights = flat_weights(results / "weights.h5")
        try:
            request = done | {"data": os.environ.get("HSGD_DATA"), "weights": weights, "threads": a.threads,
                              "share": a.share, "manners": a.manners}
            for setting in [] if a.no_torch else a.settings:
                print(f"round {number + 1}: PyTorch, {setting}", file=sys.stderr, flush=True)
                rounds[-1] |= run_peer(a, setting, request)
        finally:
            os.unlink(weights)
        loads.append(os.getloadavg()[0])
    print(place(a, loads, f"{a.rounds} rounds, {a.reduction} sums"))
    if not a.no_torch:
        print(f"\nPyTorch did {100 * a.share:g} % of its steps, products and points; its times are scaled to all of "
              "them.")
    print_table(rounds, done)


if __name__ == "__main__":
    main()
