# SPDX-License-Identifier: Apache-2.0
"""Motion clips as training poses: a skeleton that rests with splayed legs stands on level soles."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posefit_shared.skeleton import SMPL_PARENTS

TOOL = Path(__file__).parents[2] / "tools/training/prepare_poses.py"
SPLAY = np.radians(20.0)
LEG = (np.sin(SPLAY), -np.cos(SPLAY), 0.0)
FOOT = (0.18 * np.sin(SPLAY), -0.18 * np.cos(SPLAY), 0.98)
"""Like CMU's: the bone from ankle to toes, 10° below the sole."""


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("prepare_poses", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def write_standing_skeleton(folder, tool):
    """A CMU-like skeleton whose legs splay at rest, and a motion that closes them."""
    parents = {"femur": "root", "tibia": "femur", "foot": "tibia", "toes": "foot"}
    lines = [":bonedata"]
    hierarchy = ["root " + " ".join(f"{side}femur" for side in "lr")]
    names = [name for name, _ in tool.ASF_BONES.values() if name != "root"]
    for name in names:
        side, part = (name[0], name[1:]) if name[1:] in parents else ("", name)
        mirror = np.array([-1.0 if side == "r" else 1.0, 1.0, 1.0])
        direction = {"femur": LEG, "tibia": LEG, "foot": FOOT, "toes": (0, 0, 1)}.get(
            part, (0, 1, 0)
        )
        x, y, z = mirror * np.array(direction)
        axis = 20.0 * mirror[0] if side else 0.0
        lines += ["begin", f"name {name}", f"direction {x} {y} {z}", f"axis 0 0 {axis} XYZ"]
        lines += ["dof rx ry rz"] * (part == "femur") + ["end"]
        if side and part != "femur":
            hierarchy.append(f"{side}{parents[part]} {name}")
        elif not side:
            hierarchy.append(f"root {name}")
    lines += [":hierarchy", "begin", *hierarchy, "end"]
    (folder / "09.asf").write_text("\n".join(lines))
    frame = ["1", "root 0 17 0 0 0 0", "lfemur 0 0 -20", "rfemur 0 0 20"]
    (folder / "09_01.amc").write_text("\n".join(frame * 4))


def test_a_standing_asf_skeleton_has_level_soles(tmp_path, tool):
    write_standing_skeleton(tmp_path, tool)
    rest = tool.rest_directions("free")
    ((_, local),) = tool.asfamc_clips(tmp_path, rest)
    for ankle in (7, 8):
        for end in (ankle, ankle + 3):
            turned, joint = Rotation.identity(), end
            while joint >= 0:
                turned, joint = Rotation.from_rotvec(local[0, joint]) * turned, SMPL_PARENTS[joint]
            up, forward = turned.apply([0.0, 1.0, 0.0]), turned.apply([0.0, 0.0, 1.0])
            np.testing.assert_allclose(up, [0, 1, 0], atol=1e-6)
            np.testing.assert_allclose(forward, [0, 0, 1], atol=1e-6)


def test_splayed_shanks_turn_both_soles_outwards_alike(tool):
    left, right = (tool.level_sole(np.array(LEG) * [side, 1, 1]) for side in (1.0, -1.0))
    np.testing.assert_allclose(left.as_rotvec(), [0, 0, SPLAY], atol=1e-9)
    np.testing.assert_allclose(right.as_rotvec(), [0, 0, -SPLAY], atol=1e-9)


def test_a_folder_without_clips_is_said_and_nothing_is_written(tool, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    output = tmp_path / "poses.npz"
    with pytest.raises(SystemExit, match="no clip was found in .*empty"):
        tool.main(tool.Options(asfamc=tmp_path / "empty", output=output))
    with pytest.raises(SystemExit, match="no clips were asked for"):
        tool.main(tool.Options(output=output))
    assert not output.exists()
