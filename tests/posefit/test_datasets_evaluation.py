# SPDX-License-Identifier: Apache-2.0
"""Protocols of public data sets: known errors in made-up layouts come out as they should."""

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_layouts import (
    FRAMES,
    h36m_metadata,
    make_truth,
    pose,
    seen,
    smplx_like,
    write_3dpw,
    write_bedlam,
    write_cdf,
    write_emdb,
    write_pickle,
    write_rich,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from posefit.body import load_body
from posefit.cli import main
from posefit.datasets import (
    PROTOCOLS,
    READERS,
    Bodies,
    DatasetError,
    Regressors,
    evaluate_dataset,
    markdown_table,
    protocol_named,
)
from posefit.datasets.alignment import fit_similarity, root_trajectory_error, world_errors
from posefit.datasets.human36m import H36M_17
from posefit.datasets.joint_sets import H36M_TO_LSP14, pose_in_chunks, regress
from posefit_shared.rotations import matrix_to_rotvec, rotvec_to_matrix
from posefit_shared.sequence import Sequence, write_sequence


@pytest.fixture(scope="module")
def body():
    return load_body("free")


@pytest.fixture(scope="module")
def truth(body):
    return make_truth(body)


def as_prediction(truth, **changes) -> Sequence:
    """The truth as a sequence without a camera: it lies in the data set's world."""
    fields = {
        "poses": truth.poses.astype(np.float32),
        "trans": truth.trans.astype(np.float32),
        "betas": truth.betas.astype(np.float32),
        "world": "camera",
    }
    return Sequence(**(fields | changes))


def score(protocol: str, root: Path, folder: Path, regressors=None) -> dict:
    result = evaluate_dataset(
        PROTOCOLS[protocol], root, {"ours": folder}, Bodies("free"), regressors=regressors
    )
    json.dumps(result, allow_nan=False)
    return result["predictions"]["ours"]


def predict(folder: Path, name: str, sequence: Sequence) -> Path:
    write_sequence(folder / f"{name}.npz", sequence)
    return folder


# ------------------------------------------------------------------------------------ protocols


def test_the_truth_has_no_error_and_counts_only_frames_that_the_protocol_counts(
    tmp_path, truth
) -> None:
    root = write_3dpw(tmp_path / "data", [truth])
    folder = predict(tmp_path / "ours", "downtown_walking_00_0", as_prediction(truth))
    entry = score("3dpw-24", root, folder)
    for metric in ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "accel_mm_per_s2"):
        assert entry["metrics"][metric]["mean"] == pytest.approx(0, abs=0.05)
    # Frame 3 has no valid camera, frame 5 no 2D joints.
    assert entry["frames"] == FRAMES - 2
    assert entry["metrics"]["mpjpe_mm"]["count"] == FRAMES - 2
    # Successive triples of 0 1 2 | 4 | 6 … 11.
    assert entry["metrics"]["accel_mm_per_s2"]["count"] == 1 + 4


def test_joints_are_compared_about_the_middle_of_the_hips(tmp_path, truth, body) -> None:
    poses = truth.poses.copy()
    poses[:, 16, 2] += 0.4
    predicted = as_prediction(truth, poses=poses.astype(np.float32))
    joints, _ = pose(body, poses, truth.trans, truth.betas)
    kept = [k for k in range(FRAMES) if k not in (3, 5)]
    one, two = joints[kept], truth.joints[kept]
    moved = one - one[:, 1:3].mean(1, keepdims=True) - two + two[:, 1:3].mean(1, keepdims=True)
    expected = 1000 * np.linalg.norm(moved, axis=-1).mean()
    root = write_3dpw(tmp_path / "data", [truth])
    entry = score("3dpw-24", root, predict(tmp_path / "p", "downtown_walking_00_0", predicted))
    assert expected > 10
    assert entry["metrics"]["mpjpe_mm"]["mean"] == pytest.approx(expected, abs=0.01)


