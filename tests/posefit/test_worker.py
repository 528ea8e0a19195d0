# SPDX-License-Identifier: Apache-2.0
"""What a job may ask of its worker, and how its errors reach people."""

import importlib
import math
import queue
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from posefit.errors import RefinementError
from posefit.worker import process as worker
from posefit.worker.job_context import JobCancelled, JobContext, JobFolders
from posefit.worker.media_paths import MediaError
from posefit.worker.process import _failure_of
from posefit.worker.reading_fence import OutsideFence, fenced
from posefit_shared.messages import (
    ImportRequest,
    MediaReference,
    PingRequest,
    PingResult,
    PreviewRequest,
    Progress,
)
from posefit_shared.sequence import Sequence, SequenceError

HASH = "ab" * 32


@pytest.fixture
def folders(tmp_path):
    for name in ("content", "own", "root"):
        (tmp_path / name).mkdir()
    (tmp_path / "content" / HASH).write_bytes(b"content")
    return JobFolders(tmp_path / "content", (tmp_path / "root",), tmp_path / "own")


class Line:
    """What a job says, and whether it is cancelled."""

    def __init__(self, folders, kind="ping", first_revision=0):
        self.said, self.is_cancelled = [], False
        self.context = JobContext(
            "job", kind, device="cpu", folders=folders, send=self.said.append,
            is_cancelled=lambda: self.is_cancelled, first_revision=first_revision,
        )  # fmt: skip


@pytest.fixture
def line(folders):
    return Line(folders)


def test_a_cancelled_job_learns_it_wherever_it_calls(line):
    line.is_cancelled = True
    for call in (
        lambda: line.context.check_cancelled(),
        lambda: line.context.progress(0.5),
        lambda: line.context.publish(PingResult("x")),
    ):
        with pytest.raises(JobCancelled):
            call()
    assert line.said == []


def test_progress_is_thinned_but_stages_and_the_end_are_always_told(line):
    for k in range(1000):
        line.context.progress(k / 1000, "first")
    line.context.progress(0.2, "second")
    line.context.progress(1.0, "second")
    assert len(line.said) < 50
    assert [(p.stage, p.fraction) for p in line.said[-2:]] == [("second", 0.2), ("second", 1.0)]


@pytest.mark.parametrize(
    ("fraction", "told"), [(-1, 0), (2, 1), (math.nan, 0), (math.inf, 0), (0.5, 0.5)]
)
def test_a_fraction_out_of_range_does_not_break_the_job(line, fraction, told):
    line.context.progress(fraction, "s" * 1000, "m" * 10_000)
    assert isinstance(line.said[0], Progress)
    assert line.said[0].fraction == told


def test_revisions_count_on_from_where_an_earlier_worker_stopped(folders):
    line = Line(folders, first_revision=5)
    line.context.publish(PingResult("x"))
    line.context.publish(PingResult("y"), final=True)
    assert [(r.revision, r.final) for r in line.said] == [(5, False), (6, True)]
    assert line.context.has_final


def test_content_is_found_under_its_hash_with_the_ending_that_readers_want(line):
    assert line.context.content(HASH).read_bytes() == b"content"
    assert line.context.content(HASH, ".png").suffix == ".png"
    film = line.context.resolve_media(MediaReference(content_hash=HASH, name="My Film.MP4"))
    assert film.suffix == ".mp4"
    assert film.read_bytes() == b"content"


@pytest.mark.parametrize("name", ["../../x", "film.mp4/../..", "film./etc", None, "no ending"])
def test_an_uploads_name_never_becomes_a_path(line, folders, name):
    found = line.context.resolve_media(MediaReference(content_hash=HASH, name=name))
    assert found.parent in (folders.content, folders.own)


def test_content_that_is_gone_is_an_error_in_words(line):
    with pytest.raises(MediaError, match="upload it again"):
        line.context.content("cd" * 32)


def test_a_path_outside_the_roots_is_refused_by_the_worker_too(line, tmp_path):
    with pytest.raises(MediaError, match="outside"):
        line.context.resolve_media(MediaReference(path=str(tmp_path)))


