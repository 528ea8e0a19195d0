# SPDX-License-Identifier: Apache-2.0
"""SMPL-H and SMPL-X: official layouts, fingers and faces, texture coordinates from elsewhere."""

import dataclasses
import json

import numpy as np
import pytest
import synthetic_clip as made
import torch
from hand_bodies import made_body, write_official

from posefit.body import body_from_arrays, load_body, pose_body
from posefit.cli import main
from posefit.engine import refine_views
from posefit.evidence import EvidenceFiles, evidence_of_files
from posefit.parameters import parameters_of_sequence
from posefit.solver import BLAZEPOSE, BODY_25, LandmarkPixels
from posefit.solver.hands import carried_fingers, held_joints
from posefit.texture import uv_hash
from posefit.uv_files import read_obj_uv, with_texture_coordinates
from posefit.views import view_of_sequence
from posefit_shared.body_files import BodyFileError, read_body
from posefit_shared.frames import project
from posefit_shared.settings import RefineSettings
from posefit_shared.skeleton import JOINT_NAMES

ALONE = RefineSettings(displacement="none", keypoints=False, refine_shape=False)
FRAMES = 3


@pytest.fixture(scope="module")
def bodies():
    return {name: body_from_arrays(made_body(name)) for name in ("smplh", "smplx")}


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "kind"), [("smplh", "pkl"), ("smplx", "npz")])
def test_official_layouts_are_read_and_get_texture_coordinates(tmp_path, model_type, kind):
    arrays = made_body(model_type)
    path = write_official(tmp_path, arrays, kind)
    body = load_body(path)
    assert body.joint_names == JOINT_NAMES[model_type]
    assert body.num_betas == 10
    assert body.content_hash == arrays.content_hash
    assert body.vt is not None
    assert body.ft.shape == body.faces.shape
    assert 0 <= body.vt.min() <= body.vt.max() <= 1
    triangles = body.vt[body.ft]
    sides = triangles[:, 1:] - triangles[:, :1]
    area = (sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0]).abs() / 2
    assert area.sum() > 0.25
    assert (area > 0).float().mean() > 0.98


def moved(body, rng):
    """A true sequence with bent fingers and an open jaw, and a start that is wrong all over."""
    stand = made.true_sequence(body, FRAMES, rng)
    poses = np.zeros((FRAMES, body.num_joints, 3), np.float32)
    poses[:, :22] = stand.poses[:, :22]
    poses[:, 22:] = 0.15 * rng.normal(size=(1, body.num_joints - 22, 3))
    fields = {name: getattr(stand, name) for name in (
        "trans", "betas", "intrinsics", "world_to_camera", "image_size")}  # fmt: skip
    truth = type(stand)(poses=poses, body=body.content_hash, **fields)
    if body.num_joints == 55:
        truth = truth.replace(expression=rng.normal(size=(FRAMES, 10)))
    wrong = truth.poses.copy()
    wrong[:, 1:22] += 0.1 * rng.normal(size=(1, 21, 3))
    wrong[:, 22:] += 0.2 * rng.normal(size=(1, body.num_joints - 22, 3))
    return truth, truth.replace(poses=wrong)


def openpose(folder, truth, body, with_hands):
    """True keypoints, as OpenPose writes them."""
    from posefit.evidence.keypoint_layouts import hand_table

    folder.mkdir()
    posed = pose_body(body, parameters_of_sequence(truth, body))
    tables = {"pose": BODY_25}
    if with_hands:
        tables |= {f"hand_{side}": hand_table(side) for side in ("left", "right")}
    for t in range(len(truth)):
        entry = {}
        for name, table in tables.items():
            bound = table.bind(body, torch.float32)
            sources = torch.cat([posed.joints[t], posed.vertices[t, bound.vertices]])
            pixels = project(truth.camera(t), (bound.mixture.T @ sources).numpy())[0]
            points = np.concatenate([pixels, bound.known[:, None].numpy() * 0.9], 1)
            entry[f"{name}_keypoints_2d"] = points.reshape(-1).tolist()
        (folder / f"{t}_keypoints.json").write_text(json.dumps({"people": [entry]}))
    return EvidenceFiles(keypoints=folder)


@pytest.mark.parametrize("model_type", ["smplh", "smplx"])
@pytest.mark.parametrize("with_hands", [False, True])
def test_fingers_follow_what_was_seen_and_stay_otherwise(
    bodies, tmp_path, rng, model_type, with_hands
):
    body = bodies[model_type]
    truth, start = moved(body, rng)
    files = openpose(tmp_path / "kp", truth, body, with_hands)
    view = view_of_sequence(start, made.ArrayFootage(np.zeros((FRAMES, 320, 240, 3), np.uint8)))
    evidence = evidence_of_files(files, start, view, body)
    found = refine_views(start, [view], body=body, settings=ALONE, evidence=evidence).sequence
    assert found.status == ("refined",) * FRAMES
    before, after = (made.vertex_error_mm(body, one, truth).mean() for one in (start, found))
    assert after < 0.8 * before
    extras = slice(22, 25) if model_type == "smplx" else slice(0, 0)
    fingers = slice(25 if model_type == "smplx" else 22, None)
    np.testing.assert_allclose(found.poses[:, extras], start.poses[:, extras], atol=1e-6)
    if model_type == "smplx":
        np.testing.assert_array_equal(found.expression, start.expression)
    change = np.abs(found.poses[:, fingers] - start.poses[:, fingers]).max()
    if with_hands:
        assert change > 0.02
        assert finger_pixels(body, found, truth) < 0.7 * finger_pixels(body, start, truth)
    else:
        assert change < 1e-6


