# SPDX-License-Identifier: Apache-2.0
"""Settings of the solver: every field with its unit and why it has the value it has."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..gpu.upload import upload

__all__ = ["FocalMode", "ShapeMode", "SolverConfig", "Strengths"]

ShapeMode = Literal["sequence", "frame", "fixed"]
FocalMode = Literal["fixed", "sequence", "frame"]


@dataclass(frozen=True)
class SolverConfig:
    """How strongly each source of knowledge counts, and when to stop.

    All weights multiply squared, unit-free residuals (residual / its σ), so 1.0 always means
    "one independent observation of that σ".
    """

    # How far to go -----------------------------------------------------------------------------
    max_iterations: int = 8
    """Linearisations after the first. A refinement from a near pose needs 3 to 5."""
    tolerance: float = 1e-3
    """Relative fall of the cost below which a frame counts as converged; pose changes by then are
    well under a millimetre."""
    initial_damping: float = 1e-3
    """Marquardt factor on the Hessian's diagonal; small, as the start is near."""
    max_rotation_step: float = 0.5
    """Radians a joint may turn in one step. Beyond it the linearised rotation is meaningless."""
    max_translation_step_m: float = 0.5
    """Metres the root may move in one step."""
    max_shape_step: float = 1.0
    """Standard deviations a shape coefficient may move in one step."""
    chunk_frames: int | None = None
    """Frames linearised at once, which bounds memory (about 2.5 MB a frame at 1500 points); None
    takes 64 on a CPU and 512 on a GPU."""

    # Data ------------------------------------------------------------------------------------
    effective_points: float = 15.0
    """Total weight of one view's surface points, in independent points. Errors of neighbouring
    pixels are correlated: 15 to 50 was best in 3D, 150 worse than that."""
    map_points: float = 12.0
    """Total weight of one view's map from another tool (its outline, its correspondences), in
    independent points. With 30, clothes and hair pull the body about by its outline, and a tenth of
    starts that are good get worse under IUV maps."""
    scale_floor_px: float = 0.7
    """Added in quadrature to each predicted scale: no displacement is better than this."""
    robust_scale_factor: float = 2.5
    """A point's Geman–McClure scale: this times its own scale, plus `robust_scale_offset_px`."""
    robust_scale_offset_px: float = 2.0
    """Keeps the kernel wide for points that claim to be certain."""
    robust_widening: float = 1.0
    """Multiplies every robust scale. 1 near the answer; 10 or more to start from far away."""
    min_depth_m: float = 0.05
    """Points nearer to the camera's plane than this pull nothing."""

    # Shape -----------------------------------------------------------------------------------
    shape: ShapeMode = "sequence"
    """`sequence`: one betas for all frames; `frame`: each its own; `fixed`: betas stay."""
    shape_sigma: float = 1.0
    """σ of betas about 0, the body model's own distribution."""
    shape_reference_sigma: float = 1.0
    """σ of betas about the reference's betas, which is known beside that distribution: estimators
    tell one person's shape from another's about as badly as this."""

    # Pose ------------------------------------------------------------------------------------
    reference_weight: float = 1.0
    """Nearness to the reference (the original input). 0 switches it off."""
    reference_sigma_scale: float = 1.0
    """Multiplies the per-joint σ of `priors.REFERENCE_SIGMA_RAD`."""
    pose_prior_weight: float = 0.0
    """The learned pose mixture. Off for refinements (the reference knows more); 0.3 to 1 when
    estimating from scratch."""
    limit_weight: float = 1.0
    """Learned joint limits, one-sided. 0 switches them off."""
    limit_sigma: float = 0.02
    """Radians beyond a limit that cost 1; firm enough to win against a picture that bends a knee
    backwards, whose pull the robust kernel bounds."""

    self_penetration_weight: float = 1.0
    """Limbs going deeper into the body than the reference's. 0 switches it off."""
    self_penetration_sigma_m: float = 0.01
    """Metres deeper that cost 1: what the capsules are off by."""

    # Translation -------------------------------------------------------------------------------
    solve_translation: bool = True
    """False keeps `transl` as it came."""
    lateral_sigma_fraction: float = 0.03
    """σ of the pelvis across the view, as a fraction of its depth, about the reference."""
    depth_sigma_fraction: float = 0.02
    """σ of the pelvis along the view, as a fraction of its depth, about the reference. One camera
    hardly knows depth, and errors of a clip's frames go together: at 0.06 the body wandered."""
    translation_sigma_m: float = 0.1
    """σ of the pelvis about the reference where no camera says what depth is."""

    # Time ------------------------------------------------------------------------------------
    smoothness: float = 0.0
    """Weight of the acceleration penalty on joints and bone directions in the world. Above 0 all
    frames are solved as one window."""
    acceleration_sigma: float = 4.0
    """m/s² that a point at rest may have. 20 mm of jitter at 30 Hz is 44 m/s²."""
    acceleration_share: float = 4.0
    """Grows σ by this share of the acceleration that the point shows over `acceleration_span_s`
    when the solve begins, so that fast motion keeps its amplitude."""
    acceleration_span_s: float = 0.1
    """Seconds to either side over which that acceleration is measured: long enough to average
    jitter, short enough to see a punch."""
    acceleration_robust_factor: float = 4.0
    """Geman–McClure scale of an acceleration in σ: impacts and kicks survive."""
    bone_axis_length_m: float = 0.1
    """Lever that turns a joint's angular acceleration into metres."""

    # Contacts ----------------------------------------------------------------------------------
    contact_weight: float = 1.0
    """Multiplies all that contacts do."""
    contact_speed_sigma: float = 0.03
    """m/s that a point in touch may creep."""
    contact_robust_speed: float = 0.15
    """m/s at which the kernel lets go of a point: it was no contact."""
    ground_sigma_m: float = 0.03
    """Metres that a standing sole may be off the ground: shoes, carpets, and the body's own."""
    ground_robust_factor: float = 3.0
    """σ above the ground at which a sole that was said to stand is let go of."""

    # Camera ------------------------------------------------------------------------------------
    focal: FocalMode = "fixed"
    """`sequence`: one factor on the focal length for all frames; `frame`: each its own (a zoom
    that was not measured), with the shape fixed; `fixed`: focal lengths stay."""
    distortion: bool = False
    """Also solve for a radial coefficient of the lens, one for all frames, or one a frame with the
    focal length."""
    focal_sigma: float = 0.25
    """σ of the logarithm of the focal length about the given one: a guessed lens."""
    focal_frame_sigma: float = 0.05
    """The same where each frame has its own."""
    distortion_sigma: float = 0.1
    """σ of the radial coefficient about the given lens."""
    max_camera_step: float = 0.2
    """How far each of the camera's unknowns may move in one step."""

    # Report ------------------------------------------------------------------------------------
    posterior: bool = False
    """Also return each joint's posterior standard deviation."""

    def without_strengths(self) -> SolverConfig:
        """The settings apart from `Strengths`, which change from solve to solve."""
        return replace(
            self,
            reference_sigma_scale=1.0,
            depth_sigma_fraction=1.0,
            shape_reference_sigma=1.0,
            pose_prior_weight=1.0 if self.pose_prior_weight > 0 else 0.0,
        )

    @property
    def camera_unknowns(self) -> tuple[int, ...]:
        """Which of the camera's unknowns (`lens`) are solved for."""
        focal = (0,) if self.focal != "fixed" else ()
        return (*focal, 1) if self.distortion else focal

    @property
    def camera_columns(self) -> slice:
        """The same, as columns of both unknowns."""
        unknowns = self.camera_unknowns
        return slice(unknowns[0], unknowns[-1] + 1) if unknowns else slice(0)

    @property
    def camera_is_shared(self) -> bool:
        """The camera's unknowns are the same in all frames."""
        return bool(self.camera_unknowns) and self.focal != "frame"


@dataclass(frozen=True)
class Strengths:
    """Settings that follow from the input, as tensors: all solves of one kind can then be one
    recording (`gpu.graphs`)."""

    reference_sigma_scale: Float[Tensor, ""]
    depth_sigma_fraction: Float[Tensor, ""]
    shape_reference_sigma: Float[Tensor, ""]
    pose_prior_weight: Float[Tensor, ""]

    @classmethod
    def of(cls, config: SolverConfig, like: Tensor) -> Strengths:
        """Those of some settings, in another tensor's type and place."""
        names = [field.name for field in fields(cls)]
        values = np.array([getattr(config, name) for name in names])
        return cls(*upload(values, like.device).to(like.dtype).unbind())
