#!/usr/bin/env bash
# tests/bench/gpu.sh [FOLDER [CMAKE-OPTION ...]] - build, test and measure on a machine with a GPU; one table.
#
# FOLDER (default build-gpu/bench) receives gpu-table.md, gpu-results.json and gpu-log.txt.  It is all done in
# HSGD_GPU_BUDGET seconds (default 460): every step has a limit of its own, and one that fails is told in the table's
# head while the rest goes on.  Exit 0: built, every test passed on the GPU, compute-sanitizer finished
# and found nothing, all was measured.  1: not so.  2: this machine has no GPU or no CUDA compiler.
#
# The machine may have nothing but CUDA, CMake, ninja and Python.  What is not in the compiler's own places is found by
#   CMAKE_PREFIX_PATH, PKG_CONFIG_PATH, LD_LIBRARY_PATH    MPI, HDF5, OpenBLAS, inih, zlib, OpenSSL, cmocka; cuDNN, NCCL
#   CUDA_HOME        the CUDA toolkit, where nvcc is not on PATH
#   HSGD_TORCH       a Python with PyTorch (default: the first python3 on PATH that has it); without, ours alone
#   HSGD_DATA        the folder with MNIST; without, generated digits
# and -DHSGD_MPI=OFF as CMAKE-OPTION builds for one process with serial HDF5.  docs/gpu.md says more.
set -uo pipefail # no -e: a failed step is recorded, and the next one runs
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2

budget=${HSGD_GPU_BUDGET:-460}
build="build-gpu"
command_line="tests/bench/gpu.sh $*"
out=${1:-$build/bench}
if (($# > 0)); then shift; fi
mkdir -p "$out" || exit 2
out=$(realpath "$out")
log=$out/gpu-log.txt steps=$out/.steps head=$out/.head measured=$out/.measured
rm -f "$steps" "$head" "$measured" "$out/gpu-table.md" "$out/gpu-results.json"
: >"$log"
SECONDS=0
failed=0
# shellcheck source=tools/environment.sh
source tools/environment.sh
warming=

say() { echo "gpu.sh: $*" | tee -a "$log" >&2; }

left() { echo $((budget - SECONDS)); }

# step NAME LIMIT RESERVE COMMAND ... - run it for at most LIMIT seconds, so that RESERVE are left; record how it went.
step() {
    local name=$1 limit=$2 reserve=$3 start=$SECONDS status=0 note=
    shift 3
    if ((limit > $(left) - reserve)); then limit=$(($(left) - reserve)); fi
    if ((limit < 2)); then
        record "$name" "NOT RUN" 0 "no time left"
        return 125
    fi
    say "$name: at most $limit s"
    timeout --kill-after=5 "$limit" "$@" >>"$log" 2>&1 </dev/null || status=$?
    case $status in
        0) record "$name" ok $((SECONDS - start)) "" ;;
        124 | 137)
            note="stopped after $limit s"
            record "$name" "NOT FINISHED" $((SECONDS - start)) "$note"
            ;;
        *) record "$name" FAILED $((SECONDS - start)) "exit $status: $(last_line)" ;;
    esac
    return "$status"
}

record() {
    printf '%s\t%s\t%s\t%s\n' "$@" >>"$steps"
    say "$1: $2${4:+, $4}"
}

# What the log says last, for the table.
last_line() { grep -v '^[[:space:]]*$' "$log" | tail -n 1 | tr '\t|' '  ' | cut -c1-160; }

describe() { printf '%s\t%s\n' "$1" "$2" >>"$head"; }

# ---- the machine ----

if [[ -n ${CUDA_HOME:-} ]]; then PATH=$PATH:$CUDA_HOME/bin; fi
for tool in nvidia-smi nvcc cmake; do
    if ! command -v "$tool" >/dev/null; then
        say "$tool is not on PATH; this needs a machine with a GPU, its driver, the CUDA toolkit (CUDA_HOME) and CMake"
        exit 2
    fi
done
gpu() { nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null; }
architectures=$(gpu compute_cap | tr -d '. ' | grep -x '[0-9]*' | sort -u | paste -sd ';')
if [[ -z $architectures ]]; then
    say "nvidia-smi shows no GPU: $(nvidia-smi 2>&1 | head -n 1)"
    exit 2
fi

python=
for candidate in ${HSGD_TORCH:+"$HSGD_TORCH"} python3 python; do
    if "$candidate" -c 'import torch, numpy' >/dev/null 2>&1; then
        python=$candidate
        break
    fi
done
table_python=${python:-python3}
warm=$(command -v "$python" || true)

describe date "$(date -u '+%Y-%m-%d %H:%M UTC')"
describe device "$(gpu name | sort | uniq -c | sed 's/^ *\([0-9]*\) /\1 x /' | paste -sd ,), $(nproc) CPU cores"
describe driver "$(gpu driver_version | sort -u | paste -sd ,)"
describe CUDA "$(nvcc --version | sed -n 's/.*release \([0-9.]*\).*/\1/p'), architecture $architectures"
describe commit "$(git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null || echo unknown)"
describe command "$command_line"

