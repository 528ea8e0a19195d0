# SPDX-License-Identifier: Apache-2.0
"""Makes benchmarks/data/texture_questions: people whose pose only their texture can tell.

    python -m questions.make_texture_set --poses FILE [--output DIR] [--people 12] [--sheet FILE]

(with `benchmarks` on PYTHONPATH; FILE is that of tools/training/prepare_poses.py). The pictures are
drawn as the training generator draws them, of its validation side: clips and patterns that were
never trained on, but the same renderer, body and garments. In place of photographs, which may not
be passed on with the project, backgrounds are patterns laid over each other. Two frames of each
person are drawn twice more: in other light, and in clothes of other colours. The layout is that of
the rendered validation set (`posefit.validation_set`), with folders `light` and `clothes` beside
`images`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from posefit.body import BodyModel
from posefit.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from posefit.training.drawing import load_drawing
from posefit.training.draws import Draws
from posefit.training.estimate_errors import LEGS, TWIST_JOINTS, compensated_twist, exchange_sides
from posefit.training.generator import GeneratorAssets
from posefit.training.poses import JOINT_SPREAD
from posefit.validation_set import ValidationSet, write_validation_set
from questions.cases import TARGETS
from questions.texture_people import FRAMES, SIZE, MadePerson, load_drawn_assets, make_person

FRAME_RATE = 2.0
"""Pictures a second: so far apart that all others may paint a frame's texture."""
QUALITY = 80
LEVELS = ("twist", "exchanged", "typical")
"""Segments turned about their own axes; legs exchanged; errors of all kinds, 85 mm or so."""
CAMERA_TO_WORLD = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
"""OpenCV camera to a world with z up: the camera looks along the world's y."""


# Starts ----------------------------------------------------------------------------------------


def twisted(rotations: torch.Tensor, body: BodyModel, draws: Draws) -> torch.Tensor:
    """Half of the segments turned by 23° to 57° either way, frame by frame; nothing else wrong."""
    shape = (len(rotations), len(TWIST_JOINTS))
    free = torch.tensor([joint != 0 for joint, _ in TWIST_JOINTS])  # the pelvis carries the hips
    angles = draws.uniform(*shape, low=0.4, high=1.0)
    angles = angles * torch.where(draws.happens(0.5, *shape), 1.0, -1.0)
    return compensated_twist(
        rotations, angles * (draws.happens(0.5, *shape) & free), body.joint_template
    )


