# SPDX-License-Identifier: Apache-2.0
"""What a user can ask of a refinement: one record for command line, wire and Blender."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

__all__ = ["RefineSettings", "SettingsError"]


Displacement = Literal["auto", "net", "net-large", "net-fast", "flow", "none"]


class SettingsError(ValueError):
    """A setting outside its range; the message says which and what was expected."""


@dataclass(frozen=True)
class RefineSettings:
    """How one sequence is refined. Every field has the default that suits most clips."""

    displacement: Displacement = "auto"
    """Displacement estimator: the learned one (`net`, which is the large network; `net-fast` is a
    quicker, less exact one for CPUs) where its weights are installed, or optical flow."""
    keypoints: bool = True
    """Also use the detector's 2D keypoints as evidence."""
    rounds: int = 2
    """Rounds of render, predict and solve."""
    solver_iterations: int = 8
    """Levenberg–Marquardt iterations in each round, at most."""
    crop_size: int = 256
    """Side of the square crop that the network sees, pixels."""
    refine_shape: bool = True
    """Whether the one shape of the sequence may change."""
    refine_translation: bool = True
    """Whether the root may move."""
    refine_focal: Literal["off", "clip", "frame"] = "off"
    """Also find the focal length: one for the clip, or one a frame (a zoom not measured)."""
    refine_distortion: bool = False
    """Also find a radial coefficient of the lens (k1), one for the clip."""
    prior_weight: float = 1.0
    """Multiplies the pull towards the input pose; 0 trusts the picture alone."""
    pose_prior_weight: float = 0.0
    """Multiplies the learned prior of likely poses; 0 leaves it to the input."""
    smoothness: float = 1.0
    """Multiplies the penalty on joint accelerations; 0 solves every frame on its own."""
    contacts: bool = True
    """Hold feet and hands that touch something, where the world is known to stand still: the
    sequence has gravity, a camera for each frame, or several cameras."""
    influence: float = 1.0
    """0 gives back the input, 1 the refined pose, between them a blend."""
    texture_exclusion_seconds: float = 0.25
    """Frames nearer in time than this never paint the texture that a frame is compared with."""
    window_frames: int = 128
    """Frames solved together."""
    window_overlap: int = 16
    """Frames that neighbouring windows share."""

    def __post_init__(self) -> None:
        _choice("displacement", self.displacement, get_args(Displacement))
        _choice("refine_focal", self.refine_focal, ("off", "clip", "frame"))
        for name, low, high in (
            ("rounds", 1, 10),
            ("solver_iterations", 1, 100),
            ("crop_size", 64, 1024),
            ("prior_weight", 0.0, 1000.0),
            ("pose_prior_weight", 0.0, 1000.0),
            ("smoothness", 0.0, 1000.0),
            ("influence", 0.0, 1.0),
            ("texture_exclusion_seconds", 0.0, 60.0),
            ("window_frames", 4, 4096),
            ("window_overlap", 0, 512),
        ):
            _between(name, getattr(self, name), low, high)
        if self.crop_size % 32:
            raise SettingsError(f"crop_size is {self.crop_size}, expected a multiple of 32")
        if 2 * self.window_overlap > self.window_frames:
            raise SettingsError(
                f"window_overlap is {self.window_overlap}, expected at most half of window_frames "
                f"({self.window_frames})"
            )

    def to_map(self) -> dict[str, Any]:
        """The settings as plain values."""
        return asdict(self)

    @classmethod
    def from_map(cls, values: dict[str, Any]) -> RefineSettings:
        """Settings from plain values; unknown ones are left alone, missing ones take the default.

        Raises:
            SettingsError: a value is of the wrong kind or outside its range.
        """
        known = {}
        for field in fields(cls):
            if field.name not in values:
                continue
            value, default = values[field.name], field.default
            if (
                isinstance(default, float)
                and isinstance(value, int)
                and not isinstance(value, bool)
            ):
                value = float(value)
            if type(value) is not type(default):
                raise SettingsError(f"{field.name} is {value!r}, expected a value like {default!r}")
            known[field.name] = value
        return cls(**known)


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SettingsError(f"{name} is {value!r}, expected one of {', '.join(allowed)}")


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also refuses NaN
        raise SettingsError(f"{name} is {value}, expected {low} to {high}")
