# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is in the validation set: bodies, clothes, motions, places, light and cameras, one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from . import wardrobe as w
from .body_map import BodyMap
from .cameras import Shot
from .drape import Piece

__all__ = ["CAST", "Cast", "Light", "Member", "Neighbour", "Obstacle"]


@dataclass(frozen=True)
class Light:
    """What lights a scene."""

    hdri: str
    """One of Blender's own panoramas (CC0), without suffix."""
    strength: float = 1.0
    """Of the panorama."""
    turn: float = 0.0
    """Radians about z that the panorama is turned."""
    sun: float = 0.0
    """Strength of a sun, W/m²; 0 for none."""
    sun_direction: tuple[float, float] = (0.6, 0.9)
    """Azimuth and elevation, radians."""
    sun_color: tuple[float, float, float] = (1.0, 0.93, 0.82)
    """Linear colour of the sun."""
    area: float = 0.0
    """Power of a soft lamp above and beside the camera, W."""


@dataclass(frozen=True)
class Neighbour:
    """A second person in the scene."""

    member: int
    """Whose body and clothes, by place in the cast."""
    place: tuple[float, float]
    """Right of and behind the first person as the camera sees them in the middle frame, metres;
    negative is left and in front."""
    frames: tuple[int, int] = (0, 99)
    """First and last frame in which they are there."""


@dataclass(frozen=True)
class Obstacle:
    """An object between camera and person, placed for one frame and left standing."""

    kind: str
    """`box`, `chair`, `pole`, `table`, `plant`."""
    frame: int
    """Frame whose camera it is placed for."""
    nearness: float
    """0 at the person, 1 at the camera."""
    aside_m: float
    """Right of the line of sight, metres."""
    size: float = 1.0
    """Scale."""


@dataclass(frozen=True)
class Member:
    """One person and how they are filmed."""

    name: str
    betas: tuple[float, ...]
    """Shape."""
    skin: tuple[float, float, float]
    """Linear colour."""
    outfit: Callable[[BodyMap], list[Piece]]
    """Clothes and hair."""
    clip: str
    """Motion; held out from training in the validation set."""
    start: int
    """First row of the clip."""
    stride: float
    """Rows from frame to frame."""
    setting: str
    """`street`, `room`, `hall`, `field`, `studio`."""
    light: Light
    shot: Shot
    heading: float = 0.0
    """Where the person faces at first, radians about z."""
    turn: float = 0.0
    """How much they turn over all frames."""
    grounded: bool = True
    """Whether feet hold the ground."""
    neighbour: Neighbour | None = None
    obstacles: tuple[Obstacle, ...] = ()
    blur: float = 0.0
    """Exposure time over the time between frames at 30 frames a second."""
    f_stop: float = 0.0
    """Aperture; 0 for everything sharp."""
    exposure: float = 0.0
    """Stops."""
    look: str = "AgX"
    """Blender's view transform."""
    noise: float = 0.01
    """Spread of the sensor's noise at middle grey, 0 to 1."""
    jpeg: tuple[int, ...] = field(default=())
    """JPEG qualities that the picture went through before it came here."""


@dataclass(frozen=True)
class Cast:
    """All people of one set."""

    members: tuple[Member, ...]
    seed: int
    """Of everything random in it but the scenery."""
    scenery: int
    """Added to a person's place, the seed of what stands about."""
    held_out: bool
    """Whether its motion is held out from training."""


def cloth(pattern: str, *colors: tuple[float, float, float], **options: object) -> dict:
    """A material: pattern, linear colours and the pattern's own options."""
    return {"pattern": pattern, "colors": [list(color) for color in colors], **options}


BLACK, WHITE, CREAM = (0.015, 0.015, 0.018), (0.75, 0.75, 0.73), (0.62, 0.53, 0.38)
NAVY, BLUE, SKY = (0.012, 0.025, 0.09), (0.03, 0.10, 0.38), (0.20, 0.42, 0.68)
RED, WINE, ORANGE = (0.50, 0.03, 0.025), (0.16, 0.012, 0.03), (0.70, 0.20, 0.03)
GREEN, OLIVE, MINT = (0.03, 0.16, 0.05), (0.09, 0.10, 0.03), (0.30, 0.55, 0.40)
YELLOW, TAN, BROWN = (0.72, 0.48, 0.05), (0.32, 0.20, 0.10), (0.07, 0.035, 0.018)
GREY, DARK, PINK = (0.22, 0.22, 0.23), (0.045, 0.047, 0.052), (0.62, 0.22, 0.28)
LILAC, TEAL = (0.30, 0.20, 0.48), (0.02, 0.20, 0.22)

