# SPDX-License-Identifier: Apache-2.0
"""A finished texture map and its PNG, which image editors may paint on."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, PngImagePlugin
from torch import Tensor

from ..body import BodyModel
from ..body_model import kept_with_body
from ..errors import PosefitError
from ..picture_files import PictureError, read_picture
from ..whole_files import replace_file

__all__ = ["Texture", "TextureError", "load_png", "save_png", "uv_hash"]

logger = logging.getLogger(__name__)

_HASH_KEY = "posefit uv hash"
_LARGEST_SIDE = 8192


class TextureError(PosefitError):
    """A texture that cannot be read, made, or used on this body."""


@dataclass(frozen=True)
class Texture:
    """Colours of one person's surface."""

    rgb: Float[Tensor, "texheight texwidth 3"]
    """0 to 1; the first row is v = 1. Where coverage is 0 it only continues its neighbours."""
    coverage: Float[Tensor, "texheight texwidth"]
    """How well each texel is known, 0 to 1."""
    uv_hash: str
    """Which texture coordinates it was painted for; empty: unknown."""

    def as_map(self) -> Float[Tensor, "4 texheight texwidth"]:
        """Colour and coverage as the renderer takes them."""
        return torch.cat([self.rgb, self.coverage[..., None]], dim=-1).permute(2, 0, 1).contiguous()

    def maps(self, body: BodyModel) -> Callable[[Sequence[int]], Float[Tensor, "1 4 th tw"]]:
        """This map for every frame, on the body's device.

        Raises:
            TextureError: the body has other texture coordinates, or none.
        """
        check_fits(self, body)
        kept: dict[tuple[torch.device, torch.dtype], Tensor] = self.__dict__.setdefault("_maps", {})
        place = body.device, body.dtype
        if place not in kept:
            kept[place] = self.as_map()[None].to(device=body.device, dtype=body.dtype)
        one_for_all = kept[place]
        return lambda frames: one_for_all


@kept_with_body
def uv_hash(body: BodyModel) -> str:
    """Hash of a body's texture coordinates: textures fit every body that shares them.

    Raises:
        TextureError: the body has none.
    """
    if body.vt is None or body.ft is None:
        raise TextureError(
            f"the body {body.name!r} has no texture coordinates, so it can wear no texture: "
            "use a body file with vt and ft"
        )
    digest = hashlib.sha256()
    digest.update(np.ascontiguousarray(body.vt.cpu().numpy(), dtype="<f4").tobytes())
    digest.update(np.ascontiguousarray(body.ft.cpu().numpy(), dtype="<i4").tobytes())
    return digest.hexdigest()[:32]


def check_fits(texture: Texture, body: BodyModel) -> None:
    """Refuse a texture that was painted for other texture coordinates.

    Raises:
        TextureError: it was.
    """
    expected = uv_hash(body)
    if texture.uv_hash == "":
        logger.warning("the texture does not say which body it is for; taken to be this one's")
    elif texture.uv_hash != expected:
        raise TextureError(
            f"the texture was painted for texture coordinates {texture.uv_hash[:8]}, the body "
            f"{body.name!r} has {expected[:8]}: use the body it was made with, or paint a new one "
            "with posefit texture"
        )


def save_png(texture: Texture, path: str | Path) -> None:
    """Write a texture: coverage is the alpha channel, the hash of its UVs a text chunk.

    Raises:
        TextureError: the folder cannot be written or the disk is full; no half file is left.
    """
    pixels = (texture.as_map().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    text = PngImagePlugin.PngInfo()
    text.add_text(_HASH_KEY, texture.uv_hash)
    picture = Image.fromarray(pixels, "RGBA")
    try:
        replace_file(Path(path), lambda partial: picture.save(partial, format="PNG", pnginfo=text))
    except OSError as error:
        raise TextureError(
            f"could not write {path} ({error.strerror or error}): free some space or choose "
            "another folder"
        ) from error


def load_png(path: str | Path, body: BodyModel | None = None) -> Texture:
    """Read a texture, also after an image editor has been at it.

    Editors may turn it into another size, depth or palette and drop text and alpha: without alpha
    everything counts as known, without the text the body is not checked.

    Args:
        path: PNG or another picture.
        body: if given, the texture must fit it.

    Raises:
        TextureError: it is no picture, unreasonably large, or for another body.
    """

    def convert(picture: Image.Image) -> tuple[str, np.ndarray]:
        if max(picture.size) > _LARGEST_SIDE:
            raise TextureError(
                f"{path} is {picture.size[0]} × {picture.size[1]} pixels, expected at most "
                f"{_LARGEST_SIDE} a side: scale it down"
            )
        return str(picture.info.get(_HASH_KEY, "")), _eight_bit_rgba(picture)

    try:
        hash_text, pixels = read_picture(path, convert)
    except PictureError as error:
        raise TextureError(
            f"{path} cannot be read as a texture ({error}): give a PNG that posefit texture wrote"
        ) from error
    values = torch.from_numpy(pixels.astype(np.float32) / 255.0)
    texture = Texture(values[..., :3].contiguous(), values[..., 3].contiguous(), hash_text)
    if body is not None:
        check_fits(texture, body)
    return texture


def _eight_bit_rgba(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith(("I", "F")):  # 16-bit grey: Pillow clips instead of scaling
        grey = np.asarray(picture, dtype=np.float64)
        scaled = (grey / max(65535.0, float(grey.max(initial=0))) * 255).astype(np.uint8)
        picture = Image.fromarray(scaled, "L")
    return np.asarray(picture.convert("RGBA"))
