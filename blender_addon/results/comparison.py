# SPDX-License-Identifier: GPL-3.0-or-later
"""What an armature remembers of a refinement: original action, refined action, and the slider.

Both actions are kept by pointers, so renaming them changes nothing, and the file saves them. At 0
the armature uses the original action, at 1 the refined one, and in between a third that is blended
from both and thrown away afterwards: frame changes, playback and rendering work as with any action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import bpy
import numpy as np

from ..keys import fcurves, strips
from ..keys.fcurves import ActionSlot, Channel, remove_unused, slot_handle, use_action
from ..keys.joint_channels import SideSource, present_values
from ..rigs import body_builder
from ..rigs.rig import SceneError
from ..scenes import camera_lens
from . import blended_preview
from .compared_sides import slot_in, stored_still

MAX_BETAS = 32
"""The most shape coefficients that are remembered; what Blender's properties can hold."""


# Settings of Accept, kept with each armature and given to the operator.
BONES = dict(
    name="Bones",
    description="Which bones to accept; all others go back to the original",
    items=[
        ("ALL", "All Bones", "Every bone that was refined"),
        ("SELECTED", "Selected Bones", "Only the selected pose bones"),
    ],
    options=set(),
)
FRAMES = dict(
    name="Frames",
    description="Which frames to accept; all others go back to the original",
    items=[
        ("ALL", "All Frames", "Every frame that was refined"),
        ("RANGE", "Scene Range", "Only the scene's range, or its preview range where one is"),
        ("CURRENT", "Current Frame", "Only the frame that is shown"),
    ],
    options=set(),
)
KEYS = dict(
    name="Keys",
    description="Which keys the accepted motion gets",
    items=[
        ("COMPUTED", "As Computed", "A key on every frame that was computed"),
        ("OWN", "Own Keys", "Keys only where the original action has keys"),
        ("FEWEST", "Fewest", "As few linear keys as stay within the tolerance"),
    ],
    options=set(),
)
TOLERANCE_MM = dict(
    name="Tolerance (mm)",
    description="How far, in millimetres, a joint may lie from the motion with all keys",
    default=5.0,
    min=0.01,
    soft_max=50.0,
    max=1000.0,
    options=set(),
)
CHANGEABLE = {"LIBRARY_OVERRIDABLE"}
"""Without it the sliders of library overrides are greyed out."""
ACCEPT_SETTINGS = ("bones", "frames", "keys", "tolerance_mm")


def _on_amount(settings: bpy.types.PropertyGroup, context: bpy.types.Context) -> None:
    armature = settings.id_data
    if not problem(armature):
        show(armature, settings.amount, at_once=bpy.app.background)


class PosefitStillValue(bpy.types.PropertyGroup):
    """A value of the original pose that no curve held."""

    data_path: bpy.props.StringProperty()
    index: bpy.props.IntProperty()
    value: bpy.props.FloatProperty()


class PosefitComparison(bpy.types.PropertyGroup):
    """Original and refined motion of one armature, and how they are to be accepted."""

    original: bpy.props.PointerProperty(type=bpy.types.Action)
    refined: bpy.props.PointerProperty(type=bpy.types.Action)
    preview: bpy.props.PointerProperty(type=bpy.types.Action)
    original_slot: bpy.props.IntProperty()
    refined_slot: bpy.props.IntProperty()
    had_action: bpy.props.BoolProperty()
    is_over_strips: bpy.props.BoolProperty()
    still: bpy.props.CollectionProperty(type=PosefitStillValue)
    betas: bpy.props.FloatVectorProperty(size=MAX_BETAS)
    betas_count: bpy.props.IntProperty()
    camera: bpy.props.PointerProperty(type=bpy.types.Camera)
    lens_before: bpy.props.FloatProperty()
    lens_after: bpy.props.FloatProperty()
    lens_shown: bpy.props.FloatProperty()
    blended_amount: bpy.props.FloatProperty(default=blended_preview.NONE)
    amount: bpy.props.FloatProperty(
        name="Refined",
        description="What is shown, and what Accept takes: 0 is the original pose, 1 the refined "
        "one, between them each bone is turned that part of the way",
        default=1.0,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
        options=set(),
        override=CHANGEABLE,
        update=_on_amount,
    )
    bones: bpy.props.EnumProperty(**BONES, override=CHANGEABLE)
    frames: bpy.props.EnumProperty(**FRAMES, override=CHANGEABLE)
    keys: bpy.props.EnumProperty(**KEYS, override=CHANGEABLE)
    tolerance_mm: bpy.props.FloatProperty(**TOLERANCE_MM, override=CHANGEABLE)


