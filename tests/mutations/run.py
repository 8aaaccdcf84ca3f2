#!/usr/bin/env python3
"""Seed each fault of table.py into a copy of the sources, and see that the tests of its room notice.

    tests/mutations/run.py [REGEX]      only the faults whose name or file matches

HSGD_MUTATIONS_FOLDER names a folder for the copy and its build, which is then kept; else a scratch folder is used.  The
tests must pass on the unchanged copy.  Ends with 1 where a fault went unnoticed or does not compile.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from table import FAULTS

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT = 600  # seconds for one test: a fault may make ranks wait for each other, which is noticing it


def command(words, cwd):
    """(exit status, output)"""
    done = subprocess.run(words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                          check=False)
    return done.returncode, done.stdout


def must(words, cwd):
    status, text = command(words, cwd)
    if status != 0:
        print(text[-4000:])
        sys.exit(f"mutations: {' '.join(map(str, words))} failed")
    return text


def copy_sources(to):
    """Make `to` hold the files that git knows or would add, and no others; what is the same stays, being built."""
    listed = must(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], ROOT).split("\0")
    names = {name for name in listed if name and (ROOT / name).is_file()}
    for old in [path for path in to.rglob("*") if path.is_file() and "build" not in path.relative_to(to).parts[:1]]:
        if old.relative_to(to).as_posix() not in names:
            old.unlink()
    for name in names:
        if not (to / name).is_file() or (to / name).read_bytes() != (ROOT / name).read_bytes():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)


def tests_of(fault, build):
    return re.findall(r"Test +#\d+: (\S+)", must(["ctest", "-N", "-R", fault.tests], build))


def targets_of(tests):
    """The programs that these tests run."""
    targets = set()
    for test in tests:
        room, rest = test.split(".", 1)
        if room == "integration":
            targets.add("hsgd-dist")
        elif room == "fuzz":
            targets.add("fuzz_" + rest.removesuffix("_seeds"))
        else:
            targets.add(f"{room}_{rest.split('.')[0]}")
    return sorted(targets)


def build_with(targets, build):
    return command(["cmake", "--build", build, "--parallel", "2", "--target", *targets], build)


def noticed(fault, sources, build):
    """What became of a fault: (noticed, in words)."""
    file = sources / fault.file
    whole = file.read_text(encoding="utf-8")
    if whole.count(fault.text) != 1:
        return False, "its text is not there once"
    began = time.monotonic()
    tests = tests_of(fault, build)
    if not tests:
        return False, f"no test matches {fault.tests}"
    file.write_text(whole.replace(fault.text, fault.becomes), encoding="utf-8")
    try:
        status, text = build_with(targets_of(tests), build)
        if status != 0:
            return False, "does not compile:\n" + text[-2000:]
        status, text = command(["ctest", "-R", fault.tests, "--timeout", str(LIMIT)], build)
    finally:
        file.write_text(whole, encoding="utf-8")
    failed = {name + (" (it hung)" if how == "Timeout" else "")
              for name, how in re.findall(r"- (\S+) \((Failed|Timeout|Subprocess aborted|SEGFAULT)", text)}
    seconds = time.monotonic() - began
    if status == 0 or not failed:
        return False, f"NOT NOTICED by {', '.join(tests)} ({seconds:.0f} s)"
    return True, f"noticed by {', '.join(sorted(failed))} ({seconds:.0f} s)"


def check_unchanged(faults, build):
    """Build and pass, without a fault, what is to notice them."""
    tests = sorted({test for fault in faults for test in tests_of(fault, build)})
    status, text = build_with(targets_of(tests), build)
    if status == 0:
        chosen = "|".join(fault.tests for fault in faults)
        status, text = command(["ctest", "-R", chosen, "--output-on-failure"], build)
    if status != 0 or re.search(r"\*\*\*(Skipped|Not Run)", text):
        print(text[-6000:])
        sys.exit("mutations: without a fault the tests must build, run and pass")
    print(f"without a fault: {len(tests)} tests pass", flush=True)


def run(folder, faults):
    sources = folder / "sources"
    build = sources / "build"  # as in the repository, so that a compiler cache knows the paths
    sources.mkdir(parents=True, exist_ok=True)
    copy_sources(sources)
    launcher = [f"-DCMAKE_{language}_COMPILER_LAUNCHER=ccache" for language in ("C", "CXX")]
    must(["cmake", "-S", sources, "-B", build, *(launcher if shutil.which("ccache") else [])], folder)
    check_unchanged(faults, build)
    survivors = 0
    for fault in faults:
        good, words = noticed(fault, sources, build)
        survivors += not good
        print(f"{fault.file}: {fault.wrong}: {words}", flush=True)
    print(f"{len(faults)} seeded faults, {len(faults) - survivors} noticed")
    return 1 if survivors or not faults else 0


def main():
    pattern = re.compile(sys.argv[1] if len(sys.argv) > 1 else "")
    faults = [fault for fault in FAULTS if pattern.search(fault.wrong) or pattern.search(fault.file)]
    kept = os.environ.get("HSGD_MUTATIONS_FOLDER")
    if kept:
        return run(Path(kept).resolve(), faults)
    with tempfile.TemporaryDirectory(prefix="hsgd-mutations-") as name:
        return run(Path(name), faults)


if __name__ == "__main__":
    sys.exit(main())
