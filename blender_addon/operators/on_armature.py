# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators on a body's armature share."""

from __future__ import annotations

import bpy

from ..rigs.library_link import linked_armature


def selected_bones(armature: bpy.types.Object) -> frozenset[str]:
    """Names of the selected pose bones; from Blender 5.0 on the pose bone itself is selected."""
    bones = () if armature.pose is None else armature.pose.bones
    return frozenset(b.name for b in bones if (b if hasattr(b, "select") else b.bone).select)


class OnArmature:
    """An operator that needs an armature to be active."""

    armature_wanted = "Select the armature of a body"
    """What the tooltip says where none is."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether an armature is active."""
        if context.object is None or context.object.type != "ARMATURE":
            linked = linked_armature(context.object)
            cls.poll_message_set(
                f"{linked} is linked with its collection: make a library override first (Object > "
                "Library Override > Make)"
                if linked
                else cls.armature_wanted
            )
            return False
        return True


def chosen_armatures(context: bpy.types.Context) -> list[bpy.types.Object]:
    """The active armature, then all other selected ones in the order of their names."""
    others = [item for item in context.selected_objects if item.type == "ARMATURE"]
    others = sorted((item for item in others if item != context.object), key=lambda o: o.name)
    return [context.object, *others]
