# SPDX-License-Identifier: Apache-2.0
"""Files of other tools, read as they write them; what does not fit is refused in a sentence."""

import json

import numpy as np
import pytest
import synthetic_clip as made
import torch
from PIL import Image

from posefit.evidence import EvidenceError
from posefit.evidence.densepose import read_iuv
from posefit.evidence.frame_files import FrameNames, files_by_frame
from posefit.evidence.keypoint_files import read_keypoint_files
from posefit.evidence.keypoint_layouts import COCO_18, hand_table, openpose_table
from posefit.evidence.person_choice import choose_person, landmark_evidence
from posefit.evidence.silhouettes import read_mask
from posefit.solver import BLAZEPOSE, BODY_25, COCO_17, Silhouettes
from posefit.solver.silhouettes import _sample
from posefit.views import view_of_sequence

SIZE = (640, 480)
NAMES = FrameNames(5)


def write(path, data):
    path.write_text(json.dumps(data), "utf-8")
    return path


def person(points, x=100.0, confidence=0.8):
    return [[x + k, 50.0 + 2 * k, confidence] for k in range(points)]


def flat(points):
    return [value for point in points for value in point]


def test_openpose_folders_keep_every_person_and_frame_number(tmp_path):
    entries = [{"pose_keypoints_2d": flat(person(25, x))} for x in (100.0, 300.0)]
    write(tmp_path / "clip_000000000003_keypoints.json", {"version": 1.3, "people": entries})
    write(tmp_path / "clip_000000000004_keypoints.json", {"version": 1.3, "people": []})
    found = read_keypoint_files(tmp_path, NAMES, SIZE)
    assert sorted(found.people) == [3, 4]
    assert found.people[4].shape == (0, len(found.table.names), 3)
    assert found.people[3][1, 0].tolist() == [300.0, 50.0, 0.8]
    assert found.table.names[:25] == BODY_25.names


def test_openpose_hands_and_face_are_taken_where_they_are(tmp_path):
    face = person(70, 500.0)
    entry = {
        "pose_keypoints_2d": flat(person(25)),
        "face_keypoints_2d": flat(face),
        "hand_left_keypoints_2d": flat(person(21, 200.0)),
        "hand_right_keypoints_2d": [],
    }
    path = write(tmp_path / "0_keypoints.json", {"people": [entry]})
    found = read_keypoint_files(path, NAMES, SIZE)
    one = found.people[0][0]
    assert one[found.table.index("left_index_tip")].tolist() == [208.0, 66.0, 0.8]
    assert one[found.table.index("right_index_tip"), 2] == 0
    assert one[found.table.index("face_right_eye_outer")].tolist() == face[36]


def test_openpose_coco_bodies_are_told_by_their_number_of_points(tmp_path):
    path = write(tmp_path / "0_keypoints.json",
                 {"people": [{"pose_keypoints_2d": flat(person(18))}]})  # fmt: skip
    assert read_keypoint_files(path, NAMES, SIZE).table.names[:18] == COCO_18.names
    path = write(tmp_path / "0_keypoints.json",
                 {"people": [{"pose_keypoints_2d": flat(person(15))}]})  # fmt: skip
    with pytest.raises(EvidenceError, match="BODY_25"):
        read_keypoint_files(path, NAMES, SIZE)


def test_coco_results_name_frames_by_number_or_file(tmp_path):
    names = FrameNames(3, ["a.png", "b.png", "c.png"])
    results = [
        {"image_id": "b.png", "category_id": 1, "keypoints": flat(person(17)), "score": 0.9},
        {"image_id": 2, "category_id": 1, "keypoints": flat(person(17, 7.0)), "score": 0.4},
    ]
    found = read_keypoint_files(write(tmp_path / "results.json", results), names, SIZE)
    assert found.table is COCO_17
    assert sorted(found.people) == [1, 2]
    assert found.people[2][0, 3].tolist() == [10.0, 56.0, 0.8]


def test_coco_annotations_count_hidden_points_half(tmp_path):
    points = person(17, confidence=2.0)
    points[5][2], points[6][2] = 1.0, 0.0
    data = {"images": [{"id": 77, "file_name": "x_0004.jpg"}],
            "annotations": [{"image_id": 77, "keypoints": flat(points)}]}  # fmt: skip
    found = read_keypoint_files(write(tmp_path / "person_keypoints.json", data), NAMES, SIZE)
    assert found.people[4][0, 4:7, 2].tolist() == [1.0, 0.5, 0.0]


