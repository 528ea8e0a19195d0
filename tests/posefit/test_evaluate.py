# SPDX-License-Identifier: Apache-2.0
"""Evaluation: known offsets give known errors, and what cannot be compared is said in words."""

import json

import numpy as np
import pytest

from posefit.body import load_body, pose_body
from posefit.evaluate import EvaluationError, ViewTruth, evaluate, score_views, silhouette
from posefit.parameters import parameters_of_sequence
from posefit.views import View
from posefit_shared.frames import Camera, project
from posefit_shared.rotations import matrix_to_rotvec, rotvec_to_matrix
from posefit_shared.sequence import Sequence

# Looks along +y from 4 m behind the origin, level; z is up.
WORLD_TO_CAMERA = np.array([[1, 0, 0, 0], [0, 0, -1, 1], [0, 1, 0, 4], [0, 0, 0, 1]], float)
INTRINSICS = np.array([[400, 0, 160], [0, 400, 160], [0, 0, 1]], float)
FRAMES = 12


@pytest.fixture(scope="module")
def body():
    return load_body("free")


@pytest.fixture(scope="module")
def reference() -> Sequence:
    upright = np.zeros((FRAMES, 24, 3), np.float32)
    upright[:, 0, 0] = np.pi / 2
    return Sequence(
        poses=upright,
        trans=np.tile(np.array([0, 0, 1], np.float32), (FRAMES, 1)),
        mocap_framerate=50.0,
        intrinsics=INTRINSICS,
        world_to_camera=WORLD_TO_CAMERA,
        image_size=(320, 320),
    )


def moved(sequence: Sequence, x: float = 0, y: float = 0, z: float = 0) -> Sequence:
    return sequence.replace(trans=sequence.trans + np.array([x, y, z], np.float32))


def test_a_motion_has_no_error_against_itself(body, reference) -> None:
    scores = evaluate(reference, reference, body)
    for name in (
        "mpjpe_mm",
        "pa_mpjpe_mm",
        "pve_mm",
        "pa_pve_mm",
        "root_error_mm",
        "accel_mm_per_s2",
    ):
        assert scores[name]["mean"] == pytest.approx(0, abs=0.02)
    assert scores["foot_slide_mm_per_s"]["mean"] == 0
    assert scores["mpjpe_mm"]["frames"] == list(range(FRAMES))
    json.dumps(scores, allow_nan=False)


def test_a_shift_of_the_whole_body_is_a_root_error_and_nothing_else(body, reference) -> None:
    scores = evaluate(moved(reference, x=0.03, y=0.04), reference, body)
    assert scores["root_error_mm"]["mean"] == pytest.approx(50, abs=0.01)
    assert scores["root_depth_mm"]["mean"] == pytest.approx(40, abs=0.01)
    assert scores["mpjpe_mm"]["mean"] == pytest.approx(0, abs=0.01)
    assert scores["pve_mm"]["mean"] == pytest.approx(0, abs=0.01)


def test_a_shift_across_the_view_is_that_many_pixels(body, reference) -> None:
    # A point at depth z moves by 0.04 · 400 / z pixels; the body's front half is at most 0.25 m
    # nearer than its pelvis.
    depth = 4 + float(body.joint_template[0, 1])
    scores = evaluate(moved(reference, x=0.04), reference, body)
    assert 16 / depth < scores["vertex_2d_px"]["median"] < 16 / (depth - 0.25)


def test_a_quarter_turn_of_the_root_vanishes_after_alignment(body, reference) -> None:
    turn = rotvec_to_matrix(np.array([0, 0, 0.5]))
    poses = reference.poses.copy()
    poses[:, 0] = matrix_to_rotvec(turn @ rotvec_to_matrix(poses[:, 0]))
    scores = evaluate(reference.replace(poses=poses), reference, body)
    assert scores["mpjpe_mm"]["mean"] > 50
    assert scores["pa_mpjpe_mm"]["mean"] == pytest.approx(0, abs=0.01)
    assert scores["pa_pve_mm"]["mean"] == pytest.approx(0, abs=0.01)


def test_a_bent_elbow_moves_only_what_hangs_on_it(body, reference) -> None:
    poses = reference.poses.copy()
    poses[:, 18] = [0, 0, np.pi / 3]
    scores = evaluate(reference.replace(poses=poses), reference, body)
    joints = body.joint_template.cpu().numpy()
    # A turn by 60° moves a point by its distance from the axis, which here is at most its distance.
    most = 1000 * sum(np.linalg.norm(joints[k] - joints[18]) for k in (20, 22)) / 24
    assert 0.6 * most < scores["mpjpe_mm"]["mean"] <= most


