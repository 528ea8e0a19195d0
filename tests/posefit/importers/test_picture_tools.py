# SPDX-License-Identifier: Apache-2.0
"""Results of tools that look at single pictures or crops: VIBE, PARE, PyMAF-X, CLIFF, HumanData."""

import numpy as np
import pytest
import torch
from dataset_layouts import smplx_like
from import_layouts import (
    FRAMES,
    SIZE,
    joints_of,
    moving,
    pinhole_pixels,
    pixels_of,
    worst,
    write_joblib,
)
from PIL import Image

from posefit.importers import ImporterError, ImportOptions, read, sniff

WIDTH, HEIGHT = SIZE
MIDDLE = np.array(SIZE) / 2


def crops(frames=FRAMES, shift=0.0):
    """Weak-perspective cameras [s, tx, ty] and boxes [cx, cy, h, h] of a person who walks."""
    weak = np.column_stack([np.linspace(0.8, 0.9, frames), np.full((frames, 2), [0.05, 0.25])])
    middle = np.array([500.0, 300.0]) + np.outer(np.arange(frames), [8.0, 1.0]) + [shift, 0]
    return weak, np.column_stack([middle, np.full((frames, 2), 400.0)])


def on_whole_picture(weak, boxes):
    """VIBE's `convert_crop_cam_to_orig_img`."""
    cx, cy, h = boxes[:, 0], boxes[:, 1], boxes[:, 2]
    sx, sy = weak[:, 0] * h / WIDTH, weak[:, 0] * h / HEIGHT
    tx = (cx - WIDTH / 2) / (WIDTH / 2) / sx + weak[:, 1]
    ty = (cy - HEIGHT / 2) / (HEIGHT / 2) / sy + weak[:, 2]
    return np.stack([sx, sy, tx, ty], axis=1)


def full_pixels(motion, weak, boxes, focal):
    """`convert_pare_to_full_img_cam` of WHAM's lib/models/smpl.py, then a pinhole."""
    scale = weak[:, 0] * boxes[:, 2]
    shift = np.stack([
        weak[:, 1] + 2 * (boxes[:, 0] - WIDTH / 2) / scale,
        weak[:, 2] + 2 * (boxes[:, 1] - HEIGHT / 2) / scale,
        2 * focal / scale,
    ], axis=1)  # fmt: skip
    joints = joints_of(motion.poses, np.zeros((len(weak), 3)), motion.betas) + shift[:, None]
    return pinhole_pixels(joints, focal, tuple(MIDDLE))


def write_vibe(path, matrices=False, people=((1, 0), (4, 3))):
    results = {}
    for person, seed in people:
        motion = moving(seed)
        weak, boxes = crops(shift=200.0 * seed)
        results[person] = {
            "pred_cam": weak.astype(np.float32),
            "orig_cam": on_whole_picture(weak, boxes).astype(np.float32),
            "verts": np.zeros((FRAMES, 3, 3), np.float32),
            "pose": (motion.matrices if matrices else motion.poses.reshape(FRAMES, 72)).astype(
                np.float32
            ),
            "betas": motion.betas.astype(np.float32),
            "joints2d": None,
            "bboxes": boxes,
            "frame_ids": np.array([0, 1, 4, 5, 6]),
        }
    return write_joblib(path, results)


@pytest.mark.parametrize("matrices", [False, True])
def test_vibe_and_pare_bodies_are_seen_where_their_cameras_show_them(tmp_path, matrices):
    path = write_vibe(tmp_path / "vibe_output.pkl", matrices)
    assert sniff(path) == "vibe"
    people = read(path)
    assert [one.sequence.person_id for one in people] == [1, 4]
    for person, seed in zip(people, (0, 3), strict=True):
        sequence = person.sequence
        assert sequence.image_size == SIZE
        assert sequence.frame_indices.tolist() == [0, 1, 4, 5, 6]
        focal = sequence.intrinsics[0, 0]
        assert focal == pytest.approx(5000 * 400 / 224)
        expected = full_pixels(moving(seed), *crops(shift=200.0 * seed), focal)
        # Cameras and poses are stored in single precision.
        assert worst(pixels_of(sequence), expected) < 0.02
        # What VIBE itself draws is weak perspective: alike but for the depth of the body.
        weak, boxes = crops(shift=200.0 * seed)
        camera = on_whole_picture(weak, boxes)
        joints = joints_of(moving(seed).poses, np.zeros((FRAMES, 3)), moving(seed).betas)
        drawn = (joints[..., :2] + camera[:, None, 2:]) * camera[:, None, :2] + 1
        assert worst(pixels_of(sequence), drawn * MIDDLE) < 15


