# SPDX-License-Identifier: Apache-2.0
"""Other tools' findings move the body to the truth, each alone and all together."""

import numpy as np
import pytest
import synthetic_clip as made
import torch
from evidence_clip import write_findings
from PIL import Image

from posefit.cli import main
from posefit.engine import refine_views
from posefit.evidence import EvidenceError, EvidenceFiles, evidence_of_files
from posefit.evidence.surface_charts import SurfaceCharts, made_up_charts, read_surface_charts
from posefit.solver import take_frames
from posefit.views import view_of_sequence
from posefit_shared.sequence import read_sequence, write_sequence
from posefit_shared.settings import RefineSettings

FRAMES = 4
ALONE = RefineSettings(displacement="none", keypoints=False)


@pytest.fixture(scope="module")
def scene(free_body, tmp_path_factory):
    rng = np.random.default_rng(5)
    truth = made.true_sequence(free_body, FRAMES, rng)
    start = made.disturbed(truth, rng).replace(betas=truth.betas)
    files = write_findings(tmp_path_factory.mktemp("found by others"), truth, free_body)
    return truth, start, view_of_sequence(start, made.filmed(free_body, truth)), files


def chosen(files, *kinds):
    return EvidenceFiles(**{kind: getattr(files, kind) for kind in kinds})


@pytest.mark.parametrize(
    ("kinds", "at_most"),
    [
        (("keypoints",), 0.75),
        (("densepose", "iuv_mapping"), 0.75),
        (("masks",), 0.85),
        (("keypoints", "densepose", "iuv_mapping", "masks"), 0.7),
    ],
)
def test_each_kind_alone_and_all_together_improve_the_pose(scene, free_body, kinds, at_most):
    truth, start, view, files = scene
    evidence = evidence_of_files(chosen(files, *kinds), start, view, free_body)
    result = refine_views(start, [view], body=free_body, settings=ALONE, evidence=evidence)
    before = made.vertex_error_mm(free_body, start, truth).mean()
    after = made.vertex_error_mm(free_body, result.sequence, truth).mean()
    assert after < at_most * before
    assert "refined" in result.sequence.status


def test_frames_of_evidence_are_cut_alike(scene, free_body):
    _, start, view, files = scene
    for entry in evidence_of_files(files, start, view, free_body):
        part = take_frames(entry, torch.tensor([2, 0]))
        assert torch.equal(part.weights[1], entry.weights[0])
        assert len(part.intrinsics) == 2
        assert len(entry.intrinsics) == FRAMES


@pytest.mark.slow
def test_the_command_line_takes_all_kinds(scene, free_body, tmp_path):
    truth, start, view, files = scene
    (tmp_path / "frames").mkdir()
    for t in range(FRAMES):
        Image.fromarray(view.footage.read(t)).save(tmp_path / "frames" / f"{t:03d}.png")
    write_sequence(tmp_path / "start.npz", start)
    status = main(["refine", "--sequence", str(tmp_path / "start.npz"), "--frames",
                   str(tmp_path / "frames"), "--output", str(tmp_path / "out.npz"),
                   "--displacement", "none", "--no-keypoints",
                   "--keypoints-file", str(files.keypoints), "--densepose", str(files.densepose),
                   "--iuv-mapping", str(files.iuv_mapping),
                   "--masks", str(files.masks)])  # fmt: skip
    assert status == 0
    found = read_sequence(tmp_path / "out.npz")
    before = made.vertex_error_mm(free_body, start, truth).mean()
    assert made.vertex_error_mm(free_body, found, truth).mean() < 0.8 * before


def test_iuv_maps_without_a_mapping_are_refused_in_words(tmp_path, capsys):
    assert main(["refine", "--output", "o.npz", "--densepose", str(tmp_path)]) == 2
    assert "--iuv-mapping" in capsys.readouterr().err


def test_a_mapping_of_another_body_is_refused_in_words(scene, free_body, tmp_path):
    _, start, view, files = scene
    charts = read_surface_charts(files.iuv_mapping)
    other = SurfaceCharts(charts.part, charts.uv, charts.corners, charts.num_vertices + 1)
    with pytest.raises(EvidenceError, match="give the body that it belongs to"):
        other.check_body(free_body)


def test_charts_lead_back_to_the_surface_point(free_body):
    charts = made_up_charts(free_body)
    faces = np.arange(0, len(charts.part), 53)
    corners, shares, off = charts.finder().find(charts.part[faces], charts.uv[faces].mean(1))
    vertices = free_body.v_template.numpy()
    found = np.einsum("nkc,nk->nc", vertices[corners], shares)
    true = vertices[charts.corners[faces]].mean(1)
    distance = np.linalg.norm(found - true, axis=1)
    assert np.median(distance) < 0.004
    assert np.quantile(distance, 0.9) < 0.03
    assert off.max() < 0.05


def test_densepose_own_mapping_file_is_read_as_it_is(tmp_path):
    from scipy.io import savemat

    # Two triangles of parts 1 and 2; chart vertices 1 to 6 are vertices 5, 6, 7, 7, 6, 8.
    savemat(tmp_path / "UV_Processed.mat", {
        "All_Faces": np.array([[1, 2, 3], [4, 5, 6]]), "All_FaceIndices": np.array([[1], [2]]),
        "All_vertices": np.array([[5, 6, 7, 7, 6, 8]]),
        "All_U_norm": np.array([[0.0], [1.0], [0.0], [0.0], [1.0], [1.0]]),
        "All_V_norm": np.array([[0.0], [0.0], [1.0], [1.0], [0.0], [1.0]]),
    })  # fmt: skip
    charts = read_surface_charts(tmp_path / "UV_Processed.mat")
    assert charts.num_vertices == 8
    corners, shares, off = charts.finder().find(np.array([2, 3]), np.array([[0.9, 0.9], [0, 0]]))
    assert corners[0].tolist() == [6, 5, 7]
    assert shares[0].argmax() == 2
    assert np.isinf(off[1])


def test_a_blend_of_corners_is_the_point_inside_the_face(free_body):
    from posefit.body import PoseParameters, pose_body
    from posefit.solver.evidence import bind_points, blend_corners, pose_points
    from posefit.solver.skeleton import SkeletonModel, pose_skeleton, state_from_parameters

    parameters = PoseParameters.rest(free_body, 2)
    parameters.body_pose[:, 17] = torch.tensor([0.3, -0.8, 0.2])
    corners = free_body.faces[torch.tensor([[5, 900, 14000], [77, 4000, 20000]])]
    shares = torch.tensor([0.2, 0.5, 0.3]).expand(2, 3, 3)
    model = SkeletonModel.from_body(free_body, 10, torch.float32)
    skeleton = pose_skeleton(model, state_from_parameters(parameters))
    bound = bind_points(free_body, model, corners.flatten(1))
    found = blend_corners(pose_points(bound, skeleton), shares).positions
    vertices = pose_body(free_body, parameters).vertices
    for b in range(2):
        true = (vertices[b][corners[b]] * shares[b][..., None]).sum(1)
        assert torch.allclose(found[b].T, true, atol=1e-5)