def test_motions_in_different_worlds_are_compared_as_the_camera_sees_them(body, reference) -> None:
    turn = np.eye(4)
    turn[:3, :3] = rotvec_to_matrix(np.array([0.2, -0.1, 1.0]))
    joint = body.joint_template[0].cpu().numpy()
    poses = reference.poses.copy()
    poses[:, 0] = matrix_to_rotvec(turn[:3, :3] @ rotvec_to_matrix(poses[:, 0]))
    # The root turns about the pelvis, so transl follows the pelvis and not itself.
    trans = (reference.trans + joint) @ turn[:3, :3].T - joint
    other = reference.replace(
        poses=poses,
        trans=trans.astype(np.float32),
        world_to_camera=WORLD_TO_CAMERA @ np.linalg.inv(turn),
        world="camera",
    )
    scores = evaluate(other, reference, body)
    assert scores["root_error_mm"]["mean"] == pytest.approx(0, abs=0.05)
    assert scores["mpjpe_mm"]["mean"] == pytest.approx(0, abs=0.05)
    assert scores["foot_slide_mm_per_s"] is None
    assert "up is not known" in scores["left_out"]["foot_slide_mm_per_s"]


def test_a_body_that_glides_slides_at_its_speed(body, reference) -> None:
    gliding = reference.replace(
        trans=reference.trans + np.arange(FRAMES, dtype=np.float32)[:, None] * [0.002, 0, 0]
    )
    scores = evaluate(gliding, reference, body)
    assert scores["foot_slide_mm_per_s"]["mean"] == pytest.approx(100, abs=0.1)
    assert scores["accel_mm_per_s2"]["mean"] == pytest.approx(0, abs=2)


def test_only_frames_that_both_have_are_compared(body, reference) -> None:
    later = reference.replace(frame_indices=np.arange(FRAMES) + 9)
    assert evaluate(later, reference, body)["root_error_mm"]["frames"] == [9, 10, 11]
    with pytest.raises(EvaluationError, match="share no frame"):
        evaluate(reference.replace(frame_indices=np.arange(FRAMES) + 50), reference, body)


def test_vertices_of_two_bodies_are_not_compared(body, reference) -> None:
    scores = evaluate(reference.replace(body="a" * 64), reference.replace(body="b" * 64), body)
    assert scores["pve_mm"] is None
    assert "two bodies" in scores["left_out"]["pve_mm"]
    assert scores["mpjpe_mm"]["mean"] == pytest.approx(0, abs=0.01)


def test_without_a_camera_depth_and_pixels_are_left_out(body, reference) -> None:
    bare = reference.replace(intrinsics=None, world_to_camera=None)
    scores = evaluate(bare, reference, body)
    assert scores["root_depth_mm"] is None
    assert scores["vertex_2d_px"] is None
    assert scores["root_error_mm"]["mean"] == pytest.approx(0, abs=0.01)


class _NoFootage:
    size = (320, 320)


def test_views_score_marked_points_and_silhouettes(body, reference) -> None:
    camera = Camera(INTRINSICS, WORLD_TO_CAMERA, (320, 320), np.array([-0.05, 0.1, 0, 0, 0]))
    view = View("side", _NoFootage(), np.arange(FRAMES) + 2, (camera,))
    posed = pose_body(body, parameters_of_sequence(reference, body))
    wrist = body.joint_names.index("L_Wrist")
    at_wrist, _ = project(camera, posed.joints[3, wrist].numpy())
    at_nose, _ = project(camera, posed.vertices[3, body.landmarks["nose"]].numpy())
    truth = ViewTruth(
        camera="side",
        points={5: {"L_Wrist": tuple(at_wrist + [3, 4]), "nose": tuple(at_nose)}},
        masks={5: silhouette(posed.vertices[3].numpy(), camera, body)},
    )
    scores = score_views(reference, [view], [truth], body)
    assert scores["side"]["point_error_px"]["values"] == pytest.approx([5, 0], abs=1e-3)
    assert scores["all"]["silhouette_iou"]["mean"] == 1.0
    assert scores["side"]["silhouette_iou"]["blocks"] == 1
    json.dumps(scores, allow_nan=False)
    with pytest.raises(EvaluationError, match="no joint or landmark 'tail'"):
        score_views(reference, [view], [ViewTruth("side", {5: {"tail": (1, 1)}}, {})], body)
