# SPDX-License-Identifier: GPL-3.0-or-later
"""The scene → what a refinement needs: a sequence with its camera, the footage, the rig as numbers.

First step of the path. `read_range` is a generator: it yields how far it is, so that a long range
is read in slices and Blender stays usable; `read_now` runs it to its end.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import numpy.typing as npt

from posefit_shared import body_files, sequence

from ..keys import transform_sampling
from ..keys.fcurves import curves_of
from ..rigs import body_builder, rig
from ..rigs.bone_rotations import chain_posed_matrices, orthonormal
from ..rigs.rig import SceneError
from ..rigs.rig_match import match_armature
from ..slices import chunks, to_end
from . import scene_camera, scene_view
from .frame_stepping import SLICE_SECONDS, at_frame, find, matrices_over

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SceneRequest:
    """What was read; nothing in it is Blender's."""

    armature: str
    """Name of the armature object."""
    sequence: sequence.Sequence
    """The pose as it is, in metres, with camera and decoded frame indices."""
    footage: Path | None
    """A video file, a folder of images, or one image; none where a file is exported without."""
    frames: rig.RigFrames
    """The rig at these frames."""
    body: str
    """`free`, or the path of the body file."""
    others: tuple[SeenFrom, ...] = ()
    """More cameras that filmed it."""


@dataclass(frozen=True)
class SeenFrom:
    """One more camera with its footage, and where it stood."""

    view: scene_view.OtherView
    world_to_camera: Array
    """(T, 4, 4) metres."""


@dataclass(frozen=True)
class SceneReading:
    """Everything read from Blender, still to be worked out; nothing in it is Blender's."""

    armature: str
    footage: Path | None
    body: str
    still: rig.RigFrames
    """The rig, without places and frames."""
    chain: _Chain
    """The bones that were read."""
    matrices: _Matrices
    """Where things were, frame by frame."""
    scene_frames: tuple[int, ...]
    fields: dict[str, Any]
    """Fields of the sequence that were read as they are."""
    others: tuple[tuple[scene_view.OtherView, Array], ...] = ()
    """More cameras, and their (T, 4, 4) transforms in the world."""

    def request(self) -> SceneRequest:
        """Work the request out at once.

        Raises:
            SceneError: the armature's scale cannot be SMPL's.
        """
        return to_end(self.request_slices())

    def request_slices(self) -> Generator[None, None, SceneRequest]:
        """Work the request out in slices: numpy only.

        Raises:
            SceneError: the armature's scale cannot be SMPL's.
        """
        matrices = self.matrices
        scale = rig.object_scale(matrices.armature[0])
        units = self.still.units_per_metre * scale
        parts = []
        for rows in chunks(len(matrices.bones)):
            parts.append(self._posed(rows, units))
            yield
        above_root, poses, trans = (np.concatenate(part) for part in zip(*parts, strict=True))
        frames = replace(
            self.still,
            scene_frames=self.scene_frames,
            object_matrices=matrices.armature,
            above_root=above_root,
            units_per_metre=units,
        )
        world_to_camera = None
        if matrices.camera is not None:
            units = frames.units_per_metre
            world_to_camera = scene_camera.world_to_cameras(matrices.camera, units)
        motion = sequence.Sequence(
            poses=poses.astype(np.float32),
            trans=trans.astype(np.float32),
            world_to_camera=world_to_camera,
            **self.fields,
        )
        others = tuple(
            SeenFrom(view, scene_camera.world_to_cameras(placed, frames.units_per_metre))
            for view, placed in self.others
        )
        return SceneRequest(self.armature, motion, self.footage, frames, self.body, others)

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


@dataclass(frozen=True)
class _Chain:
    """The joints' bones and all above the root, parents first."""

    names: tuple[str, ...]
    rest: Array
    parents: tuple[int, ...]
    above: int
    """How many of them lie above the root."""