def mediapipe(frames):
    points = np.full((frames, 33, 3), 0.5)
    points[:, 11] = [0.25, 0.75, 0.9]
    return points


def test_mediapipe_files_of_all_three_kinds_say_the_same(tmp_path):
    points = mediapipe(2)
    keys = ("x", "y", "visibility")
    landmarks = [[dict(zip(keys, p, strict=True)) for p in frame] for frame in points.tolist()]
    files = [write(tmp_path / "list.json", landmarks)]
    frames = [{"frame": t, "pose_landmarks": [frame]} for t, frame in enumerate(landmarks)]
    files.append(write(tmp_path / "frames.json", {"frames": frames}))
    np.savez(tmp_path / "m.npz", landmarks=points[..., :2], visibility=points[..., 2])
    rows = ["frame,landmark,x,y,visibility"]
    rows += [f"{t},{k},{x},{y},{v}" for t in range(2) for k, (x, y, v) in enumerate(points[t])]
    (tmp_path / "m.csv").write_text("\n".join(rows))
    for file in [*files, tmp_path / "m.npz", tmp_path / "m.csv"]:
        found = read_keypoint_files(file, NAMES, SIZE)
        assert found.table is BLAZEPOSE
        np.testing.assert_allclose(found.people[1][0, 11], [160.0, 360.0, 0.9])


def test_pixels_of_mediapipe_stay_pixels(tmp_path):
    np.savez(tmp_path / "m.npz", landmarks=100 * mediapipe(1)[..., :2], frame_indices=[4])
    found = read_keypoint_files(tmp_path / "m.npz", NAMES, SIZE)
    assert found.people[4][0, 11].tolist() == [25.0, 75.0, 1.0]


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.json", "[[1, 2]"), ("b.json", "{}"), ("c.json", '[{"image_id": 1, "keypoints": [1]}]'),
     ("d.csv", "frame,x\n0,1"), ("e.json", "[[[1]]]"), ("f.npz", "PK")],
)  # fmt: skip
def test_files_that_are_no_keypoints_are_refused_in_a_sentence(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(EvidenceError) as refused:
        read_keypoint_files(tmp_path / name, NAMES, SIZE)
    assert name in str(refused.value)


def test_files_belong_to_images_of_the_same_name_else_to_their_number(tmp_path):
    for name in ("shot9_a.png", "shot9_b.png"):
        (tmp_path / name).touch()
    named = FrameNames(2, ["shot9_a.jpg", "shot9_b.jpg"])
    assert [p.name for p in files_by_frame(tmp_path, (".png",), named).values()] == [
        "shot9_a.png", "shot9_b.png"]  # fmt: skip
    with pytest.raises(EvidenceError, match="both mean frame 9"):
        files_by_frame(tmp_path, (".png",), NAMES)


def test_the_person_who_lies_over_the_body_is_chosen_and_nobody_else():
    expected = np.array(person(17))[:, :2]
    near, far = np.array(person(17, 108.0)), np.array(person(17, 260.0))
    chosen = choose_person(np.stack([far, near]), expected, 60.0)
    assert chosen is not None
    np.testing.assert_array_equal(chosen, near)
    assert choose_person(far[None], expected, 60.0) is None


def test_keypoints_of_another_person_alone_are_refused(free_body, tmp_path, rng):
    truth = made.true_sequence(free_body, 2, rng)
    view = view_of_sequence(truth, made.filmed(free_body, truth))
    path = write(tmp_path / "r.json", [{"image_id": 0, "keypoints": flat(person(17, 5.0))}])
    found = read_keypoint_files(path, FrameNames(2), made.SIZE)
    with pytest.raises(EvidenceError, match="none of the people"):
        landmark_evidence(found, truth, view, free_body)


def test_finger_joints_are_known_on_bodies_that_have_them(free_body):
    table = openpose_table(BODY_25)
    known = table.bind(free_body, torch.float32).known
    assert known[table.index("left_index_1")]
    assert known[table.index("left_index_tip")]
    assert not known[table.index("left_index_3")]
    assert hand_table("right").combinations[1][0] == {"R_Thumb1": 1.0}


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_iuv_maps_are_read_in_either_channel_order(tmp_path, order):
    iuv = np.zeros((4, 6, 3), np.uint8)
    iuv[1, 2] = 24, 255, 51
    Image.fromarray(iuv if order == "rgb" else iuv[..., ::-1].copy()).save(tmp_path / "0.png")
    part, uv = read_iuv(tmp_path / "0.png", (6, 4))
    assert part[1, 2] == 24
    assert part.sum() == 24
    assert uv[1, 2].tolist() == [1.0, 0.2]
    with pytest.raises(EvidenceError, match="6 × 4, the footage 5 × 4"):
        read_iuv(tmp_path / "0.png", (5, 4))


def test_detectron2_boxes_are_laid_into_the_picture(tmp_path):
    labels = np.arange(1, 7, dtype=np.uint8).reshape(2, 3)
    uv = np.linspace(0, 1, 12).reshape(2, 2, 3)
    np.savez(tmp_path / "0.npz", labels=labels, uv=uv, box=[-1.0, 1.0, 2.0, 3.0])
    part, whole = read_iuv(tmp_path / "0.npz", (4, 4))
    assert part.tolist() == [[0] * 4, [2, 3, 0, 0], [5, 6, 0, 0], [0] * 4]
    assert whole[2, 0].tolist() == uv[:, 1, 1].tolist()


def test_masks_of_ones_are_masks(tmp_path):
    Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / "0.png")
    assert read_mask(tmp_path / "0.png", (4, 4)).max() == 255


