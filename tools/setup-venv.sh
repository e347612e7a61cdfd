#!/usr/bin/env bash
# Make the virtual environment on a machine that may have nothing but Python.
#
# usage: tools/setup-venv.sh PYTHON VENV LOCK [--without-project]
#
# Installs exactly what LOCK names, held to its hashes, and then the project
# itself, editable. Running it again is cheap and harmless.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${1:-python3}
venv=${2:-.venv}
lock=${3:-requirements/dev.txt}
project=${4:---editable}

say() { printf 'set-up: %s\n' "$*"; }
die() { printf 'set-up: %s\n' "$@" >&2; exit 1; }

# Print "3.12" when the interpreter may run mailferry, nothing otherwise.
fitting_version() {
    "$1" -c 'import sys
if (3, 11) <= sys.version_info[:2] < (3, 15):
    print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

# The interpreter that was asked for, or else any fitting one on the path.
choose_python() {
    local candidate
    for candidate in "$python" python3.14 python3.13 python3.12 python3.11; do
        if [ -n "$(fitting_version "$candidate")" ]; then
            printf '%s\n' "$candidate"
            return
        fi
    done
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

may_install() {
    command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }
}

# Debian and Ubuntu take ensurepip out of Python and put it into a package of its own.
provide_venv_module() {
    local package="python$2-venv"
    "$1" -c 'import ensurepip, venv' 2>/dev/null && return
    may_install || die "$1 cannot make virtual environments." \
        "As root, type: apt-get install $package   (elsewhere: install Python's venv and ensurepip)"
    say "installing $package"
    export DEBIAN_FRONTEND=noninteractive
    as_root apt-get -qq update || say "apt-get update failed; going on with the lists at hand"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$package" \
        >/dev/null </dev/null || die "apt-get install $package failed; its words stand above"
}

works() { [ "$(fitting_version "$venv/bin/python")" = "$1" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1; }

make_venv() {
    works "$2" && return
    if [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ] && [ -n "$(ls -A "$venv")" ]; then
        die "$venv is there and is no virtual environment; move it away"
    fi
    say "making $venv with Python $2"
    "$1" -m venv --clear "$venv"
}

chosen=$(choose_python)
[ -n "$chosen" ] || die "no Python 3.11 to 3.14 found ($python is $("$python" --version 2>&1 || true))." \
    "Install one, then type: make PYTHON=/path/to/python3.12 ..."
version=$(fitting_version "$chosen")
provide_venv_module "$chosen" "$version"
make_venv "$chosen" "$version"

pip=("$venv/bin/python" -m pip --quiet --quiet --disable-pip-version-check --no-input)
say "installing what $lock names, held to its hashes"
"${pip[@]}" install --require-hashes -r "$lock"
if [ "$project" = --editable ]; then
    # The build backend came with the lock, so this last step needs no network at all.
    "${pip[@]}" install --no-index --no-deps --no-build-isolation --editable .
fi
say "$venv is ready"
