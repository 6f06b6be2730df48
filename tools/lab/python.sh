#!/bin/bash
# Prints the path of a Python that has the package varlink, the independent client and server of tests.
#
#   tools/lab/python.sh
#
# It is a virtual environment below the user's cache; nothing is installed on the machine.
set -euo pipefail

version=31.0.0
cache=${XDG_CACHE_HOME:-$HOME/.cache}/keyns
place=$cache/python-varlink-$version
if ! [ -x "$place/bin/python3" ]; then
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/new.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    python3 -m venv "$work/venv" >&2
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check "varlink==$version" >&2
    # By rename, so that what is there is whole. Only its pip and activation know the former path.
    mv -T "$work/venv" "$place" 2>/dev/null || [ -x "$place/bin/python3" ]
fi
echo "$place/bin/python3"
