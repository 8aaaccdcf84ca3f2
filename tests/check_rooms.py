#!/usr/bin/env python3
"""Hold the sources to the laws of the house.

    check_rooms.py [--root DIR]   one line a finding; exit 1 if there is any
    check_rooms.py --self-test    plant each violation in a scratch tree and see that it is found

1. Rooms include only what they may know (MAY_INCLUDE), and library headers stay where they belong.
2. Algorithms hold no conditional compilation and no MPI, CUDA, NCCL or HDF5 call.
3. No exit, abort, assert or print outside src/main.c and src/base/progress.c, and no mutable variable outlives a call.
4. No source file is longer than MAX_LINES.

The text is read without comments and string literals, so that a comment may speak of what the code must not do.
Variables are told by the shape of their declarations: best effort, without a C parser.
"""
import argparse
import pathlib
import re
import sys
import tempfile

MAX_LINES = 600
SUFFIXES = {".c", ".h", ".cu", ".cuh", ".inc"}

# What the files of a room may include, besides their own room and base.  A value may be a room or a single header.
# src/backend.h counts as a room of its own: an interface, which knows base alone.
MAY_INCLUDE = {
    "base": set(),
    "backend.h": set(),
    "deck": set(),
    "data": set(),
    "store": set(),
    "algebra": {"backend.h"},
    "cpu": {"backend.h"},
    "cuda": {"backend.h"},
    "mpi": set(),
    "model": {"backend.h", "algebra"},
    "curvature": {"backend.h", "algebra", "model", "data"},
    "solve": {"algebra", "curvature/linop.h", "curvature/objective.h"},
    "study": {"backend.h", "algebra", "model", "data", "curvature", "solve", "store", "deck"},
    "wiring": None,  # names backends and communicators: knows all of them
    "main.c": None,  # wires everything: knows all
}
ALGORITHMS = {"solve", "curvature", "model", "study", "data", "deck", "algebra"}

# Library headers, and the only files (prefixes of their paths) that may include them.
LIBRARIES = [
    (r"mpi\.h", ["mpi/"]),
    (r"nccl\.h", ["mpi/", "cuda/"]),
    (r"(cuda|cudnn|cublas|cusolver).*", ["cuda/"]),
    (r"hdf5(_hl)?\.h|H5.*\.h", ["src/store/", "mpi/hdf5_access."]),
    (r"cblas\.h", ["src/cpu/"]),
    (r"lapacke?\.h", ["src/solve/"]),
    (r"ini\.h", ["src/deck/"]),
    (r"zlib\.h", ["src/data/"]),
    (r"openssl/.*", ["src/base/"]),
]

FOREIGN_CALL = re.compile(r"\b(MPI_\w+|cuda[A-Z]\w*|cudnn[A-Z]\w*|cublas[A-Z]\w*|nccl[A-Z]\w*|H5[A-Z]{1,2}[a-z_]\w*)")
CONDITIONAL = re.compile(r"^\s*#\s*(if|ifdef|ifndef)\b")
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')
ENDING = re.compile(r"(?<![\w.>])(_?exit|_Exit|quick_exit|abort|assert)\s*\(")
PRINT = re.compile(r"(?<![\w.>])(v?f?printf|v?dprintf|f?puts|f?putc|putchar|perror)\s*\(\s*(\w*)")

SPEAKERS = {"src/main.c", "src/base/progress.c"}
# (path prefix, pattern of the whole call, why it may stand there)
ALLOWED_CALLS = [
    ("src/base/comm_serial.c", r"_exit", "carries out hsgd_comm_ops.abort, which ends the process by contract"),
    ("mpi/comm_mpi.c", r"_Exit", "carries out hsgd_comm_ops.abort, should MPI_Abort return"),
    ("src/deck/", r"(v?fprintf|fputs|fputc|putc)\((?!stdout|stderr)\w+",
     "writes help and the resolved deck to the caller's FILE"),
]


