# SPDX-License-Identifier: Apache-2.0
"""Adults drawn at random: phenotypes whose statures follow those of real populations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from source_model import SourceModel, to_y_up

__all__ = ["People", "draw_people", "rest_bodies"]

Array = npt.NDArray[np.float64]

STATURE_M = {"male": (1.765, 0.070), "female": (1.635, 0.066)}
"""Mean and standard deviation of adult stature; together mean 1.70 m, deviation 0.094 m."""
STATURE_LIMITS_M = (1.47, 1.98)
"""Nobody outside; 2.5 to 3 standard deviations of the mixture."""
YEARS = (20.0, 70.0)

_BISECTIONS = 30


@dataclass(frozen=True)
class People:
    """Phenotypes of a sample."""

    phenotypes: Array
    """(N, labels) in Anny's order, 0…1."""
    stature: Array
    """(N,) metres, as Anny measures them standing."""
    is_female: npt.NDArray[np.bool_]
    """(N,)"""


def draw_people(source: SourceModel, count: int, rng: np.random.Generator) -> People:
    """A sample of adults, half of them women.

    Everything but height is drawn; height is then chosen, by bisection, so that the stature is one
    drawn from the population's distribution. Who cannot be made that tall is drawn again.

    Args:
        source: the body to measure.
        count: how many.
        rng: where chance comes from.

    Returns:
        The sample.
    """
    labels = list(source.model.phenotype_labels)
    is_female = np.arange(count) % 2 == 1
    phenotypes = np.zeros((count, len(labels)))
    stature = np.zeros(count)
    waiting = np.arange(count)
    while len(waiting):
        drawn = _draw_all_but_height(labels, is_female[waiting], rng)
        target = _draw_stature(is_female[waiting], rng)
        drawn, reached = _fit_height(source, drawn, target, labels.index("height"))
        is_fit = np.abs(reached - target) < 1e-3
        phenotypes[waiting[is_fit]], stature[waiting[is_fit]] = drawn[is_fit], reached[is_fit]
        waiting = waiting[~is_fit]
    return People(phenotypes=phenotypes, stature=stature, is_female=is_female)


def _draw_stature(is_female: npt.NDArray[np.bool_], rng: np.random.Generator) -> Array:
    mean, deviation = np.where(is_female[:, None], STATURE_M["female"], STATURE_M["male"]).T
    target = rng.normal(mean, deviation)
    is_outside = (target < STATURE_LIMITS_M[0]) | (target > STATURE_LIMITS_M[1])
    while is_outside.any():
        target[is_outside] = rng.normal(mean[is_outside], deviation[is_outside])
        is_outside = (target < STATURE_LIMITS_M[0]) | (target > STATURE_LIMITS_M[1])
    return target


def _draw_all_but_height(
    labels: list[str], is_female: npt.NDArray[np.bool_], rng: np.random.Generator
) -> Array:
    """Phenotypes in 0…1; ages between Anny's anchors for 25 (2/3) and 90 years (1)."""
    count = len(is_female)
    years = rng.uniform(*YEARS, count)
    origin = rng.gamma(0.7, size=(count, 3)) + 1e-3
    drawn = {
        "gender": np.where(is_female, 1 - rng.beta(1, 9, count), rng.beta(1, 9, count)),
        "age": _ADULT_AGE + np.clip((years - 25) / 65, 0, 1) * (1 - _ADULT_AGE) * 0.8,
        "muscle": np.clip(rng.normal(np.where(is_female, 0.45, 0.55), 0.17, count), 0, 1),
        "weight": np.clip(rng.normal(0.5, 0.2, count), 0, 1),
        "proportions": rng.beta(2.5, 2.5, count),
        "cupsize": rng.beta(1.2, 5.0, count),
        "firmness": rng.beta(3, 2, count),
        "african": origin[:, 0] / origin.sum(axis=1),
        "asian": origin[:, 1] / origin.sum(axis=1),
        "caucasian": origin[:, 2] / origin.sum(axis=1),
        "height": np.full(count, 0.5),
    }
    return np.stack([drawn[label] for label in labels], axis=1)


_ADULT_AGE = 2 / 3


def _fit_height(
    source: SourceModel, phenotypes: Array, target: Array, column: int
) -> tuple[Array, Array]:
    low, high = np.zeros(len(target)), np.ones(len(target))
    phenotypes = phenotypes.copy()
    for _ in range(_BISECTIONS):
        phenotypes[:, column] = 0.5 * (low + high)
        is_short = _stature(source, phenotypes) < target
        low, high = (
            np.where(is_short, phenotypes[:, column], low),
            np.where(is_short, high, phenotypes[:, column]),
        )
    return phenotypes, _stature(source, phenotypes)


def _stature(source: SourceModel, phenotypes: Array) -> Array:
    """Standing height, from the few skin vertices that can be highest or lowest."""
    model = source.model
    skin = np.unique(source.quads)
    height = model.template_vertices.numpy()[:, 2]
    order = skin[np.argsort(height[skin])]
    ends = np.concatenate([order[:80], order[-80:]])
    coefficients = _coefficients(source, phenotypes).numpy()
    z = height[ends] + coefficients @ model.blendshapes.numpy()[:, ends, 2]
    return z.max(axis=1) - z.min(axis=1)


def _coefficients(source: SourceModel, phenotypes: Array) -> torch.Tensor:
    none = torch.zeros(len(phenotypes), 0, dtype=torch.float64)
    return source.model._get_phenotype_blendshape_coefficients(
        torch.from_numpy(phenotypes), none, none
    )


def rest_bodies(source: SourceModel, phenotypes: Array) -> tuple[Array, Array, Array]:
    """Bodies standing in MakeHuman's own rest pose (arms half down).

    Args:
        source: the body.
        phenotypes: (N, labels).

    Returns:
        Vertices (N, V, 3), bone heads and bone tails (N, bones, 3); y up, metres.
    """
    with torch.no_grad():
        rest = source.model.get_rest_model(_coefficients(source, phenotypes))
    return tuple(
        to_y_up(rest[key].numpy())
        for key in ("rest_vertices", "rest_bone_heads", "rest_bone_tails")
    )
