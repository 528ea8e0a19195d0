# SPDX-License-Identifier: GPL-3.0-or-later
"""One refinement on its way: read the scene in slices, name its files, wait, end in words."""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator
from concurrent.futures import Future
from dataclasses import dataclass, field

import bpy

from posefit_shared.body_files import FREE_BODY
from posefit_shared.client import Client
from posefit_shared.messages import MediaReference, Progress, RefineRequest
from posefit_shared.settings import RefineSettings

from .rig import SceneError
from .scene_reader import SceneReading, SceneRequest, read_range

Prepared = tuple[SceneRequest, RefineRequest]
"""What was read, worked out, and the message that asks for its refinement."""


@dataclass
class RefineJob:
    """What is known of one refinement; changed by the session alone."""

    scene: str
    """Name of the scene it was asked in."""
    armature: str
    """Name of the armature."""
    scene_frames: tuple[int, ...]
    """Blender's frames."""
    settings: RefineSettings
    """How to refine."""
    job_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Its name in this session."""
    remote_id: str = ""
    """Its name at the backend, once it was handed over."""
    reading: SceneReading | None = None
    """What was read, once it was."""
    request: SceneRequest | None = None
    """That, worked out."""
    preparing: Future[Prepared] | None = None
    """Its request in the making."""
    by_upload: bool = False
    """Whether the footage travels, instead of being named by path."""
    words: str = "reading the scene"
    """How it stands, for the panel."""
    fraction: float = 0.0
    """How much is done, 0 to 1."""
    is_open: bool = True
    """Whether it is still under way."""
    is_problem: bool = False
    """Whether it ended badly."""
    _slices: Generator[float, None, SceneReading] | None = None

    @property
    def label(self) -> str:
        """What is refined, for the panel."""
        first, last = self.scene_frames[0], self.scene_frames[-1]
        return f"{self.armature} {first}" if first == last else f"{self.armature} {first}-{last}"

    @property
    def is_reading(self) -> bool:
        """Whether the scene is still being read."""
        return self.is_open and self._slices is not None

    def begin_reading(self, context: bpy.types.Context) -> None:
        """Read the first slice of the scene, so that what is missing is said at once.

        Raises:
            SceneError: something is missing or cannot be used.
        """
        armature = bpy.data.objects.get(self.armature)
        if armature is None:
            raise SceneError(f"{self.armature} is gone: select an armature")
        self._slices = read_range(context, armature, self.scene_frames)
        self.read_until(time.monotonic())

    def read_until(self, deadline: float) -> None:
        """Read on until a time, at least one slice.

        Raises:
            SceneError: something was deleted or cannot be used.
        """
        assert self._slices is not None
        if bpy.context.scene.name != self.scene:
            raise SceneError(f"scene {self.scene} was left while it was read: start again there")
        try:
            while True:
                self.words = f"reading the scene ({next(self._slices):.0%})"
                if time.monotonic() >= deadline:
                    return
        except StopIteration as done:
            self.reading, self._slices = done.value, None

    def report(self, progress: Progress) -> None:
        """Take in how far the backend is."""
        self.fraction = progress.fraction
        left = "" if progress.eta_s is None else f", {progress.eta_s:.0f} s left"
        self.words = f"{progress.message or progress.stage or 'computing'}{left}"

    def end(self, words: str, is_problem: bool = False) -> None:
        """Nothing more will come of it."""
        self.words, self.is_problem, self.is_open = words, is_problem, False
        self._slices = self.preparing = None


def prepare_request(
    client: Client, reading: SceneReading, settings: RefineSettings, by_upload: bool
) -> Prepared:
    """What a scene reading asks for, its files hashed and announced; may take seconds.

    Runs in a thread of its own: no bpy here.

    Args:
        client: where the job will go.
        reading: what was read.
        settings: how to refine.
        by_upload: send the footage even where the backend accepts paths.

    Raises:
        SceneError: the footage can neither be named nor sent, or the scale is not SMPL's.
        BackendError: a file cannot be read.
    """
    request = reading.request()
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
        sequence=request.sequence, media=media, body=body, settings=settings
    )
