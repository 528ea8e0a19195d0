# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings: what is kept with the scene, and what with the user (address, backend's Python)."""

from __future__ import annotations

from pathlib import Path

import bpy

from posefit_shared.key_files import CurveKeys, read_client_keys
from posefit_shared.settings import RefineSettings

from .connection.installed_backend import BackendChoice, choose_backend
from .control.artist_control import STIFFNESS

ROOT_PACKAGE = __package__
"""Name under which Blender loaded the extension."""
DEFAULT_ADDRESS = "tcp://127.0.0.1:5557"
_DEFAULTS = RefineSettings()


class PosefitPreferences(bpy.types.AddonPreferences):
    """What belongs to the user and the machine."""

    bl_idname = ROOT_PACKAGE

    address: bpy.props.StringProperty(
        name="Backend Address",
        description="Where a running backend listens, as tcp://HOST:PORT",
        default=DEFAULT_ADDRESS,
    )
    key_file: bpy.props.StringProperty(
        name="Key File",
        description="Your keys for a backend on another machine, as its operator gave them to you; "
        "empty for one on this machine",
        subtype="FILE_PATH",
    )
    backend_python: bpy.props.StringProperty(
        name="Backend Python",
        description="A Python that has posefit, for Start Here; empty takes the backend that "
        "posefit's installer put on this machine",
        subtype="FILE_PATH",
    )

    def draw(self, context: bpy.types.Context) -> None:
        self.layout.prop(self, "address")
        self.layout.prop(self, "key_file")
        self.layout.prop(self, "backend_python")
        words = backend_choice(context).words
        if words:
            self.layout.label(text=words)
        self.layout.operator("posefit.show_installer", icon="HELP")


class PosefitSceneSettings(bpy.types.PropertyGroup):
    """How poses of this scene are refined."""

    frame_start: bpy.props.IntProperty(
        name="Start", description="First frame to refine", default=1, min=0
    )
    frame_end: bpy.props.IntProperty(
        name="End", description="Last frame to refine", default=250, min=0
    )
    use_scene_range: bpy.props.BoolProperty(
        name="Scene Range", description="Refine the scene's own frame range", default=True
    )
    displacement: bpy.props.EnumProperty(
        name="Evidence",
        description="What says where the body should be",
        items=[
            ("auto", "Automatic", "The learned estimator where it is installed, else optical flow"),
            (
                "net",
                "Learned",
                "The learned displacement estimator that suits the backend's device",
            ),
            ("net-large", "Learned, Large", "The more exact learned estimator, on any device"),
            ("net-fast", "Learned, Fast", "The quicker learned estimator, on any device"),
            ("flow", "Optical Flow", "Optical flow between the rendered body and the footage"),
            ("none", "Keypoints Only", "Only the keypoints that the detector finds"),
        ],
        default=_DEFAULTS.displacement,
    )
    use_keypoints: bpy.props.BoolProperty(
        name="Keypoints",
        description="Also use the keypoints that the detector finds in the footage",
        default=_DEFAULTS.keypoints,
    )
    use_others: bpy.props.BoolProperty(
        name="Other Characters",
        description="Tell the backend where the scene's other visible characters stand, so that "
        "what they hide of this one is known to be hidden and pulls it nowhere",
        default=True,
    )
    refine_shape: bpy.props.BoolProperty(
        name="Shape",
        description="Also change the body's shape sliders; its joints are fitted to the new shape",
        default=False,
    )
    refine_translation: bpy.props.BoolProperty(
        name="Root Location",
        description="Let the root move, not only turn",
        default=_DEFAULTS.refine_translation,
    )
    refine_root_rotation: bpy.props.BoolProperty(
        name="Root Rotation",
        description="Let the whole body turn; off locks the pelvis as Lock Selected would",
        default=True,
    )
    refine_hands: bpy.props.BoolProperty(
        name="Hands",
        description="Let everything beyond the wrists turn: hands, and fingers where the rig has "
        "them",
        default=True,
    )
    refine_focal: bpy.props.BoolProperty(
        name="Focal Length",
        description="Also find the camera's focal length, one for all frames, and change its lens: "
        "for footage whose lens nobody measured. Bodies slide nearer or farther with it",
        default=False,
    )
    contacts: bpy.props.BoolProperty(
        name="Contacts",
        description="Hold feet and hands still where they touch something, so that they do not "
        "slide. It acts on ranges, not on single frames",
        default=_DEFAULTS.contacts,
    )
    influence: bpy.props.FloatProperty(
        name="Influence",
        description="How much of the change is taken: 0 gives back the pose as it was, 1 the "
        "refined one. The slider in Compare can still take less of it afterwards",
        default=_DEFAULTS.influence,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
    )
    stiffness: bpy.props.FloatProperty(**STIFFNESS)
    show_held: bpy.props.BoolProperty(
        name="Show in Editors",
        description="Draw locked (red), stiff (orange) and loose (blue) bones in the viewport, and "
        "pinned frames in the timeline, dope sheet and graph editor",
        default=True,
    )
    prior_weight: bpy.props.FloatProperty(
        name="Stay Near",
        description="How strongly the pose is held near to what it was; 0 trusts the picture alone",
        default=_DEFAULTS.prior_weight,
        min=0,
        soft_max=10,
        max=1000,
    )
    smoothness: bpy.props.FloatProperty(
        name="Smoothness",
        description="How strongly motion over several frames is held smooth",
        default=_DEFAULTS.smoothness,
        min=0,
        soft_max=10,
        max=1000,
    )


