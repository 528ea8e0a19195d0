# SPDX-License-Identifier: Apache-2.0
"""The solver by round trip: pose the free body, disturb it, solve, compare vertices."""

import dataclasses
import math

import pytest
import torch

from posefit.body import PoseParameters, pose_body, pose_vertices
from posefit.solver import SolverConfig, SurfacePoints, solve

DEGREES_12 = math.radians(12.0)
POINTS = 500
FREE = SolverConfig(shape="fixed", limit_weight=0.0, effective_points=1500.0, max_iterations=12)
"""Every point for itself and no limits: what independent points can do."""
DOWN = torch.tensor([[math.pi, 0.0, 0.0]])
"""SMPL's y up, seen by a camera whose y points down and that looks along +z."""


@dataclasses.dataclass
class Scene:
    """A true pose, a disturbed one, and a camera."""

    body: object
    true: PoseParameters
    start: PoseParameters
    intrinsics: torch.Tensor
    world_to_camera: torch.Tensor
    generator: torch.Generator

    def pixels(self, parameters, indices, world_to_camera=None):
        """Where a pose's vertices are seen."""
        matrix = self.world_to_camera if world_to_camera is None else world_to_camera
        points = pose_vertices(self.body, parameters, indices)
        camera = points @ matrix[:, :3, :3].transpose(1, 2) + matrix[:, None, :3, 3]
        image = camera @ self.intrinsics.transpose(1, 2)
        return image[..., :2] / image[..., 2:]

    def evidence(self, noise_px=1.0, points=POINTS, world_to_camera=None, parameters=None):
        """Noisy pixels of random vertices, each frame its own."""
        batch = len(self.start)
        indices = torch.randint(
            0, self.body.num_vertices, (batch, points), generator=self.generator
        )
        pixels = self.pixels(parameters or self.true, indices, world_to_camera)
        noise = torch.randn(pixels.shape, generator=self.generator, dtype=pixels.dtype)
        return SurfacePoints(
            vertex_indices=indices,
            targets=pixels + noise_px * noise,
            weights=pixels.new_ones(batch, points),
            scales=pixels.new_full((batch, points), noise_px),
            intrinsics=self.intrinsics,
            world_to_camera=self.world_to_camera if world_to_camera is None else world_to_camera,
        )

    def error_mm(self, parameters, frames=slice(None), aligned=True):
        """Mean distance of the vertices to the true ones, pelvis on pelvis, each frame."""
        found, true = pose_body(self.body, parameters), pose_body(self.body, self.true)
        offset = (found.joints[:, :1] - true.joints[:, :1]) if aligned else 0.0
        distance = (found.vertices - offset - true.vertices).norm(dim=-1)
        return 1e3 * distance.mean(1)[frames]


