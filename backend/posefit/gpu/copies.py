# SPDX-License-Identifier: Apache-2.0
"""Many tensors copied by few launches: a GPU is told of each copy in several microseconds.

Small ones of a type go together; large ones, whose copying takes longer than the telling, and those
that are not contiguous go alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["Packed", "copy_all"]

_LARGE = 1 << 18
"""Elements of a tensor that is copied alone: in a packed copy it would keep its neighbours' memory,
or they its."""
_ALIGNED = 64
"""Elements that a packed tensor's place is a multiple of: kernels read it in vectors."""


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Writes each source into its target.

    Args:
        targets: of the sources' shapes and types.
        sources: with any strides.
    """
    groups: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for target, source in zip(targets, sources, strict=True):
        if target.is_contiguous() and source.is_contiguous() and target.dtype == source.dtype:
            if target.numel():
                into, out_of = groups.setdefault(target.dtype, ([], []))
                into.append(target)
                out_of.append(source)
        else:
            target.copy_(source)
    for into, out_of in groups.values():
        torch._foreach_copy_(into, out_of)  # pyright: ignore[reportPrivateImportUsage]


class Packed:
    """Tensors whose copies are asked for again and again."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        """Works out where each one's copy will lie.

        Args:
            tensors: what they hold may change, where they lie may not.
        """
        self._tensors = list(tensors)
        self._alone: list[int] = []
        groups: dict[tuple[torch.dtype, torch.device], list[int]] = {}
        for place, one in enumerate(tensors):
            if one.is_contiguous() and 0 < one.numel() <= _LARGE:
                groups.setdefault((one.dtype, one.device), []).append(place)
            else:
                self._alone.append(place)
        self._groups = [
            (key, places, *_layout([tensors[place] for place in places]))
            for key, places in groups.items()
        ]

    def copies(self) -> Iterator[Tensor]:
        """What the tensors hold now, each in memory that is nobody else's; in order."""
        result: list[Tensor | None] = [None] * len(self._tensors)
        for place in self._alone:
            result[place] = self._tensors[place].clone()
        for (dtype, device), places, total, layout in self._groups:
            memory = torch.empty(total, dtype=dtype, device=device)
            copies = [memory.as_strided(*where) for where in layout]
            sources = [self._tensors[place] for place in places]
            torch._foreach_copy_(copies, sources)  # pyright: ignore[reportPrivateImportUsage]
            for place, copy in zip(places, copies, strict=True):
                result[place] = copy
        return iter([one for one in result if one is not None])


def _layout(tensors: Sequence[Tensor]) -> tuple[int, list[tuple]]:
    """Elements in all, and each tensor's shape, strides and first element."""
    first, layout = 0, []
    for one in tensors:
        layout.append((one.shape, one.stride(), first))
        first += math.ceil(one.numel() / _ALIGNED) * _ALIGNED
    return first, layout