@dataclass(frozen=True)
class _Matrices:
    """Transforms over frames: armature and camera in the world, and the bones'."""

    armature: Array
    camera: Array | None
    bones: Array
    """(T, N, 4, 4) posed in armature space, or the bones' own transforms."""
    is_posed: bool


def read_now(
    context: bpy.types.Context, armature: bpy.types.Object, scene_frames: Sequence[int]
) -> SceneRequest:
    """`read_range` to its end at once, worked out."""
    return to_end(read_range(context, armature, scene_frames)).request()


def read_range(
    context: bpy.types.Context,
    armature: bpy.types.Object,
    scene_frames: Sequence[int],
    view: scene_view.SceneView | None = None,
) -> Generator[float, None, SceneReading]:
    """Read an armature, the scene's camera and its footage over frames.

    Args:
        context: whose scene is read.
        armature: an SMPL armature.
        scene_frames: Blender's frames, in order of time.
        view: camera and footage at these frames; the scene's unless given.

    Yields:
        The share that is done, 0 to 1.

    Raises:
        SceneError: something is missing or cannot be used; the message says what to do.
    """
    scene = context.scene
    view = scene_view.view_to_refine(scene, armature, scene_frames) if view is None else view
    still = _read_still(armature)
    fields = {
        "betas": body_builder.read_betas(armature),
        "model_type": still.match.model_type,
        "body": str(armature.get(body_builder.HASH_KEY, "")),
        "gender": str(armature.get(body_builder.GENDER_KEY, "neutral")),
        "mocap_framerate": scene.render.fps / scene.render.fps_base,
        **view.fields,
    }
    name, body = armature.name, str(armature.get(body_builder.BODY_KEY, body_files.FREE_BODY))
    body = body if body == body_files.FREE_BODY else bpy.path.abspath(body)
    chain = _read_chain(armature, still.match)
    # Between slices anything may be deleted: from here on, things are looked up by name.
    yield 0.0
    armature = find(name)
    seen = None
    if view.camera_frames:
        seen = yield from matrices_over(context, view.camera, view.camera_frames)
        armature = find(name)
    others = []
    for other in view.others:
        frames = view.camera_frames or scene_frames
        others.append((other, (yield from matrices_over(context, other.camera, frames))))
    armature = find(name)
    camera = view.camera if seen is None else ""
    matrices = yield from _read_matrices(context, armature, camera, chain, scene_frames)
    matrices = matrices if seen is None else replace(matrices, camera=seen)
    return SceneReading(
        armature=name,
        footage=view.footage,
        body=body,
        still=still,
        chain=chain,
        matrices=matrices,
        scene_frames=tuple(scene_frames),
        fields=fields,
        others=tuple(others),
    )


def read_rig(armature: bpy.types.Object) -> rig.RigFrames:
    """An armature's rest pose and place at the current frame.

    Raises:
        SceneError: it is no SMPL armature.
    """
    still = _read_still(armature)
    matrix = np.array(armature.matrix_world, np.float64)[None]
    scale = rig.object_scale(matrix[0])
    return replace(still, object_matrices=matrix, units_per_metre=still.units_per_metre * scale)


def _read_still(armature: bpy.types.Object) -> rig.RigFrames:
    """What does not change with the frame; scale and place of the object are filled in later."""
    match = match_armature(armature)
    _check_hierarchy(armature, match)
    rest = np.stack([np.array(armature.data.bones[b].matrix_local, float) for b in match.bones])
    rest[:, :3, :3] = orthonormal(rest[:, :3, :3])  # Blender's are off by up to 5e-5
    rest_axes = rig.find_rest_rotation(rest[:, :3, 3])
    scale = rig.find_rest_scale(rest[:, :3, 3])
    return rig.RigFrames(
        match=match,
        rest=rest,
        rest_axes=rest_axes,
        units_per_metre=scale,
        rest_pelvis=_rest_pelvis(armature, rest_axes.T @ rest[0, :3, 3] / scale),
        scene_frames=(),
        object_matrices=np.eye(4)[None],
        above_root=np.eye(4)[None],
    )


