# SPDX-License-Identifier: Apache-2.0
"""Build both wheels and the extension twice, in other places and at other times: the same bytes?

    .venv-bpy42/bin/python tools/check_reproducible.py        # `make reproducible`

Each build starts from a copy of the tracked files with time stamps and permissions of its own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
EPOCH = "1767225600"
"""What both builds are told to date their files (2026-01-01)."""


def copy_tree(target: Path, moment: int, mode: int) -> None:
    """The tracked files, dated and with permissions as another checkout may have them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", "backend", "shared", "blender_addon", "tools/blender",
         "pyproject.toml", "README.md", "LICENSE", "NOTICE"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, place)
        place.chmod(mode)
        os.utime(place, (moment, moment))


def build(tree: Path, output: Path) -> dict[str, str]:
    """SHA-256 of everything that a tree builds, by file name."""
    output.mkdir()
    environment = os.environ | {"SOURCE_DATE_EPOCH": EPOCH}
    for project in (tree, tree / "shared"):
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(project)]
        _run([*command, "--outdir", str(output)], environment)
    cache = REPOSITORY / ".cache/wheels"
    extension = [sys.executable, str(tree / "tools/blender/build_extension.py")]
    extension += [
        "--output",
        str(output),
        "--cache",
        str(cache),
        "--scratch",
        str(tree / "scratch"),
    ]
    _run(extension, environment)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in output.iterdir()}


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command[1:4])} failed:\n{done.stdout}{done.stderr}")


def main() -> int:
    """Print each file's hash; 0 if both builds agree in all of them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = []
        for place, moment, mode in (("one", 1_600_000_000, 0o644), ("other/deeper", 1_760_000_000,
                                                                     0o664)):  # fmt: skip
            tree = folder / place
            copy_tree(tree, moment, mode)
            found.append(build(tree, folder / f"out {moment}"))
    one, other = found
    for file in sorted(one.keys() | other.keys()):
        same = one.get(file) == other.get(file)
        print(f"{'same ' if same else 'OTHER'} {file} {one.get(file)}")
    return 0 if one == other else 1


if __name__ == "__main__":
    sys.exit(main())
