# SPDX-License-Identifier: Apache-2.0
"""How far segments are turned about their own axis, and whether legs are taken for each other.

The turn is the twist of a swing–twist decomposition: the rotation that leads from the true segment
to the estimated one, in the true segment's own frame, is written as a swing after a turn about the
segment's rest direction. Parents' errors are in it, as they are in the picture.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from posefit.body import BodyModel, pose_body
from posefit.parameters import parameters_of_sequence
from posefit.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from posefit_shared.sequence import Sequence as PoseSequence
from posefit_shared.skeleton import SMPL_PARENTS
from questions.looks import Sums

__all__ = [
    "SEGMENTS",
    "leg_distances_mm",
    "leg_sums",
    "segment_pixels",
    "twist_angles",
    "twist_sums",
]

SEGMENTS: dict[str, tuple[tuple[int, int], ...]] = {
    "thighs": ((1, 4), (2, 5)),
    "shins": ((4, 7), (5, 8)),
    "upper arms": ((16, 18), (17, 19)),
    "forearms": ((18, 20), (19, 21)),
    "head": ((12, 15),),
}
"""Joint that moves each segment, and the joint at its end. All that hangs on these lies on their
axis, so that a turn moves skin and nothing else; the pelvis, say, would take the hips along."""
TURNED_RAD = 0.3
"""A start's segment that is turned by more than this counts as turned."""
LEG_ENDS = ((4, 5), (7, 8))
"""Left and right knee, left and right ankle."""
APART_MM = 80.0
"""Legs whose ends would lie nearer to each other when exchanged cannot be told apart anyway."""


def twist_about(
    rotations: Float[Tensor, "*batch 3 3"], axis: Float[Tensor, "*#batch 3"]
) -> Float[Tensor, "*batch"]:
    """Signed angle of the twist about an axis, −π to π.

    Args:
        rotations: matrices.
        axis: unit vectors.

    Source:
        With the rotation's quaternion (w, v): 2·atan2(v·axis, w).
    """
    vector = matrix_to_axis_angle(rotations)
    angle = vector.norm(dim=-1)
    half = torch.sinc(angle / (2 * torch.pi)) / 2  # sin(angle / 2) / angle
    return 2 * torch.atan2((vector * axis).sum(-1) * half, (angle / 2).cos())


def global_rotations(sequence: PoseSequence) -> Float[Tensor, "frame joint 3 3"]:
    """How each joint's segment stands in the world."""
    local = axis_angle_to_matrix(torch.from_numpy(sequence.poses))
    turned = [local[:, 0]]
    for joint, parent in list(enumerate(SMPL_PARENTS))[1:]:
        turned.append(turned[parent] @ local[:, joint])
    return torch.stack(turned, dim=1)


def twist_angles(
    sequence: PoseSequence, truth: PoseSequence, body: BodyModel
) -> dict[str, npt.NDArray[np.float64]]:
    """Radians by which segments are turned about their own axis, for each group (T, segments).

    Args:
        sequence: an estimate.
        truth: of the same frames.
        body: gives the segments' rest directions.
    """
    relative = global_rotations(truth).mT @ global_rotations(sequence)
    result = {}
    for name, segments in SEGMENTS.items():
        ends = [end for _, end in segments]
        joints = [joint for joint, _ in segments]
        axes = torch.nn.functional.normalize(
            body.joint_template[ends] - body.joint_template[joints], dim=-1
        )
        result[name] = twist_about(relative[:, joints], axes[None].float()).double().numpy()
    return result


def twist_sums(
    start: PoseSequence, refined: PoseSequence, truth: PoseSequence, body: BodyModel
) -> Sums:
    """Sums of twist errors in degrees, before and after.

    `twist` counts the segments that the start has turned, `twist GROUP` those of one group, and
    `untwisted` the others, which should stay as they are.

    Args:
        start: before.
        refined: after.
        truth: of the same frames.
        body: of all.
    """
    before, after = (
        {name: np.degrees(np.abs(v)) for name, v in twist_angles(one, truth, body).items()}
        for one in (start, refined)
    )
    result: Sums = {}
    everything = {"": np.concatenate(list(before.values()), 1)} | before
    refined_all = {"": np.concatenate(list(after.values()), 1)} | after
    limit = np.degrees(TURNED_RAD)
    for name, old in everything.items():
        turned, new = old > limit, refined_all[name]
        label = f"twist {name}".strip()
        result[f"{label}_before"] = float(old[turned].sum()), float(turned.sum())
        result[f"{label}_after"] = float(new[turned].sum()), float(turned.sum())
        result[f"{label}_ratio"] = float(new[turned].sum()), float(old[turned].sum())
        if not name:
            result["untwisted_after"] = float(new[~turned].sum()), float((~turned).sum())
    return result


def segment_pixels(
    body: BodyModel, pix_to_face: Tensor, turned: Bool[Tensor, "frame joint"]
) -> Bool[Tensor, "frame height width"]:
    """Pixels that show the skin of chosen joints' segments.

    Args:
        body: whose skin.
        pix_to_face: of the rendering, −1 off the body.
        turned: which joints, frame by frame.
    """
    owner = body.lbs_weights.argmax(1)[body.faces.long()][:, 0]
    shown = owner[pix_to_face.long().clamp_min(0)]
    frames = torch.arange(len(turned))[:, None, None]
    return turned[frames, shown] & (pix_to_face >= 0)


def turned_joints(
    start: PoseSequence, truth: PoseSequence, body: BodyModel
) -> Bool[Tensor, "frame joint"]:
    """Joints whose segments the start has turned about their own axes."""
    turned = torch.zeros(len(start), body.num_joints, dtype=torch.bool)
    for name, angles in twist_angles(start, truth, body).items():
        for column, (joint, _) in enumerate(SEGMENTS[name]):
            turned[:, joint] = torch.from_numpy(np.abs(angles[:, column]) > TURNED_RAD)
    return turned


def leg_distances_mm(
    sequence: PoseSequence, truth: PoseSequence, body: BodyModel
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(T,) mean distance of knees and ankles to their true places, and to the other leg's.

    Args:
        sequence: an estimate.
        truth: of the same frames.
        body: of both.
    """
    joints, right = (
        pose_body(body, parameters_of_sequence(one, body)).joints for one in (sequence, truth)
    )
    joints, right = joints - joints[:, :1], right - right[:, :1]
    own = [left for left, _ in LEG_ENDS] + [other for _, other in LEG_ENDS]
    exchanged = [other for _, other in LEG_ENDS] + [left for left, _ in LEG_ENDS]
    return (
        1e3 * (joints[:, own] - right[:, own]).norm(dim=-1).mean(1).double().numpy(),
        1e3 * (joints[:, own] - right[:, exchanged]).norm(dim=-1).mean(1).double().numpy(),
    )


def leg_sums(
    start: PoseSequence, refined: PoseSequence, truth: PoseSequence, body: BodyModel
) -> Sums:
    """Sums of knees' and ankles' errors, and of frames whose legs are nearer the other's places.

    Args:
        start: before; frames whose legs lie so close that an exchange hardly matters are left out.
        refined: after.
        truth: of the same frames.
        body: of all.
    """
    before, _ = leg_distances_mm(start, truth, body)
    after, to_other = leg_distances_mm(refined, truth, body)
    told = before > APART_MM
    return {
        "legs_mm_before": (float(before[told].sum()), float(told.sum())),
        "legs_mm_after": (float(after[told].sum()), float(told.sum())),
        "legs_mm_ratio": (float(after[told].sum()), float(before[told].sum())),
        "exchanged_share": (float((after > to_other)[told].sum()), float(told.sum())),
    }
