# SPDX-License-Identifier: Apache-2.0
"""Results that are known and cannot be imported, each with the sentence that says why.

Source: sam_3d_body/sam_3d_body_estimator.py of github.com/facebookresearch/sam-3d-body; demo.py of
    github.com/naver/multi-hmr.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .content import Content

__all__ = ["why_not"]


def why_not(content: Content) -> str | None:
    """Why a known result cannot be imported; None where the file is no such result."""
    data = content.data
    for one in _samples(data):
        if "mhr_model_params" in one or "body_pose_params" in one:
            return (
                "these are results of SAM 3D Body without pred_keypoints_3d, pred_keypoints_2d, "
                "pred_cam_t and focal_length, from which SMPL is solved: save each result whole"
            )
    if (
        isinstance(data, np.ndarray)
        and data.ndim == 3
        and data.shape[1:] in ((10475, 3), (6890, 3))
    ):
        return (
            "these are vertices alone (as Multi-HMR's demo saves them), from which no pose is "
            "read: have the tool save its SMPL parameters instead"
        )
    return None


def _samples(data: Any, depth: int = 3) -> list[dict[Any, Any]]:
    """Dictionaries in a file, the first few of each level."""
    if isinstance(data, np.ndarray) and data.dtype == object:
        data = data.reshape(-1).tolist()
    inner = list(data.values()) if isinstance(data, dict) else data
    found = [data] if isinstance(data, dict) else []
    if depth and isinstance(inner, list):
        for one in inner[:4]:
            found += _samples(one, depth - 1)
    return found
