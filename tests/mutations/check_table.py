#!/usr/bin/env python3
"""Hold the table of seeded faults to sources and tests: check_table.py [BUILD]

Every text stands exactly once in its file, every name is its own, and the build folder has a test to notice each.
"""
import re
import subprocess
import sys
from pathlib import Path

from table import FAULTS

ROOT = Path(__file__).resolve().parent.parent.parent


def tests_there(build):
    """The names of the tests in a build folder."""
    listed = subprocess.run(["ctest", "-N"], cwd=build, stdout=subprocess.PIPE, text=True, check=True).stdout
    return re.findall(r"Test +#\d+: (\S+)", listed)


def findings(tests):
    if len(FAULTS) < 20:
        yield f"{len(FAULTS)} faults; 20 are promised"
    for fault in FAULTS:
        file = ROOT / fault.file
        count = file.read_text(encoding="utf-8").count(fault.text) if file.is_file() else 0
        if count != 1:
            yield f"{fault.wrong}: its text stands {count} times in {fault.file}; it must stand there once"
        if fault.text == fault.becomes:
            yield f"{fault.wrong}: changes nothing"
        if sum(other.wrong == fault.wrong for other in FAULTS) != 1:
            yield f"{fault.wrong}: stands twice"
        if tests is not None and not any(re.search(fault.tests, test) for test in tests):
            yield f"{fault.wrong}: no test matches {fault.tests}"


if __name__ == "__main__":
    wrong = list(findings(tests_there(sys.argv[1]) if len(sys.argv) > 1 else None))
    print("\n".join(wrong) if wrong else f"{len(FAULTS)} seeded faults match the sources")
    sys.exit(1 if wrong else 0)
