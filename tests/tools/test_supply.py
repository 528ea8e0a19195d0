# SPDX-License-Identifier: Apache-2.0
"""What posefit is made of and what is made of it: known by hash, allowed by licence, repeatable."""

import importlib.util
import re
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def tool(name):
    spec = importlib.util.spec_from_file_location(Path(name).stem, REPOSITORY / "tools" / name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def pinned(text):
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return {re.sub(r"[._]", "-", name).lower(): version for name, version in found}


@pytest.fixture(scope="module")
def lock():
    return (REPOSITORY / "requirements.lock").read_text()


def test_every_package_of_the_lock_has_hashes_and_no_host_is_named(lock):
    entries = re.split(r"\n(?=[A-Za-z0-9])", lock.partition("\n\n")[0].split("it.\n", 1)[-1])
    assert len(entries) > 50
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry.splitlines()[0]
    assert "://" not in lock


def test_the_lock_has_what_pyproject_asks_for_in_the_versions_that_are_tested(lock):
    """After a change of either file: tools/lock_environment.py."""
    locked = pinned(lock)
    tested = pinned((REPOSITORY / "constraints.txt").read_text())
    assert {n: v for n, v in locked.items() if tested.get(n, v) != v} == {}
    wanted = [re.match(r"[\w.-]+", one)[0] for one in tool("lock_environment.py").requirements()]
    assert {re.sub(r"[._]", "-", name).lower() for name in wanted} <= locked.keys()


@pytest.mark.parametrize(
    ("name", "licence", "words"),
    [
        ("a", "MIT License", ""),
        ("a", "GNU General Public License v3 (GPLv3)", "is under GNU"),
        ("a", "AGPL-3.0-only", "is under AGPL"),
        ("a", "CC-BY-NC-4.0", "is under CC-BY-NC"),
        ("a", "", "says nothing"),
        ("a", "Some licence of our own", "nobody has looked at"),
        ("smplx", "Other/Proprietary License", ""),
        ("nvidia-cublas", "NVIDIA Proprietary Software", ""),
        ("posefit", "", ""),
    ],
)
def test_licences_that_bind_are_refused(name, licence, words):
    said = tool("check_licences.py").complaint(name, licence)
    assert (words in said) if words else said == ""


def test_a_zip_is_the_same_bytes_whoever_packs_it_and_when(tmp_path):
    packed = []
    for place, names, year in (("a.zip", "xy", 2001), ("b.zip", "yx", 2020)):
        path = tmp_path / place
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo("folder/", (year, 1, 1, 0, 0, 0)), b"")
            for name in names:
                entry = zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0))
                entry.external_attr = (0o100600 + year % 2) << 16
                archive.writestr(entry, name * 100)
        tool("blender/build_extension.py").repack(path)
        packed.append(path.read_bytes())
        with zipfile.ZipFile(path) as archive:
            assert archive.read("x") == b"x" * 100
    assert packed[0] == packed[1]
