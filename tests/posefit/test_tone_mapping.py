# SPDX-License-Identifier: Apache-2.0
"""HDR video looks as its SDR version would: known greys, order and hue stay, peaks are white."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from posefit.footage import open_footage
from posefit.footage.tone_mapping import BT2020, HLG, PQ, is_hdr, to_sdr

SIZE = (64, 48)


def pq_code(nits: np.ndarray) -> np.ndarray:
    """Code values over 16 bits of light in cd/m² (SMPTE ST 2084, eq. 4)."""
    root = (np.asarray(nits) / 10000) ** (2610 / 16384)
    code = (3424 / 4096 + 2413 / 128 * root) / (1 + 2392 / 128 * root)
    return (65535 * code ** (2523 / 32)).round().astype(np.uint16)


def hlg_code(scene: np.ndarray) -> np.ndarray:
    """Code values over 16 bits of scene light, 0 to 1 (ARIB STD-B67)."""
    scene = np.asarray(scene, float)
    bright = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return (65535 * np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)).round().astype(np.uint16)


def grey(code: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(code).reshape(1, -1, 1), 3, axis=-1)


def test_dark_and_middle_greys_keep_the_light_they_have_in_sdr():
    # 18% grey under a reference white of 203 cd/m² is sRGB 118, a tenth of it 89.
    shown = to_sdr(grey(pq_code(np.array([0.0, 0.1 * 203, 0.18 * 203, 0.45 * 203]))), PQ)
    np.testing.assert_allclose(shown[0, :, 0], [0, 89, 118, 180], atol=1)
    assert (np.ptp(shown, axis=-1) <= 1).all()


def test_reference_white_and_peak_have_room_between_them():
    shown = to_sdr(grey(pq_code(np.array([203.0, 500.0, 1000.0, 4000.0]))), PQ)[0, :, 0]
    assert 210 < shown[0] < 235
    assert shown[0] < shown[1] < shown[2]
    assert shown[2] == shown[3] == 255


def test_hlg_and_pq_of_the_same_scene_look_the_same():
    scene = np.array([0.02, 0.1, 0.265, 0.6, 1.0])
    by_hlg = to_sdr(grey(hlg_code(scene)), HLG)
    by_pq = to_sdr(grey(pq_code(1000 * scene**1.2)), PQ)
    np.testing.assert_allclose(by_hlg.astype(int), by_pq.astype(int), atol=1)


def test_brighter_light_is_never_darker():
    ramp = np.arange(0, 65536, 37, dtype=np.uint16)
    for transfer in (PQ, HLG):
        shown = to_sdr(grey(ramp), transfer).astype(int)
        assert (np.diff(shown[0, :, 0]) >= 0).all()


def test_a_colour_of_bt709_comes_back_from_bt2020():
    linear = np.array([0.3, 0.1, 0.05])
    to_2020 = np.array(
        [
            [0.627404, 0.329283, 0.043313],
            [0.069097, 0.919540, 0.011362],
            [0.016391, 0.088013, 0.895595],
        ]
    )
    shown = to_sdr(pq_code(203 * to_2020 @ linear).reshape(1, 1, 3), PQ, BT2020)[0, 0]
    expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(shown, expected, atol=1.5)


def write_hdr(path: Path, transfer: int, code: np.ndarray, frames: int = 3) -> Path:
    """A 10-bit video of one grey code value."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx265", rate=25, options={"x265-params": "lossless=1:log-level=none"}
        )
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries = transfer, 9
        context.colorspace, context.color_range = 9, 1
        for number in range(frames):
            image = np.broadcast_to(code, (SIZE[1], SIZE[0], 3)).astype(np.uint16)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb48le")
            frame = frame.reformat(format="yuv420p10le", dst_colorspace=9)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            frame.color_trc, frame.color_primaries = transfer, 9
            frame.colorspace, frame.color_range = 9, 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(("transfer", "code"), [(PQ, pq_code), (HLG, hlg_code)])
def test_hdr_files_of_ten_bits_are_read_as_sdr(tmp_path, transfer, code):
    light = np.array([0.18 * 203]) if transfer == PQ else np.array([(0.18 * 0.203) ** (1 / 1.2)])
    footage = open_footage(write_hdr(tmp_path / "нdr.mkv", transfer, code(light)))
    image = footage.read(1)
    assert image.dtype == np.uint8
    assert image.shape == (SIZE[1], SIZE[0], 3)
    np.testing.assert_allclose(image.astype(int), 118, atol=3)


def test_ordinary_transfer_functions_are_no_hdr():
    assert not any(is_hdr(number) for number in (0, 1, 2, 6, 13, 14))
