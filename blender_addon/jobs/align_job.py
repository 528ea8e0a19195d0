# SPDX-License-Identifier: GPL-3.0-or-later
"""A motion that was not shot with the footage is brought over the person in it, by the backend.

It gives one offset in time and one transform for all frames: keys stay what and where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

import bpy
import numpy as np

from posefit_shared.client import Client
from posefit_shared.messages import AlignRequest, AlignResult, Record

from ..rigs.library_link import check_can_be_animated
from ..rigs.lookup import find_object
from ..rigs.rig import SceneError
from ..scenes import object_moving, scene_camera, scene_view
from ..scenes.frame_stepping import find
from ..scenes.scene_pictures import ScenePictures, read_pictures
from ..scenes.scene_reader import SceneReading, read_range
from .remote_job import RemoteJob, name_body, name_media
from .scene_job import SceneJob


@dataclass(eq=False)
class AlignJob(SceneJob, RemoteJob):
    """What is known of one alignment; changed by the session alone."""

    RESULT: ClassVar[type[Record]] = AlignResult
    KIND: ClassVar[str] = "align"
    search: int = field(default=0, kw_only=True)
    """How many frames earlier or later than its Footage Offset the motion may belong."""
    person: int = field(default=0, kw_only=True)
    """Which person of the footage, the largest first."""
    pictures: ScenePictures | None = field(default=None, kw_only=True)
    """What the scene shows of the footage."""
    offset: int = field(default=0, kw_only=True)
    """The Footage Offset when it was read."""
    units_per_metre: float = field(default=1.0, kw_only=True)
    """Blender units in one metre of the body."""

    @property
    def label(self) -> str:
        """What is worked on, for the panel."""
        return f"Aligning {self.armature}"

    @property
    def media(self) -> Path | None:
        """The footage, once it is known."""
        return None if self.pictures is None else self.pictures.footage

    def slices(
        self, context: bpy.types.Context, armature: bpy.types.Object
    ) -> Generator[float, None, SceneReading]:
        """Read the pictures that the motion may belong to, then the motion."""
        check_can_be_animated(armature, with_shape=False)
        object_moving.check_can_be_moved(armature)
        self.offset = round(armature.posefit_footage_offset)
        name, first, last = armature.name, self.scene_frames[0], self.scene_frames[-1]
        around = first + self.offset - self.search, last + self.offset + self.search
        self.pictures = yield from read_pictures(context, *around)
        view = scene_view.view_to_export(context.scene, self.scene_frames, with_camera=False)
        return (yield from read_range(context, find(name), self.scene_frames, view))

    def preparation(self, client: Client) -> Generator[None, None, tuple[float, AlignRequest]]:
        """Work out what was read, name the files."""
        assert self.reading is not None
        assert self.pictures is not None
        request = partial(
            AlignRequest,
            first_frame=self.scene_frames[0],
            search=self.search,
            offset=self.offset,
            person=self.person,
        )
        return _request(client, self.reading, self.pictures, request, self.by_upload)

    def take_prepared(self, prepared: tuple[float, AlignRequest]) -> AlignRequest:
        """The message to send."""
        self.units_per_metre, message = prepared
        return message

    def apply(self, context: bpy.types.Context) -> str:
        """Move the armature, and say from now on which picture its frames belong to."""
        armature = find_object(self.armature_uid)
        if armature is None:
            raise SceneError(
                f"{self.armature} was removed while it was aligned: bring it back with Undo and "
                "keep the result, or drop it"
            )
        if round(armature.posefit_footage_offset) != self.offset:
            raise SceneError(
                f"Footage Offset of {armature.name} was changed while it was aligned: drop the "
                "result and align it again"
            )
        result = self.result
        move = np.array(result.transform)
        move[:3, 3] *= self.units_per_metre
        added = object_moving.move_in_world(armature, move)
        if result.offset != self.offset:
            armature.posefit_footage_offset = result.offset
        return f"{armature.name} {added}{_result_words(result, self.offset, self.search)}"


def _result_words(result: AlignResult, offset: int, search: int) -> str:
    """What was found, for the artist."""
    report = result.report
    words = f"was turned by {report.get('turn_deg', 0.0):.0f}° and moved into place"
    if result.offset != offset:
        words += f", its Footage Offset is now {result.offset}"
    misfit, before = report.get("misfit"), report.get("misfit_before")
    if isinstance(misfit, float):
        words += f"; it lies {misfit:.0%} of the person's height beside them"
        words += f" ({before:.0%} before)" if isinstance(before, float) else ""
    if search and not report.get("is_offset_clear", True):
        words += "; other times fit about as well, so look whether Footage Offset is right"
    return words


def _request(
    client: Client,
    reading: SceneReading,
    pictures: ScenePictures,
    request: Callable[..., AlignRequest],
    by_upload: bool,
) -> Generator[None, None, tuple[float, AlignRequest]]:
    """In slices, without bpy."""
    read = yield from reading.request_slices()
    media = yield from name_media(client, pictures.footage, by_upload)
    body = yield from name_body(client, read.body)
    units = read.frames.units_per_metre
    message = request(
        sequence=read.sequence,
        media=media,
        picture_frames=pictures.scene_frames,
        decoded_frames=pictures.decoded_frames,
        intrinsics=pictures.intrinsics,
        world_to_camera=scene_camera.world_to_cameras(pictures.matrices_world, units),
        distortion=pictures.distortion,
        body=body,
    )
    return units, message
