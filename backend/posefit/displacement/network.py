# SPDX-License-Identifier: Apache-2.0
"""The correspondence network: frame crop and renderings → displacement, scale, visibility.

A U-Net over everything together proposes a first flow at a quarter of the resolution; a recurrent
unit then corrects it a few times with what two correlations say at the place the flow points to:
one of all modalities against the frame, and one of the rendered texture against the frame, whose
two encoders share their weights, so that equal patches match from the first step of training. Each
update also sees the frame carried back by the current flow beside the texture, pixel by pixel: a
turned limb is a shift of less than a cell. Attention at 1/16 lets limbs look for themselves in the
whole picture.

Source: RAFT (Teed and Deng, ECCV 2020) for correlation, recurrence and convex upsampling; SEA-RAFT
(Wang et al., ECCV 2024) for the regressed first flow and the Laplace likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from ..gpu.choice import takes_kernels
from .correlation import (
    CorrelationPyramid,
    WindowFunctions,
    body_cells,
    gather_cells,
    scatter_cells,
    window_gradient,
    window_lookup,
)
from .inputs import MODALITY_CHANNELS, RENDER_CHANNELS
from .layers import OUTPUTS, STRIDE, ContextEncoder, convex_upsample, feature_trunk
from .photometric import PhotometricEvidence

__all__ = [
    "SMALL_NETWORK",
    "CorrespondenceNetwork",
    "NetworkConfig",
    "cells_of_mask",
]


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the correspondence network."""

    feature_channels: int = 96
    """Channels of the features of all modalities that are matched with the frame."""
    appearance_channels: int = 64
    """Channels of the features of the rendered texture that are matched with the frame."""
    encoder_channels: tuple[int, int, int] = (32, 64, 96)
    """Channels of the feature encoders at 1/2, at 1/4, and before their last layer."""
    context_channels: tuple[int, ...] = (32, 64, 128, 160, 192)
    """Channels of the U-Net at 1/2, 1/4, 1/8, 1/16, 1/32."""
    hidden_channels: int = 96
    """Channels of the recurrent state and of the context it reads."""
    feature_levels: int = 3
    """Resolutions at which all modalities are matched (1/4, 1/8, …)."""
    appearance_levels: int = 2
    """Resolutions at which the texture is matched."""
    radius: int = 3
    """Radius of the correlation windows in cells."""
    updates: int = 4
    """Recurrent updates."""
    global_blocks: int = 6
    """Attention blocks at 1/16 of the context encoder."""
    photometric_channels: int = 64
    """Channels of what the texture, laid over the frame, adds to each update; 0 leaves it out."""


SMALL_NETWORK = NetworkConfig(
    feature_channels=48,
    appearance_channels=32,
    encoder_channels=(16, 32, 48),
    context_channels=(16, 32, 64, 96, 128),
    hidden_channels=48,
    feature_levels=2,
    appearance_levels=2,
    updates=2,
    global_blocks=4,
    photometric_channels=32,
)
"""For machines without a GPU."""


class Update(nn.Module):
    """One recurrent correction of the flow (a convolutional GRU)."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        hidden = config.hidden_channels
        taps = (2 * config.radius + 1) ** 2 * (config.feature_levels + config.appearance_levels)
        self.correlation = nn.Sequential(
            nn.Conv2d(taps, 96, 1), nn.ReLU(inplace=True), nn.Conv2d(96, 64, 3, 1, 1), nn.ReLU()
        )
        self.flow = nn.Sequential(
            nn.Conv2d(2, 48, 7, 1, 3), nn.ReLU(inplace=True), nn.Conv2d(48, 32, 3, 1, 1), nn.ReLU()
        )
        self.photometric = (
            PhotometricEvidence(config.photometric_channels, 64, STRIDE)
            if config.photometric_channels
            else None
        )
        self.gates = nn.Conv2d(hidden + 98, 2 * hidden, 3, 1, 1)
        self.candidate = nn.Conv2d(hidden + 98, hidden, 3, 1, 1)
        self.head = nn.Sequential(
            nn.Conv2d(hidden, 128, 3, 1, 1), nn.ReLU(inplace=True), nn.Conv2d(128, OUTPUTS, 3, 1, 1)
        )
        self.tap_channels = taps
        """Channels of taps that it takes; where `fused` aligned it, with zeros behind them."""
        self.spare_channels = 0
        """Channels of zeros behind what the gates read, likewise."""

    def forward(
        self,
        hidden: Tensor,
        context: Tensor,
        taps: Tensor,
        flow: Tensor,
        image: Tensor,
        texture: Tensor,
        corner: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """New state and prediction (flow correction in cells, log scale, visibility logit).

        Args:
            hidden: state.
            context: what the context adds to the three gates, computed once for all updates.
            taps: correlation windows about the current flow.
            flow: current flow in cells.
            image: frame crops.
            texture: rendered texture and where it is known, of the state's cells.
            corner: see `CorrespondenceNetwork.correct`.
        """
        small_flow = flow.to(taps.dtype)
        matched = self.correlation(taps)
        if self.photometric is not None:
            matched = matched + self.photometric(image, texture, _from_corner(flow, corner))
        motion = [matched, self.flow(small_flow), small_flow]
        if self.spare_channels:
            motion.append(_zero_channels(small_flow, self.spare_channels))
        motion = torch.cat(motion, dim=1)
        width = hidden.shape[1]
        gates = torch.sigmoid(
            self.gates(torch.cat([hidden, motion], dim=1)) + context[:, : 2 * width]
        )
        update, reset = gates.chunk(2, dim=1)
        candidate = torch.tanh(
            self.candidate(torch.cat([reset * hidden, motion], dim=1)) + context[:, 2 * width :]
        )
        hidden = torch.lerp(hidden, candidate, update)
        return hidden, self.head(hidden)


def _zero_channels(like: Tensor, count: int) -> Tensor:
    """Channels of zeros to stand beside others; channels last."""
    batch, _, rows, columns = like.shape
    return like.new_zeros(batch, rows, columns, count).permute(0, 3, 1, 2)


def _from_corner(flow: Tensor, corner: Tensor | None) -> Tensor:
    """The flow of a crop's part, counted from the crop's corner in place of the part's."""
    return flow if corner is None else flow + corner[:, :, None, None]