def finger_pixels(body, sequence, truth):
    """Mean distance in pixels of the fingers' joints, each hand laid on the true wrist."""
    shown = []
    for one in (sequence, truth):
        joints = pose_body(body, parameters_of_sequence(one, body)).joints.numpy()
        first = body.joint_names.index("L_Index1")
        hands = joints[:, first:].reshape(FRAMES, 2, 15, 3)
        pixels = project(truth.camera(0), hands)[0]
        shown.append(pixels - project(truth.camera(0), joints[:, 20:22, None])[0])
    return np.linalg.norm(shown[0] - shown[1], axis=-1).mean()


def test_a_few_points_of_a_hand_move_no_finger(bodies):
    body = bodies["smplh"]
    ones = torch.ones(2, 33)
    eye = torch.eye(4).expand(2, 4, 4)
    few = LandmarkPixels(BLAZEPOSE, torch.zeros(2, 33, 2), ones, ones, eye[:, :3, :3], eye)
    assert not carried_fingers(body, [few], 2).any()
    held = held_joints(body, [few], 2)
    assert held[:, 22:].all()
    assert not held[:, :22].any()


def test_bodies_without_fingers_lock_nothing_more(free_body):
    assert held_joints(free_body, [], 3) is None
    locked = torch.zeros(24, dtype=torch.bool)
    assert held_joints(free_body, [], 3, locked) is locked


def write_obj(path, body, rng, *, shuffled=True):
    """An .obj of the body with its own texture coordinates; faces in another order and turned."""
    order = rng.permutation(len(body.faces)) if shuffled else np.arange(len(body.faces))
    corners = np.stack([body.faces, body.ft], -1)[order] + 1
    if shuffled:
        begin = np.arange(len(order))[:, None] + np.arange(3)
        corners = np.take_along_axis(corners, (begin % 3)[..., None], axis=1)
    lines = [f"v {x} {y} {z}" for x, y, z in body.v_template.tolist()]
    lines += [f"vt {u} {v}" for u, v in body.vt.tolist()]
    lines += ["f " + " ".join(f"{v}/{t}" for v, t in face) for face in corners.tolist()]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.slow
def test_an_obj_gives_each_corner_its_own_coordinate(tmp_path, rng):
    free = read_body("free")
    path = write_obj(tmp_path / "uv.obj", free, rng)
    vt, ft = read_obj_uv(path, free.faces, len(free.v_template))
    np.testing.assert_allclose(vt[ft], free.vt[free.ft], atol=1e-6)
    plain = made_body("smplx")
    body = load_body(write_official(tmp_path, plain, "npz"), uv=path)
    assert uv_hash(body) == uv_hash(body_from_arrays(with_texture_coordinates(plain, path)))
    assert body.content_hash == plain.content_hash


def test_an_obj_of_another_mesh_is_refused_in_words(tmp_path, rng, capsys):
    free = read_body("free")
    path = write_obj(tmp_path / "uv.obj", free, rng, shuffled=False)
    with pytest.raises(BodyFileError, match="the .obj of this very body"):
        read_obj_uv(path, free.faces[:-1], len(free.v_template))
    swapped = free.faces.copy()
    swapped[0, 0] = (swapped[0, 0] + 5000) % 12000
    with pytest.raises(BodyFileError, match="other triangles"):
        read_obj_uv(path, swapped, len(free.v_template))
    (tmp_path / "bare.obj").write_text("v 0 0 0\nf 1 1 1\n")
    status = main(["texture", "--output", "t.png", "--sequence", "s.npz", "--frames", "f.mp4",
                   "--uv", str(tmp_path / "bare.obj")])  # fmt: skip
    assert status == 2
    assert "'vt' lines" in capsys.readouterr().err


def test_xatlas_is_asked_once_and_then_remembered(tmp_path, monkeypatch):
    xatlas = pytest.importorskip("xatlas")
    calls = []

    def unwrap(vertices, faces):
        calls.append(len(faces))
        return np.arange(3), np.zeros((len(faces), 3), np.uint32), np.full((1, 2), 0.5, np.float32)

    monkeypatch.setattr(xatlas, "parametrize", unwrap)
    free = read_body("free")
    first, again = (with_texture_coordinates(free, "xatlas", tmp_path) for _ in range(2))
    assert calls == [len(free.faces)]
    np.testing.assert_array_equal(first.ft, again.ft)
    assert again.vt.tolist() == [[0.5, 0.5]]


def test_xatlas_unwraps_a_body_inside_the_map(tmp_path):
    pytest.importorskip("xatlas")
    body = made_body("smplh")
    part = dataclasses.replace(body, faces=body.faces[:3000])  # the whole of it takes seconds
    made_uv = with_texture_coordinates(part, "xatlas", tmp_path)
    assert made_uv.ft.shape == made_uv.faces.shape
    assert 0 <= made_uv.vt.min() <= made_uv.vt.max() <= 1
