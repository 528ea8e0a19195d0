# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the Blender extension: one zip with its wheels for every Python and system it runs on.

    python tools/blender/build_extension.py            → dist/posefit-VERSION.zip

Runs in an environment with `bpy` (for Blender's own packager), `build` and `hatchling`. Wheels are
those of wheels.lock, taken from .cache/wheels or downloaded once, and refused unless their sha256
is the one that was pinned. No window and no Blender are needed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "blender_addon"
SHARED = REPOSITORY / "shared"
LOCK = Path(__file__).with_name("wheels.lock")
RELEASE_TIME = "1767225600"
"""Time stamp of every file in our wheel (2026-01-01), so that one source gives one wheel."""


class BuildError(RuntimeError):
    """The extension cannot be built; the message says why."""


@dataclass(frozen=True)
class PinnedWheel:
    """One line of wheels.lock."""

    sha256: str
    """What the file must hash to."""
    name: str
    """The file's name."""
    requirement: str
    """What to ask pip for, as `package==version`."""
    platform: str
    """For which system, as pip names it."""
    python: str
    """For which Python, as pip names it (`311`)."""


def read_lock(path: Path = LOCK) -> list[PinnedWheel]:
    """The wheels to bundle."""
    lines = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    return [PinnedWheel(*line.split()) for line in lines]


def fetch_wheel(wheel: PinnedWheel, cache: Path) -> Path:
    """A pinned wheel in the cache, downloaded where it is missing.

    Raises:
        BuildError: it could not be downloaded, or is not the file that was pinned.
    """
    path = cache / wheel.name
    if not path.is_file():
        logger.info("downloading %s", wheel.name)
        cache.mkdir(parents=True, exist_ok=True)
        # Another build may read the cache at the same time: the file appears there whole.
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            arguments = ["--no-deps", "--only-binary=:all:", "--platform", wheel.platform]
            arguments += ["--python-version", wheel.python, "--dest", folder, wheel.requirement]
            _run([sys.executable, "-m", "pip", "download", "--quiet", *arguments])
            for brought in Path(folder).iterdir():
                brought.replace(cache / brought.name)
    if not path.is_file():
        raise BuildError(f"pip brought another file than {wheel.name}: update {LOCK.name}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != wheel.sha256:
        raise BuildError(
            f"{path} has sha256 {found}, expected {wheel.sha256}: delete it, and build again"
        )
    return path


def build_shared_wheel(output: Path) -> Path:
    """The wheel of posefit_shared, built from this tree."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(SHARED)]
    _run([*command, "--outdir", str(output)], SOURCE_DATE_EPOCH=RELEASE_TIME)
    return next(output.glob("posefit_shared-*.whl"))


def stage(folder: Path, wheels: list[Path]) -> None:
    """Lay out what goes into the zip: sources, wheels, their licences, the manifest."""
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(SOURCE, folder, ignore=ignore)
    (folder / "wheels").mkdir()
    for wheel in wheels:
        shutil.copy2(wheel, folder / "wheels" / wheel.name)
        copy_licences(wheel, folder / "licenses")
    manifest = folder / "blender_manifest.toml"
    manifest.write_text(add_wheels(manifest.read_text(), [wheel.name for wheel in wheels]))


def copy_licences(wheel: Path, folder: Path) -> None:
    """Copy the licence texts that a wheel carries to `folder`/PACKAGE."""
    package = wheel.name.split("-")[0]
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            inside = member.partition(".dist-info/licenses/")[2]
            if inside and not member.endswith("/"):
                target = folder / package / Path(inside).name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(member))


def add_wheels(manifest: str, names: list[str]) -> str:
    """A manifest's text with its list of wheels, before its first table."""
    listed = "".join(f'  "./wheels/{name}",\n' for name in sorted(names))
    head, bracket, tables = manifest.partition("\n[")
    text = f"{head}\nwheels = [\n{listed}]\n{bracket}{tables}"
    tomllib.loads(text)
    return text


def packager() -> Path:
    """Blender's own extension packager, which comes with the module `bpy`.

    Raises:
        BuildError: `bpy` is not installed in this Python.
    """
    spec = importlib.util.find_spec("bpy")
    if spec is None or spec.origin is None:
        raise BuildError("bpy is not installed in this Python: run `make extension`")
    found = sorted(Path(spec.origin).parent.glob("**/bl_pkg/cli/blender_ext.py"))
    if not found:
        raise BuildError(f"no extension packager beside {spec.origin}: use bpy 4.2 or later")
    return found[0]


def build(output: Path, cache: Path, scratch: Path) -> Path:
    """Build and validate the zip.

    Args:
        output: folder for the zip.
        cache: folder that keeps downloaded wheels.
        scratch: folder to work in; emptied first.

    Returns:
        The zip.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    wheels = [fetch_wheel(wheel, cache) for wheel in read_lock()]
    wheels.append(build_shared_wheel(scratch / "shared"))
    stage(scratch / "posefit", wheels)
    output.mkdir(parents=True, exist_ok=True)
    version = tomllib.loads((SOURCE / "blender_manifest.toml").read_text())["version"]
    target = output / f"posefit-{version}.zip"
    tool = [sys.executable, str(packager())]
    source = ["--source-dir", str(scratch / "posefit")]
    _run([*tool, "build", *source, "--output-filepath", str(target)])
    repack(target)
    _run([*tool, "validate", str(target)])
    return target


def repack(path: Path) -> None:
    """Write a zip again so that the same contents are the same bytes, wherever it is built."""
    again = path.with_suffix(".repacked")
    moment = time.gmtime(int(RELEASE_TIME))[:6]
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(again, "w") as target:
        for name in sorted(source.namelist()):
            entry = zipfile.ZipInfo(name, moment)
            entry.external_attr = (0o40755 if name.endswith("/") else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, source.read(name), compresslevel=9)
    again.replace(path)


def _run(command: list[str], **environment: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, check=False
    )
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
        raise BuildError(f"{' '.join(command[1:5])} … failed:\n{last}")


def main() -> int:
    """Build the extension as the command line asks."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=REPOSITORY / "dist")
    parser.add_argument("--cache", type=Path, default=REPOSITORY / ".cache/wheels")
    parser.add_argument("--scratch", type=Path, default=REPOSITORY / "build/extension")
    arguments = parser.parse_args()
    try:
        target = build(arguments.output, arguments.cache, arguments.scratch)
    except BuildError as error:
        logger.error("%s", error)
        return 1
    logger.info("%s (%.1f MB)", target, target.stat().st_size / 1e6)
    return 0


if __name__ == "__main__":
    sys.exit(main())
