#!/usr/bin/env bash
# tools/test.sh [LABEL|all] [CTEST-OPTION ...] - install what is missing, build, pass the tests.
#
# LABEL picks the tests: quick (the default: minutes), slow, slurm, fuzz, long (every case of every table: hours), lint,
# emulated (CUDA's code on the host), gpu (in a build with CUDA), or a room such as solve; "slow|slurm" is both, and
# `all` every test.
# HSGD_DATA (a folder with MNIST) and HSGD_GOLDEN (one with reference files) widen the tests; without them those that
# need them are skipped and say so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

label=${1:-quick}
if (($# > 0)); then shift; fi
pick=()
if [[ $label != all ]]; then pick=(--label-regex "^($label)\$"); fi

tools/setup.sh run test
tools/build.sh all
# One more than there are cores: most tests wait for a launcher a third of their time.
ctest --test-dir build --output-on-failure --no-tests=error --parallel $(($(nproc) + 1)) "${pick[@]}" "$@"
