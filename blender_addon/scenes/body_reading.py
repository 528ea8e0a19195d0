# SPDX-License-Identifier: GPL-3.0-or-later
"""An SMPL body over frames: its rig, and its motion in SMPL's parameters; nothing of a picture."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import bpy
import numpy as np
import numpy.typing as npt

from ..keys import transform_sampling
from ..keys.fcurves import curves_of
from ..rigs import body_builder, rig
from ..rigs.bone_rotations import chain_posed_matrices, orthonormal
from ..rigs.rig_match import match_armature
from ..slices import chunks, to_end
from .frame_stepping import SLICE_SECONDS, at_frame, find

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Chain:
    """The joints' bones and all above the root, parents first."""

    names: tuple[str, ...]
    rest: Array
    parents: tuple[int, ...]
    above: int
    """How many of them lie above the root."""


@dataclass(frozen=True)
class Matrices:
    """Transforms over frames: armature and camera in the world, and the bones'."""

    armature: Array
    camera: Array | None
    bones: Array
    """(T, N, 4, 4) posed in armature space, or the bones' own transforms."""
    is_posed: bool


@dataclass(frozen=True)
class BodyReading:
    """A body's rig and motion, still to be worked out; nothing in it is Blender's."""

    still: rig.RigFrames
    """The rig, without places and frames."""
    chain: Chain
    """The bones that were read."""
    matrices: Matrices
    """Where things were, frame by frame."""
    scene_frames: tuple[int, ...]

    def worked_out(self) -> Generator[None, None, tuple[rig.RigFrames, Array, Array]]:
        """The rig at the frames, and the body's poses (T, J, 3) and trans (T, 3): numpy only.

        Yields:
            Where it may pause.

        Raises:
            SceneError: the armature's scale cannot be SMPL's.
        """
        matrices = self.matrices
        scale = rig.object_scale(matrices.armature[0])
        units = self.still.units_per_metre * scale
        count, joints = len(matrices.bones), len(self.chain.names) - self.chain.above
        above_root, trans = np.empty((count, 4, 4)), np.empty((count, 3))
        poses = np.empty((count, joints, 3))
        for rows in chunks(count):
            above_root[rows], poses[rows], trans[rows] = self._posed(rows, units)
            yield
        frames = replace(
            self.still,
            scene_frames=self.scene_frames,
            object_matrices=matrices.armature,
            above_root=above_root,
            units_per_metre=units,
        )
        return frames, poses, trans

    def _posed(
        self, rows: npt.NDArray[np.int64], units_per_metre: float
    ) -> tuple[Array, Array, Array]:
        """Of some frames what moves the root beside its own bone (T, 4, 4), poses and trans."""
        chain, posed = self.chain, self.matrices.bones[rows]
        if not self.matrices.is_posed:
            posed = chain_posed_matrices(posed, chain.rest, chain.parents)
        above_root = np.broadcast_to(np.eye(4), (len(posed), 4, 4))
        if chain.above:
            above_root = posed[:, chain.above - 1] @ np.linalg.inv(chain.rest[chain.above - 1])
        frames = replace(
            self.still,
            scene_frames=tuple(self.scene_frames[row] for row in rows),
            object_matrices=self.matrices.armature[rows],
            above_root=above_root,
            units_per_metre=units_per_metre,
        )
        return above_root, *rig.read_pose(frames, posed[:, chain.above :])


def read_body(
    context: bpy.types.Context, armature: bpy.types.Object, scene_frames: Sequence[int]
) -> Generator[float, None, BodyReading]:
    """Read an armature's motion alone, without camera and footage.

    Args:
        context: whose scene is read.
        armature: an SMPL armature; not used after a pause.
        scene_frames: (T,) Blender's frames.

    Yields:
        The share that is done, 0 to 1.

    Raises:
        SceneError: it is no SMPL armature, or was removed.
    """
    still, chain, name = yield from still_slices(armature)
    yield 0.0
    matrices = yield from read_matrices(context, find(name), "", chain, scene_frames)
    return BodyReading(still, chain, matrices, tuple(scene_frames))


def read_still(armature: bpy.types.Object) -> rig.RigFrames:
    """What does not change with the frame; scale and place of the object are filled in later."""
    return to_end(still_slices(armature))[0]


def still_slices(
    armature: bpy.types.Object,
) -> Generator[float, None, tuple[rig.RigFrames, Chain, str]]:
    """The same with the bones that are read and the armature's name.

    Args:
        armature: an SMPL armature; not used after a pause.

    Yields:
        Where it may pause: reading a body's file for the first time takes long.

    Raises:
        SceneError: it is no SMPL armature.
        BodyFileError: the body's file cannot be read.
    """
    still = _still_of_bones(armature)
    chain, name = read_chain(armature, still.match), armature.name
    source, content_hash = armature.get(body_builder.BODY_KEY), armature.get(body_builder.HASH_KEY)
    if source is None:
        return still, chain, name
    betas = body_builder.read_betas(armature)
    del armature
    reading = body_builder.loading(str(source))
    while True:
        try:
            next(reading)
        except StopIteration as done:
            body = done.value
            break
        yield 0.0
    if body.content_hash == content_hash:
        still = replace(still, rest_pelvis=body_builder.rest_joints(body, betas)[0])
    return still, chain, name


