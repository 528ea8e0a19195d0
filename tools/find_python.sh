#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Prints the path of a working Python of the version asked for (say 3.13), or nothing.
# Looks on PATH, then where pyenv and uv keep theirs; a shim that cannot run does not count.
version=$1
for candidate in "python$version" \
    "$HOME"/.pyenv/versions/"$version".*/bin/python \
    "$HOME"/.local/share/uv/python/cpython-"$version".*/bin/python; do
    path=$(command -v "$candidate" 2>/dev/null) || continue
    if "$path" -c 'import sys, venv, ensurepip' 2>/dev/null; then
        echo "$path"
        exit 0
    fi
done
exit 0