HAIR_BLACK, HAIR_BROWN = cloth("hair", (0.012, 0.010, 0.009)), cloth("hair", (0.05, 0.025, 0.012))
HAIR_BLOND, HAIR_RED = cloth("hair", (0.30, 0.18, 0.07)), cloth("hair", (0.17, 0.045, 0.012))
HAIR_GREY = cloth("hair", (0.24, 0.23, 0.22))

PALE, FAIR, MEDIUM = (0.62, 0.38, 0.28), (0.50, 0.27, 0.17), (0.34, 0.17, 0.095)
TANNED, DEEP, DARKEST = (0.22, 0.10, 0.05), (0.10, 0.042, 0.021), (0.05, 0.022, 0.012)


def _student(body: BodyMap) -> list[Piece]:
    return [
        w.shoes(body, cloth("plain", WHITE)),
        w.bottom(body, cloth("denim", BLUE, NAVY), leg=1.97, drape=0.55),
        w.top(body, cloth("print", RED, CREAM, decal="badge"), sleeve=0.75, hem=0.02),
        w.hair_cap(body, HAIR_BROWN, length_m=0.022),
    ]


def _clerk(body: BodyMap) -> list[Piece]:
    return [
        w.shoes(body, cloth("leather", BROWN)),
        w.bottom(body, cloth("plain", DARK), leg=1.98, drape=0.75),
        w.top(body, cloth("stripes", WHITE, BLUE, period_m=0.035, axis=[1, 0, 0]), sleeve=1.93,
              hem=0.06, neck=0.045, neck_slope=0.25, drape=0.5),
        w.hair_cap(body, HAIR_GREY, length_m=0.012, reach=88),
    ]  # fmt: skip


def _dancer(body: BodyMap) -> list[Piece]:
    flowers = cloth("floral", NAVY, PINK, CREAM, TEAL, scale=22)
    return [
        w.shoes(body, cloth("plain", RED), height=-0.025),
        w.skirt(body, flowers, length=0.62, flare=0.30),
        w.top(body, flowers, sleeve=0.30, hem=0.08, neck=0.0, neck_slope=0.9, drape=0.15),
        w.hair_cap(body, HAIR_BLACK, length_m=0.014),
        w.long_hair(body, HAIR_BLACK, length_m=0.32),
    ]


def _hiker(body: BodyMap) -> list[Piece]:
    return [
        w.shoes(body, cloth("leather", TAN), height=0.05, ease_m=0.018),
        w.bottom(body, cloth("camouflage", OLIVE, BROWN, TAN), leg=1.95, drape=0.9),
        w.top(body, cloth("plain", ORANGE), sleeve=1.97, hem=-0.02, neck=0.05, neck_slope=0.1,
              ease_m=0.018, drape=0.9, wrinkle_m=0.008),
        w.backpack(body, cloth("plain", TEAL, roughness=0.6)),
        w.hair_cap(body, cloth("plain", WINE), length_m=0.018, reach=84),
        w.brim(body, cloth("plain", WINE)),
    ]  # fmt: skip


def _player(body: BodyMap) -> list[Piece]:
    return [
        w.socks(body, cloth("stripes", WHITE, RED, period_m=0.05, axis=[0, 1, 0]), height=0.16),
        w.shoes(body, cloth("plain", BLACK), height=0.03),
        w.bottom(body, cloth("side", YELLOW, LILAC), leg=1.05, drape=1.0, flare=0.025),
        w.top(body, cloth("print", YELLOW, LILAC, decal="number", text="23"), sleeve=0.12,
              hem=-0.02, neck=0.0, neck_slope=0.8, drape=0.9),
        w.hair_cap(body, HAIR_BLACK, length_m=0.006, reach=92),
    ]  # fmt: skip


def _boxer(body: BodyMap) -> list[Piece]:
    return [
        w.shoes(body, cloth("plain", GREY), height=0.06),
        w.bottom(body, cloth("side", BLACK, GREEN), leg=0.62, drape=1.0, flare=0.03, waist=0.13),
        w.hair_cap(body, HAIR_RED, length_m=0.01, reach=92),
    ]


def _jogger(body: BodyMap) -> list[Piece]:
    return [
        w.shoes(body, cloth("marble", MINT, BLACK, scale=18)),
        w.bottom(body, cloth("marble", DARK, TEAL, SKY, scale=6), leg=1.75, drape=0.0,
                 ease_m=0.003, wrinkle_m=0.001),
        w.top(body, cloth("plain", PINK), sleeve=0.10, hem=0.06, neck=-0.02, neck_slope=0.8,
              drape=0.1, ease_m=0.004, wrinkle_m=0.002),
        w.hair_cap(body, HAIR_BLOND, length_m=0.010),
        w.bun(body, HAIR_BLOND, drop_m=0.20),
    ]  # fmt: skip