def _still_of_bones(armature: bpy.types.Object) -> rig.RigFrames:
    """What the bones say; the model's rest pelvis may lie a little beside theirs."""
    match = match_armature(armature)
    parents = {bone: armature.data.bones[bone].parent for bone in match.bones}
    above = {bone: None if parent is None else parent.name for bone, parent in parents.items()}
    rig.check_hierarchy(match, above)
    rest = np.stack([np.array(armature.data.bones[b].matrix_local, float) for b in match.bones])
    rest[:, :3, :3] = orthonormal(rest[:, :3, :3])  # Blender's are off by up to 5e-5
    rest_axes = rig.find_rest_rotation(rest[:, :3, 3])
    scale = rig.find_rest_scale(rest[:, :3, 3])
    return rig.RigFrames(
        match=match,
        rest=rest,
        rest_axes=rest_axes,
        units_per_metre=scale,
        rest_pelvis=rest_axes.T @ rest[0, :3, 3] / scale,
        scene_frames=(),
        object_matrices=np.eye(4)[None],
        above_root=np.eye(4)[None],
    )


def read_matrices(
    context: bpy.types.Context,
    armature: bpy.types.Object,
    camera_name: str,
    chain: Chain,
    scene_frames: Sequence[int],
) -> Generator[float, None, Matrices]:
    camera = find(camera_name) if camera_name else None
    if list(scene_frames) != [context.scene.frame_current] and (
        transform_sampling.is_object_sampled(armature)
        and (camera is None or transform_sampling.is_object_sampled(camera))
        and transform_sampling.are_bones_sampled(armature, list(chain.names))
    ):
        armature_matrices = transform_sampling.object_matrices(armature, scene_frames)
        camera_matrices = None
        if camera is not None:
            camera_matrices = transform_sampling.object_matrices(camera, scene_frames)
        name = armature.name
        yield 0.0
        basis = yield from _sample_bones(name, chain, scene_frames)
        return Matrices(armature_matrices, camera_matrices, basis, is_posed=False)
    names = (armature.name, camera_name) if camera_name else (armature.name,)
    (placed, *cameras), posed = yield from _evaluate_frames(context, names, chain, scene_frames)
    return Matrices(placed, cameras[0] if cameras else None, posed, is_posed=True)


def read_chain(armature: bpy.types.Object, match: rig.RigMatch) -> Chain:
    root = armature.data.bones[match.bones[0]]
    above = [bone.name for bone in reversed(root.parent_recursive)]
    names = (*above, *match.bones)
    bones = [armature.data.bones[name] for name in names]
    return Chain(
        names=names,
        rest=np.stack([np.array(bone.matrix_local, np.float64) for bone in bones]),
        parents=tuple(-1 if b.parent is None else names.index(b.parent.name) for b in bones),
        above=len(above),
    )


def _sample_bones(
    armature_name: str, chain: Chain, scene_frames: Sequence[int]
) -> Generator[float, None, Array]:
    """Bones' own transforms (T, N, 4, 4) from their curves."""
    # A bone's frames lie together: else the first bone would touch all of this memory in one slice.
    basis = np.empty((len(chain.names), len(scene_frames), 4, 4))
    for done, name in enumerate(chain.names):
        armature = find(armature_name)
        prefix = transform_sampling.bone_prefix(name)
        basis[done] = transform_sampling.basis_matrices(
            armature.pose.bones[name], prefix, curves_of(armature), scene_frames
        )
        yield (done + 1) / len(chain.names)
    return basis.swapaxes(0, 1)


def _evaluate_frames(
    context: bpy.types.Context,
    names: tuple[str, ...],
    chain: Chain,
    scene_frames: Sequence[int],
) -> Generator[float, None, tuple[list[Array], Array]]:
    """Objects, and the first one's bones, as Blender evaluates them frame by frame, in slices."""
    count, done = len(scene_frames), 0
    placed = [np.empty((count, 4, 4)) for _ in names]
    posed = np.empty((count, len(chain.names), 4, 4))
    while done < count:
        deadline = time.monotonic() + SLICE_SECONDS
        scene = context.scene
        with at_frame(scene, scene_frames[done]):
            while done < count:
                if scene.frame_current != scene_frames[done]:
                    scene.frame_set(scene_frames[done])
                where, posed[done] = _evaluated(context, names, chain.names)
                for column, matrix in zip(placed, where, strict=True):
                    column[done] = matrix
                done += 1
                if time.monotonic() > deadline:
                    break
        yield done / count
    return placed, posed


def _evaluated(
    context: bpy.types.Context, names: tuple[str, ...], bone_names: tuple[str, ...]
) -> tuple[list[Array], Array]:
    graph = context.evaluated_depsgraph_get()
    items = [find(name).evaluated_get(graph) for name in names]
    bones = items[0].pose.bones
    return (
        [np.array(item.matrix_world, np.float64) for item in items],
        np.stack([np.array(bones[name].matrix, np.float64) for name in bone_names]),
    )
