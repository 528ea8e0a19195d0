# SPDX-License-Identifier: Apache-2.0
"""Results of trackers and video tools: imported bodies are seen where the tools themselves say."""

import dataclasses

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

from posefit.importers import ImporterError, ImportOptions, read, sniff
from posefit_shared.rotations import matrix_to_rotvec, rotvec_to_matrix

WIDTH, HEIGHT = SIZE


def write_phalp(path, people, ages=None, size=SIZE):
    """Frames of PHALP's tracker; `people` maps a track to its motion and first frame."""
    width, height = size
    frames = {}
    for t in range(12):
        frame = {"time": t, "shot": 0, "frame_path": f"img/{t:06d}.jpg"}
        keys = ("tid", "bbox", "tracked_time", "smpl", "camera", "size", "conf", "3d_joints")
        frame |= {key: [] for key in keys}
        for track, (motion, start) in people.items():
            k = t - start
            if not 0 <= k < len(motion.poses):
                continue
            frame["tid"].append(track)
            frame["bbox"].append(np.zeros(4))
            frame["tracked_time"].append((ages or {}).get((track, t), 0))
            frame["smpl"].append({
                "global_orient": motion.matrices[k, :1].astype(np.float32),
                "body_pose": motion.matrices[k, 1:].astype(np.float32),
                "betas": motion.betas[k].astype(np.float32),
            })  # fmt: skip
            frame["camera"].append(motion.trans[k].astype(np.float32))
            frame["size"].append([height, width])
            frame["conf"].append(np.float32(0.9))
            frame["3d_joints"].append(np.zeros((45, 3), np.float32))
        frames[f"img/{t:06d}.jpg"] = frame
    return write_joblib(path, frames)


def phalp_pixels(motion, size):
    """PHALP's `pred_keypoints_2d`: 5000 px on a padded square of 256, in the picture's pixels."""
    width, height = size
    side = max(size)
    left, top = (side - width) // 2, (side - height) // 2
    joints = joints_of(motion.poses, motion.trans, motion.betas)
    on_square = joints[..., :2] / joints[..., 2:] * (5000.0 / 256) + 0.5
    return on_square * side - np.array([left, top])


@pytest.mark.parametrize("size", [SIZE, (720, 1281), (640, 640)])
def test_phalp_bodies_are_seen_where_phalp_draws_them(tmp_path, size):
    motion = dataclasses.replace(moving(), trans=moving().trans + [0, 0, 40])
    path = write_phalp(tmp_path / "demo_clip.pkl", {4: (motion, 2)}, size=size)
    assert sniff(path) == "phalp"
    (person,) = read(path)
    sequence = person.sequence
    assert sequence.person_id == 4
    assert sequence.image_size == size
    assert sequence.frame_indices.tolist() == [2, 3, 4, 5, 6]
    assert worst(pixels_of(sequence), phalp_pixels(motion, size)) < 1e-3


def test_frames_in_which_phalp_only_waits_are_gaps(tmp_path):
    path = write_phalp(
        tmp_path / "d.pkl", {1: (moving(), 0), 2: (moving(1, 8), 4)}, ages={(1, 2): 1, (1, 3): 2}
    )
    longest, other = read(path)
    assert (longest.sequence.person_id, len(longest.sequence)) == (2, 8)
    assert other.sequence.frame_indices.tolist() == [0, 1, 4]
    assert any("gaps" in note for note in other.notes)


def test_a_track_that_phalp_broke_is_one_person_unless_told_otherwise(tmp_path):
    motion = moving(frames=10)
    parts = [
        dataclasses.replace(motion, **{k: v[part] for k, v in vars(motion).items()})
        for part in (slice(0, 4), slice(7, 10))
    ]
    path = write_phalp(tmp_path / "d.pkl", {3: (parts[0], 0), 8: (parts[1], 7)})
    (person,) = read(path)
    assert person.sequence.frame_indices.tolist() == [0, 1, 2, 3, 7, 8, 9]
    assert "track 8 from frame 7 on is taken for track 3 after 3 frames" in person.notes[-1]
    assert len(read(path, ImportOptions(relink=False))) == 2