def make_scene(body, batch=4, noise=DEGREES_12, seed=0, dtype=torch.float32, smooth=False):
    """Random poses 3 m before a camera of 500 px; starts with `noise` radians a joint."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    per_axis = noise / math.sqrt(3.0)
    spread = torch.full((23, 1), 0.2, dtype=dtype)
    spread[[20, 21, 22]] = 0.05
    pose = spread * normal(1 if smooth else batch, 23, 3)
    root = DOWN.to(dtype) + 0.2 * normal(1 if smooth else batch, 3)
    true = PoseParameters(
        betas=torch.zeros(batch, 10, dtype=dtype),
        global_orient=root.expand(batch, 3),
        body_pose=pose.expand(batch, 23, 3),
        transl=torch.tensor([0.0, 0.0, 3.0], dtype=dtype) + 0.1 * normal(1, 3).expand(batch, 3),
    )
    start = PoseParameters(
        betas=true.betas,
        global_orient=true.global_orient + per_axis * normal(batch, 3),
        body_pose=true.body_pose + per_axis * normal(batch, 23, 3) * (spread > 0.1),
        transl=true.transl + 0.03 * normal(batch, 3),
    )
    intrinsics = torch.tensor([[500.0, 0, 128], [0, 500, 128], [0, 0, 1]], dtype=dtype)
    return Scene(
        body,
        true,
        start,
        intrinsics.expand(batch, 3, 3),
        torch.eye(4, dtype=dtype).expand(batch, 4, 4),
        generator,
    )


def with_rows(evidence, **changes):
    return dataclasses.replace(evidence, **changes)


def test_a_pose_12_degrees_off_returns_to_within_millimetres(free_body):
    scene = make_scene(free_body, batch=8)
    assert scene.error_mm(scene.start).median() > 60
    evidence = [scene.evidence(points=1500)]
    solution = solve(free_body, scene.start, evidence, FREE, reference=scene.start)
    assert scene.error_mm(solution.parameters).median() < 12
    assert scene.error_mm(solution.parameters).max() < 25
    assert solution.converged.all()


def test_float64_solves_the_same_problem(free_body):
    scene = make_scene(free_body, batch=2)
    evidence = scene.evidence()
    single = solve(free_body, scene.start, [evidence], FREE, reference=scene.start)
    start = scene.start.to(dtype=torch.float64)
    double = solve(free_body, start, [evidence], FREE, reference=start)
    assert double.parameters.body_pose.dtype == torch.float64
    found = pose_body(free_body, double.parameters.to(dtype=torch.float32)).vertices
    expected = pose_body(free_body, single.parameters).vertices
    assert (found - expected).norm(dim=-1).mean() < 2e-3


def test_the_cost_never_increases_whatever_the_start(free_body):
    for noise, widening in ((0.2, 1.0), (1.5, 1.0), (3.0, 20.0)):
        scene = make_scene(free_body, batch=3, noise=noise)
        evidence, costs = [scene.evidence(points=200)], []
        for iterations in range(5):
            config = dataclasses.replace(
                FREE, max_iterations=iterations, tolerance=0.0, robust_widening=widening
            )
            solution = solve(free_body, scene.start, evidence, config, reference=scene.start)
            assert (solution.cost_after <= solution.cost_before).all()
            assert solution.cost_after.isfinite().all()
            costs.append(solution.cost_after)
        steps = torch.stack(costs).diff(dim=0)
        assert (steps <= 1e-5 * costs[0]).all()


def test_a_batch_gives_what_its_frames_give_alone(free_body):
    scene = make_scene(free_body, batch=5)
    evidence = scene.evidence(points=300)
    config = dataclasses.replace(FREE, chunk_frames=2, tolerance=0.0, max_iterations=4)
    together = solve(free_body, scene.start, [evidence], config, reference=scene.start)
    for frame in range(5):
        row = slice(frame, frame + 1)
        alone = SurfacePoints(
            *(getattr(evidence, field.name)[row] for field in dataclasses.fields(evidence))
        )
        single = solve(free_body, scene.start[row], [alone], config, reference=scene.start[row])
        torch.testing.assert_close(
            single.parameters.body_pose, together.parameters.body_pose[row], atol=2e-3, rtol=0
        )


def test_a_third_of_gross_outliers_hardly_hurts(free_body):
    scene = make_scene(free_body, batch=4, noise=DEGREES_12 / 2)
    clean = scene.evidence()
    wild = torch.rand(clean.weights.shape, generator=scene.generator) < 0.3
    shift = 80 * torch.randn(clean.targets.shape, generator=scene.generator)
    dirty = with_rows(clean, targets=clean.targets + wild[..., None] * shift)
    config = dataclasses.replace(FREE, max_iterations=12)
    before, after = (
        scene.error_mm(
            solve(free_body, scene.start, [e], config, reference=scene.start).parameters
        ).median()
        for e in (clean, dirty)
    )
    assert after < 1.5 * before + 1.0


def test_unseen_vertices_pull_nothing(free_body):
    scene = make_scene(free_body, batch=2)
    evidence = scene.evidence(points=600)
    seen = (torch.rand(evidence.weights.shape, generator=scene.generator) < 0.5).float()
    honest = with_rows(evidence, weights=seen)
    misled = with_rows(honest, targets=torch.where(seen[..., None] > 0, evidence.targets, 1e4))
    first, second = (
        solve(free_body, scene.start, [e], FREE, reference=scene.start).parameters
        for e in (honest, misled)
    )
    torch.testing.assert_close(first.body_pose, second.body_pose)


def test_points_that_are_no_numbers_are_dropped_and_counted(free_body):
    scene = make_scene(free_body, batch=2)
    evidence = scene.evidence(points=600)
    broken = evidence.targets.clone()
    broken[:, ::10] = torch.nan
    dirty = with_rows(evidence, targets=broken)
    solution = solve(free_body, scene.start, [dirty], FREE, reference=scene.start)
    assert solution.dropped_targets == 2 * 60
    assert scene.error_mm(solution.parameters).max() < 40
    assert solution.cost_after.isfinite().all()


@pytest.mark.parametrize("case", ["no weight", "not a number", "nothing"])
def test_frames_without_evidence_come_back_as_they_were(free_body, case):
    scene = make_scene(free_body, batch=3)
    evidence = scene.evidence(points=200)
    targets, weights = evidence.targets.clone(), evidence.weights.clone()
    if case == "no weight":
        weights[1] = 0.0
    targets[1] = torch.nan if case == "not a number" else targets[1]
    chosen = [] if case == "nothing" else [with_rows(evidence, targets=targets, weights=weights)]
    config = dataclasses.replace(FREE, limit_weight=1.0, pose_prior_weight=1.0)
    solution = solve(free_body, scene.start, chosen, config, reference=scene.start)
    assert not solution.converged[1]
    for name in ("betas", "global_orient", "body_pose", "transl"):
        found, start = getattr(solution.parameters, name), getattr(scene.start, name)
        assert torch.equal(found[1], start[1])


def test_a_body_behind_the_camera_stays_where_it_is(free_body):
    scene = make_scene(free_body, batch=2)
    evidence = scene.evidence(points=200)
    behind = dataclasses.replace(
        scene.start, transl=scene.start.transl * torch.tensor([1.0, 1.0, -1.0])
    )
    solution = solve(free_body, behind, [evidence], FREE, reference=behind)
    assert solution.parameters.transl.isfinite().all()
    torch.testing.assert_close(solution.parameters.transl, behind.transl, atol=0.05, rtol=0)


def test_no_step_gains_by_pushing_points_behind_the_camera(free_body):
    scene = make_scene(free_body, batch=2)
    evidence = scene.evidence(points=200)
    near = dataclasses.replace(
        scene.start, transl=scene.start.transl - torch.tensor([0.0, 0.0, 2.6])
    )
    config = dataclasses.replace(FREE, max_iterations=20, reference_weight=0.0)
    solution = solve(free_body, near, [evidence], config)
    joints = pose_body(free_body, solution.parameters).joints
    assert (joints[..., 2].amax(1) > 0).all()


def test_one_shape_is_found_for_the_whole_sequence(free_body):
    scene = make_scene(free_body, batch=6)
    shape = torch.linspace(-1.5, 1.5, 10).roll(3)
    scene.true = dataclasses.replace(scene.true, betas=shape.expand(6, 10))
    # Torso and limbs fix the shape's size only together with the depth: hold the translation.
    scene.start = dataclasses.replace(scene.start, transl=scene.true.transl)
    config = dataclasses.replace(
        FREE, shape="sequence", shape_sigma=1.0, max_iterations=15, solve_translation=False
    )
    evidence = [scene.evidence()]
    zero = dataclasses.replace(scene.start, betas=torch.zeros(6, 10))
    solution = solve(free_body, zero, evidence, config)
    found = solution.parameters.betas
    torch.testing.assert_close(found, found[:1].expand(6, 10))
    rest = (
        dataclasses.replace(PoseParameters.rest(free_body), betas=found[:1]),
        dataclasses.replace(PoseParameters.rest(free_body), betas=shape[None]),
    )
    first, second = (pose_body(free_body, p).vertices for p in rest)
    mean_body = pose_body(free_body, PoseParameters.rest(free_body)).vertices
    assert (first - second).norm(dim=-1).mean() < 0.3 * (mean_body - second).norm(dim=-1).mean()
    assert solution.cost_after.sum() < solution.cost_before.sum()


def test_each_frame_may_have_its_own_shape(free_body):
    scene = make_scene(free_body, batch=3)
    betas = torch.tensor([-1.0, 0.0, 1.0])[:, None] * torch.eye(10)[0]
    scene.true = dataclasses.replace(scene.true, betas=betas)
    config = dataclasses.replace(FREE, shape="frame", max_iterations=15)
    zero = dataclasses.replace(scene.start, betas=torch.zeros(3, 10))
    found = solve(free_body, zero, [scene.evidence()], config).parameters.betas[:, 0]
    assert found[0] < found[1] < found[2]


def test_a_fixed_shape_is_not_touched(free_body):
    scene = make_scene(free_body, batch=2)
    solution = solve(free_body, scene.start, [scene.evidence(points=100)], FREE)
    assert torch.equal(solution.parameters.betas, scene.start.betas)


def test_smoothness_carries_a_frame_that_nothing_was_seen_in(free_body):
    scene = make_scene(free_body, batch=7, noise=DEGREES_12, smooth=True)
    evidence = scene.evidence()
    weights = evidence.weights.clone()
    weights[3] = 0.0
    blind = [with_rows(evidence, weights=weights)]
    free = dataclasses.replace(FREE, reference_weight=0.0, max_iterations=15)
    smooth = dataclasses.replace(free, smoothness=1.0)
    alone = solve(free_body, scene.start, blind, free)
    carried = solve(free_body, scene.start, blind, smooth)
    assert torch.equal(alone.parameters.body_pose[3], scene.start.body_pose[3])
    assert scene.error_mm(carried.parameters)[3] < 0.35 * scene.error_mm(scene.start)[3]


def test_smoothness_calms_jitter(free_body):
    scene = make_scene(free_body, batch=10, smooth=True)
    noisy = [scene.evidence(noise_px=4.0, points=60)]
    config = dataclasses.replace(FREE, effective_points=60.0, max_iterations=12)
    rough, smooth = (
        solve(
            free_body,
            scene.start,
            noisy,
            dataclasses.replace(config, smoothness=strength),
            reference=scene.start,
        ).parameters
        for strength in (0.0, 1.0)
    )

    def jitter(parameters):
        return pose_body(free_body, parameters).joints.diff(n=2, dim=0).norm(dim=-1).mean()

    assert jitter(smooth) < 0.3 * jitter(rough)
    assert scene.error_mm(smooth).mean() < scene.error_mm(rough).mean()


@pytest.mark.slow
@pytest.mark.parametrize("swings_a_second", [1.0, 2.5])
@pytest.mark.parametrize("axis", [1, 2])
def test_smoothness_keeps_an_arm_swing_and_takes_its_jitter(free_body, axis, swings_a_second):
    """Axis 1 swings along the view, where one picture says little; axis 2 across it."""
    scene = make_scene(free_body, batch=37, noise=0.0, smooth=True)
    times = torch.arange(37) / 30.0
    pose = torch.zeros(37, 23, 3)
    pose[:, 15, 2] = -0.9
    pose[:, 15, axis] -= 0.7 * torch.sin(2 * math.pi * swings_a_second * times)  # left shoulder
    scene.true = dataclasses.replace(scene.true, body_pose=pose, global_orient=DOWN.expand(37, 3))
    noisy = pose + 0.06 * torch.randn(37, 23, 3, generator=scene.generator)
    scene.start = dataclasses.replace(scene.true, body_pose=noisy)
    evidence = [scene.evidence()]
    config = SolverConfig(shape="fixed", limit_weight=0.0)
    wrist = free_body.joint_names.index("L_Wrist")
    true = pose_body(free_body, scene.true).joints

    def judge(smoothness):
        found = solve(
            free_body,
            scene.start,
            evidence,
            dataclasses.replace(config, smoothness=smoothness),
            reference=scene.start,
            times=times,
        )
        joints = pose_body(free_body, found.parameters).joints
        wave, kept = (j[:, wrist] - j[:, wrist].mean(0) for j in (true, joints))
        wrong = (joints - true).diff(n=2, dim=0).norm(dim=-1).mean()
        return (wave * kept).sum() / wave.square().sum(), wrong

    (unsmoothed, rough), (amplitude, smooth) = judge(0.0), judge(1.0)
    assert amplitude > 0.97 * unsmoothed
    assert axis == 1 or amplitude > 0.97
    assert smooth < 0.5 * rough


def test_pinned_frames_and_locked_joints_do_not_move(free_body):
    scene = make_scene(free_body, batch=5, smooth=True)
    pinned = torch.tensor([False, True, False, False, True])
    locked = torch.zeros(24, dtype=torch.bool)
    locked[[0, 4, 18]] = True
    for smoothness in (0.0, 1.0):
        config = dataclasses.replace(FREE, smoothness=smoothness, shape="sequence")
        found = solve(
            free_body,
            scene.start,
            [scene.evidence(points=300)],
            config,
            reference=scene.start,
            pinned=pinned,
            locked=locked,
        ).parameters
        for name in ("betas", "global_orient", "body_pose", "transl"):
            mine, start = getattr(found, name), getattr(scene.start, name)
            assert torch.equal(mine[pinned], start[pinned])
        assert torch.equal(found.global_orient, scene.start.global_orient)
        assert torch.equal(found.body_pose[:, [3, 17]], scene.start.body_pose[:, [3, 17]])
        assert not torch.equal(found.body_pose[0, 0], scene.start.body_pose[0, 0])


def test_a_pinned_frame_holds_its_neighbours_through_smoothness(free_body):
    scene = make_scene(free_body, batch=5, smooth=True)
    start = PoseParameters(*(v[:1].expand_as(v).clone() for v in vars(scene.start).values()))
    bent = start.body_pose.clone()
    bent[2, 17, 1] += 0.5
    start = dataclasses.replace(start, body_pose=bent)
    pinned = torch.arange(5) == 2
    config = dataclasses.replace(FREE, smoothness=10.0, max_iterations=10)
    found = solve(free_body, start, [], config, reference=start, pinned=pinned).parameters
    change = found.body_pose[:, 17, 1] - start.body_pose[:, 17, 1]
    assert (change[[1, 3]] > 0.02).all()


def test_stiff_joints_change_less(free_body):
    scene = make_scene(free_body, batch=3)
    evidence = [scene.evidence()]
    stiffness = torch.ones(24)
    stiffness[18] = 1e6
    found = solve(
        free_body, scene.start, evidence, FREE, reference=scene.start, stiffness=stiffness
    ).parameters
    change = (found.body_pose - scene.start.body_pose).norm(dim=-1)
    assert (change[:, 17] < 0.02).all()
    assert (change[:, 17] < 0.2 * change[:, 18]).all()


def test_a_knee_pushed_backwards_stops_at_its_limit(free_body):
    scene = make_scene(free_body, batch=1, noise=0.0)
    # Seen from the side, so that the picture shows the knee's flexion.
    side = torch.tensor([[math.pi / math.sqrt(2), 0.0, math.pi / math.sqrt(2)]])
    backwards = torch.zeros(1, 23, 3)
    backwards[0, 3, 0] = -0.7
    scene.true = dataclasses.replace(scene.true, body_pose=backwards, global_orient=side)
    scene.start = scene.true
    others = torch.ones(24, dtype=torch.bool)
    others[4] = False
    knees = []
    for weight in (0.0, 1.0):
        config = SolverConfig(
            shape="fixed", limit_weight=weight, solve_translation=False, max_iterations=20
        )
        found = solve(free_body, scene.start, [scene.evidence()], config, locked=others)
        knees.append(float(found.parameters.body_pose[0, 3, 0]))
    assert knees[0] < -0.6
    assert -0.2 < knees[1] < 0.0


def test_two_views_know_the_depth_that_one_does_not(free_body):
    scene = make_scene(free_body, batch=2, noise=0.0)
    scene.start = dataclasses.replace(
        scene.start, transl=scene.true.transl + torch.tensor([0.0, 0.0, 0.25])
    )
    turn = torch.eye(4)
    turn[:3, :3] = torch.tensor([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])
    turn[:3, 3] = torch.tensor([3.0, 0, 3.0])
    side = turn.expand(2, 4, 4)
    # Shape, pose and depth explain one view together; a weak shape prior leaves depth open.
    config = SolverConfig(
        shape="frame", reference_weight=1e-3, limit_weight=0.0, max_iterations=15, shape_sigma=2.0
    )
    front = scene.evidence(noise_px=1.0)
    both = [front, scene.evidence(noise_px=1.0, world_to_camera=side)]
    errors = []
    for views in ([front], both):
        found = solve(free_body, scene.start, views, config, reference=scene.start).parameters
        difference = pose_body(free_body, found).joints - pose_body(free_body, scene.true).joints
        errors.append(difference[:, 0, 2].abs().max())
    assert errors[1] < 0.01
    assert errors[1] < 0.3 * errors[0]


def test_the_posterior_is_wide_where_nothing_was_seen(free_body):
    scene = make_scene(free_body, batch=2)
    evidence = scene.evidence()
    arm = [free_body.joint_names.index(n) for n in ("L_Shoulder", "L_Elbow", "L_Wrist", "L_Hand")]
    on_arm = free_body.lbs_weights[:, arm].sum(1)[evidence.vertex_indices] > 0.01
    half = with_rows(evidence, weights=(~on_arm).float())
    config = dataclasses.replace(FREE, posterior=True)
    solution = solve(free_body, scene.start, [half], config, reference=scene.start)
    sigma = solution.joint_sigma
    left, right = (free_body.joint_names.index(n) for n in ("L_Elbow", "R_Elbow"))
    assert (sigma[:, left] > 2 * sigma[:, right]).all()
    assert sigma.isfinite().all()


def test_wrong_shapes_are_refused_in_words(free_body):
    scene = make_scene(free_body, batch=2)
    with pytest.raises(ValueError, match="locked is"):
        solve(free_body, scene.start, [], locked=torch.zeros(5, dtype=torch.bool))
    with pytest.raises(ValueError, match="increasing"):
        solve(free_body, scene.start, [], times=torch.zeros(2))
    with pytest.raises(ValueError, match="reference has"):
        solve(free_body, scene.start, [], reference=scene.start[:1])


def test_an_extreme_shape_is_believed_less_than_a_usual_one(free_body):
    """Nothing is seen of it here: people's spread and the input's guess are all that is known."""
    scene = make_scene(free_body, batch=2)
    guess = dataclasses.replace(scene.true, betas=torch.full((2, 10), 2.0))
    evidence = with_rows(scene.evidence(points=20), scales=torch.full((2, 20), 1e4))
    found = {}
    for sigma in (0.05, 1.0):
        config = SolverConfig(shape_reference_sigma=sigma)
        solution = solve(free_body, guess, [evidence], config, reference=guess)
        found[sigma] = solution.parameters.betas
    # As likely as the guess is: half of the way where it is no surer than what is known of people.
    torch.testing.assert_close(found[1.0], torch.full((2, 10), 1.0), atol=0.05, rtol=0)
    torch.testing.assert_close(found[0.05], torch.full((2, 10), 2.0), atol=0.05, rtol=0)
