#!/usr/bin/env python3
"""Build the fuzzing targets with clang's sanitizers in a scratch folder and run each.

    tests/fuzz/run.py [TARGET ...]

HSGD_FUZZ_SECONDS (60) is how long each target runs, three at a time; HSGD_FUZZ_KEEP names a folder that keeps what was
found, and the inputs grown from the seeds, from which the next run goes on.  Ends with 1 where anything was found, with
77 where there is no clang.
"""
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SECONDS = int(os.environ.get("HSGD_FUZZ_SECONDS", "60"))
# The longest input, in bytes: what a reader can be led to in little time.
LENGTH = {"deck": 4096, "command_line": 2048, "idx": 512, "idx_gzip": 512, "manifest": 1024}
MEMORY = ["-rss_limit_mb=512", "-malloc_limit_mb=64"]  # far above what an honest input of such a length takes
# Formats are the compiler's to check: doing it again at each call costs a third of the speed.
SANITIZERS = {"ASAN_OPTIONS": "check_printf=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
STUCK = 20  # seconds for one input; the machine may be busy


def build(folder):
    clang = shutil.which("clang") or shutil.which("clang-14")
    if clang is None:
        print("skipped: no clang (tools/packages.txt, [extra])")
        sys.exit(77)
    configure = ["cmake", "-S", ROOT, "-B", folder, "-DHSGD_FUZZ=ON", f"-DCMAKE_C_COMPILER={clang}"]
    for command in (configure, ["cmake", "--build", folder, "--parallel", "2"]):
        made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if made.returncode != 0:
            print(made.stdout)
            sys.exit(1)
    return folder / "tests" / "fuzz"


def run(program, target, scratch, keep):
    """Run one target: (executions, the report of a finding or an empty text)."""
    grown = (keep or scratch) / "grown" / target
    grown.mkdir(parents=True, exist_ok=True)
    seeds = [HERE / "seeds" / target] + ([ROOT / "inputs"] if target == "deck" else [])
    found = (keep or scratch) / f"{target}-"
    command = [program, f"-max_total_time={SECONDS}", f"-max_len={LENGTH[target]}", f"-timeout={STUCK}", *MEMORY,
               "-print_final_stats=1", f"-artifact_prefix={found}", grown, *seeds]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                          env={**os.environ, **SANITIZERS})
    text = done.stdout.decode(errors="replace")
    executions = [int(n) for n in re.findall(r"stat::number_of_executed_units:\s*(\d+)", text)]
    if done.returncode == 0 and executions:
        return executions[-1], ""
    inputs = [f"{path.name}: {path.read_bytes()!r}" for path in sorted(found.parent.glob(found.name + "*"))]
    return sum(executions), "\n".join([f"exit {done.returncode}", text[-6000:], *inputs])


def main():
    targets = sys.argv[1:] or sorted(LENGTH)
    kept = os.environ.get("HSGD_FUZZ_KEEP")
    keep = Path(kept).resolve() if kept else None
    with tempfile.TemporaryDirectory(prefix="hsgd-fuzz-") as name:
        scratch = Path(name)
        programs = build(scratch / "build")
        with concurrent.futures.ThreadPoolExecutor(3) as three:
            runs = {t: three.submit(run, programs / f"fuzz_{t}", t, scratch, keep) for t in targets}
            results = {t: each.result() for t, each in runs.items()}
    for target, (executions, report) in results.items():
        print(f"fuzz {target}: {executions} executions in {SECONDS} s, {'1 finding' if report else 'no finding'}")
        if report:
            print(report)
    findings = sum(bool(report) for _, report in results.values())
    print(f"fuzz: {sum(n for n, _ in results.values())} executions of {len(targets)} targets, {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
