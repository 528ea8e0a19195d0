# SPDX-License-Identifier: GPL-3.0-or-later
"""A finished refinement → the armature that it was asked for, if that is still there.

Everything is looked up by name here: between asking and answering, objects may have been deleted,
renamed or replaced by opening another file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import bpy
import numpy as np

from posefit_shared.messages import RefineResult

from . import body_builder, comparison, findings, key_marks, rig, scene_reader
from .freedom import Freedom
from .keyframe_writer import key_motion, refined_action_name
from .rig import SceneError
from .scene_reader import SceneRequest


@dataclass(frozen=True)
class Refinement:
    """A request and the last complete revision of its result."""

    request: SceneRequest
    result: RefineResult
    with_shape: bool
    """Whether the shape was to be refined as well."""
    freedom: Freedom = field(default_factory=Freedom)
    """What could move; everything else keeps its very keys."""


def apply_refinement(context: bpy.types.Context, refinement: Refinement) -> str:
    """Key a refinement in a new action of its armature.

    Returns:
        What was done, in words.

    Raises:
        SceneError: the armature is gone or is no SMPL rig any more; nothing was changed.
        BodyFileError: the shape changed and the body's file cannot be read.
    """
    request, result = refinement.request, refinement.result
    armature = bpy.data.objects.get(request.armature)
    if armature is None:
        raise SceneError(
            f"{request.armature} was removed or renamed while it was refined: its result is dropped"
        )
    now = scene_reader.read_rig(armature)
    if now.match != request.frames.match:
        raise SceneError(
            f"the bones of {request.armature} changed while it was refined: its result is dropped"
        )
    if not np.array_equal(result.frame_indices, request.sequence.frame_indices):
        raise SceneError("the backend answered for other frames than it was asked: dropped")
    refined = result.status.count("refined")
    count = len(result.status)
    if refined == 0:
        return f"nothing was changed: {_why_kept(result)}"
    before = comparison.state_before(armature)
    if refinement.with_shape and _shape_changed(request, result):
        now = _reshape(context, armature, result)
    frames = replace(
        request.frames, rest=now.rest, rest_axes=now.rest_axes, rest_pelvis=now.rest_pelvis
    )
    motion = rig.pose_to_motion(result.poses, result.trans, frames)
    name = refined_action_name(armature)
    action = key_motion(
        armature, frames.match.bones, frames.scene_frames, motion, name, refinement.freedom
    )
    comparison.remember(armature, before)
    findings.remember(armature, frames.scene_frames, result)
    key_marks.renew(armature, context.scene.posefit_review.threshold)
    context.scene.frame_set(context.scene.frame_current, subframe=context.scene.frame_subframe)
    return f"{refined} of {count} frames refined in action {action.name}"


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
