# SPDX-License-Identifier: Apache-2.0
"""How much of a frame's change to believe: a small calibrated model of its signs.

Let e be what is wrong with the input and δ the change, both over the vertices. Of δ the share
b = ⟨e, δ⟩ / |δ|² is right: taking the step α δ leaves |e|² − 2 α b |δ|² + α² |δ|², least at α = b
and worse than the input beyond α = 2 b. The gate predicts b from the signs by linear regression,
keeps a margin for the spread of its errors, and takes no step where little is left. It was fitted
on the development set (benchmarks/fit_gate.py), one gate for each source of evidence.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .signs import FrameSigns

__all__ = ["Gate", "SourceName", "features", "load_gates"]

_ASSET = "assets/gate/gates.json"
_NOISE_M = 0.003
"""Errors smaller than this are alike: ratios are taken of errors beside it."""

SourceName = Literal["net", "net-fast", "keypoints"]
"""What was seen of the pictures: each has a gate of its own. Where a network looked, it judges."""
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Gate:
    """A fitted model; all numbers come from its file."""

    names: tuple[str, ...]
    """Features that it looks at, the constant first."""
    weights: tuple[float, ...]
    """Of the features: their sum is the share that is expected to be right."""
    spread: float
    """Standard deviation of the right share about that sum."""
    margin: float
    """How many spreads are taken off."""
    least_step: float
    """Steps smaller than this are not taken."""

    def right_share(self, signs: FrameSigns) -> Array:
        """(T,) expected share of each frame's change that is right; NaN without signs."""
        columns = features(signs)
        return np.stack([columns[name] for name in self.names], 1) @ np.array(self.weights)

    def steps(self, signs: FrameSigns) -> Array:
        """(T,) how much of each frame's change to take, 0 to 1."""
        return self.steps_of(self.right_share(signs))

    def steps_of(self, right_share: Array) -> Array:
        """(T,) the same from the share that is expected to be right; none where that is NaN."""
        sure = right_share - self.margin * self.spread
        step = np.nan_to_num(sure, nan=0.0).clip(0.0, 1.0)
        return np.where(step < self.least_step, 0.0, step)


def features(signs: FrameSigns) -> dict[str, Array]:
    """Numbers of about 1 that gates are linear in, (T,) each."""
    before, after = _array(signs.error_before_m), _array(signs.error_after_m)
    change = _array(signs.change_m)
    result = {
        "one": np.ones(len(before)),
        "agreement": np.log((after + _NOISE_M) / (before + _NOISE_M)),
        "after": np.log((after + _NOISE_M) / 0.02),
        "size": np.log((change + _NOISE_M) / (before + _NOISE_M)),
        "depth": _array(signs.depth_share),
        "sigma": np.log(_array(signs.joint_sigma).clip(1e-3, 3.0) / 0.15),
        "scale": np.log(_array(signs.input_scale).clip(0.05, 5.0)),
        "usual": np.log(_array(signs.unusual_after) / _array(signs.unusual_before)),
    }
    if signs.withheld_before_m is not None and signs.withheld_after_m is not None:
        held = _array(signs.withheld_after_m) + _NOISE_M
        held_before = _array(signs.withheld_before_m) + _NOISE_M
        # Patches may show nothing of a small or hidden person: then they say what the look says.
        result["withheld"] = np.where(
            np.isfinite(held), np.log(held / held_before), result["agreement"]
        )
    if signs.doubt_m is not None and signs.seen_share is not None:
        result["doubt"] = np.log((_array(signs.doubt_m) + _NOISE_M) / 0.02)
        result["seen"] = _array(signs.seen_share)
    return result


@lru_cache(maxsize=1)
def load_gates() -> dict[SourceName, Gate]:
    """The gates that ship with the project, by source of evidence."""
    text = resources.files("posefit").joinpath(_ASSET).read_text()
    return {
        name: Gate(
            tuple(values["names"]),
            tuple(values["weights"]),
            values["spread"],
            values["margin"],
            values["least_step"],
        )
        for name, values in json.loads(text)["gates"].items()
    }


def _array(values: Tensor) -> Array:
    return torch.as_tensor(values).double().cpu().numpy()
