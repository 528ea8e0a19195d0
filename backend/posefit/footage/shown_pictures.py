# SPDX-License-Identifier: Apache-2.0
"""Decoded video frames as a player shows them: upright, in SDR, of one moment, of square pixels."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from .tone_mapping import is_hdr, to_sdr

__all__ = ["pixel_aspect", "shown_picture"]

_SQUARE = 0.01
"""Pixels whose sides differ by a smaller share are square: encoders round."""


def pixel_aspect(stream: Any) -> Fraction | None:
    """Width by height of a stream's pixels; None where they are square, or the file says nonsense.

    Args:
        stream: PyAV's, of pictures.
    """
    aspect = stream.sample_aspect_ratio
    if not aspect or not 0.1 < aspect < 10 or abs(float(aspect) - 1) < _SQUARE:
        return None
    return Fraction(aspect)


def shown_picture(
    frame: Any, converter: VideoReformatter, aspect: Fraction | None = None
) -> npt.NDArray[np.uint8]:
    """(height, width, 3) RGB of a frame.

    Interlaced frames show two moments in alternate lines: the first field is taken, its lines at
    their own height and those between them interpolated.

    Args:
        frame: PyAV's.
        converter: the film's own, for all of its frames: a new one takes five times as long as
            the conversion itself, and starts threads for each frame where there are many cores.
        aspect: width by height of its pixels; the width follows it, as players do it.
    """
    transfer = int(getattr(frame, "color_trc", 0) or 0)
    if is_hdr(transfer):
        deep = converter.reformat(frame, format="rgb48le", threads=1).to_ndarray()
        image = to_sdr(np.asarray(deep, np.uint16), transfer, int(frame.color_primaries))
    else:
        shown = converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        image = np.asarray(shown, np.uint8)
    if frame.interlaced_frame:
        image = _first_field(image)
    if aspect is not None:
        width = max(round(image.shape[1] * aspect), 1)
        way = cv2.INTER_AREA if aspect < 1 else cv2.INTER_CUBIC
        image = np.asarray(cv2.resize(image, (width, image.shape[0]), interpolation=way), np.uint8)
    quarter_turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarter_turns)) if quarter_turns else image


def _first_field(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Even lines as they are, odd ones as the mean of those above and below."""
    result = image.copy()
    above, between = image[0:-1:2], result[1::2]
    below = np.concatenate([image[2::2], above[-1:]])[: len(above)]
    between[:] = (above.astype(np.uint16) + below + 1) >> 1
    return result
