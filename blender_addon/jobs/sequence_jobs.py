# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs whose answer is a sequence that becomes a body: a first estimate, another tool's file."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import bpy
import numpy as np

from posefit_shared.client import Client
from posefit_shared.messages import (
    EstimateRequest,
    EstimateResult,
    ImportRequest,
    ImportResult,
    Record,
    Request,
)
from posefit_shared.sequence import Sequence

from ..keys import transform_sampling
from ..keys.fcurves import slot_of
from ..rigs import body_builder
from ..rigs.lookup import find_scene
from ..rigs.rig import SceneError
from ..scenes import scene_camera
from ..scenes.clip_view import ClipView, camera_of_clip
from ..scenes.frame_stepping import matrices_over
from ..sequences.sequence_placing import seen_from
from .remote_job import RemoteJob, name_body, name_media
from .sequence_job import MotionSlices, SequenceJob


@dataclass(eq=False)
class RemoteSequenceJob(SequenceJob, RemoteJob):
    """One whose sequence comes from the backend."""

    def motion(self) -> Sequence:
        """The sequence that came."""
        if find_scene(self.scene_uid) is None:
            raise SceneError(
                f"scene {self.scene} was removed: bring it back with Undo and keep the result, or "
                "drop it"
            )
        return self.result.sequence


@dataclass(eq=False)
class EstimateJob(RemoteSequenceJob):
    """A first estimate of one person in a clip."""

    RESULT: ClassVar[type[Record]] = EstimateResult
    KIND: ClassVar[str] = "estimate"
    view: ClipView
    """The clip."""
    person: int = 0
    """Which person, the largest first."""

    @property
    def media(self) -> Path:
        """The clip's file or folder."""
        return self.view.path

    def preparation(self, client: Client) -> Generator[None, None, Request]:
        """Name the clip and the body."""
        return _estimate_request(client, self.view, self.by_upload, self.options.body, self.person)

    def camera(self) -> bpy.types.Object | None:
        """The camera that the body is to stand before; none: a new one."""
        motion = self.motion()
        scene = find_scene(self.scene_uid)
        assert scene is not None
        return None if motion.world_to_camera is None else camera_of_clip(scene, self.view, motion)

    def made_from(self) -> tuple:
        """The camera, its action, and where it is on the first frame and the last."""
        camera = self.camera()
        if camera is None:
            return super().made_from()
        ends = self.view.scene_frames_of(self.motion().frame_indices[[0, -1]])
        where = ()
        if transform_sampling.is_object_sampled(camera):
            where = transform_sampling.object_matrices(camera, ends).tobytes()
        return slot_of(camera), camera.session_uid, where

    def placed(self) -> MotionSlices:
        """The motion before the camera of the clip, or with a new one."""
        motion = self.motion()
        assert motion.frame_indices is not None
        decoded = motion.frame_indices
        scene_frames = self.view.scene_frames_of(decoded)
        camera = self.camera()
        first = scene_frames[0] - int(decoded[0])
        options = replace(self.options, footage=self.view.path, first_scene_frame=first)
        if camera is not None:
            name = camera.name
            seen = yield from matrices_over(bpy.context, name, scene_frames)
            world_to_camera = scene_camera.world_to_cameras(seen, 1.0)
            yield
            body = yield from body_builder.loading(options.body)
            betas = motion.betas if motion.betas.ndim == 1 else motion.betas.mean(axis=0)
            pelvis = body_builder.rest_joints(body, betas)[0]
            motion = seen_from(motion, world_to_camera, pelvis)
            first = scene_frames[0]
            motion = motion.replace(frame_indices=np.array(scene_frames) - first)
            options = replace(self.options, with_camera=False, first_scene_frame=first)
            yield
        return motion, options

    def apply(self, context: bpy.types.Context) -> str:
        """Build the body in its motion, before the camera of the clip or with a new one."""
        motion, imported = self.motion(), self.place(context)
        return _estimated_words(motion, imported.armature.name, imported.notes)


@dataclass(eq=False)
class ImportJob(RemoteSequenceJob):
    """Another tool's result file, read by the backend."""

    RESULT: ClassVar[type[Record]] = ImportResult
    KIND: ClassVar[str] = "import"
    path: Path
    """The file."""
    person: int | None = field(default=None, kw_only=True)
    """Which person of the file; none: the only one, or the first."""
    image_size: tuple[int, int] | None = field(default=None, kw_only=True)
    """Width and height of the footage, where it is known: some tools' files leave it out."""

    @property
    def media(self) -> Path:
        """The file."""
        return self.path

    def preparation(self, client: Client) -> Generator[None, None, Request]:
        """Name the file, and what it may not say itself."""
        request = partial(ImportRequest, person=self.person, image_size=self.image_size)
        return _import_request(client, request, self.path, self.by_upload, self.options.body)

    def apply(self, context: bpy.types.Context) -> str:
        """Build the body with its motion, camera and footage."""
        theirs = self.result.report.get("notes") or ()
        return "; ".join([super().apply(context), *map(str, theirs)])


def _estimate_request(
    client: Client, view: ClipView, by_upload: bool, body: str, person: int
) -> Generator[None, None, EstimateRequest]:
    """In slices, without bpy."""
    media = yield from name_media(client, view.path, by_upload)
    body_name = yield from name_body(client, body)
    count = len(view.scene_frames)
    return EstimateRequest(
        media=media,
        person=person,
        body=body_name,
        intrinsics=view.intrinsics,
        distortion=view.distortion,
        start_frame=view.first_decoded,
        stop_frame=view.first_decoded + count if count else None,
    )


def _import_request(
    client: Client,
    request: Callable[..., ImportRequest],
    path: Path,
    by_upload: bool,
    body: str,
) -> Generator[None, None, ImportRequest]:
    """In slices, without bpy."""
    media = yield from name_media(client, path, by_upload)
    body_name = yield from name_body(client, body)
    return request(media=media, body=body_name)


def _estimated_words(motion: Sequence, name: str, notes: tuple[str, ...]) -> str:
    words = f"{len(motion)} frames estimated as {name}"
    unseen = (motion.status or ()).count("no_person")
    if unseen:
        words += f", {unseen} of them without a person, carried across"
    return "; ".join([words, *notes])
