# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bones are SMPL's, in which rest frame, and what their rotations mean (numpy only).

Frames: *armature* is the armature object's own space, *world* is Blender's, *SMPL* is the body's
rest space (y up, looks along +z). A bone's rest matrix R (`bone.matrix_local`) and posed matrix P
(`pose_bone.matrix`) are 4x4 in armature space. With O the armature's matrix in the world and S the
rotation of SMPL's rest space into armature space, joint j's global SMPL rotation is

    G_j = O · P_j · R_j⁻¹ · S          (rotation parts)

so neither the bones' rolls nor the object's transform matter. Every array has frames first.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from posefit_shared import rotations, skeleton

from ..slices import chunks
from . import bone_rotations
from .rig_names import joint_keys, nearest_bones

Array = npt.NDArray[np.float64]

SNAP_DEGREES = 25.0
"""Rest frames nearer than this to whole quarter turns are taken to be exactly those."""


class SceneError(ValueError):
    """Something in the scene that stops the work, in words that the animator can act on."""


@dataclass(frozen=True)
class RigMatch:
    """The bones of an armature that are the joints of an SMPL model."""

    model_type: str
    """`smpl`, `smplh` or `smplx`."""
    bones: tuple[str, ...]
    """(J,) bone names in the model's joint order."""

    @property
    def parents(self) -> tuple[int, ...]:
        """(J,) parent joint of each joint, −1 for the root."""
        return skeleton.PARENTS[self.model_type]


def match_bones(bone_names: Iterable[str], given: Mapping[str, str] | None = None) -> RigMatch:
    """The SMPL model that an armature poses, and its bones in joint order.

    Args:
        bone_names: the armature's bones.
        given: bones that the artist chose, by joint (`left_hip`); they go before names.

    Raises:
        SceneError: some joints have no bone, or a bone is chosen that cannot be; the message names
            them.
    """
    names = tuple(bone_names)
    for joint, bone in (given or {}).items():
        if bone not in names:
            raise SceneError(
                f"the armature has no bone {bone}, which was chosen for {joint}: choose another "
                "one in Body > Bones"
            )
    model_type, bones = nearest_bones(names, given)
    lacking = [
        joint for joint, bone in zip(joint_keys(model_type), bones, strict=True) if bone is None
    ]
    if lacking:
        more = f" and {len(lacking) - 6} more" if len(lacking) > 6 else ""
        raise SceneError(
            f"the armature is no SMPL rig: no bones found for {', '.join(lacking[:6])}{more}; "
            "expected bones named like Pelvis, L_Hip, … or pelvis, left_hip, …: choose them in "
            "Body > Bones"
        )
    found = tuple(bone for bone in bones if bone is not None)
    twice = next((bone for bone in found if found.count(bone) > 1), None)
    if twice is not None:
        raise SceneError(
            f"bone {twice} is chosen for more than one joint: choose another one in Body > Bones"
        )
    return RigMatch(model_type, found)


def check_hierarchy(match: RigMatch, above: Mapping[str, str | None]) -> None:
    """Whether bones hang on each other as the joints of their model do.

    Args:
        match: the bones.
        above: the bone that each of them hangs on; none: nothing.

    Raises:
        SceneError: they do not.
    """
    for joint, parent in enumerate(match.parents):
        bone = match.bones[joint]
        if parent >= 0 and above[bone] != match.bones[parent]:
            raise SceneError(
                f"bone {bone} hangs on {above[bone] or 'nothing'}, expected "
                f"{match.bones[parent]}: the armature's hierarchy is not SMPL's"
            )


def find_rest_rotation(heads: npt.ArrayLike) -> Array:
    """S (3, 3): SMPL's rest axes in armature space, from where the rest joints lie.

    Args:
        heads: (J, 3) rest heads of the joints' bones, armature space.

    Returns:
        A rotation; exact quarter turns where the rig is within `SNAP_DEGREES` of one.

    Raises:
        SceneError: the joints lie in one point or on one line.
    """
    heads = np.asarray(heads, dtype=np.float64)
    left = heads[1] - heads[2] + heads[16] - heads[17]  # hips and shoulders
    up = heads[12] - heads[0]  # pelvis to neck
    up = up - left * (up @ left) / max(left @ left, 1e-30)
    lengths = np.linalg.norm(left), np.linalg.norm(up)
    if min(lengths) < 1e-9 * max(1.0, np.abs(heads).max()):
        raise SceneError(
            "the armature's rest pose is flat (hips, shoulders and neck lie on one line): "
            "expected a body with its arms to the sides"
        )
    x, y = left / lengths[0], up / lengths[1]
    rotation = np.stack([x, y, np.cross(x, y)], axis=-1)
    snapped = _nearest_quarter_turn(rotation)
    cosine = (np.trace(snapped.T @ rotation) - 1) / 2
    return snapped if cosine >= np.cos(np.radians(SNAP_DEGREES)) else rotation


def find_rest_scale(heads: npt.ArrayLike, expected_pelvis_to_neck: float = 0.5) -> float:
    """How many armature units one metre of the body is: a power of ten (1, 100, 0.01).

    Args:
        heads: (J, 3) rest heads of the joints' bones, armature space.
        expected_pelvis_to_neck: metres; an adult's, its spread is far below a factor of three.
    """
    heads = np.asarray(heads, dtype=np.float64)
    length = float(np.linalg.norm(heads[12] - heads[0]))
    if length <= 0:
        raise SceneError("the pelvis and neck bones start at one point: expected a rest pose")
    return float(10.0 ** np.round(np.log10(length / expected_pelvis_to_neck)))


