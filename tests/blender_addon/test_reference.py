# SPDX-License-Identifier: GPL-3.0-or-later
"""Every button has a tooltip, and docs/blender_reference.md says what the tooltips say."""

import importlib.util
from pathlib import Path

import pytest

pytestmark = pytest.mark.bpy

REPOSITORY = Path(__file__).resolve().parents[2]
EXPLAINED_BY_THE_DIALOG = {"filepath", "directory", "files", "filter_glob", "check_existing"}


@pytest.fixture
def tool():
    path = REPOSITORY / "tools/blender/write_reference.py"
    spec = importlib.util.spec_from_file_location("write_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_current(addon, tool):
    found = tool.TARGET.read_text(encoding="utf-8")
    assert found == tool.reference(), "run tools/blender/write_reference.py with a Python with bpy"


def test_every_operator_and_each_of_its_options_says_what_it_does(addon, tool):
    import bpy

    silent = []
    for operator in tool.operators():
        rna = getattr(bpy.ops.posefit, operator.bl_idname.split(".")[1]).get_rna_type()
        silent += [] if rna.description else [operator.bl_idname]
        silent += [
            f"{operator.bl_idname}({prop.identifier})"
            for prop in rna.properties
            if prop.is_runtime and not prop.is_hidden and not prop.description
            if prop.identifier not in EXPLAINED_BY_THE_DIALOG
        ]
    assert silent == []
