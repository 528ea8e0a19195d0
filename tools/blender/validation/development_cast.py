# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is in the development set: people drawn at random, in motions that training may see.

Settings and thresholds are chosen on these people, so that the validation set stays unseen.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import cast as c
from . import wardrobe as w
from .body_map import BodyMap
from .cameras import Shot
from .drape import Piece

__all__ = ["development_members"]

CLIPS: tuple[tuple[str, int, float], ...] = (
    ("asfamc/02_07", 120, 11), ("expmap/test_soccer_1", 10, 12), ("asfamc/01_06", 380, 14),
    ("expmap/train_walking_22", 20, 12), ("expmap/train_basketball_signal_3", 150, 14),
    ("deepmimic/humanoid3d_crawl", 4, 8), ("expmap/test_washwindow_1", 120, 13),
    ("deepmimic/humanoid3d_kick", 2, 4.5), ("expmap/train_directing_traffic_1", 200, 13),
    ("deepmimic/sie__sie_humanoid3d_run_forward08", 30, 14), ("asfamc/02_10", 240, 10),
    ("deepmimic/humanoid3d_getup_faceup", 6, 11), ("expmap/train_jumping_2", 60, 12),
    ("deepmimic/long__humanoid3d_long_zombie", 90, 12), ("deepmimic/humanoid3d_cartwheel", 2, 8),
    ("deepmimic/long__humanoid3d_stealthy_walk0", 400, 14),
)  # fmt: skip
"""Clip, first row and stride of each person."""
LYING = ("humanoid3d_crawl", "humanoid3d_getup_faceup", "humanoid3d_cartwheel")
COLORS = (
    c.BLACK, c.WHITE, c.CREAM, c.NAVY, c.BLUE, c.SKY, c.RED, c.WINE, c.ORANGE, c.GREEN, c.OLIVE,
    c.MINT, c.YELLOW, c.TAN, c.BROWN, c.GREY, c.DARK, c.PINK, c.LILAC, c.TEAL,
)  # fmt: skip
SKINS = (c.PALE, c.FAIR, c.MEDIUM, c.TANNED, c.DEEP, c.DARKEST)
HAIRS = (c.HAIR_BLACK, c.HAIR_BROWN, c.HAIR_BLOND, c.HAIR_RED, c.HAIR_GREY)
PLACES = {
    "street": ("courtyard", "city", "sunset"),
    "room": ("interior", "night"),
    "hall": ("interior", "studio", "city"),
    "field": ("forest", "sunrise", "sunset"),
    "studio": ("studio", "interior"),
}


def development_members(seed: int) -> tuple[c.Member, ...]:
    """All people of the development set, the same for the same seed."""
    return tuple(
        _member(place, np.random.default_rng([seed, place])) for place in range(len(CLIPS))
    )


def _member(place: int, random: np.random.Generator) -> c.Member:
    clip, start, stride = CLIPS[place]
    setting = str(random.choice(list(PLACES)))
    outdoors = setting in ("street", "field")
    light = c.Light(
        str(random.choice(PLACES[setting])), random.uniform(0.6, 1.4), random.uniform(0, 6.28),
        sun=random.uniform(1, 4) * outdoors * (random.random() < 0.7),
        sun_direction=(random.uniform(0, 6.28), random.uniform(0.3, 1.2)),
        area=0.0 if outdoors else random.uniform(60, 250),
    )  # fmt: skip
    azimuth, sweep = random.uniform(-3, 3), random.uniform(1.2, 2.8) * random.choice([-1, 1])
    sweep *= 0.55 if setting == "studio" else 1.0  # its backdrop stands on one side
    tight = random.random() < 0.2
    shot = Shot(
        azimuth, sweep, random.uniform(0.8, 1.9), random.uniform(3.2, 5.5),
        size=random.uniform(0.9, 1.05) if tight else random.uniform(0.64, 0.78),
        aim=(random.uniform(-0.05, 0.05), random.uniform(-0.02, 0.1) + 0.06 * tight),
    )  # fmt: skip
    return c.Member(
        f"person {place:02d}",
        tuple(random.normal(0, 0.8, 4).round(2)),
        SKINS[random.integers(len(SKINS))],
        _outfit(random.integers(2**31), lying=clip.split("/")[1] in LYING),
        clip, start, stride, setting, light, shot,
        heading=random.uniform(-0.4, 0.4), turn=random.uniform(-0.8, 0.8),
        grounded=clip.split("/")[1] not in LYING,
        neighbour=_neighbour(place, random), obstacles=_obstacles(random, setting),
        blur=random.uniform(0.3, 0.9) * (random.random() < 0.45),
        f_stop=random.uniform(0.9, 2.0) * (random.random() < 0.2),
        exposure=random.uniform(-0.3, 0.5), look=str(random.choice(["AgX", "Filmic", "Standard"])),
        noise=random.uniform(0.006, 0.025),
        jpeg=(int(random.integers(55, 85)),) if random.random() < 0.4 else (),
    )  # fmt: skip


