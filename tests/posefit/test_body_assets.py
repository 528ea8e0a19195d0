# SPDX-License-Identifier: Apache-2.0
"""The free body as an asset: what its coefficients, landmarks and garments mean."""

from __future__ import annotations

import json
from importlib import resources

import numpy as np
import pytest
import torch

from posefit.body import BodyModel, PoseParameters, pose_body


def height(body: BodyModel, betas: dict[int, float]) -> float:
    parameters = PoseParameters.rest(body)
    for index, value in betas.items():
        parameters.betas[0, index] = value
    y = pose_body(body, parameters).vertices[0, :, 1]
    return float(y.max() - y.min())


def test_the_first_coefficient_is_stature_and_the_others_are_not(free_body: BodyModel) -> None:
    mean = height(free_body, {})
    assert 1.66 < mean < 1.76
    assert 0.08 < height(free_body, {0: 1.0}) - mean < 0.11
    for index in range(1, 10):
        assert abs(height(free_body, {index: 2.0}) - mean) < 0.03


def test_statures_within_three_deviations_are_those_of_adults(free_body: BodyModel) -> None:
    assert 1.38 < height(free_body, {0: -3.0}) < 1.50
    assert 1.92 < height(free_body, {0: 3.0}) < 2.05


def test_left_is_plus_x_and_mirrors_right(free_body: BodyModel) -> None:
    points = free_body.v_template
    for name, vertex in free_body.landmarks.items():
        if "left" not in name:
            continue
        other = points[free_body.landmarks[name.replace("left", "right")]]
        assert points[vertex, 0] > 0
        mirrored = other * torch.tensor([-1.0, 1.0, 1.0])
        assert (points[vertex] - mirrored).norm() < 0.004


def test_landmarks_lie_where_their_names_say(free_body: BodyModel) -> None:
    point = {name: free_body.v_template[vertex] for name, vertex in free_body.landmarks.items()}
    joint = dict(zip(free_body.joint_names, free_body.joint_template, strict=True))
    assert point["nose"][2] > point["left_eye"][2] > point["left_ear"][2]
    assert point["left_eye_inner"][0] < point["left_eye"][0] < point["left_eye_outer"][0]
    assert point["left_eye"][1] > point["nose"][1] > point["mouth_left"][1] > joint["Neck"][1]
    assert point["left_heel"][2] < joint["L_Ankle"][2] < point["left_big_toe"][2]
    assert point["left_big_toe"][0] < point["left_small_toe"][0]
    for finger in ("index", "middle", "ring", "pinky"):
        tip, knuckle = point[f"left_{finger}_tip"], point[f"left_{finger}_knuckle"]
        assert joint["L_Wrist"][0] < knuckle[0] < tip[0]
        assert 0.04 < (tip - knuckle).norm() < 0.13
    assert point["left_thumb_tip"][2] > point["left_index_tip"][2] > point["left_pinky_tip"][2]


def test_the_report_belongs_to_the_asset(free_body: BodyModel) -> None:
    folder = resources.files("posefit_shared").joinpath("assets")
    report = json.loads(folder.joinpath("free_body.json").read_text())
    assert report["landmarks"] == free_body.landmarks
    assert report["mesh"]["vertices"] == free_body.num_vertices
    assert report["bytes"]["free_body.npz"] == len(folder.joinpath("free_body.npz").read_bytes())
    assert max(joint["mean"] for joint in report["regressor_error_mm"]["joints"].values()) < 6.0


@pytest.mark.parametrize("name", ["tights", "skirt", "hair"])
def test_garments_fit_the_body(free_body: BodyModel, name: str) -> None:
    asset = resources.files("posefit").joinpath("assets", "training", "free_garments.npz")
    with asset.open("rb") as stream, np.load(stream) as data:
        part = {key.removeprefix(f"{name}_"): data[key] for key in data if key.startswith(name)}
    count = len(part["v"])
    assert part["f"].max() < count
    assert part["uv_f"].max() < len(part["uv"])
    assert part["shapedirs"].shape == (count, 3, free_body.num_betas)
    assert part["posedirs"].shape == (count, 3, 9 * (free_body.num_joints - 1))
    np.testing.assert_allclose(part["weights"].sum(axis=1), 1, atol=1e-5)
    covering = part["covering_face"]
    assert covering.shape == (len(free_body.faces),)
    assert covering.max() < len(part["f"])
    assert (covering >= 0).any() == (name != "hair")
    middles = free_body.v_template[free_body.faces].mean(dim=1).numpy()
    is_head = middles[:, 1] > float(free_body.joint_template[15, 1])
    assert (covering[is_head] == -1).all()
