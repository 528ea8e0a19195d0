#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs posefit's backend for Blender: finds a Python, and has it run install_backend.py.
# For Linux, tested there, and macOS, never run there. `install_backend.sh --help` lists options.
set -u
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 1

for version in 3.12 3.11 3.13; do
    python=$(sh "$here/../find_python.sh" "$version")
    [ -n "$python" ] && exec "$python" "$here/install_backend.py" "$@"
done
# A newer one than the tests use is better than none.
for python in python3 python; do
    if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
        >/dev/null 2>&1; then
        exec "$python" "$here/install_backend.py" "$@"
    fi
done
echo "install_backend: no Python 3.11 or newer with its module venv was found: install one" \
    "(Debian, Ubuntu: sudo apt install python3 python3-venv; macOS: brew install python@3.12)" \
    "and run this again; nothing was changed" >&2
exit 1
