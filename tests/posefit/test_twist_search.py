# SPDX-License-Identifier: Apache-2.0
"""Turns about bones: patterned limbs are found, plain and right ones left alone."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from posefit.body import PoseParameters, load_body, pose_body
from posefit.modalities import render_modalities
from posefit.refinement.method import TwistSearch
from posefit.refinement.parts import Part, turned_input
from posefit.refinement.pictures import Picture
from posefit.refinement.segment_strips import SEGMENTS, observe_strips, segment_grid
from posefit.refinement.twist_evidence import limb_tables, pattern_evidence
from posefit.refinement.twist_search import find_twists, free_segments, turned_by
from posefit_shared.frames import Camera
from posefit_shared.sequence import Sequence as PoseSequence

BODY = load_body("free")
FRAMES, SIZE = 5, 320
SECONDS = torch.arange(FRAMES) * 1.0
THIGH, SHIN, UPPER_ARM = 0, 2, 4
PICTURES_ALONE = TwistSearch(anatomy_weight=0.0, most_of_pictures=8.0)
ANATOMY_ALONE = TwistSearch(picture_weight=0.0)


def people() -> PoseParameters:
    """Somebody who stands with bent knees and elbows, a little turned from frame to frame."""
    rest = PoseParameters.rest(BODY, FRAMES)
    global_orient, body_pose = rest.global_orient.clone(), rest.body_pose.clone()
    global_orient[:, 1] = torch.linspace(-0.4, 0.4, FRAMES)
    body_pose[:, [0, 1], 0] = -0.4
    body_pose[:, [3, 4], 0] = 0.7
    body_pose[:, 15, 2], body_pose[:, 16, 2] = -1.0, 1.0
    return dataclasses.replace(rest, global_orient=global_orient, body_pose=body_pose)


def camera() -> Camera:
    world_to_camera = np.diag([1.0, -1.0, -1.0, 1.0])
    world_to_camera[:3, 3] = 0.0, -0.3, 3.0
    intrinsics = np.array([[460.0, 0, SIZE / 2], [0, 460.0, SIZE / 2], [0, 0, 1]])
    return Camera(intrinsics, world_to_camera, (SIZE, SIZE))


def patterned() -> torch.Tensor:
    """Blotches of all colours, fine enough for limbs."""
    random = torch.Generator().manual_seed(4)
    coarse = torch.rand(1, 3, 96, 96, generator=random)
    colors = torch.nn.functional.interpolate(coarse, size=(512, 512), mode="bicubic")
    return torch.cat([colors.clamp(0, 1), torch.ones(1, 1, 512, 512)], 1)


def plain() -> torch.Tensor:
    return torch.full((1, 4, 512, 512), 0.6)


def photographed(parameters: PoseParameters, texture: torch.Tensor) -> list[Picture]:
    """Pictures of bodies, each in other light, before grey."""
    eye = camera()
    extrinsics = torch.tensor(eye.world_to_camera).float().expand(FRAMES, 4, 4)
    intrinsics = torch.tensor(eye.intrinsics).float().expand(FRAMES, 3, 3)
    vertices = pose_body(BODY, parameters).vertices
    seen, _ = render_modalities(
        BODY, vertices, extrinsics, intrinsics, (SIZE, SIZE), texture=texture
    )
    sun = 0.75 + 0.25 * seen.normals[:, :1]
    tint = torch.linspace(0.7, 1.0, FRAMES)[:, None] * torch.tensor([1.0, 0.9, 0.8])
    lit = seen.rgb * sun * tint[..., None, None] * seen.mask + 0.4 * (1 - seen.mask)
    pixels = (lit.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    return [Picture(one, eye) for one in pixels]


TRUE = people()
SEEN, BARE = photographed(TRUE, patterned()), photographed(TRUE, plain())


def wrong_in(frame: int, segment: int, degrees: float) -> PoseParameters:
    angles = torch.zeros(FRAMES, len(SEGMENTS))
    angles[frame, segment] = math.radians(degrees)
    return turned_by(BODY, TRUE, angles)


@pytest.mark.parametrize(("segment", "degrees"), [(THIGH, 40.0), (SHIN, -30.0), (UPPER_ARM, 35.0)])
def test_a_patterned_limb_that_is_turned_is_turned_back(segment: int, degrees: float) -> None:
    found = find_twists(BODY, wrong_in(2, segment, degrees), [SEEN], SECONDS, PICTURES_ALONE)
    assert bool(found.is_decided[2, segment])
    assert math.degrees(found.angles[2, segment]) == pytest.approx(-degrees, abs=6.0)
    others = found.is_decided.clone()
    others[2, segment] = False
    assert not bool(others.any())


def test_right_turns_stay_whether_there_is_a_pattern_or_not() -> None:
    for pictures in (SEEN, BARE):
        for search in (TwistSearch(), PICTURES_ALONE):
            found = find_twists(BODY, TRUE, [pictures], SECONDS, search)
            assert not bool(found.is_decided.any())
            assert float(found.angles.abs().max()) == 0.0


def test_a_plain_limb_says_nothing_about_its_turn() -> None:
    found = find_twists(BODY, wrong_in(2, THIGH, 40.0), [BARE], SECONDS, PICTURES_ALONE)
    assert not bool(found.is_decided.any())


def test_frames_near_in_time_say_nothing_of_each_other() -> None:
    start = wrong_in(2, THIGH, 40.0)
    found = find_twists(BODY, start, [SEEN], 0.01 * SECONDS, PICTURES_ALONE)
    assert not bool(found.is_decided.any())


def test_a_knee_that_bends_sideways_turns_its_thigh_back() -> None:
    found = find_twists(BODY, wrong_in(1, THIGH, 50.0), [], SECONDS, ANATOMY_ALONE)
    assert bool(found.is_decided[1, THIGH])
    assert -60.0 < math.degrees(found.angles[1, THIGH]) < -25.0


def test_a_locked_joint_and_a_pinned_frame_are_never_turned() -> None:
    start = wrong_in(1, THIGH, 50.0)
    for joint, frame in ((1, None), (4, None), (None, 1)):
        locked, pinned = torch.zeros(BODY.num_joints, dtype=torch.bool), torch.zeros(FRAMES).bool()
        if joint is not None:
            locked[joint] = True
        if frame is not None:
            pinned[frame] = True
        free = free_segments(FRAMES, locked, pinned)
        found = find_twists(BODY, start, [SEEN], SECONDS, TwistSearch(), free=free)
        assert not bool(found.is_decided[1, THIGH])


def test_all_joints_and_what_hangs_on_a_turned_limb_stay_in_place() -> None:
    before, after = (pose_body(BODY, one) for one in (TRUE, wrong_in(2, THIGH, 50.0)))
    assert torch.allclose(before.joints, after.joints, atol=1e-5)
    hands_and_feet = BODY.lbs_weights[:, [7, 8, 10, 11, 20, 21, 22, 23]].sum(1) > 0.99
    assert bool(hands_and_feet.any())
    apart = (before.vertices - after.vertices).norm(dim=-1)
    assert float(apart[:, hands_and_feet].max()) < 1e-3
    assert float(apart[2].max()) > 0.03
    assert float(apart[[0, 1, 3, 4]].max()) == 0.0


def test_an_unturned_body_comes_back_bit_by_bit() -> None:
    same = turned_by(BODY, TRUE, torch.zeros(FRAMES, len(SEGMENTS)))
    assert torch.equal(same.body_pose, TRUE.body_pose)


def test_a_turn_and_its_reverse_cancel() -> None:
    angles = torch.linspace(-1.0, 1.0, FRAMES)[:, None].expand(-1, len(SEGMENTS))
    back = turned_by(BODY, turned_by(BODY, TRUE, angles), -angles)
    one, other = (pose_body(BODY, pose).vertices for pose in (TRUE, back))
    assert torch.allclose(one, other, atol=1e-4)


def test_frames_are_looked_at_together_as_one_by_one() -> None:
    grid, vertices = segment_grid(BODY), pose_body(BODY, TRUE).vertices
    pictures = [*SEEN[:2], None, *SEEN[3:]]
    together = observe_strips(grid, BODY, vertices, pictures)
    for k in range(FRAMES):
        alone = observe_strips(grid, BODY, vertices[k : k + 1], pictures[k : k + 1])
        assert torch.allclose(together.weight[k], alone.weight[0], atol=1e-4)
        assert torch.allclose(together.features[k], alone.features[0], atol=1e-3)
    assert float(together.weight[2].max()) == 0.0
    turns = torch.linspace(-1.0, 1.0, 5)
    tables = limb_tables(BODY, TRUE, turns)
    for k in range(FRAMES):
        alone_tables = limb_tables(BODY, TRUE[k : k + 1], turns)
        assert torch.allclose(tables.limbs[k], alone_tables.limbs[0], atol=1e-3)
        assert torch.allclose(tables.neck[k], alone_tables.neck[0], atol=1e-3)


def test_the_same_skin_agrees_best_where_it_is_slid_onto_itself() -> None:
    grid = segment_grid(BODY)
    start = wrong_in(2, THIGH, 30.0)
    strips = observe_strips(grid, BODY, pose_body(BODY, start).vertices, SEEN)
    nats = pattern_evidence(strips, torch.tensor([1, 3]))[:, 2, THIGH]
    assert nats.argmax(-1).tolist() == pytest.approx([72 - 6, 72 - 6], abs=1)


def test_sigma_is_finite_where_a_turn_was_decided_alone() -> None:
    found = find_twists(BODY, wrong_in(1, THIGH, 50.0), [SEEN], SECONDS, TwistSearch())
    sigma = found.joint_sigma(BODY.num_joints)
    assert bool(torch.isfinite(sigma[1, 1]))
    assert int(torch.isfinite(sigma).sum()) == int(found.is_decided.sum())


def test_a_frame_goes_back_to_its_input_with_the_turn_that_was_decided() -> None:
    start, right = wrong_in(1, THIGH, 50.0), TRUE
    poses = torch.cat([start.global_orient[:, None], start.body_pose], 1).numpy()
    sequence = PoseSequence(poses=poses, trans=start.transl.numpy(), betas=start.betas[0].numpy())
    turns = torch.zeros(FRAMES, len(SEGMENTS))
    turns[1, THIGH] = math.radians(-50.0)
    part = Part.begin(torch.arange(FRAMES), start, start).turned(BODY, turns)
    given, parameters = turned_input(sequence, start, [part], BODY)
    apart = [
        (pose_body(BODY, one).vertices - pose_body(BODY, right).vertices).norm(dim=-1).max()
        for one in (parameters, part.parameters, part.reference, part.expectation.reference)
    ]
    assert max(apart) < 1e-4
    others = [0, 2, 3, 4]
    assert np.array_equal(given.poses[others], poses[others])
    assert not np.array_equal(given.poses[1], poses[1])
