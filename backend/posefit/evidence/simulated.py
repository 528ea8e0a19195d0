# SPDX-License-Identifier: Apache-2.0
"""Simulated findings of other tools, from the truth with noise: for tests and comparisons alone.

No detector made them. They are called simulated wherever they are shown; what is assumed of each
tool's errors stands in `KeypointNoise` and `IuvNoise`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from posefit_shared import frames as coordinate_frames
from posefit_shared.frames import Camera

from ..body import BodyModel
from ..rasterizer import Fragments, rasterize
from ..solver import LandmarkTable
from .surface_charts import SurfaceCharts

__all__ = [
    "IuvNoise",
    "KeypointNoise",
    "body_fragments",
    "simulated_iuv",
    "simulated_keypoints",
    "write_iuv_png",
    "write_openpose",
]

Random = np.random.Generator
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class KeypointNoise:
    """What is assumed of a keypoint detector. Shares are of the person's length in the picture."""

    sigma: float = 0.012
    """Spread of a landmark that is seen."""
    hidden_sigma: float = 0.035
    """Spread of one that is hidden and guessed."""
    wrong_share: float = 0.03
    """Landmarks put somewhere else on the person with full confidence."""
    hidden_confidence: float = 0.35
    """Confidence of a guess; a seen landmark's is 0.85."""


@dataclass(frozen=True)
class IuvNoise:
    """What is assumed of a dense estimator. Shares are of the person's length in the picture."""

    shift_sigma: float = 0.02
    """Spread of a smooth error field: a pixel is given what belongs to one so far off."""
    shift_reach: float = 0.12
    """Distance over which that field stays alike."""
    uv_sigma: float = 0.02
    """Spread of each pixel's own u and v."""
    hole_share: float = 0.08
    """Share of the person in blobs where nothing was found."""


def body_fragments(
    body: BodyModel, vertices: Float[Tensor, "vertex 3"], camera: Camera
) -> Fragments:
    """What a picture of the bare body shows at each pixel; the lens is left out.

    Args:
        body: for its faces.
        vertices: world, metres.
        camera: a pinhole.
    """
    width, height = camera.image_size
    in_camera = coordinate_frames.apply(camera.world_to_camera, vertices.cpu().numpy())
    return rasterize(
        torch.tensor(in_camera[None], dtype=torch.float32),
        body.faces.cpu(),
        torch.tensor(camera.intrinsics[None], dtype=torch.float32),
        (height, width),
    )


def simulated_iuv(
    fragments: Fragments,
    charts: SurfaceCharts,
    seen: npt.NDArray[np.bool_],
    random: Random,
    noise: IuvNoise | None = None,
) -> npt.NDArray[np.uint8]:
    """A made-up IUV map (H, W, 3): the true body's charts under `IuvNoise`.

    Args:
        fragments: of the true body, one picture.
        charts: one triangle a face of the body, in its order (`made_up_charts`).
        seen: (H, W) where the picture shows the person.
        random: where the noise comes from.
        noise: how much.
    """
    noise = noise or IuvNoise()
    face = fragments.pix_to_face[0].cpu().numpy().astype(np.int64)
    rows, columns = np.nonzero(face >= 0)
    iuv = np.zeros((*face.shape, 3), np.uint8)
    if not len(rows):
        return iuv
    length = float(max(np.ptp(rows), np.ptp(columns), 8))
    field = np.stack([_smooth(face.shape, noise.shift_reach * length, random) for _ in range(2)])
    shift = np.rint(field * noise.shift_sigma * length).astype(int)
    from_row = np.clip(np.arange(face.shape[0])[:, None] + shift[0], 0, face.shape[0] - 1)
    from_column = np.clip(np.arange(face.shape[1])[None] + shift[1], 0, face.shape[1] - 1)
    face = face[from_row, from_column]
    bary = fragments.bary_coords[0].cpu().numpy()[from_row, from_column]
    holes = _smooth(face.shape, 0.04 * length, random)
    limit = np.quantile(holes, 1.0 - noise.hole_share)
    shown = (face >= 0) & seen & (holes < limit)
    uv = np.einsum("nkc,nk->nc", charts.uv[face[shown]], bary[shown])
    uv = uv + noise.uv_sigma * random.standard_normal(uv.shape)
    iuv[shown, 0] = charts.part[face[shown]]
    iuv[shown, 1:] = np.rint(255 * uv.clip(0, 1))
    return iuv


def _smooth(shape: tuple[int, ...], reach_px: float, random: Random) -> Array:
    """(H, W) noise of mean 0 and deviation 1 that stays alike over `reach_px`."""
    field = random.standard_normal(shape)
    field = cv2.GaussianBlur(field, (0, 0), max(0.5 * reach_px, 0.5))
    return (field - field.mean()) / max(float(field.std()), 1e-9)


def write_iuv_png(path: Path, iuv: npt.NDArray[np.uint8]) -> None:
    """Writes a map as DensePose's tools do: I in the blue channel."""
    Image.fromarray(np.ascontiguousarray(iuv[..., ::-1])).save(path)


def simulated_keypoints(
    table: LandmarkTable,
    body: BodyModel,
    vertices: Float[Tensor, "vertex 3"],
    joints: Float[Tensor, "joint 3"],
    camera: Camera,
    seen: npt.NDArray[np.bool_],
    random: Random,
    noise: KeypointNoise | None = None,
) -> Array:
    """(landmark, 3) made-up keypoints, x, y and confidence: the true landmarks under noise.

    Args:
        table: which landmarks.
        body: the model.
        vertices, joints: of the true body, world, metres.
        camera: whose pixels.
        seen: (H, W) where the picture shows the person.
        random: where the noise comes from.
        noise: how much.
    """
    noise = noise or KeypointNoise()
    bound = table.bind(body, vertices.dtype)
    sources = torch.cat([joints, vertices[bound.vertices]])
    landmarks = (bound.mixture.T @ sources).cpu().numpy()
    pixels, depth = coordinate_frames.project(camera, landmarks)
    low, high = pixels.min(0), pixels.max(0)
    length = float((high - low).max())
    width, height = camera.image_size
    column, row = np.floor(pixels).astype(int).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (depth > 0)
    is_seen = inside & seen[row.clip(0, height - 1), column.clip(0, width - 1)]
    sigma = np.where(is_seen, noise.sigma, noise.hidden_sigma) * length
    pixels = pixels + sigma[:, None] * random.standard_normal(pixels.shape)
    wrong = random.random(len(pixels)) < noise.wrong_share
    pixels[wrong] = random.uniform(low, high, (int(wrong.sum()), 2))
    sure = np.where(is_seen, 0.85, noise.hidden_confidence) * inside * bound.known.cpu().numpy()
    return np.concatenate([pixels, sure[:, None]], axis=1)


def write_openpose(path: Path, people: list[Array]) -> None:
    """Writes one frame's people, (25 or 18, 3) each, as OpenPose does.

    Args:
        path: `…_keypoints.json`.
        people: x, y, confidence of each body landmark.
    """
    entries = [
        {"person_id": [-1], "pose_keypoints_2d": [round(float(v), 3) for v in person.reshape(-1)]}
        for person in people
    ]
    path.write_text(json.dumps({"version": 1.3, "people": entries}), "utf-8")
