# SPDX-License-Identifier: Apache-2.0
"""What it is worth to know who stands in front: rendered people with somebody pasted before them.

    python benchmarks/other_people.py --output benchmarks/results/other_people.json

Pairs of people of the development set: the second one's pixels are laid over the first one's
pictures, 45 pixels beside the middle, at the size at which they were rendered (a little nearer).
Both start from simulated estimates. The first is refined without and with knowing of the second
(`--others`); errors are of vertices about the pelvis, after by before, over pairs.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from posefit.body import BodyModel, load_body, pose_body
from posefit.engine import refine_views
from posefit.footage import Footage
from posefit.parameters import parameters_of_sequence
from posefit.refinement.others import in_camera_of
from posefit.validation_set import ValidationSet, read_validation_set
from posefit.views import View, view_of_sequence
from posefit_shared.frames import project
from posefit_shared.sequence import Sequence
from posefit_shared.settings import RefineSettings

DATA = Path(__file__).parent / "data/development"
PAIRS = ((1, 0), (3, 7), (4, 5), (12, 13), (9, 15), (10, 6))
"""Who is refined, and who stands in front: those whose apparent size is 3 to 20% larger."""
BESIDE_PX = 45


class Pasted(Footage):
    """One person's pictures with another's pixels over them."""

    def __init__(self, dataset: ValidationSet, behind: int, front: int, shift: tuple[int, int]):
        self.path, self.fps = Path("pasted"), float(dataset.frame_rates[behind])
        self.size = dataset.image_size
        self._dataset, self._shift = dataset, shift
        self._rows = (dataset.frames_of(behind), dataset.frames_of(front))

    def __len__(self) -> int:
        return len(self._rows[0])

    def read(self, index: int) -> np.ndarray:
        """A picture."""
        image, other, mask = (
            self._dataset.image(int(self._rows[0][index])).copy(),
            self._dataset.image(int(self._rows[1][index])),
            self._dataset.mask(int(self._rows[1][index])) == 1,
        )
        width, height = self.size
        rows, columns = np.nonzero(mask)
        there = np.stack([rows + self._shift[1], columns + self._shift[0]])
        inside = (there >= 0).all(0) & (there < [[height], [width]]).all(0)
        image[there[0][inside], there[1][inside]] = other[rows[inside], columns[inside]]
        return image


def shifted(sequence: Sequence, shift: tuple[int, int]) -> Sequence:
    """The sequence seen by a camera whose pictures were moved."""
    intrinsics = sequence.intrinsics.copy()
    intrinsics[:, :2, 2] += shift
    return sequence.replace(intrinsics=intrinsics)


def place_beside(behind: Sequence, front: Sequence) -> tuple[int, int]:
    """How far the second one's pixels go so that they stand beside the first one's middle."""
    middle = len(behind) // 2
    ends = [project(one.camera(middle), one.trans[middle : middle + 1])[0][0]
            for one in (behind, front)]  # fmt: skip
    x, y = np.round(ends[0] - ends[1]).astype(int)
    return int(x) + BESIDE_PX, int(y)


def error_mm(body: BodyModel, found: Sequence, truth: Sequence) -> np.ndarray:
    """(T,) mean distance of vertices about the pelvis."""
    a, b = (pose_body(body, parameters_of_sequence(one, body)) for one in (found, truth))
    apart = (a.vertices - a.joints[:, :1]) - (b.vertices - b.joints[:, :1])
    return (1e3 * apart.norm(dim=-1).mean(1)).numpy()


def pair(dataset: ValidationSet, body: BodyModel, behind: int, front: int, level: str) -> dict:
    """Errors of one pair."""
    truth, start = dataset.truth(behind), dataset.start(level, behind)
    shift = place_beside(truth, dataset.truth(front))
    other = shifted(dataset.start(level, front), shift)
    view: View = replace(
        view_of_sequence(start, Pasted(dataset, behind, front, shift)), name="pasted"
    )
    errors = {"behind": behind, "front": front, "before_mm": error_mm(body, start, truth).mean()}
    for name, others in (("without", ()), ("with", in_camera_of(start, [other]))):
        done = refine_views(start, [view], body=body, settings=RefineSettings(), others=others)
        for what, sequence in (("found", done.found), ("kept", done.sequence)):
            errors[f"{name}_{what}_mm"] = error_mm(body, sequence, truth).mean()
    return {key: round(float(value), 2) for key, value in errors.items()}


def main() -> None:
    """Print each pair, and the ratios over all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=len(PAIRS))
    parser.add_argument("--level", default="typical")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    dataset, body = read_validation_set(DATA), load_body("free")
    rows = []
    for behind, front in PAIRS[: given.pairs]:
        rows.append(pair(dataset, body, behind, front, given.level))
        print(json.dumps(rows[-1]), flush=True)
    ratios = {
        name: round(sum(row[name] for row in rows) / sum(row["before_mm"] for row in rows), 3)
        for name in rows[0]
        if name.startswith("with")
    }
    print(json.dumps(ratios))
    if given.output is not None:
        given.output.write_text(json.dumps({"pairs": rows, "ratios": ratios}, indent=1) + "\n")


if __name__ == "__main__":
    main()
