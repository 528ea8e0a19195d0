# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a .blend that shows a refinement: both bodies, their actions, the camera over its footage.

    python tools/blender/make_demo_blend.py --initial a.npz --refined b.npz --footage clip.mp4 \
        --output demo.blend [--body free] [--still still.png]

Runs with the module `bpy`. The still has the first estimate on the left and the refined body on
the right, over the same frame of the footage.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import bpy  # noqa: E402
import numpy as np  # noqa: E402
from blender_addon.rigs import body_builder
from blender_addon.sequences import sequence_import

from posefit_shared.sequence import Sequence, read_sequence  # noqa: E402

logger = logging.getLogger(__name__)

GHOST_COLOUR = (1.0, 0.42, 0.12, 0.45)
REFINED_COLOUR = (0.25, 0.55, 1.0, 1.0)
BODY_OPACITY = 0.75
"""Of bodies in the still: the person behind stays visible."""


@dataclass(frozen=True)
class DemoFiles:
    """What the demo is made of."""

    initial: Path
    """Sequence file of the first estimate."""
    refined: Path
    """Sequence file of the refined motion."""
    footage: Path
    """Video file or folder of images."""
    body: str = "free"
    """`free`, or a body file."""


def make_scene(files: DemoFiles) -> tuple[Sequence, list[bpy.types.Object]]:
    """Build the scene; gives back the refined motion, and the armatures, initial first."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    initial, refined = read_sequence(files.initial), read_sequence(files.refined)
    ghost = _import(
        initial,
        _collection("Initial (ghost)"),
        sequence_import.ImportOptions("Initial", body=files.body, with_camera=False),
    )
    body = _import(
        refined,
        _collection("Refined"),
        sequence_import.ImportOptions("Refined", body=files.body, footage=files.footage),
    )
    _colour(ghost, GHOST_COLOUR)
    _colour(body, REFINED_COLOUR)
    ghost.hide_select = True
    ghost.show_in_front = False
    bpy.context.view_layer.objects.active = body
    _add_light(body)
    _prepare_views()
    return refined, [ghost, body]


def render_still(
    motion: Sequence, armatures: list[bpy.types.Object], footage: Path, scene_frame: int, path: Path
) -> None:
    """Render one frame over the footage, once for each body, side by side.

    Args:
        motion: gives the picture's size and how the footage is counted.
        armatures: whose meshes to show, from left to right.
        footage: what lies behind them.
        scene_frame: which frame.
        path: PNG to write.
    """
    scene = bpy.context.scene
    scene.render.engine = "BLENDER_WORKBENCH"
    scene.render.film_transparent = True
    scene.display.shading.color_type = "OBJECT"
    scene.display.shading.light = "STUDIO"
    scene.display.shading.show_cavity = True
    scene.display.render_aa = "8"
    meshes = [body_builder.mesh_of(armature) for armature in armatures]
    panels = []
    with tempfile.TemporaryDirectory() as folder:
        for shown in meshes:
            for mesh in meshes:
                mesh.hide_render = mesh != shown
                mesh.color[3] = 1.0
            panels.append(_render_over(scene, footage, scene_frame, Path(folder) / "panel.png"))
    for mesh, colour in zip(meshes, (GHOST_COLOUR, REFINED_COLOUR), strict=True):
        mesh.hide_render, mesh.color = False, colour
    _save(np.concatenate(panels, axis=1), path)


def _import(
    motion: Sequence, collection: bpy.types.Collection, options: sequence_import.ImportOptions
) -> bpy.types.Object:
    layer = bpy.context.view_layer
    layer.active_layer_collection = layer.layer_collection.children[collection.name]
    imported = sequence_import.import_sequence(bpy.context, motion, options)
    for note in imported.notes:
        logger.warning("%s: %s", options.name, note)
    return imported.armature


def _collection(name: str) -> bpy.types.Collection:
    collection = bpy.data.collections.new(name)
    bpy.context.scene.collection.children.link(collection)
    return collection


def _colour(armature: bpy.types.Object, colour: tuple[float, float, float, float]) -> None:
    mesh = body_builder.mesh_of(armature)
    mesh.color = colour
    material = bpy.data.materials.new(armature.name)
    material.diffuse_color = colour
    material.use_nodes = True
    shader = next(n for n in material.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
    shader.inputs["Base Color"].default_value = (*colour[:3], 1.0)
    shader.inputs["Roughness"].default_value = 0.6
    shader.inputs["Alpha"].default_value = colour[3]
    mesh.data.materials.append(material)


def _add_light(armature: bpy.types.Object) -> None:
    """A sun over the camera's shoulder, so that any engine shows something."""
    light = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    light.data.energy = 3.0
    light.rotation_euler = (0.7, 0.2, 0.5)
    armature.users_collection[0].objects.link(light)


