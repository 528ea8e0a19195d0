# SPDX-License-Identifier: GPL-3.0-or-later
"""Several people's motions → a body each, and one camera where one camera saw them."""

from __future__ import annotations

from collections.abc import Sequence as Row
from dataclasses import replace

import bpy
import numpy as np

from posefit_shared.body_files import BodyFileError

from ..rigs.rig import SceneError
from .local_sequences import NamedMotion, have_one_camera
from .sequence_import import ImportOptions, import_sequence


def plan_motions(
    motions: Row[NamedMotion], options: ImportOptions
) -> list[tuple[NamedMotion, ImportOptions]]:
    """How each motion comes in: a camera that another one came with is not made again.

    Args:
        motions: what is to be built.
        options: how; the name is each motion's own, and so is the footage where none is given.
    """
    frames = np.concatenate([one.motion.frame_indices for one in motions])
    frames = frames + options.first_scene_frame
    scene_range = int(frames.min()), int(frames.max())
    plan: list[tuple[NamedMotion, ImportOptions]] = []
    for named in motions:
        is_new = not any(have_one_camera(other.motion, named.motion) for other, _ in plan)
        own = replace(
            options,
            name=named.name,
            footage=options.footage or named.footage,
            with_camera=options.with_camera and is_new,
            scene_range=scene_range if len(motions) > 1 else None,
        )
        plan.append((named, own))
    return plan


def import_motions(
    context: bpy.types.Context, motions: Row[NamedMotion], options: ImportOptions
) -> list[str]:
    """Build a body for each motion, at once, as `plan_motions` plans it.

    Returns:
        Sentences that the artist should read.

    Raises:
        SceneError: the first body or its footage does not fit; nothing was built.
        BodyFileError: the body file cannot be read.
    """
    notes: list[str] = []
    for place, (named, own) in enumerate(plan_motions(motions, options)):
        try:
            imported = import_sequence(context, named.motion, own)
        except (SceneError, BodyFileError) as error:
            if not place:
                raise
            notes.append(f"{named.name}: {error}")
            continue
        notes += [note for note in imported.notes if note not in notes]
    return notes
