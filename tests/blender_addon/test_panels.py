# SPDX-License-Identifier: GPL-3.0-or-later
"""The panels name only what exists: no window draws them here, so their calls are checked."""

from types import SimpleNamespace

import pytest
from scene_makers import camera_fields, random_sequence, write_footage

pytestmark = pytest.mark.bpy


class Recorder:
    """Takes a panel's calls, and refuses names that this Blender does not know."""

    def __init__(self, words):
        import bpy

        self.words = words
        self.buttons = {}
        icon = bpy.types.UILayout.bl_rna.functions["label"].parameters["icon"]
        self.icons = {item.identifier for item in icon.enum_items}

    def label(self, *, text="", icon="NONE"):
        assert icon in self.icons
        self.words.append(text)

    def prop(self, data, name, *, text=None, icon="NONE"):
        assert name in data.bl_rna.properties
        assert icon in self.icons
        self.words.append(name)

    def prop_search(self, data, name, search_data, search_name, *, text=None, icon="NONE"):
        assert search_name in search_data.bl_rna.properties
        self.prop(data, name, text=text, icon=icon)

    def template_ID(self, data, name, *, open="", text=None):  # noqa: N802  # Blender's names
        self.prop(data, name, text=text)

    def operator(self, name, *, text="", icon="NONE"):
        import bpy

        group, _, verb = name.partition(".")
        assert getattr(getattr(bpy.ops, group), verb).get_rna_type()
        assert icon in self.icons
        self.words.append(name)
        self.buttons[name] = SimpleNamespace()
        return self.buttons[name]

    def progress(self, *, factor, type, text):
        assert 0 <= factor <= 1
        assert type == "BAR"
        self.words.append(text)

    def separator(self):
        pass

    def column(self, align=False):
        return self

    def row(self, align=False):
        return self

    def split(self, *, factor=0.0, align=False):
        return self

    def box(self):
        return self


def drawn(context) -> list[str]:
    from blender_addon import panels

    words = []
    for panel in panels.CLASSES:
        if getattr(panel, "poll", lambda context: True)(context):
            panel.draw(SimpleNamespace(layout=Recorder(words)), context)
    return words


def test_an_empty_scene_is_told_what_is_missing(context):
    words = drawn(context)
    assert "Not connected" in words
    assert "No armature is selected" in words
    assert "Connect to a backend above" in words
    assert "Add the camera that filmed the footage" in " ".join(words)
    assert {"posefit.connect", "posefit.add_body", "posefit.import_sequence"} <= set(words)
    assert "posefit.cancel" not in words


def test_a_ready_scene_lacks_only_the_backend(context, rng, tmp_path):
    from blender_addon.sequences import sequence_import

    from blender_addon import panels

    motion = random_sequence(rng, count=2, **camera_fields(rng))
    options = sequence_import.ImportOptions("Shot", footage=write_footage(tmp_path / "f", 2))
    imported = sequence_import.import_sequence(context, motion, options)
    context.view_layer.objects.active = imported.armature
    assert panels.refine.missing_for_refinement(context) == ["Connect to a backend above"]
    assert "Shot: SMPL rig" in drawn(context)


def test_a_rig_that_is_not_smpl_is_said_in_the_panel(context):
    import bpy

    other = bpy.data.objects.new("Other", bpy.data.armatures.new("Other"))
    context.collection.objects.link(other)
    context.view_layer.objects.active = other
    text = " ".join(drawn(context))
    assert "the armature is no SMPL rig" in text


def test_a_running_and_an_ended_refinement_are_shown(context):
    from blender_addon.jobs.refine_job import RefineJob
    from blender_addon.session import SESSION

    from posefit_shared.settings import RefineSettings

    running = RefineJob("Scene", "Hans", (3, 4, 5), RefineSettings(), words="frame 4", fraction=0.5)
    ended = RefineJob("Scene", "Hans", (7,), RefineSettings())
    ended.end("the backend ended (status 1): out of memory", is_problem=True)
    SESSION._jobs = [ended, running]
    try:
        words = drawn(context)
    finally:
        SESSION._jobs = []
    assert {"Hans, frames 3-5", "frame 4"} <= set(words)
    assert any(line.startswith("Hans, frame 7: the backend ended") for line in words)
    assert "posefit.cancel" in words
    assert "posefit.keep_finished" not in words