# ---- build ----

configure() {
    local name=$1 nccl=$2
    shift 2
    step "$name" 60 60 cmake -S . -B "$build" ${generator:+-G "$generator"} -DCMAKE_BUILD_TYPE=Release -DHSGD_CUDA=ON \
        -DHSGD_NCCL="$nccl" -DHSGD_WERROR=OFF "-DCMAKE_CUDA_ARCHITECTURES=$architectures" "$@"
}

generator=
if command -v ninja >/dev/null && [[ ! -e $build/CMakeCache.txt ]]; then generator=Ninja; fi
built=0
if ! configure configure ON "$@"; then
    failed=1
    configure "configure without NCCL" OFF "$@" && built=1
else
    built=1
fi

# PyTorch's compiler fills its cache on disk meanwhile: it and the build leave each other alone.
if [[ -n $warm ]]; then
    timeout --kill-after=5 150 "$python" tests/bench/gpu_torch.py --only compile --seconds 0.01 --limit 140 \
        >"$out/.warm" 2>&1 </dev/null &
    warming=$!
fi

if ((built)) && step build 240 120 cmake --build "$build" --parallel "$(nproc)"; then
    built=1
else
    built=0 failed=1
fi

# ---- test ----

sanitizer=$(command -v compute-sanitizer || true)
export HSGD_CUDA_MODULE=$PWD/$build/hsgd-cuda.so HSGD_TEST_DEVICE_REQUIRED=1 # a GPU that does not work is a failure
jobs=$(nproc)
if ((jobs > 8)); then jobs=8; fi

# not_sanitized WHY - nothing was checked, which is a failure.
not_sanitized() {
    record compute-sanitizer "NOT RUN" 0 "$1"
    failed=1
}

# Both tools on every conformance test that takes a backend, on CUDA, all side by side: loading CUDA's libraries is most
# of it.  One that does not finish has shown nothing.
sanitize() {
    local limit=75 names=() pids=() tool program name status i start=$SECONDS
    if ((limit > $(left) - 150)); then limit=$(($(left) - 150)); fi
    if ((limit < 10)); then
        not_sanitized "no time left"
        return
    fi
    say "compute-sanitizer: at most $limit s"
    for program in "$build"/tests/conformance_{backend*,devices,linop}; do
        [[ -x $program && -f $program ]] || continue
        for tool in memcheck racecheck; do
            name="$tool ${program##*/}"
            HSGD_TEST_BACKEND=cuda timeout --kill-after=5 "$limit" "$sanitizer" --tool "$tool" --error-exitcode 9 \
                "$program" >"$out/.${name/ /-}" 2>&1 </dev/null &
            names+=("$name") pids+=($!)
        done
    done
    for i in "${!pids[@]}"; do
        name=${names[i]} status=0
        wait "${pids[i]}" || status=$?
        cat "$out/.${name/ /-}" >>"$log"
        rm -f "$out/.${name/ /-}"
        case $status in
            0) record "$name" ok $((SECONDS - start)) "" ;;
            124 | 137)
                record "$name" "NOT FINISHED" $((SECONDS - start)) "stopped after $limit s"
                failed=1
                ;;
            *) # also 77: the test was skipped
                record "$name" FAILED $((SECONDS - start)) "exit $status: $(last_line)"
                failed=1
                ;;
        esac
    done
    if ((${#pids[@]} == 0)); then not_sanitized "no conformance test was built"; fi
}

if ((built)); then
    step tests 200 200 ctest --test-dir "$build" --label-regex '^gpu$' --no-tests=error --output-on-failure \
        --parallel "$jobs" || failed=1
    if [[ -n $sanitizer ]]; then
        sanitize
    else
        not_sanitized "it is not on PATH"
    fi
fi

# ---- measure ----

if [[ -n $warming ]]; then
    kill "$warming" 2>/dev/null # `timeout` passes it on
    wait "$warming"
    cat "$out/.warm" >>"$log"
    rm -f "$out/.warm"
fi
if [[ -z $python ]]; then
    record PyTorch "NOT FOUND" 0 "no python3 on PATH has torch and numpy; HSGD_TORCH names one"
fi
if ((built)); then
    limit=$(($(left) - 15))
    step measure $((limit + 5)) 5 "$table_python" tests/bench/gpu_rounds.py --bench "$build/tests/bench/hsgd-bench" \
        --out "$measured" --torch "$python" --limit "$limit" || failed=1
fi

"$table_python" tests/bench/gpu_table.py --measured "$measured" --steps "$steps" --head "$head" --out "$out" \
    2>>"$log" || failed=1
rm -f "$steps" "$head" "$measured"
say "$SECONDS s; $out/gpu-table.md"
exit "$failed"
