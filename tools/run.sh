#!/usr/bin/env bash
# tools/run.sh [INPUT.ini] [section.key=value ...] - install what is missing, build, run the main job, draw it.
#
# The main job is the whole default study on one rank a core (HSGD_RANKS sets another number).  Run again, it goes on
# where it stopped or finds all done.  Words are handed to the program; run.output, in INPUT.ini or as a word,
# moves the results.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools/setup.sh run
tools/build.sh hsgd-dist
# shellcheck source=tools/environment.sh
source tools/environment.sh

ranks=${HSGD_RANKS:-$(nproc)}

if [[ -z ${HSGD_DATA:-} && ! -d data/mnist ]]; then
    echo "run: no MNIST here (tools/fetch_mnist.sh fetches it): the study will use generated digits"
fi
# The program itself knows where its results go: the deck or a word may say so.  It must not be quiet about it.
words=()
for word in "$@"; do
    if [[ $word != --quiet ]]; then words+=("$word"); fi
done
results=$(build/hsgd-dist --dry-run --restart ${words[@]+"${words[@]}"} | sed -n '/^\[run\]/,/^\[data\]/ s/^output *= *//p')
echo "run: mpirun -np $ranks build/hsgd-dist --restart $*"
mpirun -np "$ranks" build/hsgd-dist --restart "$@"
"${HSGD_PYTHON:-/usr/bin/python3}" tools/plot.py "$results"
echo "run: results lie in $results, pictures in $results/figures"
