# SPDX-License-Identifier: Apache-2.0
"""How fast poses are solved: our Levenberg–Marquardt against Adam through autograd.

    python benchmarks/solver.py [--device cuda] [--batch 1 64] [--output solver.json]

Every method minimises the same energy from the same start: 1 500 vertices seen with 1 px noise,
a Geman–McClure kernel and nearness to the start; the shape is fixed, and the start 12° off in
every joint. Adam stops at the first step whose error (mean distance of all vertices, pelvis on
pelvis, median over the batch) is no larger than LM's, or after --steps. Its learning rate is the
best of three. Finding out the error is not timed. Where smplx is installed (it is under a
non-commercial licence, and only measured here), Adam also runs through its forward.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from posefit.body import (
    BodyModel,
    PoseParameters,
    axis_angle_to_matrix,
    load_body,
    matrix_to_axis_angle,
    pose_body,
    pose_vertices,
)
from posefit.solver import SolverConfig, SurfacePoints, solve
from posefit.solver.priors import reference_sigmas

NOISE_RAD = math.radians(12.0)
LEARNING_RATES = (0.005, 0.01, 0.02)
SCALE_PX = 1.0


@dataclass(frozen=True)
class Scene:
    """True poses, a start, and what was seen of the truth."""

    body: BodyModel
    true: PoseParameters
    start: PoseParameters
    evidence: SurfacePoints
    config: SolverConfig

    def error_mm(self, parameters: PoseParameters) -> float:
        """Median over the batch of the mean vertex distance, pelvis on pelvis."""
        with torch.no_grad():
            found, true = pose_body(self.body, parameters), pose_body(self.body, self.true)
            offset = found.joints[:, :1] - true.joints[:, :1]
            distance = (found.vertices - offset - true.vertices).norm(dim=-1).mean(1)
        return 1e3 * float(distance.median())


@dataclass(frozen=True)
class Result:
    """One method on one scene."""

    method: str
    batch: int
    steps: int
    milliseconds: float
    """Of the whole batch; median of the repetitions."""
    milliseconds_a_frame: float
    error_mm: float
    times_slower: float = 1.0
    reached: bool = True
    """The method got to LM's error before it ran out of steps."""


def make_scene(body: BodyModel, batch: int, points: int, seed: int = 0) -> Scene:
    """Random poses 3 m before a 500 px camera; starts 12° off, 3 cm off in translation."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(body.device)

    per_axis = NOISE_RAD / math.sqrt(3.0)
    upright = torch.tensor([math.pi, 0.0, 0.0], device=body.device)
    ahead = torch.tensor([0.0, 0.0, 3.0], device=body.device)
    true = PoseParameters(
        betas=0.5 * normal(batch, 10),
        global_orient=upright + 0.2 * normal(batch, 3),
        body_pose=0.2 * normal(batch, 23, 3),
        transl=ahead + 0.1 * normal(batch, 3),
    )
    start = PoseParameters(
        betas=true.betas,
        global_orient=true.global_orient + per_axis * normal(batch, 3),
        body_pose=true.body_pose + per_axis * normal(batch, 23, 3),
        transl=true.transl + 0.03 * normal(batch, 3),
    )
    indices = torch.randint(0, body.num_vertices, (points,), generator=generator).to(body.device)
    intrinsics = torch.tensor([[500.0, 0, 128], [0, 500, 128], [0, 0, 1]], device=body.device)
    seen = pose_vertices(body, true, indices) @ intrinsics.T
    pixels = seen[..., :2] / seen[..., 2:]
    evidence = SurfacePoints(
        vertex_indices=indices,
        targets=pixels + SCALE_PX * normal(batch, points, 2),
        weights=torch.ones(batch, points, device=body.device),
        scales=torch.full((batch, points), SCALE_PX, device=body.device),
        intrinsics=intrinsics.expand(batch, 3, 3),
        world_to_camera=torch.eye(4, device=body.device).expand(batch, 4, 4),
    )
    # Errors are independent here, so every point may count for itself.
    config = SolverConfig(shape="fixed", limit_weight=0.0, effective_points=float(points))
    return Scene(body, true, start, evidence, config)


Forward = Callable[[PoseParameters], tuple[Tensor, Tensor]]


def plain_energy(scene: Scene) -> Callable[[Forward, PoseParameters], Tensor]:
    """The solver's energy written for autograd; the sum over the batch."""
    config, evidence, start = scene.config, scene.evidence, scene.start
    sigmas = torch.tensor(reference_sigmas(scene.body.joint_names), device=scene.body.device)
    start_rotations = _rotations(start)
    start_pelvis = pose_body(scene.body, start).joints[:, 0]
    distance = start_pelvis.norm(dim=-1, keepdim=True)
    ray = start_pelvis / distance
    robust = config.robust_scale_factor * SCALE_PX + config.robust_scale_offset_px
    variance = SCALE_PX**2 + config.scale_floor_px**2
    intrinsics = evidence.intrinsics[0]

    def energy(forward: Forward, parameters: PoseParameters) -> Tensor:
        points, pelvis = forward(parameters)
        image = points @ intrinsics.T
        squared = (image[..., :2] / image[..., 2:] - evidence.targets).square().sum(-1)
        data = (squared / (1.0 + squared / robust**2)).sum() / variance
        turned = matrix_to_axis_angle(_rotations(parameters) @ start_rotations.transpose(-1, -2))
        near = (turned / sigmas[:, None]).square().sum()
        offset = (pelvis - start_pelvis) / distance
        along = (offset * ray).sum(-1, keepdim=True)
        across = offset - along * ray
        placed = (along / config.depth_sigma_fraction).square().sum()
        return data + near + placed + (across / config.lateral_sigma_fraction).square().sum()

    return energy