def _rest_pelvis(armature: bpy.types.Object, from_bones: Array) -> Array:
    """(3,) the model's rest pelvis: from its body file where that is known, else from the bones."""
    source, content_hash = armature.get(body_builder.BODY_KEY), armature.get(body_builder.HASH_KEY)
    if source is None:
        return from_bones
    body = body_builder.load_body(str(source))
    if body.content_hash != content_hash:
        return from_bones
    return body_builder.rest_joints(body, body_builder.read_betas(armature))[0]


def _check_hierarchy(armature: bpy.types.Object, match: rig.RigMatch) -> None:
    for joint, parent in enumerate(match.parents):
        above = armature.data.bones[match.bones[joint]].parent
        if parent >= 0 and (above is None or above.name != match.bones[parent]):
            found = "nothing" if above is None else above.name
            raise SceneError(
                f"bone {match.bones[joint]} hangs on {found}, expected {match.bones[parent]}: the "
                "armature's hierarchy is not SMPL's"
            )


def _read_matrices(
    context: bpy.types.Context,
    armature: bpy.types.Object,
    camera_name: str,
    chain: _Chain,
    scene_frames: Sequence[int],
) -> Generator[float, None, _Matrices]:
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
        basis = yield from _sample_bones(armature.name, chain, scene_frames)
        return _Matrices(armature_matrices, camera_matrices, basis, is_posed=False)
    names = (armature.name, camera_name) if camera_name else (armature.name,)
    (placed, *cameras), posed = yield from _evaluate_frames(context, names, chain, scene_frames)
    return _Matrices(placed, cameras[0] if cameras else None, posed, is_posed=True)


def _read_chain(armature: bpy.types.Object, match: rig.RigMatch) -> _Chain:
    root = armature.data.bones[match.bones[0]]
    above = [bone.name for bone in reversed(root.parent_recursive)]
    names = (*above, *match.bones)
    bones = [armature.data.bones[name] for name in names]
    return _Chain(
        names=names,
        rest=np.stack([np.array(bone.matrix_local, np.float64) for bone in bones]),
        parents=tuple(-1 if b.parent is None else names.index(b.parent.name) for b in bones),
        above=len(above),
    )


def _sample_bones(
    armature_name: str, chain: _Chain, scene_frames: Sequence[int]
) -> Generator[float, None, Array]:
    """Bones' own transforms (T, N, 4, 4) from their curves."""
    basis = []
    for done, name in enumerate(chain.names):
        armature = find(armature_name)
        prefix = transform_sampling.bone_prefix(name)
        basis.append(
            transform_sampling.basis_matrices(
                armature.pose.bones[name], prefix, curves_of(armature), scene_frames
            )
        )
        yield (done + 1) / len(chain.names)
    return np.stack(basis, axis=1)


def _evaluate_frames(
    context: bpy.types.Context,
    names: tuple[str, ...],
    chain: _Chain,
    scene_frames: Sequence[int],
) -> Generator[float, None, tuple[list[Array], Array]]:
    """Objects, and the first one's bones, as Blender evaluates them frame by frame, in slices."""
    rows: list[tuple[list[Array], Array]] = []
    while len(rows) < len(scene_frames):
        deadline = time.monotonic() + SLICE_SECONDS
        scene = context.scene
        with at_frame(scene, scene_frames[len(rows)]):
            while len(rows) < len(scene_frames):
                if scene.frame_current != scene_frames[len(rows)]:
                    scene.frame_set(scene_frames[len(rows)])
                rows.append(_evaluated(context, names, chain.names))
                if time.monotonic() > deadline:
                    break
        yield len(rows) / len(scene_frames)
    placed = [np.stack(column) for column in zip(*(row[0] for row in rows), strict=True)]
    return placed, np.stack([row[1] for row in rows])


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
