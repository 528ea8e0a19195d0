# SPDX-License-Identifier: GPL-3.0-or-later
"""demo.blend holds both bodies with an action each, the camera and its footage; the still shows."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scene_makers import camera_fields, random_sequence, write_footage

from posefit_shared.sequence import write_sequence

pytestmark = [pytest.mark.bpy, pytest.mark.slow]

SCRIPT = Path(__file__).resolve().parents[2] / "tools/blender/make_demo_blend.py"


def test_a_demo_blend_opens_with_everything_in_it(context, rng, tmp_path):
    import bpy

    count = 4
    motion = random_sequence(rng, count=count, **camera_fields(rng))
    # In front of the camera, so that the still has something to show.
    camera = motion.camera(0)
    centre = np.linalg.inv(camera.world_to_camera) @ (0.0, 0.0, 4.0, 1.0)
    motion = motion.replace(trans=np.tile(centre[:3], (count, 1)).astype(np.float32))
    write_sequence(tmp_path / "a.npz", motion)
    write_sequence(tmp_path / "b.npz", motion.replace(trans=motion.trans + np.float32(0.1)))
    footage = write_footage(tmp_path / "my footage", count)
    command = [sys.executable, str(SCRIPT), "--footage", str(footage)]
    command += ["--initial", str(tmp_path / "a.npz"), "--refined", str(tmp_path / "b.npz")]
    command += ["--output", str(tmp_path / "demo.blend"), "--still", str(tmp_path / "still.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    still = bpy.data.images.load(str(tmp_path / "still.png"))
    assert tuple(still.size) == (640, 240)
    pixels = np.array(still.pixels[:]).reshape(240, 640, 4)
    assert np.ptp(pixels[:, :320, 0]) > 0.1  # a body over the grey footage
    assert np.ptp(pixels[:, 320:, 2]) > 0.1
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "demo.blend"))
    scene = bpy.context.scene
    assert {"Initial (ghost)", "Refined"} <= set(scene.collection.children.keys())
    actions = {bpy.data.objects[n].animation_data.action.name for n in ("Initial", "Refined")}
    assert actions == {"Initial", "Refined"}
    background = scene.camera.data.background_images[0]
    assert Path(bpy.path.abspath(background.clip.filepath)).is_file()
    assert (scene.frame_start, scene.frame_end) == (1, count)
    assert (scene.render.resolution_x, scene.render.resolution_y) == (320, 240)
    assert not [s.name for s in bpy.data.scenes if s != scene]
