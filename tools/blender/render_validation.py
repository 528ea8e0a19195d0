# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes rendered sets with Blender's Cycles: pictures, masks, truth and wrong estimates.

    python tools/training/prepare_poses.py --asfamc DIR --expmap DIR --deepmimic DIR --output POSES
    python tools/blender/render_validation.py --poses POSES --output .cache/validation/set
    python tools/blender/render_validation.py --poses POSES --cast development --samples 8 \\
        --quality 85 --work .cache/development/work --output benchmarks/data/development

Runs in posefit's own environment and starts Blender's Python (`--blender-python`) for the pictures.
docs/validation.md says what is in the set.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from PIL import Image
from scipy.ndimage import binary_erosion
from validation.cast import CAST, FRAMES, Cast
from validation.develop import contact_sheet, develop
from validation.development_cast import development_members
from validation.motion import read_clips
from validation.staging import Staged, stage_member
from validation.starts import LEVELS, Start, simulate_start

from posefit.body import BodyModel, load_body, pose_body
from posefit.parameters import parameters_of_sequence
from posefit.rasterizer import rasterize
from posefit.validation_set import PERSON, ValidationSet, write_validation_set
from posefit_shared.body_files import read_body
from posefit_shared.frames import project

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
CASTS: dict[str, Cast] = {
    "validation": Cast(CAST, 20261122, 0, held_out=True),
    "development": Cast(development_members(20261123), 20261123, 5000, held_out=False),
}
"""`validation` is reported, settings are chosen on `development`."""


@dataclass(frozen=True)
class Options:
    """What to make."""

    poses: Path
    """Motion, as tools/training/prepare_poses.py writes it."""
    cast: Literal["validation", "development"] = "validation"
    """Whose pictures."""
    output: Path = REPOSITORY / ".cache/validation/set"
    """Folder of the set."""
    work: Path = REPOSITORY / ".cache/validation/work"
    """Folder for jobs and renderings; pictures that are there already are kept."""
    blender_python: Path = REPOSITORY / ".venv-bpy42/bin/python"
    """A Python with bpy and posefit_shared."""
    side: int = 288
    """Pixels of the square pictures."""
    samples: int = 12
    """Cycles' samples per pixel."""
    quality: int = 95
    """JPEG quality of the pictures."""
    people: tuple[int, ...] = ()
    """Which of the cast; all unless named."""
    sheet: Path | None = None
    """Where a contact sheet of all pictures goes."""
    fresh: bool = False
    """Throw away earlier jobs and renderings."""


def render(options: Options, staged: list[Staged]) -> None:
    """Renders all staged jobs that have no picture yet, in Blender's Python."""
    environment = dict(os.environ, PYTHONPATH=str(HERE))
    names = [job.stem for one in staged for job in one.jobs]
    command = [
        str(options.blender_python), "-m", "validation.cycles_pictures", str(options.work),
        "--samples", str(options.samples), "--only", *names,
    ]  # fmt: skip
    with (options.work / "cycles.log").open("a") as log:
        subprocess.run(command, env=environment, stdout=log, stderr=log, check=True)


def keep_pictures(options: Options, index: int, frame: int, job: Path) -> str:
    """Puts one picture and its mask into the set; returns their name."""
    member, name = CASTS[options.cast].members[index], job.stem.replace("_", "/")
    for kind in ("images", "masks"):
        (options.output / kind / name).parent.mkdir(parents=True, exist_ok=True)
    develop(
        job.with_suffix(".png"), options.output / "images" / f"{name}.jpg", noise=member.noise,
        qualities=member.jpeg, quality=options.quality,
        seed=(CASTS[options.cast].seed, index, frame),
    )  # fmt: skip
    with Image.open(job.with_suffix(".mask.png")) as picture:
        numbers = np.round(np.asarray(picture.convert("L"), np.float32) / 255 * 4).astype(np.uint8)
    mask = Image.fromarray(numbers, mode="P")
    mask.putpalette([0, 0, 0, 255, 255, 255, 230, 90, 40, 70, 90, 160])
    mask.save(options.output / "masks" / f"{name}.png", optimize=True)
    return name


def make_starts(options: Options, body: BodyModel, staged: list[Staged]) -> list[list[Start]]:
    """Simulated estimates of all people, level by level."""
    return [
        [
            simulate_start(
                body, one.truth.betas, one.truth.poses, one.truth.trans, one.truth.world_to_camera,
                level, np.random.default_rng([CASTS[options.cast].seed, 7, index, place]),
            )
            for index, one in zip(options.people, staged, strict=True)
        ]
        for place, level in enumerate(LEVELS)
    ]  # fmt: skip


