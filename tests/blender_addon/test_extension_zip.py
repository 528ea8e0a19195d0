# SPDX-License-Identifier: GPL-3.0-or-later
"""The zip: built and validated by Blender's own packager, installed in a fresh Blender."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BUNDLED = ("msgpack", "zmq", "pyzmq", "posefit", "_posefit", "__editable__")

pytestmark = [pytest.mark.bpy, pytest.mark.slow]

INSTALL = """
import bpy, json, sys
result = bpy.ops.extensions.package_install_files(
    filepath=sys.argv[1], repo="user_default", enable_on_install=True, overwrite=True)
import posefit_shared, msgpack, zmq
operators = [n for n in dir(bpy.ops.posefit) if not n.startswith("_")]
assert bpy.ops.posefit.add_body() == {"FINISHED"}
bones = len(bpy.context.object.data.bones)
has_settings = bpy.context.scene.posefit.smoothness
address = bpy.context.preferences.addons["bl_ext.user_default.posefit"].preferences.address
bpy.ops.preferences.addon_disable(module="bl_ext.user_default.posefit")
left = hasattr(bpy.types.Scene, "posefit")
print("REPORT" + json.dumps({
    "result": sorted(result), "operators": operators, "bones": bones, "address": address,
    "files": [posefit_shared.__file__, msgpack.__file__, zmq.__file__],
    "curve": zmq.has("curve"), "left": left}))
"""


@pytest.fixture(scope="module")
def extension_zip(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("dist")
    command = [sys.executable, str(REPOSITORY / "tools/blender/build_extension.py")]
    command += ["--output", str(output), "--scratch", str(output / "scratch")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(output.glob("*.zip"))


@pytest.fixture
def python_without_our_packages(tmp_path) -> Path:
    """A folder with this environment's packages but those that the zip must bring itself."""
    folder = tmp_path / "site"
    folder.mkdir()
    for entry in Path(np.__file__).parents[1].iterdir():
        if not entry.name.startswith(BUNDLED) and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    return folder


def test_the_zip_bundles_a_wheel_for_every_python_and_system(extension_zip):
    names = zipfile.ZipFile(extension_zip).namelist()
    wheels = [name for name in names if name.endswith(".whl")]
    for system in ("manylinux", "win_amd64", "macosx_11_0_arm64"):
        for python in ("cp311", "cp313", "cp314"):
            assert [w for w in wheels if "msgpack" in w and python in w and system in w]
    for system in ("manylinux", "win_amd64", "macosx"):
        for python in ("cp311-cp311", "cp312-abi3"):
            assert [w for w in wheels if "pyzmq" in w and python in w and system in w]
    assert [w for w in wheels if "posefit_shared" in w]


def test_the_zip_carries_the_notices_of_what_it_bundles(extension_zip):
    names = zipfile.ZipFile(extension_zip).namelist()
    for notice in ("LICENSE.zeromq.txt", "LICENSE.libsodium.txt", "LICENSE.md"):
        assert f"licenses/pyzmq/{notice}" in names
    assert "licenses/msgpack/COPYING" in names
    assert {"LICENSE", "install_backend.txt"} <= set(names)
    assert not [name for name in names if "__pycache__" in name]


def test_a_fresh_blender_installs_it_and_uses_the_bundled_wheels(
    extension_zip, python_without_our_packages, tmp_path
):
    resources = tmp_path / "resources"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "BLENDER_USER_RESOURCES": str(resources),
        "PYTHONPATH": str(python_without_our_packages),
    }
    done = subprocess.run(
        [sys.executable, "-S", "-c", INSTALL, str(extension_zip)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=120,
    )
    reports = [line for line in done.stdout.splitlines() if line.startswith("REPORT")]
    assert reports, done.stdout[-2000:] + done.stderr[-2000:]
    report = json.loads(reports[0].removeprefix("REPORT"))
    assert report["result"] == ["FINISHED"]
    assert {"add_body", "import_sequence", "connect", "refine_frame", "refine_range"} <= set(
        report["operators"]
    )
    assert report["bones"] == 24
    assert all(str(resources) in file for file in report["files"])
    assert report["curve"]
    assert not report["left"]


def test_a_wheel_that_is_not_the_pinned_one_is_refused(tmp_path):
    sys.path.insert(0, str(REPOSITORY / "tools/blender"))
    import build_extension

    wheel = build_extension.read_lock()[0]
    (tmp_path / wheel.name).write_bytes(b"something else")
    with pytest.raises(build_extension.BuildError, match="sha256"):
        build_extension.fetch_wheel(wheel, tmp_path)
