# SPDX-License-Identifier: Apache-2.0
"""Install posefit's backend for Blender: an environment of its own, and a note where to find it.

    python tools/install/install_backend.py            (install_backend.sh and .ps1 find a Python)

Makes a new virtual environment in a folder of the user's, installs torch and posefit into it, runs
`posefit doctor`, and only then writes the note, a small JSON file that the Blender extension reads.
Until the note is written a backend of before stays what it was; whatever fails leaves no new
environment behind. Running it again updates. Standard library only, for any Python from 3.11 on.

Tested on Linux. The Windows and macOS parts are written from those systems' documentation and were
never run there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
OLDEST_PYTHON = (3, 11)
NOTE_FORMAT = 1
"""Version of the note's layout; blender_addon/connection/installed_backend.py reads it."""
ENVIRONMENT_NAME = re.compile(r"env-\d{8}-\d{6}")

DESCRIBE = """
import importlib.metadata, json, torch
found = torch.cuda.is_available()
print(json.dumps({
    "version": importlib.metadata.version("posefit"),
    "device": torch.cuda.get_device_name(0) if found else "CPU",
    "uses_gpu": found,
}))
"""


class InstallError(RuntimeError):
    """The backend was not installed; the message says why and what to do."""


@dataclass(frozen=True)
class Plan:
    """What is installed, and where to."""

    source: Path
    """A checkout of posefit, or its wheel."""
    environment: Path
    """The new environment's folder."""
    note: Path
    """The file that tells Blender."""
    gpu: str
    """Name of the NVIDIA GPU that was found; empty without one."""
    torch_index: str
    """Address of the package index that has the torch wanted; empty: as pip is configured."""

    @property
    def python(self) -> Path:
        """The new environment's Python."""
        return _in_environment(self.environment, "python")

    @property
    def constraints(self) -> Path:
        """The versions that the tests pass with."""
        own = self.source / "constraints.txt"
        return own if own.is_file() else REPOSITORY / "constraints.txt"

    @property
    def packages(self) -> list[str]:
        """pip's arguments that name posefit."""
        # Without a GPU, OpenVINO runs the fast network in less time than torch.
        extra = "" if self.gpu or sys.platform == "darwin" else "[cpu]"
        if self.source.is_file():
            return ["--find-links", str(self.source.parent), f"{self.source}{extra}"]
        return [str(self.source / "shared"), f"{self.source}{extra}"]


def user_folders(platform: str, environment: Mapping[str, str], home: Path) -> tuple[Path, Path]:
    """Where a user's own data lie, and where their settings: (data, settings) of posefit.

    Args:
        platform: as `sys.platform` names it.
        environment: the environment variables.
        home: the user's home folder.
    """
    if platform == "win32":
        local = environment.get("LOCALAPPDATA") or home / "AppData/Local"
        roaming = environment.get("APPDATA") or home / "AppData/Roaming"
        return Path(local) / "posefit", Path(roaming) / "posefit"
    if platform == "darwin":
        folder = home / "Library/Application Support/posefit"
        return folder, folder
    data = Path(environment.get("XDG_DATA_HOME", ""))
    settings = Path(environment.get("XDG_CONFIG_HOME", ""))
    return (
        (data if data.is_absolute() else home / ".local/share") / "posefit",
        (settings if settings.is_absolute() else home / ".config") / "posefit",
    )


