# SPDX-License-Identifier: Apache-2.0
"""Files of data sets: pickles without running them, archives, JSON, pictures' sizes.

Everything that can be wrong with a user's copy of a data set ends as one sentence that names the
file, says what was expected there and points to docs/datasets.md.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from posefit_shared.model_pickle import ModelPickleError, read_array_pickle

from .recording import DatasetError

__all__ = [
    "array_of",
    "entry",
    "existing_folder",
    "images_in",
    "image_size",
    "matching",
    "read_json",
    "read_npz",
    "read_pickle",
    "read_text",
]

_MAX_BYTES = 2 << 30
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


def existing_folder(path: Path, what: str) -> Path:
    """The folder, if it is there.

    Args:
        path: where it should be.
        what: what it is, for the message.

    Raises:
        DatasetError: it is not there.
    """
    if not path.is_dir():
        raise DatasetError(
            f"no folder {path}: {what} is expected there; place the data set as "
            "docs/datasets.md shows"
        )
    return path


def matching(folder: Path, pattern: str, what: str) -> list[Path]:
    """Files and folders that fit a pattern, in name order.

    Args:
        folder: where to look.
        pattern: as for `Path.glob`.
        what: what they are, for the message.

    Raises:
        DatasetError: there is none.
    """
    found = sorted(folder.glob(pattern))
    if not found:
        raise DatasetError(
            f"{folder} holds no {what} ({pattern}): place the data set as docs/datasets.md shows"
        )
    return found


def read_pickle(path: Path, wanted: Iterable[str] | None = None) -> dict[str, Any]:
    """Entries of a data set's pickle; nothing in it is run.

    Args:
        path: the file.
        wanted: top-level keys to rebuild; None rebuilds all.

    Raises:
        DatasetError: the file is missing, no pickle of arrays, or too large.
    """
    keys = None if wanted is None else frozenset(wanted)
    try:
        return read_array_pickle(_bytes(path), keys)
    except ModelPickleError as error:
        raise DatasetError(
            f"{path} was refused as a data set's pickle ({error}): download it again"
        ) from error


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DatasetError: the file is missing or no JSON.
    """
    try:
        return json.loads(_bytes(path))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is no JSON ({error}): download it again") from error


def read_npz(path: Path, wanted: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """Named arrays of an archive; entries stored as Python objects are left out.

    Args:
        path: the file.
        wanted: names of the arrays.

    Raises:
        DatasetError: the file is missing or no .npz.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in wanted:
                if name in archive.files:
                    arrays[name] = archive[name]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} cannot be read as an .npz of arrays ({error})") from error
    return arrays


def entry(data: dict[str, Any], key: str, path: Path) -> Any:
    """One entry of a file's dictionary.

    Args:
        data: the dictionary.
        key: which entry.
        path: the file, for the message.

    Raises:
        DatasetError: it is not there.
    """
    if key not in data:
        raise DatasetError(
            f"{path} lacks {key!r} and has {', '.join(sorted(map(str, data))) or 'nothing'}: "
            "check that it is the file as published (docs/datasets.md)"
        )
    return data[key]


def array_of(value: Any, shape: tuple[int, ...], name: str, path: Path) -> npt.NDArray[np.float64]:
    """Numbers of a stated shape.

    Args:
        value: what the file holds.
        shape: expected shape; −1 fits any length.
        name: of the entry, for the message.
        path: the file, for the message.

    Raises:
        DatasetError: other numbers, or none.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{name} in {path} holds no numbers ({error})") from error
    fits = len(array.shape) == len(shape) and all(
        want in (-1, have) for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        words = ", ".join("any" if n == -1 else str(n) for n in shape)
        raise DatasetError(f"{name} in {path} is {array.shape}, expected ({words})")
    return array


def image_size(path: Path | None) -> tuple[int, int] | None:
    """Width and height of a picture, pixels; None where there is no such file.

    Raises:
        DatasetError: the file is no picture.
    """
    if path is None or not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            return image.size
    except (UnidentifiedImageError, OSError) as error:
        raise DatasetError(f"{path} cannot be read as a picture ({error})") from error


def images_in(folder: Path) -> list[Path]:
    """Pictures of a folder in name order; empty where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in _IMAGE_SUFFIXES)


def read_text(path: Path) -> str:
    """A small text or XML file without entity declarations, which could grow without bound.

    Raises:
        DatasetError: the file is missing, no text, or declares entities.
    """
    try:
        text = _bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is no text ({error}): download it again") from error
    if "<!ENTITY" in text:
        raise DatasetError(f"{path} declares XML entities, which no such file needs")
    return text


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DatasetError(f"{path} has more than {_MAX_BYTES >> 30} GiB, too large to read")
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read ({error.strerror or error}): place the data set as "
            "docs/datasets.md shows"
        ) from error
