# SPDX-License-Identifier: Apache-2.0
"""Numbers that no estimate or camera should hold: one sentence at the edge, or a finite result."""

import json

import numpy as np
import pytest
import synthetic_clip as made

from posefit.errors import PosefitError
from posefit.footage import MAX_SIDE, FootageError, open_footage
from posefit.pipeline import Clip, refine
from posefit.views import view_of_sequence
from posefit_shared.messages import (
    AlignRequest,
    EstimateRequest,
    MediaReference,
    PreviewRequest,
    ProtocolError,
    ViewReference,
)
from posefit_shared.sequence import Sequence, SequenceError, read_sequence, write_sequence
from posefit_shared.settings import RefineSettings, SettingsError
from posefit_shared.shot import read_shot

FRAMES = 3
QUICK = RefineSettings(crop_size=64, solver_iterations=2, rounds=1)
PINHOLE, WORLD_TO_CAMERA = made.camera()


@pytest.fixture(scope="module")
def clip(free_body):
    rng = np.random.default_rng(5)
    truth = made.true_sequence(free_body, FRAMES, rng)
    return made.disturbed(truth, rng), made.filmed(free_body, truth)


def pinhole(fx=420.0, fy=None, skew=0.0):
    return np.array([[fx, skew, 120], [0, fx if fy is None else fy, 160], [0, 0, 1.0]])


def placed(depth_m=4.0, turn=None):
    matrix = WORLD_TO_CAMERA.copy()
    matrix[2, 3] = depth_m
    if turn is not None:
        matrix[:3, :3] = turn @ matrix[:3, :3]
    return matrix


def one_joint(radians):
    poses = np.zeros((FRAMES, 24, 3), np.float32)
    poses[1, 4, 0] = radians
    return poses


# Refused where they come in

NOT_NUMBERS = [float("nan"), float("inf"), -float("inf")]
REFUSED = {
    "a focal length of nothing": ({"intrinsics": pinhole(0.0)}, "focal lengths are 0"),
    "a mirrored focal length": ({"intrinsics": pinhole(-420.0)}, "positive"),
    "a singular camera": ({"intrinsics": np.array([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]])}, "pinhole"),
    "a projection for intrinsics": ({"intrinsics": PINHOLE * 2}, "pinhole"),
    "a camera without rotation": ({"world_to_camera": placed(turn=np.zeros((3, 3)))}, "rigid"),
    "a scaled camera": ({"world_to_camera": placed(turn=10 * np.eye(3))}, "rigid"),
    "a mirrored camera": ({"world_to_camera": placed(turn=np.diag([1.0, 1, -1]))}, "rigid"),
    "a transposed camera": ({"world_to_camera": placed().T}, "rigid"),
    "equal times": ({"times": np.zeros(FRAMES)}, "frame 1 is no later"),
    "times that go back": ({"times": np.array([0, 0.1, 0.05])}, "frame 2 is no later"),
    "times too near": ({"times": np.arange(FRAMES) * 1e-12}, "times do not rise"),
    "a rate beyond all": ({"mocap_framerate": 1e300}, "mocap_framerate is 1e\\+300"),
    "a rotation in no unit": ({"poses": one_joint(1e20)}, "poses holds 1e\\+20"),
    "a place beyond the moon": ({"trans": np.full((FRAMES, 3), 1e30)}, "trans holds"),
    "a shape of another kind": ({"betas": np.full(10, 1e30)}, "betas holds"),
    "a lens beyond all": ({"distortion": np.array([1e300, 0, 0, 0, 0])}, "distortion holds"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_sequence_that_means_nothing_is_refused_in_a_sentence(clip, name):
    changes, words = REFUSED[name]
    with pytest.raises(SequenceError, match=words):
        clip[0].replace(**changes)


@pytest.mark.parametrize("value", NOT_NUMBERS)
@pytest.mark.parametrize(
    "field",
    ["poses", "trans", "betas", "times", "intrinsics", "world_to_camera", "distortion", "ground",
     "confidence", "mocap_framerate"],
)  # fmt: skip
def test_what_is_no_number_is_refused_wherever_it_stands(clip, field, value):
    full = clip[0].replace(
        times=np.arange(FRAMES) / 30, distortion=np.zeros(5), ground=np.array([0, 0, 1.0, 0]),
        confidence=np.ones((FRAMES, 24)),
    )  # fmt: skip
    hostile = np.array(getattr(full, field), np.float64)
    hostile.reshape(-1)[-1] = value
    with pytest.raises(SequenceError, match=field):
        full.replace(**{field: hostile if hostile.ndim else float(hostile)})


def test_a_file_of_a_mirrored_camera_is_refused_by_its_name(clip, tmp_path):
    path = tmp_path / "mirrored.npz"
    write_sequence(path, clip[0])
    arrays = dict(np.load(path))
    arrays["world_to_camera"] = placed(turn=np.diag([1.0, 1, -1]))
    np.savez(path, **arrays)
    with pytest.raises(SequenceError, match=r"mirrored.npz: world_to_camera is no rigid motion"):
        read_sequence(path)


def requests(intrinsics, world_to_camera, distortion):
    """Every request that brings a camera, each with these."""
    sequence = Sequence(poses=np.zeros((1, 24, 3)), trans=np.zeros((1, 3)))
    media = MediaReference(path="/film.mp4")
    one = np.zeros(1, np.int64)
    yield lambda: EstimateRequest(media, intrinsics=intrinsics, distortion=distortion)
    if np.isfinite(distortion).all():
        yield lambda: PreviewRequest(sequence, intrinsics, world_to_camera, (8, 8))
    yield lambda: ViewReference(
        "side", media, one, intrinsics[None], world_to_camera[None], (8, 8), distortion
    )
    yield lambda: AlignRequest(
        sequence=sequence, first_frame=0, media=media, picture_frames=one, decoded_frames=one,
        intrinsics=intrinsics[None], world_to_camera=world_to_camera[None], distortion=distortion,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("intrinsics", "distortion"),
    [(pinhole(0.0), np.zeros(5)), (pinhole(float("nan")), np.zeros(5)),
     (PINHOLE, np.array([float("inf"), 0, 0, 0, 0]))],
)  # fmt: skip
def test_a_request_whose_camera_sees_nothing_is_refused(intrinsics, distortion):
    for request in requests(intrinsics, placed(), distortion):
        with pytest.raises(ProtocolError, match=r"focal|NaN"):
            request()
    for request in requests(PINHOLE, placed(), np.zeros(5)):
        request()


def test_a_shot_whose_moving_camera_is_none_is_refused_in_a_sentence(tmp_path):
    np.save(tmp_path / "path.npy", np.stack([placed(), placed(turn=2 * np.eye(3))]))
    camera = {"name": "crane", "footage": "a.mp4", "intrinsics": PINHOLE.tolist(),
              "image_size": [240, 320], "world_to_camera": "path.npy"}  # fmt: skip
    (tmp_path / "shot.json").write_text(json.dumps({"cameras": [camera], "people": []}))
    with pytest.raises(SequenceError, match=r"crane.*no rigid motion"):
        read_shot(tmp_path / "shot.json")


@pytest.mark.parametrize("name", ["prior_weight", "smoothness", "influence", "pose_prior_weight"])
@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_a_setting_that_is_no_number_is_refused(name, value):
    with pytest.raises(SettingsError, match=name):
        RefineSettings(**{name: value})


def test_a_picture_too_long_to_be_sampled_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "strip.ppm").write_bytes(b"P6 40000 1 255\n" + bytes(120_000))
    (tmp_path / "strip.ppm").rename(tmp_path / "strip.png")
    with pytest.raises(FootageError, match=f"40000×1 pixels.*no side beyond {MAX_SIDE}"):
        open_footage(tmp_path / "strip.png")


