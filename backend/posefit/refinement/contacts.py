# SPDX-License-Identifier: Apache-2.0
"""Which points of the body touch the ground or an object, read off an estimate of the motion.

Step in the path: between two rounds of a refinement, when jitter is gone. The solver
(`solver.contacts`) then holds what was found. A sole touches where it is slow and low; a hand
where it is all but still. One camera hardly knows how fast a point moves along its view, so speed
along the view counts for less. A touch begins under a strict bound and ends above a lax one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..body import BodyModel, PoseParameters, pose_vertices
from ..body_model import kept_with_body
from ..solver import Contacts

__all__ = ["ContactPoints", "ContactRules", "contact_points", "estimate_ground", "find_contacts"]


@dataclass(frozen=True)
class ContactRules:
    """When a point counts as touching."""

    smoothing_s: float = 0.05
    """σ in seconds of the Gaussian that positions are averaged with before speeds are taken."""
    begin_speed: float = 0.25
    """m/s below which a sole's touch begins."""
    end_speed: float = 0.45
    """m/s above which it ends."""
    along_view: float = 0.4
    """Share of the speed along the first camera's view that counts."""
    begin_height_m: float = 0.06
    """Metres above the ground below which a sole's touch begins."""
    end_height_m: float = 0.10
    """Metres above the ground above which it ends."""
    hand_speed: float = 0.06
    """m/s below which a hand's touch begins; it ends at twice that."""
    least_s: float = 0.1
    """Seconds that a sole touches at least."""
    least_hand_s: float = 0.4
    """Seconds that a hand touches at least: a hand may rest in the air for a moment."""


@dataclass(frozen=True)
class ContactPoints:
    """Points of a body that may touch something."""

    vertex_indices: Int[Tensor, " point"]
    is_sole: Bool[Tensor, " point"]
    """Soles; the others are palms."""
    clearance: Float[Tensor, " point"]
    """Metres that a level sole's point is above the sole's lowest one; 0 for palms."""


_FRAMES_AT_ONCE = 256
_SOLES = (("L_Ankle", "L_Foot"), ("R_Ankle", "R_Foot"))
_PALMS = (("L_Wrist", "L_Hand"), ("R_Wrist", "R_Hand"))


@kept_with_body
def contact_points(body: BodyModel) -> ContactPoints:
    """Heel and both sides of the ball of each foot, and the middle of each palm.

    They are found in the rest pose, where soles are level (y up, z forward), so any SMPL-family
    body has them.

    Args:
        body: the body model.
    """
    names = body.joint_names
    owner = body.lbs_weights.argmax(1)
    chosen: list[int] = []
    clearances: list[float] = []
    for joints in _SOLES:
        toe = names.index(joints[1])
        own = _owned(owner, names, joints)
        rest = body.v_template[own]
        floor = float(rest[:, 1].min())
        is_ball = (rest[:, 2] - body.joint_template[toe, 2]).abs() < 0.025
        middle = (rest[is_ball, 0].min() + rest[is_ball, 0].max()) / 2.0
        is_rear = rest[:, 2] < torch.quantile(rest[:, 2], 0.15)
        sides = (is_ball & (rest[:, 0] < middle), is_ball & (rest[:, 0] >= middle))
        for region in (is_rear, *sides):
            lowest = int(own[region][rest[region, 1].argmin()])
            chosen.append(lowest)
            clearances.append(float(body.v_template[lowest, 1]) - floor)
    soles = len(chosen)
    for joints in _PALMS:
        # SMPL-H and SMPL-X have fingers in place of one hand joint: the wrist's own part serves.
        own = _owned(owner, names, [name for name in joints if name in names])
        middle = body.v_template[own].mean(0)
        chosen.append(int(own[(body.v_template[own] - middle).norm(dim=1).argmin()]))
    device = body.v_template.device
    is_sole = torch.arange(len(chosen), device=device) < soles
    clearance = torch.zeros(len(chosen), device=device)
    clearance[:soles] = torch.tensor(clearances, device=device)
    return ContactPoints(torch.tensor(chosen, device=device), is_sole, clearance)


def _owned(owner: Tensor, names: Sequence[str], joints: Sequence[str]) -> Int[Tensor, " vertex"]:
    own = torch.tensor([names.index(name) for name in joints], device=owner.device)
    return torch.isin(owner, own).nonzero()[:, 0]


