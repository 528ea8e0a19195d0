# SPDX-License-Identifier: GPL-3.0-or-later
"""A finished refinement → the armature that it was asked for, if that is still there.

Everything is looked up again here: between asking and answering, objects may have been deleted,
renamed or replaced by opening another file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import bpy
import numpy as np
import numpy.typing as npt

from posefit_shared.messages import RefineResult

from ..control.freedom import Freedom
from ..keys.keyframe_writer import key_motion, refined_action_name
from ..results import comparison, findings, key_marks
from ..rigs import body_builder, rig
from ..rigs.lookup import find_object
from ..rigs.rig import SceneError
from ..scenes import camera_lens, scene_reader
from ..scenes.scene_reader import SceneRequest


@dataclass(frozen=True)
class Refinement:
    """A request and the last complete revision of its result."""

    request: SceneRequest
    result: RefineResult
    with_shape: bool
    """Whether the shape was to be refined as well."""
    armature_uid: int
    """Blender's number of the armature, which stays when it is renamed."""
    rows: npt.NDArray[np.int64] | None = None
    """(N,) places in the request of the frames that the result holds; none: all of them."""
    freedom: Freedom = field(default_factory=Freedom)
    """What could move; everything else keeps its very keys."""
    lens: camera_lens.LensBefore | None = None
    """The lens of the camera whose focal length was to be refined as well."""


def changes_shape(refinement: Refinement) -> bool:
    """Whether the body's shape is to change with it."""
    return refinement.with_shape and _shape_changed(refinement.request, refinement.result)


def apply_refinement(context: bpy.types.Context, refinement: Refinement) -> str:
    """Key a refinement in a new action of its armature.

    Returns:
        What was done, in words.

    Raises:
        SceneError: the armature is gone or is no SMPL rig any more; nothing was changed.
        BodyFileError: the shape changed and the body's file cannot be read.
    """
    request, result = refinement.request, refinement.result
    armature = find_object(refinement.armature_uid)
    if armature is None:
        raise SceneError(
            f"{request.armature} was removed while it was refined: bring it back with Undo and "
            "keep the result, or drop it"
        )
    now = scene_reader.read_rig(armature)
    if now.match != request.frames.match:
        raise SceneError(
            f"the bones of {request.armature} changed while it was refined: change them back and "
            "keep the result, or drop it"
        )
    count = len(request.sequence)
    rows = np.arange(count) if refinement.rows is None else refinement.rows
    asked = request.sequence.frame_indices
    assert asked is not None
    if not np.array_equal(result.frame_indices, asked[rows]):
        raise SceneError("the backend answered for other frames than it was asked: drop the result")
    refined = result.status.count("refined")
    if refined == 0:
        return f"nothing was changed: {_why_kept(result)}"
    camera = None
    if refinement.lens is not None and result.intrinsics is not None:
        camera = camera_lens.find_camera(refinement.lens)
    before = comparison.state_before(armature)
    if changes_shape(refinement):
        now = _reshape(context, armature, result)
    frames = replace(
        rig.frames_at(request.frames, rows),
        rest=now.rest,
        rest_axes=now.rest_axes,
        rest_pelvis=now.rest_pelvis,
    )
    motion = rig.pose_to_motion(result.poses, result.trans, frames)
    name = refined_action_name(armature)
    action = key_motion(
        armature, frames.match.bones, frames.scene_frames, motion, name, refinement.freedom
    )
    comparison.remember(armature, before)
    if camera is not None:
        lens = refinement.lens.lens * camera_lens.focal_factor(
            request.sequence.intrinsics, result.intrinsics
        )
        camera_lens.remember(armature.posefit_comparison, camera, lens)
    findings.remember(armature, frames.scene_frames, result)
    key_marks.renew(armature, context.scene.posefit_review.threshold)
    for scene in armature.users_scene:
        scene.frame_set(scene.frame_current, subframe=scene.frame_subframe)
    said = "" if camera is None else f", camera {camera.name} has {camera.lens:.4g} mm"
    return f"{refined} of {count} frames refined in action {action.name}{said}"


def _why_kept(result: RefineResult) -> str:
    words = {
        "kept": "the pose explains the picture as well as anything found",
        "no_person": "no person was found in the picture",
        "failed": "the frames could not be computed",
    }
    return "; ".join(words[status] for status in words if status in result.status)


def _shape_changed(request: SceneRequest, result: RefineResult) -> bool:
    before = request.sequence.betas
    return before.shape != result.betas.shape or not np.allclose(before, result.betas, atol=1e-5)


def _reshape(
    context: bpy.types.Context, armature: bpy.types.Object, result: RefineResult
) -> rig.RigFrames:
    mesh = body_builder.mesh_of(armature)
    source = armature.get(body_builder.BODY_KEY)
    if mesh is None or source is None:
        raise SceneError(
            f"{armature.name} has no shape sliders: turn Shape off, or add a body of posefit's own"
        )
    body_builder.set_betas(mesh, result.betas)
    body_builder.fit_joints(context, armature, body_builder.load_body(str(source)))
    return scene_reader.read_rig(armature)
