# SPDX-License-Identifier: Apache-2.0
"""A file's content as plain containers of numpy arrays, whatever wrote it; nothing in it is run.

What a file is, is seen in its first bytes, not in its ending: `.npz` and `.npy` of numpy (objects
in them too), pickles, joblib files (plain, zlib, gzip, bz2, xz, lzma), `.pt` of torch, BVH text.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posefit_shared.damaged_files import DAMAGED_ARRAYS

from .person import ImporterError
from .pickle_machine import load_pickle
from .torch_files import is_legacy_torch, load_torch_legacy, load_torch_zip

__all__ = ["Content", "load_content"]

MAX_BYTES = 2 << 30
"""Largest file, packed or unpacked."""
_NPY = b"\x93NUMPY"


@dataclass(frozen=True)
class Content:
    """What lies at a path."""

    path: Path
    kind: str
    """`npz`, `npy`, `pickle`, `torch`, `bvh` or `folder`."""
    data: Any
    """Dictionaries, lists, arrays, numbers and text; text for `bvh`, None for `folder`."""

    def has(self, *keys: str) -> bool:
        """Whether it is a dictionary with these keys."""
        return isinstance(self.data, dict) and all(key in self.data for key in keys)


def load_content(path: Path) -> Content:
    """Read a file, or say that a path is a folder.

    Raises:
        ImporterError: it is not there, too large, of an unknown kind, refused or broken.
    """
    if path.is_dir():
        return Content(path, "folder", None)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ImporterError(
                f"{path.name} has more than {MAX_BYTES >> 30} GiB, too much to read"
            )
        data = path.read_bytes()
    except OSError as error:
        raise ImporterError(
            f"{path} cannot be read ({error.strerror or error}): check the path"
        ) from error
    kind, value = _load(data, path.name)
    return Content(path, kind, value)


def _load(data: bytes, name: str) -> tuple[str, Any]:
    if data.startswith(b"PK\x03\x04"):
        return _load_zip(data, name)
    if data.startswith(_NPY):
        value = _load_npy(data, name)
        is_scalar = value.dtype == object and value.ndim == 0
        return "npy", value.item() if is_scalar else value
    if data.lstrip()[:9] == b"HIERARCHY":
        return "bvh", data.decode("utf-8", "replace")
    unpacked = _unpacked(data, name)
    if is_legacy_torch(unpacked):
        return "torch", load_torch_legacy(unpacked, name)
    if not unpacked or (unpacked[:1] != b"\x80" and unpacked[:1] not in b"(cI]}l"):
        raise ImporterError(
            f"{name} is no file that posefit reads: expected .npz, .npy, a pickle (.pkl), a joblib "
            "file, a torch file (.pt) or .bvh (docs/importing.md)"
        )
    return "pickle", load_pickle(unpacked, name)


def _load_zip(data: bytes, name: str) -> tuple[str, Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(info.file_size for info in archive.infolist()) > MAX_BYTES:
                raise ImporterError(f"{name} unpacks to more than {MAX_BYTES >> 30} GiB")
            names = archive.namelist()
            if any(entry.split("/")[-1] == "data.pkl" for entry in names):
                return "torch", load_torch_zip(archive, name)
            arrays = {
                entry.removesuffix(".npy"): _load_npy(archive.read(entry), name)
                for entry in names
                if entry.endswith(".npy")
            }
    except ImporterError:
        raise
    except DAMAGED_ARRAYS as error:
        raise ImporterError(
            f"{name} is a broken archive ({error}): it may be cut short; copy it again"
        ) from error
    if not arrays:
        raise ImporterError(f"{name} is a zip file without arrays: expected an .npz or .pt file")
    return "npz", {key: _item(value) for key, value in arrays.items()}


def _item(array: np.ndarray) -> Any:
    """An object stored alone in an array; other arrays as they are."""
    return array.item() if array.dtype == object and array.ndim == 0 else array


def _load_npy(data: bytes, name: str) -> np.ndarray:
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        _, _, dtype = read(stream)
        if dtype.hasobject:
            return np.asarray(load_pickle(data[stream.tell() :], name), dtype=object)
        stream.seek(0)
        return np.load(stream, allow_pickle=False)
    except ImporterError:
        raise
    except DAMAGED_ARRAYS as error:
        raise ImporterError(
            f"{name} holds an array that cannot be read ({error}): copy it again"
        ) from error


def _unpacked(data: bytes, name: str) -> bytes:
    """The bytes of a compressed file, or the bytes themselves."""
    try:
        if data[:1] == b"\x78" and len(data) > 1 and (data[0] * 256 + data[1]) % 31 == 0:
            return _bounded(zlib.decompressobj(), data, name)
        if data.startswith(b"\x1f\x8b"):
            return _bounded(zlib.decompressobj(31), data, name)
        if data.startswith(b"BZh"):
            return _bounded(bz2.BZ2Decompressor(), data, name)
        if data.startswith((b"\xfd7zXZ", b"\x5d\x00")):
            return _bounded(lzma.LZMADecompressor(), data, name)
    except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError) as error:
        raise ImporterError(
            f"{name} cannot be unpacked ({error}): it may be cut short; copy it again"
        ) from error
    if data.startswith((b"\x04\x22\x4d\x18", b"ZF")):
        what = "with lz4" if data[:1] == b"\x04" else "by a joblib older than 0.10"
        raise ImporterError(
            f"{name} was packed {what}, which posefit does not read: load it with joblib and dump "
            "it again with compress=3"
        )
    return data


def _bounded(unpacker: Any, data: bytes, name: str) -> bytes:
    result = unpacker.decompress(data, MAX_BYTES)
    if len(result) >= MAX_BYTES:
        raise ImporterError(f"{name} unpacks to more than {MAX_BYTES >> 30} GiB")
    if not unpacker.eof:
        raise ImporterError(f"{name} is cut short: copy it again")
    return result
