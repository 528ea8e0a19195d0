# SPDX-License-Identifier: Apache-2.0
"""Which frames paint a frame's texture, and painting from footage on disk."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from posefit.body import pose_body
from posefit.footage import open_footage
from posefit.modalities import render_modalities
from posefit.parameters import parameters_of_sequence
from posefit.texture import TextureError, uv_hash
from posefit.texture_clip import (
    Source,
    choose_sources,
    circumstances_of,
    paint_from_views,
    paint_texture,
    source_weights,
)
from posefit.views import View, view_of_sequence
from posefit_shared.sequence import Sequence

FRAMES = 12
SIZE = (160, 160)


def turning_sequence(frames: int = FRAMES, fps: float = 10.0) -> Sequence:
    """The body upright in a z-up world, turning by half a circle, one picture every 1/fps s."""
    poses = np.zeros((frames, 24, 3), np.float32)
    for t in range(frames):
        upright = cv2.Rodrigues(np.array([math.pi / 2, 0, 0]))[0]
        turn = cv2.Rodrigues(np.array([0, 0, math.pi * t / frames]))[0]
        poses[t, 0] = cv2.Rodrigues(turn @ upright)[0][:, 0]
    poses[:, 16, 2] = -0.9
    look_along_y = np.array([[1.0, 0, 0, 0], [0, 0, -1, -0.1], [0, 1, 0, 3.2], [0, 0, 0, 1]])
    return Sequence(
        poses=poses,
        trans=np.zeros((frames, 3), np.float32),
        betas=np.zeros(10, np.float32),
        mocap_framerate=fps,
        intrinsics=np.array([[230.0, 0, 80], [0, 230, 80], [0, 0, 1]]),
        world_to_camera=look_along_y,
        image_size=SIZE,
    )


def halves_map() -> torch.Tensor:
    """(1, 4, 64, 64) red in the left half of the map, blue in the right."""
    texture = torch.zeros(1, 4, 64, 64)
    texture[:, 3] = 1
    texture[:, 0, :, :32] = 0.8
    texture[:, 2, :, 32:] = 0.8
    return texture


@pytest.fixture(scope="module")
def filmed(free_body, tmp_path_factory):
    """A sequence and a view of it, the footage being rendered pictures."""
    folder = tmp_path_factory.mktemp("footage")
    sequence = turning_sequence()
    parameters = parameters_of_sequence(sequence, free_body)
    count = (FRAMES, -1, -1)
    shown, _ = render_modalities(
        free_body,
        pose_body(free_body, parameters).vertices,
        torch.tensor(sequence.world_to_camera, dtype=torch.float32).expand(count),
        torch.tensor(sequence.intrinsics, dtype=torch.float32).expand(count),
        SIZE,
        texture=halves_map(),
    )
    ground = torch.tensor([0.2, 0.6, 0.2])[:, None, None]
    pictures = (shown.rgb * shown.mask + ground * (1 - shown.mask)).permute(0, 2, 3, 1)
    for t, picture in enumerate(pictures.numpy()):
        rgb = (picture * 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{t:03d}.png"), rgb[..., ::-1])
    return sequence, view_of_sequence(sequence, open_footage(folder))


def test_frames_near_in_time_never_paint_whatever_the_view(free_body, filmed):
    sequence, view = filmed
    parameters = parameters_of_sequence(sequence, free_body)
    circumstances = circumstances_of(sequence, [view, view], parameters)
    sources = [Source(k, t) for k in (0, 1) for t in range(FRAMES)]
    weights = source_weights(circumstances, 5, sources, 0.25).reshape(2, FRAMES)
    assert (weights[:, 3:8] == 0).all()  # 0.1 s a frame
    assert (weights[:, :3] > 0).all()
    assert (weights[:, 8:] > 0).all()
    # even without an interval a frame never paints itself
    alone = source_weights(circumstances, 5, sources, 0.0).reshape(2, FRAMES)
    assert (alone[:, 5] == 0).all()
    assert (alone[:, 6] > 0).all()


def test_sources_seen_from_elsewhere_count_more(free_body, filmed):
    sequence, view = filmed
    parameters = parameters_of_sequence(sequence, free_body)
    circumstances = circumstances_of(sequence, [view], parameters)
    sources = [Source(0, t) for t in range(FRAMES)]
    weights = source_weights(circumstances, 0, sources, 0.1)
    assert (weights[2:].diff() >= 0).all()
    assert weights[-1] > 2 * weights[1]


def test_sources_are_few_different_and_have_a_picture(free_body, filmed):
    sequence, view = filmed
    parameters = parameters_of_sequence(sequence, free_body)
    indices = view.frame_indices.copy()
    indices[::2] = -1
    holes = View("holes", view.footage, indices, view.cameras)
    circumstances = circumstances_of(sequence, [view, holes], parameters)
    sources = choose_sources([view, holes], circumstances, 6)
    assert len(set(sources)) == 6
    assert all((view, holes)[source.view].has_picture(source.frame) for source in sources)
    frames = sorted(source.frame for source in sources)
    assert frames[0] <= 1
    assert frames[-1] >= FRAMES - 2
    assert len(choose_sources([view], circumstances, 100)) == FRAMES


def test_a_clip_paints_the_person_in_its_own_colours(free_body, filmed):
    sequence, view = filmed
    texture = paint_texture(sequence, [view], free_body, texture_size=64)
    assert texture.uv_hash == uv_hash(free_body)
    known = texture.coverage > 0.5
    assert known.float().mean() > 0.15
    expected = halves_map()[0, :3].permute(1, 2, 0)
    error = (texture.rgb - expected).abs().amax(-1)
    assert (error[known] < 0.12).float().mean() > 0.85


def test_each_frame_gets_a_map_of_its_own_and_the_same_one_again(free_body, filmed):
    sequence, view = filmed
    maps = paint_from_views(sequence, [view], free_body, texture_size=64)
    found = maps([2, 9])
    assert found.shape == (2, 4, 64, 64)
    assert not torch.equal(found[0], found[1])
    assert torch.equal(maps([9])[0], found[1])
    # what frame 2 alone shows is missing from its own map
    assert (found[0, 3] > 0.3).float().mean() > 0.05


def test_a_clip_shorter_than_the_interval_has_a_map_that_knows_nothing(free_body, filmed):
    sequence, view = filmed
    maps = paint_from_views(sequence, [view], free_body, texture_size=64, exclusion_seconds=5.0)
    assert (maps([0])[0, 3] == 0).all()


def test_a_person_out_of_the_picture_is_said_or_left_unpainted(free_body, filmed):
    sequence, view = filmed
    away = sequence.replace(trans=sequence.trans + np.array([50, 0, 0], np.float32))
    assert paint_from_views(away, [view], free_body)([0]) is None
    with pytest.raises(TextureError, match="no frame shows the person"):
        paint_texture(away, [view], free_body, texture_size=64)


def test_painting_can_be_cancelled(free_body, filmed):
    sequence, view = filmed

    class StoppedError(Exception):
        pass

    def stop() -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        paint_from_views(sequence, [view], free_body, check_cancelled=stop)
