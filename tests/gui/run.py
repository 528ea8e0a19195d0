# SPDX-License-Identifier: GPL-3.0-or-later
"""`make test-gui`: an artist's first session in real Blender windows, clicked from end to end.

    python tests/gui/run.py [--only sid] [--output out/gui] [--size 1600x1100]

Builds (or uses again) a Debian with Blender for each of debian_blender.SUITES, installs the
extension's zip there, and has inside/first_session.py press the buttons of the real panels under
a virtual screen. A picture of each step lies in the output folder. Needs root and debootstrap.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import time
import tomllib
from pathlib import Path

from debian_blender import SUITES, GuiError, Suite, check_host, ensure_built
from room import run_inside, write_backend_python

logger = logging.getLogger(__name__)

REPOSITORY = Path(__file__).resolve().parents[2]
CLIP = REPOSITORY / "backend/posefit/assets/demo/cam03.mp4"
SEQUENCE = REPOSITORY / "tests/blender_addon/demo_estimate.npz"
"""A few frames of that clip."""
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "posefit/gui"
"""Outside of the checkout, so that another one uses the same."""
SESSION_SECONDS = 3600
"""How long one whole session may take, on two busy cores too."""


def run_suite(suite: Suite, cache: Path, output: Path, options: argparse.Namespace) -> int:
    """One session in one Blender; gives back its exit status."""
    logger.info("%s: Blender %s", suite.name, suite.blender)
    room = ensure_built(suite, cache)
    folder = output / suite.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    disk = folder / "disk"
    _fill_disk(disk)
    session = Path(__file__).parent / "inside/first_session.py"
    command = ["/usr/bin/python3", "-B", str(session), "--output", str(folder)]
    command += ["--zip", str(_extension()), "--size", options.size]
    began = time.monotonic()
    log = folder / "session.log"
    status = run_inside(
        room, (REPOSITORY, output), disk, command, log=log, timeout_s=SESSION_SECONDS
    )
    words = "every step was right" if status == 0 else f"failed (status {status}), see {folder}"
    logger.info("%s: %s (%.0f s)", suite.name, words, time.monotonic() - began)
    return status


def _fill_disk(disk: Path) -> None:
    """What the artist has: a clip, a sequence file, a Python with the backend."""
    for folder in ("film", "posefit"):
        (disk / folder).mkdir(parents=True)
    shutil.copy(CLIP, disk / "film/beam.mp4")
    shutil.copy(SEQUENCE, disk / "film/other.npz")
    write_backend_python(disk / "posefit/python", REPOSITORY)


def _extension() -> Path:
    """The zip that `make extension` writes."""
    manifest = REPOSITORY / "blender_addon/blender_manifest.toml"
    version = tomllib.loads(manifest.read_text(encoding="utf-8"))["version"]
    found = REPOSITORY / "dist" / f"posefit-{version}.zip"
    if not found.is_file():
        raise GuiError(f"{found} is not there: run make extension first")
    return found


def main() -> int:
    """Run the sessions that the command line asks for; 0 if every step was right."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = [suite.name for suite in SUITES]
    parser.add_argument("--only", choices=names, help="one Debian instead of all")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the Debians are kept")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "out/gui")
    parser.add_argument("--size", default="1600x1100", help="of the screen, pixels")
    options = parser.parse_args()
    output = options.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    try:
        check_host()
        chosen = [suite for suite in SUITES if options.only in (None, suite.name)]
        statuses = [run_suite(suite, options.cache.resolve(), output, options) for suite in chosen]
    except GuiError as error:
        logger.error("%s", error)
        return 2
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main())
