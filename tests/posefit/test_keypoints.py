# SPDX-License-Identifier: Apache-2.0
"""Keypoints: the detector against mediapipe's own figures, and following one person."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs LiteRT (pip install ai-edge-litert)")

import posefit
from posefit.footage import Footage, FootageError, open_footage
from posefit.keypoints import blazepose
from posefit.keypoints.blazepose import (
    BlazePose,
    Region,
    anchors,
    box_overlap,
    refine_from_heatmaps,
)
from posefit.keypoints.detection import KeypointsCancelledError, detect_keypoints
from posefit.keypoints.tracks import Keypoints, read_keypoints, write_keypoints

DEMO = Path(posefit.__file__).parent / "assets" / "demo"

# mediapipe 0.10.21, solutions.pose, static images, model_complexity 1: cam03, frame 10, pixels.
MEDIAPIPE = {
    "nose": (504.2, 544.9), "left_wrist": (462.2, 956.0), "left_ankle": (555.0, 1196.1),
}  # fmt: skip
# One pixel of the network's picture is 4.6 of the clip's.
NETWORK_PIXEL = 4.6


@pytest.fixture(scope="module")
def clip() -> Footage:
    return open_footage(DEMO / "cam03.mp4")


@pytest.fixture(scope="module")
def networks() -> BlazePose:
    return BlazePose()


class Canvas(Footage):
    """Frames given by a function."""

    def __init__(self, frames: list[np.ndarray]) -> None:
        self.path, self.fps, self._frames = Path("canvas"), 30.0, frames
        self.size = frames[0].shape[1::-1]

    def __len__(self) -> int:
        return len(self._frames)

    def read(self, index: int) -> np.ndarray:
        return self._frames[index]


def test_landmarks_lie_where_mediapipe_itself_puts_them(networks, clip) -> None:
    image = clip.read(10)
    (region,) = networks.detect(image)
    landmarks = networks.landmarks(image, region)
    assert landmarks.score > 0.9
    for name, expected in MEDIAPIPE.items():
        found = landmarks.pixels[blazepose.LANDMARK_NAMES.index(name)]
        # mediapipe resamples without half-pixel centres, so up to half a network pixel of bias
        # and its own crop are between the two.
        assert np.hypot(*(found - expected)) < 2.5 * NETWORK_PIXEL, name


def test_the_detector_has_one_anchor_for_each_of_its_outputs() -> None:
    assert anchors().shape == (2254, 2)
    np.testing.assert_allclose(anchors()[0], [4, 4])
    np.testing.assert_allclose(anchors()[-1], [208, 208])


def test_a_region_maps_its_middle_to_itself_and_turns_about_it() -> None:
    region = Region((50.0, 80.0), 20.0, np.pi / 2)
    affine = region.to_source(10)
    np.testing.assert_allclose(affine @ [5, 5, 1], [50, 80])
    np.testing.assert_allclose(affine @ [10, 5, 1], [50, 90], atol=1e-9)


def test_sampling_a_region_keeps_pixel_centres() -> None:
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)[..., None].repeat(3, -1)
    sampled = blazepose.sample_region(image, Region((4.0, 4.0), 4.0), 4)
    np.testing.assert_allclose(sampled[..., 0] * 255, image[2:6, 2:6, 0], atol=1e-4)


def test_a_heatmap_moves_a_point_only_where_it_is_certain() -> None:
    heat = np.full((64, 64, 2), -20.0, np.float32)
    heat[20, 31, 0] = 20.0
    heat[20, 31, 1] = -1.0
    refined = refine_from_heatmaps(np.array([[120.0, 80.0], [120.0, 80.0]]), heat)
    np.testing.assert_allclose(refined[0], [124, 80], atol=1e-3)
    np.testing.assert_allclose(refined[1], [120, 80])


def test_overlap_of_boxes_is_worked_out_by_hand() -> None:
    assert box_overlap([0, 0, 2, 2], [1, 0, 3, 2]) == pytest.approx(1 / 3)
    assert box_overlap([0, 0, 1, 1], [5, 5, 6, 6]) == 0


def test_the_same_person_is_followed_through_the_clip(clip) -> None:
    told: list[tuple[int, int]] = []
    frames = np.arange(0, 100, 10)
    keypoints = detect_keypoints(clip, frames, progress=lambda *p: told.append(p))
    assert keypoints.found.all()
    assert told[-1] == (10, 10)
    assert (keypoints.person_box[:, 3] - keypoints.person_box[:, 1] > 500).all()
    mask = keypoints.mask(3, clip.size)
    x, y = keypoints.pixels[3, 23].astype(int)
    assert mask.shape == (1920, 1088)
    assert mask[y, x] > 0.8
    assert mask[100, 100] == 0


def test_a_hint_picks_one_of_two_people_and_no_hint_the_larger(clip) -> None:
    image = clip.read(20)[300:1400, 150:800]
    small = image[::2, ::2]
    both = np.zeros((1100, 1100, 3), np.uint8)
    both[:, 450:] = image
    both[400:950, :325] = small
    canvas = Canvas([both])
    assert detect_keypoints(canvas, with_masks=False).person_box[0, 0] > 400
    hinted = detect_keypoints(canvas, box_hint=[20, 400, 320, 950], with_masks=False)
    assert hinted.person_box[0, 2] < 400


def test_frames_without_anybody_are_not_found_and_the_person_is_found_again(clip) -> None:
    image = clip.read(20)[300:1400, 150:800]
    empty = np.full_like(image, 90)
    keypoints = detect_keypoints(Canvas([image, empty, empty, image]))
    assert keypoints.found.tolist() == [True, False, False, True]
    assert keypoints.confidence[1].max() == 0
    assert keypoints.mask(1, (650, 1100)).max() == 0


def test_somebody_else_is_not_taken_for_the_person_who_left(clip) -> None:
    image = clip.read(20)[300:1400, 150:800]
    here, there = (np.full((1100, 2000, 3), 90, np.uint8) for _ in range(2))
    here[:, :650] = image
    there[:, 1350:] = image
    keypoints = detect_keypoints(Canvas([here, there]))
    assert keypoints.found.tolist() == [True, False]


def test_the_second_person_can_be_asked_for_and_a_third_is_not_there(clip) -> None:
    image = clip.read(20)[300:1400, 150:800]
    both = np.zeros((1100, 1400, 3), np.uint8)
    both[:, 100:750] = image
    both[300:850, 1000:1325] = image[::2, ::2]
    assert detect_keypoints(Canvas([both]), person=1).person_box[0, 0] > 800
    assert not detect_keypoints(Canvas([both]), person=2).found.any()


def test_cancelling_stops_before_the_next_frame(clip) -> None:
    answers = iter([False, False, True])
    with pytest.raises(KeypointsCancelledError):
        detect_keypoints(clip, cancelled=lambda: next(answers))


def test_a_hint_of_the_wrong_shape_is_refused(clip) -> None:
    with pytest.raises(ValueError, match=r"box_hint is \(3,\), expected"):
        detect_keypoints(clip, [0, 1], box_hint=[1, 2, 3])


def test_keypoints_come_back_from_their_file(tmp_path: Path, clip) -> None:
    keypoints = detect_keypoints(clip, [0, 5])
    write_keypoints(tmp_path / "k.npz", keypoints)
    again = read_keypoints(tmp_path / "k.npz")
    for name, value in vars(keypoints).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(FootageError, match="bad.npz holds no keypoints"):
        read_keypoints(tmp_path / "bad.npz")
    assert isinstance(again, Keypoints)
