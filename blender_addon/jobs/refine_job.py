# SPDX-License-Identifier: GPL-3.0-or-later
"""One refinement on its way: the scene is read, its files are named, the backend reports."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import bpy
import numpy as np
import numpy.typing as npt

from posefit_shared.client import Client
from posefit_shared.messages import Priority, Record, RefineRequest, RefineResult, ViewReference
from posefit_shared.settings import RefineSettings

from ..control.artist_control import read_freedom
from ..control.freedom import Freedom
from ..keys.strips import check_can_be_keyed
from ..rigs.library_link import check_can_be_animated
from ..rigs.lookup import find_object, find_scene, found
from ..scenes.camera_lens import LensBefore, read_lens
from ..scenes.other_characters import CharacterReading, other_people, read_others
from ..scenes.scene_reader import SceneReading, SceneRequest, SeenFrom
from ..scenes.texture_image import TexturePicture, texture_slices
from .apply_refinement import apply_refinement
from .build_refinement import RefinementBuild
from .finished_figures import FinishedFigures
from .partial_result import finished_rows, only_rows
from .refinement import Refinement
from .remote_job import RemoteJob, name_body, name_media
from .scene_job import SceneJob

Prepared = tuple[SceneRequest, RefineRequest]
"""What was read, worked out, and the message that asks for its refinement."""


@dataclass(eq=False)
class RefineJob(SceneJob, RemoteJob):
    """What is known of one refinement; changed by the session alone."""

    RESULT: ClassVar[type[Record]] = RefineResult
    KIND: ClassVar[str] = "refine"
    settings: RefineSettings
    """How to refine."""
    freedom: Freedom = field(default_factory=Freedom, kw_only=True)
    """What may move."""
    lens: LensBefore | None = field(default=None, kw_only=True)
    """The camera's lens, where it is refined as well."""
    texture: TexturePicture | None = field(default=None, kw_only=True)
    """The person's texture as it was painted when the scene was read; none: the backend's own."""
    others: tuple[CharacterReading, ...] = field(default=(), kw_only=True)
    """The other characters of the scene, where they count."""
    request: SceneRequest | None = field(default=None, kw_only=True)
    """What was read, worked out."""
    finished: tuple[int, ...] = field(default=(), kw_only=True)
    """Places in the request of the frames that the newest revision has solved."""
    figures: FinishedFigures | None = field(default=None, kw_only=True)
    """Those frames as they are drawn."""
    build: RefinementBuild | None = field(default=None, kw_only=True)
    """Its action, as far as it is built."""

    @property
    def line(self) -> str:
        """How it stands, how many frames are done, and how long it will still take."""
        if not self.is_open or not self.finished or self.has_final:
            return super().line
        return f"{len(self.finished)} of {len(self.scene_frames)} done, {super().line}"

    @property
    def media(self) -> Path | None:
        """The footage, once it is known."""
        return None if self.request is None else self.request.footage

    @property
    def priority(self) -> Priority:
        """A single frame comes before ranges: somebody looks at it."""
        return "interactive" if len(self.scene_frames) == 1 else "normal"

    @property
    def can_be_kept(self) -> bool:
        """Whether frames are done that are not in place."""
        if self.lens is not None and not self.has_final:
            return False  # frames that are done belong to a focal length that is not said yet
        return self.has_final or bool(self.finished)

    @property
    def must_be_shown(self) -> bool:
        """A new shape moves rest joints, which Blender allows in the shown scene alone."""
        refinement = self.refinement()
        return refinement is not None and refinement.changes_shape

    def begin_reading(self) -> None:
        """Read what may move, and the first slice of the scene.

        Raises:
            SceneError: something is missing or cannot be used, or nothing may move.
        """
        armature, scene = find_object(self.armature_uid), find_scene(self.scene_uid)
        if armature is not None:
            check_can_be_animated(armature, self.settings.refine_shape)
            check_can_be_keyed(armature)
        if scene is not None and self.settings.refine_focal != "off":
            self.lens = read_lens(scene)
        super().begin_reading()
        assert armature is not None  # reading has begun
        assert scene is not None
        self.freedom = read_freedom(armature, scene, self.scene_frames, self.settings)

    def slices(
        self, context: bpy.types.Context, armature: bpy.types.Object
    ) -> Generator[float, None, SceneReading]:
        """Read the scene, who else is in it, and the texture as it is painted now."""
        reading = yield from super().slices(context, armature)
        self.others = ()
        if context.scene.posefit.use_others:
            armature = found(self.armature_uid, self.armature)
            self.others = yield from read_others(context, armature, self.scene_frames)
        self.texture = yield from texture_slices(found(self.armature_uid, self.armature))
        return reading

    def preparation(self, client: Client) -> Generator[None, None, Prepared]:
        """Name the files, work out what was read."""
        assert self.reading is not None
        return prepare_request(
            client,
            self.reading,
            self.settings,
            self.by_upload,
            self.freedom,
            self.texture,
            self.others,
        )

    def take_prepared(self, prepared: Prepared) -> RefineRequest:
        """The message to send."""
        self.request, message = prepared
        return message

    def take_result(self, payload: Record, is_final: bool) -> None:
        """Take in a revision; a provisional one may hold a part of the frames."""
        if self.request is None or not isinstance(payload, RefineResult):
            return
        super().take_result(payload, is_final)
        if not is_final:
            rows = finished_rows(self.request.sequence, payload)
            self.finished = tuple(rows.tolist())
            self.figures = FinishedFigures(self.request, payload, rows)

    def refinement(self) -> Refinement | None:
        """What has come of it so far: all frames, or those that are done."""
        if self.request is None or not self.can_be_kept:
            return None
        shape, uid, result = self.settings.refine_shape, self.armature_uid, self.result
        if self.has_final:
            return Refinement(
                self.request, result, shape, uid, freedom=self.freedom, lens=self.lens
            )
        rows = finished_rows(self.request.sequence, result)
        done = only_rows(self.request.sequence, result, rows)
        return Refinement(self.request, done, shape, uid, rows, self.freedom)

    def build_until(self, context: bpy.types.Context, deadline: float) -> bool:
        """Build the action that it will be put in place with."""
        if self.build is None:
            refinement = self.refinement()
            assert refinement is not None
            if "refined" not in refinement.result.status:
                return True  # nothing will be changed
            self.build = RefinementBuild(refinement, context.scene.posefit_review.threshold)
        return self.build.until(deadline)

    def apply(self, context: bpy.types.Context) -> str:
        """Have its armature use the refined action."""
        refinement = self.refinement()
        assert refinement is not None
        return apply_refinement(context, refinement, self.build)

    def drop(self) -> None:
        """Forget what has come of it."""
        super().drop()
        self.finished, self.figures = (), None