def object_scale(object_matrix: npt.ArrayLike) -> float:
    """The one scale factor of an object's matrix (4, 4).

    Raises:
        SceneError: the scale is zero, mirrored, or differs between the axes.
    """
    linear = np.asarray(object_matrix, dtype=np.float64)[:3, :3]
    lengths = np.linalg.norm(linear, axis=0)
    if lengths.min() < 1e-8:
        raise SceneError("the armature's scale is zero: set it to 1 (Object > Clear > Scale)")
    if np.linalg.det(linear) < 0:
        raise SceneError("the armature is mirrored (negative scale): apply its scale first")
    skewed = np.abs((linear / lengths).T @ (linear / lengths) - np.eye(3)).max()
    if lengths.max() / lengths.min() > 1.001 or skewed > 1e-3:
        raise SceneError(
            f"the armature's scale differs by axis ({lengths[0]:.3g}, {lengths[1]:.3g}, "
            f"{lengths[2]:.3g}): apply its scale first (Object > Apply > Scale)"
        )
    return float(np.cbrt(np.linalg.det(linear)))


@dataclass(frozen=True)
class RigFrames:
    """An armature as numbers: its rest pose, and where it stands on the frames of a job.

    Holds nothing of Blender's, so that it may outlive the scene that it was read from.
    """

    match: RigMatch
    """Which bones are which joints."""
    rest: Array
    """(J, 4, 4) rest matrices R, armature space."""
    rest_axes: Array
    """(3, 3) S, SMPL's rest axes in armature space."""
    units_per_metre: float
    """Blender units in one metre of the body, object scale included."""
    rest_pelvis: Array
    """(3,) rest pelvis in SMPL's rest space, metres, for the body's shape."""
    scene_frames: tuple[int, ...]
    """(T,) Blender's frames."""
    object_matrices: Array
    """(T, 4, 4) O, the armature in the world."""
    above_root: Array
    """(T, 4, 4) P · R⁻¹ of the bone above the root; the identity without one."""


def frames_at(frames: RigFrames, rows: npt.NDArray[np.int64]) -> RigFrames:
    """The same armature at some of its frames: (N,) places among the T."""
    return replace(
        frames,
        scene_frames=tuple(frames.scene_frames[row] for row in rows.tolist()),
        object_matrices=frames.object_matrices[rows],
        above_root=frames.above_root[rows],
    )


def read_pose(frames: RigFrames, posed: npt.ArrayLike) -> tuple[Array, Array]:
    """SMPL's `poses` (T, J, 3) and `trans` (T, 3) of posed bones.

    Args:
        frames: the rig.
        posed: (T, J, 4, 4) P, armature space.
    """
    posed = np.asarray(posed, np.float64)
    turned = bone_rotations.global_rotations(
        posed, frames.rest, frames.object_matrices, frames.rest_axes
    )
    local = bone_rotations.local_rotations(turned, frames.match.parents)
    pelvis = (frames.object_matrices @ posed[:, 0])[:, :3, 3]
    trans = pelvis / frames.units_per_metre - frames.rest_pelvis
    return rotations.matrix_to_rotvec(local), trans


def pose_to_motion(
    poses: npt.ArrayLike, trans: npt.ArrayLike, frames: RigFrames
) -> bone_rotations.BoneMotion:
    """Bone transforms for SMPL poses; undoes `read_pose`.

    Args:
        poses: (T, J, 3) rotation vectors.
        trans: (T, 3) metres.
        frames: the rig, at the same T frames.
    """
    world = (np.asarray(trans, np.float64) + frames.rest_pelvis) * frames.units_per_metre
    homogeneous = np.concatenate([world, np.ones((len(world), 1))], -1)[..., None]
    return bone_rotations.bone_motion(
        rotations.rotvec_to_matrix(poses),
        np.linalg.solve(frames.object_matrices, homogeneous)[:, :3, 0],
        frames.rest,
        frames.object_matrices,
        frames.rest_axes,
        frames.match.parents,
        frames.above_root,
    )


def motion_slices(
    poses: npt.ArrayLike, trans: npt.ArrayLike, frames: RigFrames
) -> Generator[None, None, bone_rotations.BoneMotion]:
    """What `pose_to_motion` gives, worked out some frames at a time."""
    poses, trans = np.asarray(poses), np.asarray(trans)
    motion = bone_rotations.BoneMotion(np.empty((*poses.shape, 3)), np.empty(trans.shape))
    for rows in chunks(len(poses)):
        part = pose_to_motion(poses[rows], trans[rows], frames_at(frames, rows))
        motion.rotations[rows], motion.root_locations[rows] = part.rotations, part.root_locations
        yield
    return motion


def _nearest_quarter_turn(rotation: Array) -> Array:
    """The signed permutation nearest to a rotation, itself a rotation where it is near one."""
    result = np.zeros((3, 3))
    left = np.abs(rotation)
    for _ in range(3):
        row, column = np.unravel_index(int(np.argmax(left)), (3, 3))
        result[row, column] = np.sign(rotation[row, column])
        left = left.copy()
        left[row, :] = -1.0
        left[:, column] = -1.0
    return result
