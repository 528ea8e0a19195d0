# SPDX-License-Identifier: GPL-3.0-or-later
"""Garments, shoes, hair and bags for one person: what `drape` puts on the body.

All of it is made here, out of the body's own surface or from simple tubes: no piece is one of the
garments that training data is made with.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .body_map import HEAD, LEG_JOINTS, BodyMap
from .drape import Piece, cut_piece, rigid_piece

__all__ = [
    "backpack", "bottom", "brim", "bun", "hair_cap", "long_hair", "shoes", "skirt", "socks", "top",
]  # fmt: skip

Array = npt.NDArray[np.float64]


def top(
    body: BodyMap,
    material: dict,
    *,
    sleeve: float,
    hem: float,
    neck: float = 0.03,
    neck_slope: float = 0.6,
    ease_m: float = 0.008,
    drape: float = 0.6,
    wrinkle_m: float = 0.004,
    name: str = "top",
) -> Piece:
    """A shirt, jersey, pullover or jacket.

    Args:
        body: who wears it.
        material: how it looks.
        sleeve: end of the sleeves as an arm coordinate (1 elbow, 2 wrist; below 0.1: none).
        hem: its lower border, metres above the hip joints.
        neck: the collar, metres above the neck joint.
        neck_slope: how much lower the collar is in front.
        ease_m: distance from the skin.
        drape: 0 clings, 1 hangs straight down from the chest and along the arms.
        wrinkle_m: height of folds.
        name: the piece's name.
    """
    rest, joints = body.rest, body.joints
    hip, neck_joint = joints[[1, 2], 1].mean(), joints[12]
    arm_end = np.interp(sleeve, [-1, 0, 1, 2], [0, *_arm_stations(body)])
    region = np.minimum.reduce(
        [
            rest[:, 1] - (hip + hem),
            (arm_end - np.abs(rest[:, 0])),
            neck_joint[1] + neck - rest[:, 1] - neck_slope * (rest[:, 2] - neck_joint[2]),
        ]
    )
    offset = body.normals * ease_m + drape * (_hang_from_chest(body) + _widen_sleeves(body))
    return cut_piece(name, body, region, offset, material, wrinkle_m=wrinkle_m)


def bottom(
    body: BodyMap,
    material: dict,
    *,
    leg: float,
    waist: float = 0.10,
    ease_m: float = 0.006,
    drape: float = 0.6,
    wrinkle_m: float = 0.003,
    flare: float = 0.0,
    name: str = "bottom",
) -> Piece:
    """Trousers, shorts or leggings.

    Args:
        body: who wears it.
        material: how it looks.
        leg: end of the legs as a leg coordinate (1 knee, 2 ankle).
        waist: upper border, metres above the hip joints.
        ease_m: distance from the skin.
        drape: 0 clings, 1 is as wide as the thigh all the way down.
        wrinkle_m: height of folds.
        flare: metres by which each coordinate step widens the leg.
        name: the piece's name.
    """
    hip, knee, ankle = (body.joints[[i, i + 1], 1].mean() for i in (1, 4, 7))
    end = np.interp(leg, [0, 1, 2, 3], [hip, knee, ankle, 2 * ankle - knee])
    region = np.minimum(hip + waist - body.rest[:, 1], body.rest[:, 1] - end)
    offset = body.normals * ease_m + _widen_legs(body, drape, flare)
    return cut_piece(name, body, region, offset, material, wrinkle_m=wrinkle_m)


def shoes(body: BodyMap, material: dict, *, height: float = 0.01, ease_m: float = 0.016) -> Piece:
    """Shoes with flat soles up to `height` metres above the ankle joints."""
    ankle, floor = body.joints[[7, 8], 1].mean(), body.rest[:, 1].min()
    region = ankle + height - body.rest[:, 1]
    offset = body.normals * ease_m
    low = np.clip(1 - (body.rest[:, 1] - floor) / 0.03, 0, 1)
    offset[:, 1] = offset[:, 1] * (1 - low) + low * (floor - 0.018 - body.rest[:, 1])
    return cut_piece(
        "shoes", body, region, offset, material, hide_margin_m=0.008, smoothing=14, clearance_m=-1.0
    )


def socks(body: BodyMap, material: dict, *, height: float) -> Piece:
    """Socks up to `height` metres above the ankle joints."""
    region = body.joints[[7, 8], 1].mean() + height - body.rest[:, 1]
    return cut_piece(
        "socks", body, region, body.normals * 0.004, material, smoothing=1, clearance_m=0.002
    )


def skirt(
    body: BodyMap,
    material: dict,
    *,
    waist: float = 0.12,
    length: float = 0.55,
    flare: float = 0.25,
    columns: int = 72,
    rows: int = 26,
) -> Piece:
    """A tube around both legs.

    Args:
        body: who wears it.
        material: how it looks.
        waist: upper border, metres above the hip joints.
        length: from there to the hem, metres.
        flare: metres of radius gained by each metre of length.
        columns: vertices around.
        rows: vertices down.
    """
    hip = body.joints[[1, 2], 1].mean()
    inside = (body.arm_share < 0.2) & (body.weights[:, HEAD] < 0.1)
    points = body.rest[inside]
    middle = np.array([0.0, points[np.abs(points[:, 1] - hip) < 0.1, 2].mean()])
    angles = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    around = np.stack([np.sin(angles), np.cos(angles)], 1)
    heights = hip + waist - np.linspace(0, length, rows)
    radius = np.zeros((rows, columns))
    for row, height in enumerate(heights):
        slab = points[np.abs(points[:, 1] - height) < 0.025][:, [0, 2]] - middle
        reach = (slab @ around.T).max(0) if len(slab) else 0.0
        before = radius[row - 1] + flare * length / rows if row else 0.0
        radius[row] = np.maximum(np.maximum(reach + 0.008, before), 0.05)
    pleats = 0.06 * np.sin(angles * 9) * np.linspace(0, 1, rows)[:, None]
    place = middle + around * (radius * (1 + pleats))[..., None]
    rest = np.stack([place[..., 0], np.repeat(heights[:, None], columns, 1), place[..., 1]], -1)
    return Piece(
        name="skirt",
        rest=rest.reshape(-1, 3),
        faces=_grid_faces(rows, columns),
        weights=_nearby_weights(body, rest.reshape(-1, 3), inside, spread_m=0.09),
        anchor=None,
        offset=np.zeros((rows * columns, 3)),
        material=material,
        clearance_m=0.008,
        smoothing=3,
    )


def hair_cap(
    body: BodyMap, material: dict, *, length_m: float = 0.015, reach: float = 98.0
) -> Piece:
    """Short hair, or a cap: the crown and back of the head.

    Args:
        body: whose head.
        material: how it looks.
        length_m: how far it stands off.
        reach: angle from the back of the crown to the hairline, degrees.
    """
    centre = _head_centre(body)
    away = body.rest - centre
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    pole = np.array([0.0, 0.80, -0.60])
    region = (away @ pole - np.cos(np.radians(reach))) * 0.1
    region = np.minimum(region, (body.weights[:, [HEAD, 12]].sum(1) - 0.8) * 0.2)
    bumps = 1 + 0.5 * np.sin(away @ np.array([[31.0], [17], [23]]))[:, 0]
    offset = body.normals * (length_m * bumps * np.clip(region / 0.02, 0.3, 1))[:, None]
    return cut_piece("hair", body, region, offset, material, hide_margin_m=1.0, smoothing=2)


def long_hair(body: BodyMap, material: dict, *, length_m: float = 0.30) -> Piece:
    """Hair that falls behind and beside the neck: three quarters of a tube below the crown."""
    centre, rows, columns = _head_centre(body), 14, 40
    head = body.rest[body.weights[:, HEAD] > 0.7] - centre
    angles = np.linspace(-0.70, 0.70, columns) * np.pi + np.pi
    down = np.linspace(0, 1, rows)[:, None]
    width, depth = np.abs(head[:, 0]).max(), -head[:, 2].min()
    swell = 1.08 + 0.10 * np.sin(down * 2.6) + 0.02 * np.sin(angles * 14)
    rest = np.stack(
        [
            np.sin(angles) * width * swell,
            0.03 - down * length_m + 0 * angles,
            np.cos(angles) * depth * swell,
        ],
        -1,
    )
    hang = np.clip(down[:, 0] * length_m / 0.30, 0, 1)
    weights = np.zeros((rows, columns, body.weights.shape[1]))
    weights[..., HEAD] = (1 - 0.6 * hang)[:, None]
    weights[..., 12] = 0.3 * hang[:, None]
    weights[..., 9] = 0.3 * hang[:, None]
    faces = _grid_faces(rows, columns, closed=False)
    return rigid_piece(
        "long hair", rest.reshape(-1, 3) + centre, faces, weights.reshape(rows * columns, -1),
        material,
    )  # fmt: skip


def bun(body: BodyMap, material: dict, *, drop_m: float = 0.0) -> Piece:
    """A knot of hair at the back of the head, or a pony tail `drop_m` long."""
    centre = _head_centre(body)
    back = body.rest[body.weights[:, HEAD] > 0.7][:, 2].min() - centre[2]
    place = centre + [0, 0.04 - drop_m / 2, back - 0.02 - 0.1 * drop_m]
    radii = np.array([0.045, 0.045 + drop_m / 2, 0.04])
    return _blob("bun", body, place, radii, 2.0, HEAD, material)


def brim(body: BodyMap, material: dict) -> Piece:
    """The peak of a cap."""
    centre = _head_centre(body)
    front = body.rest[body.landmarks["nose"]][2] if "nose" in body.landmarks else centre[2] + 0.1
    place = np.array([centre[0], centre[1] + 0.055, front - 0.005])
    return _blob("brim", body, place, np.array([0.07, 0.006, 0.07]), 2.5, HEAD, material)


def backpack(body: BodyMap, material: dict) -> Piece:
    """A bag on the back."""
    spine = body.joints[9]
    column = (np.abs(body.rest[:, 0]) < 0.05) & (np.abs(body.rest[:, 1] - spine[1]) < 0.1)
    back = body.rest[column, 2].min()
    place = np.array([0.0, spine[1] - 0.03, back - 0.075])
    return _blob("backpack", body, place, np.array([0.15, 0.22, 0.085]), 5.0, 9, material)


def _blob(
    name: str, body: BodyMap, place: Array, radii: Array, power: float, joint: int, material: dict
) -> Piece:
    """A superellipsoid that hangs on one joint; power 2 is round, 5 a soft box."""
    rows, columns = 18, 36
    rise = np.linspace(-np.pi / 2, np.pi / 2, rows)[:, None]
    turn = np.linspace(0, 2 * np.pi, columns, endpoint=False)

    def rounded(values: Array) -> Array:
        return np.sign(values) * np.abs(values) ** (2 / power)

    rest = np.stack(
        [
            rounded(np.cos(rise)) * rounded(np.sin(turn)),
            rounded(np.sin(rise)) + 0 * turn,
            rounded(np.cos(rise)) * rounded(np.cos(turn)),
        ],
        -1,
    )
    weights = np.eye(body.weights.shape[1])[joint]
    faces = _grid_faces(rows, columns)[:, ::-1]
    return rigid_piece(name, rest.reshape(-1, 3) * radii + place, faces, weights, material)


def _grid_faces(rows: int, columns: int, *, closed: bool = True) -> npt.NDArray[np.int64]:
    """Triangles of a grid of rows and columns, wrapped around if closed."""
    last = columns if closed else columns - 1
    row, column = (n.ravel() for n in np.mgrid[0 : rows - 1, 0:last])
    after = (column + 1) % columns
    a, b = row * columns + column, row * columns + after
    c, d = a + columns, b + columns
    return np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])


def _nearby_weights(body: BodyMap, points: Array, allowed: Array, *, spread_m: float) -> Array:
    """Skinning weights of the body's surface around each point, smoothly blended."""
    skin = body.rest[allowed]
    square = ((points[:, None] - skin[None, ::3]) ** 2).sum(-1)
    near = np.exp(-(square - square.min(1, keepdims=True)) / (2 * spread_m**2))
    weights = near @ body.weights[allowed][::3]
    return weights / weights.sum(1, keepdims=True)


