# SPDX-License-Identifier: Apache-2.0
"""Results of TRAM and PromptHMR: people in the camera, and the camera's way.

TRAM: a folder `results/NAME` with `camera.npy` (`pred_cam_R`, `pred_cam_T`: camera to world,
`img_focal`, `img_center`) and `hps/hps_track_K.npy` (`pred_rotmat`, `pred_shape`, `pred_trans` in
the camera, `frame`; torch tensors). The world is that of the SLAM: metric, its axes those of a
camera, up unknown. The shape is the mean over the track, as TRAM takes it for the world.

PromptHMR: `results.pkl` (joblib) with `people` (`frames`, `smplx_cam`, `smplx_world`: 55 joints)
and `camera_world` (`Rcw`, `Tcw`: world to camera, `img_focal`, `img_center`). The world is y-up
with the floor at 0. Frames were made at most 896 pixels high: the camera is in these pixels.

Source: scripts/estimate_camera.py, scripts/estimate_humans.py, lib/pipeline/visualization.py and
    lib/models/hmr_vimo.py of github.com/yufu-wang/tram; pipeline/pipeline.py, pipeline/world.py and
    pipeline/phmr_vid.py of github.com/yufu-wang/PromptHMR.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from posefit_shared.frames import YUP_TO_ZUP, invert
from posefit_shared.sequence import Sequence

from .building import Motion, person_number
from .cameras import IN_CAMERA, pinhole, rigid
from .content import Content, load_content
from .fields import Array, entry, frame_numbers, numbers, rotation_vectors
from .person import ImportedPerson, ImporterError, ImportOptions
from .worlds import moved, rest_pelvis, turned

__all__ = ["read_prompthmr", "read_tram", "recognises_prompthmr", "recognises_tram"]


def recognises_tram(content: Content) -> bool:
    """Whether a path is TRAM's folder of results, or one of its tracks."""
    if content.kind == "folder":
        return (content.path / "camera.npy").is_file() and bool(_tracks(content.path))
    return content.has("pred_rotmat", "pred_shape", "pred_trans", "frame")


