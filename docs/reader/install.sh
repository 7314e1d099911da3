#!/bin/sh
# Installs what the reader and its tests need, once; prints the Python that has it.
# Safe to run in parallel: a second caller waits for the first.
set -eu
cd "$(dirname "$0")"
# The packages have fixed versions: their digest names the environment.
pinned="requirements.txt requirements-plain.txt"
shamir=shamir-mnemonic==0.3.0
name=$( (cat $pinned; echo $shamir) | sha256sum | cut -c1-12)
cache=${HOLDFAST_TEST_CACHE:-${HOME:?set HOME or HOLDFAST_TEST_CACHE}/.cache/holdfast-tests}
venv=$cache/readers-$name
mkdir -p "$cache"
exec 9>"$cache/readers.lock"
flock 9
if [ ! -e "$venv/installed" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv" >&2
    set --
    for file in $pinned; do set -- "$@" -r "$file"; done
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$@" $shamir >&2
    : >"$venv/installed"
fi
echo "$venv/bin/python"
