# SPDX-License-Identifier: GPL-3.0-or-later
"""A finished refinement → the armature that it was asked for: the turn that is one undo step."""

from __future__ import annotations

import bpy

from posefit_shared.messages import RefineResult

from ..keys.keyframe_writer import refined_action_name, use_built
from ..results import comparison
from ..rigs import body_builder
from ..scenes import camera_lens
from .build_refinement import RefinementBuild
from .refinement import Refinement, check


def apply_refinement(
    context: bpy.types.Context, refinement: Refinement, build: RefinementBuild | None = None
) -> str:
    """Have an armature use a refinement's action.

    Args:
        context: in the refinement's scene.
        refinement: what to put in place.
        build: what was built of its action before; the rest is built now.

    Returns:
        What was done, in words.

    Raises:
        SceneError: the armature is gone or is no SMPL rig any more; nothing was changed.
        BodyFileError: the shape changed and the body's file cannot be read.
    """
    request, result = refinement.request, refinement.result
    armature, _ = check(refinement)
    refined = result.status.count("refined")
    if refined == 0:
        return f"nothing was changed: {_why_kept(result)}"
    camera = None
    if refinement.lens is not None and result.intrinsics is not None:
        camera = camera_lens.find_camera(refinement.lens)
    build = build or RefinementBuild(refinement, context.scene.posefit_review.threshold)
    built = build.to_end()
    before = comparison.state_before(armature)
    if refinement.changes_shape:
        _reshape(context, armature, result)
    action = use_built(armature, built, refined_action_name(armature))
    comparison.remember(armature, before)
    if camera is not None:
        lens = refinement.lens.lens * camera_lens.focal_factor(
            request.sequence.intrinsics, result.intrinsics
        )
        camera_lens.remember(armature.posefit_comparison, camera, lens)
    for scene in armature.users_scene:
        scene.frame_set(scene.frame_current, subframe=scene.frame_subframe)
    said = "" if camera is None else f", camera {camera.name} has {camera.lens:.4g} mm"
    count = len(request.sequence)
    return f"{refined} of {count} frames refined in action {action.name}{said}"


def _why_kept(result: RefineResult) -> str:
    words = {
        "kept": "the pose explains the picture as well as anything found",
        "no_person": "no person was found in the picture",
        "failed": "the frames could not be computed",
    }
    return "; ".join(words[status] for status in words if status in result.status)


def _reshape(context: bpy.types.Context, armature: bpy.types.Object, result: RefineResult) -> None:
    body, mesh = body_builder.body_to_reshape(armature)
    body_builder.set_betas(mesh, result.betas)
    body_builder.fit_joints(context, armature, body)
