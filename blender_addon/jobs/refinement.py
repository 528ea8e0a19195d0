# SPDX-License-Identifier: GPL-3.0-or-later
"""A finished refinement, and whether the armature that it was asked for can still take it.

Everything is looked up again here: between asking and answering, objects may have been deleted,
renamed or replaced by opening another file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import bpy
import numpy as np
import numpy.typing as npt

from posefit_shared.messages import RefineResult

from ..control.freedom import Freedom
from ..rigs.lookup import find_object
from ..rigs.rig import RigFrames, SceneError
from ..scenes import camera_lens, scene_reader
from ..scenes.scene_reader import SceneRequest


@dataclass(frozen=True)
class Refinement:
    """A request and the last complete revision of its result."""

    request: SceneRequest
    result: RefineResult
    with_shape: bool
    """Whether the shape was to be refined as well."""
    armature_uid: int
    """Blender's number of the armature, which stays when it is renamed."""
    rows: npt.NDArray[np.int64] | None = None
    """(N,) places in the request of the frames that the result holds; none: all of them."""
    freedom: Freedom = field(default_factory=Freedom)
    """What could move; everything else keeps its very keys."""
    lens: camera_lens.LensBefore | None = None
    """The lens of the camera whose focal length was to be refined as well."""

    @property
    def changes_shape(self) -> bool:
        """Whether the body's shape is to change with it."""
        before, after = self.request.sequence.betas, self.result.betas
        is_same = before.shape == after.shape and np.allclose(before, after, atol=1e-5)
        return self.with_shape and not is_same

    @property
    def taken_rows(self) -> npt.NDArray[np.int64]:
        """(N,) places in the request of the frames that the result holds."""
        return np.arange(len(self.request.sequence)) if self.rows is None else self.rows


def check(refinement: Refinement) -> tuple[bpy.types.Object, RigFrames]:
    """The armature of a refinement and its rig as it is now.

    Raises:
        SceneError: it is gone or is no SMPL rig any more, or the result is for other frames.
    """
    request, result = refinement.request, refinement.result
    armature = find_object(refinement.armature_uid)
    if armature is None:
        raise SceneError(
            f"{request.armature} was removed while it was refined: bring it back with Undo and "
            "keep the result, or drop it"
        )
    now = scene_reader.read_rig(armature)
    if now.match != request.frames.match:
        raise SceneError(
            f"the bones of {request.armature} changed while it was refined: change them back and "
            "keep the result, or drop it"
        )
    asked = request.sequence.frame_indices
    assert asked is not None
    if not np.array_equal(result.frame_indices, asked[refinement.taken_rows]):
        raise SceneError("the backend answered for other frames than it was asked: drop the result")
    return armature, now
