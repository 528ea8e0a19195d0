# SPDX-License-Identifier: Apache-2.0
"""The overlay video: the motion as it came and as it went, side by side over the footage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from posefit_shared.sequence import Sequence

from ..body import BodyModel
from ..errors import PosefitError
from ..views import View
from .data import Progress, pose_frames
from .drawing import AFTER_COLOR, BEFORE_COLOR, crop_box, draw_over, shrink

__all__ = ["VideoError", "write_overlay_video"]

HEIGHT = 720
"""Of the video at most, pixels."""
_GAP = 6
"""Pixels between the two pictures."""
_CHUNK = 32

RgbImage = npt.NDArray[np.uint8]


class VideoError(PosefitError):
    """A video that cannot be written; says why."""


def write_overlay_video(
    path: str | os.PathLike[str],
    view: View,
    before: Sequence,
    after: Sequence,
    body: BodyModel,
    *,
    progress: Progress | None = None,
) -> None:
    """Write both motions over the footage, side by side, as H.264 in an MP4.

    Args:
        path: the file to write; it appears whole or not at all.
        view: pictures and cameras.
        before: motion on the left.
        after: motion on the right, of the same frames.
        body: of both.
        progress: told the share that is done.

    Raises:
        VideoError: the view has no pictures, or the file cannot be written.
        FootageError: a frame cannot be decoded.
    """
    frames = np.flatnonzero(view.frame_indices >= 0)
    if not len(frames):
        raise VideoError("the view has no pictures of this motion: no overlay video")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.stem + ".part.mp4")
    pictures = _pictures(view, frames, before, after, body)
    try:
        with av.open(str(partial), "w", format="mp4", options={"movflags": "faststart"}) as file:
            stream = None
            for done, picture in enumerate(pictures, 1):
                if stream is None:
                    rate = Fraction(view.footage.fps).limit_denominator(1001)
                    stream = file.add_stream("libx264", rate=rate, options={"crf": "20"})
                    stream.height, stream.width = picture.shape[:2]
                    stream.pix_fmt = "yuv420p"
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                if progress is not None:
                    progress(done / len(frames))
            if stream is not None:
                file.mux(stream.encode())
    except (av.error.FFmpegError, OSError) as error:
        partial.unlink(missing_ok=True)
        raise VideoError(f"{path} cannot be written: {error}") from error
    partial.replace(path)


def _pictures(
    view: View,
    frames: npt.NDArray[np.int64],
    before: Sequence,
    after: Sequence,
    body: BodyModel,
) -> Iterator[RgbImage]:
    box = _box_of_clip(view, frames, before, after, body)
    for start in range(0, len(frames), _CHUNK):
        part = frames[start : start + _CHUNK]
        left, right = pose_frames(before, body, part), pose_frames(after, body, part)
        for row, frame in enumerate(part):
            picture = view.footage.read(int(view.frame_indices[frame]))
            camera = view.camera(int(frame))
            halves = [
                labelled(
                    draw_over(
                        picture, posed.vertices[row], camera, body, color=color, box=box,
                        height=HEIGHT,
                    ),
                    words,
                    color,
                )
                for posed, color, words in (
                    (left, BEFORE_COLOR, "before"),
                    (right, AFTER_COLOR, "after"),
                )
            ]  # fmt: skip
            gap = np.full((halves[0].shape[0], _GAP, 3), 24, np.uint8)
            yield np.hstack([halves[0], gap, halves[1]])


def _box_of_clip(
    view: View,
    frames: npt.NDArray[np.int64],
    before: Sequence,
    after: Sequence,
    body: BodyModel,
) -> tuple[int, int, int, int]:
    """One cut-out for the whole clip, from frames spread over it."""
    some = frames[np.linspace(0, len(frames) - 1, min(24, len(frames))).astype(int)]
    posed = [pose_frames(sequence, body, some) for sequence in (before, after)]
    boxes = np.array(
        [
            crop_box([motion.vertices[row] for motion in posed], view.camera(int(frame)))
            for row, frame in enumerate(some)
        ]
    )
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def labelled(image: RgbImage, words: str, color: tuple[float, float, float]) -> RgbImage:
    """The picture with a word in its upper left corner."""
    picture = Image.fromarray(shrink(image, HEIGHT))
    draw = ImageDraw.Draw(picture, "RGBA")
    size = max(picture.height // 36, 12)
    font = ImageFont.load_default(size=size)
    left, top, right, bottom = draw.textbbox((0, 0), words, font=font)
    pad = size * 0.55
    box = (pad, pad, pad * 3 + right - left, pad * 2.6 + bottom - top)
    draw.rounded_rectangle(box, radius=pad, fill=(16, 18, 22, 190))
    ink = tuple(int(255 * (0.35 + 0.65 * c)) for c in color)
    draw.text((pad * 2 - left, pad * 1.8 - top), words, font=font, fill=ink)
    return np.array(picture)