def find_gpu() -> str:
    """Name of the first NVIDIA GPU that nvidia-smi tells of; empty where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.strip().splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else ""


def make_plan(arguments: argparse.Namespace) -> Plan:
    """What the command line asks for.

    Raises:
        InstallError: this Python or the source cannot be used.
    """
    if sys.version_info < OLDEST_PYTHON:
        raise InstallError(
            f"this is Python {sys.version.split()[0]}, posefit needs 3.11 or newer: run the "
            "installer with that"
        )
    data, settings = user_folders(sys.platform, os.environ, Path.home())
    source = Path(arguments.source).expanduser().resolve()
    is_wheel = source.is_file() and source.suffix == ".whl"
    is_checkout = (source / "pyproject.toml").is_file() and (source / "shared").is_dir()
    if not is_wheel and not is_checkout:
        raise InstallError(f"{source} is neither a checkout of posefit nor a wheel: choose one")
    folder = Path(arguments.to).expanduser().resolve() if arguments.to else data / "backend"
    return Plan(
        source=source,
        environment=folder / time.strftime("env-%Y%m%d-%H%M%S"),
        note=settings / "backend.json",
        gpu="" if arguments.device == "cpu" else find_gpu(),
        torch_index=arguments.torch_index,
    )


def describe(plan: Plan) -> list[str]:
    """What will be done, in words."""
    torch = "as pip is configured"
    if plan.torch_index:
        torch = f"from {plan.torch_index}"
    elif not plan.gpu and sys.platform == "linux":
        torch = "the build without CUDA where pip's index has it, else the usual one"
    return [
        f"Python       {sys.executable} ({sys.version.split()[0]})",
        f"GPU          {plan.gpu or 'none is used: the backend will compute on the CPU'}",
        f"posefit      from {plan.source}",
        f"torch        {torch}",
        f"environment  {plan.environment}",
        f"note         {plan.note} (tells Blender where the backend is; written last)",
    ]


def install(plan: Plan) -> str:
    """Install a backend; gives back what it computes on.

    Raises:
        InstallError: something failed; what was there before is untouched.
    """
    try:
        plan.environment.mkdir(parents=True)
    except OSError as error:
        raise InstallError(
            f"{plan.environment} cannot be made ({error.strerror}): choose another folder (--to)"
        ) from error
    is_done = False
    try:
        _run([sys.executable, "-m", "venv", str(plan.environment)], "make the environment")
        _install_torch(plan)
        _pip(plan, "install posefit", *plan.packages)
        _run([str(_in_environment(plan.environment, "posefit")), "doctor"], "pass its own checks")
        found = _describe_environment(plan)
        _write_note(plan, found)
        is_done = True
    finally:
        if not is_done:
            shutil.rmtree(plan.environment, ignore_errors=True)
    _remove_earlier(plan)
    if plan.gpu and not found["uses_gpu"]:
        _say(
            f"note: {plan.gpu} was found, but this torch cannot use it: run the installer again "
            "with --torch-index and the address that PyTorch's site names for your driver"
        )
    return str(found["device"])


def _install_torch(plan: Plan) -> None:
    chosen = ["--index-url", plan.torch_index] if plan.torch_index else []
    if not plan.gpu and not chosen and sys.platform == "linux":
        # The usual build for Linux brings 3 GB of CUDA; only an index that names it has another.
        if _tries(plan, f"torch=={_pinned_torch(plan.constraints)}+cpu"):
            return
        _say(
            "note: pip's index has no torch without CUDA, so the larger usual one is installed; it "
            "computes on the CPU too (--torch-index ADDRESS names another index)"
        )
    _pip(plan, "install torch", *chosen, "torch")


def _pinned_torch(constraints: Path) -> str:
    found = re.search(r"^torch==([\w.]+)$", constraints.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise InstallError(f"{constraints} names no version of torch: restore that file")
    return found.group(1)


def _describe_environment(plan: Plan) -> dict[str, object]:
    done = subprocess.run(
        [str(plan.python), "-c", DESCRIBE],
        capture_output=True,
        text=True,
        env=_clean_environment(),
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InstallError(f"the installed posefit does not start ({last}): run it again")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _write_note(plan: Plan, found: dict[str, object]) -> None:
    """Tell Blender; the file appears whole or not at all."""
    note = {
        "posefit_backend": NOTE_FORMAT,
        "python": str(plan.python),
        "version": found["version"],
        "device": found["device"],
        "installed": time.strftime("%Y-%m-%d"),
    }
    temporary = None
    try:
        plan.note.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=plan.note.parent, prefix=".backend.")
        temporary = Path(name)
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(note, file, indent=2)
            file.write("\n")
        temporary.replace(plan.note)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise InstallError(
            f"{plan.note} cannot be written ({error.strerror}): make its folder writable"
        ) from error


def _remove_earlier(plan: Plan) -> None:
    """Delete the environments of earlier runs in the same folder."""
    for folder in plan.environment.parent.iterdir():
        is_earlier = ENVIRONMENT_NAME.fullmatch(folder.name) and folder != plan.environment
        if is_earlier and (folder / "pyvenv.cfg").is_file():
            shutil.rmtree(folder, ignore_errors=True)


def _pip(plan: Plan, purpose: str, *arguments: str) -> None:
    _run(_pip_command(plan, *arguments), purpose)


def _tries(plan: Plan, *arguments: str) -> bool:
    """Whether pip could install something; silent where it could not."""
    done = subprocess.run(
        _pip_command(plan, *arguments), capture_output=True, env=_clean_environment(), check=False
    )
    return done.returncode == 0


def _pip_command(plan: Plan, *arguments: str) -> list[str]:
    pip = [str(plan.python), "-m", "pip", "install", "--disable-pip-version-check"]
    return [*pip, "-c", str(plan.constraints), *arguments]


def _run(command: list[str], purpose: str) -> None:
    try:
        status = subprocess.run(command, env=_clean_environment(), check=False).returncode
    except OSError as error:
        raise InstallError(f"could not {purpose}: {error}") from error
    if status != 0:
        raise InstallError(f"could not {purpose} (status {status}): the lines above say why")


def _clean_environment() -> dict[str, str]:
    """The environment without what would lead another Python to its own packages."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}


def _in_environment(environment: Path, program: str) -> Path:
    if sys.platform == "win32":
        return environment / "Scripts" / f"{program}.exe"
    return environment / "bin" / program


def _say(words: str) -> None:
    print(words, flush=True)


def main(words: list[str] | None = None) -> int:
    """Install as the command line asks."""
    parser = argparse.ArgumentParser(prog="install_backend", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--source", default=str(REPOSITORY), help="checkout of posefit, or its wheel beside "
        "posefit_shared's (default: this checkout)",
    )  # fmt: skip
    parser.add_argument("--to", help="folder for the environment (default: the user's data folder)")
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto", help="cpu: no GPU")
    parser.add_argument(
        "--torch-index", default="", help="package index to take torch from (default: pip's own)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    arguments = parser.parse_args(words)
    try:
        plan = make_plan(arguments)
        for line in describe(plan):
            _say(line)
        if arguments.dry_run:
            _say("dry run: nothing was installed")
            return 0
        device = install(plan)
    except InstallError as error:
        print(f"install_backend: {error}; nothing was changed", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("install_backend: interrupted; nothing was changed", file=sys.stderr)
        return 130
    _say(f"The backend is installed and computes on {device}. In Blender, press Start Here.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
