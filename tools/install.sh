#!/usr/bin/env bash
# Install mailferry for good: a virtual environment of its own, held to the lock file.
#
# usage: tools/install.sh PYTHON PREFIX
#
# Nothing outside PREFIX is written, except through apt when Python's own venv
# module is missing (see setup-venv.sh). Running it again upgrades in place.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022  # the service's own user must be able to read it

python=${1:-python3}
prefix=${2:-/opt/mailferry}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

tools/setup-venv.sh "$python" "$work/build" requirements/build.txt --without-project
"$work/build/bin/python" -m pip wheel --quiet --no-index --no-deps --no-build-isolation -w "$work/wheel" .
tools/setup-venv.sh "$python" "$prefix" requirements/runtime.txt --without-project
"$prefix/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
    --no-index --no-deps --force-reinstall "$work"/wheel/mailferry-*.whl
# `man` looks beside the directories of PATH.
install -D -m 644 docs/man/mailferry.1 "$prefix/share/man/man1/mailferry.1"
printf 'install: %s\n' "$("$prefix/bin/mailferry" --version) is in $prefix/bin/mailferry"
