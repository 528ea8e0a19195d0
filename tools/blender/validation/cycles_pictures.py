# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders jobs with Cycles: a picture and a mask of who is seen where; runs in Blender's Python.

python -m validation.cycles_pictures FOLDER [--samples N] [--only NAME …]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from posefit_shared.frames import lens_from_intrinsics, opencv_to_blender_camera

from .cycles_materials import make_material
from .cycles_scene import add_light, add_obstacles, add_setting

PERSON, NEIGHBOUR, OTHER = 1, 2, 3
"""Values of the mask."""


def render_job(path: Path, samples: int) -> None:
    """Renders one picture and its mask beside the job, as .png files."""
    job = json.loads(path.read_text())
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    _set_up(scene, job, samples)
    camera = _add_camera(scene, job)
    random = np.random.default_rng([77, job["seed"]])
    first = Matrix(opencv_to_blender_camera(job["first_world_to_camera"]).tolist())
    add_setting(job["setting"], job["middle"], first, random)
    add_obstacles(job["obstacles"], random)
    add_light(job["light"], job["middle"], camera.matrix_world)
    with np.load(path.with_suffix(".npz")) as data:
        _add_people(data, job, path.parent)
    scene.render.filepath = str(path.with_suffix(".png"))
    bpy.ops.render.render(write_still=True)
    _render_mask(scene, path.with_suffix(".mask.png"))


def _set_up(scene: Any, job: dict, samples: int) -> None:
    scene.render.engine = "CYCLES"
    scene.cycles.device, scene.cycles.samples = "CPU", samples
    scene.cycles.use_denoising, scene.cycles.denoiser = True, "OPENIMAGEDENOISE"
    scene.cycles.use_adaptive_sampling = True
    scene.cycles.adaptive_threshold = 0.05
    scene.cycles.max_bounces, scene.cycles.diffuse_bounces = 4, 3
    scene.cycles.seed = job["seed"]
    scene.render.threads_mode, scene.render.threads = "FIXED", 2
    scene.render.resolution_x, scene.render.resolution_y = job["size"]
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode = "RGB"
    scene.view_settings.view_transform = job["look"]
    scene.view_settings.exposure = job["exposure"]
    scene.frame_start, scene.frame_end = 0, 2
    if job["blur"]:
        scene.render.use_motion_blur = True
        scene.render.motion_blur_shutter = job["blur"]
    scene.frame_set(1)


def _add_camera(scene: Any, job: dict) -> Any:
    data = bpy.data.cameras.new("camera")
    lens = lens_from_intrinsics(np.array(job["intrinsics"]), tuple(job["size"]))
    data.sensor_fit, data.sensor_width = "HORIZONTAL", lens["sensor_width_mm"]
    data.lens, data.shift_x, data.shift_y = lens["lens_mm"], lens["shift_x"], lens["shift_y"]
    camera = bpy.data.objects.new("camera", data)
    camera.matrix_world = Matrix(opencv_to_blender_camera(job["world_to_camera"]).tolist())
    scene.collection.objects.link(camera)
    scene.camera = camera
    if job["f_stop"]:
        data.dof.use_dof, data.dof.aperture_fstop = True, job["f_stop"]
        data.dof.focus_distance = job["focus_m"]
    return camera


def _add_people(data: Any, job: dict, folder: Path) -> None:
    for name, words in job["materials"].items():
        if f"{name}/faces" not in data:
            continue
        mesh = _mesh(name, data)
        thing = bpy.data.objects.new(name, mesh)
        thing.pass_index = PERSON if name.startswith("person/") else NEIGHBOUR
        mesh.materials.append(make_material(name, words, folder))
        bpy.context.scene.collection.objects.link(thing)
        positions = data[f"{name}/positions"]
        if len(positions) == 3:
            _add_motion(thing, positions)
        if data[f"{name}/thickness"] > 0:
            solid = thing.modifiers.new("cloth", "SOLIDIFY")
            solid.thickness = float(data[f"{name}/thickness"])


