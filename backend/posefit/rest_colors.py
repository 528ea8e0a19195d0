# SPDX-License-Identifier: Apache-2.0
"""A colour for each surface point of a body at rest, alike on every body.

The network is told by colour which surface point a pixel shows, so the same place (the left elbow,
the navel) must have the same colour on a tall body, a short one, the free one and the licensed
ones. Position alone does not do that; position measured between the body's own joints does. Each
axis is a piecewise linear, increasing function of the rest position, so colours are as unique as
positions are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["rest_pose_colors"]

_HIPS, _KNEES, _ANKLES, _NECK = (1, 2), (4, 5), (7, 8), 12
_SHOULDERS, _ELBOWS, _WRISTS = (16, 17), (18, 19), (20, 21)

_GREEN_LEVELS = (0.0, 0.05, 0.27, 0.52, 0.86, 1.0)
"""Green of sole, ankle, knee, hip, neck and crown: about their share of the stature."""
_RED_LEVELS = (0.0, 0.12, 0.26, 0.38, 0.5)
"""Red, away from 0.5, of midline, shoulder, elbow, wrist and finger tip."""
_DEPTH_SPAN = 0.25
"""Share of the stature, front to back, that blue spans, centred on the ankles' depth."""

Array = npt.NDArray[np.floating]


def rest_pose_colors(v_template: Array, joint_template: Array) -> npt.NDArray[np.float64]:
    """Colour of each vertex: red across, green up, blue to the front.

    Args:
        v_template: (V, 3) rest vertices, y up, facing +z, metres.
        joint_template: (J, 3) rest joints; the first 22 in SMPL's order, as in SMPL-H and SMPL-X.

    Returns:
        (V, 3) in 0…1. A body whose joints do not lie in a T-pose's order (another skeleton, lying
        down) gets its bounding box as colours instead.
    """
    v_template = np.asarray(v_template, dtype=np.float64)
    low, high = v_template.min(axis=0), v_template.max(axis=0)
    anchors = _anchors(joint_template, low, high)
    if anchors is None:
        return (v_template - low) / np.maximum(high - low, 1e-9)
    across, up = anchors
    middle_x = 0.5 * (low[0] + high[0])
    offset = v_template[:, 0] - middle_x
    red = 0.5 + np.sign(offset) * np.interp(np.abs(offset), across, _RED_LEVELS)
    green = np.interp(v_template[:, 1], up, _GREEN_LEVELS)
    ankle_z = np.asarray(joint_template)[list(_ANKLES), 2].mean()
    blue = 0.5 + (v_template[:, 2] - ankle_z) / (_DEPTH_SPAN * (high[1] - low[1]))
    return np.clip(np.stack([red, green, blue], axis=1), 0.0, 1.0)


def _anchors(joint_template: Array, low: Array, high: Array) -> tuple[Array, Array] | None:
    """Where the joints put the breakpoints of red and green; None if they are out of order."""
    joints = np.asarray(joint_template, dtype=np.float64)
    if len(joints) < 22:
        return None
    half_widths = [
        0.5 * abs(joints[left, 0] - joints[right, 0])
        for left, right in (_SHOULDERS, _ELBOWS, _WRISTS)
    ]
    across = np.array([0.0, *half_widths, 0.5 * (high[0] - low[0])])
    heights = [joints[list(pair), 1].mean() for pair in (_ANKLES, _KNEES, _HIPS)]
    up = np.array([low[1], *heights, joints[_NECK, 1], high[1]])
    if (np.diff(across) <= 1e-3).any() or (np.diff(up) <= 1e-3).any():
        return None
    return across, up
