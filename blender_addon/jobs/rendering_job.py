# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's renderings of a body: what the refinement compares with the footage, to look at.

One frame is read as it is shown and rendered by the backend through the scene's camera; each kind
of picture becomes an image of the file, so that the image editor can show it.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import ClassVar

import bpy
import numpy as np
import numpy.typing as npt

from posefit_shared.client import Client
from posefit_shared.messages import Priority, Record
from posefit_shared.payloads import PreviewRequest, PreviewResult

from ..rigs.lookup import found
from ..scenes import scene_camera, scene_view
from ..scenes.png_image import fill_image, png_slices
from ..scenes.scene_reader import SceneReading, read_range
from ..scenes.texture_image import TexturePicture, texture_slices
from .picture_build import PictureBuild
from .remote_job import RemoteJob, name_body
from .scene_job import SceneJob

Array = npt.NDArray[np.float64]

MODALITIES = ("rgb", "depth", "normals", "vertex_colors", "mask")
"""What the backend can render."""


@dataclass(eq=False)
class RenderingJob(SceneJob, RemoteJob):
    """What is known of one frame's renderings; changed by the session alone."""

    RESULT: ClassVar[type[Record]] = PreviewResult
    KIND: ClassVar[str] = "preview"
    modalities: tuple[str, ...] = field(default=MODALITIES, kw_only=True)
    """Which pictures."""
    texture: TexturePicture | None = field(default=None, kw_only=True)
    """What the body wears; none: it is grey."""
    longest_side: int = field(default=1024, kw_only=True)
    """How many pixels they have along their longer side, at most."""

    @property
    def label(self) -> str:
        """What is worked on, for the panel."""
        return f"Renderings of {super().label}"

    @property
    def media(self) -> None:
        """No file but the body is needed."""
        return None

    @property
    def priority(self) -> Priority:
        """Somebody waits to look at it."""
        return "interactive"

    def slices(
        self, context: bpy.types.Context, armature: bpy.types.Object
    ) -> Generator[float, None, SceneReading]:
        """Read the frame through the scene's camera; footage is not needed."""
        scene_camera.scene_camera(context.scene)
        view = scene_view.view_to_export(context.scene, self.scene_frames, with_camera=True)
        reading = yield from read_range(context, armature, self.scene_frames, view)
        self.texture = yield from texture_slices(found(self.armature_uid, self.armature))
        return reading

    def preparation(self, client: Client) -> Generator[None, None, PreviewRequest]:
        """Work out what was read, name the body."""
        assert self.reading is not None
        return _request(client, self.reading, self.modalities, self.longest_side, self.texture)

    def build_until(self, context: bpy.types.Context, deadline: float) -> bool:
        """Make the pictures PNGs."""
        return self._begun().until(deadline)

    def _begun(self) -> PictureBuild:
        if self.build is None:
            self.build = PictureBuild(_pngs_of(self.result))
        return self.build

    def apply(self, context: bpy.types.Context) -> str:
        """Put each picture into an image of its own, and the first into an open image editor."""
        images = [
            write_image(image_name(modality), png)
            for modality, png in zip(self.result.modalities, self._begun().to_end(), strict=True)
        ]
        show_image(context, images)
        names = ", ".join(image.name for image in images)
        return f"frame {self.scene_frames[0]} is rendered, see the image editor: {names}"


def _pngs_of(result: PreviewResult) -> Generator[None, None, list[bytes]]:
    found = []
    for picture in result.images:
        found.append((yield from png_slices(picture)))
    return found


def image_name(modality: str) -> str:
    """What an image of that kind is called."""
    return f"posefit {modality.replace('_', ' ')}"


def fitted(
    intrinsics: npt.ArrayLike, image_size: tuple[int, int], longest_side: int
) -> tuple[Array, tuple[int, int]]:
    """Intrinsics (3, 3) and size (width, height) of a picture made smaller to fit.

    Args:
        intrinsics: (3, 3) of the whole picture, pixels.
        image_size: width and height of it.
        longest_side: how many pixels either may have.
    """
    scale = min(1.0, longest_side / max(image_size))
    width, height = (max(1, round(side * scale)) for side in image_size)
    shrink = np.diag([width / image_size[0], height / image_size[1], 1.0])
    return shrink @ np.asarray(intrinsics, np.float64), (width, height)


def write_image(name: str, png: bytes) -> bpy.types.Image:
    """The image of that name, made where there is none, with a PNG that is saved with the file."""
    image = bpy.data.images.get(name) or bpy.data.images.new(name, 1, 1, alpha=True)
    fill_image(image, png)
    return image


def show_image(context: bpy.types.Context, images: list[bpy.types.Image]) -> None:
    """Have an open image editor show the first, unless it shows one of them already."""
    areas = [area for window in context.window_manager.windows for area in window.screen.areas]
    editor = next((area for area in areas if area.type == "IMAGE_EDITOR"), None)
    if editor is not None and editor.spaces.active.image not in images:
        editor.spaces.active.image = images[0]


def _request(
    client: Client,
    reading: SceneReading,
    modalities: tuple[str, ...],
    longest_side: int,
    texture: TexturePicture | None,
) -> Generator[None, None, PreviewRequest]:
    """In slices, without bpy."""
    request = yield from reading.request_slices()
    body = yield from name_body(client, request.body)
    motion = request.sequence
    assert motion.intrinsics is not None  # the scene has a camera
    assert motion.world_to_camera is not None
    assert motion.image_size is not None
    worn = None if texture is None else client.upload((yield from texture.png_slices()), "texture")
    whole = motion.intrinsics.reshape(-1, 3, 3)[0]
    intrinsics, size = fitted(whole, motion.image_size, longest_side)
    return PreviewRequest(
        sequence=motion,
        intrinsics=intrinsics,
        world_to_camera=motion.world_to_camera.reshape(-1, 4, 4)[0].astype(np.float64),
        image_size=size,
        modalities=modalities,
        body=body,
        texture=worn,
    )