def _mesh(name: str, data: Any) -> Any:
    """A smooth mesh with the attributes that materials need."""
    positions, faces = data[f"{name}/positions"], data[f"{name}/faces"]
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(positions.shape[1])
    mesh.vertices.foreach_set("co", positions[len(positions) // 2].ravel())
    mesh.loops.add(faces.size)
    mesh.loops.foreach_set("vertex_index", faces.ravel())
    mesh.polygons.add(len(faces))
    mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
    mesh.polygons.foreach_set("use_smooth", np.ones(len(faces), bool))
    rest = mesh.attributes.new("rest", "FLOAT_VECTOR", "POINT")
    rest.data.foreach_set("vector", data[f"{name}/rest"].ravel())
    if f"{name}/color" in data:
        colors = data[f"{name}/color"]
        colors = np.concatenate([colors, np.ones((len(colors), 1), np.float32)], 1)
        color = mesh.attributes.new("tint", "FLOAT_COLOR", "POINT")
        color.data.foreach_set("color", np.ascontiguousarray(colors).ravel())
    mesh.update(calc_edges=True)
    mesh.validate()
    return mesh


def _add_motion(thing: Any, positions: np.ndarray) -> None:
    """Shape keys that take the mesh from before to after over three frames."""
    thing.shape_key_add(name="at")
    for name, places, values in (("before", positions[0], (1, 0, 0)),
                                 ("after", positions[2], (0, 0, 1))):  # fmt: skip
        key = thing.shape_key_add(name=name)
        key.data.foreach_set("co", places.ravel())
        for frame, value in enumerate(values):
            key.value = value
            key.keyframe_insert("value", frame=frame)
        for curve in thing.data.shape_keys.animation_data.action.fcurves:
            for point in curve.keyframe_points:
                point.interpolation = "LINEAR"
    bpy.context.scene.frame_set(1)


def _render_mask(scene: Any, path: Path) -> None:
    """Who is seen at each pixel's centre, sharp: the objects' numbers as flat colours."""
    material = bpy.data.materials.new("number")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    info, divide = nodes.new("ShaderNodeObjectInfo"), nodes.new("ShaderNodeMath")
    emission, output = nodes.new("ShaderNodeEmission"), nodes.new("ShaderNodeOutputMaterial")
    divide.operation = "MULTIPLY"
    divide.inputs[1].default_value = 0.25
    links.new(info.outputs["Object Index"], divide.inputs[0])
    links.new(divide.outputs[0], emission.inputs["Color"])
    links.new(emission.outputs[0], output.inputs["Surface"])
    for thing in scene.objects:
        if thing.type == "MESH" and not thing.pass_index:
            thing.pass_index = OTHER
        if thing.type == "LIGHT":
            thing.hide_render = True
    scene.view_layers[0].material_override = material
    scene.world.node_tree.nodes["Background"].inputs["Strength"].default_value = 0
    scene.cycles.samples, scene.cycles.use_denoising = 1, False
    scene.cycles.pixel_filter_type, scene.cycles.max_bounces = "BOX", 0
    scene.cycles.filter_width = 0.01
    scene.render.use_motion_blur = False
    scene.camera.data.dof.use_dof = False
    scene.view_settings.view_transform, scene.view_settings.exposure = "Raw", 0
    scene.render.dither_intensity = 0
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)


def main() -> None:
    """Renders all jobs of a folder that have no picture yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=12)
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    jobs = sorted(options.folder.glob("*.json"))
    jobs = [job for job in jobs if not options.only or job.stem in options.only]
    start = time.monotonic()
    for count, job in enumerate(jobs, start=1):
        wanted = f"{json.loads(job.read_text())['digest']} {options.samples}"
        done = job.with_suffix(".done")
        if not done.exists() or done.read_text() != wanted:
            render_job(job, options.samples)
            done.write_text(wanted)
        print(
            f"posefit: {job.stem} {count}/{len(jobs)} {time.monotonic() - start:.0f} s", flush=True
        )


if __name__ == "__main__":
    main()