def read_tram(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The people of a folder, or of one track.

    Raises:
        ImporterError: the camera is missing, or an entry is not as TRAM writes it.
    """
    if content.kind == "folder":
        folder, tracks = content.path, [load_content(path) for path in _tracks(content.path)]
    else:
        folder, tracks = content.path.parent.parent, [content]
    camera_file = folder / "camera.npy"
    if not camera_file.is_file():
        raise ImporterError(
            f"{camera_file} is not there: import TRAM's whole folder of results, with camera.npy"
        )
    camera = load_content(camera_file).data
    return [_track(track, k, camera, options) for k, track in enumerate(tracks)]


def _track(track: Content, position: int, camera: Any, options: ImportOptions) -> ImportedPerson:
    data, name = track.data, track.path.stem
    poses = rotation_vectors(entry(data, "pred_rotmat", name), 24, "pred_rotmat")
    count = len(poses)
    frames = frame_numbers(entry(data, "frame", name), count, "frame")
    betas = numbers(entry(data, "pred_shape", name), (count, 10), "pred_shape").mean(0)
    trans = numbers(np.reshape(entry(data, "pred_trans", name), (count, -1)), (count, 3), "trans")
    rotation = numbers(entry(camera, "pred_cam_R", "camera.npy"), (-1, 3, 3), "pred_cam_R")
    place = numbers(entry(camera, "pred_cam_T", "camera.npy"), (-1, 3), "pred_cam_T")
    if frames.max() >= len(rotation):
        raise ImporterError(f"{name} has frame {frames.max()}, camera.npy has {len(rotation)}")
    to_world = rigid(rotation, place)[frames]
    notes = ("the shape is the mean over the track, as TRAM takes it",)
    cameras: Array = invert(to_world)
    if options.world == "camera":
        cameras, notes = IN_CAMERA, (*notes, "motion in the camera's frame; its way was left out")
    else:
        root, trans = moved(poses[:, 0], trans, rest_pelvis(options, betas), to_world)
        poses[:, 0] = root
    lens, size = _lens(camera, options)
    match = re.search(r"(\d+)$", name)
    motion = Motion(
        poses=poses, trans=trans, betas=betas, label=name, frames=frames, intrinsics=lens,
        world_to_camera=cameras, image_size=size, notes=notes,
    )  # fmt: skip
    return motion.person(person_number(match[1] if match else None, position), options)


def _tracks(folder: Path) -> list[Path]:
    return sorted((folder / "hps").glob("hps_track_*.npy"))


def _lens(camera: Any, options: ImportOptions) -> tuple[Array, tuple[int, int]]:
    """Intrinsics and the picture's size; the principal point is its middle."""
    centre = numbers(np.reshape(entry(camera, "img_center", "the camera"), -1), (2,), "img_center")
    focal = float(
        numbers(np.reshape(entry(camera, "img_focal", "the camera"), -1), (1,), "focal")[0]
    )
    size = options.image_size or (round(2 * centre[0]), round(2 * centre[1]))
    if focal <= 0 or min(size) <= 0:
        raise ImporterError(f"the camera has focal length {focal} and centre {centre}: check it")
    return pinhole(focal, size, (float(centre[0]), float(centre[1]))), size


def recognises_prompthmr(content: Content) -> bool:
    """Whether a file is PromptHMR's."""
    return content.has("people", "camera") and any(
        isinstance(one, dict) and {"frames", "smplx_cam"} <= set(one)
        for one in _people(content).values()
    )


def read_prompthmr(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The people of a file.

    Raises:
        ImporterError: an entry is not as PromptHMR writes it.
    """
    people = _people(content)
    in_world = options.world == "auto" and "camera_world" in content.data
    return [
        _prompted(key, one, k, content.data, in_world, options)
        for k, (key, one) in enumerate(people.items())
    ]


def _prompted(
    key: Any, data: Any, position: int, whole: Any, in_world: bool, options: ImportOptions
) -> ImportedPerson:
    name = f"person {key}"
    part = entry(data, "smplx_world" if in_world else "smplx_cam", name)
    given = part.get("rotmat") if part.get("rotmat") is not None else entry(part, "pose", name)
    poses = rotation_vectors(given, 55, "pose")
    count = len(poses)
    frames = frame_numbers(entry(data, "frames", name), count, "frames")
    camera = entry(whole, "camera_world" if in_world else "camera", "the file")
    lens, size = _lens(camera, ImportOptions())
    cameras: Array = IN_CAMERA
    if in_world:
        rotation = numbers(entry(camera, "Rcw", "camera_world"), (-1, 3, 3), "Rcw")
        place = numbers(entry(camera, "Tcw", "camera_world"), (-1, 3), "Tcw")
        if frames.max() >= len(rotation):
            raise ImporterError(f"{name} has frame {frames.max()}, the camera has {len(rotation)}")
        cameras = rigid(rotation, place)[frames]
    lens, size, note = _in_footage_pixels(lens, size, options)
    motion = Motion(
        poses=poses,
        trans=numbers(entry(part, "trans", name), (count, 3), "trans"),
        betas=numbers(entry(part, "shape", name), (count, 10), "shape"),
        label=name, frames=frames, intrinsics=lens, world_to_camera=cameras, image_size=size,
        model_type="smplx", notes=(note, "hands and face are at rest"),
    )  # fmt: skip
    person = motion.person(person_number(key, position), options)
    if not in_world:
        return person
    sequence: Sequence = turned(person.sequence, YUP_TO_ZUP, options)
    return ImportedPerson(sequence, person.label, person.notes)


def _in_footage_pixels(
    lens: Array, size: tuple[int, int], options: ImportOptions
) -> tuple[Array, tuple[int, int], str]:
    """The camera in the footage's own pixels, where its size is known."""
    if options.image_size is None or options.image_size == size:
        note = f"the camera is for pictures of {size[0]} x {size[1]}, as PromptHMR saw them"
        return lens, size, note + ": give --footage if yours are larger"
    scale = np.array(options.image_size) / np.array(size)
    if abs(scale[0] / scale[1] - 1) > 0.01:
        raise ImporterError(
            f"the footage is {options.image_size}, PromptHMR saw {size}, which is of another form: "
            "give the footage that it was made from"
        )
    scaled = np.diag([*scale, 1.0]) @ lens
    return scaled, options.image_size, f"the camera was scaled from {size} to the footage"


def _people(content: Content) -> dict[Any, Any]:
    people = content.data.get("people") if isinstance(content.data, dict) else None
    return people if isinstance(people, dict) else {}
