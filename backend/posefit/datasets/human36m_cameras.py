# SPDX-License-Identifier: Apache-2.0
"""Human3.6M's `metadata.xml`: cameras of each subject, and what its recordings are called.

`<w0>` lists 6 numbers for each of 4 cameras and 11 subjects (three angles, then the camera's
position in millimetres), then 9 for each camera (focal lengths, principal point, k1 k2 k3, p1 p2).
A world point P is R · (P − position) in the camera, with R = Rx · Ry · Rz; z is up in the world.

Source: the data set's own code and metadata, as github.com/anibali/h36m-fetch (metadata.py) and
    mmhuman3d (data_converters/h36m.py) read them.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from posefit_shared.frames import Camera

from .files import read_text
from .recording import DatasetError

__all__ = ["CAMERAS", "Metadata", "read_metadata"]

CAMERAS = ("54138969", "55011271", "58860488", "60457274")
"""Serial numbers in the order of the metadata."""
_SIZES = {"54138969": (1000, 1002), "60457274": (1000, 1002)}
_SUBJECTS = 11
_INTRINSICS_AT = 6 * _SUBJECTS * len(CAMERAS)
_MM = 1000.0

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Metadata:
    """What the metadata file says of cameras and recordings."""

    numbers: Array
    """The numbers of `<w0>`."""
    names: dict[str, dict[tuple[str, str], str]]
    """For a subject (`S9`): file name without camera by action and subaction number."""

    def camera(self, subject: int, serial: str) -> Camera:
        """One camera as it stood for one subject, metres and pixels.

        Args:
            subject: 1 to 11.
            serial: one of `CAMERAS`.
        """
        index = CAMERAS.index(serial)
        start = 6 * (index * _SUBJECTS + subject - 1)
        rotation = _rotation(self.numbers[start : start + 3])
        position = self.numbers[start + 3 : start + 6] / _MM
        world_to_camera = np.eye(4)
        world_to_camera[:3, :3] = rotation
        world_to_camera[:3, 3] = -rotation @ position
        start = _INTRINSICS_AT + 9 * index
        fx, fy, cx, cy, k1, k2, k3, p1, p2 = self.numbers[start : start + 9]
        intrinsics = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        distortion = np.array([k1, k2, p1, p2, k3])
        size = _SIZES.get(serial, (1000, 1000))
        return Camera(intrinsics, world_to_camera, size, distortion)


def read_metadata(path: Path) -> Metadata:
    """The data set's metadata.xml.

    Args:
        path: the file.

    Raises:
        DatasetError: the file is missing or is not Human3.6M's.
    """
    try:
        tree = ElementTree.fromstring(read_text(path))
        words = (tree.findtext("w0") or "").strip().strip("[]").split()
        numbers = np.array([float(word) for word in words])
    except (ElementTree.ParseError, ValueError) as error:
        raise DatasetError(f"{path} is not Human3.6M's metadata ({error})") from error
    if len(numbers) < _INTRINSICS_AT + 9 * len(CAMERAS):
        raise DatasetError(
            f"w0 in {path} has {len(numbers)} numbers, expected "
            f"{_INTRINSICS_AT + 9 * len(CAMERAS)}: take Human3.6M's own metadata.xml"
        )
    return Metadata(numbers, _recording_names(tree))


def _recording_names(tree: ElementTree.Element) -> dict[str, dict[tuple[str, str], str]]:
    rows = [[cell.text or "" for cell in row] for row in tree.find("mapping") or ()]
    if not rows:
        return {}
    subjects = rows[0][2:]
    names: dict[str, dict[tuple[str, str], str]] = {subject: {} for subject in subjects}
    for action, subaction, *prefixes in rows[1:]:
        for subject, prefix in zip(subjects, prefixes, strict=False):
            if prefix:
                names[subject][action, subaction] = prefix
    return names


def _rotation(angles: Array) -> Array:
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_x @ about_y @ about_z