def test_double_precision_crops_agree_to_a_thousandth_of_a_pixel(tmp_path):
    motion, (weak, boxes) = moving(), crops()
    person = {
        "pred_cam": weak, "orig_cam": on_whole_picture(weak, boxes), "bboxes": boxes,
        "pose": motion.poses, "betas": motion.betas, "frame_ids": np.arange(FRAMES),
    }  # fmt: skip
    path = write_joblib(tmp_path / "p.pkl", {0: person})
    (imported,) = read(path, ImportOptions(focal_px=1400.0))
    expected = full_pixels(motion, weak, boxes, 1400.0)
    assert worst(pixels_of(imported.sequence), expected) < 1e-3


def write_pymafx(path, motion, weak, boxes):
    """PyMAF-X's table: batches of torch tensors, a row a detection."""
    scale = weak[:, 0] * boxes[:, 2]
    shift = weak[:, 1:] + 2 * (boxes[:, :2] - MIDDLE) / scale[:, None]
    batches = []
    for rows in (slice(0, 3), slice(3, None)):
        matrices = torch.tensor(motion.matrices[rows])
        count = len(matrices)
        eye = torch.eye(3).expand(count, 15, 3, 3)
        batches.append({
            "shape": torch.tensor(motion.betas[rows]), "body_pose": matrices,
            "left_hand_pose": eye, "right_hand_pose": eye, "jaw_pose": eye[:, :1],
            "leye_pose": eye[:, :1], "reye_pose": eye[:, :1], "expression": torch.ones(count, 10),
        })  # fmt: skip
    write_joblib(path, {
        "pred_cam": weak, "orig_cam": on_whole_picture(weak, boxes),
        "orig_cam_t": np.column_stack([shift, 2 * 5000.0 / scale]),
        "verts": np.zeros((len(weak), 2, 3)), "pose": np.zeros((len(weak), 72)),
        "betas": motion.betas, "bboxes": boxes, "frame_ids": list(range(len(weak))),
        "person_ids": [f"clip_f{k}_p0" for k in range(len(weak))], "smplx_params": batches,
    })  # fmt: skip
    return path


def test_pymafx_bodies_are_seen_where_its_renderer_shows_them(tmp_path):
    motion, (weak, boxes) = moving(), crops()
    path = write_pymafx(tmp_path / "output.pkl", motion, weak, boxes)
    assert sniff(path) == "pymafx"
    (person,) = read(path)
    sequence = person.sequence
    assert (sequence.model_type, sequence.image_size) == ("smplx", SIZE)
    assert sequence.frame_indices.tolist() == list(range(FRAMES))
    np.testing.assert_array_equal(sequence.expression, np.ones((FRAMES, 10)))
    model = smplx_like().to(dtype=torch.float64)
    full = np.zeros((FRAMES, 55, 3))
    full[:, :22] = motion.poses[:, :22]
    scale = weak[:, 0] * boxes[:, 2]
    shift = np.column_stack(
        [weak[:, 1:] + 2 * (boxes[:, :2] - MIDDLE) / scale[:, None], 2 * 5000.0 / scale]
    )
    joints = joints_of(full, shift, motion.betas, model)
    assert worst(pixels_of(sequence, model), pinhole_pixels(joints, 5000.0, tuple(MIDDLE))) < 1e-3


def write_cliff(path, motions, folder=None, matrices=False):
    """CLIFF's table, pictures interleaved; people differ by place."""
    rows = {"pose": [], "shape": [], "global_t": [], "focal_l": [], "detection_all": []}
    for t in range(FRAMES):
        for k, motion in enumerate(motions):
            if t == 2 and k == 1:
                continue
            rows["pose"].append(motion.matrices[t] if matrices else motion.poses[t].reshape(72))
            rows["shape"].append(motion.betas[t])
            rows["global_t"].append(motion.trans[t])
            rows["focal_l"].append(np.hypot(WIDTH, HEIGHT))
            x = 200.0 + 500 * k + 4 * t
            rows["detection_all"].append([t, x, 100, x + 150, 500, 0.99, 0.99, 0])
    names = [str((folder or path.parent) / f"{t:06d}.png") for t in range(FRAMES)]
    np.savez(path, imgname=names, pred_joints=np.zeros((2, 45, 3)), **rows)
    return path


