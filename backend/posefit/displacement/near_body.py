# SPDX-License-Identifier: Apache-2.0
"""The correspondence network near the body alone, where its output is used: for CPUs.

A body fills a tenth of its crop, and the rectangle around it, with room for what the layers at its
edge read, about half. The frame's features and the context are of the whole crop; the rendering's
features, the first guess and the updates of the rectangle, whose place is read from the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from .correlation import query_budget
from .inputs import MODALITY_CHANNELS
from .layers import STRIDE
from .network import CorrespondenceNetwork, cells_of_mask

__all__ = ["MARGIN", "BodyWindow", "body_window", "predict_near_body"]

MARGIN = 8
"""Cells around a body that are computed with it. The features of the rendering are the same from
8 on; the updates see less of the crop's context, which moves a prediction by some 0.001 pixels in
the mean, 0.02 with 4 cells."""
NOTHING = (0.0, 0.0, 20.0, -20.0)
"""What is said of pixels that are not computed: no displacement, known by nobody, not visible."""
_CELLS = 32
"""What the number of cells that show the body is rounded up to."""
_STEP = 4
"""Cells that a window's sides are rounded up to: few shapes, and they fit vector registers."""


def predict_near_body(
    network: CorrespondenceNetwork,
    render: Float[Tensor, "batch 12 height width"],
    image: Float[Tensor, "batch 3 height width"],
) -> Float[Tensor, "batch 4 height width"]:
    """The network's last prediction on and around the bodies, `NOTHING` elsewhere.

    Args:
        network: in evaluation mode.
        render, image: as for `CorrespondenceNetwork.forward`.
    """
    mask = cells_of_mask(render[:, MODALITY_CHANNELS["mask"]])
    window = body_window(mask, MARGIN)
    encoded = _encode(network, render, image, window)
    mask = window.cut_mask(mask)
    texture = window.cut(render[:, MODALITY_CHANNELS["texture"]], STRIDE)
    predictions = network.correct(
        encoded, mask, image, texture,
        query_budget=query_budget(mask, _CELLS), corner=window.corner(image),
    )  # fmt: skip
    return window.paste(predictions[-1], NOTHING, STRIDE)


def _encode(
    network: CorrespondenceNetwork, render: Tensor, image: Tensor, window: BodyWindow
) -> tuple[Tensor, ...]:
    """`CorrespondenceNetwork.encode`, of the window but for the frame's features."""
    hidden = network.config.hidden_channels
    near = window.cut(render, STRIDE)
    rendered = network.render_encoder(near)
    frame = network.picture_trunk(image)
    texture = network.picture_trunk(near[:, MODALITY_CHANNELS["texture"]][:, :3])
    context = window.cut(network.context(torch.cat([render, image], dim=1)))
    return (
        rendered, network.picture_feature(frame), network.appearance_feature(texture),
        network.appearance_feature(frame), torch.tanh(context[:, :hidden]),
        network.context_gates(functional.relu(context[:, hidden:])), network.first(context),
    )  # fmt: skip


@dataclass(frozen=True)
class BodyWindow:
    """Rectangles of one size, one in each sample of a batch."""

    corners: tuple[tuple[int, int], ...]
    """Row and column of each sample's first cell."""
    size: tuple[int, int]
    """Rows and columns of cells."""
    whole: tuple[int, int]
    """Rows and columns of the crops."""

    def cut(
        self, values: Float[Tensor, "batch channel height width"], pixels: int = 1
    ) -> Float[Tensor, "batch channel rows columns"]:
        """The rectangles' values.

        Args:
            values: of whole crops.
            pixels: along a cell's side.
        """
        if self.size == self.whole:
            return values
        return torch.cat(
            [values[k : k + 1, :, rows, columns] for k, rows, columns in self._places(pixels)]
        ).contiguous(memory_format=torch.channels_last)

    def cut_mask(
        self, mask: Bool[Tensor, "batch height width"]
    ) -> Bool[Tensor, "batch rows columns"]:
        """The rectangles' cells of a mask."""
        return torch.cat([mask[k : k + 1, rows, columns] for k, rows, columns in self._places(1)])

    def paste(
        self,
        values: Float[Tensor, "batch channel rows columns"],
        beside: Sequence[float],
        pixels: int = 1,
    ) -> Float[Tensor, "batch channel height width"]:
        """Whole crops with the rectangles' values.

        Args:
            values: of the rectangles.
            beside: what each channel is elsewhere.
            pixels: along a cell's side.
        """
        if self.size == self.whole:
            return values
        height, width = (side * pixels for side in self.whole)
        elsewhere = values.new_tensor(beside)[:, None, None]
        result = elsewhere.expand(len(values), -1, height, width).contiguous()
        for k, rows, columns in self._places(pixels):
            result[k, :, rows, columns] = values[k]
        return result

    def corner(self, like: Tensor) -> Float[Tensor, "batch 2"]:
        """Column and row of each sample's first cell (x, y)."""
        return like.new_tensor(self.corners, dtype=torch.float32).flip(1)

    def _places(self, pixels: int) -> list[tuple[int, slice, slice]]:
        rows, columns = (side * pixels for side in self.size)
        return [
            (k, slice(y * pixels, y * pixels + rows), slice(x * pixels, x * pixels + columns))
            for k, (y, x) in enumerate(self.corners)
        ]


def body_window(mask: Bool[Tensor, "batch rows columns"], margin: int) -> BodyWindow:
    """The rectangles around the bodies of a batch, with a margin where the crop has one.

    Args:
        mask: cells that show the body.
        margin: cells around it.
    """
    spans = [_spans(mask.any(dim)) for dim in (2, 1)]
    corners, size = [], []
    for sides, whole in zip(spans, mask.shape[1:], strict=True):
        longest = max(last - first for first, last in sides) + 2 * margin
        longest = min(-(-longest // _STEP) * _STEP, whole)
        middles = [(first + last - longest) // 2 for first, last in sides]
        corners.append([min(max(middle, 0), whole - longest) for middle in middles])
        size.append(longest)
    height, width = mask.shape[1:]
    return BodyWindow(tuple(zip(*corners, strict=True)), (size[0], size[1]), (height, width))


def _spans(shown: Bool[Tensor, "batch side"]) -> list[tuple[int, int]]:
    """First shown place and the one behind the last of each row; the middle where none is."""
    side = shown.shape[1]
    places = torch.arange(side)
    first = torch.where(shown, places, side).amin(1)
    last = torch.where(shown, places + 1, 0).amax(1)
    is_empty = ~shown.any(1)
    first, last = (torch.where(is_empty, side // 2, place) for place in (first, last))
    return list(zip(first.tolist(), last.tolist(), strict=True))
