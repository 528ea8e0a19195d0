# SPDX-License-Identifier: Apache-2.0
"""Draws the free body in poses and shapes that show its faults: docs/images/free_body.png.

    python tools/body/render_body.py [--body FILE] [--output PNG]

in the project's own environment (the drawing is done by posefit's rasteriser).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from posefit.body import BodyModel, PoseParameters, load_body, pose_body, vertex_normals
from posefit.rasterizer import interpolate, rasterize

REPOSITORY = Path(__file__).resolve().parents[2]

_TILE = (420, 300)
_OVERSAMPLING = 3
_DISTANCE_M = 7.0
_CENTRE = torch.tensor([0.0, -0.19, 0.0])
_SKIN = torch.tensor([0.80, 0.66, 0.57])

_A_POSE = {"L_Shoulder": (0, 0, -65), "R_Shoulder": (0, 0, 65)}
_WALK = {
    "L_Hip": (-28, 0, 4), "R_Hip": (20, 0, -4), "L_Knee": (12, 0, 0), "R_Knee": (38, 0, 0),
    "L_Shoulder": (0, 25, -72), "R_Shoulder": (0, 25, 72), "L_Elbow": (0, -25, 0),
    "R_Elbow": (0, 35, 0), "R_Ankle": (10, 0, 0), "Spine2": (3, 6, 0),
}  # fmt: skip
_SQUAT = {
    "L_Hip": (-95, 0, 20), "R_Hip": (-95, 0, -20), "L_Knee": (115, 0, 0), "R_Knee": (115, 0, 0),
    "L_Ankle": (-25, 0, 0), "R_Ankle": (-25, 0, 0), "Spine1": (25, 0, 0), "Spine2": (10, 0, 0),
    "L_Shoulder": (0, -70, -15), "R_Shoulder": (0, 70, 15),
}  # fmt: skip
_ARMS_UP = {
    "L_Shoulder": (0, 0, 60), "R_Shoulder": (0, 0, -60), "L_Collar": (0, 0, 22),
    "R_Collar": (0, 0, -22),
}  # fmt: skip
_FIRST_ROW = (
    ({}, {}, 0), ({}, {}, 90), ({}, {}, 35), (_A_POSE, {}, 0), (_WALK, {}, 60), (_SQUAT, {}, 50),
    (_ARMS_UP, {}, 20),
)  # fmt: skip
"""Joint rotations in degrees, coefficients, and the turn of the body towards the camera."""


def main() -> None:
    """Draws the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--body", default="free")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "docs/images/free_body.png")
    arguments = parser.parse_args()
    body = load_body(arguments.body)
    shapes = [({0: -2.0}), ({0: 2.0}), ({1: -2.0}), ({1: 2.0}), ({2: -2.0}), ({2: 2.0}), {}]
    second_row = [(_A_POSE, shape, 20) for shape in shapes]
    rows = [
        np.concatenate([_draw(body, *tile) for tile in row], axis=1)
        for row in (_FIRST_ROW, second_row)
    ]
    sheet = Image.fromarray(np.concatenate(rows)).quantize(96, dither=Image.Dither.NONE)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(arguments.output, optimize=True)


def _draw(
    body: BodyModel,
    degrees: dict[str, tuple[float, float, float]],
    betas: dict[int, float],
    turn_degrees: float,
) -> np.ndarray:
    parameters = PoseParameters.rest(body)
    parameters.global_orient[0, 1] = np.deg2rad(turn_degrees)
    for joint, rotation in degrees.items():
        index = body.joint_names.index(joint) - 1
        parameters.body_pose[0, index] = torch.tensor(np.deg2rad(rotation), dtype=torch.float32)
    for index, value in betas.items():
        parameters.betas[0, index] = value
    vertices = pose_body(body, parameters).vertices
    height, width = (side * _OVERSAMPLING for side in _TILE)
    to_camera = torch.tensor([1.0, -1.0, -1.0])
    camera_points = (vertices - _CENTRE) * to_camera + torch.tensor([0.0, 0.0, _DISTANCE_M])
    focal = 1.18 * width * _DISTANCE_M / 1.95
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])[None]
    fragments = rasterize(camera_points, body.faces.int(), intrinsics, (height, width))
    normals = vertex_normals(vertices, body.faces)
    shaded = interpolate(fragments, body.faces.int(), normals)[0]
    return _shade(shaded, fragments.pix_to_face[0] >= 0)


def _shade(normals: torch.Tensor, is_body: torch.Tensor) -> np.ndarray:
    """Two lamps and a sky on matt skin, on white, averaged down."""
    normals = torch.nn.functional.normalize(normals, dim=-1)
    key = torch.nn.functional.normalize(torch.tensor([0.45, 0.55, 0.7]), dim=0)
    fill = torch.nn.functional.normalize(torch.tensor([-0.8, 0.1, 0.55]), dim=0)
    light = 0.3 + 0.15 * normals[..., 1:2] + 0.65 * (normals @ key).clamp(0)[..., None]
    light = light + 0.15 * (normals @ fill).clamp(0)[..., None]
    picture = torch.where(is_body[..., None], (light * _SKIN).clamp(0, 1), torch.ones(3))
    height, width = _TILE
    small = picture.reshape(height, _OVERSAMPLING, width, _OVERSAMPLING, 3).mean(dim=(1, 3))
    return (255 * small).round().byte().numpy()


if __name__ == "__main__":
    main()
