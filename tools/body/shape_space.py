# SPDX-License-Identifier: Apache-2.0
"""Ten directions in which adults differ, the first of them stature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ShapeSpace", "fit_shape_space"]

Array = npt.NDArray[np.float64]

NUM_BETAS = 10


@dataclass(frozen=True)
class ShapeSpace:
    """Mean and directions; every coefficient has mean 0 and standard deviation 1 in the sample."""

    v_template: Array
    """(V, 3) mean body, metres."""
    shapedirs: Array
    """(V, 3, 10) metres per standard deviation."""
    betas: Array
    """(N, 10) coefficients of the sample."""
    explained: Array
    """(10,) share of the sample's variance that the first directions explain together."""
    residual_mm: float
    """Mean distance of a vertex from its reconstruction."""
    stature_correlation: float
    """Of the first coefficient with the height of the T-posed body."""


def fit_shape_space(vertices: npt.NDArray[np.float32]) -> ShapeSpace:
    """Stature's regression line first, then the principal components of what it leaves.

    A plain first component mixes stature with bulk. Taking the line along which bodies change, on
    average, with stature (so that taller people also become broader and likelier male) makes
    `betas[0]` read as stature alone; coefficients stay uncorrelated.

    Args:
        vertices: (N, V, 3) T-posed bodies, metres.

    Returns:
        The space; signs are such that positive means taller, then broader.
    """
    count = len(vertices)
    flat = vertices.reshape(count, -1).astype(np.float64)
    mean = flat.mean(axis=0)
    centred = flat - mean
    total = np.square(centred).sum()
    stature = np.ptp(vertices[:, :, 1], axis=1).astype(np.float64)
    first = (stature - stature.mean()) / stature.std()
    direction = first @ centred / count
    left = centred - np.outer(first, direction)
    values, vectors = np.linalg.eigh(left @ left.T)
    order = np.argsort(values)[::-1][: NUM_BETAS - 1]
    betas = np.concatenate([first[:, None], vectors[:, order] * np.sqrt(count)], axis=1)
    directions = np.concatenate([direction[None], betas[:, 1:].T @ left / count])
    width = np.ptp(np.abs(vertices[:, :, 2]), axis=1)
    signs = np.array([np.corrcoef(column, width)[0, 1] for column in betas.T])
    signs = np.where(signs < 0, -1.0, 1.0)
    signs[0] = 1.0
    betas, directions = betas * signs, directions * signs[:, None]
    variances = np.square(directions).sum(axis=1) * count
    residual = (centred - betas @ directions).reshape(count, -1, 3)
    shape = vertices.shape[1:]
    return ShapeSpace(
        v_template=mean.reshape(shape),
        shapedirs=directions.T.reshape(*shape, NUM_BETAS),
        betas=betas,
        explained=np.cumsum(variances) / total,
        residual_mm=float(np.linalg.norm(residual, axis=2).mean() * 1e3),
        stature_correlation=float(np.corrcoef(betas[:, 0], stature)[0, 1]),
    )