# Functions, not methods: in the module bpy 4.2 a PropertyGroup with a method crashes at exit.
def refine_settings(scene: bpy.types.Scene) -> RefineSettings:
    """A scene's settings as the backend takes them."""
    settings = scene.posefit
    return RefineSettings(
        displacement=settings.displacement,
        keypoints=settings.use_keypoints,
        refine_shape=settings.refine_shape,
        refine_translation=settings.refine_translation,
        refine_focal="clip" if settings.refine_focal else "off",
        contacts=settings.contacts,
        influence=settings.influence,
        prior_weight=settings.prior_weight,
        smoothness=settings.smoothness,
    )


def evidence_words(scene: bpy.types.Scene) -> str:
    """What a scene asks the backend to judge by, as its settings call it."""
    settings = scene.posefit
    items = settings.bl_rna.properties["displacement"].enum_items
    return items[settings.displacement].name


def range_to_refine(scene: bpy.types.Scene) -> range:
    """The frames of Refine Range."""
    if scene.posefit.use_scene_range:
        return range(scene.frame_start, scene.frame_end + 1)
    return range(scene.posefit.frame_start, scene.posefit.frame_end + 1)


def preferences(context: bpy.types.Context) -> PosefitPreferences:
    """The user's settings."""
    return context.preferences.addons[ROOT_PACKAGE].preferences


def chosen_keys(context: bpy.types.Context) -> CurveKeys | None:
    """The artist's keys for the backend at the address; none where no file was chosen.

    Raises:
        KeyFileError: the file cannot be read, or others could read it.
    """
    chosen = preferences(context).key_file
    return read_client_keys(Path(bpy.path.abspath(chosen))) if chosen else None


def backend_choice(context: bpy.types.Context) -> BackendChoice:
    """Which Python Start Here runs: the one chosen in the preferences, else the installed one."""
    chosen = preferences(context).backend_python
    return choose_backend(bpy.path.abspath(chosen) if chosen else "")


def attach() -> None:
    """Give every scene its settings."""
    bpy.types.Scene.posefit = bpy.props.PointerProperty(type=PosefitSceneSettings)


def detach() -> None:
    """Take the scenes' settings away again."""
    del bpy.types.Scene.posefit


CLASSES = (PosefitPreferences, PosefitSceneSettings)
