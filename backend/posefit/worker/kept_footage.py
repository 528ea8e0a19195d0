# SPDX-License-Identifier: Apache-2.0
"""Films that stay open from one job to the next: an artist's next frame is of the same one.

Opening a film lists its packets and decodes its first picture, a tenth of a second for a short one.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from ..footage import Footage, open_footage

__all__ = ["forget_footage", "lent_footage"]

_MOST = 4
"""Films that are kept open."""
_Key = tuple[Path, int, int]
_kept: OrderedDict[_Key, Footage] = OrderedDict()


@contextlib.contextmanager
def lent_footage(path: Path) -> Iterator[Footage]:
    """The footage at a path, nobody else's inside the block.

    Args:
        path: a film, a folder of pictures or one picture; films are kept open afterwards.

    Raises:
        FootageError: as `open_footage`.
    """
    if not path.is_file():
        with open_footage(path) as footage:
            yield footage
        return
    status = path.stat()
    key = (path, status.st_mtime_ns, status.st_size)
    footage = _kept.pop(key, None)
    if footage is None:
        _drop_other_states(path)
        footage = open_footage(path)
    try:
        yield footage
    except BaseException:
        footage.close()  # its decoder may stand anywhere
        raise
    _kept[key] = footage
    while len(_kept) > _MOST:
        _kept.popitem(last=False)[1].close()


def forget_footage() -> None:
    """Close all films."""
    while _kept:
        _kept.popitem()[1].close()


def _drop_other_states(path: Path) -> None:
    """Close what was opened before a file changed."""
    for key in [key for key in _kept if key[0] == path]:
        _kept.pop(key).close()