def _head_centre(body: BodyMap) -> Array:
    """Middle of the skull."""
    head = body.rest[body.weights[:, HEAD] > 0.7]
    return np.array([0.0, head[:, 1].max() - 0.10, (head[:, 2].min() + head[:, 2].max()) / 2])


def _arm_stations(body: BodyMap) -> list[float]:
    """Distance of shoulders, elbows and wrists from the middle, metres."""
    return [float(np.abs(body.joints[[i, i + 1], 0]).mean()) for i in (16, 18, 20)]


def _hang_from_chest(body: BodyMap) -> Array:
    """(V, 3) how far cloth that hangs from the chest is from the skin of the torso."""
    torso = (body.arm_share < 0.4) & (body.rest[:, 1] > body.joints[[4, 5], 1].mean())
    torso &= body.weights[:, [HEAD, 12]].sum(1) < 0.3
    points = body.rest[torso]
    flat = points[:, [0, 2]] - [0, points[:, 2].mean()]
    radius, angle = np.linalg.norm(flat, axis=1), np.arctan2(flat[:, 0], flat[:, 1])
    chest = body.joints[[16, 17], 1].mean() - 0.08
    near = np.abs((angle[:, None] - angle[None] + np.pi) % (2 * np.pi) - np.pi) < 0.15
    above = (points[None, :, 1] >= points[:, None, 1] - 0.01) & (points[None, :, 1] < chest)
    reach = np.where(near & above, radius[None], 0).max(1)
    lower = np.clip((chest - points[:, 1]) / 0.2, 0, 1)
    outward = flat / np.maximum(radius, 1e-6)[:, None]
    gap = np.maximum(reach - radius, 0) * lower
    offset = np.zeros_like(body.rest)
    offset[torso] = np.stack([outward[:, 0] * gap, 0 * gap, outward[:, 1] * gap], 1)
    return offset


