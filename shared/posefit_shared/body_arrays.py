# SPDX-License-Identifier: Apache-2.0
"""A body model's arrays, checked for shape, range and meaning when they are made."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from . import skeleton
from .slices import to_end

__all__ = ["BodyArrays", "BodyFileError", "default_joint_names", "hashing"]

_MAX_VERTICES = 200_000
_MAX_JOINTS = 256
_HASHED_BETAS = 10
_WEIGHT_SUM_TOLERANCE = 0.02
_HASH = "_content_hash"
_HASHED_AT_ONCE = 1 << 21
"""Bytes between two pauses: some milliseconds."""


class BodyFileError(ValueError):
    """The body file cannot be used; the message says what was found and what was expected."""


@dataclass(frozen=True)
class BodyArrays:
    """One body model's arrays, float32 and int32, y up, metres; checked when made."""

    v_template: npt.NDArray[np.float32]
    """(V, 3) mean body at rest."""
    faces: npt.NDArray[np.int32]
    """(F, 3) triangles, counter-clockwise from outside."""
    shapedirs: npt.NDArray[np.float32]
    """(V, 3, N) displacement by one unit of each shape coefficient."""
    posedirs: npt.NDArray[np.float32]
    """(V, 3, 9·(J − 1)) displacement by each entry of `rotation − identity`, row by row."""
    J_regressor: npt.NDArray[np.float32]
    """(J, V) joints from rest vertices; dense."""
    lbs_weights: npt.NDArray[np.float32]
    """(V, J) share of each joint in each vertex; rows sum to one."""
    parents: npt.NDArray[np.int32]
    """(J,) parent of each joint, smaller than the joint's own index; −1 for the root."""
    vt: npt.NDArray[np.float32] | None = None
    """(U, 2) texture coordinates, v up; None when the file has none."""
    ft: npt.NDArray[np.int32] | None = None
    """(F, 3) texture coordinate of each face corner."""
    joint_names: tuple[str, ...] = ()
    """Names in joint order; the model type's own where the file names none."""
    landmarks: Mapping[str, int] = field(default_factory=dict)
    """Vertex of each named surface point: `nose`, `left_heel`, `right_index_tip`, …"""
    name: str = ""
    """`free`, or the file's name without its ending."""

    def __post_init__(self) -> None:
        _check_arrays(self)
        if not self.joint_names:
            object.__setattr__(self, "joint_names", default_joint_names(len(self.parents)))
        _check_extras(self)

    @property
    def content_hash(self) -> str:
        """sha256 of the geometry that gives `betas` their meaning, as hexadecimal digits.

        Over float32 template, faces, the first ten shape directions, pose directions, regressor,
        weights and parents, so that it is the same for an .npz and a .pkl of one body and for any
        number of coefficients read. Names, landmarks and texture coordinates do not count.
        """
        return to_end(hashing(self))

    @property
    def num_betas(self) -> int:
        """How many shape coefficients were read."""
        return self.shapedirs.shape[2]

    @property
    def num_joints(self) -> int:
        """How many joints are posed, root included."""
        return len(self.parents)


def default_joint_names(joint_count: int) -> tuple[str, ...]:
    """Joint names of the SMPL model with so many joints; numbered ones if there is none.

    Args:
        joint_count: joints posed, root included.

    Returns:
        One name a joint.
    """
    for names in skeleton.JOINT_NAMES.values():
        if len(names) == joint_count:
            return names
    return tuple(f"Joint{index}" for index in range(joint_count))


