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
        find . -path './build*' -prune -o -path './.*' -prune -o \( -name '*.[ch]' -o -name '*.cu' \) -print0 |
            xargs -0 clang-format --dry-run -Werror
        ;;
    shell)
        need shellcheck
        find .ci/run tools jobs tests \( -name '*.sh' -o -path .ci/run \) -print0 | xargs -0 shellcheck -x
        ;;
    python)
        find tools tests -name '*.py' -print0 |
            xargs -0 "${HSGD_PYTHON:-python3}" -c 'import sys; [compile(open(f).read(), f, "exec") for f in sys.argv[1:]]'
        ;;
    tidy)
        need run-clang-tidy
        run-clang-tidy -quiet -p "$3" -j "$(nproc)" "^$PWD/(src|mpi)/.*\.c$"
        ;;
    *)
        echo "usage: lint.sh format|shell|python|tidy SOURCE-FOLDER BUILD-FOLDER" >&2
        exit 2
        ;;
esac