def _neighbour(place: int, random: np.random.Generator) -> c.Neighbour | None:
    if random.random() > 0.3:
        return None
    other = (place + int(random.integers(1, len(CLIPS)))) % len(CLIPS)
    in_front = random.random() < 0.3
    aside = random.uniform(0.35, 0.7) * random.choice([-1, 1])
    away = -random.uniform(0.3, 0.6) if in_front else random.uniform(0.5, 1.2)
    return c.Neighbour(other, (aside, away), (0, 9) if random.random() < 0.5 else (3, 8))


def _obstacles(random: np.random.Generator, setting: str) -> tuple[c.Obstacle, ...]:
    kinds = {"field": ("plant", "box", "pole"), "room": ("chair", "table", "box")}
    chosen = kinds.get(setting, ("box", "pole", "chair"))
    return tuple(
        c.Obstacle(
            str(random.choice(chosen)), int(random.integers(1, 9)), random.uniform(0.2, 0.32),
            random.uniform(0.2, 0.4) * random.choice([-1, 1]), random.uniform(0.6, 1.0),
        )
        for _ in range(random.integers(0, 3) if random.random() < 0.5 else 0)
    )  # fmt: skip


def _outfit(seed: int, *, lying: bool) -> Callable[[BodyMap], list[Piece]]:
    """Clothes drawn anew from the seed for whoever wears them."""

    def dress(body: BodyMap) -> list[Piece]:
        random = np.random.default_rng(seed)
        pieces = [w.shoes(body, _cloth(random, ("plain", "leather", "checks")),
                          height=random.uniform(-0.01, 0.08))]  # fmt: skip
        pieces += _below(body, random, lying=lying)
        loose = random.random()
        pieces.append(w.top(
            body, _cloth(random, ("plain", "stripes", "plaid", "dots", "floral", "knit", "marble",
                                  "camouflage", "swirl")),
            sleeve=float(random.choice([0.1, 0.5, 0.8, 1.4, 1.95])),
            hem=random.uniform(-0.05, 0.06), neck=random.uniform(0.0, 0.05),
            neck_slope=random.uniform(0.1, 0.8), ease_m=0.003 + 0.014 * loose, drape=loose,
            wrinkle_m=0.002 + 0.006 * loose,
        ))  # fmt: skip
        hair = HAIRS[random.integers(len(HAIRS))]
        pieces.append(w.hair_cap(body, hair, length_m=random.uniform(0.006, 0.028)))
        style = random.random()
        if style < 0.2 and not lying:
            pieces.append(w.long_hair(body, hair, length_m=random.uniform(0.2, 0.32)))
        elif style < 0.4:
            pieces.append(w.bun(body, hair))
        return pieces

    return dress


def _below(body: BodyMap, random: np.random.Generator, *, lying: bool) -> list[Piece]:
    """Trousers, shorts, leggings or a skirt."""
    if random.random() < 0.15 and not lying:
        material = _cloth(random, ("plain", "floral", "plaid"))
        return [w.skirt(body, material, length=random.uniform(0.4, 0.6),
                        flare=random.uniform(0.2, 0.4))]  # fmt: skip
    loose = random.random()
    material = _cloth(random, ("plain", "denim", "marble", "stripes", "dots", "camouflage"))
    return [w.bottom(body, material, leg=float(random.choice([0.6, 1.0, 1.5, 1.95, 1.97])),
                     ease_m=0.003 + 0.007 * loose, drape=loose,
                     wrinkle_m=0.001 + 0.004 * loose)]  # fmt: skip


def _cloth(random: np.random.Generator, patterns: tuple[str, ...]) -> dict:
    pattern = str(random.choice(patterns))
    colors = [COLORS[k] for k in random.permutation(len(COLORS))[:4]]
    options: dict[str, object] = {
        "stripes": {"period_m": random.uniform(0.025, 0.09), "axis": [0, 1, 0]},
        "plaid": {"period_m": random.uniform(0.07, 0.2)},
        "checks": {"period_m": random.uniform(0.02, 0.06)},
        "dots": {"period_m": random.uniform(0.03, 0.08)},
        "floral": {"scale": random.uniform(9, 24)},
        "marble": {"scale": random.uniform(4, 18)},
        "swirl": {"scale": random.uniform(2.5, 5)},
    }.get(pattern, {})
    return c.cloth(pattern, *colors, **options)
