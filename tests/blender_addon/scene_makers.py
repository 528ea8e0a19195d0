# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequences, cameras and footage for the extension's tests, and SMPL's own skinning in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from posefit_shared import frames, rotations, sequence
from posefit_shared.body_files import BodyArrays


def random_sequence(rng, count=5, joints=24, angle=0.5, **fields) -> sequence.Sequence:
    """Poses that drift smoothly about random ones, a root turned anyhow, metres away."""
    start = rng.normal(size=(1, joints, 3)) * angle
    drift = np.cumsum(rng.normal(size=(count, joints, 3)) * 0.05, axis=0)
    poses = start + drift
    poses[:, 0] += rng.normal(size=3)
    trans = rng.normal(size=3) + np.cumsum(rng.normal(size=(count, 3)) * 0.02, axis=0)
    return sequence.Sequence(
        poses=poses.astype(np.float32), trans=trans.astype(np.float32), **fields
    )


def camera_fields(rng, count=1, moving=False, size=(320, 240)) -> dict:
    """A camera off the axes with a shifted principal point and pixels that are not square."""
    turn = rotations.rotvec_to_matrix(rng.normal(size=3))
    world_to_camera = np.tile(np.eye(4), (count, 1, 1))
    world_to_camera[:, :3, :3] = turn
    world_to_camera[:, :3, 3] = (0.1, -0.2, 5.0)
    if moving:
        steps = rng.normal(size=(count, 3)) * 0.05
        world_to_camera[:, :3, :3] = rotations.rotvec_to_matrix(np.cumsum(steps, 0)) @ turn
        world_to_camera[:, :3, 3] += np.cumsum(steps, 0)
    intrinsics = np.array([[410.0, 0, 151.5], [0, 400.0, 130.25], [0, 0, 1]])
    return {
        "world_to_camera": world_to_camera if moving else world_to_camera[0],
        "intrinsics": intrinsics,
        "image_size": size,
    }


def skin(body: BodyArrays, betas, pose, trans) -> np.ndarray:
    """Posed vertices (V, 3) by SMPL's equations, without pose correctives, in float64.

    Source: Loper et al., "SMPL: A Skinned Multi-Person Linear Model", 2015, eq. 2-4.
    """
    shaped = body.v_template + body.shapedirs[..., : len(betas)].astype(float) @ np.asarray(betas)
    joints = body.J_regressor.astype(float) @ shaped
    matrices = np.zeros((len(joints), 4, 4))
    for joint, parent in enumerate(body.parents):
        local = np.eye(4)
        local[:3, :3] = rotations.rotvec_to_matrix(pose[joint])
        local[:3, 3] = joints[joint] - (joints[parent] if parent >= 0 else 0)
        matrices[joint] = local if parent < 0 else matrices[parent] @ local
    matrices[:, :3, 3] -= (matrices[:, :3, :3] @ joints[..., None])[..., 0]
    blended = np.einsum("vj,jab->vab", body.lbs_weights, matrices)
    return frames_apply(blended, shaped) + trans


def frames_apply(matrices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A transform (V, 4, 4) for each point (V, 3)."""
    return np.einsum("vab,vb->va", matrices[:, :3, :3], points) + matrices[:, :3, 3]


def evaluated_vertices(mesh) -> np.ndarray:
    """World vertices (V, 3) of a mesh as Blender deforms it now."""
    import bpy

    graph = bpy.context.evaluated_depsgraph_get()
    shown = mesh.evaluated_get(graph)
    data = shown.to_mesh()
    points = np.empty(3 * len(data.vertices), np.float32)
    data.vertices.foreach_get("co", points)
    shown.to_mesh_clear()
    return frames.apply(np.array(shown.matrix_world), points.reshape(-1, 3))


def write_footage(folder: Path, count=12, size=(320, 240), first_number=1) -> Path:
    """A folder of numbered PNGs; each frame's grey says which one it is."""
    import bpy

    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image = bpy.data.images.new("frame", *size)
        image.generated_color = ((index + 1) / (count + 1),) * 3 + (1.0,)
        image.filepath_raw = str(folder / f"frame_{first_number + index:04d}.png")
        image.file_format = "PNG"
        image.save()
        bpy.data.images.remove(image)
    return folder


def write_movie(path: Path, count=8, size=(64, 48)) -> Path:
    """A video whose frames differ in grey as those of `write_footage` do."""
    import bpy

    images = write_footage(path.parent / f"{path.stem}_frames", count, size)
    scene = bpy.data.scenes.new("Movie")
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    files = sorted(images.iterdir())
    strip = strips.new_image(name="F", filepath=str(files[0]), channel=1, frame_start=1)
    for file in files[1:]:
        strip.elements.append(file.name)
    render = scene.render
    render.resolution_x, render.resolution_y = size
    scene.view_settings.view_transform = "Standard"
    scene.frame_start, scene.frame_end = 1, count
    if hasattr(render.image_settings, "media_type"):
        render.image_settings.media_type = "VIDEO"
    render.image_settings.file_format = "FFMPEG"
    render.ffmpeg.format, render.ffmpeg.codec = "MPEG4", "H264"
    render.ffmpeg.constant_rate_factor = "LOSSLESS"
    render.filepath = str(path)
    render.use_file_extension = False
    bpy.ops.render.render(animation=True, scene=scene.name)
    bpy.data.scenes.remove(scene)
    return path


def shown_grey(scene, folder: Path, node_type: str, fields: dict, scene_frame: int) -> float:
    """What grey (0 to 1, as in the file) Blender's compositor shows of a clip or image."""
    import bpy

    scene.render.engine = "CYCLES"
    scene.cycles.samples = 1
    scene.render.resolution_x, scene.render.resolution_y = 64, 48
    scene.view_settings.view_transform = "Standard"
    if scene.camera is None:
        scene.camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
        scene.collection.objects.link(scene.camera)
    if hasattr(scene, "compositing_node_group"):
        tree = bpy.data.node_groups.new("Show", "CompositorNodeTree")
        scene.compositing_node_group = tree
        tree.interface.new_socket(name="Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        output = tree.nodes.new("NodeGroupOutput")
    else:
        scene.use_nodes = True
        tree = scene.node_tree
        tree.nodes.clear()
        output = tree.nodes.new("CompositorNodeComposite")
    node = tree.nodes.new(node_type)
    for name, value in fields.items():
        setattr(node, name, value)
    tree.links.new(node.outputs[0], output.inputs[0])
    scene.frame_set(scene_frame)
    scene.render.filepath = str(folder / "shown.png")
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(scene.render.filepath, check_existing=False)
    grey = image.pixels[4 * (24 * 64 + 32)]
    bpy.data.images.remove(image)
    return grey
