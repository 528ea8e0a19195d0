# SPDX-License-Identifier: Apache-2.0
"""Results of ROMP and BEV (simple_romp): an `.npz` a picture, or `video_results.npz`.

`results` is a dictionary with a row a person: `cam`, `smpl_thetas` (72), `smpl_betas`, and unless
it was switched off `joints` (71, the first SMPL's own) and `pj2d_org`, where these were drawn.
Pictures are padded to a square first.

ROMP's `cam` [s, tx, ty] is orthographic on that square. It becomes the pinhole of 60° that ROMP
assumes elsewhere (443.4 pixels on 512), at the distance where both agree in the pelvis's plane.
BEV's `cam_trans` is the translation before such a pinhole; its bodies are moved so that the middle
of the hips is their origin, which is undone by the pelvis among `joints`. The size of the square
and of the picture is worked out from `pj2d_org`.

Source: simple_romp/romp/{main,utils,post_parser}.py and simple_romp/bev/{main,post_parser}.py of
    github.com/Arthur151/ROMP.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from .building import Motion, person_number
from .cameras import IN_CAMERA, pinhole
from .content import Content, load_content
from .fields import Array, numbers, rotation_vectors
from .linking import link_places
from .person import ImportedPerson, ImporterError, ImportOptions
from .worlds import rest_pelvis

__all__ = ["read_romp", "recognises_romp"]

FOCAL_OF_512 = 443.4
"""ROMP's and BEV's pinhole on their square of 512 pixels."""
_NUMBER = re.compile(r"(\d+)\D*$")


@dataclass(frozen=True)
class _Row:
    """One person in one picture."""

    frame: int
    track: Any
    data: dict[str, Any]


def recognises_romp(content: Content) -> bool:
    """Whether a file, or a folder of files, holds ROMP's or BEV's results."""
    if content.kind == "folder":
        files = _files(content)
        return bool(files) and recognises_romp(load_content(files[0]))
    results = content.data.get("results") if isinstance(content.data, dict) else None
    return isinstance(results, dict) and bool(_pictures(results, content.path.stem))


def read_romp(content: Content, options: ImportOptions) -> list[ImportedPerson]:
    """The people of a picture, of a video or of a folder of pictures.

    Raises:
        ImporterError: an entry is not as ROMP writes it, or the picture's size is unknown.
    """
    rows = [row for k, one in enumerate(_contents(content)) for row in _rows(one, k)]
    if not rows:
        raise ImporterError(f"{content.path.name} has no people: run ROMP again")
    square, size = _square(rows, options)
    notes = []
    if any(row.track is None for row in rows):
        ids = link_places([row.frame for row in rows], _places(rows))
        rows = [_Row(row.frame, number, row.data) for row, number in zip(rows, ids, strict=True)]
        notes.append("the file has no track ids: people were linked from frame to frame by place")
    tracks = sorted({row.track for row in rows}, key=str)
    return [
        _person([row for row in rows if row.track == track], k, square, size, tuple(notes), options)
        for k, track in enumerate(tracks)
    ]


def _person(
    rows: list[_Row], position: int, square: tuple[float, float, float], size: tuple[int, int],
    notes: tuple[str, ...], options: ImportOptions,
) -> ImportedPerson:  # fmt: skip
    data = [row.data for row in rows]
    count = len(rows)
    side, left, top = square
    focal = options.focal_px or FOCAL_OF_512 * side / 512
    betas = numbers(np.stack([one["smpl_betas"] for one in data])[:, :10], (count, 10), "betas")
    if _is_bev(data[0]):
        trans, note = _bev_translation(data, betas, options)
        focal = FOCAL_OF_512 * side / 512
    else:
        cam = numbers(np.stack([one["cam"] for one in data]), (count, 3), "cam")
        trans = np.column_stack([cam[:, 1:], np.full(count, 2 * focal / side)]) / cam[:, :1]
        note = (
            "ROMP's orthographic camera became a pinhole at the distance where both agree in the "
            "pelvis's plane"
        )
    motion = Motion(
        poses=rotation_vectors(np.stack([one["smpl_thetas"] for one in data]), 24, "smpl_thetas"),
        trans=trans,
        betas=betas,
        label=f"track {rows[0].track}",
        frames=np.array([row.frame for row in rows]),
        intrinsics=pinhole(focal, size, (side / 2 - left, side / 2 - top)),
        world_to_camera=IN_CAMERA,
        image_size=size,
        notes=(note, *notes),
    )
    return motion.person(person_number(rows[0].track, position), options)


def _bev_translation(
    data: list[dict[str, Any]], betas: Array, options: ImportOptions
) -> tuple[Array, str]:
    if any("joints" not in one for one in data):
        raise ImporterError(
            "these results of BEV have no joints, without which the body cannot be placed: run BEV "
            "without --calc_smpl"
        )
    count = len(data)
    shift = numbers(np.stack([one["cam_trans"] for one in data]), (count, 3), "cam_trans")
    pelvis = numbers(np.stack([np.asarray(one["joints"])[0] for one in data]), (count, 3), "joints")
    note = (
        "BEV's body is a blend of adults' and children's: ten of its eleven shape numbers are kept"
    )
    return pelvis + shift - rest_pelvis(options, betas), note


def _is_bev(data: dict[str, Any]) -> bool:
    return np.asarray(data["smpl_betas"]).size == 11


def _square(
    rows: list[_Row], options: ImportOptions
) -> tuple[tuple[float, float, float], tuple[int, int]]:
    """Side of the padded picture, its left and top margins, and the picture's own size."""
    if options.image_size is not None:
        width, height = options.image_size
        side = max(width, height)
        return (side, (side - width) // 2, (side - height) // 2), (width, height)
    fitted = [found for found in map(_fitted_square, rows) if found is not None]
    if not fitted:
        raise ImporterError(
            "these results have no pj2d_org, so nothing says how large the pictures are: give the "
            "footage (--footage)"
        )
    side, left, top = (float(n) for n in np.rint(np.median(fitted, axis=0)))
    width, height = (_inside(side, margin) for margin in (left, top))
    return (side, left, top), (width, height)


def _inside(side: float, margin: float) -> int:
    """Side of the picture inside; a margin of half the rest, rounded down, leaves it even."""
    return int(side - 2 * margin)


def _fitted_square(row: _Row) -> tuple[float, float, float] | None:
    """Side and margins for which the joints fall where `pj2d_org` says."""
    if "joints" not in row.data or "pj2d_org" not in row.data:
        return None
    joints = np.asarray(row.data["joints"], np.float64)
    drawn = np.asarray(row.data["pj2d_org"], np.float64)[: len(joints)]
    joints = joints[: len(drawn)]
    if _is_bev(row.data):
        seen = joints + np.asarray(row.data["cam_trans"], np.float64)
        ideal = seen[:, :2] / (seen[:, 2:] + 1e-6) * FOCAL_OF_512 / 256
    else:
        cam = np.asarray(row.data["cam"], np.float64)
        ideal = joints[:, :2] * cam[0] + cam[1:]
    count = len(ideal)
    system = np.zeros((2 * count, 3))
    system[:, 0] = ((ideal + 1) / 2).T.reshape(-1)
    system[:count, 1], system[count:, 2] = -1, -1
    side, left, top = np.linalg.lstsq(system, drawn.T.reshape(-1), rcond=None)[0]
    return float(side), float(left), float(top)


def _places(rows: list[_Row]) -> Array:
    """(N, 3) where people are, in a measure that is alike for both tools: x, y, size."""
    cams = np.array([np.asarray(row.data["cam"], np.float64) for row in rows])
    return np.column_stack([cams[:, 1:], np.log(np.maximum(np.abs(cams[:, 0]), 1e-3))])


def _contents(content: Content) -> list[Content]:
    if content.kind != "folder":
        return [content]
    return [load_content(path) for path in _files(content)]


def _files(content: Content) -> list[Any]:
    return sorted(p for p in content.path.glob("*.npz") if p.name != "video_results.npz")


def _rows(content: Content, order: int) -> list[_Row]:
    """A file's rows; a video's pictures count in order, a picture's own name has its number."""
    rows = []
    results = content.data["results"]
    is_video = "smpl_thetas" not in results
    for place, (name, picture) in enumerate(_pictures(results, content.path.stem)):
        match = _NUMBER.search(name)
        frame = place if is_video else order if match is None else int(match[1])
        ids = picture.get("track_ids")
        people = len(np.asarray(picture["smpl_thetas"]))
        for k in range(people):
            data = {
                key: np.asarray(value)[k]
                for key, value in picture.items()
                if key in _USED and len(np.asarray(value)) == people
            }
            rows.append(_Row(frame, None if ids is None else int(np.asarray(ids)[k]), data))
    return rows


_USED = ("cam", "cam_trans", "smpl_thetas", "smpl_betas", "joints", "pj2d_org")


def _pictures(results: dict[Any, Any], name: str) -> list[tuple[str, dict[str, Any]]]:
    """Each picture's name and people, for a picture's file and for a video's."""
    if "smpl_thetas" in results and "cam" in results:
        return [(name, results)]
    return [
        (str(key), one)
        for key, one in results.items()
        if isinstance(one, dict) and "smpl_thetas" in one and "cam" in one
    ]