def wham_person(motion, world, hips_world, frames):
    count = len(motion.poses)
    return {
        "pose": motion.poses.reshape(count, 72).astype(np.float32),
        "trans": motion.trans.astype(np.float32),
        "pose_world": world.reshape(count, 72).astype(np.float32),
        "trans_world": hips_world.astype(np.float32),
        "betas": motion.betas.astype(np.float32),
        "verts": np.zeros((count, 4, 3), np.float32),
        "frame_ids": np.asarray(frames),
    }


def y_up_world(motion):
    """Root poses and a root's way in a world with y up, which turns against the camera."""
    turn = rotvec_to_matrix([[3.1, 0.02 * k, 0.1] for k in range(len(motion.poses))])
    world = motion.poses.copy()
    world[:, 0] = matrix_to_rotvec(turn @ motion.matrices[:, 0])
    way = np.column_stack([0.1 * np.arange(FRAMES), np.full(FRAMES, 0.9), np.zeros(FRAMES)])
    return world, way


def wham_pixels(motion):
    """WHAM's `full_perspective_projection`: the diagonal as focal length, the middle as centre."""
    joints = joints_of(motion.poses, motion.trans, motion.betas)
    return pinhole_pixels(joints, np.sqrt(WIDTH**2 + HEIGHT**2), (WIDTH / 2, HEIGHT / 2))


@pytest.mark.parametrize("world", ["auto", "camera"])
def test_wham_bodies_are_seen_where_wham_draws_them(tmp_path, world):
    motion = moving()
    path = write_joblib(
        tmp_path / "wham_output.pkl",
        {0: wham_person(motion, *y_up_world(motion), [0, 1, 2, 6, 7])},
    )
    assert sniff(path) == "wham"
    (person,) = read(path, ImportOptions(image_size=SIZE, world=world))
    assert person.sequence.frame_indices.tolist() == [0, 1, 2, 6, 7]
    assert worst(pixels_of(person.sequence), wham_pixels(motion)) < 1e-3


def test_whams_world_has_z_up_and_its_way(tmp_path):
    motion = moving()
    world, way = y_up_world(motion)
    path = write_joblib(tmp_path / "w.pkl", {0: wham_person(motion, world, way, range(FRAMES))})
    (person,) = read(path, ImportOptions(image_size=SIZE))
    sequence = person.sequence
    assert sequence.world == "gravity"
    joints = joints_of(sequence.poses, sequence.trans, sequence.betas)
    hips = joints[:, 1:3].mean(1)
    np.testing.assert_allclose(hips[:, 2], 0.9, atol=1e-5)  # y became z
    np.testing.assert_allclose(np.diff(hips[:, 0]), 0.1, atol=1e-5)


def test_without_the_pictures_size_wham_has_no_camera_and_says_so(tmp_path):
    motion = moving()
    path = write_joblib(
        tmp_path / "w.pkl", {0: wham_person(motion, *y_up_world(motion), range(FRAMES))}
    )
    (person,) = read(path)
    assert not person.sequence.has_camera
    assert any("--footage" in note for note in person.notes)


def test_whams_people_keep_their_numbers(tmp_path):
    first, other = moving(), moving(3)
    path = write_joblib(tmp_path / "w.pkl", {
        0: wham_person(first, *y_up_world(first), range(FRAMES)),
        7: wham_person(other, *y_up_world(other), range(FRAMES)),
    })  # fmt: skip
    assert [one.sequence.person_id for one in read(path)] == [0, 7]


def test_a_wham_file_with_another_shape_is_refused_in_words(tmp_path):
    motion = moving()
    data = wham_person(motion, *y_up_world(motion), range(FRAMES))
    data["pose"] = data["pose"][:, :60]
    path = write_joblib(tmp_path / "w.pkl", {0: data})
    with pytest.raises(ImporterError, match=r"pose is \(5, 60\), expected rotations of 24 joints"):
        read(path)


