# SPDX-License-Identifier: Apache-2.0
"""Cameras that are wrong, that move and that zoom, through the whole refinement."""

import dataclasses
import json

import numpy as np
import pytest
import synthetic_clip as made
import torch
from evidence_clip import write_findings
from PIL import Image

from posefit.body import pose_body
from posefit.engine import refine_views
from posefit.errors import RefinementError
from posefit.evidence import EvidenceFiles, evidence_of_files
from posefit.parameters import parameters_of_sequence
from posefit.pipeline import Clip, refine
from posefit.refinement.cameras import as_given, refined_camera
from posefit.solver import FacePoints, SurfacePoints
from posefit.views import view_of_sequence, views_of_shot
from posefit_shared.frames import Camera, project, undistort_points
from posefit_shared.settings import RefineSettings
from posefit_shared.shot import read_shot

FRAMES = 10
ALONE = RefineSettings(displacement="none", keypoints=False)
WRONG = 1.15


def points_of(truth, seen_by, body, noise_px=0.5, count=300):
    """True surface points in the pixels of one sequence's camera, told with another's."""
    rng = np.random.default_rng(3)
    vertices = pose_body(body, parameters_of_sequence(truth, body)).vertices
    corners = body.faces[torch.from_numpy(rng.integers(len(body.faces), size=(len(truth), count)))]
    shares = torch.full(corners.shape, 1.0 / 3.0)
    targets = []
    for t in range(len(truth)):
        pixels = project(truth.camera(t), vertices[t][corners[t]].mean(1).numpy())[0]
        targets.append(pixels + noise_px * rng.normal(size=pixels.shape))
    ones = torch.ones(corners.shape[:2])
    cameras = [seen_by.camera(t) for t in range(len(truth))]
    stacked = [
        torch.tensor(np.stack([getattr(c, name) for c in cameras]), dtype=torch.float32)
        for name in ("intrinsics", "world_to_camera")
    ]
    return FacePoints(
        corners, shares, torch.tensor(np.stack(targets), dtype=torch.float32), ones,
        ones * noise_px, *stacked,
    )  # fmt: skip


def nearer(truth):
    """The same person filmed from 1.9 m, the lens as much wider."""
    closer, wide = truth.world_to_camera.copy(), truth.intrinsics.copy()
    closer[2, 3] -= 2.1
    wide[:2, :2] *= 0.5
    return truth.replace(world_to_camera=closer, intrinsics=wide)


def thought_longer(start, factor):
    """The start of someone who takes the lens for longer: further away, as large."""
    wrong = start.intrinsics.copy()
    wrong[:2, :2] *= factor
    axis = start.world_to_camera[2, :3]
    depth = start.trans @ axis + start.world_to_camera[2, 3]
    trans = start.trans + (factor - 1.0) * depth[:, None] * axis
    return start.replace(intrinsics=wrong, trans=trans)


@pytest.fixture(scope="module")
def scene(free_body):
    rng = np.random.default_rng(5)
    truth = nearer(made.true_sequence(free_body, FRAMES, rng))
    start = made.disturbed(truth, rng, angle=0.06, shift_m=0.02).replace(betas=truth.betas)
    return truth, start, made.filmed(free_body, truth)


@pytest.mark.slow
def test_a_wrong_focal_length_is_found_and_written_out(scene, free_body):
    truth, start, footage = scene
    start = thought_longer(start, WRONG)
    evidence = [points_of(truth, start, free_body)]
    settings = dataclasses.replace(ALONE, refine_focal="clip", refine_shape=False)
    view = view_of_sequence(start, footage)
    found = refine_views(start, [view], body=free_body, settings=settings, evidence=evidence)
    sequence = found.sequence
    assert sequence.intrinsics.shape == (3, 3)
    assert sequence.intrinsics[0, 0] / truth.intrinsics[0, 0] == pytest.approx(1.0, abs=0.02)
    assert sequence.intrinsics[:2, 2].tolist() == start.intrinsics[:2, 2].tolist()
    depths = [one.trans @ truth.world_to_camera[2, :3] for one in (truth, start, sequence)]
    before, after = (np.abs(depth - depths[0]).mean() for depth in depths[1:])
    assert after < 0.4 * before
    plain = refine_views(start, [view], body=free_body, settings=ALONE, evidence=evidence)
    errors = [made.vertex_error_mm(free_body, one.sequence, truth).mean() for one in (found, plain)]
    assert errors[0] < errors[1]


