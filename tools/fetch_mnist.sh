#!/usr/bin/env bash
# tools/fetch_mnist.sh [DIR] - fetch the four files of MNIST into DIR (default: data/mnist) and verify them.
set -euo pipefail

mirrors_default="https://ossci-datasets.s3.amazonaws.com/mnist https://storage.googleapis.com/cvdf-datasets/mnist"

# MD5 sums of the files as published, and of their content: a set that was compressed anew is as good.
files=(
    "f68b3c2dcbeaaa9fbdd348bbdeb94873 6bbc9ace898e44ae57da46a324031adb train-images-idx3-ubyte.gz"
    "d53e105ee54ea40749a09fcbcd1e9432 a25bea736e30d166cdddb491f175f624 train-labels-idx1-ubyte.gz"
    "9fb629c4189551a2d022fa330f9573f3 2646ac647ad5339dbf082846283269ea t10k-images-idx3-ubyte.gz"
    "ec29112dd5afa0611ce80d1b7f02629c 27ae3e4e09519cfbb04c329615203637 t10k-labels-idx1-ubyte.gz"
)

usage() {
    cat <<'EOF'
usage: tools/fetch_mnist.sh [DIR]

Fetch the MNIST database of handwritten digits (11 MB, four .gz files) into DIR (default: data/mnist, where hsgd-dist
looks for it).  Every file is verified; one that is already right is left alone, so an interrupted run is just repeated.

HSGD_MNIST_MIRRORS   blank-separated base URLs to try in order, instead of the built-in ones (file:// works with curl)

MNIST is by Yann LeCun and Corinna Cortes, under the Creative Commons Attribution-Share Alike 3.0 licence (CC BY-SA 3.0).
EOF
}

fail() {
    printf 'fetch_mnist: error: %s\n' "$*" >&2
    exit 1
}

# is_right SUM CONTENT FILE - whether FILE is there, whole, and has that MD5 sum, itself or its content.
is_right() {
    local got
    [[ -f $3 ]] && gzip --test "$3" 2>/dev/null || return 1
    got=$(md5sum <"$3")
    [[ ${got%% *} == "$1" ]] && return 0
    got=$(gzip --decompress --stdout "$3" | md5sum)
    [[ ${got%% *} == "$2" ]]
}

# download URL FILE - by curl or wget, whichever is there; half a minute without data is a failure.
download() {
    if command -v curl >/dev/null; then
        curl --fail --silent --show-error --location --retry 2 --connect-timeout 30 --speed-limit 1 --speed-time 30 \
            --output "$2" "$1"
    elif command -v wget >/dev/null; then
        wget --quiet --tries=3 --timeout=30 --output-document="$2" "$1"
    else
        fail "neither curl nor wget is installed; install one, or put the four files into $dir by hand"
    fi
}

# fetch SUM CONTENT NAME - NAME into $dir from the first mirror that has it right.
fetch() {
    local mirror
    for mirror in "${mirrors[@]}"; do
        printf 'fetch_mnist: %s from %s\n' "$3" "$mirror"
        if ! download "${mirror%/}/$3" "$part"; then
            printf 'fetch_mnist: %s does not deliver %s\n' "$mirror" "$3" >&2
        elif ! is_right "$1" "$2" "$part"; then
            printf 'fetch_mnist: %s delivers a wrong %s: its MD5 sum is not %s\n' "$mirror" "$3" "$1" >&2
        else
            chmod a+r "$part"        # mktemp made it private
            mv -fT "$part" "$dir/$3" # the final name appears only on a whole, verified file
            return 0
        fi
        rm -f "$part"
    done
    fail "no mirror gave $3; check the network, name mirrors in HSGD_MNIST_MIRRORS, or copy the four .gz files into $dir"
}

case ${1-} in
-h | --help)
    usage
    exit 0
    ;;
-*)
    usage >&2
    fail "unknown option $1"
    ;;
esac
(($# <= 1)) || fail "one folder at most; see --help"

dir=${1:-data/mnist}
read -r -a mirrors <<<"${HSGD_MNIST_MIRRORS:-$mirrors_default}"
command -v md5sum >/dev/null || fail "md5sum is not installed (package coreutils)"
command -v gzip >/dev/null || fail "gzip is not installed"
mkdir -p "$dir" || fail "cannot make the folder $dir; name another one"
part=$(mktemp "$dir/.fetch.XXXXXX") || fail "cannot write in $dir; name another folder"
trap 'rm -f "$part"' EXIT

for entry in "${files[@]}"; do
    read -r sum content name <<<"$entry"
    if is_right "$sum" "$content" "$dir/$name"; then
        printf 'fetch_mnist: %s is there already\n' "$name"
    else
        fetch "$sum" "$content" "$name"
    fi
done
printf 'fetch_mnist: complete; run with data.dir=%s\n' "$dir"
