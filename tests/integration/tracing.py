"""The program under strace: what it does to the files of its folder, and one such call made to fail or to kill."""
import re
import shutil
import unittest

import harness

# All that changes a file or its name, the closing that may tell of a change that failed,
# and the opening that makes a file.
CALLS = ("write", "pwrite64", "writev", "pwritev", "fsync", "fdatasync", "ftruncate", "fallocate", "rename", "renameat",
         "renameat2", "link", "linkat", "unlink", "unlinkat", "close", "openat")
RENAMES = ("rename", "renameat", "renameat2")
LINKS = ("link", "linkat")
REMOVALS = ("unlink", "unlinkat")
WRITES = ("write", "pwrite64", "writev", "pwritev", "ftruncate", "fallocate")


class Call:
    """A finished system call: who made it, its files (two where one is renamed), and how its file was opened."""

    def __init__(self, pid, name, words, result):
        self.pid, self.name, self.words = pid, name, words
        self.good = not result.startswith(("-1", "?"))
        self.descriptor = re.match(r"(\d+)<", words)
        if name in (*RENAMES, *LINKS, *REMOVALS, "openat", "open", "creat"):
            self.paths = re.findall(r'"([^"]*)"', words)
        else:
            self.paths = re.findall(r"^\d+<([^>]*)>", words)
        self.mode = ""

    @property
    def path(self):
        return self.paths[0] if self.paths else ""

    def __repr__(self):
        return f"{self.pid} {self.name}({self.words})"


def parse(text):
    """The calls in what `strace -f -y` wrote, in the order of their ends."""
    calls, begun, opened = [], {}, {}
    for line in text.splitlines():
        pid, _, rest = line.partition(" ")
        rest = rest.strip()
        resumed = re.match(r"<\.\.\. (\w+) resumed>(.*)", rest)
        if resumed:
            rest = begun.pop(pid) + resumed[2]
        elif rest.endswith("<unfinished ...>"):
            begun[pid] = rest[:-len("<unfinished ...>")]
            continue
        whole = re.fullmatch(r"(\w+)\((.*)\)\s+= (.*)", rest)
        if not whole:
            continue
        call = Call(pid, whole[1], whole[2], whole[3])
        if call.name == "openat" and call.good:
            opened[pid, re.match(r"\d+", whole[3])[0]] = re.search(r"O_(RDONLY|WRONLY|RDWR)", call.words)[0]
        elif call.descriptor is not None:
            call.mode = opened.get((pid, call.descriptor[1]), "")
        calls.append(call)
    return calls


def inside(calls, folder):
    """Those that touch the folder or a file in it."""
    return [call for call in calls if any(path == str(folder) or path.startswith(f"{folder}/") for path in call.paths)]


def counts(calls):
    """How many calls of each kind that change something there are."""
    found = [name for name, _ in cases(calls)]
    return {name: found.count(name) for name in CALLS if name in found}


def cases(calls):
    """(kind, N) of every call that changes something: the N-th of its kind; of openings those that may make a file."""
    kinds = {name: [call for call in calls if call.name == name] for name in CALLS}
    return [(name, n) for name in CALLS for n, call in enumerate(kinds[name], 1)
            if name != "openat" or "O_CREAT" in call.words]


def watching(out):
    """The words before a program's that record its calls in a file."""
    calls = ",".join(CALLS)
    return ("strace", "-f", "--seccomp-bpf", "-y", "-qq", "-s", "0", "-o", str(out), "-e", f"trace={calls}")


def tampering(out, paths, name, how):
    """The words before a program's that tamper with calls of one kind on some files: `how` in the words of strace."""
    places = [word for path in sorted(paths) for word in ("-P", str(path))]
    quick = () if how.startswith("signal") else ("--seccomp-bpf",)  # at whose stops no signal can be given
    return ("strace", "-f", *quick, "-qq", "-s", "0", "-o", str(out), *places,
            "-e", f"trace={name}", "-e", f"inject={name}:{how}")


def command(words, ranks=1, rank=0, prefix=()):
    """The program on some ranks, one of them with words before it."""
    plain = [harness.PROGRAM, *map(str, words), "device.backend=cpu"]
    if ranks == 1:
        return [*prefix, *plain]
    parts = [["-np", "1", *(prefix if r == rank else ()), *plain] for r in range(ranks)]
    return [harness.MPIEXEC, *parts[0], *(word for part in parts[1:] for word in (":", *part))]


def needs_strace(folder):
    """Skips the test where there is no strace, or where it may not trace."""
    if shutil.which("strace") is None:
        raise unittest.SkipTest("strace is missing")
    done = harness.finish(harness.launch("--version", cwd=folder, prefix=("strace", "-qq", "-o", "/dev/null")))
    if done.code != 0:
        raise unittest.SkipTest("strace may not trace here")
