# SPDX-License-Identifier: GPL-3.0-or-later
"""A refinement's action: what is copied, keyed and noted, in slices."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import bpy
import numpy as np

from ..keys.fcurves import ActionSlot, new_action
from ..keys.joint_channels import GivenSource, joint_channels
from ..keys.keyframe_writer import build_motion
from ..keys.unfinished import UNFINISHED, RemovedError, still_there
from ..results import comparison, findings, key_marks
from ..rigs import body_builder, rig
from .action_build import ArmatureBuild
from .refinement import Refinement, check


class RefinementBuild(ArmatureBuild):
    """The building of one refinement's action."""

    def __init__(self, refinement: Refinement, threshold: float) -> None:
        """
        Args:
            refinement: what is to be put in place.
            threshold: frames that are less sure are marked, where keys are marked at all.
        """
        super().__init__(refinement.armature_uid)
        self.refinement = refinement
        self._threshold = threshold

    @property
    def source_uids(self) -> frozenset[int]:
        """The action in use, which is copied."""
        return frozenset({self._made_from[0].uid} - {0}) if self._made_from else frozenset()

    def check(self) -> bpy.types.Object:
        """The armature, if it still is what was refined."""
        return check(self.refinement)[0]

    def build(self, armature: bpy.types.Object) -> Generator[None, None, ActionSlot]:
        """Copy the action in use, key the result, and note what was said of it."""
        now = check(self.refinement)[1]
        return self._build(now, comparison.state_before(armature))

    def _build(
        self, now: rig.RigFrames, before: comparison.Before
    ) -> Generator[None, None, ActionSlot]:
        refinement = self.refinement
        request, result, uid = refinement.request, refinement.result, refinement.armature_uid
        begun = new_action(still_there(uid), UNFINISHED)
        over_strips = comparison.goes_over_strips(still_there(uid), before)
        freedom = refinement.freedom
        if over_strips:  # no curve holds a pinned frame, and the backend left its pose as it came
            freedom = replace(freedom, pinned=frozenset())
        yield
        if refinement.changes_shape:
            now = _reshaped(still_there(uid), refinement, now)
        frames = replace(
            rig.frames_at(request.frames, refinement.taken_rows),
            rest=now.rest,
            rest_axes=now.rest_axes,
            rest_pelvis=now.rest_pelvis,
        )
        motion = yield from rig.motion_slices(result.poses, result.trans, frames)
        built = yield from build_motion(
            uid, begun, frames.match.bones, frames.scene_frames, motion, freedom
        )
        yield
        original, refined = comparison.sources_to_come(still_there(uid), before, built)
        if over_strips:
            rows = refinement.taken_rows
            came = request.sequence.poses[rows], request.sequence.trans[rows]
            came_from = rig.pose_to_motion(*came, frames)
            original = GivenSource.of(joint_channels(still_there(uid)), came_from)
            yield
        moved, turned = yield from findings.change_between(
            still_there(uid), original, refined, np.sort(frames.scene_frames)
        )
        said = findings.said_of(frames.match.bones, frames.scene_frames, result, moved, turned)
        if (action := built.action) is None:
            raise RemovedError
        found = findings.merge(findings.read(action), said)
        findings.write(action, found)
        if key_marks.KEY in action:
            joints = joint_channels(still_there(uid))
            yield from key_marks.marking(built, joints, found, self._threshold)
        return built


def _reshaped(
    armature: bpy.types.Object, refinement: Refinement, now: rig.RigFrames
) -> rig.RigFrames:
    """The rig as it will be once the body has its refined shape; bones keep their orientation."""
    body, mesh = body_builder.body_to_reshape(armature)
    betas = refinement.result.betas[: len(body_builder.shape_keys(mesh))]
    joints = body_builder.rest_joints(body, betas)
    rest = now.rest.copy()
    rest[:, :3, 3] = body_builder.armature_heads(joints)
    return replace(now, rest=rest, rest_pelvis=joints[0])