def test_a_turned_body_vanishes_after_procrustes(tmp_path, truth) -> None:
    poses = truth.poses.copy()
    turn = rotvec_to_matrix(np.array([0, 0.5, 0]))
    poses[:, 0] = matrix_to_rotvec(turn @ rotvec_to_matrix(poses[:, 0]))
    predicted = as_prediction(truth, poses=poses.astype(np.float32))
    root = write_3dpw(tmp_path / "data", [truth])
    entry = score("3dpw-24", root, predict(tmp_path / "p", "downtown_walking_00_0", predicted))
    assert entry["metrics"]["mpjpe_mm"]["mean"] > 50
    assert entry["metrics"]["pa_mpjpe_mm"]["mean"] == pytest.approx(0, abs=0.05)


def test_a_prediction_in_a_world_of_its_own_is_compared_as_its_camera_sees_it(
    tmp_path, truth, body
) -> None:
    turn = np.eye(4)
    turn[:3, :3] = rotvec_to_matrix(np.array([0.3, 1.1, -0.2]))
    turn[:3, 3] = [3.0, -2.0, 1.0]
    shape = body.joint_shapedirs[0].numpy() @ truth.betas
    pelvis = body.joint_template[0].numpy() + shape
    poses = truth.poses.copy()
    poses[:, 0] = matrix_to_rotvec(turn[:3, :3] @ rotvec_to_matrix(poses[:, 0]))
    trans = (truth.trans + pelvis) @ turn[:3, :3].T + turn[:3, 3] - pelvis
    predicted = as_prediction(
        truth,
        poses=poses.astype(np.float32),
        trans=trans.astype(np.float32),
        intrinsics=np.diag([200.0, 200.0, 1.0]),
        world_to_camera=truth.cameras @ np.linalg.inv(turn),
    )
    name = "P0_09_outdoor_walk"
    root = write_emdb(tmp_path / "data", truth)
    entry = score("emdb-2", root, predict(tmp_path / "p", name, predicted))
    for metric in ("mpjpe_mm", "pve_mm", "w_mpjpe_mm", "wa_mpjpe_mm", "rte_percent"):
        assert entry["metrics"][metric]["mean"] == pytest.approx(0, abs=0.05)


def test_frames_and_recordings_without_a_prediction_are_counted(tmp_path, truth) -> None:
    root = write_3dpw(tmp_path / "data", [truth, truth])
    half = as_prediction(truth).slice(0, 6)
    entry = score("3dpw-24", root, predict(tmp_path / "p", "downtown_walking_00_0", half))
    assert entry["frames"] == 4
    assert entry["frames_missing"] == 2 * (FRAMES - 2) - 4
    assert entry["recordings_missing"] == ["downtown_walking_00_1"]


def test_regressed_joints_need_the_users_file_and_use_it(tmp_path, truth, body) -> None:
    root = write_3dpw(tmp_path / "data", [truth])
    poses = truth.poses.copy()
    poses[:, 5, 0] += 0.5
    predicted = as_prediction(truth, poses=poses.astype(np.float32))
    folder = predict(tmp_path / "p", "downtown_walking_00_0", predicted)
    with pytest.raises(DatasetError, match="--regressor"):
        score("3dpw-14", root, folder)
    regressor = np.random.default_rng(0).dirichlet(np.full(body.num_vertices, 0.001), 17)
    np.save(tmp_path / "J.npy", regressor)
    entry = score("3dpw-14", root, folder, Regressors(tmp_path / "J.npy"))
    kept = [k for k in range(FRAMES) if k != 3]
    points = [
        regressor @ pose(body, p[kept], truth.trans[kept], truth.betas)[1]
        for p in (poses, truth.poses)
    ]
    moved = [(p - p[:, :1])[:, list(H36M_TO_LSP14)] for p in points]
    expected = 1000 * np.linalg.norm(moved[0] - moved[1], axis=-1).mean()
    assert entry["metrics"]["mpjpe_mm"]["mean"] == pytest.approx(expected, rel=1e-3)
    np.save(tmp_path / "J.npy", regressor[:, :100])
    with pytest.raises(DatasetError, match=r"\(17, 100\), expected"):
        score("3dpw-14", root, folder, Regressors(tmp_path / "J.npy"))


