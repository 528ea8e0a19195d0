# SPDX-License-Identifier: Apache-2.0
"""Records of arrays by name, in memory or in a folder; imports no torch."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .whole_files import replace_file

__all__ = ["Arrays", "RecordFolder", "Records"]

logger = logging.getLogger(__name__)

Arrays = dict[str, npt.NDArray[Any]]
"""One record: arrays by the names of what they are."""
Records = MutableMapping[str, Arrays]
"""Records by name; a `dict`, or a `RecordFolder`."""
_MOST_BYTES = 1 << 30


class RecordFolder(MutableMapping[str, Arrays]):
    """Records as npz files of a folder; each appears whole or not at all, and a broken one is as if
    it were not there.

    Args:
        path: made when the first record comes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __getitem__(self, name: str) -> Arrays:
        file = self._file(name)
        try:
            if file.stat().st_size > _MOST_BYTES:
                raise ValueError(f"{file} is too large")
            with np.load(file, allow_pickle=False) as archive:
                return dict(archive)
        except FileNotFoundError:
            raise KeyError(name) from None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            logger.warning("%s cannot be read (%s): its work is done again", file.name, error)
            file.unlink(missing_ok=True)
            raise KeyError(name) from error

    def __setitem__(self, name: str, arrays: Arrays) -> None:
        self._path.mkdir(parents=True, exist_ok=True)

        def write(path: Path) -> None:
            with path.open("wb") as handle:
                np.savez(handle, **arrays)  # pyright: ignore[reportArgumentType]

        replace_file(self._file(name), write)

    def __delitem__(self, name: str) -> None:
        self._file(name).unlink()

    def __iter__(self) -> Iterator[str]:
        return (file.stem for file in sorted(self._path.glob("*.npz")))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return self.get(str(name)) is not None

    def _file(self, name: str) -> Path:
        return self._path / f"{name}.npz"
