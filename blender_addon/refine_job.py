# SPDX-License-Identifier: GPL-3.0-or-later
"""One refinement on its way: the scene is read, its files are named, the backend reports."""

from __future__ import annotations

from dataclasses import dataclass, field

import bpy

from posefit_shared.body_files import FREE_BODY
from posefit_shared.client import Client
from posefit_shared.messages import MediaReference, Progress, RefineRequest
from posefit_shared.settings import RefineSettings

from .artist_control import read_freedom
from .freedom import Freedom
from .rig import SceneError
from .scene_job import SceneJob
from .scene_reader import SceneReading, SceneRequest

Prepared = tuple[SceneRequest, RefineRequest]
"""What was read, worked out, and the message that asks for its refinement."""


@dataclass
class RefineJob(SceneJob):
    """What is known of one refinement; changed by the session alone."""

    settings: RefineSettings
    """How to refine."""
    freedom: Freedom = field(default_factory=Freedom, kw_only=True)
    """What may move."""
    request: SceneRequest | None = field(default=None, kw_only=True)
    """What was read, worked out."""
    by_upload: bool = field(default=False, kw_only=True)
    """Whether the footage travels, instead of being named by path."""

    def begin_reading(self, context: bpy.types.Context) -> None:
        """Read what may move, and the first slice of the scene.

        Raises:
            SceneError: something is missing or cannot be used, or nothing may move.
        """
        super().begin_reading(context)
        armature = bpy.data.objects[self.armature]
        self.freedom = read_freedom(armature, context.scene, self.scene_frames, self.settings)

    def report(self, progress: Progress) -> None:
        """Take in how far the backend is."""
        self.fraction = progress.fraction
        left = "" if progress.eta_s is None else f", {progress.eta_s:.0f} s left"
        self.words = f"{progress.message or progress.stage or 'computing'}{left}"


def prepare_request(
    client: Client,
    reading: SceneReading,
    settings: RefineSettings,
    by_upload: bool,
    freedom: Freedom,
) -> Prepared:
    """What a scene reading asks for, its files hashed and announced; may take seconds.

    Runs in a thread of its own: no bpy here.

    Args:
        client: where the job will go.
        reading: what was read.
        settings: how to refine.
        by_upload: send the footage even where the backend accepts paths.
        freedom: what may move.

    Raises:
        SceneError: the footage can neither be named nor sent, or the scale is not SMPL's.
        BackendError: a file cannot be read.
    """
    request = reading.request()
    assert request.footage is not None  # read_range refuses scenes without, unless told otherwise
    welcome = client.welcome
    if welcome is not None and welcome.accepts_paths and not by_upload:
        media = MediaReference(path=str(request.footage))
    elif request.footage.is_dir():
        raise SceneError(
            f"the backend may not open the folder {request.footage}: start it with --media-root "
            "naming that folder, or one above it"
        )
    else:
        content = client.upload(request.footage, "media")
        media = MediaReference(content_hash=content, name=request.footage.name)
    body = FREE_BODY if request.body == FREE_BODY else client.upload(request.body, "body")
    return request, RefineRequest(
        sequence=request.sequence,
        media=media,
        body=body,
        settings=settings,
        locked_joints=freedom.locked_joints(request.frames.match),
        stiffness=freedom.joint_stiffness(request.frames.match),
        pinned_frames=freedom.pinned_positions(request.frames.scene_frames),
    )