def gvhmr_file(path, motion, world, trans_world):
    def part(poses, trans):
        return {
            "body_pose": torch.tensor(poses[:, 1:22].reshape(FRAMES, 63)).float(),
            "betas": torch.tensor(motion.betas).float(),
            "global_orient": torch.tensor(poses[:, 0]).float(),
            "transl": torch.tensor(trans).float(),
        }

    intrinsics = torch.eye(3)
    intrinsics[0, 0] = intrinsics[1, 1] = float(np.hypot(WIDTH, HEIGHT))
    intrinsics[0, 2], intrinsics[1, 2] = WIDTH / 2, HEIGHT / 2
    torch.save({
        "smpl_params_global": part(world, trans_world),
        "smpl_params_incam": part(motion.poses, motion.trans),
        "K_fullimg": intrinsics.repeat(FRAMES, 1, 1),
        "net_outputs": {"static_conf_logits": torch.zeros(1, FRAMES, 6)},
    }, path)  # fmt: skip
    return path


@pytest.mark.parametrize("world", ["auto", "camera"])
def test_gvhmr_bodies_are_seen_where_gvhmr_draws_them(tmp_path, world):
    motion = moving()
    path = gvhmr_file(tmp_path / "hmr4d_results.pt", motion, *y_up_world(motion))
    assert sniff(path) == "gvhmr"
    (person,) = read(path, ImportOptions(world=world))
    sequence = person.sequence
    assert (sequence.model_type, sequence.image_size) == ("smplx", SIZE)
    assert sequence.world == ("gravity" if world == "auto" else "camera")
    model = smplx_like().to(dtype=torch.float64)
    full = np.zeros((FRAMES, 55, 3))
    full[:, :22] = motion.poses[:, :22]
    joints = joints_of(full, motion.trans, motion.betas, model)
    expected = pinhole_pixels(joints, np.hypot(WIDTH, HEIGHT), (WIDTH / 2, HEIGHT / 2))
    assert worst(pixels_of(sequence, model), expected) < 1e-3


ROMP_JOINTS = 71


def romp_picture(motions, ids, size, is_bev=False):
    """One picture's results with a person a motion, as simple_romp saves them."""
    width, height = size
    side = max(size)
    left, top = (side - width) // 2, (side - height) // 2
    rows = {"cam": [], "cam_trans": [], "smpl_thetas": [], "smpl_betas": [], "joints": [],
            "pj2d_org": []}  # fmt: skip
    for k, motion in enumerate(motions):
        joints = np.zeros((ROMP_JOINTS, 3))
        joints[:24] = joints_of(motion.poses[:1], np.zeros((1, 3)), motion.betas[:1])[0]
        if is_bev:
            joints[:24] -= joints[1:3].mean(0)
            shift = np.array([0.4 - 0.5 * k, 0.1, 3.0 + k])
            seen = joints + shift
            on_square = seen[:, :2] / (seen[:, 2:] + 1e-6) * 443.4 / 256
            rows["cam"].append([0.3, 0.1, 0.2 - 0.4 * k])
            rows["cam_trans"].append(shift)
            rows["smpl_betas"].append(np.append(motion.betas[0], 0.1))
        else:
            cam = np.array([0.5, 0.2 - 0.6 * k, -0.1])
            on_square = joints[:, :2] * cam[0] + cam[1:]
            rows["cam"].append(cam)
            rows["cam_trans"].append([cam[1] / cam[0] * 2, cam[2] / cam[0] * 2, 2 / cam[0]])
            rows["smpl_betas"].append(motion.betas[0])
        rows["smpl_thetas"].append(motion.poses[0].reshape(72))
        rows["joints"].append(joints)
        rows["pj2d_org"].append((on_square + 1) * side / 2 - np.array([left, top]))
    picture = {key: np.array(value, np.float32) for key, value in rows.items()}
    picture["center_confs"] = np.ones((len(motions), 1), np.float32)
    if ids is not None:
        picture["track_ids"] = np.array(ids, np.int32)
    return picture


