# SPDX-License-Identifier: Apache-2.0
"""Draw docs/images/modalities.png: what the displacement estimator is shown of a body.

Run from the repository: `python tools/rendering/draw_modalities.py`.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor

from posefit.body import BodyModel, PoseParameters, load_body, pose_body
from posefit.modalities import Modalities, render_modalities
from posefit.texture import texel_grid

SIZE = (448, 288)
"""Height and width of each panel, pixels."""


def clothes(body: BodyModel, size: int = 1024) -> Tensor:
    """(1, 4, size, size) a striped shirt, blue trousers and skin, by place on the resting body."""
    grid = texel_grid(body, size)
    at = grid.on_surface(body.v_template[None])[0]
    low, high = at.amin(0), at.amax(0)
    height = (at[:, 1] - low[1]) / (high[1] - low[1])
    reach = at[:, 0].abs()
    skin = at.new_tensor([0.80, 0.60, 0.49]).expand(len(at), 3)
    shirt = torch.where(
        (torch.sin(at[:, 1:2] * 2 * math.pi / 0.06) > 0.2),
        at.new_tensor([0.90, 0.88, 0.82]),
        at.new_tensor([0.67, 0.20, 0.19]),
    )
    denim = at.new_tensor([0.20, 0.29, 0.45]) * (0.9 + 0.2 * torch.rand(len(at), 1))
    hair = at.new_tensor([0.21, 0.15, 0.11]).expand(len(at), 3)
    rgb = torch.where(((height > 0.56) & (height < 0.855) & (reach < 0.55))[:, None], shirt, skin)
    rgb = torch.where(((height <= 0.56) & (height > 0.07) & (reach < 0.3))[:, None], denim, rgb)
    rgb = torch.where(((height > 0.955) | ((height > 0.90) & (at[:, 2] < 0)))[:, None], hair, rgb)
    return grid.as_image(rgb, torch.ones(len(at)))[None]


def render(body: BodyModel) -> Modalities:
    """One walking pose, seen from the front and a little above."""
    pose = torch.zeros(1, 23, 3)
    pose[0, 15, 2], pose[0, 16, 2] = -1.0, 0.95  # shoulders
    pose[0, 17, 1], pose[0, 18, 1] = -1.1, 0.4  # elbows
    pose[0, 15, 1], pose[0, 0, 0], pose[0, 1, 0] = -0.3, -0.45, 0.3
    pose[0, 3, 0], pose[0, 4, 0] = 0.5, 0.35  # knees
    parameters = PoseParameters(
        torch.zeros(1, body.num_betas), torch.tensor([[0.0, 0.45, 0.0]]), pose, torch.zeros(1, 3)
    )
    vertices = pose_body(body, parameters).vertices
    middle = (vertices.amin(1) + vertices.amax(1)) / 2
    camera = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))[None].clone()
    tilt = 0.08
    camera[0, 1:3, 1:3] = torch.tensor(
        [[-math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), -math.cos(tilt)]]
    )
    camera[0, :3, 3] = torch.tensor([0.0, 0.0, 3.4]) - (camera[0, :3, :3] @ middle[0])
    height, width = SIZE
    focal = 1.62 * height
    intrinsics = torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]])
    return render_modalities(body, vertices, camera, intrinsics, SIZE, texture=clothes(body))[0]


def panels(shown: Modalities) -> list[Tensor]:
    """(3, H, W) pictures in the order of the figure, on white."""
    mask = shown.mask[0]
    depth = shown.depth[0]
    near, far = depth[mask > 0].amin(), depth[mask > 0].amax()
    nearness = (1.0 - 0.85 * (depth - near) / (far - near)).expand(3, -1, -1)
    pictures = [
        shown.rgb[0],
        nearness,
        shown.normals[0] * torch.tensor([1.0, -1.0, -1.0])[:, None, None] * 0.5 + 0.5,
        shown.vertex_colors[0],
        torch.zeros(3, *SIZE),
    ]
    return [picture * mask + (1 - mask) for picture in pictures]


def main() -> None:
    """Write the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/images/modalities.png"))
    output = parser.parse_args().output
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    torch.manual_seed(0)
    titles = ["RGB, personal texture", "depth", "normals", "vertex colours", "mask"]
    figure, axes = pyplot.subplots(1, 5, figsize=(12.5, 4.2), dpi=110)
    for axis, picture, title in zip(axes, panels(render(load_body("free"))), titles, strict=True):
        axis.imshow(picture.clamp(0, 1).permute(1, 2, 0).numpy())
        axis.set_title(title, fontsize=11)
        axis.axis("off")
    figure.subplots_adjust(left=0.005, right=0.995, top=0.92, bottom=0.01, wspace=0.02)
    figure.savefig(output)


if __name__ == "__main__":
    main()