@pytest.mark.parametrize("matrices", [False, True])
def test_cliff_bodies_are_seen_where_cliff_draws_them(tmp_path, matrices):
    motions = [moving(), moving(1)]
    path = write_cliff(tmp_path / "clip_cliff_hr48.npz", motions, matrices=matrices)
    assert sniff(path) == "cliff"
    first, second = read(path, ImportOptions(image_size=SIZE))
    assert first.sequence.frame_indices.tolist() == [0, 1, 2, 3, 4]
    assert second.sequence.frame_indices.tolist() == [0, 1, 3, 4]
    for person, motion in ((first, motions[0]), (second, motions[1])):
        rows = person.sequence.frame_indices
        joints = joints_of(motion.poses[rows], motion.trans[rows], motion.betas[rows])
        expected = pinhole_pixels(joints, np.hypot(WIDTH, HEIGHT), tuple(MIDDLE))
        assert worst(pixels_of(person.sequence), expected) < 1e-3


def test_cliff_takes_the_pictures_size_from_its_pictures(tmp_path):
    Image.new("RGB", SIZE).save(tmp_path / "000000.png")
    path = write_cliff(tmp_path / "c.npz", [moving()])
    assert read(path)[0].sequence.image_size == SIZE
    with pytest.raises(ImporterError, match="diagonal"):
        read(path, ImportOptions(image_size=(640, 480)))


def write_human_data(path, motion, *, demo):
    """HumanData as MMHuman3D's demo or a data set's converter dumps it."""
    data = {
        "__key_strict__": False, "__data_len__": FRAMES,
        "image_path": [f"images/{k:06d}.png" for k in range(FRAMES)],
        "smpl": {"body_pose": motion.poses[:, 1:], "global_orient": motion.poses[:, 0],
                 "betas": motion.betas},
    }  # fmt: skip
    if demo:
        weak, boxes = crops()
        half = np.array([120.0, 160.0])
        data["pred_cams"] = list(weak)
        data["bboxes_xyxy"] = [np.array([*(b[:2] - half), *(b[:2] + half), 1.0]) for b in boxes]
        data["person_id"] = [0] * FRAMES
        data["frame_id"] = [0, 1, 2, 5, 6]
    else:
        data["smpl"]["transl"] = motion.trans
        data["meta"] = {"gender": np.array(["f"] * FRAMES)}
        data["bbox_xywh"] = np.zeros((FRAMES, 5))
    np.savez_compressed(path, **data)
    return path


def test_human_data_of_the_demo_is_seen_where_its_crops_show_it(tmp_path):
    path = write_human_data(tmp_path / "inference_result.npz", moving(), demo=True)
    assert sniff(path) == "humandata"
    (person,) = read(path, ImportOptions(image_size=SIZE))
    sequence = person.sequence
    assert sequence.frame_indices.tolist() == [0, 1, 2, 5, 6]
    weak, boxes = crops()
    boxes = np.column_stack([boxes[:, :2], np.full(FRAMES, 1.25 * 320)])
    focal = sequence.intrinsics[0, 0]
    assert worst(pixels_of(sequence), full_pixels(moving(), weak, boxes, focal)) < 1e-3
    # `visualize_smpl_hmr` draws with a pinhole in each crop: alike but for its point of view.
    shift = np.column_stack([weak[:, 1:], 2 * 5000 / (224 * weak[:, 0])])
    seen = joints_of(moving().poses, np.zeros((FRAMES, 3)), moving().betas) + shift[:, None]
    in_crop = 5000 * seen[..., :2] / seen[..., 2:] + 112
    drawn = in_crop * 400 / 224 + (boxes[:, :2] - 200)[:, None]
    assert worst(pixels_of(sequence), drawn) < 5


def test_human_data_of_a_data_set_has_its_translation(tmp_path):
    path = write_human_data(tmp_path / "pw3d_test.npz", moving(), demo=False)
    (person,) = read(path)
    assert person.sequence.gender == "female"
    np.testing.assert_allclose(person.sequence.trans, moving().trans, atol=1e-6)
    np.testing.assert_allclose(person.sequence.poses, moving().poses, atol=1e-6)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([{"mhr_model_params": np.zeros(204), "pred_vertices": np.zeros((3, 3))}], "SAM 3D Body"),
        ({"outputs": {"0": {"mhr_model_params": np.zeros(204)}}}, "SAM 3D Body"),
    ],
)
def test_what_is_known_and_cannot_be_imported_says_why_in_a_sentence(tmp_path, value, words):
    with pytest.raises(ImporterError, match=words):
        read(write_joblib(tmp_path / "r.pkl", value))


def test_meshes_alone_say_that_no_pose_is_in_them(tmp_path):
    np.save(tmp_path / "m.npy", np.zeros((2, 10475, 3), np.float32))
    with pytest.raises(ImporterError, match="vertices alone"):
        read(tmp_path / "m.npy")
