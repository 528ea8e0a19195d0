# SPDX-License-Identifier: Apache-2.0
"""The banded factorisation and the smoothness blocks, against dense matrices."""

import pytest
import torch

from posefit.solver.banded import BandedMatrix, factorise, multiply, substitute
from posefit.solver.cyclic_reduction import solve_by_cyclic_reduction
from posefit.solver.smoothness import (
    local_acceleration,
    second_differences,
    smoothness_band,
)


def dense(matrix):
    """The whole symmetric matrix of a BandedMatrix."""
    frames, size = matrix.diagonal.shape[:2]
    whole = torch.zeros(frames, frames, size, size, dtype=matrix.diagonal.dtype)
    for frame in range(frames):
        whole[frame, frame] = matrix.diagonal[frame]
        for by, blocks in ((1, matrix.next_frame), (2, matrix.second_frame)):
            if frame + by < frames:
                whole[frame, frame + by] = blocks[frame]
                whole[frame + by, frame] = blocks[frame].T
    return whole.permute(0, 2, 1, 3).reshape(frames * size, frames * size)


def random_system(frames, size=5, rows=40):
    """A positive definite pentadiagonal system: smoothness of random coordinates, plus a ridge."""
    generator = torch.Generator().manual_seed(frames)
    jacobian = torch.randn(frames, size, rows * 3, generator=generator, dtype=torch.float64)
    positions = torch.randn(frames, rows * 3, generator=generator, dtype=torch.float64)
    times = torch.rand(frames, generator=generator, dtype=torch.float64).add(0.2).cumsum(0)
    sigma = 2.0 + torch.rand(frames, rows, generator=generator, dtype=torch.float64)
    band = smoothness_band(
        positions, jacobian, second_differences(times), weight=0.7, sigma=sigma, robust_factor=2.0
    )
    ridge = torch.eye(size, dtype=torch.float64)
    return (
        positions,
        jacobian,
        times,
        sigma,
        band,
        BandedMatrix(band.diagonal + ridge, band.next_frame, band.second_frame),
    )


@pytest.mark.parametrize("frames", [1, 2, 3, 7])
def test_the_banded_solution_is_the_dense_one(frames):
    *_, matrix = random_system(frames)
    right = torch.randn(frames, 5, 3, dtype=torch.float64)
    solution = substitute(factorise(matrix), right)
    expected = torch.linalg.solve(dense(matrix), right.reshape(frames * 5, 3))
    torch.testing.assert_close(solution.reshape(frames * 5, 3), expected)
    vector = right[..., 0]
    torch.testing.assert_close(multiply(matrix, vector).flatten(), dense(matrix) @ vector.flatten())


def test_a_singular_frame_is_named_and_nothing_is_raised():
    *_, matrix = random_system(4)
    broken = matrix.diagonal.clone()
    broken[2] = -1.0
    for next_frame, second in ((matrix.next_frame, matrix.second_frame), (None, None)):
        factor = factorise(BandedMatrix(broken, next_frame, second))
        assert not factor.is_definite[2]
        assert factor.is_definite[:2].all()


def test_the_smoothness_blocks_are_those_of_the_whole_penalty():
    positions, jacobian, times, sigma, band, _ = random_system(6)
    frames, size, rows = jacobian.shape
    coefficients = second_differences(times)
    residuals, whole = [], []
    for t in range(1, frames - 1):
        weights = coefficients[t]
        acceleration = sum(w * positions[t + k - 1] for k, w in enumerate(weights))
        acceleration = acceleration / sigma[t].repeat(3)
        squared = acceleration.unflatten(0, (3, -1)).square().sum(0)
        root = ((1 + squared / 4.0) ** -1).repeat(3) * (0.7 / 4) ** 0.5
        block = torch.zeros(frames, size, rows, dtype=torch.float64)
        for k, w in enumerate(weights):
            block[t + k - 1] = w * jacobian[t + k - 1] / sigma[t].repeat(3)
        residuals.append(acceleration * root)
        whole.append((block * root).flatten(0, 1))
    stacked, residual = torch.cat(whole, 1), torch.cat(residuals)
    blocks = BandedMatrix(band.diagonal, band.next_frame, band.second_frame)
    torch.testing.assert_close(dense(blocks), stacked @ stacked.T)
    torch.testing.assert_close(band.gradient.flatten(), stacked @ residual)


def test_uniform_motion_has_no_acceleration_whatever_the_frame_times():
    times = torch.tensor([0.0, 0.1, 0.15, 0.4, 0.41], dtype=torch.float64)
    positions = times * 3.0 + 1.0
    coefficients = second_differences(times)
    windows = positions.unfold(0, 3, 1)
    torch.testing.assert_close((coefficients[1:-1] * windows).sum(-1), torch.zeros(3).double())
    parabola = (times**2).unfold(0, 3, 1)
    torch.testing.assert_close(
        (coefficients[1:-1] * parabola).sum(-1), torch.full((3,), 2.0).double()
    )


def test_local_acceleration_sees_a_swing_and_overlooks_jitter():
    times = torch.arange(90, dtype=torch.float64) / 30.0
    omega = 2 * torch.pi * 2.0
    swing = torch.sin(omega * times)[:, None] * torch.tensor([[0.3, 0.0, 0.0]])
    seen = local_acceleration(swing.double(), times, 0.1)
    largest = 0.3 * omega**2
    assert 0.5 * largest < seen.mean() < largest
    generator = torch.Generator().manual_seed(0)
    jitter = 0.02 * torch.randn(90, 3, generator=generator, dtype=torch.float64)
    neighbours = jitter.diff(n=2, dim=0).norm(dim=-1).mean() * 30.0**2
    assert local_acceleration(jitter, times, 0.1).mean() < 0.15 * neighbours


def test_local_acceleration_is_exact_for_a_parabola_whatever_the_frame_times():
    generator = torch.Generator().manual_seed(1)
    times = torch.rand(40, generator=generator, dtype=torch.float64).add(0.05).cumsum(0)
    positions = times[:, None].square() * torch.tensor([[1.0, 2.0, 2.0]])
    seen = local_acceleration(positions.double(), times, 0.3)
    torch.testing.assert_close(seen, torch.full((40, 1), 6.0).double())


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_local_acceleration_of_hardly_any_frames_is_finite(frames):
    times = torch.arange(frames, dtype=torch.float64)
    assert local_acceleration(torch.ones(frames, 6), times, 0.1).shape == (frames, 2)


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 13])
def test_cyclic_reduction_gives_the_dense_solution(frames):
    *_, matrix = random_system(frames)
    right = torch.randn(frames, 5, 3, dtype=torch.float64)
    solution, is_definite = solve_by_cyclic_reduction(
        matrix.diagonal, matrix.next_frame, matrix.second_frame, right
    )
    expected = torch.linalg.solve(dense(matrix), right.reshape(frames * 5, 3))
    assert is_definite
    torch.testing.assert_close(solution.reshape(frames * 5, 3), expected)
    broken = matrix.diagonal.clone()
    broken[frames // 2] = -1.0
    _, is_definite = solve_by_cyclic_reduction(
        broken, matrix.next_frame, matrix.second_frame, right
    )
    assert not is_definite
