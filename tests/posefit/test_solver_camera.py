# SPDX-License-Identifier: Apache-2.0
"""Focal length and lens as unknowns of the solver, beside the pose."""

import pytest
import torch
from test_solver import make_scene

from posefit.solver import SolverConfig, SurfacePoints, solve
from posefit.solver.lens import Lens, refined_pixels

CLIP = SolverConfig(
    shape="fixed", focal="sequence", max_iterations=40, tolerance=1e-6, effective_points=200.0
)
WRONG = 1.15


def assumed(scene, evidence, factor):
    """The evidence and the start as someone sees them who takes the lens for `factor` times it.

    The person is as large in the picture, so they are taken to be as much further away.
    """
    wrong = evidence.intrinsics.clone()
    wrong[:, :2, :2] *= factor
    matrix = scene.world_to_camera
    depth = (matrix[:, 2, :3] * scene.start.transl).sum(-1) + matrix[:, 2, 3]
    slid = scene.start.transl + (factor - 1.0) * depth[:, None] * matrix[:, 2, :3]
    start = type(scene.start)(
        scene.start.betas, scene.start.global_orient, scene.start.body_pose, slid
    )
    return SurfacePoints(**{**vars(evidence), "intrinsics": wrong}), start


def near_scene(body, **options):
    """Someone 2 m away, so that near limbs look much larger than far ones."""
    scene = make_scene(body, batch=8, noise=0.06, seed=4, **options)
    scene.world_to_camera = scene.world_to_camera.clone()
    scene.world_to_camera[:, 2, 3] -= 1.0
    return scene


def test_a_focal_length_wrong_by_15_percent_is_found_where_perspective_is_strong(free_body):
    scene = near_scene(free_body)
    evidence, start = assumed(scene, scene.evidence(noise_px=0.5, points=300), WRONG)
    found = solve(free_body, start, [evidence], CLIP, reference=start)
    focal = WRONG * found.camera[:, 0].exp()
    assert (focal - 1.0).abs().max() < 0.02
    fixed = solve(free_body, start, [evidence], SolverConfig(shape="fixed"), reference=start)
    assert scene.error_mm(found.parameters).mean() < scene.error_mm(fixed.parameters).mean()


def test_a_right_focal_length_stays_and_a_distant_person_is_not_ruined(free_body):
    scene = near_scene(free_body)
    far = scene.world_to_camera.clone()
    far[:, 2, 3] += 37.0  # 39 m
    scene.world_to_camera = far
    scene.intrinsics = scene.intrinsics.clone()
    scene.intrinsics[:, :2, :2] *= 13.0
    evidence = scene.evidence(noise_px=2.0, points=100)
    config = SolverConfig(shape="fixed", focal="sequence", max_iterations=20)
    found = solve(free_body, scene.start, [evidence], config, reference=scene.start)
    fixed = solve(
        free_body, scene.start, [evidence], SolverConfig(shape="fixed"), reference=scene.start
    )
    assert found.camera[:, 0].abs().max() < 0.25
    error, plain = (scene.error_mm(one.parameters).mean() for one in (found, fixed))
    assert error < 1.1 * plain + 1.0


def test_each_frame_of_a_zoom_finds_its_own_focal_length(free_body):
    scene = near_scene(free_body, smooth=True)
    evidence = scene.evidence(noise_px=0.5, points=300)
    zoom = torch.linspace(0.94, 1.06, 8)
    wrong = evidence.intrinsics.clone()
    wrong[:, :2, :2] *= zoom[:, None, None]
    evidence = SurfacePoints(**{**vars(evidence), "intrinsics": wrong})
    config = SolverConfig(
        shape="fixed", focal="frame", max_iterations=40, tolerance=1e-6, effective_points=300.0,
        smoothness=1.0,
    )  # fmt: skip
    found = solve(free_body, scene.true, [evidence], config, reference=scene.true)
    left = (zoom * found.camera[:, 0].exp() - 1.0).abs()
    assert left.mean() < 0.6 * (zoom - 1.0).abs().mean()
    assert (found.camera[:, 0].diff() < 0).float().mean() > 0.7


def test_a_radial_coefficient_is_found(free_body):
    scene = near_scene(free_body)
    evidence = scene.evidence(noise_px=0.2, points=400)
    principal = evidence.intrinsics[:, None, :2, 2]
    offset = evidence.targets - principal
    radius = (offset / evidence.intrinsics[0, 0, 0]).square().sum(-1, keepdim=True)
    bent = principal + offset * (1.0 + 0.08 * radius)
    evidence = SurfacePoints(**{**vars(evidence), "targets": bent})
    config = SolverConfig(
        shape="fixed", distortion=True, max_iterations=40, tolerance=1e-6, effective_points=300.0
    )
    found = solve(free_body, scene.start, [evidence], config, reference=scene.start)
    assert found.camera[0, 1].item() == pytest.approx(0.08, abs=0.025)
    assert (found.camera[:, 0] == 0).all()


def test_pixels_have_their_exact_derivatives_by_position_and_camera():
    generator = torch.Generator().manual_seed(2)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    lens = Lens(300 + normal(2, 2), 500 + 20 * normal(2, 2))
    position, camera = 200 * normal(2, 2, 5), 0.1 * normal(2, 2)
    # A position whose pixels are itself: derivatives by position are those by pixel.
    by_position = torch.eye(2, 3, dtype=torch.float64)[None, :, :, None].expand(2, 2, 3, 5)
    _, moved, by_camera = refined_pixels(position, by_position, lens, camera)
    for axis in range(2):
        step = torch.zeros(2, 1, dtype=torch.float64)
        step[axis] = 1e-3
        above, below = (
            refined_pixels(position + way * step, by_position, lens, camera)[0] for way in (1, -1)
        )
        torch.testing.assert_close((above - below) / 2e-3, moved[:, :, axis], rtol=1e-6, atol=1e-8)
        above, below = (
            refined_pixels(position, by_position, lens, camera + way * step[:, 0] * 1e-3)[0]
            for way in (1, -1)
        )
        torch.testing.assert_close((above - below) / 2e-6, by_camera[:, axis], rtol=1e-6, atol=1e-4)


def test_a_focal_length_of_each_frame_needs_a_fixed_shape(free_body):
    scene = near_scene(free_body)
    with pytest.raises(ValueError, match="fixed"):
        solve(free_body, scene.start, [scene.evidence()], SolverConfig(focal="frame"))