def test_a_folder_with_a_link_that_leads_out_is_refused(line, folders, tmp_path):
    frames = folders.media_roots[0] / "frames"
    frames.mkdir()
    (tmp_path / "secret.png").touch()
    (frames / "0001.png").touch()
    (frames / "0002.png").symlink_to(frames / "0001.png")
    assert line.context.resolve_media(MediaReference(path=str(frames))) == frames.resolve()
    (frames / "0003.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(MediaError, match="'0003.png' in frames is a link that leads outside"):
        line.context.resolve_media(MediaReference(path=str(frames)))


def test_inside_a_fence_nothing_else_is_opened_and_nobody_learns_what_exists(folders, tmp_path):
    inside, outside = folders.own / "inside", tmp_path / "outside"
    for path in (inside, outside):
        path.write_text("text")
    link = folders.own / "link"
    link.symlink_to(outside)
    with fenced([folders.own]):
        assert inside.read_text() == "text"
        assert importlib.import_module("mailbox")  # modules load

        reasons = set()
        for path in (outside, link, folders.own / "../outside", tmp_path / "gone"):
            with pytest.raises(OutsideFence) as caught:
                path.read_text()
            reasons.add(str(caught.value))
    assert len(reasons) == 1
    assert link.read_text() == "text"


def test_an_import_reads_no_file_that_the_imported_one_names(folders, tmp_path):
    """TRAM's tracks are read with the camera two folders above, which may be anybody's."""
    from posefit.importers import ImporterError
    from posefit.worker.jobs import run_job

    (tmp_path / "camera.npy").write_bytes(b"somebody else's")
    track = folders.media_roots[0] / "hps_track_0.npy"
    arrays = {"pred_rotmat": np.tile(np.eye(3), (1, 24, 1, 1)), "pred_shape": np.zeros((1, 10)),
              "pred_trans": np.zeros((1, 3)), "frame": np.zeros(1, int)}  # fmt: skip
    np.save(track, np.array(arrays, object), allow_pickle=True)
    request = ImportRequest(MediaReference(path=str(track)))
    with pytest.raises(ImporterError, match="outside the media roots"):
        run_job(request, Line(folders, "import").context)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (SequenceError("no frames: send one"), "SequenceError", "no frames: send one"),
        (RefinementError("out of view"), "RefinementError", "out of view"),
        (RefinementError(""), "RefinementError", "no words"),
        (RefinementError("x" * 9999), "RefinementError", "x" * 2000),
        (ValueError("bad secret detail"), "internal", "(ValueError): see its log"),
        (KeyError("secret"), "internal", "(KeyError): see its log"),
        (MemoryError(), "memory", "memory ran out"),
        (torch.OutOfMemoryError("CUDA secret"), "memory", "choose a smaller window_frames"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED secret"), "memory", "memory ran out"),
        (OSError("cannot allocate memory for thread: secret"), "internal", "(OSError): see"),
    ],
)
def test_errors_for_people_keep_their_words_and_others_keep_their_secrets(error, kind, words):
    failure = _failure_of(error, "job")
    assert failure.kind == kind
    assert words in failure.message
    assert "secret" not in failure.message
    assert failure.job == "job"


def test_a_worker_without_work_rests_once(monkeypatch):
    monkeypatch.setattr(worker, "REST_AFTER_S", 0.01)
    jobs, rests = queue.Queue(), []

    def rest():
        rests.append(1)
        jobs.put(None)

    lone = worker._Worker.__new__(worker._Worker)
    lone._line, lone._rest = SimpleNamespace(jobs=jobs), rest
    assert lone._next_order() is None
    assert rests == [1]


def test_a_ping_gives_back_what_it_got(line):
    from posefit.worker.jobs import run_job

    data = np.arange(3, dtype=np.float32)
    answer = run_job(PingRequest("hello", data), line.context)
    assert answer.text == "hello"
    assert np.array_equal(answer.data, data)


def test_a_preview_shows_the_body_where_the_camera_sees_it(folders):
    from posefit.worker.jobs import run_job

    height_m, depth_m, focal_px = 0.9, 3.0, 100.0
    sequence = Sequence(poses=np.zeros((1, 24, 3)), trans=np.zeros((1, 3)))
    world_to_camera = np.diag([1.0, -1.0, -1.0, 1.0])
    world_to_camera[2, 3] = depth_m
    intrinsics = np.array([[focal_px, 0, 32], [0, focal_px, 48], [0, 0, 1]])
    names = ("mask", "depth", "normals", "vertex_colors", "rgb")
    request = PreviewRequest(sequence, intrinsics, world_to_camera, (64, 96), names)
    pictures = run_job(request, Line(folders, "preview").context).images
    assert pictures.shape == (5, 96, 64, 4)
    alpha = pictures[..., 3]
    assert (alpha == alpha[0]).all()
    rows = np.flatnonzero(alpha[0].any(1))
    assert rows[-1] - rows[0] == pytest.approx(2 * height_m * focal_px / depth_m, rel=0.15)
    assert not pictures[:, alpha[0] == 0].any()
    assert pictures[0][alpha[0] > 0].min() == 255
