# SPDX-License-Identifier: Apache-2.0
"""Files of `torch.save` read by hand, without torch: the zip layout and the one before it.

Tensors become numpy arrays on the CPU; bfloat16 becomes float32.

Source: torch/serialization.py of github.com/pytorch/pytorch, `_save`, `_legacy_save`, `_load`,
    `_legacy_load`.
"""

from __future__ import annotations

import io
import zipfile
from typing import Any

from .person import ImporterError
from .pickle_machine import run_pickle
from .pickle_records import RecordError, Storage, resolved, storage_dtype

__all__ = ["is_legacy_torch", "load_torch_legacy", "load_torch_zip", "storage_of_bytes"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_ITEM_BYTES = {"bfloat16": 2}


def load_torch_zip(archive: zipfile.ZipFile, name: str) -> Any:
    """What a `.pt` or `.pth` file of the zip layout holds.

    Args:
        archive: the open file.
        name: the file's name, for the message.

    Raises:
        ImporterError: it asks for anything but tensors and containers, or is broken.
    """
    program = next(entry for entry in archive.namelist() if entry.endswith("data.pkl"))
    folder = program.removesuffix("data.pkl")
    entries = set(archive.namelist())
    if f"{folder}byteorder" in entries and archive.read(f"{folder}byteorder") != b"little":
        raise ImporterError(f"{name} was written by a big-endian machine: save it on another")
    storages: dict[str, Storage] = {}

    def persistent(key: Any) -> Storage:
        dtype, place = _described(key)
        if place not in storages:
            entry = f"{folder}data/{place}"
            if entry not in entries:
                raise RecordError(f"it lacks the numbers of tensor {place}")
            storages[place] = Storage(dtype, archive.read(entry))
        return storages[place]

    return _loaded(lambda: run_pickle(io.BytesIO(archive.read(program)), persistent), name)


def load_torch_legacy(data: bytes, name: str) -> Any:
    """What a file of the layout before the zip holds.

    Raises:
        ImporterError: it asks for anything but tensors and containers, or is broken.
    """
    return _loaded(lambda: _run_legacy(data), name)


def is_legacy_torch(data: bytes) -> bool:
    """Whether bytes are a torch file of the layout before the zip."""
    return _LEGACY_MAGIC.to_bytes(10, "little") in data[:32]


def storage_of_bytes(data: bytes) -> Storage:
    """The storage in bytes that `torch.storage._load_from_bytes` takes.

    Raises:
        RecordError: it is none.
    """
    value = _run_legacy(data)
    if not isinstance(value, Storage):
        raise RecordError("a tensor in it has no storage")
    return value


def _run_legacy(data: bytes) -> Any:
    """Magic number, version and machine, the object, the storages' keys, then their numbers."""
    stream = io.BytesIO(data)
    if run_pickle(stream) != _LEGACY_MAGIC:
        raise RecordError("it is no file of torch")
    run_pickle(stream)
    run_pickle(stream)
    storages: dict[str, Storage] = {}

    def persistent(key: Any) -> Storage:
        dtype, place = _described(key)
        if len(key) > 5 and key[5] is not None:
            raise RecordError("it holds views of storages, which no result does")
        return storages.setdefault(place, Storage(dtype))

    value = run_pickle(stream, persistent)
    for key in run_pickle(stream):
        storage = storages.get(str(key))
        count = int.from_bytes(stream.read(8), "little")
        if storage is None:
            raise RecordError("it holds numbers that belong to no tensor")
        size = _ITEM_BYTES.get(storage.dtype) or int(storage.dtype[1:])
        storage.raw = stream.read(count * size)
        if len(storage.raw) != count * size:
            raise RecordError("it is cut short")
    return value


def _described(key: Any) -> tuple[str, str]:
    """Type of numbers and key of the storage that a persistent id names."""
    if not isinstance(key, tuple) or len(key) < 5 or key[0] != "storage":
        raise RecordError("it refers to something that is no tensor's storage")
    return storage_dtype(key[1]), str(key[2])


def _loaded(load: Any, name: str) -> Any:
    try:
        return resolved(load())
    except RecordError as error:
        raise ImporterError(
            f"{name} was refused ({error}): import only the result file that the tool itself wrote"
        ) from error
    except (
        EOFError, IndexError, KeyError, TypeError, ValueError, OverflowError, MemoryError,
        RecursionError, zipfile.BadZipFile,
    ) as error:  # fmt: skip
        raise ImporterError(
            f"{name} cannot be read as a file of torch ({error or type(error).__name__}): it may "
            "be cut short; copy it again"
        ) from error
