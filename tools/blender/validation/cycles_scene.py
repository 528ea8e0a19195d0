# SPDX-License-Identifier: GPL-3.0-or-later
"""The places where pictures are taken, as Blender scenes: ground, walls, things, light."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector

from .cycles_materials import make_material

__all__ = ["add_light", "add_obstacles", "add_setting"]

GREYS = ([0.16, 0.16, 0.165], [0.09, 0.09, 0.095])
BRICKS = ([0.30, 0.10, 0.06], [0.22, 0.07, 0.045], [0.35, 0.32, 0.28])


def add_setting(
    kind: str, middle: list[float], camera: Matrix, random: np.random.Generator
) -> None:
    """Ground, walls and things around a person.

    Args:
        kind: `street`, `room`, `hall`, `field`, `studio`.
        middle: (3,) where the person is.
        camera: one camera's `matrix_world`: walls stand behind the person as it sees them.
        random: draws colours and things.
    """
    SETTINGS[kind](Vector(middle), camera, random)


def add_light(light: dict, middle: list[float], camera: Matrix) -> None:
    """Panorama, sun and lamp of a scene.

    Args:
        light: fields of `cast.Light`.
        middle: (3,) where the person is.
        camera: the camera's `matrix_world`.
    """
    world = bpy.context.scene.world = bpy.data.worlds.new("world")
    world.use_nodes = True
    world.cycles.sampling_method, world.cycles.sample_map_resolution = "MANUAL", 512
    nodes, links = world.node_tree.nodes, world.node_tree.links
    panorama = nodes.new("ShaderNodeTexEnvironment")
    panorama.image = bpy.data.images.load(str(_panorama(light["hdri"])), check_existing=True)
    mapping = nodes.new("ShaderNodeMapping")
    mapping.inputs["Rotation"].default_value = (0, 0, light["turn"])
    links.new(nodes.new("ShaderNodeTexCoord").outputs["Generated"], mapping.inputs["Vector"])
    links.new(mapping.outputs[0], panorama.inputs["Vector"])
    links.new(panorama.outputs["Color"], nodes["Background"].inputs["Color"])
    nodes["Background"].inputs["Strength"].default_value = light["strength"]
    if light["sun"]:
        sun = bpy.data.lights.new("sun", "SUN")
        sun.energy, sun.angle, sun.color = light["sun"], 0.01, light["sun_color"]
        azimuth, elevation = light["sun_direction"]
        towards = Vector((
            math.cos(azimuth) * math.cos(elevation), math.sin(azimuth) * math.cos(elevation),
            math.sin(elevation),
        ))  # fmt: skip
        _place(sun, Matrix.Translation(towards * 20) @ _facing(-towards))
    if light["area"]:
        lamp = bpy.data.lights.new("lamp", "AREA")
        lamp.energy, lamp.size = light["area"], 1.4
        place = Vector(middle) + Vector((1.6, -1.4, 2.7))
        _place(
            lamp, Matrix.Translation(place) @ _facing(Vector(middle) + Vector((0, 0, 1)) - place)
        )


def add_obstacles(obstacles: list[dict], random: np.random.Generator) -> None:
    """Things between camera and person."""
    for obstacle in obstacles:
        frame = Matrix.Translation((*obstacle["place"], 0)) @ Matrix.Rotation(
            obstacle["turn"], 4, "Z"
        )
        frame = frame @ Matrix.Scale(obstacle["size"], 4)
        THINGS[obstacle["kind"]](frame, random)


def _panorama(name: str) -> Path:
    return Path(bpy.utils.resource_path("LOCAL")) / "datafiles/studiolights/world" / f"{name}.exr"


def _place(data: Any, matrix: Matrix) -> Any:
    """A new object in the scene."""
    thing = bpy.data.objects.new(data.name, data)
    thing.matrix_world = matrix
    bpy.context.collection.objects.link(thing)
    return thing


def _facing(direction: Vector) -> Matrix:
    """A turn that points −z along a direction."""
    return direction.to_track_quat("-Z", "Y").to_matrix().to_4x4()


def _paint(thing: Any, pattern: str, *colors: list[float], **options: Any) -> Any:
    words = {"pattern": pattern, "colors": list(colors), **options}
    thing.data.materials.append(make_material(thing.name, words, Path(), rest=False))
    return thing


def _plane(side: float, matrix: Matrix) -> Any:
    mesh = bpy.data.meshes.new("plane")
    half = side / 2
    corners = [(-half, -half, 0), (half, -half, 0), (half, half, 0), (-half, half, 0)]
    mesh.from_pydata(corners, [], [(0, 1, 2, 3)])
    return _place(mesh, matrix)


def _box(size: tuple[float, float, float], matrix: Matrix) -> Any:
    """A box that stands on the origin of `matrix`, with slightly round edges."""
    mesh = bpy.data.meshes.new("box")
    x, y, z = size[0] / 2, size[1] / 2, size[2]
    corners = [
        (sx * x, sy * y, h) for h in (0, z) for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    faces = [(3, 2, 1, 0), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)]
    mesh.from_pydata(corners, [], faces)
    thing = _place(mesh, matrix)
    bevel = thing.modifiers.new("edges", "BEVEL")
    bevel.width, bevel.segments = min(size) * 0.06, 2
    return thing


def _ball(radius: float, matrix: Matrix, rough: float, random: np.random.Generator) -> Any:
    """An uneven ball: a bush, a heap."""
    rows, columns = 24, 36
    rise = np.linspace(0.05, np.pi - 0.05, rows)[:, None]
    turn = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    away = np.stack([np.sin(rise) * np.cos(turn), np.sin(rise) * np.sin(turn),
                     np.cos(rise) + 0 * turn], -1).reshape(-1, 3)  # fmt: skip
    waves = np.sin(away @ random.normal(0, 9, (3, 12)) + random.uniform(0, 6, 12)).mean(1)
    places = (
        away
        * (radius * (1 + rough * 3 * waves + rough * random.normal(0, 0.6, len(away))))[:, None]
    )
    quads = [
        (r * columns + c, r * columns + (c + 1) % columns, (r + 1) * columns + (c + 1) % columns,
         (r + 1) * columns + c)
        for r in range(rows - 1) for c in range(columns)
    ]  # fmt: skip
    mesh = bpy.data.meshes.new("ball")
    mesh.from_pydata(places.tolist(), [], quads)
    return _place(mesh, matrix)


def _behind(middle: Vector, camera: Matrix, distance: float, aside: float = 0.0) -> Matrix:
    """A frame on the ground behind the person as the camera sees it; x along the wall."""
    away = middle - camera.translation
    away.z = 0
    turn = math.atan2(away.y, away.x) - math.pi / 2
    return (
        Matrix.Translation(middle)
        @ Matrix.Rotation(turn, 4, "Z")
        @ Matrix.Translation((aside, distance, 0))
    )


def _wall(frame: Matrix, width: float, height: float) -> Any:
    return _box((width, 0.2, height), frame)


def _street(middle: Vector, camera: Matrix, random: np.random.Generator) -> None:
    tone = random.uniform(0.6, 1.4)
    colors = [[tone * channel for channel in grey] for grey in GREYS]
    kind = "tiles" if random.random() < 0.5 else "ground"
    _paint(_plane(60, Matrix()), kind, *colors, [0.05, 0.05, 0.05], scale=2.0)
    for _ in range(14):
        turn, distance = random.uniform(0, 2 * np.pi), random.uniform(7, 16)
        frame = (
            Matrix.Translation(middle)
            @ Matrix.Rotation(turn, 4, "Z")
            @ Matrix.Translation((distance, 0, 0))
        )
        house = _box((random.uniform(1, 3), random.uniform(2, 5), random.uniform(2.0, 7)), frame)
        if random.random() < 0.5:
            _paint(house, "bricks", *BRICKS, scale=3.0, upright=True, turn=turn)
        else:
            _paint(house, "plain", random.uniform(0.05, 0.6, 3).tolist())
    for _ in range(11):
        turn, distance = random.uniform(0, 2 * np.pi), random.uniform(3.0, 8)
        frame = (
            Matrix.Translation(middle)
            @ Matrix.Rotation(turn, 4, "Z")
            @ Matrix.Translation((distance, 0, 0))
        )
        kind = ("pole", "plant", "box", "table", "chair")[random.integers(5)]
        if (frame.translation - camera.translation).length > 2.5:
            THINGS[kind](frame, random)


def _room(middle: Vector, camera: Matrix, random: np.random.Generator) -> None:
    floor = _plane(30, Matrix.Rotation(random.uniform(0, 1), 4, "Z"))
    _paint(floor, "wood", [0.26, 0.13, 0.06], [0.15, 0.07, 0.03])
    for turn in range(4):
        frame = _behind(middle, camera, 0, 0) @ Matrix.Rotation(turn * math.pi / 2 + 0.2, 4, "Z")
        frame = frame @ Matrix.Translation((0, 5.2, 0))
        color = (0.35 + 0.4 * random.random(3)).tolist()
        _paint(_wall(frame, 16, 2.8), "plain", color)
        for _ in range(3):
            shift = Matrix.Translation((random.uniform(-3, 3), -0.12, random.uniform(1.0, 1.6)))
            picture = _box(
                (random.uniform(0.4, 1.1), 0.04, random.uniform(0.3, 0.8)), frame @ shift
            )
            _paint(picture, "marble", *random.uniform(0.02, 0.8, (4, 3)).tolist(), scale=3.0)
        shelf = frame @ Matrix.Translation((random.uniform(-2.5, 2.5), -0.35, 0))
        THINGS[("box", "table", "plant")[random.integers(3)]](shelf, random)


def _hall(middle: Vector, camera: Matrix, random: np.random.Generator) -> None:
    _paint(_plane(60, Matrix.Rotation(random.uniform(0, 1), 4, "Z")), "wood",
           [0.42, 0.22, 0.09], [0.33, 0.16, 0.06])  # fmt: skip
    for turn in range(4):
        frame = _behind(middle, camera, 0) @ Matrix.Rotation(turn * math.pi / 2 + 0.3, 4, "Z")
        wall = _wall(frame @ Matrix.Translation((0, 7.0, 0)), 14.4, 5)
        heading = frame.to_euler().z
        _paint(wall, "bricks", [0.5, 0.5, 0.47], [0.42, 0.42, 0.40], [0.25, 0.25, 0.25], scale=2.2,
               upright=True, turn=heading)  # fmt: skip
        bar = _box((14, 0.1, 0.5), frame @ Matrix.Translation((0, 6.8, 0.9)))
        _paint(bar, "plain", random.uniform(0.03, 0.5, 3).tolist())
        for _ in range(2):
            THINGS["box"](frame @ Matrix.Translation((random.uniform(-4, 4), 6.3, 0)), random)


def _field(middle: Vector, camera: Matrix, random: np.random.Generator) -> None:
    _paint(_plane(120, Matrix()), "ground", [0.10, 0.13, 0.03], [0.16, 0.11, 0.05], grain=0.8)
    for _ in range(16):
        turn, distance = random.uniform(0, 2 * np.pi), random.uniform(4.5, 14)
        frame = (
            Matrix.Translation(middle)
            @ Matrix.Rotation(turn, 4, "Z")
            @ Matrix.Translation((distance, 0, 0))
        )
        if (frame.translation - camera.translation).length > 3:
            THINGS["plant" if random.random() < 0.8 else "pole"](frame, random)


def _studio(middle: Vector, camera: Matrix, random: np.random.Generator) -> None:
    grey = random.uniform(0.2, 0.5)
    _paint(_plane(40, Matrix()), "plain", [grey, grey, 1.05 * grey])
    wall = _wall(_behind(middle, camera, 2.8), 26, 9)
    _paint(wall, "plain", [grey, grey, 1.05 * grey])


def _crate(frame: Matrix, random: np.random.Generator) -> None:
    size = random.uniform([0.35, 0.35, 0.4], [0.7, 0.6, 0.9])
    thing = _box(tuple(size), frame)
    if random.random() < 0.5:
        _paint(thing, "wood", [0.40, 0.24, 0.11], [0.28, 0.15, 0.07])
    else:
        _paint(thing, "plain", random.uniform(0.03, 0.6, 3).tolist())


def _chair(frame: Matrix, random: np.random.Generator) -> None:
    color = random.uniform(0.03, 0.4, 3).tolist()
    parts = [((0.44, 0.44, 0.05), (0, 0, 0.44)), ((0.05, 0.44, 0.45), (0.2, 0, 0.52))]
    parts += [((0.05, 0.05, 0.44), (x, y, 0)) for x in (-0.18, 0.18) for y in (-0.18, 0.18)]
    for size, place in parts:
        _paint(_box(size, frame @ Matrix.Translation(place)), "wood", color,
               [0.6 * channel for channel in color])  # fmt: skip


def _table(frame: Matrix, random: np.random.Generator) -> None:
    parts = [((0.7, 1.3, 0.04), (0, 0, 0.71))]
    parts += [((0.05, 0.05, 0.71), (x, y, 0)) for x in (-0.3, 0.3) for y in (-0.58, 0.58)]
    for size, place in parts:
        _paint(_box(size, frame @ Matrix.Translation(place)), "wood", [0.35, 0.2, 0.1],
               [0.2, 0.1, 0.05])  # fmt: skip
    for _ in range(3):
        place = Matrix.Translation((random.uniform(-0.2, 0.2), random.uniform(-0.5, 0.5), 0.75))
        _paint(_box(tuple(random.uniform(0.08, 0.22, 3)), frame @ place), "plain",
               random.uniform(0.03, 0.7, 3).tolist())  # fmt: skip


def _pole(frame: Matrix, random: np.random.Generator) -> None:
    color = random.uniform(0.03, 0.5, 3).tolist()
    _paint(_box((0.09, 0.09, 3.2), frame), "stripes", color, [0.7, 0.7, 0.65], period_m=0.5,
           axis=[0, 0, 1])  # fmt: skip


def _plant(frame: Matrix, random: np.random.Generator) -> None:
    _paint(_box((0.3, 0.3, 0.28), frame), "plain", [0.30, 0.12, 0.06])
    green = (np.array([0.05, 0.14, 0.03]) * random.uniform(0.5, 1.6)).tolist()
    for _ in range(5):
        place = Matrix.Translation((*random.uniform(-0.18, 0.18, 2), random.uniform(0.4, 0.95)))
        ball = _ball(random.uniform(0.14, 0.26), frame @ place, 0.35, random)
        _paint(ball, "ground", green, [0.5 * channel for channel in green], grain=0.9)


SETTINGS = {"street": _street, "room": _room, "hall": _hall, "field": _field, "studio": _studio}
THINGS = {"box": _crate, "chair": _chair, "table": _table, "pole": _pole, "plant": _plant}
