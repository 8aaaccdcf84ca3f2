"""Runs of the program that end before their time: watched while they run, killed with all that they started."""
import os
import signal
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import harness


def private_places(folder):
    """An environment in which what a killed Open MPI leaves in shared memory and /tmp goes with the test's folder.

    It is one run's at a time: a launcher that ends takes away the folder in which another one begins.
    """
    place = tempfile.mkdtemp(prefix="tmp-", dir=folder)
    return {"TMPDIR": place, "OMPI_MCA_btl_vader_backing_directory": place,
            "OMPI_MCA_osc_sm_backing_directory": place, "OMPI_MCA_osc_sm_backing_store": place}


def family(pid):
    """The process and all its descendants."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(entry.parent.name)] = int(entry.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    found = [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Run:
    """A study while it runs: its lines as they come, and when the stage began (its line starts with `sign`)."""

    def __init__(self, sign, process):
        self.sign, self.process, self.lines, self.started = sign, process, [], threading.Event()
        self.began = None
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith(self.sign) and self.began is None:
                self.began = time.monotonic()
                self.started.set()
        self.started.set()

    def kill(self):
        """End the launcher and all ranks as a power failure would; False: they had ended already."""
        members = family(self.process.pid)
        ended = self.process.poll() is not None
        for pid in members if not ended else ():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        while any(is_alive(pid) for pid in members):
            time.sleep(0.01)
        return not ended

    def end(self, timeout=120):
        """Wait for the end, and how it was."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self.reader.join()
        err = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        return harness.Finished(self.process.args, self.process.returncode, "".join(self.lines), err)


def all_hold(test, check, cases, workers=2):
    """check(*case) for every case, a few at a time: what they returned; fails the test with all that went wrong."""
    def attempt(case):
        try:
            return None, check(*case)
        except Exception as wrong:  # told with its case when all are through
            return f"{' '.join(map(str, case))}: {type(wrong).__name__} {wrong}", None

    with ThreadPoolExecutor(workers) as pool:
        outcomes = list(pool.map(attempt, cases))
    wrong = [text for text, _ in outcomes if text is not None]
    if wrong:
        test.fail(f"{len(wrong)} of {len(outcomes)} cases went wrong:\n" + "\n".join(wrong[:20]))
    return [value for _, value in outcomes]
