# SPDX-License-Identifier: Apache-2.0
"""Small data sets in the layouts of the published ones, made with the free body."""

from __future__ import annotations

import dataclasses
import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from posefit.body import BodyModel, PoseParameters, body_from_arrays, pose_body
from posefit_shared.body_files import read_body
from posefit_shared.frames import apply
from posefit_shared.skeleton import JOINT_NAMES, PARENTS

FRAMES = 12
SIZE = (160, 240)
INTRINSICS = np.array([[220.0, 0, 80], [0, 220, 120], [0, 0, 1]])
LEVEL_Y_UP = np.array([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 4], [0, 0, 0, 1]])
"""Looks along −z from 4 m before the origin; y is up in the world."""


@dataclass(frozen=True)
class Truth:
    """A body that moves before a moving camera, in a world with y up."""

    poses: np.ndarray
    trans: np.ndarray
    betas: np.ndarray
    cameras: np.ndarray
    joints: np.ndarray
    vertices: np.ndarray


def make_truth(body: BodyModel, seed: int = 0, frames: int = FRAMES) -> Truth:
    """A standing, moving body; the camera drifts sideways."""
    rng = np.random.default_rng(seed)
    poses = 0.15 * rng.normal(size=(1, 24, 3)) + 0.03 * rng.normal(size=(frames, 24, 3))
    poses[:, 0] = [0.0, 0.2, 0.0] + 0.02 * rng.normal(size=(frames, 3))
    trans = np.stack([0.02 * np.arange(frames), np.zeros(frames), np.zeros(frames)], 1)
    betas = 0.5 * rng.normal(size=10)
    cameras = np.repeat(LEVEL_Y_UP[None], frames, 0)
    cameras[:, 0, 3] = -0.02 * np.arange(frames)
    posed = pose(body, poses, trans, betas)
    return Truth(poses, trans, betas, cameras, posed[0], posed[1])


def pose(body: BodyModel, poses, trans, betas) -> tuple[np.ndarray, np.ndarray]:
    """Joints and vertices."""
    rows = torch.tensor(np.asarray(poses), dtype=torch.float32)
    given = PoseParameters(
        torch.tensor(betas, dtype=torch.float32)[None].expand(len(rows), -1),
        rows[:, 0],
        rows[:, 1:],
        torch.tensor(np.asarray(trans), dtype=torch.float32),
    )
    posed = pose_body(body, given)
    return posed.joints.double().numpy(), posed.vertices.double().numpy()


def write_image(path: Path, size: tuple[int, int] = SIZE, seed: int = 0) -> None:
    """A picture of noise: neighbouring pixels differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def write_pickle(path: Path, data: dict, protocol: int = 2) -> None:
    """A pickle as Python 2 wrote them, unless another protocol is asked for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(data, protocol))


def write_3dpw(root: Path, truths: list[Truth], split: str = "test", **changes) -> Path:
    """One sequence with an actor a truth."""
    frames = len(truths[0].poses)
    data = {
        "sequence": "downtown_walking_00",
        "poses": [t.poses.reshape(frames, 72) for t in truths],
        "betas": [np.concatenate([t.betas, np.zeros(290)]) for t in truths],
        "trans": [t.trans for t in truths],
        "cam_poses": truths[0].cameras,
        "cam_intrinsics": INTRINSICS,
        "campose_valid": [np.arange(frames) != 3 for _ in truths],
        "genders": ["m", "f"][: len(truths)],
        "jointPositions": [t.joints.reshape(frames, 72) for t in truths],
        "poses2d": [np.ones((frames, 3, 18)) * (np.arange(frames) != 5)[:, None, None]
                    for _ in truths],
        "img_frame_ids": np.arange(frames),
    } | changes  # fmt: skip
    write_pickle(root / "sequenceFiles" / split / "downtown_walking_00.pkl", data)
    for k in range(frames):
        write_image(root / "imageFiles" / "downtown_walking_00" / f"image_{k:05d}.jpg", seed=k)
    return root


def write_emdb(root: Path, truth: Truth, name: str = "P0_09_outdoor_walk", **changes) -> Path:
    """One sequence of EMDB 1 and 2."""
    frames = len(truth.poses)
    data = {
        "gender": "female",
        "name": name,
        "emdb1": True,
        "emdb2": np.bool_(True),
        "n_frames": frames,
        "good_frames_mask": np.arange(frames) != 2,
        "camera": {"intrinsics": INTRINSICS, "extrinsics": truth.cameras,
                   "width": SIZE[0], "height": SIZE[1]},
        "smpl": {"poses_root": truth.poses[:, 0], "trans": truth.trans, "betas": truth.betas,
                 "poses_body": truth.poses[:, 1:].reshape(frames, 69)},
        "kp2d": np.zeros((frames, 24, 2)),
        "bboxes": {"bboxes": np.zeros((frames, 4)), "invalid_idxs": np.array([2])},
    } | changes  # fmt: skip
    subject, _, sequence = name.partition("_")
    write_pickle(root / subject / sequence / f"{name}_data.pkl", data, protocol=4)
    return root


