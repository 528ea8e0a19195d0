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

from ..rigs import body_builder
from ..rigs.lookup import find_scene
from ..rigs.rig import SceneError
from ..scenes import scene_camera
from ..scenes.clip_view import ClipView, camera_of_clip
from ..scenes.frame_stepping import matrices_over
from ..sequences.sequence_import import ImportOptions, import_sequence
from ..sequences.sequence_placing import seen_from
from ..slices import to_end
from .remote_job import RemoteJob, name_body, name_media


@dataclass(eq=False)
class SequenceJob(RemoteJob):
    """What is known of one such job; changed by the session alone."""

    name: str
    """What the body is to be called."""
    options: ImportOptions
    """How the sequence comes in."""

    @property
    def label(self) -> str:
        """What is worked on, for the panel."""
        return self.name

    @property
    def must_be_shown(self) -> bool:
        """A body can be built in the shown scene alone."""
        return True

    def motion(self) -> Sequence:
        """The sequence that came."""
        if find_scene(self.scene_uid) is None:
            raise SceneError(
                f"scene {self.scene} was removed: bring it back with Undo and keep the result, or "
                "drop it"
            )
        return self.result.sequence


@dataclass(eq=False)
class EstimateJob(SequenceJob):
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

    def apply(self, context: bpy.types.Context) -> str:
        """Build the body in its motion, before the camera of the clip or with a new one."""
        motion = self.motion()
        assert motion.frame_indices is not None
        decoded = motion.frame_indices
        scene_frames = self.view.scene_frames_of(decoded)
        camera = camera_of_clip(context.scene, self.view, motion)
        first = scene_frames[0] - int(decoded[0])
        options = replace(self.options, footage=self.view.path, first_scene_frame=first)
        if camera is not None and motion.world_to_camera is not None:
            world_to_camera = scene_camera.world_to_cameras(
                to_end(matrices_over(context, camera.name, scene_frames)), 1.0
            )
            body = body_builder.load_body(options.body)
            betas = motion.betas if motion.betas.ndim == 1 else motion.betas.mean(axis=0)
            pelvis = body_builder.rest_joints(body, betas)[0]
            motion = seen_from(motion, world_to_camera, pelvis)
            first = scene_frames[0]
            motion = motion.replace(frame_indices=np.array(scene_frames) - first)
            options = replace(self.options, with_camera=False, first_scene_frame=first)
        imported = import_sequence(context, motion, options)
        return _estimated_words(motion, imported.armature.name, imported.notes)


@dataclass(eq=False)
class ImportJob(SequenceJob):
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
        motion = self.motion()
        imported = import_sequence(context, motion, self.options)
        words = f"{len(motion)} frames imported as {imported.armature.name}"
        theirs = self.result.report.get("notes") or ()
        return "; ".join([words, *imported.notes, *map(str, theirs)])


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
