# SPDX-License-Identifier: Apache-2.0
"""What all footage is: numbered RGB frames of one size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import PosefitError
from ..picture_files import MAX_PIXELS

__all__ = ["DEFAULT_FPS", "MAX_FRAMES", "MAX_SIDE", "Footage", "FootageError", "RgbImage"]

RgbImage = npt.NDArray[np.uint8]

MAX_FRAMES = 1_000_000
"""Longest footage: nine hours at 30 frames a second."""
MAX_SIDE = 32_766
"""Longest side of a picture, pixels: OpenCV samples none that is longer."""
DEFAULT_FPS = 30.0
"""Rate of images, and of videos that state none."""


class FootageError(PosefitError, ValueError):
    """Footage that is missing, not footage, broken off or of another size; says what to do."""


class Footage(ABC):
    """Numbered RGB frames of one size."""

    path: Path
    """Where the footage lies."""
    size: tuple[int, int]
    """Width and height as shown (rotation applied), pixels."""
    fps: float
    """Frames per second."""
    remark: str = ""
    """What a message about its size should add; empty, or a clause that begins with `;`."""

    @abstractmethod
    def __len__(self) -> int:
        """How many frames there are."""

    @abstractmethod
    def read(self, index: int) -> RgbImage:
        """Frame `index` as (height, width, 3) RGB.

        Raises:
            FootageError: there is no such frame, or it cannot be decoded.
        """

    def decoded(self, index: int) -> Any:
        """Frame `index` as its decoder has it, for `shown`; both together are `read`.

        Raises:
            FootageError: as `read`.
        """
        return self.read(index)

    def shown(self, decoded: Any, index: int) -> RgbImage:
        """The picture of what `decoded` gave; may run in another thread than the decoder.

        Raises:
            FootageError: as `read`.
        """
        return decoded

    @property
    def times(self) -> npt.NDArray[np.float64]:
        """(T,) seconds of each frame from the first one."""
        return np.arange(len(self)) / self.fps

    @property
    def is_even(self) -> bool:
        """Whether all frames last equally long, so that `fps` says when each one is shown."""
        return True

    @property
    def key_frames(self) -> npt.NDArray[np.int64] | None:
        """Frames that can be reached without decoding others, rising; None: all of them."""
        return None

    def close(self) -> None:  # noqa: B027 - images hold nothing open
        """Let the file go; reading afterwards opens it again."""

    def __iter__(self) -> Iterator[RgbImage]:
        for index in range(len(self)):
            yield self.read(index)

    def __enter__(self) -> Footage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_index(self, index: int) -> None:
        if not 0 <= index < len(self):
            raise FootageError(
                f"{self.path.name} has frames 0 to {len(self) - 1}, frame {index} was asked for: "
                "check the frame range and offset"
            )


def check_pixels(name: str, width: int, height: int) -> None:
    """Refuse pictures that are none, or too large to be sampled.

    Raises:
        FootageError: says so, with the name.
    """
    if width <= 0 or height <= 0 or width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise FootageError(
            f"{name} is {width}×{height} pixels, expected 1 to {MAX_PIXELS // 10**6} megapixels "
            f"and no side beyond {MAX_SIDE}: scale it down"
        )
