#!/usr/bin/env python3
"""Ours and PyTorch in interleaved rounds on one GPU, in a given time; writes one JSON file for gpu_table.py.

usage: gpu_rounds.py --bench HSGD-BENCH --out FILE [--torch PYTHON] [--limit S] [--seconds S] [--rounds N]
                     [--device cuda|cpu] [--samples N] [--batch N] [--points N] [--landscape N]

PyTorch runs in two processes that stay, TF32 off and on, so that nothing is compiled twice.  The first round tries
every way that PyTorch has; later ones only those near the fastest.  Ours is started anew each time.
"""
import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
OURS = {"fast": ["fast"], "reproducible": ["reproducible"],
        "fast tf32": ["fast", "tf32=true"], "reproducible tf32": ["reproducible", "tf32=true"]}
NEAR = 1.15       # a way slower than the fastest by more than this in the first round will not win a later one
RESTARTS = 3      # of a PyTorch process that a way has killed
PATIENCE = 150.0  # seconds without a line after which a PyTorch process is taken for dead: beyond its own limits
# Shares of the time for what may take long in the first round; two more rounds fit into the rest.
SHARE = {"off": 0.30, "on": 0.15, "compile off": 0.18, "compile on": 0.09}


class Peer:
    """A PyTorch process that measures what it is asked for."""

    def __init__(self, command, failures, name):
        self.command, self.failures, self.name = command, failures, name
        self.restarts, self.process, self.about, self.ways = 0, None, {}, []
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, args=(self.process, self.lines), daemon=True).start()

    @staticmethod
    def read(process, lines):
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    def line(self):
        """The next line as a dictionary, or None where there will be none."""
        try:
            line = self.lines.get(timeout=PATIENCE)
        except queue.Empty:
            self.process.kill()
            return None
        try:
            return json.loads(line) if line is not None else None
        except json.JSONDecodeError:
            return self.line()  # something else that a library printed

    def greet(self):
        """Wait for its first line.  False: it did not start."""
        first = self.line()
        if first is None:
            self.failures.append({"who": self.name, "what": "start", "why": f"ended, code {self.process.wait()}"})
            self.process = None
            return False
        self.ways, self.about = [tuple(way) for way in first.pop("ways")], first
        return True

    def ask(self, ways, seconds, limit):
        """Measure these ways; the lines that came."""
        end, found, left = time.monotonic() + limit, [], list(ways)
        while left and self.process is not None:
            request = {"ways": left, "seconds": seconds, "limit": max(0.0, end - time.monotonic())}
            try:
                self.process.stdin.write(json.dumps(request) + "\n")
                self.process.stdin.flush()
            except BrokenPipeError:
                pass  # the reader will find its end
            line = self.line()
            while line is not None and "done" not in line:
                left.remove((line["figure"], line["method"], line["manner"]))
                (self.failures if "failed" in line else found).append(self.told(line))
                line = self.line()
            if line is not None:
                return found
            self.revive(left)
        return found

    def told(self, line):
        if "failed" not in line:
            return line
        what = f"{line['figure']}, {line['method']}, {line['manner']}"
        return {"who": self.name, "what": what, "why": line["failed"]}

    def revive(self, left):
        """The process has died over the first way that is left: go on without it, and with a new process."""
        culprit = ", ".join(left.pop(0)) if left else "after the last way"
        self.failures.append({"who": self.name, "what": culprit, "why": f"ended, code {self.process.wait()}"})
        self.restarts += 1
        if self.restarts > RESTARTS:
            self.process = None
        else:
            self.start()
            self.greet()

    def end(self):
        if self.process is None:
            return
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def ours(a, words, limit, failures, info):
    """{figure: samples/s} of one run of hsgd-bench."""
    command = [a.bench, a.device, words[0], str(a.seconds), *words[1:]]
    if a.samples != 60000:
        command.append(f"samples={a.samples}")
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=limit,
                              check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        failures.append({"who": "hsgd-bench", "what": " ".join(words), "why": str(e)})
        return {}
    if done.returncode != 0:
        failures.append({"who": "hsgd-bench", "what": " ".join(words),
                         "why": f"exit {done.returncode}: {done.stderr.strip()[-400:]}"})
    return read_ours(done.stdout, info)


def read_ours(text, info):
    """Lines `figure: samples/s`; those that begin with # tell of the device."""
    found = {}
    for line in text.splitlines():
        key, _, value = line.lstrip("# ").partition(": ")
        if line.startswith("#"):
            info[key] = value
            continue
        try:
            found[key] = float(value)
        except ValueError:
            pass  # a note of a library
    return found


def near_the_fastest(lines):
    """The ways that may still be the fastest of their figure: among the eager ones or the others, with graphs kept or
    without, as the table sets each of these against something."""
    def group(line):
        return line["figure"], line["manner"] == "eager", "kept" in line["method"]

    best = {}
    for line in lines:
        best[group(line)] = max(best.get(group(line), 0.0), line["rate"])
    return [(line["figure"], line["method"], line["manner"]) for line in lines
            if line["rate"] * NEAR >= best[group(line)]]


