# SPDX-License-Identifier: GPL-3.0-or-later
"""Refined bodies whose backend was sure of some frames and joints, and not of others."""

from __future__ import annotations

import numpy as np
from comparison_makers import BONES, add_animated_body, part, refine, smooth_motion, turned

from posefit_shared.messages import RefineResult

FRAMES = range(1, 11)
REFINED = range(4, 8)
LEFT_ARM = [BONES.index(name) for name in ("L_Collar", "L_Shoulder", "L_Elbow", "L_Wrist")]


def result_for(count, confidence=None, status="refined") -> RefineResult:
    """What a backend says of some frames, without the motion, which is keyed beside it."""
    status = (status,) * count if isinstance(status, str) else tuple(status)
    sure = np.full((count, 24), 0.9) if confidence is None else confidence
    return RefineResult(
        frame_indices=np.arange(count),
        poses=np.zeros((count, 24, 3), np.float32),
        trans=np.zeros((count, 3), np.float32),
        betas=np.zeros(10, np.float32),
        confidence=np.asarray(sure, np.float32),
        status=status,
        report={"frames": count, "misfit_after_by_before": 0.625},
    )


def doubtful_arm(count=4, row=1, value=0.2):
    """(T, 24) confidence that is high but for the left arm of one frame."""
    confidence = np.full((count, 24), 0.9)
    confidence[row, LEFT_ARM] = value
    return confidence


def say(context, armature, frames, result):
    """What putting a refinement in place does with what was said of it."""
    from blender_addon.results import key_marks

    remember(armature, frames, result)
    key_marks.renew(armature, context.scene.posefit_review.threshold)


def remember(armature, frames, result):
    """Keep what was said with the refined action, beside what that holds."""
    from blender_addon.results import findings

    change = findings.measured_change(armature, np.sort(frames))
    said = findings.said_of(tuple(BONES), frames, result, *change)
    action = armature.posefit_comparison.refined
    findings.write(action, findings.merge(findings.read(action), said))


def add_reviewed_body(context, status="refined"):
    """Ten keyed frames, of which 4 to 7 were refined; the left arm of frame 5 is doubtful."""
    motion = smooth_motion(10)
    armature = add_animated_body(context, motion, FRAMES)
    refine(context, armature, REFINED, turned(part(motion, slice(3, 7))))
    say(context, armature, REFINED, result_for(4, doubtful_arm(), status))
    return armature