def write_rich(root: Path, truth: Truth, split: str = "test") -> Path:
    """One sequence of subject 17 in two cameras, of which one has pictures."""
    name = "ParkingLot2_017_burpeejump2"
    for k, pose_of_frame in enumerate(truth.poses):
        body = {
            "transl": truth.trans[k][None],
            "global_orient": pose_of_frame[None, 0],
            "body_pose": pose_of_frame[None, 1:22].reshape(1, 63),
            "betas": truth.betas[None],
            "left_hand_pose": np.ones((1, 12)),
            "right_hand_pose": np.ones((1, 12)),
            "jaw_pose": np.full((1, 3), 0.1),
            "leye_pose": np.zeros((1, 3)),
            "reye_pose": np.zeros((1, 3)),
            "expression": np.zeros((1, 10)),
        }
        body = {key: value.astype(np.float32) for key, value in body.items()}
        write_pickle(root / "bodies" / split / name / f"{k + 20:05d}" / "017.pkl", body, 3)
        write_image(root / "images" / split / name / "cam_01" / f"{k + 20:05d}_01.bmp")
    for number in (0, 1):
        write_rich_camera(root / f"scan_calibration/ParkingLot2/calibration/{number:03d}.xml")
    (root / "resource").mkdir()
    (root / "resource" / "gender.json").write_text(json.dumps({"17": "female"}))
    return root


def write_rich_camera(path: Path) -> None:
    """A camera file as OpenCV's FileStorage writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def matrix(name: str, values: np.ndarray) -> str:
        words = " ".join(repr(float(v)) for v in values.ravel())
        return (
            f'<{name} type_id="opencv-matrix"><rows>{values.shape[0]}</rows>'
            f"<cols>{values.shape[1]}</cols><dt>d</dt><data>{words}</data></{name}>"
        )

    path.write_text(
        '<?xml version="1.0"?><opencv_storage>'
        + matrix("CameraMatrix", LEVEL_Y_UP[:3])
        + matrix("Intrinsics", INTRINSICS)
        + matrix("Distortion", np.zeros((5, 1)))
        + "</opencv_storage>"
    )


def h36m_metadata(angles: np.ndarray, position_mm: np.ndarray) -> str:
    """metadata.xml with one camera's numbers for all; the mapping knows one recording of S9."""
    extrinsics = np.tile(np.concatenate([angles, position_mm]), 11 * 4)
    intrinsics = np.tile([1145.0, 1143.0, 512.0, 515.0, -0.2, 0.24, -0.002, -0.0009, -0.001], 4)
    words = " ".join(repr(float(v)) for v in np.concatenate([extrinsics, intrinsics]))
    return (
        "<metadata><mapping><tr><td/><td/><td>S9</td></tr>"
        "<tr><td>2</td><td>1</td><td>Directions 1</td></tr></mapping>"
        f"<w0>[{words}]</w0></metadata>"
    )


def write_cdf(path: Path, pose_mm: np.ndarray) -> None:
    """One variable `Pose` (1, T, 96), as Human3.6M stores it."""
    import cdflib

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cdflib.cdfwrite.CDF(str(path), cdf_spec={"Compressed": False}, delete=True)
    spec = {"Variable": "Pose", "Data_Type": writer.CDF_FLOAT, "Num_Elements": 1,
            "Rec_Vary": True, "Dim_Sizes": list(pose_mm.shape),
            "Var_Type": "zVariable"}  # fmt: skip
    writer.write_var(spec, var_data=pose_mm[None].astype(np.float32))
    writer.close()


def write_bedlam(root: Path, truth: Truth, scene: str = "20221010_3_1000_batch01hand_6fps") -> Path:
    """Two people in one picture sequence; the second's labels are the first's, moved."""
    frames = len(truth.poses)
    pose_world = np.zeros((frames, 165))
    pose_world[:, :66] = truth.poses[:, :22].reshape(frames, 66)
    cam_int = np.repeat(np.array([[[640.0, 0, 640], [0, 640, 360], [0, 0, 1]]]), frames, 0)
    names = [f"seq_000000/seq_000000_{5 * k:04d}.png" for k in range(frames)]
    arrays = {
        "imgname": np.array(names * 2),
        "pose_world": np.concatenate([pose_world, pose_world]),
        "pose_cam": np.zeros((2 * frames, 165)),
        "shape": np.tile(np.append(truth.betas, 0.25), (2 * frames, 1)),
        "trans_world": np.concatenate([truth.trans, truth.trans + [1.0, 0, 0]]),
        "cam_int": np.concatenate([cam_int, cam_int]),
        "cam_ext": np.concatenate([truth.cameras, truth.cameras]),
        "gender": np.array(["f"] * 2 * frames),
        "motion_info": np.array([{"object": 1}] * 2 * frames, dtype=object),
    }
    path = root / "training_labels" / "all_npz_12_training" / f"{scene}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return root


def smplx_like() -> BodyModel:
    """The free body with SMPL-X's 55 joints, of which those beyond the body move nothing."""
    arrays = read_body("free")
    count = len(arrays.v_template)
    weights = np.zeros((count, 55), np.float32)
    weights[:, :22] = arrays.lbs_weights[:, :22]
    weights[:, 20:22] += arrays.lbs_weights[:, 22:]
    regressor = np.zeros((55, count), np.float32)
    regressor[:22] = arrays.J_regressor[:22]
    parents = np.array(PARENTS["smplx"], np.int32)
    for joint in range(22, 55):
        regressor[joint] = regressor[parents[joint]]
    directions = np.zeros((count, 3, 9 * 54), np.float32)
    return body_from_arrays(
        dataclasses.replace(
            arrays, lbs_weights=weights, J_regressor=regressor, parents=parents,
            posedirs=directions, joint_names=JOINT_NAMES["smplx"],
        )
    )  # fmt: skip


def seen(points: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    """World points (T, N, 3) in the cameras (T, 4, 4)."""
    return np.stack([apply(camera, frame) for camera, frame in zip(cameras, points, strict=True)])
