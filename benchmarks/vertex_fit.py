# SPDX-License-Identifier: Apache-2.0
"""Pose, shape and place from points in space whose places on the body are known: ours and a peer's.

    pip install smplfitter
    python benchmarks/vertex_fit.py [--device cuda] [--batch 1 64] [--output vertex_fit.json]

smplfitter (MIT) solves this subproblem alone, in closed steps and from no start: all vertices in
space in, SMPL out. Ours is the general solver with those vertices as positions, from the rest pose
turned and put where the points are (Procrustes over all of them). Both get the same vertices of the
free body with the same noise and find pose, shape and translation; error is the mean distance of
all true vertices from those found, median over the batch.
"""

from __future__ import annotations

import argparse
import json
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from posefit.body import BodyModel, PoseParameters, load_body, matrix_to_axis_angle, pose_body
from posefit.solver import LandmarkPositions, LandmarkTable, SolverConfig, solve
from posefit_shared.body_files import read_body

SHAPE_WEIGHT = 1.0
"""smplfitter's own default for the betas' regulariser."""


@dataclass(frozen=True)
class Scene:
    """True bodies, and their vertices with noise."""

    body: BodyModel
    true: PoseParameters
    chosen: Tensor
    """(N,) vertices that are seen."""
    seen: Tensor
    """(B, N, 3) metres."""
    seen_joints: Tensor
    """(B, J, 3) metres; the peer is told of them, ours is not."""
    sigma_m: float

    def error_mm(self, vertices: Tensor) -> float:
        """Median over the batch of the mean distance of all vertices."""
        true = pose_body(self.body, self.true).vertices
        return 1e3 * float((vertices - true).norm(dim=-1).mean(1).median())


@dataclass(frozen=True)
class Result:
    """One method on one scene."""

    method: str
    batch: int
    points: int
    milliseconds_a_frame: float
    """Median of the repetitions."""
    error_mm: float


def make_scene(body: BodyModel, batch: int, points: int, sigma_m: float, seed: int = 0) -> Scene:
    """Bodies in random poses, shapes and places."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(body.device)

    true = PoseParameters(
        betas=normal(batch, 10), global_orient=normal(batch, 3),
        body_pose=0.25 * normal(batch, 23, 3), transl=normal(batch, 3),
    )  # fmt: skip
    chosen = torch.randperm(body.num_vertices, generator=generator)[:points].sort().values
    posed = pose_body(body, true)
    seen = posed.vertices[:, chosen.to(body.device)]
    joints = posed.joints + sigma_m * normal(*posed.joints.shape)
    return Scene(body, true, chosen, seen + sigma_m * normal(*seen.shape), joints, sigma_m)


def our_way(scene: Scene) -> Callable[[], Tensor]:
    """The general solver, the points as positions in space."""
    names = tuple(f"vertex {int(k)}" for k in scene.chosen)
    body = replace(scene.body, landmarks=dict(zip(names, scene.chosen.tolist(), strict=True)))
    table = LandmarkTable(names, tuple(({name: 1.0},) for name in names))
    ones = torch.ones(scene.seen.shape[:2], device=body.device)
    evidence = LandmarkPositions(table, scene.seen, ones, scene.sigma_m * ones)
    config = SolverConfig(
        shape="frame", limit_weight=0.0, pose_prior_weight=0.0, reference_weight=0.0,
        max_iterations=30,
    )  # fmt: skip
    batch = len(scene.seen)
    rest = PoseParameters(
        betas=scene.seen.new_zeros(batch, 10),
        global_orient=scene.seen.new_zeros(batch, 3),
        body_pose=scene.seen.new_zeros(batch, 23, 3),
        transl=scene.seen.new_zeros(batch, 3),
    )
    template = pose_body(body, rest)
    source = template.vertices[:, scene.chosen.to(body.device)]
    pelvis = template.joints[:, 0]

    def solved() -> Tensor:
        turn, shift = procrustes(source, scene.seen)
        placed = (turn @ pelvis[..., None])[..., 0] + shift - pelvis
        start = replace(rest, global_orient=matrix_to_axis_angle(turn), transl=placed)
        found = solve(body, start, [evidence], config).parameters
        return pose_body(body, found).vertices

    return solved


def procrustes(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations (B, 3, 3) and shifts (B, 3) that best lay points (B, N, 3) on others."""
    middle, aim = source.mean(1, keepdim=True), target.mean(1, keepdim=True)
    u, _, vt = torch.linalg.svd((target - aim).mT @ (source - middle))
    mirrored = torch.linalg.det(u @ vt).sign()
    ones = torch.ones_like(mirrored)
    turn = u @ torch.diag_embed(torch.stack([ones, ones, mirrored], -1)) @ vt
    return turn, (aim - middle @ turn.mT)[:, 0]


