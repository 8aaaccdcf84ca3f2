#!/usr/bin/env bash
# tools/build.sh [TARGET ...] - configure and build a release into build/: everything, or the targets named.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A tree that was configured before keeps its generator.
if [[ ! -f build/CMakeCache.txt ]] && command -v ninja >/dev/null; then
    export CMAKE_GENERATOR="${CMAKE_GENERATOR:-Ninja}"
fi
cmake -S . -B build
cmake --build build --parallel "$(nproc)" --target "${@:-all}"
