# SPDX-License-Identifier: GPL-3.0-or-later
"""Several people at once, and files that only the backend can read."""

import numpy as np
import pytest
from scene_makers import camera_fields, random_sequence
from scripted_backend import ScriptedBackend
from test_local_sequences import write_shot
from test_queue import ended
from test_session import connect, session, step_until

from posefit_shared.messages import Failure, ImportResult
from posefit_shared.sequence import write_sequence

__all__ = ["session"]

pytestmark = pytest.mark.bpy


def bodies():
    import bpy

    return sorted(item.name for item in bpy.data.objects if item.type == "ARMATURE")


def cameras():
    import bpy

    return sorted(item.name for item in bpy.data.objects if item.type == "CAMERA")


def backend(answer=None, **fields):
    return ScriptedBackend(answer=answer, kinds=("refine", "import"), **fields)


@pytest.fixture
def foreign(tmp_path):
    """A file of some other tool."""
    path = tmp_path / "their result.pkl"
    path.write_bytes(b"\x80\x04nothing that anybody unpickles")
    return path


def imported(request):
    rng = np.random.default_rng(4)
    return ImportResult(random_sequence(rng, count=3, **camera_fields(rng)))


def test_several_files_give_a_body_each_and_their_one_camera(context, rng, tmp_path):
    import bpy

    fields = camera_fields(rng)
    for index, name in enumerate(("anna", "ben")):
        indices = np.arange(3) + 4 * index
        motion = random_sequence(rng, count=3, frame_indices=indices, **fields)
        write_sequence(tmp_path / f"{name}.npz", motion)
    files = [{"name": "anna.npz"}, {"name": "ben.npz"}]
    outcome = bpy.ops.posefit.import_sequence(directory=str(tmp_path), files=files)
    assert outcome == {"FINISHED"}
    assert bodies() == ["anna", "ben"]
    assert cameras() == ["anna.camera"]
    assert (context.scene.frame_start, context.scene.frame_end) == (1, 7)


def test_a_shot_gives_a_body_for_each_of_its_people(context, rng, tmp_path):
    import bpy

    for name in ("anna", "ben"):
        write_sequence(tmp_path / f"{name}.npz", random_sequence(rng, count=3))
    path = write_shot(tmp_path, ["anna.npz", "ben.npz"])
    assert bpy.ops.posefit.import_sequence(filepath=str(path)) == {"FINISHED"}
    assert bodies() == ["anna", "ben"]
    assert cameras() == ["anna.camera"]
    assert bpy.ops.posefit.import_sequence(filepath=str(path)) == {"FINISHED"}
    assert bodies() == ["anna", "anna.001", "ben", "ben.001"]


def test_cameras_of_several_shots_stay_several(context, rng, tmp_path):
    import bpy

    for name in ("one", "two"):
        motion = random_sequence(rng, count=3, **camera_fields(rng))
        write_sequence(tmp_path / f"{name}.npz", motion)
    files = [{"name": "one.npz"}, {"name": "two.npz"}]
    bpy.ops.posefit.import_sequence(directory=str(tmp_path), files=files)
    assert cameras() == ["one.camera", "two.camera"]


def test_another_tools_file_is_read_by_the_backend(context, session, foreign):
    import bpy

    with backend(imported) as scripted:
        connect(session, scripted)
        assert bpy.ops.posefit.import_sequence(filepath=str(foreign), person=2) == {"FINISHED"}
        assert ended(session) == ["3 frames imported as their result.person2"]
    assert bodies() == ["their result.person2"]
    assert cameras() == ["their result.person2.camera"]
    request = scripted.requests[0]
    assert (request.media.path, request.person) == (str(foreign), 1)
    assert context.scene.frame_end == 3


def test_what_the_file_leaves_out_goes_with_it_and_what_was_lost_comes_back(
    context, session, foreign, tmp_path
):
    import bpy

    folder = tmp_path / "frames"
    folder.mkdir()
    picture = bpy.data.images.new("picture", 32, 24)
    for k in range(3):
        picture.filepath_raw, picture.file_format = str(folder / f"f{k}.png"), "PNG"
        picture.save()

    def answer(request):
        rng = np.random.default_rng(4)
        fields = camera_fields(rng) | {"image_size": (32, 24)}
        motion = random_sequence(rng, count=3, **fields)
        return ImportResult(motion, {"notes": ["fingers are at rest"]})

    with backend(answer) as scripted:
        connect(session, scripted)
        bpy.ops.posefit.import_sequence(filepath=str(foreign), footage=str(folder))
        assert ended(session) == ["3 frames imported as their result; fingers are at rest"]
    assert (scripted.requests[0].image_size, scripted.requests[0].body) == ((32, 24), "free")


def test_another_tools_npz_goes_the_same_way(context, session, tmp_path):
    import bpy

    path = tmp_path / "theirs.npz"
    np.savez(path, pred_rotmat=np.eye(3))
    with backend(imported) as scripted:
        connect(session, scripted)
        assert bpy.ops.posefit.import_sequence(filepath=str(path), wait=True) == {"FINISHED"}
    assert bodies() == ["theirs"]


def test_a_file_that_the_backend_may_not_open_is_sent(context, session, foreign):
    import bpy

    with backend(lambda request: Failure("media", "not below a media root")) as scripted:
        connect(session, scripted)
        bpy.ops.posefit.import_sequence(filepath=str(foreign))
        job = session.jobs[-1]
        step_until(session, lambda: job.by_upload)


def test_without_a_backend_that_reads_it_another_tools_file_is_refused_in_words(
    context, session, foreign
):
    import bpy

    with pytest.raises(RuntimeError, match="connect to a backend"):
        bpy.ops.posefit.import_sequence(filepath=str(foreign))
    with ScriptedBackend() as scripted:
        connect(session, scripted)
        with pytest.raises(RuntimeError, match="this backend reads no files of other tools"):
            bpy.ops.posefit.import_sequence(filepath=str(foreign))
    assert not bodies()


def test_what_the_backend_says_of_a_file_is_shown(context, session, foreign):
    import bpy

    words = "their result.pkl holds no SMPL parameters that are known"
    with backend(lambda request: Failure("SequenceError", words)) as scripted:
        connect(session, scripted)
        bpy.ops.posefit.import_sequence(filepath=str(foreign))
        assert ended(session) == [words]
    assert not bodies()