def worth_compiling(ways, lines):
    """Of the compilable ways to a figure the one whose eager form was the fastest: compiling takes long."""
    eager = {(line["figure"], line["method"]): line["rate"] for line in lines if line["manner"] == "eager"}
    best = {}
    for way in ways:
        if way[2] == "compile":
            rate = eager.get(way[:2], 0.0)
            if rate >= best.get(way[0], (None, -1.0))[1]:
                best[way[0]] = (way, rate)
    order = ("train step 1000", "product", "8 products", "gradient", "forward", "landscape points", "train step 100")
    return [best[figure][0] for figure in order if figure in best]


class Rounds:
    def __init__(self, a):
        self.a, self.start = a, time.monotonic()
        self.failures, self.info, self.rounds, self.peers = [], {}, [], {}
        if a.torch:
            sizes = [word for key in ("device", "samples", "batch", "points", "landscape")
                     for word in (f"--{key}", str(getattr(a, key)))]
            for tf32 in ("off", "on"):
                command = [a.torch, os.path.join(HERE, "gpu_torch.py"), "--serve", "--tf32", tf32, *sizes]
                self.peers[tf32] = Peer(command, self.failures, f"PyTorch, TF32 {tf32}")
            for name, peer in list(self.peers.items()):
                if not peer.greet():
                    del self.peers[name]

    def left(self):
        return self.a.limit - (time.monotonic() - self.start)

    def ask(self, tf32, ways, share):
        """Within its share of all the time, and within what is left but for what ours needs."""
        if tf32 not in self.peers or not ways:
            return []
        limit = max(0.0, min(share * self.a.limit, self.left() - 0.1 * self.a.limit))
        return self.peers[tf32].ask(ways, self.a.seconds, limit)

    def run_ours(self, which, into):
        into["ours"][which] = ours(self.a, OURS[which], max(5.0, self.left()), self.failures, self.info)

    def first(self):
        """Every way."""
        r = {"ours": {}, "torch": {"off": [], "on": []}}
        self.rounds.append(r)
        plain = [way for way in (self.peers["off"].ways if "off" in self.peers else []) if way[2] != "compile"]
        self.run_ours("fast", r)
        r["torch"]["off"] = self.ask("off", plain, SHARE["off"])
        self.run_ours("reproducible", r)
        self.run_ours("fast tf32", r)
        r["torch"]["on"] = self.ask("on", near_the_fastest(r["torch"]["off"]), SHARE["on"])
        self.run_ours("reproducible tf32", r)
        if "off" in self.peers:
            ways = worth_compiling(self.peers["off"].ways, r["torch"]["off"])
            compiled = self.ask("off", ways, SHARE["compile off"])
            r["torch"]["off"] += compiled
            r["torch"]["on"] += self.ask("on", [(c["figure"], c["method"], c["manner"]) for c in compiled],
                                         SHARE["compile on"])

    def next(self):
        r = {"ours": {}, "torch": {"off": [], "on": []}}
        self.rounds.append(r)
        for tf32, names in (("off", ("fast", "reproducible")), ("on", ("fast tf32", "reproducible tf32"))):
            self.run_ours(names[0], r)
            r["torch"][tf32] = self.ask(tf32, near_the_fastest(self.rounds[0]["torch"][tf32]), 1.0)
            self.run_ours(names[1], r)

    def go(self):
        self.first()
        needed = 0.3 * (time.monotonic() - self.start)  # a guess, until one has been timed
        while len(self.rounds) < self.a.rounds and self.left() > 1.2 * needed:
            start = time.monotonic()
            self.next()
            needed = time.monotonic() - start
        for peer in self.peers.values():
            peer.end()

    def write(self):
        a = self.a
        result = {"ours": self.info, "torch": {name: peer.about for name, peer in self.peers.items()},
                  "samples": a.samples, "batch": a.batch, "landscape": a.landscape, "points": a.points,
                  "seconds": time.monotonic() - self.start, "rounds": self.rounds, "failures": self.failures}
        with open(a.out, "w", encoding="utf-8") as f:
            json.dump(result, f, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--torch", default="", help="a Python with PyTorch; without it only ours is measured")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--limit", type=float, default=240.0)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=60000)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--points", type=int, default=21)
    parser.add_argument("--landscape", type=int, default=2000)
    a = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("gpu_rounds: ended; what was measured is written"))
    rounds = Rounds(a)
    try:
        rounds.go()
    finally:
        rounds.write()
    measured = any(rounds.rounds[0]["ours"].values()) if rounds.rounds else False
    sys.exit(0 if measured else "gpu_rounds: hsgd-bench gave no figure")


if __name__ == "__main__":
    main()
