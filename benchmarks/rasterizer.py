# SPDX-License-Identifier: Apache-2.0
"""Full fragments from posefit's rasteriser and from PyTorch3D's: same mesh, machine and run.

Both start from vertices in the camera frame and end with face ids, perspective-correct barycentric
coordinates and depth. PyTorch3D's rows need `pytorch3d` in the running interpreter
(`make test-pytorch3d` sets one up): `.venv-pytorch3d/bin/python benchmarks/rasterizer.py`.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from posefit.body import PoseParameters, load_body, pose_body
from posefit.rasterizer import Fragments, rasterize

_CUDA_BATCHES = (1, 64, 256)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    device: str
    size: int
    batch: int
    backend: str
    median_ms_per_image: float
    runs: int


@dataclass(frozen=True)
class Scene:
    """What both backends draw."""

    vertices: Tensor
    faces: Tensor
    intrinsics: Tensor
    size: tuple[int, int]


def make_scene(batch: int, size: int, device: torch.device) -> Scene:
    """The free body in `batch` poses, turned about its axis, filling four fifths of the image."""
    body = load_body("free", device)
    rest = PoseParameters.rest(body, batch)
    turns = torch.linspace(0, 2 * np.pi, batch + 1, device=device)[:-1]
    swing = 0.4 * torch.sin(torch.arange(23 * 3 * batch, device=device).view(batch, 23, 3) * 1.7)
    orient = torch.zeros(batch, 3, device=device)
    orient[:, 1] = turns
    posed = PoseParameters(rest.betas, orient, swing, rest.transl)
    vertices = pose_body(body, posed).vertices
    vertices = vertices - vertices.mean(1, keepdim=True)
    vertices = vertices * vertices.new_tensor([1.0, -1.0, -1.0]) + vertices.new_tensor([0, 0, 3.0])
    focal = 0.8 * size * 3.0 / float(vertices[..., 1].amax() - vertices[..., 1].amin())
    camera = [[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]
    intrinsics = torch.tensor(camera, device=device).expand(batch, 3, 3).contiguous()
    return Scene(vertices.contiguous(), body.faces.int(), intrinsics, (size, size))


def median_ms(
    draw: Callable[[], object], device: torch.device, seconds: float
) -> tuple[float, int]:
    """Median time of a call in milliseconds, and the number of calls, after three to warm up."""

    def timed() -> float:
        began = time.perf_counter()
        draw()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - began) * 1e3

    first = timed()
    if first < seconds * 1e3:
        timed(), timed()
    times = []
    stop = time.perf_counter() + seconds
    while len(times) < 3 or (time.perf_counter() < stop and len(times) < 1000):
        times.append(timed())
    return statistics.median(times), len(times)


def pytorch3d_drawer(scene: Scene) -> Callable[[], Tensor]:
    """PyTorch3D's own rasteriser as its documentation has it called, one face per pixel."""
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
    from pytorch3d.structures import Meshes

    from posefit.rasterizer.pytorch3d_backend import to_ndc

    faces = scene.faces.long().expand(len(scene.vertices), -1, -1)

    def draw() -> Tensor:
        ndc = to_ndc(scene.vertices, scene.intrinsics, scene.size)
        return rasterize_meshes(
            Meshes(verts=ndc, faces=faces),
            image_size=scene.size,
            faces_per_pixel=1,
            perspective_correct=True,
        )[0]

    return draw


def warp_drawer(scene: Scene) -> Callable[[], Fragments]:
    """posefit's rasteriser."""
    return lambda: rasterize(scene.vertices, scene.faces, scene.intrinsics, scene.size)


def measure(device: torch.device, batch: int, size: int, seconds: float) -> list[Row]:
    """Rows of one scene: Warp, and PyTorch3D where it is installed."""
    scene = make_scene(batch, size, device)
    drawers: dict[str, Callable[[], object]] = {"warp": warp_drawer(scene)}
    if find_spec("pytorch3d") is not None:
        drawers["pytorch3d"] = pytorch3d_drawer(scene)
        covered = [warp_drawer(scene)().pix_to_face >= 0, drawers["pytorch3d"]()[..., 0] >= 0]
        differing = int((covered[0] != covered[1]).sum())
        print(f"  coverage differs in {differing} of {int(covered[1].sum())} pixels")
    rows = []
    for backend, draw in drawers.items():
        median, runs = median_ms(draw, device, seconds)
        name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
        rows.append(Row(name, size, batch, backend, median / batch, runs))
        print(
            f"  {name:24s} {size:4d}²  batch {batch:4d}  {backend:10s} "
            f"{median / batch:10.4f} ms/image  ({runs} runs)"
        )
    if len(rows) == 2:
        ratio = rows[1].median_ms_per_image / rows[0].median_ms_per_image
        print(f"  → {ratio:.0f} ×")
    return rows


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="JSON file to write as well")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="image sides")
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="time for each row; three runs at least"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads; torch's own number by default")
    return parser.parse_args()


def main() -> None:
    """Print the table, and write it where it is asked for."""
    options = read_options()
    if options.threads:
        torch.set_num_threads(options.threads)
    devices = []
    if options.device in ("auto", "cpu"):
        devices.append(torch.device("cpu"))
    if options.device == "cuda" or (options.device == "auto" and torch.cuda.is_available()):
        devices.append(torch.device("cuda"))
    print(
        f"{len(load_body('free').faces)} faces; torch {torch.__version__}, "
        f"{torch.get_num_threads()} CPU threads; PyTorch3D "
        f"{'present' if find_spec('pytorch3d') else 'absent'}"
    )
    rows: list[Row] = []
    for device in devices:
        for size in options.sizes:
            for batch in _CUDA_BATCHES if device.type == "cuda" else (1,):
                rows += measure(device, batch, size, options.seconds)
    if options.output is not None:
        report = {
            "torch": torch.__version__,
            "machine": platform.processor() or platform.machine(),
            "cpu_threads": torch.get_num_threads(),
            "rows": [asdict(row) for row in rows],
        }
        options.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
