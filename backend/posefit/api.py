# SPDX-License-Identifier: Apache-2.0
"""posefit from Python: the commands as functions of paths, motions and settings.

Each is a few lines over what its command calls, so both give the same. They are reached as
`posefit.refine_motion` and so on, and loaded when first used: `import posefit` is quick.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Many
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from posefit_shared.sequence import Sequence, read_sequence
from posefit_shared.settings import RefineSettings
from posefit_shared.shot import read_shot

from .body import BodyModel, load_body, pose_body
from .camera_file import read_camera
from .devices import choose_device
from .engine import refine_views
from .estimate import estimate
from .evaluate import evaluate
from .evidence import EvidenceFiles
from .footage import Footage, open_footage
from .importers import ImportedPerson, ImportOptions, import_file
from .overlay import CLAY, render_overlay
from .parameters import parameters_of_sequence
from .pipeline import Freedom, Hooks, Refinement
from .refine_files import Person, RefineFiles, evidence_of_person
from .refinement.others import in_camera_of, in_world_of
from .texture import Texture, load_png
from .texture_clip import paint_texture as paint_from_all
from .views import View, view_of_sequence, views_of_shot

__all__ = [
    "draw_motion",
    "estimate_motion",
    "evaluate_motion",
    "import_motion",
    "paint_texture",
    "refine_motion",
]

PathLike = str | os.PathLike[str]
Motion = Sequence | PathLike
"""A sequence, or the file of one."""
Pictures = Footage | PathLike | Many[View]
"""A video, a folder of images, a shot.json (several cameras), or views made by hand."""
Body = BodyModel | str
"""A loaded body, or `free`, or a body file."""
Progress = Callable[[float, str], None]
"""Told the share that is done, 0 to 1, and what is being done."""


def estimate_motion(
    footage: Footage | PathLike,
    *,
    person: int = 0,
    camera: PathLike | None = None,
    frames: Iterable[int] | None = None,
    body: Body = "free",
    device: str = "auto",
    progress: Progress | None = None,
) -> Sequence:
    """A first estimate of one person's motion.

    Args:
        footage: where the person is.
        person: 0 is the largest in the first frames.
        camera: a camera file; a usual lens that stands level is assumed without.
        frames: decoded frames in rising order; all unless given.
        body: whom to pose.
        device: `auto`, `cpu`, `cuda`, `cuda:N`; a loaded body brings its own.
        progress: told how far it is.

    Raises:
        FootageError, EstimateError, CameraFileError: in words.
    """
    told = progress or (lambda fraction, stage: None)
    opened, is_own = _opened(footage)
    try:
        return estimate(
            opened,
            body=_body(body, device),
            camera=None if camera is None else read_camera(Path(camera)),
            person=person,
            frame_indices=None if frames is None else np.array(list(frames), np.int64),
            progress=lambda done, total: told(done / max(total, 1), "following the person"),
        )
    finally:
        if is_own:
            opened.close()


def import_motion(
    file: PathLike,
    *,
    format: str | None = None,
    options: ImportOptions | None = None,  # noqa: A002
) -> list[ImportedPerson]:
    """The people in another tool's file, the one seen longest first.

    Args:
        file: the tool's file or folder (docs/importing.md).
        format: which tool's; found out unless given.
        options: what the file may not say itself: body, size and rate of the footage, world.

    Returns:
        For each person the `sequence`, a `label` and `notes` of what was left out or assumed.

    Raises:
        ImporterError: in words.
    """
    return list(import_file(Path(file), options, format).people)


def paint_texture(
    motion: Motion,
    footage: Pictures,
    *,
    body: Body = "free",
    uv: str | None = None,
    device: str = "auto",
) -> Texture:
    """The person's texture map; `posefit.texture.save_png` writes it.

    Args:
        motion: where the body is, with its camera.
        footage: pictures of it.
        body: whom the motion poses.
        uv: an .obj with texture coordinates, or `xatlas`; the body's own unless given.
        device: where to compute.

    Raises:
        FootageError, SequenceError, TextureError: in words.
    """
    sequence = _sequence(motion)
    return paint_from_all(sequence, _views(sequence, footage), _body(body, device, uv))


def refine_motion(
    motion: Motion,
    footage: Pictures,
    *,
    settings: RefineSettings | None = None,
    texture: Texture | PathLike | None = None,
    evidence: EvidenceFiles | None = None,
    others: Iterable[Motion] = (),
    freedom: Freedom | None = None,
    body: Body = "free",
    uv: str | None = None,
    device: str = "auto",
    rasterizer: str = "warp",
    progress: Progress | None = None,
    check_cancelled: Callable[[], None] | None = None,
) -> Refinement:
    """The motion moved until it lies over its pictures, and what is to be said of it.

    Args:
        motion: where the body is, with its camera.
        footage: pictures of it.
        settings: how; `posefit refine`'s defaults unless given.
        texture: the person's, if it was painted before.
        evidence: files of other tools' findings.
        others: motions of other people in the same footage, who may stand before this one; with
            several cameras they are in one world.
        freedom: joints and frames that must not move.
        body: whom the motion poses.
        uv: an .obj with texture coordinates, or `xatlas`; the body's own unless given.
        device: where to compute.
        rasterizer: `warp` or `pytorch3d`.
        progress: told how far it is.
        check_cancelled: called often; what it raises ends the refinement.

    Returns:
        `sequence` is the result, with confidence and status; `verdict` says why.

    Raises:
        RefinementError, FootageError, SequenceError, TextureError: in words.
    """
    sequence, model = _sequence(motion), _body(body, device, uv)
    views = _views(sequence, footage)
    files = RefineFiles(Path(), evidence=evidence or EvidenceFiles())
    placed = in_camera_of if len(views) == 1 else in_world_of
    person = Person(sequence, views, Path(), placed(sequence, [_sequence(one) for one in others]))
    painted = texture if texture is None or isinstance(texture, Texture) else None
    if texture is not None and painted is None:
        painted = load_png(Path(texture), model)  # pyright: ignore[reportArgumentType]
    hooks = Hooks(
        progress=progress or (lambda fraction, stage: None),
        check_cancelled=check_cancelled or (lambda: None),
    )
    return refine_views(
        sequence, views, body=model, settings=settings, texture=painted, freedom=freedom,
        hooks=hooks, rasterizer=rasterizer,
        evidence=evidence_of_person(files, person, model), others=person.others,
    )  # fmt: skip


def evaluate_motion(predicted: Motion, reference: Motion, *, body: Body = "free") -> dict[str, Any]:
    """Errors of a motion against one that is taken as true (`posefit evaluate`).

    Raises:
        EvaluationError: they share no frame.
    """
    return evaluate(_sequence(predicted), _sequence(reference), _body(body, "cpu"))


def draw_motion(
    motion: Motion,
    footage: Footage | PathLike,
    frame: int,
    *,
    body: Body = "free",
    color: tuple[float, float, float] = CLAY,
    device: str = "auto",
) -> npt.NDArray[np.uint8]:
    """A frame of the footage with the body over it.

    Args:
        motion: where the body is, with its camera.
        footage: its pictures.
        frame: index into the motion.
        body: whom the motion poses.
        color: of the body, RGB, 0 to 1.
        device: where to compute.

    Returns:
        (H, W, 3) RGB.
    """
    sequence, model = _sequence(motion), _body(body, device)
    opened, is_own = _opened(footage)
    try:
        view = view_of_sequence(sequence, opened)
        picture = opened.read(int(view.frame_indices[frame]))
    finally:
        if is_own:
            opened.close()
    with torch.no_grad():
        one = parameters_of_sequence(sequence.slice(frame, frame + 1), model)
        vertices = pose_body(model, one).vertices
        return render_overlay(picture, vertices, view.camera(frame), model, color=color)


def _sequence(motion: Motion) -> Sequence:
    return motion if isinstance(motion, Sequence) else read_sequence(motion)


def _body(body: Body, device: str, uv: str | None = None) -> BodyModel:
    if isinstance(body, BodyModel):
        return body
    return load_body(body, choose_device(device), uv=uv)


def _opened(footage: Footage | PathLike) -> tuple[Footage, bool]:
    """The footage, and whether it was opened here."""
    return (footage, False) if isinstance(footage, Footage) else (open_footage(footage), True)


def _views(sequence: Sequence, footage: Pictures) -> list[View]:
    if isinstance(footage, Footage):
        return [view_of_sequence(sequence, footage)]
    if isinstance(footage, str | os.PathLike):
        if Path(footage).suffix.lower() == ".json":
            return views_of_shot(read_shot(footage), sequence)
        return [view_of_sequence(sequence, open_footage(footage))]
    return list(footage)