def _rotations(parameters: PoseParameters) -> Tensor:
    return axis_angle_to_matrix(
        torch.cat([parameters.global_orient[:, None], parameters.body_pose], 1)
    )


def our_forward(scene: Scene) -> Forward:
    """All vertices through our own skinning, then the points."""

    def forward(parameters: PoseParameters) -> tuple[Tensor, Tensor]:
        posed = pose_body(scene.body, parameters)
        return posed.vertices[:, scene.evidence.vertex_indices], posed.joints[:, 0]

    return forward


def our_sparse_forward(scene: Scene) -> Forward:
    """Only the points through our own skinning: the best that autograd can be given here."""
    template, dirs = scene.body.joint_template[0], scene.body.joint_shapedirs[0]

    def forward(parameters: PoseParameters) -> tuple[Tensor, Tensor]:
        points = pose_vertices(scene.body, parameters, scene.evidence.vertex_indices)
        return points, template + parameters.betas @ dirs.T + parameters.transl

    return forward


def smplx_model(body: BodyModel, batch: int):
    """smplx with the free body in it."""
    import smplx
    from smplx.utils import Struct
    from smplx.vertex_ids import vertex_ids

    from posefit_shared.body_files import read_body

    arrays = read_body("free")
    tree = [[max(int(parent), 0) for parent in arrays.parents], list(range(len(arrays.parents)))]
    return smplx.SMPL(
        "",
        data_struct=Struct(
            v_template=arrays.v_template, f=arrays.faces, shapedirs=arrays.shapedirs,
            posedirs=arrays.posedirs, J_regressor=arrays.J_regressor,
            weights=arrays.lbs_weights, kintree_table=torch.tensor(tree).numpy(),
        ),
        vertex_ids={name: 0 for name in vertex_ids["smplh"]},
        batch_size=batch,
    ).to(body.device)  # fmt: skip


def smplx_forward(scene: Scene) -> Forward:
    """All vertices through smplx, on the same body."""
    model = smplx_model(scene.body, len(scene.start))

    def forward(parameters: PoseParameters) -> tuple[Tensor, Tensor]:
        output = model(
            betas=parameters.betas,
            global_orient=parameters.global_orient,
            body_pose=parameters.body_pose.flatten(1),
            transl=parameters.transl,
        )
        return output.vertices[:, scene.evidence.vertex_indices], output.joints[:, 0]

    return forward


