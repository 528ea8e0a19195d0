# SPDX-License-Identifier: Apache-2.0
"""SMPL-H and SMPL-X bodies made from the free one, and files of them as the official ones are."""

from __future__ import annotations

import dataclasses
import functools
import pickle
from pathlib import Path

import numpy as np
from scipy import sparse

from posefit_shared.body_files import BodyArrays, read_body
from posefit_shared.skeleton import JOINT_NAMES, PARENTS, SMPL_JOINT_NAMES

FINGERS = ("Thumb", "Index", "Middle", "Ring", "Pinky")


@functools.cache
def made_body(model_type: str) -> BodyArrays:
    """The free body with the joints of `smplh` or `smplx` and without texture coordinates.

    Finger joints lie between knuckles and tips; the skin of each hand goes to the nearest of them.
    """
    free = read_body("free")
    names, parents = JOINT_NAMES[model_type], np.array(PARENTS[model_type], np.int32)
    own = {name: k for k, name in enumerate(SMPL_JOINT_NAMES)}
    regressor = np.zeros((len(names), len(free.v_template)), np.float32)
    for k, name in enumerate(names):
        if name in own:
            regressor[k] = free.J_regressor[own[name]]
        elif name.rstrip("123")[2:] in FINGERS:
            side = "left" if name[0] == "L" else "right"
            finger, step = name[2:-1].lower(), (int(name[-1]) - 1) / 3.0
            regressor[k, free.landmarks[f"{side}_{finger}_knuckle"]] += 1.0 - step
            regressor[k, free.landmarks[f"{side}_{finger}_tip"]] += step
        else:
            near = {"Jaw": "mouth_left", "L_Eye": "left_eye", "R_Eye": "right_eye"}[name]
            regressor[k, free.landmarks[near]] = 1.0
    joints = regressor @ free.v_template
    weights = np.zeros((len(free.v_template), len(names)), np.float32)
    for name, column in own.items():
        if name in names:
            weights[:, names.index(name)] = free.lbs_weights[:, column]
            continue
        side = name[0]  # L_Hand, R_Hand: shared out among the fingers
        fingers = [k for k, n in enumerate(names) if n[0] == side and n[2:-1] in FINGERS]
        distance = np.linalg.norm(free.v_template[:, None] - joints[fingers], axis=-1)
        nearest = np.array(fingers)[distance.argmin(1)]
        share = free.lbs_weights[:, column]
        weights[np.arange(len(share)), nearest] += share
    body_features = 9 * 21
    posedirs = np.zeros((*free.posedirs.shape[:2], 9 * (len(names) - 1)), np.float32)
    posedirs[..., :body_features] = free.posedirs[..., :body_features]
    return dataclasses.replace(
        free, J_regressor=regressor, lbs_weights=weights, parents=parents, posedirs=posedirs,
        vt=None, ft=None, joint_names=names, name=f"made_{model_type}",
    )  # fmt: skip


def official_fields(body: BodyArrays) -> dict:
    """The arrays under the official files' names and shapes, with what posefit does not read."""
    parents = body.parents.astype(np.int64).copy()
    parents[0] = 2**32 - 1
    shapedirs = body.shapedirs
    if len(parents) == 55:  # 300 columns of shape, then 100 of expression
        padded = np.zeros((*shapedirs.shape[:2], 400), np.float32)
        padded[..., : shapedirs.shape[2]] = shapedirs
        shapedirs = padded
    return {
        "v_template": body.v_template.astype(np.float64), "f": body.faces.astype(np.uint32),
        "shapedirs": shapedirs, "posedirs": body.posedirs, "J_regressor": body.J_regressor,
        "weights": body.lbs_weights, "kintree_table": np.stack([parents, np.arange(len(parents))]),
        "hands_meanl": np.zeros(45), "hands_componentsl": np.eye(45),
    }  # fmt: skip


def write_official(folder: Path, body: BodyArrays, kind: str) -> Path:
    """An `.npz` as SMPL-X's (some entries are pickled objects) or a `.pkl` as SMPL-H's."""
    fields = official_fields(body)
    path = folder / f"{body.name}.{kind}"
    if kind == "npz":
        joints = np.array({name: k for k, name in enumerate(body.joint_names)}, dtype=object)
        np.savez(path, joint2num=joints, **fields)
        return path
    fields["J_regressor"] = sparse.csc_matrix(fields["J_regressor"])
    fields["bs_type"] = "lrotmin"
    path.write_bytes(pickle.dumps(fields, protocol=2))
    return path