def _gardener(body: BodyMap) -> list[Piece]:
    return [
        w.shoes(body, cloth("plain", GREEN), height=0.12, ease_m=0.02),
        w.bottom(body, cloth("denim", SKY, BLUE), leg=1.9, drape=0.8),
        w.top(body, cloth("plaid", RED, BLACK, WHITE, period_m=0.11), sleeve=1.25, hem=-0.05,
              neck=0.04, neck_slope=0.3, drape=0.85, wrinkle_m=0.006),
        w.hair_cap(body, HAIR_GREY, length_m=0.02),
        w.bun(body, HAIR_GREY),
    ]  # fmt: skip


def _visitor(body: BodyMap) -> list[Piece]:
    return [
        w.shoes(body, cloth("leather", BLACK), height=-0.01),
        w.bottom(body, cloth("plain", BLACK), leg=1.9, drape=0.0, ease_m=0.003, wrinkle_m=0.001),
        w.skirt(body, cloth("plaid", OLIVE, CREAM, WINE, period_m=0.16), length=0.45, flare=0.45),
        w.top(body, cloth("knit", CREAM, TAN), sleeve=1.9, hem=0.02, neck=0.06, neck_slope=0.1,
              ease_m=0.016, drape=0.6, wrinkle_m=0.006),
        w.hair_cap(body, HAIR_RED, length_m=0.016),
        w.long_hair(body, HAIR_RED, length_m=0.22),
    ]  # fmt: skip


def _teenager(body: BodyMap) -> list[Piece]:
    return [
        w.shoes(body, cloth("checks", WHITE, BLACK, period_m=0.03), height=0.04, ease_m=0.02),
        w.bottom(body, cloth("plain", TAN), leg=1.2, drape=1.0, flare=0.02),
        w.top(body, cloth("print", DARK, WHITE, decal="text", text="ECHO"), sleeve=1.95, hem=-0.08,
              neck=0.06, neck_slope=0.1, ease_m=0.02, drape=0.95, wrinkle_m=0.009),
        w.hair_cap(body, HAIR_BLACK, length_m=0.032, reach=103),
    ]  # fmt: skip


def _gymnast(body: BodyMap) -> list[Piece]:
    suit = cloth("swirl", LILAC, WHITE, BLACK, scale=3.2)
    return [
        w.bottom(body, suit, leg=1.92, drape=0.0, ease_m=0.003, wrinkle_m=0.0015, waist=0.16),
        w.top(body, suit, sleeve=1.85, hem=0.10, neck=0.03, neck_slope=0.5, drape=0.0,
              ease_m=0.0035, wrinkle_m=0.0015),
        w.hair_cap(body, HAIR_BROWN, length_m=0.012),
        w.bun(body, HAIR_BROWN),
    ]  # fmt: skip


def _tourist(body: BodyMap) -> list[Piece]:
    return [
        w.socks(body, cloth("plain", WHITE), height=0.09),
        w.shoes(body, cloth("plain", GREY)),
        w.bottom(body, cloth("dots", NAVY, WHITE, period_m=0.045), leg=0.95, drape=0.95,
                 flare=0.02),
        w.top(body, cloth("floral", TEAL, YELLOW, ORANGE, WHITE, scale=11), sleeve=0.9, hem=-0.04,
              neck=0.03, neck_slope=0.5, drape=1.0, ease_m=0.014, wrinkle_m=0.007),
        w.hair_cap(body, HAIR_BLOND, length_m=0.018),
    ]  # fmt: skip


