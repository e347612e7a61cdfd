#!/usr/bin/env bash
# Unpack Debian's Exim into a folder, without installing it: as a package it and Postfix exclude
# each other. What it needs beside it, and is not there, comes along.
#
# usage: tests/fetch-exim.sh [FOLDER]      (build/exim by default; tests/support/exim.py looks there)
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:-build/exim}
if [ -x "$folder/usr/sbin/exim4" ]; then exit 0; fi

packages=(exim4-daemon-light libidn12 libnss-wrapper)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# apt-get downloads as a user of its own, who must reach the folder.
chmod 755 "$scratch"
chown _apt "$scratch" 2>/dev/null || true

download() { (cd "$scratch" && apt-get -qq download "${packages[@]}" </dev/null); }
download 2>/dev/null || { apt-get -qq update >/dev/null 2>&1 || true; download; }

mkdir -p "$folder.new"
for package in "$scratch"/*.deb; do
    dpkg -x "$package" "$folder.new"
done
# A program that is set-uid is told no libraries of ours, and needs none of those rights here.
chmod u-s "$folder.new/usr/sbin/exim4"
chmod -R a+rX "$folder.new"
rm -rf "$folder"
mv "$folder.new" "$folder"
