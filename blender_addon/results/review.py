# SPDX-License-Identifier: GPL-3.0-or-later
"""How a scene shows what refinements said: when a frame is doubtful, and what is drawn of it."""

from __future__ import annotations

import bpy

from . import findings, frame_doubt, key_marks
from .frame_doubt import FrameDoubt


def _on_threshold(settings: bpy.types.PropertyGroup, context: bpy.types.Context) -> None:
    for item in settings.id_data.objects:
        if item.type == "ARMATURE":
            key_marks.renew(item, settings.threshold)


class PosefitReview(bpy.types.PropertyGroup):
    """What is looked for and drawn; kept with the scene."""

    threshold: bpy.props.FloatProperty(
        name="Doubtful Below",
        description="A frame is doubtful where the confidence of its least sure body part (trunk, "
        "head, an arm or a leg: the mean of its joints) is below this",
        default=0.5,
        min=0.01,
        max=1.0,
        subtype="FACTOR",
        options=set(),
        update=_on_threshold,
    )
    colours: bpy.props.EnumProperty(
        name="Colours",
        description="What is shown in colours on refined bodies in the viewport",
        items=[
            ("OFF", "No Colours", "Bodies look as they do"),
            ("CONFIDENCE", "Confidence", "How sure the backend was of each joint at this frame"),
            ("CHANGE", "Change", "How far the refinement moved each joint at this frame"),
        ],
        options=set(),
    )
    opacity: bpy.props.FloatProperty(
        name="Opacity",
        description="How much the colours cover of the body, and of bones that are in it",
        default=0.7,
        min=0.1,
        max=1.0,
        subtype="FACTOR",
        options=set(),
    )
    change_limit_mm: bpy.props.FloatProperty(
        name="Full Orange (mm)",
        description="From how many millimetres of change on joints are fully orange",
        default=50.0,
        min=0.1,
        soft_max=200.0,
        max=10000.0,
        options=set(),
    )
    ghost: bpy.props.EnumProperty(
        name="Ghost",
        description="How the original is drawn beside what is shown, until a refinement is "
        "accepted or rejected",
        items=[
            ("OFF", "No Ghost", "The original is not drawn"),
            ("BODY", "Ghost Body", "The original as a translucent body, in the shape of now"),
            ("BONES", "Ghost Bones", "The original's joints and bones as lines"),
        ],
        options=set(),
    )
    use_texture: bpy.props.BoolProperty(
        name="Show on Body",
        description="Draw the texture over the body in the viewport; nothing is added to the mesh",
        options=set(),
    )
    use_arrows: bpy.props.BoolProperty(
        name="Arrows",
        description="Draw arrows from where the original has each joint to where it is shown, "
        "where that is more than 2 mm",
        options=set(),
    )


# Functions, not methods: in the module bpy 4.2 a PropertyGroup with a method crashes at exit.
def problem(armature: bpy.types.Object | None) -> str:
    """Why there is nothing to review, in one sentence; empty where there is."""
    if armature is None or armature.type != "ARMATURE":
        return "No armature is active: select the armature of a refined body"
    if findings.action_of(armature) is None:
        return f"{armature.name} shows no refined action: refine it first"
    return ""


def doubtful_frame(scene: bpy.types.Scene, armature: bpy.types.Object, step: int) -> int | None:
    """The next (1) or previous (−1) doubtful frame of an armature; none where no frame is."""
    found = findings.of_armature(armature)
    if found is None:
        return None
    sure = frame_doubt.frame_confidence(found.confidence, found.status)
    threshold = scene.posefit_review.threshold
    return frame_doubt.next_doubtful(found.frames, sure, threshold, scene.frame_current, step)


def worst(armature: bpy.types.Object, count: int) -> list[FrameDoubt]:
    """An armature's least sure frames, the worst first."""
    found = findings.of_armature(armature)
    if found is None:
        return []
    return frame_doubt.worst_frames(found.frames, found.confidence, found.status, count)


def doubt_words(one: FrameDoubt) -> str:
    """A frame of which the refinement is unsure, for the artist."""
    if one.part:
        return f"Frame {one.frame}, {one.part}: {one.confidence:.0%} sure"
    return f"Frame {one.frame}: {one.why}"


def counts(armature: bpy.types.Object) -> dict[str, int]:
    """How many frames ended in which status; those that none did are left out."""
    found = findings.of_armature(armature)
    status = () if found is None else found.status
    return {word: status.count(word) for word in dict.fromkeys(status)}


def misfit_words(armature: bpy.types.Object) -> str:
    """How well the last refinement explains the picture, against before; empty where not known.

    The typical frame is the median.
    """
    found = findings.of_armature(armature)
    ratio = None if found is None else found.report.get("misfit_after_by_before")
    if not isinstance(ratio, float):
        return ""
    return f"{ratio:.0%} of the misfit with the picture is left on a typical frame"


def attach() -> None:
    """Give every scene its settings."""
    bpy.types.Scene.posefit_review = bpy.props.PointerProperty(type=PosefitReview)


def detach() -> None:
    """Take them away again."""
    del bpy.types.Scene.posefit_review


CLASSES = (PosefitReview,)
