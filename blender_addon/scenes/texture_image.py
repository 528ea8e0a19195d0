# SPDX-License-Identifier: GPL-3.0-or-later
"""A person's texture as an image of the file: written, read as it is painted now, made a PNG.

Colours are in its first three channels, how well each texel is known in alpha: what is painted over
becomes known. The image is *channel packed*, so that editors show colours where alpha is 0 too.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import bpy
import numpy as np
import numpy.typing as npt

from ..rigs.rig import SceneError

UV_HASH_KEY = "posefit_uv_hash"
"""Custom property of an image: the texture coordinates that it was painted for."""
LARGEST_SIDE = 4096
"""Texels along a side; a larger image is refused."""
_PNG_HASH_KEY = b"posefit uv hash"


@dataclass(frozen=True)
class TexturePicture:
    """A texture as it is now; nothing in it is Blender's."""

    rgba: npt.NDArray[np.uint8]
    """(H, W, 4) sRGB and coverage, first row on top (at v = 1)."""
    uv_hash: str = ""
    """Which texture coordinates it was painted for; empty: unknown."""

    def png(self) -> bytes:
        """The picture as a PNG that the backend reads."""
        height, width = self.rgba.shape[:2]
        rows = np.zeros((height, 1 + 4 * width), np.uint8)  # each row begins with its filter: none
        rows[:, 1:] = self.rgba.reshape(height, -1)
        header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
        chunks = [(b"IHDR", header)]
        if self.uv_hash:
            chunks.append((b"tEXt", _PNG_HASH_KEY + b"\0" + self.uv_hash.encode("latin-1")))
        chunks += [(b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_texture(
    armature: bpy.types.Object, picture: TexturePicture, name: str
) -> bpy.types.Image:
    """Give an armature a texture: a new image, or its own one painted anew."""
    height, width = picture.rgba.shape[:2]
    image = armature.posefit_texture
    if image is None or image.library is not None:
        image = bpy.data.images.new(name, width, height, alpha=True)
        image.alpha_mode = "CHANNEL_PACKED"
        armature.posefit_texture = image
    elif tuple(image.size) != (width, height):
        image.scale(width, height)
    image.pixels.foreach_set((picture.rgba[::-1].astype(np.float32) / 255.0).ravel())
    image[UV_HASH_KEY] = picture.uv_hash
    image.update()
    image.pack()
    return image


def read_texture(armature: bpy.types.Object) -> TexturePicture | None:
    """The texture that refining an armature uses, as it is painted now; none where it has none.

    Raises:
        SceneError: its image cannot be read, or is too large.
    """
    image = armature.posefit_texture
    if image is None:
        return None
    width, height = image.size
    if not (width and height):
        raise SceneError(
            f"image {image.name}, the texture of {armature.name}, cannot be read: choose another, "
            "or clear Texture"
        )
    if max(width, height) > LARGEST_SIDE:
        raise SceneError(
            f"image {image.name}, the texture of {armature.name}, is {width} x {height}: expected "
            f"at most {LARGEST_SIDE} a side, scale it down (Image > Resize)"
        )
    values = np.empty(width * height * image.channels, np.float32)
    image.pixels.foreach_get(values)
    if image.is_float:  # scene linear, where eight-bit images hold what the file has
        values = _srgb(values)
    bytes_ = np.clip(values * 255.0 + 0.5, 0, 255).astype(np.uint8)
    pixels = bytes_.reshape(height, width, image.channels)[::-1]
    rgba = np.full((height, width, 4), 255, np.uint8)
    if image.channels < 3:
        rgba[..., :3] = pixels[..., :1]
    else:
        rgba[..., : image.channels] = pixels
    return TexturePicture(rgba, str(image.get(UV_HASH_KEY, "")))


def _srgb(linear: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    positive = np.maximum(linear, 0.0031308)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * positive ** (1 / 2.4) - 0.055)


def attach() -> None:
    """Give every object its texture, and the frames that it is painted from."""
    kept = {"override": {"LIBRARY_OVERRIDABLE"}, "options": set()}
    bpy.types.Object.posefit_texture = bpy.props.PointerProperty(
        name="Texture",
        description="The person's texture, which refining compares with the footage. Without one "
        "the backend paints one for each frame, from frames that do not share its errors",
        type=bpy.types.Image,
        override={"LIBRARY_OVERRIDABLE"},
    )
    bpy.types.Object.posefit_texture_frames = bpy.props.StringProperty(
        name="Painted From",
        description="Frames that Build Texture paints from, as 1, 20-24: choose some whose pose is "
        "right. Empty takes the range that Refine Range refines",
        **kept,
    )


def detach() -> None:
    """Take them away again."""
    del bpy.types.Object.posefit_texture
    del bpy.types.Object.posefit_texture_frames
