# SPDX-License-Identifier: Apache-2.0
"""How a refinement goes about it: everything that was chosen on the development set.

What a user may ask for is `RefineSettings`; this is what they need not know. Every number here
comes from a row of `benchmarks/refinement_choices.py` (docs/refinement.md), never from the
validation set.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["InputTrust", "Method", "SharedErrors", "TwistSearch"]


@dataclass(frozen=True)
class InputTrust:
    """How far the input may be off, from what the first look says."""

    noise_m: float = 0.004
    """What the looks say of bodies that are right: their own error, metres on the person."""
    scale_per_m: float = 22.0
    """Scale of the priors' σ for each metre of input error beyond the noise."""
    least: float = 0.15
    """Smallest scale of σ: the input of a clip that looks right is hardly left."""
    largest: float = 1.2
    """Largest scale of σ."""

    def scale(self, error_m: float) -> float:
        """The factor of all σ about the input for inputs that look this wrong."""
        return min(max(self.scale_per_m * (error_m - self.noise_m), self.least), self.largest)


@dataclass(frozen=True)
class SharedErrors:
    """How the errors of an input's frames go together: shares of a joint's variance."""

    constant: float = 0.4
    """The same in all frames."""
    drifting: float = 0.3
    """Changes slowly; what remains is each frame's own."""
    drift_seconds: float = 1.0
    """Time over which the drifting part forgets, by a factor e."""


@dataclass(frozen=True)
class TwistSearch:
    """What finds segments that are turned about their bones, and when it is believed."""

    before_rounds: tuple[int, ...] = (0,)
    """Rounds before which is searched; the first is 0."""
    picture_weight: float = 0.4
    """Of each pair of frames' agreement, in nats of independent pixels; 0: anatomy alone."""
    picture_doubt: float = 0.5
    """Share of pairs that show something else than the same skin."""
    most_of_pictures: float = 4.0
    """Nats that all pictures together may say for or against a turn."""
    anatomy_weight: float = 0.5
    """Of the learned mixture's limbs; 0: pictures alone."""
    least_share: float = 0.7
    """Probability of the turn, give or take 10°, from which on it is taken."""
    least_odds: float = 3.0
    """Nats by which it must be likelier than no turn."""


@dataclass(frozen=True)
class Method:
    """Choices of the refinement; the defaults are the chosen ones."""

    trust: InputTrust | None = field(default_factory=InputTrust)
    """None: every input may be as wrong as the solver's σ say."""
    shared: SharedErrors | None = field(default_factory=SharedErrors)
    """What frames learn from each other's corrections; None: nothing."""
    pose_prior_weight: float = 0.15
    """Of the learned mixture of poses, by the scale of the input's σ: an input that is right knows
    more than the mixture does."""
    effective_points: float = 30.0
    """Weight of a view's surface points, in independent ones."""
    depth_sigma_fraction: float = 0.04
    """σ of the pelvis along the view, as a fraction of its depth, by the scale of the input's σ."""
    shape_reference_sigma: float = 1.0
    """σ of the shape about the input's, in the body model's standard deviations, by the scale of
    the input's σ; the model's own distribution is known beside it."""
    crop_margin: float = 1.3
    """Side of the crop by that of the body's bounds."""
    keypoint_sigma: float = 0.02
    """σ of a detector's landmark, as a share of the person's height in the picture."""
    keypoint_weight: float = 0.1
    """Of each landmark beside displacement."""
    twists: TwistSearch | None = field(default_factory=TwistSearch)
    """Search for segments turned about their bones; None: there is none."""
    one_shape: bool = True
    """One shape for all frames; otherwise each frame its own, for comparison."""