def run_adam(
    scene: Scene, forward: Forward, rate: float, steps: int, target_mm: float
) -> tuple[float, int, float]:
    """Seconds and steps until the target error, and the error reached; checks are not timed."""
    energy = plain_energy(scene)
    free = {
        name: getattr(scene.start, name).clone().requires_grad_()
        for name in ("global_orient", "body_pose", "transl")
    }
    optimiser = torch.optim.Adam(free.values(), lr=rate)
    parameters = replace(scene.start, **free)
    spent, error = 0.0, scene.error_mm(parameters)
    for step in range(1, steps + 1):
        began = _now(scene)
        optimiser.zero_grad(set_to_none=True)
        energy(forward, parameters).backward()
        optimiser.step()
        spent += _now(scene) - began
        if step % 5 == 0 or step < 5:
            error = scene.error_mm(parameters)
            if error <= target_mm:
                return spent, step, error
    return spent, steps, error


def _now(scene: Scene) -> float:
    if scene.body.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def time_solver(scene: Scene, repetitions: int) -> Result:
    """Our solver until it says that it has converged."""

    def once():
        return solve(scene.body, scene.start, [scene.evidence], scene.config, reference=scene.start)

    solution, spent = once(), []
    for _ in range(repetitions):
        began = _now(scene)
        solution = once()
        spent.append(1e3 * (_now(scene) - began))
    batch, median = len(scene.start), statistics.median(spent)
    error = scene.error_mm(solution.parameters)
    return Result("lm", batch, solution.iterations, median, median / batch, error)


def time_adam(scene: Scene, name: str, forward: Forward, lm: Result, steps: int) -> Result:
    """Adam at its best learning rate: reaching the target counts first, then time."""
    run_adam(scene, forward, LEARNING_RATES[0], 3, 0.0)
    runs = [run_adam(scene, forward, rate, steps, lm.error_mm) for rate in LEARNING_RATES]
    spent, taken, error = min(runs, key=lambda run: (run[2] > lm.error_mm, run[0], run[2]))
    milliseconds = 1e3 * spent
    return Result(
        method=name,
        batch=lm.batch,
        steps=taken,
        milliseconds=milliseconds,
        milliseconds_a_frame=milliseconds / lm.batch,
        error_mm=error,
        times_slower=milliseconds / lm.milliseconds,
        reached=error <= lm.error_mm,
    )


def measure(body: BodyModel, batch: int, arguments: argparse.Namespace) -> list[Result]:
    """All methods on one batch size."""
    scene = make_scene(body, batch, arguments.points)
    lm = time_solver(scene, arguments.repetitions)
    results = [lm]
    forwards = {
        "adam, our skinning": our_forward,
        "adam, our skinning of the points alone": our_sparse_forward,
    }
    if find_spec("smplx"):
        forwards["adam, smplx"] = smplx_forward
    for name, make in forwards.items():
        results.append(time_adam(scene, name, make(scene), lm, arguments.steps))
    print(f"batch {batch}: start {scene.error_mm(scene.start):.1f} mm")
    for result in results:
        note = "" if result.reached else "  (never reached LM's error)"
        print(
            f"  {result.method:<40}{result.milliseconds_a_frame:10.2f} ms/frame "
            f"{result.steps:5d} steps {result.error_mm:7.2f} mm {result.times_slower:8.1f}x{note}"
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, nargs="+", default=None)
    parser.add_argument("--points", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=600, help="most Adam steps")
    parser.add_argument("--repetitions", type=int, default=20, help="of our solver")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    body = load_body("free", arguments.device)
    on_gpu = arguments.device.startswith("cuda")
    batches = arguments.batch or ([1, 64, 1024] if on_gpu else [1, 8])
    results = [result for batch in batches for result in measure(body, batch, arguments)]
    if arguments.output:
        device = torch.cuda.get_device_name() if on_gpu else platform.processor() or "cpu"
        report = {
            "device": device,
            "torch": torch.__version__,
            "threads": arguments.threads,
            "points": arguments.points,
            "results": [asdict(result) for result in results],
        }
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
