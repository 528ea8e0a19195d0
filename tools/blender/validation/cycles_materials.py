# SPDX-License-Identifier: GPL-3.0-or-later
"""Materials as Cycles has them, from a few words: pattern, colours, sizes.

Patterns are functions of the attribute `rest`, where a point is on the body at rest, so that they
stay on the cloth when it moves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

__all__ = ["make_material"]

Color = list[float]
Links = Any


class _Tree:
    """A node tree under construction."""

    def __init__(self, material: bpy.types.Material, rest: bool) -> None:
        material.use_nodes = True
        self.nodes, self.links = material.node_tree.nodes, material.node_tree.links
        self.shader = self.nodes["Principled BSDF"]
        if rest:
            attribute = self.add("ShaderNodeAttribute")
            attribute.attribute_name = "rest"
            self.place = attribute.outputs["Vector"]
        else:
            self.place = self.add("ShaderNodeNewGeometry").outputs["Position"]

    def add(self, kind: str, **inputs: Any) -> Any:
        """A node with some inputs set or linked; names with spaces written with underscores."""
        node = self.nodes.new(kind)
        for name, value in inputs.items():
            socket = node.inputs[name.replace("_", " ")]
            if isinstance(value, bpy.types.NodeSocket):
                self.links.new(value, socket)
            else:
                socket.default_value = value
        return node

    def math(self, operation: str, a: Any, b: Any = 0.0) -> Any:
        """A number from two."""
        node = self.nodes.new("ShaderNodeMath")
        node.operation = operation
        for socket, value in zip(node.inputs, (a, b), strict=False):
            if isinstance(value, bpy.types.NodeSocket):
                self.links.new(value, socket)
            else:
                socket.default_value = value
        return node.outputs[0]

    def mix(self, share: Any, a: Any, b: Any) -> Any:
        """A colour between two."""
        node = self.nodes.new("ShaderNodeMix")
        node.data_type = "RGBA"
        for socket, value in ((node.inputs[0], share), (node.inputs[6], a), (node.inputs[7], b)):
            if isinstance(value, bpy.types.NodeSocket):
                self.links.new(value, socket)
            else:
                socket.default_value = value
        return node.outputs[2]

    def along(self, axis: list[float]) -> Any:
        """Distance along a direction, metres."""
        node = self.add("ShaderNodeVectorMath", Vector=self.place)
        node.operation = "DOT_PRODUCT"
        node.inputs[1].default_value = axis
        return node.outputs["Value"]

    def bands(self, axis: list[float], period: float, share: float = 0.5) -> Any:
        """1 on a share of each period along a direction, else 0."""
        part = self.math("FRACT", self.math("DIVIDE", self.along(axis), period))
        return self.math("LESS_THAN", part, share)

    def noise(self, scale: float, detail: float = 3.0, distortion: float = 0.0) -> Any:
        """Smooth noise about 0.5."""
        return self.add(
            "ShaderNodeTexNoise", Vector=self.place, Scale=scale, Detail=detail,
            Distortion=distortion,
        ).outputs["Fac"]  # fmt: skip

    def steps(self, value: Any, colors: list[Color], *, smooth: bool = False) -> Any:
        """Colours by a value around 0.5."""
        ramp = self.nodes.new("ShaderNodeValToRGB").color_ramp
        ramp.interpolation = "LINEAR" if smooth else "CONSTANT"
        node = self.nodes[-1]
        while len(ramp.elements) < len(colors):
            ramp.elements.new(1.0)
        for index, color in enumerate(colors):
            share = index / max(len(colors) - (1 if smooth else 0), 1)
            ramp.elements[index].position = 0.32 + 0.36 * share if index else 0.0
            ramp.elements[index].color = rgba(color)
        self.links.new(value, node.inputs["Fac"])
        return node.outputs["Color"]


def rgba(color: Color) -> tuple[float, float, float, float]:
    """A linear colour without transparency."""
    return (color[0], color[1], color[2], 1.0)


def make_material(name: str, words: dict, folder: Path, *, rest: bool = True) -> Any:
    """A material.

    Args:
        name: its name.
        words: `pattern`, `colors` (linear) and the pattern's own options.
        folder: where decals lie.
        rest: patterns follow the attribute `rest`; otherwise the world.

    Returns:
        The new `bpy.types.Material`.
    """
    material = bpy.data.materials.new(name)
    tree = _Tree(material, rest)
    color = PATTERNS[words["pattern"]](tree, words, folder)
    shade = tree.mix(tree.math("MULTIPLY", tree.noise(7.0, 4.0), 0.35), color, rgba([0, 0, 0]))
    tree.links.new(shade if words["pattern"] != "skin" else color, tree.shader.inputs["Base Color"])
    rough = {"leather": 0.35, "skin": 0.5, "hair": 0.45, "wood": 0.4, "tiles": 0.25}
    tree.shader.inputs["Roughness"].default_value = words.get(
        "roughness", rough.get(words["pattern"], 0.85)
    )
    shine = {"leather": 0.5, "skin": 0.4, "tiles": 0.5, "wood": 0.4}
    tree.shader.inputs["Specular IOR Level"].default_value = shine.get(words["pattern"], 0.15)
    _relief(tree, words)
    return material


def _relief(tree: _Tree, words: dict) -> None:
    """Fine folds of cloth, strands of hair, pores: as a bump."""
    heights = {"skin": (160.0, 0.08, 0.001), "hair": (60.0, 0.5, 0.004), "knit": (0, 0.6, 0.003)}
    scale, strength, distance = heights.get(words["pattern"], (28.0, 0.35, 0.006))
    height = tree.noise(scale, 4.0, 1.5) if scale else tree.bands([0, 1, 0], 0.012)
    if words["pattern"] == "hair":
        stretched = tree.add("ShaderNodeMapping", Vector=tree.place, Scale=(1.0, 0.06, 1.0))
        height = tree.add(
            "ShaderNodeTexNoise", Vector=stretched.outputs[0], Scale=220.0, Detail=3.0
        ).outputs["Fac"]
    bump = tree.add("ShaderNodeBump", Strength=strength, Distance=distance, Height=height)
    tree.links.new(bump.outputs["Normal"], tree.shader.inputs["Normal"])


def _plain(tree: _Tree, words: dict, folder: Path) -> Any:
    color = words["colors"][0]
    return tree.mix(tree.noise(3.0), rgba(color), rgba([0.8 * channel for channel in color]))


def _leather(tree: _Tree, words: dict, folder: Path) -> Any:
    color = words["colors"][0]
    return tree.mix(tree.noise(40.0), rgba(color), rgba([0.4 * channel for channel in color]))


def _skin(tree: _Tree, words: dict, folder: Path) -> Any:
    attribute = tree.add("ShaderNodeAttribute")
    attribute.attribute_name = "tint"
    tree.shader.inputs["Subsurface Weight"].default_value = 0.12
    tree.shader.inputs["Subsurface Radius"].default_value = (0.012, 0.005, 0.003)
    red = tree.mix(0.35, attribute.outputs["Color"], rgba([0.5, 0.12, 0.08]))
    return tree.mix(
        tree.math("MULTIPLY", tree.noise(9.0, 5.0), 0.45), attribute.outputs["Color"], red
    )


def _hair(tree: _Tree, words: dict, folder: Path) -> Any:
    color = words["colors"][0]
    stretched = tree.add("ShaderNodeMapping", Vector=tree.place, Scale=(1.0, 0.08, 1.0))
    strands = tree.add("ShaderNodeTexNoise", Vector=stretched.outputs[0], Scale=180.0, Detail=4.0)
    bright = [min(2.2 * channel + 0.01, 1.0) for channel in color]
    return tree.mix(strands.outputs["Fac"], rgba([0.3 * c for c in color]), rgba(bright))


def _stripes(tree: _Tree, words: dict, folder: Path) -> Any:
    share = tree.bands(words.get("axis", [0, 1, 0]), words["period_m"])
    return tree.mix(share, *(rgba(color) for color in words["colors"][:2]))


def _side(tree: _Tree, words: dict, folder: Path) -> Any:
    """A stripe down the outer seam."""
    across = tree.math("ABSOLUTE", tree.along([1, 0, 0]))
    outside = tree.math("GREATER_THAN", across, words.get("from_m", 0.185))
    return tree.mix(outside, *(rgba(color) for color in words["colors"][:2]))


def _plaid(tree: _Tree, words: dict, folder: Path) -> Any:
    base, dark, light = (rgba(color) for color in words["colors"][:3])
    period = words["period_m"]
    color = tree.mix(tree.math("MULTIPLY", tree.bands([1, 0, 0.3], period), 0.55), base, dark)
    color = tree.mix(tree.math("MULTIPLY", tree.bands([0, 1, 0], period), 0.55), color, dark)
    color = tree.mix(tree.bands([1, 0, 0.3], period, 0.06), color, light)
    return tree.mix(tree.bands([0, 1, 0], period, 0.06), color, light)


def _checks(tree: _Tree, words: dict, folder: Path) -> Any:
    node = tree.add("ShaderNodeTexChecker", Vector=tree.place, Scale=1.0 / words["period_m"])
    for socket, color in zip(("Color1", "Color2"), words["colors"], strict=False):
        node.inputs[socket].default_value = rgba(color)
    return node.outputs["Color"]


def _dots(tree: _Tree, words: dict, folder: Path) -> Any:
    node = tree.add(
        "ShaderNodeTexVoronoi", Vector=tree.place, Scale=1.0 / words["period_m"], Randomness=0.15
    )
    spot = tree.math("LESS_THAN", node.outputs["Distance"], 0.42)
    return tree.mix(spot, *(rgba(color) for color in words["colors"][:2]))


def _floral(tree: _Tree, words: dict, folder: Path) -> Any:
    base, *blossoms = (rgba(color) for color in words["colors"])
    cells = tree.add(
        "ShaderNodeTexVoronoi", Vector=tree.place, Scale=words["scale"], Randomness=1.0
    )
    ragged = tree.math(
        "ADD", cells.outputs["Distance"], tree.math("MULTIPLY", tree.noise(90.0), 0.35)
    )
    color = base
    which = tree.add("ShaderNodeSeparateColor", Color=cells.outputs["Color"]).outputs[0]
    for index, blossom in enumerate(blossoms):
        mine = tree.math("GREATER_THAN", which, index / len(blossoms))
        share = tree.math("MULTIPLY", mine, tree.math("LESS_THAN", ragged, 0.62))
        color = tree.mix(share, color, blossom)
    heart = tree.math("LESS_THAN", ragged, 0.30)
    return tree.mix(heart, color, base)


def _camouflage(tree: _Tree, words: dict, folder: Path) -> Any:
    return tree.steps(tree.noise(11.0, 2.0, 1.0), words["colors"])


def _marble(tree: _Tree, words: dict, folder: Path) -> Any:
    return tree.steps(tree.noise(words["scale"], 6.0, 3.0), words["colors"], smooth=True)


def _swirl(tree: _Tree, words: dict, folder: Path) -> Any:
    node = tree.add(
        "ShaderNodeTexWave", Vector=tree.place, Scale=words["scale"], Distortion=9.0, Detail=2.0,
        Detail_Scale=1.2,
    )  # fmt: skip
    return tree.steps(node.outputs["Fac"], words["colors"])


def _denim(tree: _Tree, words: dict, folder: Path) -> Any:
    light, dark = (rgba(color) for color in words["colors"][:2])
    fine = tree.mix(tree.noise(130.0, 2.0), light, dark)
    worn = tree.math("MULTIPLY", tree.noise(5.0, 3.0), 0.6)
    return tree.mix(worn, fine, rgba([min(1.6 * c + 0.1, 1.0) for c in words["colors"][0]]))


def _knit(tree: _Tree, words: dict, folder: Path) -> Any:
    a, b = (rgba(color) for color in words["colors"][:2])
    rows = tree.bands([0, 1, 0], 0.012)
    cable = tree.bands([1, 0, 0], 0.06, 0.25)
    return tree.mix(tree.math("MULTIPLY", tree.math("MAXIMUM", rows, cable), 0.6), a, b)


def _print(tree: _Tree, words: dict, folder: Path) -> Any:
    """A picture printed on the chest, and on the back mirrored as it should be."""
    base, ink = (rgba(color) for color in words["colors"][:2])
    image = tree.nodes.new("ShaderNodeTexImage")
    image.image = bpy.data.images.load(str(folder / words["decal_file"]), check_existing=True)
    image.image.colorspace_settings.name = "Non-Color"
    image.extension = "CLIP"
    side = tree.math("SIGN", tree.along([0, 0, 1]))
    across = tree.math("MULTIPLY", tree.along([1, 0, 0]), side)
    size, middle = words.get("size_m", 0.27), words.get("middle_m", 0.06)
    u = tree.math("ADD", tree.math("DIVIDE", across, size), 0.5)
    v = tree.math("ADD", tree.math("DIVIDE", tree.math("SUBTRACT", tree.along([0, 1, 0]), middle),
                                   size), 0.5)  # fmt: skip
    uv = tree.add("ShaderNodeCombineXYZ", X=u, Y=v)
    tree.links.new(uv.outputs[0], image.inputs["Vector"])
    return tree.mix(image.outputs["Color"], base, ink)


def _bricks(tree: _Tree, words: dict, folder: Path) -> Any:
    node = tree.add("ShaderNodeTexBrick", Vector=tree.place, Scale=words.get("scale", 4.0))
    for socket, color in zip(("Color1", "Color2", "Mortar"), words["colors"], strict=False):
        node.inputs[socket].default_value = rgba(color)
    if words.get("upright"):
        turned = tree.add("ShaderNodeMapping", Vector=tree.place,
                          Rotation=(math.pi / 2, 0, words.get("turn", 0.0)))  # fmt: skip
        tree.links.new(turned.outputs[0], node.inputs["Vector"])
    node.offset = 0.0 if words["pattern"] == "tiles" else 0.5
    if words["pattern"] == "tiles":
        node.inputs["Brick Width"].default_value = node.inputs["Row Height"].default_value = 0.4
    return node.outputs["Color"]


def _wood(tree: _Tree, words: dict, folder: Path) -> Any:
    grain = tree.add("ShaderNodeTexWave", Vector=tree.place, Scale=0.9, Distortion=6.0, Detail=4.0)
    plank = tree.bands([0, 1, 0], 0.13, 0.04)
    color = tree.mix(grain.outputs["Fac"], *(rgba(color) for color in words["colors"][:2]))
    return tree.mix(plank, color, rgba([0.02, 0.012, 0.008]))


def _ground(tree: _Tree, words: dict, folder: Path) -> Any:
    """Earth, asphalt or grass: noise at two scales."""
    a, b = (rgba(color) for color in words["colors"][:2])
    coarse = tree.mix(tree.noise(1.3, 6.0), a, b)
    fine = tree.math("MULTIPLY", tree.noise(70.0, 2.0), words.get("grain", 0.5))
    return tree.mix(fine, coarse, rgba([1.7 * channel for channel in words["colors"][1]]))


PATTERNS: dict[str, Callable[[_Tree, dict, Path], Any]] = {
    "plain": _plain, "leather": _leather, "skin": _skin, "hair": _hair, "stripes": _stripes,
    "side": _side, "plaid": _plaid, "checks": _checks, "dots": _dots, "floral": _floral,
    "camouflage": _camouflage, "marble": _marble, "swirl": _swirl, "denim": _denim,
    "knit": _knit, "print": _print, "bricks": _bricks, "tiles": _bricks, "wood": _wood,
    "ground": _ground,
}  # fmt: skip