CAST: tuple[Member, ...] = (
    Member(
        "student", (0.6, -0.4, 0.5, 0.3), FAIR, _student, "asfamc/03_03", 120, 9, "street",
        Light("courtyard", 1.0, 0.5, sun=2.5), Shot(-1.3, 2.2, 1.6, 4.6), turn=0.6,
    ),
    Member(
        "clerk", (0.2, 1.3, -0.6, -0.4), PALE, _clerk, "asfamc/03_04", 300, 8, "room",
        Light("interior", 0.8, 1.0, area=160), Shot(-2.3, 1.6, 1.45, 4.0, aim=(0.02, 0.0)),
        obstacles=(Obstacle("chair", 3, 0.22, 0.25), Obstacle("table", 8, 0.3, -0.35)),
        look="Filmic", noise=0.015, jpeg=(80,),
    ),
    Member(
        "dancer", (-1.2, 0.2, 0.3, -0.6), DEEP, _dancer, "expmap/test_basketball_1", 6, 13, "hall",
        Light("studio", 1.1, 2.0, area=120), Shot(0.9, -2.6, 1.3, 5.0), turn=-0.5,
        f_stop=0.9, exposure=0.3,
    ),
    Member(
        "hiker", (1.0, 0.8, 0.2, 0.2), MEDIUM, _hiker, "asfamc/03_01", 6, 10, "field",
        Light("sunrise", 1.0, 2.6, sun=2.0, sun_direction=(2.4, 0.35),
              sun_color=(1.0, 0.75, 0.5)),
        Shot(-2.1, 2.9, 1.2, 5.5, size=0.72), look="Filmic",
        obstacles=(Obstacle("plant", 6, 0.25, 0.35),), noise=0.012,
    ),
    Member(
        "player", (1.2, -1.2, 0.4, 0.7), DARKEST, _player, "expmap/test_basketball_1", 20, 12,
        "hall", Light("city", 0.9, 0.2, area=260), Shot(1.2, -1.8, 1.9, 5.2, size=0.74),
        turn=0.8, neighbour=Neighbour(6, (0.55, 0.75)), blur=0.8,
    ),
    Member(
        "boxer", (0.5, -0.9, -0.5, 0.8), PALE, _boxer, "deepmimic/sie__sie_humanoid3d_punch_left00",
        4, 6, "studio", Light("studio", 0.4, 0.4, area=170), Shot(-2.1, 1.4, 1.35, 4.2),
        heading=0.3, turn=0.7, blur=0.9, look="Standard",
    ),
    Member(
        "jogger", (-0.9, -0.5, 0.6, -0.3), TANNED, _jogger,
        "deepmimic/sie__sie_humanoid3d_run_right04", 10, 15, "street",
        Light("city", 1.0, 2.8, sun=3.2, sun_direction=(4.4, 0.7)), Shot(-2.0, 2.4, 1.1, 5.0),
        blur=0.9, turn=0.4, noise=0.008, jpeg=(65,),
    ),
    Member(
        "gardener", (-0.6, 1.6, 0.1, 0.5), FAIR, _gardener, "asfamc/03_04", 640, 9, "field",
        Light("forest", 1.3, 1.2), Shot(-1.0, 1.9, 1.7, 4.3, size=0.76, aim=(0.0, 0.02)),
        obstacles=(Obstacle("plant", 2, 0.30, -0.35, 0.6), Obstacle("box", 7, 0.30, 0.25, 0.9)),
        f_stop=1.4, noise=0.02,
    ),
    Member(
        "visitor", (-0.8, 0.6, -0.4, 0.1), MEDIUM, _visitor, "asfamc/03_03", 700, 9, "room",
        Light("night", 1.4, 0.0, area=90), Shot(0.0, -2.0, 1.5, 3.8, size=0.74), exposure=0.6,
        neighbour=Neighbour(1, (-0.6, -0.35), (3, 9)), noise=0.03, jpeg=(75,),
    ),
    Member(
        "teenager", (0.1, -0.8, -0.9, -0.6), DEEP, _teenager,
        "deepmimic/sie__sie_humanoid3d_run_right00", 8, 15, "street",
        Light("sunset", 1.0, 3.6, sun=1.6, sun_direction=(3.3, 0.4), sun_color=(1.0, 0.62, 0.35)),
        Shot(-1.9, 1.4, 0.8, 2.6, size=1.05, aim=(0.03, 0.16), shake=0.03), turn=-0.6,
        look="Filmic", blur=0.5,
    ),
    Member(
        "gymnast", (-0.4, -1.0, 0.9, 0.4), FAIR, _gymnast, "deepmimic/humanoid3d_roll", 3, 6,
        "hall", Light("interior", 1.1, 2.2, area=200), Shot(1.1, 1.0, 1.4, 4.8, size=0.70),
        grounded=False, blur=0.6, noise=0.012,
    ),
    Member(
        "tourist", (0.9, 2.0, 0.4, -0.2), PALE, _tourist, "deepmimic/humanoid3d_jump", 2, 5,
        "street", Light("courtyard", 1.1, 4.0, sun=4.0, sun_direction=(1.2, 1.0)),
        Shot(-1.3, 1.5, 1.5, 3.4, size=0.92, aim=(-0.10, 0.10)), heading=-0.3,
        neighbour=Neighbour(0, (0.35, 1.0)), blur=0.4, jpeg=(55,),
    ),
)  # fmt: skip
"""All people, in order."""

FRAMES = 10
"""Frames of each."""


def betas_of(member: Member, count: int) -> np.ndarray:
    """(count,) shape coefficients, the unnamed ones zero."""
    return np.resize(np.array([*member.betas, *np.zeros(max(count - len(member.betas), 0))]), count)
