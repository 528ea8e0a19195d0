# SPDX-License-Identifier: Apache-2.0
"""Pictures of a rendered set made unfit to see by: what a verdict must withstand.

The rendered sets show people who can be seen. Here most of the person is covered, blurred, dark,
behind somebody else, or not there at all, because the footage is another take. Which of these, by
person: the same every time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from posefit.footage import Footage
from posefit.validation_set import PERSON, ValidationSet

__all__ = ["KINDS", "SpoiltFootage", "kind_of_person"]

KINDS = ("covered", "blurred", "dark", "behind another", "another take")
Image = npt.NDArray[np.uint8]


def kind_of_person(person: int) -> str:
    """How a person's pictures are spoilt."""
    return KINDS[person % len(KINDS)]


@dataclass
class SpoiltFootage(Footage):
    """A person's pictures, spoilt."""

    dataset: ValidationSet
    person: int
    fps: float
    path: object = field(init=False)
    size: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.path = self.dataset.footage_folder(self.person)
        self.size = self.dataset.image_size

    def __len__(self) -> int:
        return len(self.dataset.frames_of(self.person))

    def read(self, index: int) -> Image:
        """One frame."""
        self._check_index(index)
        frame = int(self.dataset.frames_of(self.person)[index])
        random = np.random.default_rng([self.person, index])
        image = self.dataset.image(frame)
        seen = self.dataset.mask(frame) == PERSON
        return _SPOIL[kind_of_person(self.person)](self, image, seen, index, random)

    def _covered(self, image: Image, seen, index: int, random: np.random.Generator) -> Image:
        """Three quarters of the person lie behind a patterned board."""
        rows, columns = np.nonzero(seen)
        if not len(rows):
            return image
        side = np.random.default_rng(self.person).integers(4)
        part = (rows, columns)[side % 2]
        edge = np.quantile(part, 0.75 if side < 2 else 0.25)
        line = np.arange(image.shape[side % 2])
        hidden = line <= edge if side < 2 else line >= edge
        board = _board(image.shape, np.random.default_rng(100 + self.person))
        hidden = hidden[:, None] if side % 2 == 0 else hidden[None]
        return np.where(np.broadcast_to(hidden, image.shape[:2])[..., None], board, image)

    def _blurred(self, image: Image, seen, index: int, random: np.random.Generator) -> Image:
        return _noisy(cv2.GaussianBlur(image, (0, 0), 9.0), 4.0, random)

    def _dark(self, image: Image, seen, index: int, random: np.random.Generator) -> Image:
        return _noisy(image * 0.05, 5.0, random)

    def _behind_another(self, image: Image, seen, index: int, random: np.random.Generator) -> Image:
        """The next person of the set stands in front, a little aside."""
        other_image, other_seen = self._other(index)
        rows, columns = np.nonzero(seen)
        other_rows, other_columns = np.nonzero(other_seen)
        if not len(rows) or not len(other_rows):
            return image
        width = columns.max() - columns.min()
        shift = (
            int(rows.mean() - other_rows.mean()),
            int(columns.mean() - other_columns.mean() + 0.2 * width),
        )
        moved_rows, moved_columns = other_rows + shift[0], other_columns + shift[1]
        height, wide = image.shape[:2]
        inside = (
            (moved_rows >= 0)
            & (moved_rows < height)
            & (moved_columns >= 0)
            & (moved_columns < wide)
        )
        result = image.copy()
        result[moved_rows[inside], moved_columns[inside]] = other_image[
            other_rows[inside], other_columns[inside]
        ]
        return result

    def _another_take(self, image: Image, seen, index: int, random: np.random.Generator) -> Image:
        return self._other(index)[0]

    def _other(self, index: int) -> tuple[Image, npt.NDArray[np.bool_]]:
        people = len(self.dataset.people)
        frames = self.dataset.frames_of((self.person + 1) % people)
        frame = int(frames[index % len(frames)])
        return self.dataset.image(frame), self.dataset.mask(frame) == PERSON


def _board(shape: tuple[int, ...], random: np.random.Generator) -> Image:
    small = random.integers(0, 256, (9, 9, 3)).astype(np.uint8)
    return cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def _noisy(image: npt.NDArray, sigma: float, random: np.random.Generator) -> Image:
    return (image + random.normal(0.0, sigma, image.shape)).clip(0, 255).astype(np.uint8)


_SPOIL = {
    "covered": SpoiltFootage._covered,
    "blurred": SpoiltFootage._blurred,
    "dark": SpoiltFootage._dark,
    "behind another": SpoiltFootage._behind_another,
    "another take": SpoiltFootage._another_take,
}
