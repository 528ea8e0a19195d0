# SPDX-License-Identifier: GPL-3.0-or-later
"""A person's texture as an image of the file: written, read as it is painted now, made a PNG.

Colours are in its first three channels, how well each texel is known in alpha: what is painted over
becomes known. The image is *channel packed*, so that editors show colours where alpha is 0 too.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import bpy
import numpy as np
import numpy.typing as npt

from ..rigs.rig import SceneError
from ..slices import to_end
from .png_image import fill_image, png_slices

UV_HASH_KEY = "posefit_uv_hash"
"""Custom property of an image: the texture coordinates that it was painted for."""
_TEXELS_AT_ONCE = 1 << 17
"""That are read between two pauses."""
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

    def png_slices(self) -> Generator[None, None, bytes]:
        """The picture as a PNG that the backend reads; yields where it may pause."""
        texts = {_PNG_HASH_KEY: self.uv_hash.encode("latin-1")} if self.uv_hash else {}
        return png_slices(self.rgba, texts)


def write_texture(
    armature: bpy.types.Object, png: bytes, uv_hash: str, name: str
) -> bpy.types.Image:
    """Give an armature a texture: a new image, or its own one painted anew.

    Args:
        armature: whose it is.
        png: the picture.
        uv_hash: which texture coordinates it was painted for; empty: unknown.
        name: what a new image is called.
    """
    image = armature.posefit_texture
    if image is None or image.library is not None:
        image = bpy.data.images.new(name, 1, 1, alpha=True)
        image.alpha_mode = "CHANNEL_PACKED"
        armature.posefit_texture = image
    fill_image(image, png)
    image[UV_HASH_KEY] = uv_hash
    return image


def read_texture(armature: bpy.types.Object) -> TexturePicture | None:
    """`texture_slices` to their end at once."""
    return to_end(texture_slices(armature))


def texture_slices(armature: bpy.types.Object) -> Generator[float, None, TexturePicture | None]:
    """The texture that refining an armature uses, as it is painted now; none where it has none.

    Args:
        armature: whose it is; not used after a pause.

    Yields:
        Where it may pause: the share that is done, 0 to 1.

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
    channels, is_float = image.channels, image.is_float
    uv_hash = str(image.get(UV_HASH_KEY, ""))
    values = np.empty(width * height * channels, np.float32)
    image.pixels.foreach_get(values)
    del armature, image
    rows = values.reshape(height, width, channels)[::-1]
    rgba = np.empty((height, width, 4), np.uint8)
    at_once = max(1, _TEXELS_AT_ONCE // width)
    for start in range(0, height, at_once):
        yield start / height
        some = slice(start, start + at_once)
        rgba[some] = _eight_bits(rows[some], is_float)
    return TexturePicture(rgba, uv_hash)


def _eight_bits(values: npt.NDArray[np.float32], is_linear: bool) -> npt.NDArray[np.uint8]:
    """Rows (H, W, 4) of an image's values (H, W, 1 to 4)."""
    if is_linear:  # scene linear, where eight-bit images hold what the file has
        values = _srgb(values)
    pixels = np.clip(values * 255.0 + 0.5, 0, 255).astype(np.uint8)
    rgba = np.full((*pixels.shape[:2], 4), 255, np.uint8)
    if pixels.shape[2] < 3:
        rgba[..., :3] = pixels[..., :1]
    else:
        rgba[..., : pixels.shape[2]] = pixels
    return rgba


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
