# SPDX-License-Identifier: GPL-3.0-or-later
"""Other frames than the one shown: for the length of a block, or one after the other in slices."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import bpy
import numpy as np
import numpy.typing as npt

from ..keys import transform_sampling
from ..rigs.rig import SceneError

Array = npt.NDArray[np.float64]

SLICE_SECONDS = 0.02
"""How long frame-by-frame reading may hold Blender before it gives it back."""


@contextmanager
def at_frame(scene: bpy.types.Scene, frame: int) -> Iterator[None]:
    """The scene at another frame for the length of a block; restored also after an error."""
    before, subframe = scene.frame_current, scene.frame_subframe
    try:
        if (frame, 0.0) != (before, subframe):
            scene.frame_set(frame)
        yield
    finally:
        if (scene.frame_current, scene.frame_subframe) != (before, subframe):
            scene.frame_set(before, subframe=subframe)


def matrices_over(
    context: bpy.types.Context, name: str, scene_frames: Sequence[int]
) -> Generator[float, None, Array]:
    """`matrix_world` (T, 4, 4) of an object over frames, from its curves where that is enough.

    Args:
        context: whose scene it is read in.
        name: of the object, which may be gone after a slice.
        scene_frames: (T,) frames.

    Yields:
        The share that is done, 0 to 1.

    Raises:
        SceneError: the object is gone.
    """
    if transform_sampling.is_object_sampled(find(name)):
        return transform_sampling.object_matrices(find(name), scene_frames)
    rows: list[Array] = []
    while len(rows) < len(scene_frames):
        deadline = time.monotonic() + SLICE_SECONDS
        with at_frame(context.scene, scene_frames[len(rows)]):
            for frame in scene_frames[len(rows) :]:
                context.scene.frame_set(frame)
                shown = find(name).evaluated_get(context.evaluated_depsgraph_get())
                rows.append(np.array(shown.matrix_world, np.float64))
                if time.monotonic() > deadline:
                    break
        yield len(rows) / len(scene_frames)
    return np.stack(rows)


def find(name: str) -> bpy.types.Object:
    """The object of that name.

    Raises:
        SceneError: it is gone.
    """
    item = bpy.data.objects.get(name)
    if item is None:
        raise SceneError(f"{name} was removed or renamed while it was read: start again")
    return item