def cells_of_mask(
    mask: Float[Tensor, "batch 1 height width"],
) -> Bool[Tensor, "batch rows columns"]:
    """Which cells show some of the body."""
    rows, columns = (side // STRIDE for side in mask.shape[2:])
    return mask.view(len(mask), rows, STRIDE, columns, STRIDE).amax((2, 4)) > 0.5


class CorrespondenceNetwork(nn.Module):
    """See the module's docstring."""

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or NetworkConfig()
        self.windows = WindowFunctions()
        self.is_aligned = False
        """What shows everything gets a channel of zeros; weights are for that (`fused`)."""
        hidden, last = config.hidden_channels, config.encoder_channels[-1]
        self.render_encoder = nn.Sequential(
            feature_trunk(RENDER_CHANNELS, config.encoder_channels),
            nn.Conv2d(last, config.feature_channels, 1),
        )
        self.picture_trunk = feature_trunk(3, config.encoder_channels)
        self.picture_feature = nn.Conv2d(last, config.feature_channels, 1)
        self.appearance_feature = nn.Conv2d(last, config.appearance_channels, 1)
        self.context = ContextEncoder(
            RENDER_CHANNELS + 3, 2 * hidden, config.context_channels, config.global_blocks
        )
        self.first = nn.Sequential(
            nn.Conv2d(2 * hidden, 96, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(96, OUTPUTS, 3, 1, 1),
        )
        self.context_gates = nn.Conv2d(hidden, 3 * hidden, 3, 1, 1)
        self.update = Update(config)
        self.upsampling = nn.Sequential(
            nn.Conv2d(hidden, 128, 3, 1, 1), nn.ReLU(inplace=True), nn.Conv2d(128, 9 * 16, 1)
        )

    def encode(self, render: Tensor, image: Tensor) -> tuple[Tensor, ...]:
        """Features to match, the recurrent state's start, the context's share, the first guess."""
        batch, hidden = render.shape[0], self.config.hidden_channels
        if self.is_aligned:
            dtype = self.picture_feature.weight.dtype
            render, image = render.to(dtype), image.to(dtype)
        colors = torch.cat([image, render[:, MODALITY_CHANNELS["texture"]][:, :3]])
        everything = torch.cat([render, image], dim=1)
        if self.is_aligned:
            everything = render = torch.cat([everything, _zero_channels(image, 1)], dim=1)
        rendered = self.render_encoder(render)
        both = self.picture_trunk(colors)
        picture = self.picture_feature(both[:batch])
        appearance = self.appearance_feature(both)
        context = self.context(everything)
        state = torch.tanh(context[:, :hidden])
        gates = self.context_gates(functional.relu(context[:, hidden:]))
        return (
            rendered, picture, appearance[batch:], appearance[:batch],
            state, gates, self.first(context),
        )  # fmt: skip

    def finish(self, prediction: Tensor, hidden: Tensor) -> Tensor:
        """The prediction in pixels at full resolution."""
        if takes_kernels(prediction):
            from ..gpu.matching import upsampled  # Warp takes half a second to import

            return upsampled(prediction, self.upsampling(hidden), STRIDE, 0.25)
        return convex_upsample(prediction, self.upsampling(hidden) * 0.25)

    def forward(
        self,
        render: Float[Tensor, "batch 12 height width"],
        image: Float[Tensor, "batch 3 height width"],
        *,
        updates: int | None = None,
        query_budget: int | None = None,
    ) -> list[Float[Tensor, "batch 4 rows columns"]]:
        """Predictions after the first guess and after each update, the last at full resolution.

        Args:
            render: render channels of `inputs.network_inputs`; sides divisible by 32.
            image: frame crops about zero.
            updates: recurrent updates; None takes the configuration's.
            query_budget: body cells matched per sample; None matches all.

        Returns:
            Displacement (x, y; pixels), log scale (log pixels) and visibility logit, at 1/4
            resolution but for the last.
        """
        encoded = self.encode(render, image)
        mask = cells_of_mask(render[:, MODALITY_CHANNELS["mask"]])
        texture = render[:, MODALITY_CHANNELS["texture"]]
        return self.correct(
            encoded, mask, image, texture, updates=updates, query_budget=query_budget
        )

    def correct(
        self,
        encoded: tuple[Tensor, ...],
        mask: Bool[Tensor, "batch rows columns"],
        image: Tensor,
        texture: Tensor,
        *,
        updates: int | None = None,
        query_budget: int | None = None,
        corner: Float[Tensor, "batch 2"] | None = None,
    ) -> list[Float[Tensor, "batch 4 rows2 columns2"]]:
        """The first guess and its corrections as `forward` gives them, also for a part of a crop.

        Args:
            encoded: of `encode`; all but the frame's features of the part alone.
            mask: cells that show the body.
            image: frame crops.
            texture: rendered texture and where it is known, of the part.
            updates, query_budget: see `forward`.
            corner: the part's first cell in the crop (x, y); None for all of it.
        """
        rendered, picture, own, seen, hidden, gates, first = encoded
        cells = body_cells(mask, query_budget)
        matches = self._match(cells, rendered, picture, own, seen)
        flow, rest = first[:, :2].float(), first[:, 2:].float()
        predictions = [torch.cat([flow * STRIDE, rest], dim=1)]
        for _ in range(self.config.updates if updates is None else updates):
            flow = flow.detach()
            taps = self._taps(matches, cells, mask, _from_corner(flow, corner))
            hidden, change = self.update(hidden, gates, taps, flow, image, texture, corner)
            change = change.float()
            flow = flow + change[:, :2]
            predictions.append(torch.cat([flow * STRIDE, change[:, 2:]], dim=1))
        predictions[-1] = self.finish(predictions[-1], hidden)
        return predictions

    def _taps(
        self, matches: list[CorrelationPyramid], cells: Tensor, mask: Tensor, flow: Tensor
    ) -> Tensor:
        """What the pictures' windows about the flow hold, channels last; zero off the body, for
        cells that pad a sample's list must not tell of the other samples in the batch."""
        channels = self.update.tap_channels
        if takes_kernels(flow):
            from ..gpu.matching import windows_of_body  # Warp takes half a second to import

            levels = [pyramid.levels for pyramid in matches]
            return windows_of_body(levels, cells, mask, flow, self.config.radius, channels)
        rows, columns = mask.shape[1:]
        grid = torch.stack([cells % columns, cells // columns], dim=2).float()
        centers = grid + gather_cells(flow, cells)
        taps = torch.cat([pyramid.at(centers) for pyramid in matches], dim=2)
        taps = taps * mask.flatten(1).gather(1, cells)[..., None]
        taps = functional.pad(taps, (0, channels - taps.shape[2]))
        return scatter_cells(taps, cells, (rows, columns)).contiguous(
            memory_format=torch.channels_last
        )

    def compile_regions(self) -> None:
        """Compiles encoders, update and lookups each on its own: fast, and fast to compile."""
        self.encode = torch.compile(self.encode, dynamic=False)
        self.finish = torch.compile(self.finish, dynamic=False)
        self.update.compile(dynamic=False)
        self.windows = WindowFunctions(
            torch.compile(window_lookup, dynamic=False),
            torch.compile(window_gradient, dynamic=False),
        )

    def _match(
        self, cells: Tensor, rendered: Tensor, picture: Tensor, own: Tensor, seen: Tensor
    ) -> list[CorrelationPyramid]:
        radius, windows = self.config.radius, self.windows
        everything = CorrelationPyramid(
            gather_cells(rendered, cells), picture, self.config.feature_levels, radius, windows
        )
        texture = CorrelationPyramid(
            gather_cells(own, cells), seen, self.config.appearance_levels, radius, windows
        )
        return [everything, texture]