def _check_arrays(body: BodyArrays) -> None:
    vertex_count, joint_count = len(body.v_template), len(body.parents)
    if not (3 <= vertex_count <= _MAX_VERTICES and 2 <= joint_count <= _MAX_JOINTS):
        raise BodyFileError(
            f"body has {vertex_count} vertices and {joint_count} joints, expected 3 to "
            f"{_MAX_VERTICES} and 2 to {_MAX_JOINTS}"
        )
    expected: dict[str, tuple[int, ...]] = {
        "v_template": (vertex_count, 3),
        "shapedirs": (vertex_count, 3, body.shapedirs.shape[-1]),
        "posedirs": (vertex_count, 3, 9 * (joint_count - 1)),
        "J_regressor": (joint_count, vertex_count),
        "lbs_weights": (vertex_count, joint_count),
        "faces": (len(body.faces), 3),
        "parents": (joint_count,),
    }
    for name, shape in expected.items():
        array = getattr(body, name)
        if array.shape != shape or not array.size:
            raise BodyFileError(f"{name} is {array.shape}, expected {shape} and not empty")
        wanted = np.int32 if name in ("faces", "parents") else np.float32
        if array.dtype != wanted:
            raise BodyFileError(f"{name} has type {array.dtype}, expected {np.dtype(wanted)}")
        if not np.isfinite(array).all():
            raise BodyFileError(f"{name} holds values that are not finite; the file is damaged")
    _check_meaning(body)


def _check_meaning(body: BodyArrays) -> None:
    """What the shapes do not say: indices in range, a tree, weights that share out each vertex."""
    if body.faces.min() < 0 or body.faces.max() >= len(body.v_template):
        raise BodyFileError(
            f"faces name vertex {int(body.faces.max())}, expected 0 to {len(body.v_template) - 1}"
        )
    order = np.arange(len(body.parents))
    if body.parents[0] != -1 or (body.parents[1:] < 0).any() or (body.parents >= order).any():
        raise BodyFileError(
            "parents do not form a tree with joint 0 as its root and parents before children"
        )
    sums = body.lbs_weights.sum(axis=1)
    if body.lbs_weights.min() < -1e-4 or np.abs(sums - 1).max() > _WEIGHT_SUM_TOLERANCE:
        raise BodyFileError(
            f"skinning weights are negative or sum to {sums.min():.3f}…{sums.max():.3f} a vertex, "
            "expected 1"
        )
    extent = float(np.ptp(body.v_template, axis=0).max())
    if not 0.1 < extent < 10:
        raise BodyFileError(f"the body is {extent:.3g} m large, expected metres (0.1 to 10)")


def _check_extras(body: BodyArrays) -> None:
    if len(body.joint_names) != len(body.parents):
        raise BodyFileError(f"{len(body.joint_names)} joint names for {len(body.parents)} joints")
    for name, vertex in body.landmarks.items():
        if not 0 <= vertex < len(body.v_template):
            raise BodyFileError(f"landmark {name} is vertex {vertex}, which the body lacks")
    if (body.vt is None) != (body.ft is None):
        raise BodyFileError("vt and ft must both be there, or neither")
    if body.vt is None or body.ft is None:
        return
    is_paired = body.vt.ndim == 2 and body.vt.shape[1] == 2 and body.ft.shape == body.faces.shape
    if not is_paired or not np.isfinite(body.vt).all() or body.ft.max() >= len(body.vt):
        raise BodyFileError(
            f"vt {body.vt.shape} and ft {body.ft.shape} do not give each face corner a texture "
            "coordinate"
        )


def hashing(body: BodyArrays) -> Generator[None, None, str]:
    """A body's `content_hash`, worked out once and then kept; yields where it may pause."""
    if (known := body.__dict__.get(_HASH)) is not None:
        return known
    digest = hashlib.sha256(b"posefit body 1")
    arrays = (
        body.v_template,
        body.faces,
        body.shapedirs[:, :, :_HASHED_BETAS],
        body.posedirs,
        body.J_regressor,
        body.lbs_weights,
        body.parents,
    )
    for array in arrays:
        digest.update(str(array.shape).encode())
        rows = max(1, _HASHED_AT_ONCE * len(array) // max(array.nbytes, 1))
        for start in range(0, len(array), rows):
            part = array[start : start + rows]
            digest.update(np.ascontiguousarray(part, dtype=array.dtype.newbyteorder("<")).data)
            yield
    object.__setattr__(body, _HASH, digest.hexdigest())
    return body.__dict__[_HASH]