# Taken, and answered with finite numbers or a sentence

HOSTILE = {
    "a focal length of a pixel": {"intrinsics": pinhole(1.0)},
    "a focal length of a millionth": {"intrinsics": pinhole(1e-6)},
    "a focal length of ten million": {"intrinsics": pinhole(1e7)},
    "one side longer by a million": {"intrinsics": pinhole(1.0, 1e6)},
    "the body behind the camera": {"world_to_camera": placed(-4.0)},
    "the body about the camera": {"world_to_camera": placed(0.0)},
    "a thousand kilometres away": {"world_to_camera": placed(1e6)},
    "beyond the stars": {"world_to_camera": placed(1e30)},
    "betas of 50": {"betas": np.full(10, 50.0)},
    "betas of 1000": {"betas": np.full(10, 1000.0)},
    "a joint at pi": {"poses": one_joint(np.pi)},
    "a joint at a whole turn": {"poses": one_joint(2 * np.pi)},
    "a joint next to nothing": {"poses": one_joint(1e-12)},
    "a joint wound up": {"poses": one_joint(1e6)},
    "a lens that folds": {"distortion": np.array([-1.0, 0, 0, 0, 0])},
    "a lens that shows nothing": {"distortion": np.array([1e6, 0, 0, 0, 1e6])},
    "the same picture for all": {"frame_indices": np.zeros(FRAMES, np.int64)},
    "an eternity between frames": {"times": np.arange(FRAMES) * 1e9},
    "a microsecond between frames": {"times": np.arange(FRAMES) * 1e-6},
    "no ground at all": {"ground": np.zeros(4)},
}


def is_finite(sequence: Sequence) -> bool:
    arrays = (sequence.poses, sequence.trans, sequence.betas, sequence.confidence)
    return all(bool(np.isfinite(array).all()) for array in arrays)


def checked(clip, body, sequence, footage) -> None:
    try:
        result = refine(
            Clip(sequence, [view_of_sequence(sequence, footage)]),
            body=body, estimator=made.ColorMatcher(), settings=QUICK,
        ).sequence  # fmt: skip
    except PosefitError as error:
        assert "outside the picture" in str(error)  # noqa: PT017 - either end will do
        return
    assert is_finite(result)
    untouched = [status not in ("refined",) for status in result.status]
    assert np.array_equal(result.poses[untouched], sequence.poses[untouched])


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_refinement_of_extremes_is_finite_or_refused(clip, free_body, name):
    start, footage = clip
    checked(clip, free_body, start.replace(**HOSTILE[name]), footage)


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1)])
def test_pictures_of_any_size_are_looked_at_or_refused(clip, free_body, size):
    start, _ = clip
    footage = made.ArrayFootage(np.zeros((FRAMES, size[1], size[0], 3), np.uint8))
    checked(clip, free_body, start.replace(image_size=size), footage)


@pytest.mark.parametrize("shade", [0, 255])
def test_pictures_that_show_nothing_leave_the_input_as_it_was(clip, free_body, shade):
    start, footage = clip
    blank = made.ArrayFootage(np.full_like(footage.images, shade))
    checked(clip, free_body, start, blank)


def test_a_clip_of_one_frame_is_refined(clip, free_body):
    start, footage = clip
    one = start.slice(0, 1)
    checked(clip, free_body, one, made.ArrayFootage(footage.images[:1]))