def typically_wrong(rotations: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Errors at all joints, half of their variance shared by the person's frames."""
    shared, own = draws.normal(1, 24, 3), draws.normal(len(rotations), 24, 3)
    spread = torch.tensor(JOINT_SPREAD)[:, None]
    vectors = (shared + own) * 0.5**0.5 * spread
    return rotations @ axis_angle_to_matrix(vectors)


def starts_of(
    made: MadePerson, body: BodyModel, seed: int
) -> list[tuple[torch.Tensor, torch.Tensor, npt.NDArray[np.float32]]]:
    """For each of `LEVELS`: local rotations, pelvis places and shape of the wrong estimates."""
    draws = Draws(seed, "cpu")
    wrong = typically_wrong(made.rotations, draws)
    lateral = draws.normal(FRAMES, 2) * 0.02
    depth = 1.0 + 0.03 * (0.5 * draws.normal(1) + 0.8 * draws.normal(FRAMES))
    moved = made.roots.clone()
    moved[:, :2] += lateral
    shape = made.betas + 0.5 * draws.normal(10).numpy()
    return [
        (twisted(made.rotations, body, draws), made.roots, made.betas),
        (exchange_sides(made.rotations, LEGS), made.roots, made.betas),
        (wrong, moved * depth[:, None], shape.astype(np.float32)),
    ]


# Writing ---------------------------------------------------------------------------------------


def in_world(
    rotations: torch.Tensor, roots: torch.Tensor, betas: npt.NDArray[np.float32], body: BodyModel
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Rotation vectors (F, 24, 3) and SMPL's `transl` (F, 3) in the world, z up."""
    to_world = torch.tensor(CAMERA_TO_WORLD, dtype=torch.float32)
    turned = torch.cat([(to_world @ rotations[:, 0])[:, None], rotations[:, 1:]], 1)
    pelvis = body.joint_template[0] + body.joint_shapedirs[0] @ torch.from_numpy(betas)
    trans = roots @ to_world.T - pelvis
    return matrix_to_axis_angle(turned).numpy(), trans.numpy()


def make_set(assets: GeneratorAssets, people: int, output: Path) -> ValidationSet:
    """Draws all people and writes the set.

    Args:
        assets: what pictures are made of.
        people: how many.
        output: folder.
    """
    body, drawing = assets.body, load_drawing()
    truth, starts, parts = [], [[] for _ in LEVELS], []
    for person in range(people):
        made = make_person(assets, drawing, seed=7000 + person)
        truth.append((*in_world(made.rotations, made.roots, made.betas, body), made.betas))
        for level, (rotations, roots, betas) in enumerate(starts_of(made, body, 9000 + person)):
            starts[level].append((*in_world(rotations, roots, betas, body), betas))
        _write_pictures(output, person, made)
        parts.append(made.intrinsics)
        print(f"person {person + 1} of {people}", flush=True)
    frames = people * FRAMES
    world_to_camera = np.eye(4)
    world_to_camera[:3, :3] = CAMERA_TO_WORLD.T
    no = np.zeros(frames, bool)
    dataset = ValidationSet(
        folder=output,
        body=body.content_hash,
        people=tuple(f"person {k}" for k in range(people)),
        clips=("generator's validation side",) * people,
        frame_rates=np.full(people, FRAME_RATE),
        levels=LEVELS,
        image_size=(SIZE, SIZE),
        person=np.repeat(np.arange(people), FRAMES),
        files=tuple(f"p{k:02d}/f{t:02d}" for k in range(people) for t in range(FRAMES)),
        intrinsics=np.concatenate(parts),
        world_to_camera=np.tile(world_to_camera, (frames, 1, 1)),
        betas=np.stack([one[2] for one in truth]),
        poses=np.concatenate([one[0] for one in truth]),
        trans=np.concatenate([one[1] for one in truth]),
        start_betas=np.stack([[one[2] for one in level] for level in starts]),
        start_poses=np.stack([np.concatenate([one[0] for one in level]) for level in starts]),
        start_trans=np.stack([np.concatenate([one[1] for one in level]) for level in starts]),
        blurred=no, shallow=no, crowded=no, occluded=no, truncated=no,
    )  # fmt: skip
    write_validation_set(dataset)
    return dataset


def _write_pictures(output: Path, person: int, made: MadePerson) -> None:
    for folder, pictures in made.pictures.items():
        frames = range(FRAMES) if folder == "images" else TARGETS
        for frame, pixels in zip(frames, pictures, strict=True):
            path = output / folder / f"p{person:02d}" / f"f{frame:02d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, quality=QUALITY, optimize=True)
    for frame, mask in enumerate(made.masks):
        path = output / "masks" / f"p{person:02d}" / f"f{frame:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(mask, "P")
        picture.putpalette([0, 0, 0, 255, 255, 255])
        picture.save(path, optimize=True, bits=1)


def write_sheet(dataset: ValidationSet, path: Path, side: int = 96) -> None:
    """All pictures on one sheet: a row a person, the changed pictures on the right.

    Args:
        dataset: the set.
        path: JPEG to write.
        side: of each picture, pixels.
    """
    rows = []
    for person in range(len(dataset.people)):
        names = [f"images/p{person:02d}/f{t:02d}.jpg" for t in range(FRAMES)]
        for folder in ("light", "clothes"):
            names += [f"{folder}/p{person:02d}/f{t:02d}.jpg" for t in TARGETS]
        tiles = [
            np.asarray(Image.open(dataset.folder / name).resize((side, side))) for name in names
        ]
        gap = np.full((side, 8, 3), 255, np.uint8)
        cut, variants = FRAMES, FRAMES + len(TARGETS)
        rows.append(np.concatenate([*tiles[:cut], gap, *tiles[cut:variants], gap,
                                    *tiles[variants:]], 1))  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(path, quality=85)


def main() -> None:
    """Reads the command line and makes the set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--poses", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/data/texture_questions"))
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    dataset = make_set(load_drawn_assets(options.poses), options.people, options.output)
    if options.sheet:
        write_sheet(dataset, options.sheet)


if __name__ == "__main__":
    main()
