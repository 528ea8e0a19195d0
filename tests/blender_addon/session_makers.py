# SPDX-License-Identifier: GPL-3.0-or-later
"""A shot to refine, and the session stepped by hand."""

from __future__ import annotations

import time

import numpy as np
from scene_makers import camera_fields, random_sequence, write_footage
from scripted_backend import ScriptedBackend, turned_result

FIRST = 3
"""The scene frame of a shot's first frame."""


def add_shot(folder, count=8):
    """The armature `Shot` of an imported sequence, with camera and footage, from frame 3 on."""
    import bpy
    from blender_addon.sequences import sequence_import

    rng = np.random.default_rng(11)
    motion = random_sequence(rng, count=count, **camera_fields(rng))
    options = sequence_import.ImportOptions(
        "Shot", footage=write_footage(folder / "my footage", count), first_scene_frame=FIRST
    )
    return sequence_import.import_sequence(bpy.context, motion, options).armature


def step_until(session, condition, seconds=60.0):
    """Step the session until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        session.step()
        assert time.monotonic() < deadline, (session.connection, session.jobs)
        time.sleep(0.005)


def connect(session, backend):
    """Connect the session to a backend."""
    session.connect(backend.address)
    step_until(session, lambda: session.is_connected)


def finished(session):
    """The last job, once all have ended."""
    step_until(session, lambda: not session.is_busy)
    return session.jobs[-1]


def refine_range(session, context, frames):
    """Refine frames by a backend that turns an elbow; gives back what it was asked."""
    import bpy

    context.scene.posefit.use_scene_range = False
    context.scene.posefit.frame_start, context.scene.posefit.frame_end = frames
    with ScriptedBackend(answer=turned_result) as backend:
        connect(session, backend)
        assert bpy.ops.posefit.refine_range() == {"FINISHED"}
        job = finished(session)
        session.disconnect()
    assert not job.is_problem, job.words
    return backend.requests[0]
