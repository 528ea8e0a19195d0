# SPDX-License-Identifier: GPL-3.0-or-later
"""Several people's motions → a body each, and one camera where one camera saw them."""

from __future__ import annotations

from collections.abc import Sequence as Row
from dataclasses import replace

import bpy

from posefit_shared.body_files import BodyFileError
from posefit_shared.sequence import Sequence

from ..rigs.rig import SceneError
from .local_sequences import NamedMotion, have_one_camera
from .sequence_import import ImportOptions, import_sequence


def options_for(named: NamedMotion, options: ImportOptions) -> ImportOptions:
    """How one motion comes in: by its own name, and with its own footage where none is given."""
    return replace(options, name=named.name, footage=options.footage or named.footage)


def import_motions(
    context: bpy.types.Context, motions: Row[NamedMotion], options: ImportOptions
) -> list[str]:
    """Build a body for each motion; a camera that another one came with is not made again.

    Args:
        context: whose scene it is.
        motions: what to build.
        options: how; the name is each motion's own, and so is the footage where none is given.

    Returns:
        Sentences that the artist should read.

    Raises:
        SceneError: the first body or its footage does not fit; nothing was built.
        BodyFileError: the body file cannot be read.
    """
    notes: list[str] = []
    seen: list[Sequence] = []
    spans: list[tuple[int, int]] = []
    for named in motions:
        motion = named.motion
        is_new = not any(have_one_camera(other, motion) for other in seen)
        own = options_for(named, options)
        own = replace(own, with_camera=own.with_camera and is_new)
        try:
            imported = import_sequence(context, motion, own)
        except (SceneError, BodyFileError) as error:
            if not seen:
                raise
            notes.append(f"{named.name}: {error}")
            continue
        seen.append(motion)
        frames = options.first_scene_frame + motion.frame_indices
        spans.append((int(frames.min()), int(frames.max())))
        notes += [note for note in imported.notes if note not in notes]
    if len(spans) > 1 and options.with_camera:
        context.scene.frame_start = min(first for first, _ in spans)
        context.scene.frame_end = max(last for _, last in spans)
    return notes