def _widen_legs(body: BodyMap, drape: float, flare: float) -> Array:
    """(V, 3) how far trouser legs stand off below the thigh."""
    offset = np.zeros_like(body.rest)
    coordinate = body.leg_coordinate
    for side in (0, 1):
        joints = body.joints[[1 + side, 4 + side, 7 + side]]
        own = body.weights[:, list(LEG_JOINTS)[side::2]].sum(1) > 0.5
        stations = joints[::-1, 1]
        axis = np.stack([np.interp(body.rest[:, 1], stations, joints[::-1, k]) for k in (0, 2)], 1)
        away = body.rest[:, [0, 2]] - axis
        radius = np.maximum(np.linalg.norm(away, axis=1), 1e-6)
        thigh = np.median(radius[own & (np.abs(coordinate - 0.55) < 0.1)])
        gap = np.maximum(thigh * 0.95 - radius, 0) * drape + flare * np.clip(coordinate, 0, 2)
        gap *= np.clip((coordinate - 0.25) / 0.4, 0, 1) * own
        offset[:, [0, 2]] += away / radius[:, None] * gap[:, None]
    return offset


def _widen_sleeves(body: BodyMap) -> Array:
    """(V, 3) how far wide sleeves stand off the arms."""
    offset = np.zeros_like(body.rest)
    coordinate = body.arm_coordinate
    for side, joint in ((1.0, 16), (-1.0, 17)):
        own = (body.arm_share > 0.5) & (body.rest[:, 0] * side > 0)
        away = body.rest[:, 1:] - body.joints[joint, 1:]
        radius = np.maximum(np.linalg.norm(away, axis=1), 1e-6)
        upper = np.median(radius[own & (np.abs(coordinate - 0.45) < 0.15)])
        gap = np.clip(upper * 1.05 - radius, 0, 0.03) + 0.008 * np.clip(coordinate, 0, 1)
        gap *= np.clip((coordinate - 0.05) / 0.3, 0, 1) * own
        offset[:, 1:] += away / radius[:, None] * gap[:, None]
    return offset