def test_h36m_compares_measured_joints_every_fifth_frame(tmp_path, truth, body) -> None:
    regressor = np.random.default_rng(0).dirichlet(np.full(body.num_vertices, 0.001), 17)
    np.save(tmp_path / "J.npy", regressor)
    root = tmp_path / "data"
    root.mkdir()
    (root / "metadata.xml").write_text(h36m_metadata(np.zeros(3), np.zeros(3)))
    stored = np.zeros((FRAMES, 32, 3))
    stored[:, H36M_17] = 1000 * (regressor @ truth.vertices)
    for camera in ("60457274", "55011271"):
        path = root / f"S9/MyPoseFeatures/D3_Positions_mono/Directions 1.{camera}.cdf"
        write_cdf(path, stored.reshape(FRAMES, 96))
        predict(tmp_path / "p", f"S9_Directions_1_{camera}", as_prediction(truth))
    for protocol, frames in (("h36m-p1", 6), ("h36m-p2", 3), ("h36m-17", 6)):
        entry = score(protocol, root, tmp_path / "p", Regressors(tmp_path / "J.npy"))
        assert entry["frames"] == frames
        assert entry["metrics"]["mpjpe_mm"]["mean"] == pytest.approx(0, abs=0.05)
        assert "pve_mm" not in entry["metrics"]


def test_smplx_predictions_are_refused_where_smpls_joints_are_compared(tmp_path, truth) -> None:
    root = write_3dpw(tmp_path / "data", [truth])
    wide = np.zeros((FRAMES, 55, 3), np.float32)
    predicted = as_prediction(truth, poses=wide)
    folder = predict(tmp_path / "p", "downtown_walking_00_0", predicted)
    with pytest.raises(DatasetError, match="is smplx, 3dpw-24 compares SMPL's 24 joints"):
        score("3dpw-24", root, folder)


def smplx_prediction(truth) -> Sequence:
    poses = np.zeros((FRAMES, 55, 3), np.float32)
    poses[:, :22] = truth.poses[:, :22]
    poses[:, 22] = 0.1
    return as_prediction(truth, poses=poses, frame_indices=np.arange(FRAMES) + 20)


@pytest.fixture
def rich_bodies(monkeypatch, body):
    """The free body as SMPL, and with SMPL-X's joints as SMPL-X."""
    models = {"smpl": body, "smplx": smplx_like()}
    monkeypatch.setattr(Bodies, "get", lambda self, kind, gender: models[kind])
    return models


def test_smpl_and_smplx_meet_in_22_joints(tmp_path, truth, body, rich_bodies) -> None:
    # Without pose correctives and with the same regressor both bodies have the same 22 joints.
    root = write_rich(tmp_path / "data", truth)
    name = "ParkingLot2_017_burpeejump2_017_cam_01"
    predicted = as_prediction(truth, frame_indices=np.arange(FRAMES) + 20)
    entry = score("rich-22", root, predict(tmp_path / "p", name, predicted))
    assert entry["metrics"]["mpjpe_mm"]["mean"] == pytest.approx(0, abs=0.05)
    assert "pve_mm" not in entry["metrics"]


