# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make test-gui` needs is said in one sentence before anything is built."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest


@pytest.fixture
def debian_blender(monkeypatch):
    path = Path(__file__).parent / "gui/debian_blender.py"
    spec = importlib.util.spec_from_file_location("debian_blender", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "debian_blender", module)
    spec.loader.exec_module(module)
    return module


def test_without_root_it_is_said_that_root_is_needed(debian_blender, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(debian_blender.GuiError, match="needs root.*: run it as root$"):
        debian_blender.check_host()


def test_without_debootstrap_it_is_said_how_to_get_it(debian_blender, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "debootstrap" else name)
    with pytest.raises(debian_blender.GuiError, match="needs debootstrap: .*apt-get install"):
        debian_blender.check_host()


def test_what_an_interrupted_build_left_is_not_taken_for_a_debian(
    debian_blender, monkeypatch, tmp_path
):
    suite = debian_blender.SUITES[0]
    (tmp_path / suite.name).mkdir()
    (tmp_path / suite.name / "half").touch()
    monkeypatch.setattr(debian_blender, "_mirror", lambda: "http://mirror.invalid/debian")

    def fail(command, output):
        raise debian_blender.GuiError(" ".join(command))

    monkeypatch.setattr(debian_blender, "_run", fail)
    with pytest.raises(debian_blender.GuiError, match=f"debootstrap.*{suite.name}.*mirror.invalid"):
        debian_blender.ensure_built(suite, tmp_path)
    assert not (tmp_path / suite.name).exists()


def test_a_finished_build_is_used_again(debian_blender, tmp_path):
    suite = debian_blender.SUITES[0]
    (tmp_path / suite.name).mkdir()
    (tmp_path / suite.name / debian_blender.DONE).touch()
    assert debian_blender.ensure_built(suite, tmp_path) == tmp_path / suite.name
