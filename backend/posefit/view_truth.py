# SPDX-License-Identifier: Apache-2.0
"""Reads what was checked by hand in pictures: marked points and silhouettes, camera by camera.

A folder holds `points.json` ({"cameras": {NAME: {FRAME: {POINT: [x, y]}}}}) and `masks/` with
`NAME_FRAME.png`, both by the frames of each camera's footage.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from .evaluate import EvaluationError, ViewTruth

__all__ = ["read_truths"]

_MASK_NAME = re.compile(r"(?P<camera>.+)_(?P<frame>\d+)\.png")


def read_truths(folder: str | os.PathLike[str]) -> list[ViewTruth]:
    """Everything that was checked by hand, one entry a camera.

    Args:
        folder: with `points.json` and, if there are silhouettes, `masks/`.

    Raises:
        EvaluationError: there is no readable `points.json`, or a mask is no picture.
    """
    folder = Path(folder)
    file = folder / "points.json"
    try:
        cameras = json.loads(file.read_text("utf-8"))["cameras"]
        points = {
            name: {
                int(frame): {point: (float(x), float(y)) for point, (x, y) in marks.items()}
                for frame, marks in frames.items()
            }
            for name, frames in cameras.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvaluationError(
            f"no marked points can be read from {file} ({error}): check the path"
        ) from error
    masks = _masks(folder / "masks")
    return [ViewTruth(name, marks, masks.get(name, {})) for name, marks in points.items()]


def _masks(folder: Path) -> dict[str, dict[int, npt.NDArray[np.bool_]]]:
    masks: dict[str, dict[int, npt.NDArray[np.bool_]]] = {}
    for file in sorted(folder.glob("*.png")):
        match = _MASK_NAME.fullmatch(file.name)
        if match is None:
            continue
        try:
            with Image.open(file) as image:
                mask = np.asarray(image.convert("L")) > 127
        except (UnidentifiedImageError, OSError) as error:
            raise EvaluationError(f"the mask {file.name} is no picture ({error})") from error
        masks.setdefault(match["camera"], {})[int(match["frame"])] = mask
    return masks
