# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/blender_reference.md: every panel, button and setting, by the words of its tooltip.

    .venv-bpy42/bin/python tools/blender/write_reference.py

Runs with the module `bpy`. The text comes from the classes that the extension registers, so it is
right when it is made again; a test compares it with what they say.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

import bpy  # noqa: E402

logger = logging.getLogger(__name__)

TARGET = REPOSITORY / "docs/blender_reference.md"
OWNERS = ("Scene", "Object", "PoseBone", "Action", "WindowManager")
"""What the extension gives properties to."""
HEAD = """# Every panel, button and setting

Made by `tools/blender/write_reference.py` from the tooltips; change those, and run it again.
What the words mean, and in which order things are done, is in [blender.md](blender.md).
"""


def reference() -> str:
    """The whole text, from the classes that are registered now."""
    parts = [HEAD, *_panels(), *_operators(), *_scene_settings(), *_preferences()]
    return "\n".join(parts)


def operators() -> list[type]:
    """The operators that artists see."""
    found = _classes(bpy.types.Operator)
    return [cls for cls in found if "INTERNAL" not in getattr(cls, "bl_options", ())]


def _classes(base: type) -> list[type]:
    from blender_addon.registration import CLASSES

    return [cls for cls in CLASSES if issubclass(cls, base)]


def _panels() -> Iterator[str]:
    """The panels in the order of the sidebar, children beneath their parents."""
    yield "## Panels\n\nIn the 3D view's sidebar (N), tab *posefit*, from top to bottom.\n"
    panels = _classes(bpy.types.Panel)
    ids = {panel.__name__ for panel in panels} | {panel.bl_idname for panel in panels}
    for panel in panels:
        if getattr(panel, "bl_parent_id", "") not in ids:
            yield from _panel(panel, panels, "")
    yield ""


def _panel(panel: type, panels: list[type], indent: str) -> Iterator[str]:
    closed = " (closed at first)" if "DEFAULT_CLOSED" in getattr(panel, "bl_options", ()) else ""
    yield f"{indent}- **{panel.bl_label}**{closed}: {_sentence(panel.__doc__)}"
    for child in panels:
        if getattr(child, "bl_parent_id", None) == panel.bl_idname:
            yield from _panel(child, panels, f"{indent}  ")


def _operators() -> Iterator[str]:
    """What can be pressed, searched for (F3) and called."""
    yield "## Operators\n\nAlso found by searching (F3), and called by scripts under this name.\n"
    for operator in sorted(operators(), key=lambda cls: cls.bl_label):
        rna = getattr(bpy.ops.posefit, operator.bl_idname.split(".")[1]).get_rna_type()
        yield f"### {operator.bl_label}\n\n`bpy.ops.{operator.bl_idname}`\n"
        yield f"{_sentence(rna.description)}\n"
        yield from _properties(rna)


def _scene_settings() -> Iterator[str]:
    """Properties that the extension gives to Blender's own things, saved with the file."""
    yield "## Settings\n\nSaved with the file; scripts set them by the path given here.\n"
    docstrings = {cls.__name__: cls.__doc__ for cls in _classes(bpy.types.PropertyGroup)}
    for owner in OWNERS:
        properties = getattr(bpy.types, owner).bl_rna.properties
        given = [prop for prop in properties if prop.identifier.startswith("posefit")]
        for prop in given:
            lines = list(_properties(prop.fixed_type)) if prop.type == "POINTER" else []
            if lines:
                yield f"### `{owner}.{prop.identifier}`\n"
                yield f"{_sentence(docstrings.get(prop.fixed_type.identifier))}\n"
                yield from lines
        alike = [_without_joint(prop) for prop in given if _is_told(prop)]
        for name, words in dict.fromkeys(alike):
            yield f"### `{owner}.{name}`\n\n{_sentence(words)}\n"


def _without_joint(prop: bpy.types.Property) -> tuple[str, str]:
    """A property's name and tooltip; the same for those that exist once for each joint."""
    from blender_addon.rigs.rig_match import EVERY_JOINT, property_of

    for joint in EVERY_JOINT:
        if prop.identifier == property_of(joint):
            return property_of("JOINT"), prop.description.replace(joint, "JOINT")
    return prop.identifier, prop.description


def _preferences() -> Iterator[str]:
    """What is kept with the user."""
    yield "## Preferences\n\nKept with the user (*Edit › Preferences › Add-ons › posefit*).\n"
    for cls in _classes(bpy.types.AddonPreferences):
        yield from _properties(cls.bl_rna)


def _properties(rna: bpy.types.Struct) -> Iterator[str]:
    """A table of what can be set; nothing where there is nothing."""
    shown = [prop for prop in rna.properties if prop.is_runtime and _is_told(prop)]
    if not shown:
        return
    yield "| name | in scripts | default | what |\n|---|---|---|---|"
    for prop in shown:
        yield f"| {prop.name} | `{prop.identifier}` | {_default(prop)} | {_what(prop)} |"
    yield ""


def _is_told(prop: bpy.types.Property) -> bool:
    """Whether a property is for people: those without a tooltip are the extension's memory."""
    return bool(prop.description) and prop.type not in ("POINTER", "COLLECTION")


def _default(prop: bpy.types.Property) -> str:
    if prop.type == "ENUM":
        if prop.is_enum_flag:
            return ", ".join(sorted(prop.default_flag)) or "none"
        names = {item.identifier: item.name for item in prop.enum_items}
        return names.get(prop.default, "")
    if prop.type == "BOOLEAN":
        return "on" if prop.default else "off"
    if prop.type == "STRING":
        return f"`{prop.default}`" if prop.default else ""
    if getattr(prop, "is_array", False):
        return ", ".join(f"{one:g}" for one in prop.default_array)
    return f"{prop.default:.6g}"


def _what(prop: bpy.types.Property) -> str:
    words = _sentence(prop.description)
    if prop.type == "ENUM":
        items = [f"*{item.name}* (`{item.identifier}`)" + _colon(item) for item in prop.enum_items]
        words = f"{words} {'; '.join(items)}." if items else words
    return words.replace("|", "\\|")


def _colon(item: bpy.types.EnumPropertyItem) -> str:
    description = item.description.rstrip(".")
    return f": {description}" if description else ""


def _sentence(text: str | None) -> str:
    """A docstring or tooltip as one line that ends."""
    words = " ".join((text or "").split())
    return words if not words or words[-1] in ".!?" else f"{words}."


def main() -> int:
    """Register the extension, and write the file."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    import blender_addon

    bpy.context.preferences.addons.new().module = "blender_addon"
    blender_addon.register()
    try:
        TARGET.write_text(reference(), encoding="utf-8")
    finally:
        blender_addon.unregister()
    logger.info("%s", TARGET.relative_to(REPOSITORY))
    return 0


if __name__ == "__main__":
    sys.exit(main())