def test_smplx_meshes_become_smpls_by_the_users_matrix(
    tmp_path, truth, body, rich_bodies, rng
) -> None:
    root = write_rich(tmp_path / "data", truth)
    name = "ParkingLot2_017_burpeejump2_017_cam_01"
    folder = predict(tmp_path / "p", name, smplx_prediction(truth))
    with pytest.raises(DatasetError, match="give smplx2smpl.pkl with --smplx-to-smpl"):
        score("rich-24", root, folder)
    matrix = rng.dirichlet(np.full(body.num_vertices, 0.001), 50)
    write_pickle(tmp_path / "smplx2smpl.pkl", {"matrix": matrix.astype(np.float32)})
    regressors = Regressors(smplx_to_smpl=tmp_path / "smplx2smpl.pkl")
    with pytest.raises(DatasetError, match="12166 vertices, the converted mesh 50"):
        score("rich-24", root, folder, regressors)
    joints = rng.dirichlet(np.ones(50), 24)
    small = copy.copy(body)  # SMPL's regressor is all that is asked of it here
    object.__setattr__(small, "J_regressor", torch.tensor(joints))
    rich_bodies["smpl"] = small
    entry = score("rich-24", root, folder, regressors)
    assert entry["metrics"]["pve_mm"]["mean"] == pytest.approx(0, abs=0.05)
    bent = smplx_prediction(truth)
    poses = bent.poses.copy()
    poses[:, 18, 2] += 0.5
    predict(tmp_path / "p", name, bent.replace(poses=poses))
    entry = score("rich-24", root, folder, regressors)
    converted = [
        regress(matrix, posed.vertices)
        for poses in (poses, bent.poses)
        for _, posed in pose_in_chunks(bent.replace(poses=poses), rich_bodies["smplx"])
    ]
    roots = [regress(joints, vertices)[:, 1:3].mean(1, keepdims=True) for vertices in converted]
    moved = converted[0] - roots[0] - converted[1] + roots[1]
    expected = 1000 * np.linalg.norm(moved, axis=-1).mean()
    assert entry["metrics"]["pve_mm"]["mean"] == pytest.approx(expected, rel=0.01)


def test_a_body_folder_is_searched_by_type_and_gender(tmp_path) -> None:
    for name in ("basicModel_f_lbs_10_207_0_v1.0.0.pkl", "SMPL_MALE.pkl"):
        (tmp_path / "smpl").mkdir(exist_ok=True)
        (tmp_path / "smpl" / name).write_bytes(b"no body")
    with pytest.raises(DatasetError, match=r"holds no neutral smpl model \(SMPL_NEUTRAL.pkl\)"):
        Bodies(tmp_path).get("smpl", "neutral")
    with pytest.raises(ValueError, match="basicModel_f_lbs"):
        Bodies(tmp_path).get("smpl", "female")


def test_without_the_persons_body_3dpws_own_joints_are_compared_and_pve_is_left_out(
    tmp_path, truth, body, monkeypatch
) -> None:
    def get(self, model_type, gender):
        if gender != "neutral":
            raise DatasetError("no such body")
        return body

    monkeypatch.setattr(Bodies, "get", get)
    root = write_3dpw(tmp_path / "data", [truth])
    folder = predict(tmp_path / "p", "downtown_walking_00_0", as_prediction(truth))
    entry = score("3dpw-24", root, folder)
    assert entry["metrics"]["mpjpe_mm"]["mean"] == pytest.approx(0, abs=0.05)
    assert "pve_mm" not in entry["metrics"]
    assert entry["left_out"]["pve_mm"] == "no such body"


def test_every_protocol_has_a_reader_a_source_and_a_default_of_its_data_set() -> None:
    assert {protocol.dataset for protocol in PROTOCOLS.values()} == set(READERS)
    assert all(protocol.source for protocol in PROTOCOLS.values())
    assert protocol_named("3dpw", None).name == "3dpw-24"
    with pytest.raises(DatasetError, match="it has 3dpw-24, 3dpw-14"):
        protocol_named("3dpw", "emdb-1")


# ------------------------------------------------------------------------------ command and table


