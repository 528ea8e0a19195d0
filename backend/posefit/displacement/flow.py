# SPDX-License-Identifier: Apache-2.0
"""Classical displacement: optical flow from the textured rendering to the frame.

The named baseline and the fallback without network weights. It sees colours only, so it knows
nothing where the texture is blank or the person's clothes are plain, and says so by its scale.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from ..modalities import Modalities
from .field import DisplacementField

__all__ = ["FlowEstimator"]

_LEAST_TEXTURE = 0.25
"""Share of the body that must have texture for flow to mean anything."""
_CONSISTENCY_PX = 2.0
"""Forward and backward flow that disagree by this much halve the visibility."""
_BLIND_SCALE_PX = 30.0
"""Scale where flow has nothing to go by."""
_MATCH_COLOR = 0.15
"""Colour difference, of 1, at which a match has lost 1/e of its trust."""
_STRUCTURE = 0.004
"""Local variance of grey, of 1, at which half the trust is there: plain surface slides freely."""


class FlowEstimator:
    """Dense inverse search flow (DIS), checked forward and backward.

    Source: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016, in OpenCV.
    """

    name = "flow"

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)

    def predict(
        self, images: Float[Tensor, "batch 3 height width"], modalities: Modalities
    ) -> DisplacementField:
        """The field of each crop; computed on the CPU, frame by frame.

        Args:
            images: frame crops, RGB, 0 to 1.
            modalities: renderings of the current body in the same crops.
        """
        pictures = images.cpu().float().permute(0, 2, 3, 1).numpy()
        renders = modalities.rgb.cpu().float().permute(0, 2, 3, 1).numpy()
        valid = (modalities.texture_valid * modalities.mask)[:, 0].cpu().float().numpy()
        masks = modalities.mask[:, 0].cpu().numpy() > 0.5
        flows = [_field(*views) for views in zip(pictures, renders, valid, masks, strict=True)] or [
            _blind(images.shape[2:])
        ]
        stacked = [
            torch.from_numpy(np.stack(parts)).to(self._device)[: len(images)]
            for parts in zip(*flows, strict=True)
        ]
        return DisplacementField(*stacked)


Plane = npt.NDArray[Any]
"""(H, W) or (H, W, C); float32, masks bool."""
_Field = tuple[Plane, Plane, Plane]


def _blind(size: tuple[int, ...]) -> _Field:
    """Displacement, scale and visibility where there is nothing to go by."""
    return (
        np.zeros((*size, 2), np.float32),
        np.full(size, _BLIND_SCALE_PX, np.float32),
        np.zeros(size, np.float32),
    )


def _field(
    picture: Plane,
    render: Plane,
    valid: Plane,
    mask: Plane,
) -> _Field:
    if valid.sum() < _LEAST_TEXTURE * max(1, mask.sum()):
        return _blind(mask.shape)
    shown = _composite(picture, render, valid)
    forward = _flow(shown, picture)
    backward = _flow(picture, shown)
    return_trip = np.linalg.norm(forward + _warp(backward, forward), axis=-1)
    color = np.abs(_warp(picture, forward) - render).mean(-1)
    agreement = 1.0 / (1.0 + (return_trip / _CONSISTENCY_PX) ** 2)
    trust = agreement * np.exp(-color / _MATCH_COLOR) * valid * _structure(render, valid)
    scale = np.minimum((1.0 + return_trip) / np.maximum(trust, 1e-3) ** 0.5, _BLIND_SCALE_PX)
    return (
        (forward * mask[..., None]).astype(np.float32),
        scale.astype(np.float32),
        trust.astype(np.float32),
    )


def _composite(
    picture: Plane,
    render: Plane,
    valid: Plane,
) -> Plane:
    """The rendering over a flat ground: the picture's own background would hold the flow still."""
    ground = picture.reshape(-1, 3).mean(0)
    weight = np.clip(valid, 0, 1)[..., None]
    return (render * weight + ground * (1.0 - weight)).astype(np.float32)


def _flow(source: Plane, target: Plane) -> Plane:
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    still = np.zeros((*source.shape[:2], 2), np.float32)
    return estimator.calc(_grey(source), _grey(target), still)


def _grey(image: Plane) -> Plane:
    return cv2.cvtColor((np.clip(image, 0, 1) * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)


def _warp(values: Plane, flow: Plane) -> Plane:
    """`values` where `flow` leads from each pixel."""
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(
        values, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip


def _structure(render: Plane, valid: Plane) -> Plane:
    """0 on plain surface, towards 1 where colours vary within a few pixels."""
    grey = cv2.cvtColor(render, cv2.COLOR_RGB2GRAY)
    window = (11, 11)
    total = np.maximum(cv2.blur(valid, window), 1e-3)
    mean = cv2.blur(grey * valid, window) / total
    variance = np.maximum(cv2.blur(grey * grey * valid, window) / total - mean * mean, 0.0)
    return variance / (variance + _STRUCTURE)
