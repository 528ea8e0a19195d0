# SPDX-License-Identifier: Apache-2.0
"""First estimate: known motions come back, and what cannot be estimated is said in words."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("ai_edge_litert", reason="needs LiteRT (pip install ai-edge-litert)")

from posefit.body import PoseParameters, pose_joints
from posefit.camera_file import CameraFileError, WorldCamera, default_camera, read_camera
from posefit.estimate import (
    EstimateError,
    confidence_from_landmarks,
    estimate,
    estimate_from_keypoints,
    evidence_for_estimate,
)
from posefit.evaluate import score_views
from posefit.footage import FootageError, open_footage
from posefit.keypoints.tracks import Keypoints
from posefit.parameters import parameters_of_sequence
from posefit.solver import BLAZEPOSE
from posefit.solver.initialisation import _rest_landmarks as pose_landmarks_of
from posefit.view_truth import read_truths
from posefit.views import views_of_shot
from posefit_shared.frames import Camera, apply, project
from posefit_shared.shot import read_shot

DEMO = Path(__file__).parents[2] / "backend" / "posefit" / "assets" / "demo"
FRAMES = 6


@pytest.fixture(scope="module")
def camera() -> WorldCamera:
    intrinsics = np.array([[1500.0, 0, 540], [0, 1500, 960], [0, 0, 1]])
    world_to_camera = np.array([[1.0, 0, 0, 0], [0, 0, -1, 1], [0, 1, 0, 4], [0, 0, 0, 1]])
    lens = np.array([-0.05, 0.02, 0, 0, 0])
    return WorldCamera(Camera(intrinsics, world_to_camera, (1080, 1920), lens), "gravity")


def seen(body, parameters: PoseParameters, camera: Camera) -> Keypoints:
    """What a detector without faults would see of a posed body."""
    points, known = pose_landmarks_of(body, BLAZEPOSE, parameters)
    points = points.double().numpy()
    in_camera = apply(camera.world_to_camera, points)
    hips = in_camera[:, 23:25].mean(axis=1, keepdims=True)
    pixels = project(camera, points)[0]
    confidence = np.tile(known.numpy() * 0.95, (len(points), 1))
    low, high = pixels[:, known].min(axis=1), pixels[:, known].max(axis=1)
    return Keypoints(
        frame_indices=np.arange(len(points)),
        pixels=pixels.astype(np.float32),
        confidence=confidence.astype(np.float32),
        world=(in_camera - hips).astype(np.float32),
        person_box=np.concatenate([low, high], axis=1).astype(np.float32),
        found=np.ones(len(points), bool),
    )


@pytest.fixture(scope="module")
def motion(free_body) -> PoseParameters:
    """Somebody who stands upright, turned a little, and lifts the left arm and the right knee."""
    rest = PoseParameters.rest(free_body, FRAMES)
    time = torch.linspace(0, 1, FRAMES)
    body_pose = rest.body_pose.clone()
    body_pose[:, 15, 2] = -1.0 + 0.5 * time  # left shoulder, down from the T and up again
    body_pose[:, 16, 2] = 1.1
    body_pose[:, 1, 0] = -0.5 * time
    body_pose[:, 4, 0] = 0.7 * time
    upright = torch.tensor([np.pi / 2, 0.0, 0.0], dtype=torch.float32).expand(FRAMES, 3)
    transl = torch.stack([0.3 * time, 0 * time, 0 * time + 0.9], dim=-1)
    return PoseParameters(rest.betas, upright, body_pose, transl)


def run(keypoints, body, camera, **options):
    times = np.arange(len(keypoints)) / 30
    return estimate_from_keypoints(
        keypoints, body=body, camera=camera, times=times, fps=30.0, **options
    )


def test_a_known_motion_comes_back_from_its_landmarks(free_body, motion, camera) -> None:
    keypoints = seen(free_body, motion, camera.camera)
    sequence = run(keypoints, free_body, camera)
    again = seen(
        free_body,
        PoseParameters(
            torch.tensor(sequence.betas).expand(FRAMES, -1),
            torch.tensor(sequence.poses[:, 0]),
            torch.tensor(sequence.poses[:, 1:]),
            torch.tensor(sequence.trans),
        ),
        camera.camera,
    )
    known = keypoints.confidence[0] > 0
    miss = np.linalg.norm(again.pixels - keypoints.pixels, axis=-1)[:, known]
    assert np.median(miss) < 8  # of a person who is 600 pixels tall
    assert np.linalg.norm(sequence.trans - motion.transl.numpy(), axis=-1).max() < 0.25
    assert sequence.world == "gravity"
    assert sequence.status == ("refined",) * FRAMES
    assert sequence.body == free_body.content_hash


def test_frames_without_the_person_are_carried_across_and_marked(free_body, motion, camera) -> None:
    keypoints = seen(free_body, motion, camera.camera)
    whole = run(keypoints, free_body, camera)
    keypoints.found[2:4] = False
    keypoints.pixels[2:4], keypoints.confidence[2:4] = 0, 0
    sequence = run(keypoints, free_body, camera)
    assert sequence.status[2:4] == ("no_person", "no_person")
    assert sequence.confidence[2:4].max() == 0
    assert np.isfinite(sequence.poses).all()
    assert np.linalg.norm(sequence.trans[2:4] - whole.trans[2:4], axis=-1).max() < 0.2


def test_nobody_in_any_frame_is_said_in_words(free_body, motion, camera) -> None:
    keypoints = seen(free_body, motion, camera.camera)
    keypoints.found[:] = False
    with pytest.raises(EstimateError, match="no person was found in any of 6 frames"):
        run(keypoints, free_body, camera)


def test_without_a_camera_the_person_stands_on_the_floor_of_a_level_world(
    free_body, motion
) -> None:
    placed = default_camera((1080, 1920))
    body_points = seen(free_body, motion, placed.camera)  # the world's origin is at the camera
    body_points.pixels[..., 1] += 0
    shifted = PoseParameters(
        motion.betas,
        motion.global_orient,
        motion.body_pose,
        motion.transl + torch.tensor([0, 3.5, -1]),
    )
    sequence = run(seen(free_body, shifted, placed.camera), free_body, placed)
    assert sequence.world == "camera"
    moved = sequence.camera(0)
    assert moved.position[2] > 0.3  # the camera was raised with the person
    assert -0.2 < sequence.trans[:, 2].mean() < 2.0


def test_landmarks_weigh_nothing_where_the_detector_is_unsure(free_body, motion, camera) -> None:
    keypoints = seen(free_body, motion, camera.camera)
    keypoints.confidence[0, 15] = 0.1
    pixels, bones = evidence_for_estimate(keypoints, camera.camera, free_body)
    assert pixels.weights[0, 15] == 0
    assert bones.weights[0, 15] == 0
    assert pixels.weights[1, 15] > 0.9


def test_confidence_of_joints_follows_their_landmarks(free_body, motion, camera) -> None:
    keypoints = seen(free_body, motion, camera.camera)
    keypoints.confidence[:, 15] = 0.2
    confidence = confidence_from_landmarks(keypoints, free_body)
    assert confidence[0, free_body.joint_names.index("L_Wrist")] == pytest.approx(0.2)
    assert confidence[0, free_body.joint_names.index("R_Wrist")] == pytest.approx(0.95)


def test_the_default_lens_sees_63_degrees_across_the_diagonal() -> None:
    camera = default_camera((1600, 1200)).camera
    half = np.arctan(np.hypot(800, 600) / camera.intrinsics[0, 0])
    assert np.degrees(2 * half) == pytest.approx(63.4, abs=0.1)
    np.testing.assert_allclose(project(camera, [0.0, 5.0, 0.0])[0], [800, 600])
    assert project(camera, [0.0, 5.0, 1.0])[0][1] < 600  # up is up


def test_a_camera_file_says_which_world_it_stands_in(tmp_path: Path) -> None:
    data = {"image_size": [100, 80], "intrinsics": [[90, 0, 50], [0, 90, 40], [0, 0, 1]]}
    file = tmp_path / "camera.json"
    file.write_text(json.dumps(data))
    assert read_camera(file).world == "camera"
    file.write_text(json.dumps({**data, "world_to_camera": np.eye(4).tolist()}))
    assert read_camera(file).world == "gravity"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no JSON"),
        ("[]", "expected an object"),
        ('{"intrinsics": []}', "lacks image_size"),
        ('{"intrinsics": [[1, 2]], "image_size": [10, 10]}', "is not usable"),
        ('{"intrinsics": [[1,0,5],[0,1,5],[0,0,1]], "image_size": "ab"}', "is not usable"),
    ],
)
def test_a_camera_file_that_is_none_is_refused_in_words(tmp_path, text: str, words: str) -> None:
    file = tmp_path / "camera.json"
    file.write_text(text)
    with pytest.raises(CameraFileError, match=words):
        read_camera(file)
    with pytest.raises(CameraFileError, match="no camera file at"):
        read_camera(tmp_path / "none.json")


def test_footage_of_another_size_than_the_camera_is_refused(free_body, camera) -> None:
    with pytest.raises(FootageError, match="is 1088×1920 pixels, but the camera is for 1080×1920"):
        estimate(open_footage(DEMO / "cam03.mp4"), body=free_body, camera=camera)


@pytest.mark.slow
def test_the_demo_clips_estimate_lies_near_the_points_marked_by_hand(free_body) -> None:
    """A σ of smoothness that follows the motion took wrong frames for fast ones: 26 px."""
    shot = read_shot(DEMO / "shot.json")
    camera = shot.camera("cam03")
    found = estimate(open_footage(camera.footage), body=free_body, camera=camera.camera)
    truths = [truth for truth in read_truths(DEMO) if truth.camera == "cam03"]
    scores = score_views(found, views_of_shot(shot, found, ["cam03"]), truths, free_body)
    assert scores["all"]["point_error_px"]["mean"] < 21
    # The last frame's legs once leapt by a radian: 143 m/s² where the rest of the clip has 8.
    joints = pose_joints(free_body, parameters_of_sequence(found, free_body))
    acceleration = joints.diff(n=2, dim=0).norm(dim=-1).mean(1) * found.mocap_framerate**2
    assert acceleration.max() < 30


def test_an_empty_room_has_no_person(free_body, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (320, 240), (90, 110, 130)).save(tmp_path / "room.png")
    with pytest.raises(EstimateError, match="no person was found in any of 1 frames"):
        estimate(open_footage(tmp_path), body=free_body)