def test_without_being_asked_the_camera_stays(scene, free_body):
    truth, start, footage = scene
    evidence = [points_of(truth, start, free_body)]
    view = view_of_sequence(start, footage)
    found = refine_views(start, [view], body=free_body, settings=ALONE, evidence=evidence)
    np.testing.assert_array_equal(found.sequence.intrinsics, start.intrinsics)
    assert found.sequence.distortion is None


@pytest.mark.slow
def test_no_influence_gives_the_camera_back(scene, free_body):
    truth, start, footage = scene
    start = thought_longer(start, WRONG)
    settings = dataclasses.replace(ALONE, refine_focal="clip", influence=0.0)
    evidence = [points_of(truth, start, free_body)]
    view = view_of_sequence(start, footage)
    found = refine_views(start, [view], body=free_body, settings=settings, evidence=evidence)
    np.testing.assert_allclose(found.sequence.intrinsics, start.intrinsics, rtol=1e-9)
    np.testing.assert_allclose(found.sequence.trans, start.trans, atol=1e-5)


@pytest.mark.slow
def test_rendered_evidence_finds_the_focal_length_too(scene, free_body):
    truth, start, footage = scene
    start = thought_longer(start, 1.1)
    settings = RefineSettings(
        crop_size=128, refine_focal="clip", refine_shape=False, solver_iterations=6
    )
    clip = Clip(start, [view_of_sequence(start, footage)])
    found = refine(clip, body=free_body, estimator=made.ColorMatcher(), settings=settings)
    ratio = found.sequence.intrinsics[0, 0] / truth.intrinsics[0, 0]
    assert abs(ratio - 1.0) < 0.07


@pytest.mark.parametrize("what", ["moves", "zooms"])
def test_cameras_that_move_or_zoom_are_taken_frame_by_frame(free_body, tmp_path, what):
    rng = np.random.default_rng(8)
    truth = made.true_sequence(free_body, 4, rng)
    intrinsics = np.tile(truth.intrinsics, (4, 1, 1))
    cameras = np.tile(truth.world_to_camera, (4, 1, 1))
    if what == "moves":
        cameras = np.stack([made.camera(0.25 * t)[1] for t in range(4)])
    else:
        intrinsics[:, :2, :2] *= np.array([0.7, 0.85, 1.0, 1.1])[:, None, None]
    truth = truth.replace(intrinsics=intrinsics, world_to_camera=cameras)
    start = made.disturbed(truth, rng).replace(betas=truth.betas)
    files = write_findings(tmp_path, truth, free_body)
    view = view_of_sequence(start, made.filmed(free_body, truth))
    chosen = EvidenceFiles(keypoints=files.keypoints, masks=files.masks)
    evidence = evidence_of_files(chosen, start, view, free_body)
    found = refine_views(start, [view], body=free_body, settings=ALONE, evidence=evidence)
    before, after = (
        made.vertex_error_mm(free_body, one, truth).mean() for one in (start, found.sequence)
    )
    assert after < 0.85 * before
    assert found.sequence.intrinsics.shape == (4, 3, 3)


def test_a_camera_of_a_shot_may_move(free_body, rng, tmp_path):
    truth = made.true_sequence(free_body, 2, rng)
    matrices = np.stack([made.camera(0.2 * t)[1] for t in range(3)])
    np.save(tmp_path / "moving.npy", matrices)
    (tmp_path / "frames").mkdir()
    for t in range(3):
        Image.new("RGB", made.SIZE).save(tmp_path / "frames" / f"{t}.png")
    camera = {"name": "a", "footage": "frames", "frame_offset": 1, "image_size": made.SIZE,
              "intrinsics": truth.intrinsics.tolist(), "world_to_camera": "moving.npy"}  # fmt: skip
    (tmp_path / "shot.json").write_text(json.dumps({"cameras": [camera]}))
    (view,) = views_of_shot(read_shot(tmp_path / "shot.json"), truth)
    assert view.frame_indices.tolist() == [1, 2]
    for t in range(2):
        np.testing.assert_array_equal(view.camera(t).world_to_camera, matrices[t + 1])


