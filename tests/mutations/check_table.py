#!/usr/bin/env python3
"""Hold the table of seeded faults to the sources: every text stands exactly once in its file, and every name is its own."""
import re
import sys
from pathlib import Path

from table import FAULTS

ROOT = Path(__file__).resolve().parent.parent.parent


def findings():
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
        re.compile(fault.tests)


if __name__ == "__main__":
    wrong = list(findings())
    print("\n".join(wrong) if wrong else f"{len(FAULTS)} seeded faults match the sources")
    sys.exit(1 if wrong else 0)
