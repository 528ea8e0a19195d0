# SPDX-License-Identifier: Apache-2.0
"""Files in which something is missing or something else: a sentence, never a traceback."""

import functools
import pickle

import numpy as np
import pytest
from import_layouts import FRAMES, assert_damages_are_refused_in_words, moving, write_joblib

from posefit.importers import worlds
from posefit_shared.body_files import read_body

MOTION = moving()
READ_ONCE = functools.cache(read_body)


@pytest.fixture(autouse=True)
def _the_body_is_read_once(monkeypatch):
    monkeypatch.setattr(worlds, "read_body", READ_ONCE)


def wham():
    return {0: {
        "pose": MOTION.poses.reshape(FRAMES, 72), "trans": MOTION.trans, "betas": MOTION.betas,
        "pose_world": MOTION.poses.reshape(FRAMES, 72), "trans_world": MOTION.trans,
        "frame_ids": np.arange(FRAMES),
    }}  # fmt: skip


def phalp():
    smpl = {"global_orient": np.eye(3)[None], "body_pose": np.tile(np.eye(3), (23, 1, 1)),
            "betas": np.zeros(10)}  # fmt: skip
    return {f"{k}.jpg": {
        "time": k, "tid": [1], "tracked_time": [0], "smpl": [smpl],
        "camera": [np.array([0.0, 0, 40])], "size": [[720, 1280]],
    } for k in range(2)}  # fmt: skip


def vibe():
    return {1: {
        "pred_cam": np.full((FRAMES, 3), 0.5), "orig_cam": np.full((FRAMES, 4), 0.5),
        "pose": MOTION.poses.reshape(FRAMES, 72), "betas": MOTION.betas,
        "bboxes": np.full((FRAMES, 4), 300.0), "frame_ids": np.arange(FRAMES),
    }}  # fmt: skip


def romp():
    return {"results": {
        "cam": np.full((1, 3), 0.5), "smpl_thetas": np.zeros((1, 72)),
        "smpl_betas": np.zeros((1, 10)), "joints": np.zeros((1, 71, 3)),
        "pj2d_org": np.zeros((1, 71, 2)), "track_ids": np.array([1]),
    }}  # fmt: skip


def gvhmr():
    part = {"body_pose": np.zeros((FRAMES, 63)), "betas": np.zeros((FRAMES, 10)),
            "global_orient": np.zeros((FRAMES, 3)), "transl": np.ones((FRAMES, 3))}  # fmt: skip
    lens = np.tile(np.array([[900.0, 0, 640], [0, 900, 360], [0, 0, 1]]), (FRAMES, 1, 1))
    return {"smpl_params_incam": part, "smpl_params_global": dict(part), "K_fullimg": lens}


def prompthmr():
    part = {"rotmat": np.tile(np.eye(3), (FRAMES, 55, 1, 1)), "shape": np.zeros((FRAMES, 10)),
            "trans": np.ones((FRAMES, 3))}  # fmt: skip
    camera = {"img_focal": 900.0, "img_center": np.array([640.0, 360]),
              "Rcw": np.tile(np.eye(3), (9, 1, 1)), "Tcw": np.zeros((9, 3))}  # fmt: skip
    person = {"frames": np.arange(FRAMES), "smplx_cam": part, "smplx_world": dict(part)}
    return {"people": {1: person}, "camera": camera, "camera_world": dict(camera)}


def cliff():
    boxes = np.column_stack([np.arange(FRAMES), np.full((FRAMES, 4), [10.0, 10, 90, 90])])
    return {"pose": MOTION.poses.reshape(FRAMES, 72), "shape": MOTION.betas,
            "global_t": MOTION.trans, "focal_l": np.full(FRAMES, np.hypot(1280, 720)),
            "detection_all": boxes, "imgname": np.array(["a.png"])}  # fmt: skip


def slahmr():
    return {"trans": np.zeros((1, FRAMES, 3)), "root_orient": np.zeros((1, FRAMES, 3)),
            "pose_body": np.zeros((1, FRAMES, 63)), "betas": np.zeros((1, 16)),
            "cam_R": np.tile(np.eye(3), (1, FRAMES, 1, 1)), "cam_t": np.zeros((1, FRAMES, 3)),
            "intrins": np.array([900.0, 900, 640, 360])}  # fmt: skip


def human_data():
    return {
        "smpl": {"body_pose": np.zeros((2, 23, 3)), "global_orient": np.zeros((2, 3)),
                 "betas": np.zeros((2, 10))},
        "image_path": ["a/1.png", "a/2.png"], "pred_cams": [np.ones(3), np.ones(3)],
        "bboxes_xyxy": [np.array([0.0, 0, 9, 9, 1])] * 2, "frame_id": [0, 1], "person_id": [0, 0],
    }  # fmt: skip


def pymafx():
    eye = np.tile(np.eye(3), (2, 24, 1, 1))
    return {
        "orig_cam_t": np.full((2, 3), 20.0), "pred_cam": np.full((2, 3), 0.5),
        "bboxes": np.full((2, 4), 200.0), "frame_ids": [0, 1], "person_ids": ["a", "b"],
        "smplx_params": [{"body_pose": eye, "shape": np.zeros((2, 10)),
                          "left_hand_pose": eye[:, :15], "expression": np.zeros((2, 10))}],
    }  # fmt: skip


def smpl():
    return {"global_orient": np.zeros((FRAMES, 3)), "body_pose": np.zeros((FRAMES, 63)),
            "jaw_pose": np.zeros((FRAMES, 3)), "left_hand_pose": np.zeros((FRAMES, 45)),
            "betas": np.zeros(10), "transl": np.zeros((FRAMES, 3)), "gender": "male",
            "fps": 30.0, "expression": np.zeros((FRAMES, 10))}  # fmt: skip


def aist():
    return {"smpl_poses": np.zeros((FRAMES, 72)), "smpl_scaling": np.array([90.0]),
            "smpl_trans": np.zeros((FRAMES, 3))}  # fmt: skip


def write_pickle(path, value):
    path.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize(
    "make",
    [wham, phalp, vibe, romp, gvhmr, prompthmr, cliff, slahmr, human_data, pymafx, smpl, aist],
    ids=lambda make: make.__name__,
)
def test_a_damaged_file_is_imported_or_refused_in_words(tmp_path, make):
    write_joblib(tmp_path / "whole.pkl", make())
    assert_damages_are_refused_in_words(make(), write_pickle, tmp_path / "damaged.pkl")
