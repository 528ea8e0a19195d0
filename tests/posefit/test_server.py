# SPDX-License-Identifier: Apache-2.0
"""The broker's parts on their own: order of jobs, stored content, media roots, devices."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import posefit.server
import posefit_shared.client
from posefit.server import ServeConfig, ServeError, serve
from posefit.server.devices import choose_devices
from posefit.server.schedule import STARVED_S, Job, Schedule
from posefit.server.scratch import scratch_folder
from posefit.server.store import ContentStore, StoreError
from posefit.worker.media_paths import MediaError, resolve_media_path

PRIORITIES = ("interactive", "normal", "batch")


def job(name, session="a", priority="normal"):
    return Job(name, session, "ping", priority, [], 0)


def drained(schedule):
    taken = []
    while (waiting := schedule.take()) is not None:
        taken.append(waiting.job)
    return taken


def test_importing_the_broker_does_not_import_torch():
    code = "import posefit.server, sys; sys.exit('torch' in sys.modules or 'warp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("bind", ["tcp://0.0.0.0:5557", "tcp://*:5557", "tcp://192.168.1.2:0"])
def test_a_bind_that_other_machines_can_reach_is_refused_in_words(bind):
    with pytest.raises(ServeError, match="needs keys"):
        serve(ServeConfig(bind=bind))


def test_a_media_root_that_is_not_there_is_refused_in_words(tmp_path):
    with pytest.raises(ServeError, match="no folder"):
        serve(ServeConfig(media_roots=(tmp_path / "none",)))


def test_nothing_that_waits_asks_for_the_time_of_day():
    """Clocks are set back and forth; the monotonic one is not."""
    folders = [Path(posefit.server.__file__).parent, Path(posefit_shared.client.__file__).parent]
    sources = [path for folder in folders for path in folder.glob("*.py")]
    worker = Path(posefit.__file__).with_name("worker")
    sources += [path for path in worker.glob("*.py") if path.name != "crash_report.py"]
    assert len(sources) > 15
    asking = re.compile(r"\btime\.time\(|datetime\.now|utcnow|localtime")
    assert not [path.name for path in sources if asking.search(path.read_text())]


# Order of jobs


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(PRIORITIES)), max_size=30))
def test_urgent_jobs_go_first_and_a_sessions_jobs_keep_their_order(wanted):
    schedule = Schedule()
    for number, (session, priority) in enumerate(wanted):
        schedule.add(job(number, session, priority))
    order = drained(schedule)
    assert sorted(order) == list(range(len(wanted)))
    ranks = [PRIORITIES.index(wanted[number][1]) for number in order]
    assert ranks == sorted(ranks)
    for session in "abc":
        for priority in PRIORITIES:
            own = [number for number in order if wanted[number] == (session, priority)]
            assert own == sorted(own)


def test_sessions_take_turns():
    schedule = Schedule()
    for name in ("a1", "a2", "a3", "b1", "c1", "c2"):
        schedule.add(job(name, name[0]))
    assert drained(schedule) == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_a_session_that_just_had_its_turn_waits_behind_a_newcomer():
    schedule = Schedule()
    for name in ("a1", "a2"):
        schedule.add(job(name, "a"))
    assert schedule.take().job == "a1"
    schedule.add(job("b1", "b"))
    assert drained(schedule) == ["b1", "a2"]


def test_a_class_that_had_no_turn_for_long_gets_one_and_no_more():
    now = 0.0
    schedule = Schedule(lambda: now)
    for number in range(3):
        schedule.add(job(f"batch {number}", priority="batch"))
    taken = []
    for _ in range(8):
        now += 0.3 * STARVED_S
        schedule.add(job("frame", priority="interactive"))
        taken.append(schedule.take().job)
    assert taken == ["frame"] * 3 + ["batch 0"] + ["frame"] * 3 + ["batch 1"]


def test_a_job_that_is_tried_again_goes_ahead_of_its_sessions_others():
    schedule = Schedule()
    schedule.add(job("later"))
    schedule.add(job("again"), first=True)
    assert drained(schedule) == ["again", "later"]


def test_a_removed_job_never_runs():
    schedule = Schedule()
    first, second = job("1"), job("2")
    schedule.add(first)
    schedule.add(second)
    assert schedule.remove(first)
    assert not schedule.remove(first)
    assert drained(schedule) == ["2"]
    assert len(schedule) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(PRIORITIES)), min_size=1,
                max_size=12))  # fmt: skip
def test_the_number_of_jobs_ahead_is_never_too_small(wanted):
    schedule = Schedule()
    for number, (session, priority) in enumerate(wanted):
        last = job(number, session, priority)
        schedule.add(last)
    ahead = schedule.ahead_of(last)
    assert drained(schedule).index(last.job) <= ahead < len(wanted)


# Stored content


@pytest.fixture
def store(tmp_path):
    return ContentStore(tmp_path / "content", total_bytes=100, file_bytes=60)


def put(store, data):
    content_hash = hashlib.sha256(data).hexdigest()
    incoming = store.begin(content_hash)
    store.append(incoming, 0, memoryview(data))
    store.finish(incoming, len(data))
    return content_hash


def test_stored_content_lies_under_its_hash(store):
    content_hash = put(store, b"content")
    assert (store.folder / content_hash).read_bytes() == b"content"
    assert store.lacks([content_hash, "other"]) == ("other",)


@pytest.mark.parametrize(("data", "size"), [(b"other", 5), (b"promise", 8), (b"prom", 4)])
def test_content_that_is_not_what_was_promised_leaves_nothing_behind(store, data, size):
    incoming = store.begin(hashlib.sha256(b"promise").hexdigest())
    store.append(incoming, 0, memoryview(data))
    with pytest.raises(StoreError, match="promised"):
        store.finish(incoming, size)
    assert list(store.folder.iterdir()) == []


def test_a_content_beyond_the_limit_is_refused(store):
    incoming = store.begin("a" * 64)
    with pytest.raises(StoreError, match="limit"):
        store.append(incoming, 0, memoryview(bytes(61)))


def test_the_longest_unused_content_makes_room(store):
    first, second = put(store, bytes(40)), put(store, b"2" * 40)
    store.lacks([first])  # used just now
    put(store, b"3" * 40)
    assert store.lacks([first, second]) == (second,)


def test_content_that_a_job_needs_stays(store):
    first = put(store, bytes(40))
    store.pin([first])
    second = put(store, b"2" * 40)
    put(store, b"3" * 40)
    assert store.lacks([first, second]) == (second,)
    store.pin([hashlib.sha256(b"3" * 40).hexdigest()])
    with pytest.raises(StoreError, match="in use"):
        put(store, b"4" * 40)
    store.unpin([first])


# Media roots


def test_without_media_roots_every_path_is_refused(tmp_path):
    with pytest.raises(MediaError, match="without a media root"):
        resolve_media_path(str(tmp_path), [])


def test_a_path_below_a_root_is_resolved(tmp_path):
    film = tmp_path / "a folder" / "film.mp4"
    film.parent.mkdir()
    film.touch()
    assert resolve_media_path(str(film), [tmp_path / "other", tmp_path]) == film.resolve()


def test_a_root_that_is_itself_a_link_works(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/film.mp4").touch()
    (tmp_path / "root").symlink_to(tmp_path / "real")
    found = resolve_media_path(str(tmp_path / "root/film.mp4"), [tmp_path / "root"])
    assert found == (tmp_path / "real/film.mp4").resolve()


@pytest.mark.parametrize(
    "path",
    ["{0}/root/../secret", "{0}/root/link", "{0}/rootless", "{0}", "/", "root/film", "~",
     "{0}/root/folder/../../secret"],
)  # fmt: skip
def test_no_way_leads_out_of_a_root(tmp_path, path):
    (tmp_path / "root/folder").mkdir(parents=True)
    for name in ("secret", "rootless"):
        (tmp_path / name).touch()
    (tmp_path / "root/link").symlink_to(tmp_path / "secret")
    with pytest.raises(MediaError):
        resolve_media_path(path.format(tmp_path), [tmp_path / "root"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names there")
def test_a_pipe_that_never_ends_is_no_footage(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(MediaError, match="no footage"):
        resolve_media_path(str(tmp_path / "pipe.mp4"), [tmp_path])


def test_outside_the_roots_nobody_learns_what_exists(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "there").touch()
    words = set()
    for name in ("there", "gone!"):
        with pytest.raises(MediaError) as caught:
            resolve_media_path(str(tmp_path / name), [tmp_path / "root"])
        words.add(str(caught.value).replace(name, ""))
    assert len(words) == 1


# Devices and folders


@pytest.mark.parametrize(
    ("visible", "device", "workers", "expected"),
    [
        ("", "auto", None, ["auto:0"]),
        ("0,3", "auto", None, ["auto:0", "auto:1"]),
        ("0,1", "cuda", None, ["cuda:0", "cuda:1"]),
        ("0,1", "cpu", None, ["cpu"]),
        ("0,1", "cuda:1", 2, ["cuda:1", "cuda:1"]),
        ("0,1", "auto", 3, ["auto:0", "auto:1", "auto:0"]),
    ],
)
def test_each_gpu_gets_a_worker(monkeypatch, visible, device, workers, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert choose_devices(device, workers) == expected


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ("24576\n81920\n", "", ["auto:0", "auto:1", "auto:0", "auto:1"]),
        ("24576\n8192\n", "", ["auto:0", "auto:1"]),
        ("24576\n81920\n", "6", ["auto:0", "auto:1"]),
        ("", "", ["auto:0", "auto:1"]),
    ],
)
def test_batches_put_two_processes_on_gpus_that_hold_them(
    monkeypatch, tmp_path, sizes, limit, expected
):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '{sizes}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("POSEFIT_GPU_MEMORY_GIB", limit)
    assert choose_devices("auto", None, each=2) == expected
    assert choose_devices("auto", 1, each=2) == ["auto:0"]
    assert choose_devices("cpu", None, each=2) == ["cpu"]


def test_a_scratch_folder_is_private_and_goes_away_and_a_live_one_is_left_alone(tmp_path):
    with scratch_folder(tmp_path) as first:
        assert first.stat().st_mode & 0o077 == 0
        with scratch_folder(tmp_path) as second:
            assert first.is_dir()
            assert second.is_dir()
    assert list(tmp_path.iterdir()) == []
