# SPDX-License-Identifier: GPL-3.0-or-later
"""The person's texture, painted by the backend from chosen frames of the footage."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import bpy
import numpy as np

from posefit_shared.client import Client
from posefit_shared.messages import Record, TextureRequest, TextureResult

from ..rigs.lookup import find_object
from ..rigs.rig import SceneError
from ..scenes.scene_reader import SceneReading
from ..scenes.texture_image import TexturePicture, write_texture
from .picture_build import PictureBuild
from .remote_job import RemoteJob, name_body, name_media
from .rendering_job import show_image
from .scene_job import SceneJob


@dataclass(eq=False)
class TextureJob(SceneJob, RemoteJob):
    """What is known of one texture; changed by the session alone."""

    RESULT: ClassVar[type[Record]] = TextureResult
    KIND: ClassVar[str] = "texture"
    resolution: int = field(default=1024, kw_only=True)
    """Texels a side."""

    @property
    def label(self) -> str:
        """What is worked on, for the panel."""
        return f"Texture of {super().label}"

    @property
    def media(self) -> Path | None:
        """The footage, once it is known."""
        return None if self.reading is None else self.reading.footage

    def preparation(self, client: Client) -> Generator[None, None, TextureRequest]:
        """Work out what was read, name the files."""
        assert self.reading is not None
        return _request(client, self.reading, self.by_upload, self.resolution)

    def build_until(self, context: bpy.types.Context, deadline: float) -> bool:
        """Make the texture a PNG."""
        return self._begun().until(deadline)

    def _begun(self) -> PictureBuild:
        if self.build is None:
            self.build = PictureBuild(_png_of(self.result))
        return self.build

    def apply(self, context: bpy.types.Context) -> str:
        """Put the texture into an image of the armature's."""
        armature = find_object(self.armature_uid)
        if armature is None:
            raise SceneError(
                f"{self.armature} was removed while its texture was painted: bring it back with "
                "Undo and keep the result, or drop it"
            )
        result = self.result
        (png,) = self._begun().to_end()
        image = write_texture(armature, png, result.uv_hash, f"{armature.name}.texture")
        show_image(context, [image])
        seen = float((result.coverage > 0).mean())
        return f"texture {image.name} is painted, {seen:.0%} of it was seen in the footage"


def _png_of(result: TextureResult) -> Generator[None, None, list[bytes]]:
    """The picture with its coverage as alpha."""
    coverage = np.clip(result.coverage * 255.0 + 0.5, 0, 255).astype(np.uint8)
    rgba = np.concatenate([result.rgb, coverage[..., None]], -1)
    yield
    return [(yield from TexturePicture(rgba, result.uv_hash).png_slices())]


def _request(
    client: Client, reading: SceneReading, by_upload: bool, resolution: int
) -> Generator[None, None, TextureRequest]:
    """In slices, without bpy."""
    request = yield from reading.request_slices()
    assert request.footage is not None  # read_range refuses scenes without
    media = yield from name_media(client, request.footage, by_upload)
    body = yield from name_body(client, request.body)
    return TextureRequest(
        sequence=request.sequence,
        media=media,
        body=body,
        resolution=resolution,
    )
