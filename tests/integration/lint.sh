#!/usr/bin/env bash
# lint.sh format|shell|python|tidy SOURCE-FOLDER BUILD-FOLDER - one look at the sources; 77: the tool is missing.
set -euo pipefail
cd "$2"

need() {
    command -v "$1" >/dev/null || {
        echo "skipped: $1 is not installed"
        exit 77
    }
}

case $1 in
    format)
        need clang-format
        find . -path './build*' -prune -o -path './.*' -prune -o \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' \) -print0 |
            xargs -0 clang-format --dry-run -Werror
        ;;
    shell)
        need shellcheck
        find .ci/run tools jobs tests \( -name '*.sh' -o -path .ci/run \) -print0 | xargs -0 shellcheck -x
        ;;
    python)
        "${HSGD_PYTHON:-python3}" - <<'PYTHON'
import pathlib, re, sys
wrong = []
for path in sorted(path for folder in ("tools", "tests") for path in pathlib.Path(folder).rglob("*.py")):
    text = path.read_text(encoding="utf-8")
    compile(text, path, "exec")
    wrong += [f"{path}:{number}: {len(line)} characters in a line, 120 at most"
              for number, line in enumerate(text.split("\n"), 1) if len(line) > 120]
    # Two blank lines between what stands at the margin, one elsewhere.
    wrong += [f"{path}:{text.count(chr(10), 0, found.end())}: too many blank lines"
              for found in re.finditer(r"\n\n\n(?=[ \t\n])", text)]
sys.exit("\n".join(wrong) or 0)
PYTHON
        ;;
    tidy)
        need run-clang-tidy
        # Files that are compiled twice, for the program and for the emulated module, are looked at once.
        once=$(mktemp -d)
        trap 'rm -rf "$once"' EXIT
        "${HSGD_PYTHON:-python3}" - "$3/compile_commands.json" >"$once/compile_commands.json" <<'PYTHON'
import json, sys
entries = json.load(open(sys.argv[1]))
entries.sort(key=lambda entry: "tests/emulation" not in entry["command"])  # the program's last: they win
json.dump(list({entry["file"]: entry for entry in entries}.values()), sys.stdout)
PYTHON
        run-clang-tidy -quiet -p "$once" -j "$(nproc)" "^$PWD/(src|mpi|cuda)/.*\.c$"
        ;;
    *)
        echo "usage: lint.sh format|shell|python|tidy SOURCE-FOLDER BUILD-FOLDER" >&2
        exit 2
        ;;
esac