@pytest.mark.slow
def test_a_zoom_that_nobody_measured_is_followed(scene, free_body):
    truth, start, footage = scene
    zoom = np.linspace(0.93, 1.07, FRAMES)
    intrinsics = np.tile(truth.intrinsics, (FRAMES, 1, 1))
    intrinsics[:, :2, :2] *= zoom[:, None, None]
    filmed = truth.replace(intrinsics=intrinsics)
    evidence = [points_of(filmed, start, free_body)]
    settings = dataclasses.replace(ALONE, refine_focal="frame")
    view = view_of_sequence(start, footage)
    found = refine_views(start, [view], body=free_body, settings=settings, evidence=evidence)
    sequence = found.sequence
    assert sequence.intrinsics.shape == (FRAMES, 3, 3)
    taken = sequence.intrinsics[:, 0, 0] / truth.intrinsics[0, 0]
    assert np.corrcoef(taken, zoom)[0, 1] > 0.8


def test_calibrated_cameras_of_a_shot_are_not_refined(scene, free_body):
    _, start, footage = scene
    view = view_of_sequence(start, footage)
    settings = dataclasses.replace(ALONE, refine_focal="clip")
    with pytest.raises(RefinementError, match="2 calibrated cameras"):
        refine_views(
            start, [view, view], body=free_body, settings=settings,
            evidence=[points_of(start, start, free_body)],
        )  # fmt: skip


def test_a_longer_focal_length_leaves_the_lens_where_it_bends_the_picture():
    camera = Camera(
        np.array([[400.0, 0, 320], [0, 380.0, 240], [0, 0, 1]]), np.eye(4), (640, 480),
        np.array([-0.2, 0.05, 0.002, -0.001, 0.01]),
    )  # fmt: skip
    longer = refined_camera(camera, 0.2, 0.0)
    pixels = np.array([[40.0, 60.0], [500.0, 300.0], [320.0, 240.0]])
    np.testing.assert_allclose(
        undistort_points(longer, pixels), undistort_points(camera, pixels), atol=2e-3
    )
    assert refined_camera(camera, 0.0, 0.03).distortion[0] == pytest.approx(-0.17)


def test_evidence_of_a_refined_camera_means_the_same_beside_the_given_one(free_body):
    given = Camera(np.array([[400.0, 0, 320], [0, 400.0, 240], [0, 0, 1]]), np.eye(4), (640, 480))
    unknowns = torch.tensor([[0.1, 0.05]])
    refined = refined_camera(given, 0.1, 0.05)
    points = np.array([[0.3, -0.2, 2.0], [-0.5, 0.6, 3.0]])
    ideal = undistort_points(refined, project(refined, points)[0])
    intrinsics = torch.tensor(refined.intrinsics, dtype=torch.float32)[None]
    evidence = SurfacePoints(
        torch.tensor([0, 1]), torch.tensor(ideal, dtype=torch.float32)[None], torch.ones(1, 2),
        torch.ones(1, 2), intrinsics, torch.eye(4)[None],
    )  # fmt: skip
    told = as_given(evidence, unknowns)
    np.testing.assert_allclose(told.intrinsics[0], given.intrinsics, rtol=1e-5)
    # The solver's own model of the pixels: c + eˢ (1 + κ r²) q.
    flat = points[:, :2] / points[:, 2:]
    radius = (flat**2).sum(1, keepdims=True)
    seen = given.intrinsics[:2, 2] + np.exp(0.1) * (1 + 0.05 * radius) * 400.0 * flat
    np.testing.assert_allclose(told.targets[0], seen, atol=0.02)
