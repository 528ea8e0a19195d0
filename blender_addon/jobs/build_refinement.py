# SPDX-License-Identifier: GPL-3.0-or-later
"""A refinement's action, built bit by bit beside what the artist works on.

The action is in no use until it is whole, so whatever interrupts the building leaves the file as it
was: nothing refers to a part of it, and Blender does not save it. Where what it is made from
changes meanwhile, it is begun anew.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import replace

import bpy
import numpy as np

from posefit_shared.messages import RefineResult

from ..keys.fcurves import ActionSlot, new_action, slot_of
from ..keys.joint_channels import GivenSource, joint_channels
from ..keys.keyframe_writer import (
    UNFINISHED,
    RemovedError,
    build_motion,
    drop_unfinished,
    still_there,
)
from ..results import comparison, findings, key_marks
from ..rigs import body_builder, bone_rotations, rig
from ..rigs.lookup import find_object
from ..rigs.rig_match import match_armature
from ..slices import chunks
from .refinement import Refinement, check

MOST_BEGINNINGS = 4
"""So often it is begun in slices; an artist who edits on and on then waits for it once."""


class RefinementBuild:
    """The building of one refinement's action."""

    def __init__(self, refinement: Refinement, threshold: float) -> None:
        """
        Args:
            refinement: what is to be put in place.
            threshold: frames that are less sure are marked, where keys are marked at all.
        """
        self.refinement = refinement
        self._threshold = threshold
        self._slices: Generator[None, None, ActionSlot] | None = None
        self._made_from: tuple = ()
        self._beginnings = 0
        self.built: ActionSlot | None = None
        """The action, once it is whole."""
        self.is_stale = False
        """Whether the keys that it is made from were changed."""

    @property
    def source_uid(self) -> int:
        """Blender's number of the action that it is made from; 0 without one."""
        return self._made_from[0].uid if self._made_from else 0

    def until(self, deadline: float) -> bool:
        """Build on until a time, at least one slice; true once the action is whole.

        Raises:
            SceneError: the armature cannot take it any more; nothing was changed.
            BodyFileError: the body's file cannot be read.
        """
        armature = find_object(self.refinement.armature_uid)
        if armature is None or self.is_stale or self._made_from != _state_of(armature):
            self._begin()
        elif self.built is not None and self.built.action is not None:
            return True
        if self._beginnings > MOST_BEGINNINGS:
            deadline = float("inf")
        assert self._slices is not None
        try:
            while True:
                next(self._slices)
                if time.monotonic() >= deadline:
                    return False
        except StopIteration as done:
            self.built = done.value
            return time.monotonic() < deadline  # else this turn has been long enough
        except RemovedError:
            self.drop()
            return False

    def to_end(self) -> ActionSlot:
        """The action, built at once as far as it is missing.

        Raises:
            SceneError: the armature cannot take it any more; nothing was changed.
            BodyFileError: the body's file cannot be read.
        """
        while not self.until(float("inf")):
            pass
        assert self.built is not None
        return self.built

    def drop(self) -> None:
        """Remove what is built, and begin anew where it is wanted again."""
        if self._slices is not None:
            self._slices.close()
        self._slices, self.built, self._made_from, self.is_stale = None, None, (), False
        drop_unfinished()

    def _begin(self) -> None:
        self.drop()
        armature, now = check(self.refinement)
        self._made_from = _state_of(armature)
        self._beginnings += 1
        self._slices = self._build(now, comparison.state_before(armature))

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
        motion = yield from _motion(result, frames)
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


def _motion(
    result: RefineResult, frames: rig.RigFrames
) -> Generator[None, None, bone_rotations.BoneMotion]:
    """What to key, worked out some frames at a time."""
    parts = []
    for rows in chunks(len(result.poses)):
        some = rig.frames_at(frames, rows)
        parts.append(rig.pose_to_motion(result.poses[rows], result.trans[rows], some))
        yield
    return bone_rotations.join_motions(parts)


def _state_of(armature: bpy.types.Object) -> tuple:
    """What an action is made from, beside the keys of the one in use."""
    match = match_armature(armature)
    rest = np.empty(16 * len(armature.data.bones), np.float32)
    armature.data.bones.foreach_get("matrix_local", rest)
    settings = armature.posefit_comparison
    compared = (settings.original, settings.refined)
    return (
        slot_of(armature),
        match,
        tuple(armature.pose.bones[name].rotation_mode for name in match.bones),
        rest.tobytes(),
        tuple(0 if action is None else action.session_uid for action in compared),
    )


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