def prepare_request(
    client: Client,
    reading: SceneReading,
    settings: RefineSettings,
    by_upload: bool,
    freedom: Freedom,
    texture: TexturePicture | None = None,
    others: tuple[CharacterReading, ...] = (),
) -> Generator[None, None, Prepared]:
    """What a scene reading asks for, its files hashed and announced, in slices without bpy.

    Args:
        client: where the job will go.
        reading: what was read.
        settings: how to refine.
        by_upload: send the footage even where the backend accepts paths.
        freedom: what may move.
        texture: the person's texture; none: the backend paints its own.
        others: other characters of the scene.

    Raises:
        SceneError: the footage can neither be named nor sent, or the scale is not SMPL's.
        BackendError: a file cannot be read.
    """
    request = yield from reading.request_slices()
    assert request.footage is not None  # read_range refuses scenes without, unless told otherwise
    media = yield from name_media(client, request.footage, by_upload)
    body = yield from name_body(client, request.body)
    people = yield from other_people(request, others)
    painted = (
        None if texture is None else client.upload((yield from texture.png_slices()), "texture")
    )
    more_views = []
    for other in request.others:
        more_views.append((yield from _view_reference(client, other, by_upload)))
    return request, RefineRequest(
        sequence=request.sequence,
        media=media,
        body=body,
        settings=settings,
        texture=painted,
        locked_joints=freedom.locked_joints(request.frames.match),
        stiffness=freedom.joint_stiffness(request.frames.match),
        pinned_frames=freedom.pinned_positions(request.frames.scene_frames),
        others=people,
        more_views=tuple(more_views),
    )


def _view_reference(
    client: Client, seen: SeenFrom, by_upload: bool
) -> Generator[None, None, ViewReference]:
    """One more camera as the backend takes it; one that stands still is said once."""
    view = seen.view
    media = yield from name_media(client, view.footage, by_upload)
    return ViewReference(
        name=view.camera,
        media=media,
        frame_indices=view.frame_indices,
        intrinsics=_once(view.intrinsics),
        world_to_camera=_once(seen.world_to_camera),
        image_size=view.image_size,
        distortion=view.distortion,
    )


def _once(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return values[:1] if (values == values[:1]).all() else values
