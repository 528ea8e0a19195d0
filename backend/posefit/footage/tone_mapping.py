# SPDX-License-Identifier: Apache-2.0
"""Pictures of HDR video as the SDR pictures that everything else expects.

The steps: code values to light by the transfer function (PQ or HLG), BT.2020's primaries to
BT.709's, light to display by a curve that leaves dark and middle tones as they are and rolls bright
ones off, and sRGB's gamma. Reference white (203 cd/m², ITU-R BT.2408) becomes 1 before the curve,
so that faces keep the brightness they have in SDR; 1000 cd/m² becomes white. All of one picture and
of all pictures alike: no curve that follows the picture, which would flicker.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["HLG", "PQ", "is_hdr", "to_sdr"]

PQ = 16
"""SMPTE ST 2084, as video streams number transfer functions (ITU-T H.273)."""
HLG = 18
"""ARIB STD-B67."""
BT2020 = 9
"""Primaries of BT.2020, numbered likewise."""

_REFERENCE_WHITE = 203.0
_PEAK = 1000.0 / _REFERENCE_WHITE
"""Brightest light that is told from brighter; HLG is shown on a display of 1000 cd/m²."""
_KNEE = 0.5
"""Up to this share of reference white light stays as it is."""
_BT2020_TO_BT709 = np.array(
    [
        [1.660491, -0.587641, -0.072850],
        [-0.124550, 1.132900, -0.008349],
        [-0.018151, -0.100579, 1.118730],
    ],
    np.float32,
)
"""ITU-R BT.2087."""
_SRGB_STEPS = 4096


def is_hdr(transfer: int) -> bool:
    """Whether a video's transfer function (H.273's number) is one of HDR."""
    return transfer in (PQ, HLG)


def to_sdr(
    image: npt.NDArray[np.uint16], transfer: int, primaries: int = BT2020
) -> npt.NDArray[np.uint8]:
    """An HDR picture as sRGB.

    Args:
        image: (H, W, 3) code values of R′G′B′ over 16 bits.
        transfer: `PQ` or `HLG`.
        primaries: H.273's number; BT.2020's are converted, others are taken for BT.709's.

    Returns:
        (H, W, 3) sRGB.
    """
    light = _light_table(transfer)[image]
    if transfer == HLG:
        # The display's own gamma of 1.2 works on luminance (ITU-R BT.2100).
        luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light *= (_PEAK * luminance.clip(1e-6) ** 0.2)[..., None]
    if primaries == BT2020:
        light = light @ _BT2020_TO_BT709.T
    np.maximum(light, 0, out=light)
    # One factor for the three channels keeps the hue.
    brightest = light.max(-1)
    light *= (_rolled_off(brightest) / brightest.clip(1e-6))[..., None]
    steps = (light.clip(0, 1) * (_SRGB_STEPS - 1)).round().astype(np.uint16)
    return _srgb_table()[steps]


def _rolled_off(light: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The curve: the identity up to the knee, from there with slope 1 towards 1 at the peak.

    Source: extended Reinhard operator (Reinhard et al. 2002, eq. 4), above a knee.
    """
    above = np.maximum(light - _KNEE, 0) / (1 - _KNEE)
    white = (_PEAK - _KNEE) / (1 - _KNEE)
    bent = above * (1 + above / white**2) / (1 + above)
    return np.where(light < _KNEE, light, _KNEE + (1 - _KNEE) * bent).astype(np.float32)


@lru_cache(maxsize=2)
def _light_table(transfer: int) -> npt.NDArray[np.float32]:
    """Light of each of 65 536 code values; reference white is 1 (HLG: scene light, 0 to 1)."""
    code = np.linspace(0, 1, 65536)
    if transfer == PQ:  # SMPTE ST 2084, eq. 5
        m1, m2 = 2610 / 16384, 2523 / 4096 * 128
        c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
        root = code ** (1 / m2)
        light = (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
        return (light * 10000 / _REFERENCE_WHITE).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073  # ARIB STD-B67
    light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    return light.astype(np.float32)


@lru_cache(maxsize=1)
def _srgb_table() -> npt.NDArray[np.uint8]:
    """sRGB's code value of light in equal steps from 0 to 1."""
    light = np.linspace(0, 1, _SRGB_STEPS)
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (255 * code).round().astype(np.uint8)
