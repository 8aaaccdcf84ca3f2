#!/usr/bin/env bash
# tools/setup.sh [SECTION ...] - install the Debian packages of tools/packages.txt that are missing.
#
# SECTION is run, test, extra or cross (default: run).  Where nothing is missing, nothing is done and no right is needed;
# else apt-get runs as root, or through sudo.  On another system it only says what the build misses.
set -euo pipefail

list=$(dirname "${BASH_SOURCE[0]}")/packages.txt

# The packages of section $1.
packages_of() {
    awk -v wanted="[$1]" '{ sub(/#.*/, "") } /^\[/ { inside = $1 == wanted; next } inside && NF { print $1 }' "$list"
}

is_installed() {
    [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

missing_of() {
    local package
    for package in $(packages_of "$1"); do
        is_installed "$package" || echo "$package"
    done
}

install() {
    local -a as_root=()
    if (($(id -u) != 0)); then
        if ! command -v sudo >/dev/null; then
            echo "setup: missing: $*; ask an administrator for: apt-get install $*" >&2
            return 1
        fi
        as_root=(sudo)
    fi
    echo "setup: installing $*"
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# What the build looks for, for the sections given, and a system without Debian's packages does not have.
absent() {
    local name
    for name in cmake mpicc h5pcc pkg-config; do command -v "$name" >/dev/null || echo "$name"; done
    for name in inih openblas; do pkg-config --exists "$name" 2>/dev/null || echo "$name"; done
    if [[ " $* " == *" test "* ]]; then pkg-config --exists cmocka 2>/dev/null || echo cmocka; fi
}

if ! command -v dpkg-query >/dev/null; then
    mapfile -t missing < <(absent "$@")
    # (A build that was set up by hand has found all in its own way.)
    if ((${#missing[@]} == 0)) || [[ -f $(dirname "$list")/../build/CMakeCache.txt ]]; then exit 0; fi
    cat >&2 <<EOF
setup: not a Debian system, and not found: ${missing[*]}
setup: load or install CMake 3.25, a C compiler with OpenMP, MPI (mpicc), parallel HDF5 (h5pcc), OpenSSL, zlib and, where
setup: pkg-config finds them (PKG_CONFIG_PATH), inih, OpenBLAS and, for the tests, cmocka.  README.md shows a build by
setup: hand ("On a cluster"); $list lists all that can be of use, by Debian's names.
EOF
    exit 1
fi
missing=()
for section in "${@:-run}"; do
    if [[ -z $(packages_of "$section") ]]; then
        echo "setup: $list has no section [$section]" >&2
        exit 2
    fi
    mapfile -t -O "${#missing[@]}" missing < <(missing_of "$section")
done
if ((${#missing[@]} > 0)); then
    install "${missing[@]}"
fi