# Functions, not methods: in the module bpy 4.2 a PropertyGroup with a method crashes at exit.
@dataclass(frozen=True)
class Before:
    """How an armature stood before a refinement was put in place."""

    action: bpy.types.Action | None
    slot: int
    still: Mapping[Channel, float]
    """Values of channels that no curve held."""
    betas: tuple[float, ...]
    is_over_strips: bool = False
    """Whether NLA strips alone moved it."""


def state_before(armature: bpy.types.Object) -> Before:
    """How an armature stands now."""
    animation = armature.animation_data
    curves = fcurves.curves_of(armature)
    values = present_values(armature)
    return Before(
        action=None if animation is None else animation.action,
        slot=slot_handle(armature),
        still={channel: value for channel, value in values.items() if channel not in curves},
        betas=tuple(body_builder.read_betas(armature).tolist()),
        is_over_strips=fcurves.slot_of(armature).uid == 0 and strips.has_strips(armature),
    )


def remember(armature: bpy.types.Object, before: Before) -> None:
    """Begin to compare the action in use with what was there before.

    A refinement of what was refined and not yet accepted is compared with the same original; its
    result takes the place of the one it was made from.
    """
    settings = armature.posefit_comparison
    superseded, preview = settings.refined, settings.preview
    goes_on = _goes_on(settings, before)
    settings.refined = armature.animation_data.action
    settings.refined_slot = slot_handle(armature)
    settings.preview = None
    camera_lens.go_on(settings)
    if not goes_on:
        settings.camera = None
        settings.original, settings.original_slot = before.action, before.slot
        settings.had_action = before.action is not None
        settings.is_over_strips = before.is_over_strips
        _store_still(settings, before.still)
        kept = before.betas[:MAX_BETAS]
        settings.betas_count = len(kept)
        settings.betas = (*kept, *(0.0,) * (MAX_BETAS - len(kept)))
    settings.amount = 1.0
    if goes_on and before.action == superseded:
        name = superseded.name
        if remove_unused(superseded):
            settings.refined.name = name
    elif superseded is not None:
        superseded.use_fake_user = True  # the new result was not made from it: keep both
    remove_unused(preview)


def problem(armature: bpy.types.Object | None) -> str:
    """Why there is nothing to compare, in one sentence; empty where there is."""
    if armature is None or armature.type != "ARMATURE":
        return "No armature is active: select the armature of a refined body"
    settings = armature.posefit_comparison
    if settings.refined is None:
        return f"{armature.name} has no refinement that waits to be accepted: refine it first"
    if settings.had_action and settings.original is None:
        return (
            f"The original action of {armature.name} was removed from the file, so nothing can be "
            "compared: the action in use stays as it is"
        )
    action = None if armature.animation_data is None else armature.animation_data.action
    known = [settings.refined, settings.preview, settings.original]
    if action in known and (action is not None or not settings.had_action):
        return ""
    original = "none" if settings.original is None else settings.original.name
    found = "no action" if action is None else f"action {action.name}"
    return (
        f"{armature.name} uses {found}, expected {settings.refined.name} (refined) or {original} "
        "(original): choose one of them in the action editor"
    )


def sources_to_come(
    armature: bpy.types.Object, before: Before, built: ActionSlot
) -> tuple[SideSource, SideSource]:
    """The same, once `remember` has been told of what was built."""
    settings = armature.posefit_comparison
    original = SideSource(slot_in(before.action, before.slot), before.still)
    if _goes_on(settings, before):
        still = stored_still(settings)
        original = SideSource(slot_in(settings.original, settings.original_slot), still)
    return original, SideSource(built, original.still)