@pytest.mark.parametrize("size", [SIZE, (720, 1280), (500, 500)])
def test_romp_bodies_are_seen_where_romp_draws_their_pelvis(tmp_path, size):
    motion = moving()
    picture = romp_picture([motion], [3], size)
    np.savez(tmp_path / "00000007.npz", results=picture)
    path = tmp_path / "00000007.npz"
    assert sniff(path) == "romp"
    (person,) = read(path)
    sequence = person.sequence
    assert (sequence.person_id, sequence.image_size) == (3, size)
    assert sequence.frame_indices.tolist() == [7]
    # Where the body crosses the plane of SMPL's origin, orthographic and perspective agree.
    side = max(size)
    offset = np.array([(side - size[0]) // 2, (side - size[1]) // 2])
    scale, shift = picture["cam"][0, 0], picture["cam"][0, 1:]
    camera = sequence.camera(0)
    origin = sequence.trans[0].astype(np.float64)
    for point in ([0.0, 0, 0], [0.3, -0.5, 0], [-0.4, 0.8, 0]):
        seen = pinhole_pixels(
            origin + point, camera.intrinsics[0, 0], tuple(camera.intrinsics[:2, 2])
        )
        drawn = (np.array(point[:2]) * scale + shift + 1) * side / 2 - offset
        assert worst(seen, drawn) < 1e-3
    # The whole body differs by what perspective makes of half a metre of depth.
    assert worst(pixels_of(sequence), picture["pj2d_org"][:, :24]) < 0.12 * side / 2


@pytest.mark.parametrize("size", [SIZE, (720, 1280)])
def test_romps_camera_is_the_same_whether_the_size_is_told_or_worked_out(tmp_path, size):
    np.savez(tmp_path / "p.npz", results=romp_picture([moving()], [1], size))
    (worked_out,) = read(tmp_path / "p.npz")
    (told,) = read(tmp_path / "p.npz", ImportOptions(image_size=size))
    np.testing.assert_allclose(told.sequence.intrinsics, worked_out.sequence.intrinsics, atol=1e-9)
    np.testing.assert_allclose(told.sequence.trans, worked_out.sequence.trans, atol=1e-6)


def test_bev_bodies_are_seen_where_bev_draws_them(tmp_path):
    picture = romp_picture([moving(), moving(1)], None, SIZE, is_bev=True)
    np.savez(tmp_path / "picture.npz", results=picture)
    people = read(tmp_path / "picture.npz")
    assert len(people) == 2
    for k, person in enumerate(people):
        difference = worst(pixels_of(person.sequence), picture["pj2d_org"][k, :24])
        assert difference < 2e-3  # BEV adds 1e-6 to depths, and pj2d_org is single precision


def test_romps_video_file_gives_a_person_a_track_with_gaps(tmp_path):
    one, two = moving(), moving(1)
    pictures = {
        "00000000.png": romp_picture([one, two], [1, 5], SIZE),
        "00000001.png": romp_picture([one], [1], SIZE),
        "00000002.png": romp_picture([two, one], [5, 1], SIZE),
    }
    np.savez(tmp_path / "video_results.npz", results=pictures, sequence_results={})
    first, second = read(tmp_path / "video_results.npz")
    assert (first.sequence.person_id, len(first.sequence)) == (1, 3)
    assert second.sequence.frame_indices.tolist() == [0, 2]
    np.testing.assert_allclose(second.sequence.poses[1], two.poses[0], atol=1e-6)


def test_romp_without_track_ids_links_people_by_place(tmp_path):
    one, two = moving(), moving(1)
    for k in range(3):
        motions = [one, two]
        picture = romp_picture(motions, None, SIZE)
        if k == 1:
            picture = {key: value[::-1] for key, value in picture.items()}
        np.savez(tmp_path / f"{k:08d}.npz", results=picture)
    first, second = read(tmp_path)
    for person, motion in ((first, one), (second, two)):
        assert person.sequence.frame_indices.tolist() == [0, 1, 2]
        for pose in person.sequence.poses:
            np.testing.assert_allclose(pose, motion.poses[0], atol=1e-6)


def test_romp_without_projections_asks_for_the_footage(tmp_path):
    picture = romp_picture([moving()], [1], SIZE)
    del picture["pj2d_org"], picture["joints"]
    np.savez(tmp_path / "p.npz", results=picture)
    with pytest.raises(ImporterError, match="--footage"):
        read(tmp_path / "p.npz")
    assert read(tmp_path / "p.npz", ImportOptions(image_size=SIZE))