def find_contacts(
    body: BodyModel,
    parameters: PoseParameters,
    times: Float[Tensor, " frame"],
    *,
    ground: Float[Tensor, " 4"] | None = None,
    up_is_known: bool = True,
    world_to_camera: Float[Tensor, "frame 4 4"] | None = None,
    points: ContactPoints | None = None,
    rules: ContactRules | None = None,
) -> Contacts:
    """Touching points of a motion.

    Args:
        body: the body model.
        parameters: the motion, already smooth, in a world that does not move with the camera.
        times: seconds of each frame, increasing.
        ground: plane n·x + d = 0, n upwards; estimated from the soles if None and up is known.
        up_is_known: z points up in the world.
        world_to_camera: the first camera, if any: what it cannot see counts for less.
        points: from `contact_points`, if at hand.
        rules: thresholds.

    Returns:
        Contacts for `solver.solve`. Their ground is the one given, or None: an estimated one says
        what touches, but is no better than the feet that it came from.
    """
    points, rules = points or contact_points(body), rules or ContactRules()
    # A handful of points: the host is done before a GPU has been told what to do.
    positions = pose_vertices(body, parameters, points.vertex_indices).double().cpu()
    times, sole, clearance = times.to(positions), points.is_sole.cpu(), points.clearance.cpu()
    plane = None if ground is None else ground.cpu()
    positions[..., 2] -= clearance if up_is_known else 0.0
    smooth = _smoothed(positions, times, rules.smoothing_s)
    speed = _speed(smooth, times, world_to_camera, rules.along_view)
    if plane is None and up_is_known:
        plane = estimate_ground(smooth[:, sole], speed[:, sole])
    low = high = torch.ones_like(speed, dtype=torch.bool)
    if plane is not None:
        normal = plane[:3].to(positions)
        height = smooth @ normal + plane[3].to(positions)
        low, high = height < rules.begin_height_m, height < rules.end_height_m
    begins = torch.where(sole, (speed < rules.begin_speed) & low, speed < rules.hand_speed)
    lasts = torch.where(sole, (speed < rules.end_speed) & high, speed < 2.0 * rules.hand_speed)
    least = torch.where(sole, rules.least_s, rules.least_hand_s)
    held = _with_hysteresis(begins, lasts, times, least)
    held = held.to(parameters.transl)
    return Contacts(
        points.vertex_indices,
        held,
        points.is_sole,
        points.clearance,
        None if ground is None else ground.to(body.device),
    )


def estimate_ground(
    soles: Float[Tensor, "frame point 3"], speed: Float[Tensor, "frame point"]
) -> Float[Tensor, " 4"] | None:
    """The level plane that slow soles stand on.

    Args:
        soles: metres, z up.
        speed: m/s.

    Returns:
        Plane n·x + d = 0, or None where soles that are slow lie at heights that differ by more
        than 20 cm, as on stairs: then height says nothing.
    """
    lowest, which = soles[..., 2].min(1)
    slow = speed.gather(1, which[:, None])[:, 0] < 0.3
    heights = lowest[slow] if bool(slow.any()) else lowest
    low, middle, high = torch.quantile(heights, heights.new_tensor([0.1, 0.5, 0.9]))
    if high - low > 0.2:
        return None
    return torch.stack([middle.new_zeros(()), middle.new_zeros(()), middle.new_ones(()), -middle])


def _smoothed(
    positions: Float[Tensor, "frame point 3"], times: Float[Tensor, " frame"], sigma_s: float
) -> Float[Tensor, "frame point 3"]:
    """Gaussian average over time, by local lines so that steady motion and the ends stay put."""
    reach = 3.0 * sigma_s
    parts = []
    for rows in torch.arange(len(times), device=times.device).split(_FRAMES_AT_ONCE):
        offset = times - times[rows, None]
        weight = torch.exp(-0.5 * (offset / sigma_s).square()) * (offset.abs() <= reach)
        total, slope = weight.sum(1), (weight * offset).sum(1)
        spread = (weight * offset.square()).sum(1)
        own = (total * spread - slope.square())[:, None]
        line = weight * (spread[:, None] - slope[:, None] * offset) / own.clamp_min(1e-12)
        share = torch.where(own > 1e-12, line, weight / total[:, None])
        parts.append(torch.einsum("rt,tpc->rpc", share, positions))
    return torch.cat(parts)


def _speed(
    positions: Float[Tensor, "frame point 3"],
    times: Float[Tensor, " frame"],
    world_to_camera: Float[Tensor, "frame 4 4"] | None,
    along_view: float,
) -> Float[Tensor, "frame point"]:
    """m/s over both neighbours; the part along the camera's view counts `along_view`."""
    if len(times) < 2:
        return positions.new_zeros(positions.shape[:2])
    (velocity,) = torch.gradient(positions, spacing=(times,), dim=0)
    if world_to_camera is None:
        return velocity.norm(dim=-1)
    matrix = world_to_camera.to(positions)
    centre = -(matrix[:, :3, :3].transpose(1, 2) @ matrix[:, :3, 3:])[..., 0]
    ray = torch.nn.functional.normalize(positions - centre[:, None], dim=-1)
    along = (velocity * ray).sum(-1, keepdim=True)
    across = velocity - along * ray
    return (across.square().sum(-1) + (along_view * along[..., 0]).square()).sqrt()


def _with_hysteresis(
    begins: Bool[Tensor, "frame point"],
    lasts: Bool[Tensor, "frame point"],
    times: Float[Tensor, " frame"],
    least_s: Float[Tensor, " point"],
) -> Bool[Tensor, "frame point"]:
    """Runs of `lasts` that hold some `begins` and are long enough."""
    held = torch.zeros_like(lasts)
    step = float(times.diff().median()) if len(times) > 1 else 0.0
    for point in range(lasts.shape[1]):
        edge = torch.nn.functional.pad(lasts[:, point].to(torch.int8), (1, 1)).diff()
        starts, stops = (edge == 1).nonzero()[:, 0], (edge == -1).nonzero()[:, 0]
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            duration = float(times[stop - 1] - times[start]) + step
            if duration >= float(least_s[point]) and bool(begins[start:stop, point].any()):
                held[start:stop, point] = True
    return held
