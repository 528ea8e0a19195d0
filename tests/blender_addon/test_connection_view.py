# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel's state line: what the backend is, and why there is none, in words."""

import time
from types import SimpleNamespace

import pytest
from scene_makers import camera_fields, random_sequence, write_footage
from scripted_backend import ScriptedBackend, turned_result
from test_backend_process import stand_in  # noqa: F401  # a fixture
from test_panels import Recorder

from posefit_shared import __version__
from posefit_shared.messages import Refused, Status
from posefit_shared.settings import RefineSettings

pytestmark = pytest.mark.bpy


@pytest.fixture
def session(context, tmp_path, monkeypatch):
    """The extension's session, left disconnected."""
    from blender_addon.session import SESSION

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no settings"))
    yield SESSION
    SESSION.disconnect()
    SESSION._jobs.clear()


def step_until(session, condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not condition():
        session.step()
        assert time.monotonic() < deadline, session.connection
        time.sleep(0.005)


def drawn(context):
    """Everything that the backend's panels say, as one text."""
    from blender_addon.panels import backend

    words = []
    for panel in backend.CLASSES:
        if getattr(panel, "poll", lambda context: True)(context):
            panel.draw(SimpleNamespace(layout=Recorder(words)), context)
    assert all(len(line) <= 60 for line in words)
    return " ".join(words)


def test_a_connected_backend_is_named_with_its_device_version_and_speed(context, session):
    with ScriptedBackend() as backend:
        session.connect(backend.address)
        assert session.connection.kind == "connecting"
        step_until(session, lambda: session.connection.kind == "connected")
        session.step()
        text = drawn(context)
        context.scene.posefit.displacement = "flow"
        assert "Evidence: Optical Flow" in drawn(context)
    assert f"Connected to {backend.address}" in text
    assert "Device: scripted" in text
    assert f"posefit 0.0.1; this extension is of {__version__}, update the older" in text
    assert "Last answer within" in text
    assert "Evidence: Automatic" in text


def test_a_worker_that_still_loads_is_said_and_then_its_device(context, session):
    with ScriptedBackend() as backend:
        session.connect(backend.address)
        step_until(session, lambda: session.is_connected)
        backend.say(Status("starting"))
        step_until(session, lambda: "still loading" in drawn(context))
        assert "Device" not in drawn(context)
        backend.say(Status("cuda:0 (Made-up GPU)", ("free",)))
        step_until(session, lambda: "Device: cuda:0 (Made-up GPU)" in drawn(context))
        assert "Models: free" in drawn(context)


def test_each_request_that_needs_no_upload_measures_the_answer_anew(
    context, session, tmp_path, rng
):
    from blender_addon.sequences import sequence_import

    motion = random_sequence(rng, count=2, **camera_fields(rng))
    options = sequence_import.ImportOptions("Shot", footage=write_footage(tmp_path / "f", 2))
    armature = sequence_import.import_sequence(context, motion, options).armature
    with ScriptedBackend(answer=turned_result, delay=0.3) as backend:
        session.connect(backend.address)
        step_until(session, lambda: session._link.clock.seconds is not None)
        assert session._link.clock.seconds < 0.3
        session.refine(context, armature, [1], RefineSettings(refine_shape=False))
        step_until(session, lambda: not session.is_busy)
        assert 0.3 <= session._link.clock.seconds < 5


def test_nobody_there_is_explained(context, session, impatient):
    session.connect("tcp://127.0.0.1:9")
    step_until(session, lambda: session.connection.kind == "lost")
    text = drawn(context)
    assert "No backend answers at tcp://127.0.0.1:9: start one, or check the address." in text
    assert "Just started, it needs some seconds" in text
    assert "Last answer" not in text
    assert "Evidence" not in text


def test_bytes_that_are_no_backends_are_explained_alike(context, session, impatient):
    with ScriptedBackend(garbage=True) as backend:
        session.connect(backend.address)
        step_until(session, lambda: session.connection.kind == "lost")
        assert "any other program on that port never answers" in drawn(context)


def test_a_backend_that_goes_away_is_said_and_seen_again_when_it_is_back(context, session):
    with ScriptedBackend() as backend:
        session.connect(backend.address)
        step_until(session, lambda: session.is_connected)
        port = int(backend.address.rpartition(":")[2])
    step_until(session, lambda: session.connection.kind == "lost")
    text = drawn(context)
    assert "trying again" in text
    assert "It connects again by itself, and work that was sent may go on" in text
    with ScriptedBackend(port=port):
        step_until(session, lambda: session.connection.kind == "connected")


def test_a_refusal_is_given_in_the_backends_words(context, session):
    words = "this backend speaks protocol 9, the client 1: update posefit in Blender"
    with ScriptedBackend(refuse=Refused("protocol_version", words)) as backend:
        session.connect(backend.address)
        step_until(session, lambda: session.connection.kind == "lost")
        text = drawn(context)
    assert f"T{words[1:]}" in text
    assert "Nothing was sent" in text


def test_one_that_was_started_here_and_ends_leaves_its_log(
    context,
    session,
    stand_in,  # noqa: F811
    tmp_path,
):
    import bpy

    session.start_backend(stand_in, [], tmp_path / "log", ["--fail"])
    step_until(session, lambda: session.connection.kind == "lost")
    text = drawn(context)
    assert "The backend ended (status 1): no torch here" in text
    assert "Backend Log has what it said before" in text
    assert "posefit.show_log" in text
    assert bpy.ops.posefit.show_log() == {"FINISHED"}
    assert "no torch here" in bpy.data.texts["posefit backend log"].as_string()


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.0, "1 ms"), (0.0123, "13 ms"), (0.9991, "1.0 s"), (2.04, "2.0 s")]
)
def test_times_are_rounded_for_people(seconds, words):
    from blender_addon.connection.connection_view import _duration

    assert _duration(seconds) == words