def test_distances_between_pixel_centres_have_their_exact_gradient():
    generator = torch.Generator().manual_seed(3)
    distance = torch.rand(2, 9, 11, generator=generator, dtype=torch.float64)
    pixels = 12 * torch.rand(2, 2, 40, generator=generator, dtype=torch.float64) - 0.5
    _, slope = _sample(distance, pixels)
    for axis in range(2):
        step = torch.zeros(2, 1, dtype=torch.float64)
        step[axis] = 1e-7
        rise = _sample(distance, pixels + step)[0] - _sample(distance, pixels - step)[0]
        torch.testing.assert_close(rise / 2e-7, slope[:, axis], atol=1e-5, rtol=1e-5)


def test_silhouette_rows_have_the_gradient_of_their_cost(free_body):
    from posefit.body import PoseParameters
    from posefit.solver import SolverConfig
    from posefit.solver.skeleton import (
        SkeletonModel,
        pose_skeleton,
        retract,
        state_from_parameters,
    )

    body = free_body.to(dtype=torch.float64)
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    off = ((rows - 30) ** 2 + (columns - 36) ** 2).sqrt()
    angle = torch.linspace(0, 6.2, 30, dtype=torch.float64)
    ring = torch.stack([angle.cos(), angle.sin()], -1)
    matrix = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
    matrix[:3, 3] = torch.tensor([0.1, 0.0, 4.0])
    evidence = Silhouettes(
        torch.arange(0, body.num_vertices, 150), (off - 14).clamp_min(0).double()[None],
        (torch.tensor([36.5, 30.5]) + 18 * ring)[None], -ring[None], torch.ones(1, 30),
        torch.ones(1), torch.tensor([[[80.0, 0, 32], [0, 80.0, 32], [0, 0, 1]]]), matrix[None],
    )  # fmt: skip
    model = SkeletonModel.from_body(body, 10, torch.float64)
    state = state_from_parameters(PoseParameters.rest(body, 1))
    term = evidence.bind(body, model, slice(0, 1), SolverConfig()).term
    skeleton = pose_skeleton(model, state)
    linear = term(skeleton)
    gradient = 2 * (linear.jacobian @ linear.residual[..., None])[0, :, 0]
    for axis in range(3):
        move = torch.zeros(1, 3, dtype=torch.float64)
        move[0, axis] = 1e-6
        turns, betas = torch.zeros(1, 24, 3).double(), torch.zeros(1, 10).double()
        states = [
            retract(state, skeleton.parent_rotations, turns, way * move, betas)
            for way in (1.0, -1.0)
        ]
        above, below = (term(pose_skeleton(model, moved)).cost for moved in states)
        slope = (above - below)[0] / 2e-6
        torch.testing.assert_close(slope, gradient[72 + axis], rtol=1e-3, atol=1e-2)