def test_the_command_prints_json_and_writes_table_and_plot_in_the_order_given(
    tmp_path, truth, capsys
) -> None:
    root = write_3dpw(tmp_path / "data", [truth])
    name = "downtown_walking_00_0"
    shifted = as_prediction(truth, betas=np.zeros(10, np.float32))
    predict(tmp_path / "a", name, shifted)
    predict(tmp_path / "b", name, as_prediction(truth))
    words = ["evaluate", "--dataset", "3dpw", "--root", str(root), "--output", str(tmp_path / "t")]
    words += ["--predicted", f"initial={tmp_path / 'a'}", "--predicted", f"ours={tmp_path / 'b'}"]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result["predictions"]) == ["initial", "ours"]
    assert any("free body" in note for note in result["notes"])
    table = (tmp_path / "t" / "3dpw-24.md").read_text()
    assert table == markdown_table(result)
    assert table.index("| initial |") < table.index("| ours |")
    assert "MPJPE mm" in table
    assert (tmp_path / "t" / "3dpw-24.png").stat().st_size > 1000


def test_the_command_exports_references_that_score_zero(tmp_path, truth, capsys) -> None:
    root, folder = write_bedlam(tmp_path / "data", truth), tmp_path / "refs"
    common = ["evaluate", "--dataset", "bedlam", "--root", str(root), "--split", "training"]
    assert main([*common, "--export", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out)["exported"] == 2
    assert len(list(folder.glob("*.npz"))) == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--dataset", "3dpw"], "--root is needed"),
        (["--dataset", "3dpw", "--root", "."], "no predictions were given"),
        (["--predicted", "a.npz"], "give one --predicted file and its --reference"),
        (["--dataset", "emdb", "--root", ".", "--protocol", "x"], "it has emdb-1, emdb-2"),
    ],
)
def test_commands_that_lack_something_say_what(words, sentence, capsys) -> None:
    assert main(["evaluate", *words]) == 2
    assert sentence in capsys.readouterr().err


# ---------------------------------------------------------------------------------- world metrics

numbers = st.floats(-2, 2, allow_nan=False, width=32)


@settings(max_examples=30, deadline=None)
@given(st.lists(numbers, min_size=6, max_size=6), st.floats(0.3, 3))
def test_a_similarity_is_found_again(values, scale) -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(20, 3))
    rotation = rotvec_to_matrix(np.array(values[:3]))
    target = scale * points @ rotation.T + values[3:]
    fitted = fit_similarity(points, target)
    assert np.allclose(fitted(points), target, atol=1e-6)
    assert fitted.scale == pytest.approx(scale, rel=1e-6)
    rigid = fit_similarity(points, target, with_scale=False)
    assert np.allclose(rigid.rotation, rotation, atol=1e-6)


def test_a_drift_costs_more_when_only_the_first_frames_are_aligned(truth) -> None:
    drifted = truth.joints + 0.01 * np.arange(FRAMES)[:, None, None] * [0, 0, 1.0]
    first, everything = world_errors(drifted, truth.joints)
    assert first[:2].max() < 0.01
    assert first[-1] > 0.05
    assert everything.mean() < first.mean()


def test_pieces_of_a_hundred_frames_are_aligned_apart() -> None:
    rng = np.random.default_rng(2)
    target = rng.normal(size=(150, 4, 3))
    joined = target.copy()
    joined[100:] += 5.0
    first, everything = world_errors(joined, target)
    assert max(first.max(), everything.max()) < 1e-9


def test_the_roots_error_is_a_share_of_the_path() -> None:
    target = np.stack([np.linspace(0, 10, 101), np.zeros(101), np.zeros(101)], 1)
    longer = target * 1.1
    # 1 m too long over 10 m: after alignment 0.5 m off at the ends, none in the middle.
    error = root_trajectory_error(longer, target)
    assert error[0] == pytest.approx(5)
    assert error[50] == pytest.approx(0, abs=1e-9)
    assert np.isnan(root_trajectory_error(target, np.zeros_like(target))).all()


def test_world_metrics_ignore_where_the_predicted_world_lies(truth) -> None:
    rotation = rotvec_to_matrix(np.array([0.5, -1.0, 2.0]))
    moved = dataclasses.replace(truth, joints=2.0 * truth.joints @ rotation.T + [1, 2, 3])
    first, everything = world_errors(moved.joints, truth.joints)
    assert max(first.max(), everything.max()) < 1e-6
    assert seen(truth.joints, truth.cameras)[..., 2].min() > 0
