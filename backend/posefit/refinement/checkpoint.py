# SPDX-License-Identifier: Apache-2.0
"""What is done of a refinement, kept so that another process can go on from it.

A refinement makes keypoints, then the clip's one shape and camera, then its windows, each of them
once and in no other order than it likes. Whatever of this lies in a checkpoint is not made again,
and the numbers are the same to the bit: arrays go in and out as they are. That is how a batch goes
on in the middle of a clip after a kill, and how a cluster divides one (`batch.chunks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from ..body import PoseParameters
from ..keypoints.detection import Keypoints
from ..records import Arrays, Records
from .observation import LookFigures
from .parts import Part
from .shared_errors import Expectation

__all__ = ["Checkpoint", "Shared"]

_Record = TypeVar("_Record")
_PARTS_OF = {
    "parameters": PoseParameters,
    "reference": PoseParameters,
    "expectation": Expectation,
    "before": LookFigures,
    "after": LookFigures,
}
"""Fields that are records themselves."""


@dataclass(frozen=True)
class Shared:
    """What the frames of a clip have in common, found before its windows."""

    betas: Float[Tensor, "frame beta"]
    """The person's shape."""
    camera: Float[Tensor, "frame 2"] | None = None
    """Focal length and lens beside the given ones; None: as given."""


class Checkpoint:
    """What is done of one person's refinement.

    Args:
        records: where it is kept; what is put there is kept at once. None keeps nothing.
        prefix: of the names of this person's records.
    """

    def __init__(self, records: Records | None = None, prefix: str = "") -> None:
        self._keeps = records is not None
        self._records: Records = {} if records is None else records
        self._prefix = prefix

    def keypoints(self, view: int) -> Keypoints | None:
        """What the detector saw in a view."""
        arrays = self._records.get(f"{self._prefix}keypoints-{view}")
        return None if arrays is None else Keypoints(**arrays)

    def keep_keypoints(self, view: int, keypoints: Keypoints) -> None:
        """Add what the detector saw."""
        self._keep(f"keypoints-{view}", keypoints)

    def shared(self, device: torch.device) -> Shared | None:
        """The clip's shape and camera."""
        arrays = self._records.get(f"{self._prefix}shared")
        return None if arrays is None else record_of_arrays(Shared, arrays, device)

    def keep_shared(self, shared: Shared) -> None:
        """Add the clip's shape and camera."""
        self._keep("shared", shared)

    def has_window(self, window: int) -> bool:
        """Whether a window is done."""
        return f"{self._prefix}window-{window}" in self._records

    def window(self, window: int, device: torch.device) -> Part | None:
        """A window that is done."""
        arrays = self._records.get(f"{self._prefix}window-{window}")
        return None if arrays is None else record_of_arrays(Part, arrays, device)

    def keep_window(self, window: int, part: Part) -> None:
        """Add a window."""
        self._keep(f"window-{window}", part)

    def _keep(self, name: str, record: Any) -> None:
        if self._keeps:
            self._records[self._prefix + name] = arrays_of_record(record)


def arrays_of_record(record: Any) -> Arrays:
    """A dataclass of tensors, numbers and such dataclasses as arrays; fields that are None are left
    out, fields of fields are `field.field`."""
    arrays: Arrays = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if is_dataclass(value):
            inside = arrays_of_record(value)
            arrays.update({f"{field.name}.{name}": one for name, one in inside.items()})
        elif value is not None:
            tensor = isinstance(value, Tensor)
            arrays[field.name] = value.detach().cpu().numpy() if tensor else np.asarray(value)
    return arrays


def record_of_arrays(
    kind: type[_Record], arrays: Mapping[str, npt.NDArray[Any]], device: torch.device
) -> _Record:
    """What `arrays_of_record` was given, its tensors on the device; rows of a clip stay here."""
    values: dict[str, Any] = {}
    for field in fields(kind):  # pyright: ignore[reportArgumentType]
        name = field.name
        if name in arrays:
            array = arrays[name]
            is_number = array.ndim == 0
            where = "cpu" if name == "rows" else device
            values[name] = array.item() if is_number else torch.tensor(array, device=where)
            continue
        start = f"{name}."
        inside = {key[len(start) :]: one for key, one in arrays.items() if key.startswith(start)}
        if inside:
            values[name] = record_of_arrays(_PARTS_OF[name], inside, device)
    return kind(**values)