def code_only(text):
    """The text with comments and the insides of literals blanked; lines stay in place.  #include lines stay whole."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)

    def blank(match):
        token = match.group(0)
        line_start = text.rfind("\n", 0, match.start()) + 1
        if token[0] == '"' and re.match(r"\s*#\s*include\b", text[line_start:match.start()]):
            return token
        fill = "".join("\n" if c == "\n" else " " for c in token)
        return token[0] + fill[1:-1] + token[0] if token[0] in "\"'" else fill

    return pattern.sub(blank, text)


def room_of(path):
    parts = path.split("/")
    if parts[0] in ("mpi", "cuda"):
        return parts[0]
    return parts[1]  # src/<room>/... , src/main.c, src/backend.h


def check_includes(root, path, lines):
    room = room_of(path)
    allowed = MAY_INCLUDE.get(room)
    if room not in MAY_INCLUDE:
        yield 1, f"the room {room!r} is not in the table of rooms; add it to MAY_INCLUDE"
        return
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        header = match.group(1) or match.group(2)
        for pattern, places in LIBRARIES:
            if re.fullmatch(pattern, header) and not any(path.startswith(p) for p in places):
                yield number, f"{header} may be included only in {', '.join(places)}"
        if match.group(1) is None or allowed is None:
            continue
        target = header.split("/")[0]
        beside = root / pathlib.PurePosixPath(path).parent / header
        if target not in MAY_INCLUDE:
            if not beside.exists():
                yield number, f'"{header}" belongs to no known room'
            continue
        if target not in {room, "base"} | allowed and header not in allowed:
            yield number, f'{room} may not include "{header}"'


def check_algorithms(path, lines):
    if room_of(path) not in ALGORITHMS:
        return
    for number, line in enumerate(lines, 1):
        match = CONDITIONAL.match(line)
        if match:
            yield number, f"#{match.group(1)} in an algorithm; give the choice to a table of functions"
        for match in FOREIGN_CALL.finditer(line):
            yield number, f"{match.group(1)} in an algorithm; go through comm, backend or store"


def call_allowed(path, call):
    return any(path.startswith(prefix) and re.fullmatch(pattern, call) for prefix, pattern, _ in ALLOWED_CALLS)


def check_calls(path, lines):
    if path in SPEAKERS:
        return
    for number, line in enumerate(lines, 1):
        if INCLUDE.match(line):
            continue
        for match in ENDING.finditer(line):
            if not call_allowed(path, match.group(1)):
                yield number, f"{match.group(1)}() outside main; return a status"
        for match in PRINT.finditer(line):
            if not call_allowed(path, f"{match.group(1)}({match.group(2)}"):
                yield number, f"{match.group(1)}() outside main and progress; return a status or report progress"


def declarations(code):
    """(line, depth, text) of each statement that may declare a variable: up to its ';', '{' or '='."""
    lines = code.split("\n")
    continued = False
    for i, line in enumerate(lines):  # directives declare nothing
        directive = continued or line.lstrip().startswith("#")
        continued = directive and line.rstrip().endswith("\\")
        if directive:
            lines[i] = ""
    depth, number, start, text = 0, 1, 1, ""
    initialiser = False
    for c in "\n".join(lines):
        if c == "\n":
            number += 1
        if c in "{};" or (c == "=" and not initialiser):
            if not initialiser and text.strip():
                yield start, depth, text.strip(), c
            body = c == "{" and text.rstrip().endswith(")")  # a comparison in an if() looked like an initialiser
            initialiser = c == "=" or (initialiser and c != ";" and not body)
            depth += (c == "{") - (c == "}")
            text = ""
            continue
        if not text.strip():
            start = number
        text += c


def is_mutable_variable(text, end):
    words = re.sub(r"__attribute__\s*\(\(.*?\)\)|__extension__|\[[^\]]*\]", " ", text, flags=re.S).split()
    text = " ".join(words)
    if not words or words[0] in {"typedef", "extern", "return", "goto", "case", "_Static_assert"}:
        return False
    if re.match(r"(static )?(const )?(struct|union|enum)( \w+)?$", text) or end == "{":
        return False  # a type, or the head of a function
    pointer_to_function = re.search(r"\(\s*\*\s*(const)?", text)
    if pointer_to_function:
        return pointer_to_function.group(1) is None and "static" in words
    if "(" in text or len(words) < 2:
        return False  # a prototype or a macro's use
    if "sig_atomic_t" in words and "volatile" in words:
        return False  # what a signal handler reads and writes: there is no other way
    return "const" not in (text.rsplit("*", 1)[1] if "*" in text else text).split()


def check_variables(code):
    for line, depth, text, end in declarations(code):
        if (depth == 0 or re.match(r"(static|_Thread_local)\b", text)) and is_mutable_variable(text, end):
            yield line, f"mutable variable that outlives a call: {' '.join(text.split())}"


def check_file(root, path):
    text = (root / path).read_text(encoding="utf-8")
    code = code_only(text)
    lines = code.split("\n")
    yield from check_includes(root, path, lines)
    yield from check_algorithms(path, lines)
    yield from check_calls(path, lines)
    yield from check_variables(code)
    if path.endswith(".h") and "#pragma once" not in text:
        yield 1, "header without #pragma once"
    if text.count("\n") > MAX_LINES:
        yield MAX_LINES + 1, f"{text.count(chr(10))} lines; split files over {MAX_LINES}"


def check_tree(root):
    findings, files = [], 0
    for top in ("src", "mpi", "cuda"):
        for file in sorted((root / top).rglob("*")):
            if file.suffix in SUFFIXES and file.is_file():
                path = file.relative_to(root).as_posix()
                files += 1
                findings += [f"{path}:{line}: {what}" for line, what in check_file(root, path)]
    return files, findings


CLEAN = {
    "src/base/error.h": "#pragma once\nint hsgd(const char *format, ...) __attribute__((format(printf, 1, 2)));\n",
    "src/base/comm_serial.c": "static void end(int code)\n{\n    _exit(code);\n}\n",
    "src/base/progress.c": '#include <stdio.h>\nvoid f(void)\n{\n    printf("x");\n}\n',
    "src/backend.h": '#pragma once\n#include "base/error.h"\n',
    "src/main.c": '#include "cpu/cpu.h"\n#include "comm_mpi.h"\n#ifdef HSGD_MPI\n#endif\n'
    "static volatile sig_atomic_t asked;\nint main(void)\n{\n    exit(2);\n}\n",
    "src/cpu/cpu.h": '#pragma once\n#include <cblas.h>\n#include "backend.h"\n',
    "src/deck/help.c": '#include <stdio.h>\nvoid help(FILE *to)\n{\n    fprintf(to, "printf(");\n}\n',
    "src/solve/eigen.c": '#include "curvature/linop.h"\n#include "algebra/vector.h"\n'
    "/* exit() and MPI_Send, #if\n#if */\n"
    "static const int table[] = {1, 2};\nstatic const char *const name = \"static int x;\";\n"
    "typedef struct {\n    int a;\n} thing;\nstatic int helper(int a);\nstatic int helper(int a)\n{\n    int b = a;\n\n"
    "    comm->ops->abort(b);\n    return b;\n}\nconst thing all = {.a = 1};\n",
    "src/store/store.c": "#include <hdf5.h>\n",
    "mpi/comm_mpi.h": "#pragma once\n#include <mpi.h>\n",
    "mpi/hdf5_access.c": '#include "comm_mpi.h"\n#include <hdf5.h>\n',
}
PLANTED = [  # (path, text, what the finding must say)
    ("src/solve/bad.c", '#include "model/layers.h"\n', "solve may not include"),
    ("src/solve/bad.c", '#include "curvature/curvature.h"\n', "solve may not include"),
    ("src/data/bad.c", '#include "backend.h"\n', "data may not include"),
    ("src/base/bad.h", '#pragma once\n#include "backend.h"\n', "base may not include"),
    ("src/backend.h", '#pragma once\n#include "algebra/space.h"\n', "backend.h may not include"),
    ("src/store/bad.c", '#include "comm_mpi.h"\n', "no known room"),
    ("src/hall/bad.c", "\n", "not in the table"),
    ("cuda/bad.cu", "#include <mpi.h>\n", "mpi.h may be included only"),
    ("src/study/bad.c", "#include <hdf5.h>\n", "hdf5.h may be included only"),
    ("mpi/comm_bad.c", "#include <hdf5.h>\n", "hdf5.h may be included only"),
    ("src/model/bad.c", "#include <cuda_runtime.h>\n", "may be included only in cuda/"),
    ("src/model/bad.c", "#ifdef HSGD_CUDA\n#endif\n", "#ifdef in an algorithm"),
    ("src/deck/bad.c", "  # if 1\n#endif\n", "#if in an algorithm"),
    ("src/curvature/bad.c", "void f(void)\n{\n    MPI_Barrier(0);\n}\n", "MPI_Barrier in an algorithm"),
    ("src/algebra/bad.c", "void f(void)\n{\n    H5Fopen(0);\n}\n", "H5Fopen in an algorithm"),
    ("src/model/bad.c", "void f(void)\n{\n    cudaMalloc(0);\n}\n", "cudaMalloc in an algorithm"),
    ("src/data/bad.c", "void f(void)\n{\n    exit(1);\n}\n", "exit() outside"),
    ("src/base/comm_serial.c", "void f(void)\n{\n    abort();\n}\n", "abort() outside"),
    ("src/cpu/bad.c", "void f(int a)\n{\n    assert(a);\n}\n", "assert() outside"),
    ("src/study/bad.c", 'void f(void)\n{\n    printf("");\n}\n', "printf() outside"),
    ("src/deck/bad.c", 'void f(void)\n{\n    fprintf(stderr, "");\n}\n', "fprintf() outside"),
    ("src/store/bad.c", 'void f(FILE *to)\n{\n    fputs("", to);\n}\n', "fputs() outside"),
    ("src/solve/bad.c", "static int count;\n", "mutable variable"),
    ("src/solve/bad.c", "int count = 3;\n", "mutable variable"),
    ("src/solve/bad.c", "static const char *name = 0;\n", "mutable variable"),
    ("src/solve/bad.c", "static const int *table[] = {0};\n", "mutable variable"),
    ("src/solve/bad.c", "static double cache[10];\n", "mutable variable"),
    ("src/solve/bad.c", "static void (*hook)(void);\n", "mutable variable"),
    ("src/solve/bad.c", "int f(void)\n{\n    static int calls = 0;\n    return ++calls;\n}\n", "mutable variable"),
    ("src/solve/bad.c", "int f(int a)\n{\n    if (a == 1) {\n        static int b;\n    }\n}\n", "mutable variable"),
    ("src/cpu/bad.c", "struct pool {\n    int n;\n};\nstatic struct pool pool;\n", "mutable variable"),
    ("src/deck/bad.h", "int f(void);\n", "#pragma once"),
    ("src/deck/bad.c", "\n" * (MAX_LINES + 1), "lines; split"),
]


def self_test():
    failures = []
    with tempfile.TemporaryDirectory() as scratch:
        for case, plant in enumerate([None] + PLANTED):
            root = pathlib.Path(scratch) / str(case)
            tree = dict(CLEAN)
            if plant:
                tree[plant[0]] = plant[1]
            for path, text in tree.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text, encoding="utf-8")
            findings = check_tree(root)[1]
            if plant is None and findings:
                failures += [f"the clean tree is accused: {finding}" for finding in findings]
            if plant and not (len(findings) == 1 and findings[0].startswith(plant[0]) and plant[2] in findings[0]):
                failures.append(f"planted {plant[0]} {plant[1][:60]!r}: expected one finding {plant[2]!r}, "
                                f"got {findings}")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        findings, said = self_test(), f"{len(PLANTED)} planted violations found"
    else:
        files, findings = check_tree(options.root)
        said = f"{files} files keep the laws"
        if files == 0:
            findings = [f"{options.root}: no sources there; pass --root"]
    print("\n".join(findings) if findings else said)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
