#!/usr/bin/env bash
# tools/setup.sh [SECTION ...] - install the Debian packages of tools/packages.txt that are missing.
#
# SECTION is run, test, extra or cross (default: run).  Where nothing is missing, nothing is done and no right is needed;
# else apt-get runs as root, or through sudo.
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

if ! command -v dpkg-query >/dev/null; then
    echo "setup: not a Debian system; what the program needs is listed in $list" >&2
    exit 0
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
