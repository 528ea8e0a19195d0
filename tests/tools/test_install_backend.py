# SPDX-License-Identifier: Apache-2.0
"""The installer of the backend: real environments and real pip, on made-up packages, offline."""

import importlib.util
import json
import os
import re
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "tools/install/install_backend.sh"
INSTALLER = SCRIPT.with_suffix(".py")
PINNED = re.search(r"^torch==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.M).group(1)

TORCH = """
class cuda:
    is_available = staticmethod(lambda: {gpu})
    get_device_name = staticmethod(lambda _: "Made-up GPU")
"""
DOCTOR = (
    "import sys\ndef main():\n    print('doctor was asked', sys.argv[1:])\n    return {status}\n"
)
ENTRY_POINTS = "[console_scripts]\nposefit=posefit:main\n"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the script is for Unix")


def make_wheel(folder, name, version, files, metadata=""):
    """A wheel with these modules and no more than pip needs."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}"
    content = files | {
        f"{info}/METADATA": head,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    content[f"{info}/RECORD"] = "".join(f"{n},,\n" for n in [*content, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in content.items():
            archive.writestr(inside, text)
    return path


def make_packages(folder, gpu=False, doctor=0, torch=PINNED, version="0.1.0"):
    """posefit's wheel, with torch's and posefit_shared's beside it."""
    make_wheel(folder, "torch", torch, {"torch.py": TORCH.format(gpu=gpu)})
    make_wheel(folder, "openvino", "2026.4.1", {"openvino.py": ""})
    make_wheel(folder, "posefit_shared", "0.1.0", {"posefit_shared.py": ""})
    needs = "Requires-Dist: posefit_shared==0.1.0\nRequires-Dist: torch>=2.4\n"
    needs += "Provides-Extra: cpu\nRequires-Dist: openvino>=2024.4; extra == 'cpu'\n"
    files = {
        "posefit.py": DOCTOR.format(status=doctor),
        f"posefit-{version}.dist-info/entry_points.txt": ENTRY_POINTS,
    }
    return make_wheel(folder, "posefit", version, files, needs)


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def write_program(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def environment_of(home, tmp_path, gpu="", packages="packages"):
    """A user's whose pip is set to know the made-up packages only."""
    smi = tmp_path / "tools/nvidia-smi"
    write_program(smi, f"[ -n '{gpu}' ] || exit 9\necho '{gpu}'\necho 'another'")
    settings = home / ".config/pip/pip.conf"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(f"[global]\nno-index = true\nfind-links = {tmp_path / packages}\n")
    return {
        "PATH": f"{smi.parent}:{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(home),
        "PIP_CONFIG_FILE": str(settings),
        "PYTHONPATH": "/nowhere/that/may/leak",
    }


@pytest.fixture
def run(home, tmp_path):
    """Runs the script as such a user."""

    def run(*words, **options):
        return subprocess.run(
            [str(SCRIPT), *map(str, words)], env=environment_of(home, tmp_path, **options),
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def empty_environment(tmp_path_factory):
    """A virtual environment that holds pip alone."""
    folder = tmp_path_factory.mktemp("empty") / "environment"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin/python", "-m", "compileall", "-q", folder / "lib"], check=True)
    return folder


@pytest.fixture
def install(home, tmp_path, empty_environment, monkeypatch, capfd):
    """Runs what the script runs, in this process and with a Python that copies environments.

    To make one anew is most of an installation's time; the script itself does it once below.
    """
    spec = importlib.util.spec_from_file_location("install_backend", INSTALLER)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "install_backend", module)
    spec.loader.exec_module(module)
    copier = write_program(tmp_path / "tools/python", f'cp -Rp "{empty_environment}/." "$3"')
    monkeypatch.setattr(sys, "executable", str(copier))
    for name in [name for name in os.environ if name.startswith(("PIP_", "XDG_"))]:
        monkeypatch.delenv(name)

    def install(*words, **options):
        for name, value in environment_of(home, tmp_path, **options).items():
            monkeypatch.setenv(name, value)
        status = module.main([str(word) for word in words])
        return subprocess.CompletedProcess(words, status, *capfd.readouterr())

    return install


def note(home):
    return json.loads((home / ".config/posefit/backend.json").read_text())


def environments(home):
    return sorted((home / ".local/share/posefit/backend").glob("env-*"))


def test_a_dry_run_says_everything_and_leaves_nothing(run, home):
    done = run("--dry-run", gpu="Made-up GPU")
    assert done.returncode == 0, done.stderr
    for words in ("Made-up GPU", f"from {REPOSITORY}", ".local/share/posefit/backend/env-",
                  ".config/posefit/backend.json", "nothing was installed"):  # fmt: skip
        assert words in done.stdout
    assert [entry.name for entry in home.iterdir()] == [".config"]
    assert [entry.name for entry in (home / ".config").iterdir()] == ["pip"]


@pytest.mark.slow
def test_a_run_installs_checks_and_tells_blender_and_a_second_one_updates(
    run, install, home, tmp_path
):
    first = run("--source", make_packages(tmp_path / "packages"))
    assert first.returncode == 0, first.stdout + first.stderr
    assert "doctor was asked ['doctor']" in first.stdout
    assert "no torch without CUDA" in first.stdout
    told = note(home)
    python = Path(told["python"])
    assert python.is_file()
    assert python.is_relative_to(environments(home)[0])
    assert (told["posefit_backend"], told["version"], told["device"]) == (1, "0.1.0", "CPU")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", told["installed"])
    assert subprocess.run([python, "-c", "import openvino"], check=False).returncode == 0
    assert stat.S_IMODE((home / ".config/posefit/backend.json").stat().st_mode) == 0o600

    newer = make_packages(tmp_path / "newer", gpu=True, version="0.2.0")
    second = install("--source", newer, gpu="Made-up GPU", packages="newer")
    assert second.returncode == 0, second.stdout + second.stderr
    assert (note(home)["version"], note(home)["device"]) == ("0.2.0", "Made-up GPU")
    assert [Path(note(home)["python"]).parents[1]] == environments(home)
    assert not python.exists()


@pytest.mark.slow
def test_whatever_fails_leaves_the_backend_of_before(install, home, tmp_path):
    good = make_packages(tmp_path / "packages")
    assert install("--source", good).returncode == 0
    before = note(home), environments(home)
    ill = make_packages(tmp_path / "ill", doctor=1, version="0.3.0")
    without_torch = make_packages(tmp_path / "lacking", torch="1.0")
    for source, words in ((ill, "could not pass its own checks (status 1)"),
                          (without_torch, "could not install torch")):  # fmt: skip
        done = install("--source", source, packages=source.parent.name)
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("install_backend: ")
        assert words in last
        assert last.endswith("nothing was changed")
        assert "Traceback" not in done.stderr
        assert (note(home), environments(home)) == before


@pytest.mark.slow
def test_pips_index_with_a_torch_for_cpus_is_asked_for_it_and_a_blind_torch_is_said(
    install, home, tmp_path
):
    source = make_packages(tmp_path / "packages", torch=f"{PINNED}+cpu")
    done = install("--source", source, "--to", tmp_path / "elsewhere")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no torch without CUDA" not in done.stdout
    assert Path(note(home)["python"]).is_relative_to(tmp_path / "elsewhere")
    blind = install("--source", source, gpu="Made-up GPU")
    assert blind.returncode == 0, blind.stdout + blind.stderr
    assert "this torch cannot use it" in blind.stdout
    assert note(home)["device"] == "CPU"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--source", "/nowhere"), "neither a checkout of posefit nor a wheel"),
        (("--to", "/proc/nowhere"), "cannot be made"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(run, words, expected):
    done = run(*words)
    assert done.returncode == 1
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_machine_without_python_is_told_what_to_install(tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "dirname"):
        (tools / name).symlink_to(Path("/usr/bin") / name)
    environment = {"PATH": str(tools), "HOME": str(tmp_path)}
    done = subprocess.run(
        ["/bin/sh", str(SCRIPT)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "no Python 3.11 or newer" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_script_is_executable():
    assert os.access(SCRIPT, os.X_OK)
