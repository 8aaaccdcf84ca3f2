#!/usr/bin/env bash
# neon.sh SOURCE_DIR - the CPU kernels compile for a machine of another kind, ARM with NEON: nothing in them is x86's alone
# but for what the compiler's macros guard.  Needs a cross compiler (Debian's gcc-12-aarch64-linux-gnu and
# libc6-dev-arm64-cross); without one the test is skipped (77).
set -euo pipefail
source=$1
compiler=
for candidate in aarch64-linux-gnu-gcc aarch64-linux-gnu-gcc-12 aarch64-linux-gnu-gcc-13; do
    if command -v "$candidate" >/dev/null; then
        compiler=$candidate
        break
    fi
done
if [[ -z $compiler ]]; then
    echo "skipped: no cross compiler for aarch64"
    exit 77
fi
out=$(mktemp)
trap 'rm -f "$out"' EXIT
for real in float double; do
    for kernel in "$source"/src/cpu/kernels/*.c; do
        "$compiler" -std=gnu17 -O1 -Wall -Wextra -Werror -ffp-contract=fast -fopenmp-simd -I"$source/src" \
            -DREAL="$real" -DREAL_IS_"$real" -DINSTRUCTION_SET=generic -c "$kernel" -o "$out"
    done
done
echo "compiled by $("$compiler" -dumpmachine)-gcc $("$compiler" -dumpversion)"