def _prepare_views() -> None:
    """Let the 3D views open through the camera, in the bodies' own colours."""
    for screen in bpy.data.screens:
        for area in screen.areas:
            for space in area.spaces:
                if space.type == "VIEW_3D":
                    space.region_3d.view_perspective = "CAMERA"
                    space.shading.color_type = "OBJECT"
                    space.overlay.show_floor = False
                    space.overlay.show_axis_x = space.overlay.show_axis_y = False


def _render_over(scene: bpy.types.Scene, footage: Path, scene_frame: int, path: Path) -> np.ndarray:
    """(H, W, 4) the scene over its footage, first row at the bottom."""
    cut = bpy.data.scenes.new("Still")
    size = scene.render.resolution_x, scene.render.resolution_y
    cut.render.resolution_x, cut.render.resolution_y = size
    cut.render.fps, cut.render.fps_base = scene.render.fps, scene.render.fps_base
    cut.view_settings.view_transform = "Standard"
    scene.view_settings.view_transform = "Standard"
    editor = cut.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    _add_footage(strips, footage)
    over = strips.new_scene(name="Body", scene=scene, channel=2, frame_start=scene.frame_start)
    over.blend_type = "ALPHA_OVER"
    over.blend_alpha = BODY_OPACITY
    scene.frame_set(scene_frame)  # the render takes its frame from the open scene
    cut.render.image_settings.file_format = "PNG"
    cut.render.filepath = str(path)
    bpy.ops.render.render(write_still=True, scene=cut.name)
    bpy.data.scenes.remove(cut)
    image = bpy.data.images.load(str(path), check_existing=False)
    pixels = np.empty(image.size[0] * image.size[1] * 4, np.float32)
    image.pixels.foreach_get(pixels)
    shape = image.size[1], image.size[0], 4
    bpy.data.images.remove(image)
    return pixels.reshape(shape)


def _add_footage(strips: bpy.types.bpy_prop_collection, footage: Path) -> None:
    if footage.is_dir():
        from blender_addon.scenes.scene_footage import images_in

        images = images_in(footage)
        strip = strips.new_image(name="Footage", filepath=str(images[0]), channel=1, frame_start=1)
        for image in images[1:]:
            strip.elements.append(image.name)
    else:
        strips.new_movie(
            name="Footage", filepath=str(footage), channel=1, frame_start=1, fit_method="ORIGINAL"
        )


def _save(pixels: np.ndarray, path: Path) -> None:
    height, width = pixels.shape[:2]
    image = bpy.data.images.new("still", width, height)
    image.pixels.foreach_set(np.ascontiguousarray(pixels, np.float32).ravel())
    image.filepath_raw = str(path)
    image.file_format = "PNG"
    image.save()
    bpy.data.images.remove(image)


def main() -> int:
    """Make the files that the command line asks for."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--initial", type=Path, required=True)
    parser.add_argument("--refined", type=Path, required=True)
    parser.add_argument("--footage", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--body", default="free")
    parser.add_argument("--still", type=Path)
    parser.add_argument("--frame", type=int, help="scene frame of the still (the middle one)")
    arguments = parser.parse_args()
    files = DemoFiles(
        arguments.initial, arguments.refined, arguments.footage.resolve(), arguments.body
    )
    motion, armatures = make_scene(files)
    scene = bpy.context.scene
    if arguments.still is not None:
        frame = arguments.frame or (scene.frame_start + scene.frame_end) // 2
        still = arguments.still.resolve()
        render_still(motion, armatures, files.footage, frame, still)
        logger.info("%s", still)
    output = arguments.output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(output), compress=True, relative_remap=True)
    logger.info("%s (%.1f MB)", output, output.stat().st_size / 1e6)
    return 0


if __name__ == "__main__":
    sys.exit(main())