def assemble(
    options: Options, body: BodyModel, staged: list[Staged], starts: list[list[Start]]
) -> ValidationSet:
    """The set of all that was staged and rendered; pictures and masks go to its folder."""
    members = [CASTS[options.cast].members[index] for index in options.people]
    truths = [one.truth for one in staged]
    per_frame = np.repeat(np.arange(len(members)), FRAMES)
    unknown = np.zeros(len(per_frame), bool)
    return ValidationSet(
        folder=options.output,
        body=body.content_hash,
        people=tuple(member.name for member in members),
        clips=tuple(member.clip for member in members),
        frame_rates=np.array([30.0 / member.stride for member in members]),
        levels=tuple(level.name for level in LEVELS),
        image_size=(options.side, options.side),
        person=per_frame,
        files=tuple(
            keep_pictures(options, index, frame, job)
            for index, one in zip(options.people, staged, strict=True)
            for frame, job in enumerate(one.jobs)
        ),
        intrinsics=np.stack([truth.intrinsics for truth in truths])[per_frame],
        world_to_camera=np.concatenate([truth.world_to_camera for truth in truths]),
        betas=single(np.stack([truth.betas for truth in truths])),
        poses=single(np.concatenate([truth.poses for truth in truths])),
        trans=single(np.concatenate([truth.trans for truth in truths])),
        start_betas=single(np.stack([[start.betas for start in row] for row in starts])),
        start_poses=single(np.stack([np.concatenate([s.poses for s in row]) for row in starts])),
        start_trans=single(np.stack([np.concatenate([s.trans for s in row]) for row in starts])),
        blurred=np.array([member.blur > 0 for member in members])[per_frame],
        shallow=np.array([member.f_stop > 0 for member in members])[per_frame],
        crowded=unknown,
        occluded=unknown,
        truncated=unknown,
    )


def single(values: np.ndarray) -> np.ndarray:
    """The same numbers in single precision."""
    return values.astype(np.float32)


def with_flags(dataset: ValidationSet, body: BodyModel) -> ValidationSet:
    """The set with what can be told from masks and true bodies."""
    flags = [frame_flags(dataset, body, frame) for frame in range(len(dataset))]
    crowded, occluded, truncated = np.array(flags).T
    return dataclasses.replace(dataset, crowded=crowded, occluded=occluded, truncated=truncated)


def frame_flags(dataset: ValidationSet, body: BodyModel, frame: int) -> tuple[bool, bool, bool]:
    """Whether a second person is seen, something stands in front, the border cuts the person."""
    mask, person = dataset.mask(frame), int(dataset.person[frame])
    place = int(frame - dataset.frames_of(person)[0])
    truth = dataset.truth(person).slice(place, place + 1)
    vertices = pose_body(body, parameters_of_sequence(truth, body)).vertices
    pixels = project(truth.camera(0), vertices[0].numpy())[0]
    inside = ((pixels >= 0) & (pixels < dataset.image_size)).all(1)
    view = torch.tensor(truth.camera(0).world_to_camera, dtype=torch.float32)
    fragments = rasterize(
        vertices @ view[:3, :3].T + view[:3, 3],
        body.faces,
        torch.tensor(truth.camera(0).intrinsics, dtype=torch.float32)[None],
        dataset.image_size[::-1],
    )
    inner = binary_erosion(fragments.pix_to_face[0].numpy() >= 0, border_value=1)
    hidden = (mask[inner] != PERSON).mean()
    return bool((mask == 2).mean() > 0.005), bool(hidden > 0.02), bool(inside.mean() < 0.98)


def main(options: Options) -> None:
    """Stages, renders and writes the set."""
    torch.set_num_threads(2)
    cast = CASTS[options.cast]
    people = options.people or tuple(range(len(cast.members)))
    options = dataclasses.replace(options, people=people)
    started = time.monotonic()
    if options.fresh and options.work.exists():
        shutil.rmtree(options.work)
    options.work.mkdir(parents=True, exist_ok=True)
    body, arrays = load_body("free"), read_body("free")
    clips = read_clips(options.poses, held_out=cast.held_out)
    staged = [
        stage_member(cast, index, body, arrays, clips, options.work, options.side)
        for index in options.people
    ]
    print(f"staged {len(staged)} people in {time.monotonic() - started:.0f} s")
    render(options, staged)
    print(f"rendered after {time.monotonic() - started:.0f} s")
    dataset = assemble(options, body, staged, make_starts(options, body, staged))
    dataset = with_flags(dataset, body)
    write_validation_set(dataset)
    licence = (HERE / "validation/LICENSE.md").read_text()
    licence = licence.replace("validation set", f"{options.cast} set")
    (options.output / "LICENSE.md").write_text(licence)
    if options.sheet:
        pictures = [
            [options.output / "images" / f"{dataset.files[f]}.jpg" for f in dataset.frames_of(p)]
            for p in range(len(dataset.people))
        ]
        contact_sheet(pictures, options.sheet, 128, 70)
    size = sum(f.stat().st_size for f in options.output.rglob("*") if f.is_file()) / 2**20
    print(f"{len(dataset)} frames, {size:.1f} MiB -> {options.output}")


if __name__ == "__main__":
    main(tyro.cli(Options))