def peers_way(scene: Scene, iterations: int) -> Callable[[], Tensor]:
    """smplfitter, with the free body in place of SMPL."""
    from smplfitter.pt import BodyFitter
    from smplfitter.pt import BodyModel as PeersModel

    arrays = read_body("free")
    parents = np.maximum(np.asarray(arrays.parents), 0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        data = {
            "v_template": arrays.v_template, "shapedirs": arrays.shapedirs,
            "posedirs": arrays.posedirs, "J_regressor": np.asarray(arrays.J_regressor),
            "weights": arrays.lbs_weights, "f": arrays.faces,
            "kintree_table": np.stack([parents, np.arange(len(parents))]),
        }  # fmt: skip
        with (path / "basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl").open("wb") as handle:
            pickle.dump(data, handle)
        np.save(path / "kid_template.npy", np.zeros_like(arrays.v_template))
        regressor = np.asarray(arrays.J_regressor)
        options = {"model_root": str(path), "num_betas": 10}
        whole = PeersModel("smpl", "neutral", **options).to(scene.body.device)
        chosen = scene.chosen.numpy()
        subset = PeersModel(
            "smpl", "neutral", vertex_subset=chosen, faces=arrays.faces[:1],
            joint_regressor_post_lbs=regressor[:, chosen], **options,
        ).to(scene.body.device)  # fmt: skip
    fitter = BodyFitter(subset).to(scene.body.device)
    keys = ["pose_rotvecs", "shape_betas", "trans"]

    def fitted() -> Tensor:
        found = fitter.fit(
            scene.seen, scene.seen_joints, num_iter=iterations,
            beta_regularizer=SHAPE_WEIGHT, requested_keys=keys,
        )  # fmt: skip
        return whole(
            pose_rotvecs=found["pose_rotvecs"], shape_betas=found["shape_betas"],
            trans=found["trans"],
        )["vertices"]  # fmt: skip

    return fitted


def time_way(name: str, scene: Scene, way: Callable[[], Tensor], repetitions: int) -> Result:
    """A method, once to warm up and then so often."""
    with torch.no_grad():
        vertices, spent = way(), []
        for _ in range(repetitions):
            began = _now(scene)
            vertices = way()
            spent.append(1e3 * (_now(scene) - began))
    batch, points = scene.seen.shape[:2]
    return Result(name, batch, points, statistics.median(spent) / batch, scene.error_mm(vertices))


def _now(scene: Scene) -> float:
    if scene.body.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--points", type=int, nargs="+", default=[1024])
    parser.add_argument("--noise-mm", type=float, default=5.0)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    body, results = load_body("free", torch.device(arguments.device)), []
    for points in arguments.points:
        for batch in arguments.batch:
            scene = make_scene(body, batch, points, arguments.noise_mm / 1e3)
            ways = {"ours": our_way(scene)}
            for iterations in (1, 3, 8):
                ways[f"smplfitter, {iterations} iterations"] = peers_way(scene, iterations)
            for name, way in ways.items():
                result = time_way(name, scene, way, arguments.repetitions)
                results.append(result)
                print(
                    f"{points} points, batch {batch}: {name:<26}"
                    f"{result.milliseconds_a_frame:9.2f} ms/frame {result.error_mm:7.2f} mm"
                )
    if arguments.output:
        report = {
            "device": arguments.device, "torch": torch.__version__,
            "threads": torch.get_num_threads(), "noise_mm": arguments.noise_mm,
            "results": [asdict(result) for result in results],
        }  # fmt: skip
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
