# SPDX-License-Identifier: GPL-3.0-or-later
"""The sidebar: draws the state that others keep, decides nothing; one module a panel."""

from . import backend, body, bones, cameras, compare, control, queue, refine, review, texture

CLASSES = (
    *backend.CLASSES,
    *body.CLASSES,
    *bones.CLASSES,
    *refine.CLASSES,
    *cameras.CLASSES,
    *texture.CLASSES,
    *control.CLASSES,
    *queue.CLASSES,
    *compare.CLASSES,
    *review.CLASSES,
)