def test_a_stopped_refinement_asks_what_is_to_become_of_its_frames(context):
    from blender_addon.jobs.refine_job import RefineJob
    from blender_addon.panels import queue
    from blender_addon.session import SESSION

    from posefit_shared.settings import RefineSettings

    stopped = RefineJob("Scene", "Hans", (3, 4, 5), RefineSettings(), finished=(0, 1))
    stopped.end("stopped, 2 of 3 frames are done")
    SESSION._jobs = [stopped]
    layout = Recorder([])
    try:
        queue.POSEFIT_PT_queue.draw(SimpleNamespace(layout=layout), context)
    finally:
        SESSION._jobs = []
    assert set(layout.buttons) == {"posefit.keep_finished", "posefit.drop_finished"}
    assert {button.job for button in layout.buttons.values()} == {stopped.job_id}


def test_a_cancelled_refinement_is_not_ticked_off_as_a_finished_one_is():
    from blender_addon.jobs import job_queue
    from blender_addon.jobs.refine_job import RefineJob
    from blender_addon.panels import queue

    from posefit_shared.settings import RefineSettings

    job = RefineJob("Scene", "Hans", (3, 4), RefineSettings())
    job.end("2 of 2 frames refined")
    assert queue._icon(job) == "CHECKMARK"
    job.end(job_queue.NOTHING_CHANGED)
    assert queue._icon(job) == "CANCEL"


def test_what_became_of_the_backend_begins_as_a_sentence_does(context, monkeypatch):
    from blender_addon.connection.connection_view import ConnectionView
    from blender_addon.panels import backend

    view = ConnectionView("lost", "the backend was killed")
    session = SimpleNamespace(SESSION=SimpleNamespace(connection=view, has_log=True))
    monkeypatch.setattr(backend, "session", session)
    words = []
    backend.POSEFIT_PT_backend.draw(SimpleNamespace(layout=Recorder(words)), context)
    assert words[0] == "The backend was killed"


def test_a_refined_body_is_compared_in_a_panel_of_its_own(context):
    from comparison_makers import add_animated_body, refine, smooth_motion, turned

    from blender_addon import panels

    shows = panels.compare.POSEFIT_PT_compare.poll
    motion = smooth_motion(3)
    armature = add_animated_body(context, motion, [1, 2, 3])
    assert not shows(context)
    refine(context, armature, [1, 2, 3], turned(motion))
    assert shows(context)
    words = drawn(context)
    assert {"amount", "bones", "frames", "keys", "posefit.accept", "posefit.reject"} <= set(words)
    assert "tolerance_mm" not in words
    settings = armature.posefit_comparison
    settings.keys, settings.bones, settings.frames = "FEWEST", "SELECTED", "RANGE"
    settings.tolerance_mm = 8.0
    assert "tolerance_mm" in drawn(context)
    layout = Recorder([])
    panels.compare.POSEFIT_PT_compare.draw(SimpleNamespace(layout=layout), context)
    assert vars(layout.buttons["posefit.accept"]) == {
        "bones": "SELECTED",
        "frames": "RANGE",
        "keys": "FEWEST",
        "tolerance_mm": 8.0,
    }
    armature.animation_data.action = None
    assert "uses no action, expected" in " ".join(drawn(context))


def test_sentences_are_broken_where_the_sidebar_ends():
    from blender_addon.panels.layout import wrapped

    text = "the backend may not open /a/folder/with/a/name/that/is/longer/than/any/line at all"
    lines = wrapped(text, 20)
    assert all(0 < len(line) <= 20 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert wrapped("one two", 7) == ["one two"]
    assert wrapped("one two", 6) == ["one", "two"]


def test_a_wider_sidebar_takes_longer_lines(monkeypatch):
    from blender_addon.panels import layout

    def length(width, scale=1.0):
        system = SimpleNamespace(ui_scale=scale)
        context = SimpleNamespace(
            region=SimpleNamespace(width=width), preferences=SimpleNamespace(system=system)
        )
        monkeypatch.setattr(layout, "bpy", SimpleNamespace(context=context))
        return layout.line_length()

    assert length(50) < length(292) < length(600)
    assert length(584, scale=2.0) == length(292)


def test_lines_of_a_sentence_stand_below_each_other_with_an_icon_and_without():
    from blender_addon.panels.layout import draw_words

    def icons(icon):
        found, closeness = [], []
        column = SimpleNamespace(label=lambda *, text, icon: found.append(icon))
        layout = SimpleNamespace(column=lambda *, align: closeness.append(align) or column)
        draw_words(layout, "painting the texture of the person, forty seconds left of it all", icon)
        assert closeness == [True]
        return found

    first, *others = icons("INFO")
    assert first == "INFO"
    assert set(others) == {"BLANK1"}
    assert set(icons("NONE")) == {"NONE"}