def goes_over_strips(armature: bpy.types.Object, before: Before) -> bool:
    """Whether what is refined now is shown over NLA strips, which are its original."""
    settings = armature.posefit_comparison
    return settings.is_over_strips if _goes_on(settings, before) else before.is_over_strips


def _goes_on(settings: PosefitComparison, before: Before) -> bool:
    """Whether what was in use came of a refinement that still waits to be accepted."""
    return settings.refined is not None and before.action in (settings.refined, settings.preview)


def show(armature: bpy.types.Object, amount: float, *, at_once: bool = True) -> None:
    """Have an armature show the original (0), the refined motion (1), or what lies between.

    Args:
        armature: which.
        amount: how much of the refined motion.
        at_once: also blend the frames that are not shown now; the session does that otherwise.
    """
    settings = armature.posefit_comparison
    camera_lens.show(settings, amount)
    if settings.is_over_strips:
        strips.show_over_strips(armature, settings.refined, settings.refined_slot, amount)
    elif amount >= 1:
        use_action(armature, settings.refined, settings.refined_slot)
    elif amount <= 0:
        use_action(armature, settings.original, settings.original_slot)
        restore_still(armature)
    else:
        blended_preview.show(armature, at_once=at_once)
    armature.update_tag(refresh={"OBJECT", "DATA", "TIME"})


def restore_still(armature: bpy.types.Object) -> None:
    """Put back what the original pose had where no curve of the action in use says otherwise."""
    animated = fcurves.curves_of(armature)
    present = present_values(armature)
    for one in armature.posefit_comparison.still:
        channel = (one.data_path, one.index)
        if channel in present and channel not in animated:
            armature.path_resolve(one.data_path)[one.index] = one.value


def reject(context: bpy.types.Context, armature: bpy.types.Object) -> str:
    """Go back to the original action, shape and pose, and remove the result.

    Returns:
        What was done, in words.

    Raises:
        SceneError: there is nothing to reject, or the shape cannot be put back; nothing changed.
        BodyFileError: the shape changed and the body's file cannot be read.
    """
    words = problem(armature)
    if words:
        raise SceneError(words)
    settings = armature.posefit_comparison
    _restore_shape(context, armature)
    show(armature, 0.0)
    refined = settings.refined
    name = refined.name
    if settings.is_over_strips:
        strips.leave_strips_alone(armature)
    back = "its pose without an action" if settings.original is None else settings.original.name
    back = "its NLA strips" if settings.is_over_strips else back
    forget(armature)
    gone = "removed" if remove_unused(refined) else "kept, as something else uses it"
    return f"{armature.name} is back to {back}; {name} was {gone}"


def forget(armature: bpy.types.Object) -> None:
    """Compare no longer; the action in use stays, the blended one goes."""
    settings = armature.posefit_comparison
    preview = settings.preview
    settings.original = settings.refined = settings.preview = settings.camera = None
    settings.still.clear()
    settings.is_over_strips = False
    settings.amount = 1.0
    remove_unused(preview)


def _store_still(settings: PosefitComparison, still: Mapping[Channel, float]) -> None:
    settings.still.clear()
    for (data_path, index), value in still.items():
        one = settings.still.add()
        one.data_path, one.index, one.value = data_path, index, value


def _restore_shape(context: bpy.types.Context, armature: bpy.types.Object) -> None:
    settings = armature.posefit_comparison
    betas = np.array(settings.betas[: settings.betas_count], np.float32)
    now = body_builder.read_betas(armature)
    mesh, source = body_builder.mesh_of(armature), armature.get(body_builder.BODY_KEY)
    if mesh is None or source is None or len(now) != len(betas) or np.allclose(now, betas):
        return
    body = body_builder.load_body(str(source))
    body_builder.set_betas(mesh, betas)
    body_builder.fit_joints(context, armature, body)


def attach() -> None:
    """Give every object the memory of its refinement."""
    bpy.types.Object.posefit_comparison = bpy.props.PointerProperty(type=PosefitComparison)


def detach() -> None:
    """Take it away again."""
    del bpy.types.Object.posefit_comparison


CLASSES = (PosefitStillValue, PosefitComparison)
