# SPDX-License-Identifier: Apache-2.0
"""Real clients, real sockets, real processes, and everything that can go wrong between them."""

import hashlib
import os
import signal
import socket
import sys
import threading
import time

import numpy as np
import pytest
import zmq
from wire_backend import (
    PATIENCE_S,
    QUICK,
    ask,
    connected,
    eventually,
    is_alive,
    running_backend,
)

from posefit_shared import messages
from posefit_shared.client import BackendTimeout, BackendUnavailable, Client, JobFailed
from posefit_shared.codec import decode, encode
from posefit_shared.messages import MediaReference, PingRequest, RefineRequest
from posefit_shared.sequence import Sequence

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and /proc of Linux")


@pytest.fixture(scope="module")
def media_root(tmp_path_factory):
    return tmp_path_factory.mktemp("media root")


@pytest.fixture(scope="module")
def backend(tmp_path_factory, media_root):
    """One backend for all tests that leave it whole."""
    options = ["--media-roots", str(media_root), "--limits.cancel-grace-s", "0.3"]
    options += ["--limits.wire.part-bytes", str(4 << 20), "--limits.wire.jobs", "40"]
    with running_backend(tmp_path_factory.mktemp("backend"), *options) as running:
        yield running
        assert running.process.poll() is None, "a test has brought the backend down"


@pytest.fixture
def client(backend):
    with connected(backend) as ready:
        yield ready


@pytest.fixture
def stranger(backend):
    """A bare socket that may say anything."""
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    dealer.connect(backend.address)
    yield dealer
    context.destroy(linger=0)


def hear(dealer, kind=None):
    """The next message, or the next of a kind."""
    while True:
        assert dealer.poll(PATIENCE_S * 1000), "the backend said nothing"
        message = decode(dealer.recv_multipart())
        if kind is None or isinstance(message, kind):
            return message


def say_hello(dealer, **options):
    dealer.send_multipart(encode(messages.Hello(messages.PROTOCOL_VERSION, **options)))
    return hear(dealer, messages.Welcome)


def refine_request(**media):
    sequence = Sequence(poses=np.zeros((1, 24, 3)), trans=np.zeros((1, 3)))
    return RefineRequest(sequence, MediaReference(**media))


# What works


def test_a_job_comes_back_with_its_arrays(client):
    data = np.arange(200_000, dtype=np.float32)
    result = client.wait(client.submit(PingRequest("echo:hello", data)), PATIENCE_S)
    assert result.payload.text == "hello"
    assert np.array_equal(result.payload.data, data)
    assert result.final
    assert result.timings_ms["total"] > 0


def test_the_welcome_says_where_jobs_run_once_the_worker_is_there(client):
    ask(client, "echo:x")
    assert client.welcome.device == "cpu (test)"
    assert client.welcome.kinds == ("ping",)


def test_revisions_arrive_in_order_and_the_last_one_is_final(client):
    job = client.submit(PingRequest("revisions:20"))
    results = []
    assert eventually(lambda: results.extend(
        event for event in client.poll() if isinstance(event, messages.Result)
    ) or (results and results[-1].final))  # fmt: skip
    assert [result.revision for result in results] == list(range(20))
    assert {result.job for result in results} == {job}


def test_progress_is_told_with_an_estimate_of_the_rest(client):
    heard = []
    job = client.submit(PingRequest("steps:0.5"))
    client.wait(job, PATIENCE_S, heard.append)
    fractions = [progress.fraction for progress in heard]
    assert fractions == sorted(fractions)
    assert any(progress.eta_s is not None and progress.stage == "stepping" for progress in heard)


def test_two_clients_get_their_own_answers(backend, client):
    with connected(backend) as other:
        jobs = [
            (who, who.submit(PingRequest(f"echo:{k}")), str(k))
            for k, who in enumerate([client, other] * 5)
        ]
        for who, job, text in jobs:
            assert who.wait(job, PATIENCE_S).payload.text == text


def test_content_is_uploaded_once_and_found_by_its_hash(client):
    content = b"one body, rather long: " + os.urandom(3_000_000)
    content_hash = client.upload(content, "body")
    assert ask(client, "content", content=content_hash).startswith("one body")
    client.poll()
    assert client.upload(content, "body") == content_hash
    assert eventually(lambda: any(isinstance(e, messages.Stored) for e in client.poll()))


def test_content_comes_from_a_file_with_a_space_in_its_name(client, tmp_path):
    path = tmp_path / "my film.mp4"
    path.write_bytes(b"film" * 400_000)
    assert ask(client, "content", content=client.upload(path)).startswith("film")


def test_an_empty_content_can_be_uploaded(client):
    assert ask(client, "content", content=client.upload(b"")) == ""


# What fails in words


def test_an_expected_error_comes_back_in_its_own_words(client):
    with pytest.raises(JobFailed, match="no frames: send at least one") as caught:
        ask(client, "fail")
    assert caught.value.kind == "SequenceError"


def test_a_bug_comes_back_without_its_traceback(backend, client):
    with pytest.raises(JobFailed, match="did not expect") as caught:
        ask(client, "bug")
    assert caught.value.kind == "internal"
    assert "Traceback" not in str(caught.value)
    assert eventually(lambda: "KeyError: 'nothing'" in backend.log.read_text())


def test_a_job_without_a_result_fails_instead_of_hanging(client):
    with pytest.raises(JobFailed, match="without a result"):
        ask(client, "nothing")


def test_content_that_nobody_has_fails_the_job(client):
    with pytest.raises(JobFailed, match="lacks a file"):
        ask(client, "content", content="0" * 64)


def test_footage_below_the_media_root_is_found(client, media_root):
    film = media_root / "a film.mp4"
    film.touch()
    with pytest.raises(JobFailed, match="found .*a film.mp4"):
        client.wait(client.submit(refine_request(path=str(film))), PATIENCE_S)


@pytest.mark.parametrize("path", ["/etc/hostname", "{root}/../outside.mp4", "{root}/link.mp4"])
def test_footage_outside_the_media_root_is_refused(client, media_root, tmp_path, path):
    outside = tmp_path / "outside.mp4"
    outside.touch()
    link = media_root / "link.mp4"
    link.unlink(missing_ok=True)
    link.symlink_to(outside)
    with pytest.raises(JobFailed, match="outside the media roots") as caught:
        client.wait(client.submit(refine_request(path=path.format(root=media_root))), PATIENCE_S)
    assert caught.value.kind == "media"


def test_footage_that_is_not_there_is_refused(client, media_root):
    with pytest.raises(JobFailed, match="no footage"):
        client.wait(client.submit(refine_request(path=str(media_root / "none.mp4"))), PATIENCE_S)


def test_an_upload_with_other_bytes_than_promised_is_refused(stranger):
    say_hello(stranger)
    promised = hashlib.sha256(b"promised").hexdigest()
    other = np.frombuffer(b"something", np.uint8)
    stranger.send_multipart(encode(messages.UploadChunk(promised, 0, other)))
    stranger.send_multipart(encode(messages.UploadDone(promised, len(other))))
    failure = hear(stranger, messages.Failure)
    assert failure.content_hash == promised
    assert "hash" in failure.message
    stranger.send_multipart(encode(messages.Have((promised,))))
    assert hear(stranger, messages.Missing).hashes == (promised,)


def test_a_piece_of_an_upload_out_of_order_is_refused(stranger):
    say_hello(stranger)
    piece = messages.UploadChunk("a" * 64, 0, np.zeros(10, np.uint8))
    stranger.send_multipart(encode(piece))
    stranger.send_multipart(encode(piece))
    assert "offset" in hear(stranger, messages.Failure).message


# What strangers send


def test_a_connection_that_does_not_say_hello_is_told_to(stranger):
    stranger.send_multipart(encode(messages.Heartbeat()))
    assert hear(stranger, messages.Refused).kind == "hello_first"


@pytest.mark.parametrize("major", [0, 2])
def test_another_major_version_is_refused_in_plain_words(stranger, major):
    stranger.send_multipart(encode(messages.Hello((major, 0))))
    refused = hear(stranger, messages.Refused)
    assert refused.kind == "protocol_version"
    assert "update the" in refused.reason


def test_another_minor_version_is_welcome(stranger):
    stranger.send_multipart(encode(messages.Hello((messages.PROTOCOL_VERSION[0], 99))))
    assert isinstance(hear(stranger), messages.Welcome)


def test_garbage_is_answered_and_leaves_others_alone(stranger, client):
    rng = np.random.default_rng(7)
    for _ in range(200):
        parts = [rng.bytes(rng.integers(0, 60)) for _ in range(rng.integers(1, 5))]
        stranger.send_multipart(parts)
    assert hear(stranger, messages.Refused).kind == "protocol"
    assert ask(client, "echo:still here") == "still here"


def test_garbage_within_a_session_is_answered_with_a_failure(stranger):
    say_hello(stranger)
    stranger.send_multipart([b"\xc1\xff"])
    assert hear(stranger, messages.Failure).kind == "protocol"


def test_a_job_of_an_unknown_kind_fails_by_its_id(stranger):
    import msgpack

    say_hello(stranger)
    fields = {"job": "j1", "kind": "dance", "payload": {}}
    stranger.send_multipart([msgpack.packb({"type": "submit", "fields": fields})])
    failure = hear(stranger, messages.Failure)
    assert failure.job == "j1"
    assert "dance" in failure.message


def test_too_many_parts_are_refused_without_keeping_them(stranger, client):
    say_hello(stranger)
    stranger.send_multipart([b"x"] * 3000)
    assert "parts" in hear(stranger, messages.Failure).message
    assert ask(client, "echo:fine") == "fine"


def test_an_oversize_message_cuts_off_its_sender_only(stranger, client):
    say_hello(stranger)
    stranger.send_multipart([bytes(5 << 20)])  # over the 4 MiB of this backend
    time.sleep(0.2)
    assert ask(client, "echo:fine") == "fine"


def test_an_oversize_request_is_refused_by_the_client_itself(client):
    with pytest.raises(RuntimeError, match="send fewer frames"):
        client.submit(PingRequest("echo:x", np.zeros(2 << 20, np.float32)))


def test_bytes_that_are_no_zeromq_at_all_do_no_harm(backend, client):
    with socket.create_connection(("127.0.0.1", backend.port), timeout=PATIENCE_S) as bare:
        bare.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 100)
    assert ask(client, "echo:fine") == "fine"


def test_a_client_cannot_see_another_sessions_jobs(stranger, client):
    job = client.submit(PingRequest("steps:0.5"))
    say_hello(stranger, session="f" * 32)
    stranger.send_multipart(encode(messages.Cancel(job)))
    assert hear(stranger, messages.Cancelled).job == job  # says nothing about the other's job
    assert client.wait(job, PATIENCE_S).payload.text == "stepped"


# Cancel and order


def test_cancel_ends_a_running_job_within_a_second(client):
    job = client.submit(PingRequest("steps:30"))
    heard = []
    with pytest.raises(BackendTimeout):
        client.wait(job, 1.5, heard.append)
    assert heard, "the job runs"
    start = time.monotonic()
    client.cancel(job)
    with pytest.raises(JobFailed, match="cancelled"):
        client.wait(job, PATIENCE_S)
    assert time.monotonic() - start < 1.0


def test_cancel_ends_a_waiting_job_at_once(client):
    running = client.submit(PingRequest("steps:30"))
    waiting = client.submit(PingRequest("echo:never"))
    client.cancel(waiting)
    with pytest.raises(JobFailed, match="cancelled"):
        client.wait(waiting, PATIENCE_S)
    client.cancel(running)
    with pytest.raises(JobFailed, match="cancelled"):
        client.wait(running, PATIENCE_S)


def test_a_job_that_does_not_listen_is_cancelled_by_force(client):
    job = client.submit(PingRequest("sleep:60"))
    assert eventually(lambda: any(isinstance(e, messages.Accepted) for e in client.poll()))
    time.sleep(0.2)
    client.cancel(job)
    with pytest.raises(JobFailed, match="cancelled"):
        client.wait(job, PATIENCE_S)
    assert ask(client, "echo:next") == "next"


def test_an_artists_frame_overtakes_a_batch_and_clients_take_turns(backend, client, tmp_path):
    notes = tmp_path / "order"
    with connected(backend) as other:
        blocker = client.submit(PingRequest("steps:0.6"))
        assert eventually(lambda: any(isinstance(e, messages.Progress) for e in client.poll()))
        jobs = []
        for who, mark, priority, count in (
            (client, 1, "batch", 3), (other, 2, "batch", 2), (other, 3, "interactive", 1),
        ):  # fmt: skip
            for _ in range(count):
                data = np.zeros(mark, np.float32)
                jobs.append((who, who.submit(PingRequest(f"note:{notes}", data), priority)))
            assert ask_accepted(who)
        client.wait(blocker, PATIENCE_S)
        for who, job in jobs:
            who.wait(job, PATIENCE_S)
    assert [int(line) for line in notes.read_text().split()] == [3, 1, 2, 1, 2, 1]


def ask_accepted(client):
    """Wait until the backend has taken everything this client has sent."""
    time.sleep(0.15)
    return client.state.name == "ready"


def test_more_jobs_than_allowed_are_refused_as_busy(backend):
    with connected(backend) as greedy:
        jobs = [greedy.submit(PingRequest("steps:3")) for _ in range(41)]
        with pytest.raises(JobFailed, match="which is the limit") as caught:
            greedy.wait(jobs[-1], PATIENCE_S)
        assert caught.value.kind == "busy"


# Clients that go


def test_a_job_is_waited_for_though_the_window_is_full_of_others_results(client):
    running = client.submit(PingRequest("steps:0.3"))
    last = client.submit(PingRequest("echo:last"), priority="batch")
    others = [client.submit(PingRequest(f"echo:{k}"), priority="interactive") for k in range(12)]
    assert client.wait(last, PATIENCE_S).payload.text == "last"
    assert [client.wait(job, PATIENCE_S).payload.text for job in others] == [*map(str, range(12))]
    assert client.wait(running, PATIENCE_S).payload.text == "stepped"


def test_a_client_that_returns_finds_its_job_again(backend):
    client = Client(backend.address, config=QUICK)
    client.start()
    client.wait_ready(PATIENCE_S)
    job, token = client.submit(PingRequest("steps:0.4")), client.session
    assert eventually(lambda: any(isinstance(e, messages.Accepted) for e in client.poll()))
    client.close(keep_jobs=True)
    time.sleep(0.5)
    with connected(backend, session=token) as again:
        assert again.welcome.resumed
        assert again.wait(job, PATIENCE_S).payload.text == "stepped"


def test_a_result_waits_for_a_client_that_lost_its_connection(stranger, backend):
    welcome = say_hello(stranger)
    stranger.send_multipart(encode(messages.Submit("kept", PingRequest("echo:kept"))))
    hear(stranger, messages.Result)  # arrives, is not acknowledged, and the connection breaks
    stranger.disconnect(backend.address)
    with connected(backend, session=welcome.session) as again:
        assert again.wait("kept", PATIENCE_S).payload.text == "kept"


def test_jobs_of_a_client_that_leaves_are_cancelled(backend, client):
    with connected(backend) as leaver:
        leaver.submit(PingRequest("steps:60"))
        assert eventually(lambda: any(isinstance(e, messages.Progress) for e in leaver.poll()))
    assert ask(client, "echo:free") == "free"


def test_a_client_that_does_not_acknowledge_gets_no_more_than_its_window(stranger):
    welcome = say_hello(stranger)
    stranger.send_multipart(encode(messages.Submit("many", PingRequest("revisions:30"))))
    window = welcome.limits.result_window
    revisions = [hear(stranger, messages.Result).revision for _ in range(window)]
    quiet_until = time.monotonic() + 0.4
    while (left := quiet_until - time.monotonic()) > 0:
        if stranger.poll(left * 1000):
            assert not isinstance(decode(stranger.recv_multipart()), messages.Result)
    for revision in revisions:
        stranger.send_multipart(encode(messages.Acknowledge("many", revision)))
    assert hear(stranger, messages.Result).revision == window


# Workers that die


def test_a_job_whose_worker_dies_is_tried_once_more(client, tmp_path):
    assert ask(client, f"crash_once:{tmp_path / 'marker'}") == "second try"


def test_a_job_that_always_kills_its_worker_fails_in_words_and_the_next_runs(client):
    with pytest.raises(JobFailed, match=r"exited with status 7 \(tried 2 times\)") as caught:
        ask(client, "crash")
    assert caught.value.kind == "worker"
    assert ask(client, "echo:next") == "next"


def test_a_worker_killed_from_outside_is_replaced(client):
    pid = int(ask(client, "pid"))
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not is_alive(pid))
    assert int(ask(client, "pid")) != pid


@pytest.mark.slow
def test_a_frozen_worker_is_killed_and_its_job_fails_in_words(tmp_path):
    options = ["--limits.worker-silence-s", "1.5"]
    with running_backend(tmp_path, *options) as backend, connected(backend) as client:
        pid = int(ask(client, "pid"))
        with pytest.raises(JobFailed, match="hung"):
            ask(client, "freeze")
        assert not is_alive(pid)
        assert ask(client, "echo:next") == "next"


@pytest.mark.slow
def test_a_job_without_any_sign_or_beyond_its_deadline_is_ended(tmp_path):
    limits = ["--limits.job-stall-s", "0.5", "--limits.job-deadline-s", "2"]
    with running_backend(tmp_path, *limits) as backend, connected(backend) as client:
        with pytest.raises(JobFailed, match="no progress for 0.5 s"):
            ask(client, "sleep:60")
        with pytest.raises(JobFailed, match="longer than the 2 s"):
            ask(client, "steps:60")
        assert ask(client, "echo:next") == "next"


@pytest.mark.slow
def test_handlers_that_cannot_be_loaded_fail_jobs_in_words(tmp_path):
    options = ["--handlers", "no_such_module:run_job"]
    with (
        running_backend(tmp_path, *options) as backend,
        connected(backend) as client,
        pytest.raises(JobFailed, match="no worker can start"),
    ):
        ask(client, "echo:x")


# Backends that go


def test_without_a_backend_waiting_ends_in_words(tmp_path):
    with Client("tcp://127.0.0.1:9", config=QUICK) as client:
        with pytest.raises(BackendUnavailable):
            client.wait_ready(0.3)
        job = client.submit(PingRequest("echo:x"))
        with pytest.raises(BackendTimeout):
            client.wait(job, 0.2)


@pytest.mark.slow
def test_a_job_survives_a_backend_that_is_killed_and_started_again(tmp_path):
    with running_backend(tmp_path) as backend, connected(backend) as client:
        content_hash = client.upload(b"body of someone")
        pid = int(ask(client, "pid", content=content_hash))
        job = client.submit(PingRequest("content", content=content_hash))
        client.wait(job, PATIENCE_S)
        late = client.submit(PingRequest("steps:1.5", content=content_hash))
        assert eventually(lambda: any(isinstance(e, messages.Progress) for e in client.poll()))
        backend.kill()
        assert eventually(lambda: client.state.name == "lost", 5.0)
        assert "trying again" in client.state.reason
        assert eventually(lambda: not is_alive(pid), 10.0), "the worker outlived its broker"
        with running_backend(tmp_path, bind=backend.address):
            assert client.wait(late, PATIENCE_S).payload.text == "stepped"


def test_waiting_ends_when_the_backend_stays_away(tmp_path):
    config = type(QUICK)(hello_timeout_s=0.3, retry_s=0.05, retry_limit_s=0.1, lost_limit_s=0.5)
    with running_backend(tmp_path) as backend, Client(backend.address, config=config) as client:
        client.wait_ready(PATIENCE_S)
        job = client.submit(PingRequest("steps:60"))
        assert eventually(lambda: any(isinstance(e, messages.Progress) for e in client.poll()))
        backend.kill()
        with pytest.raises(BackendUnavailable):
            client.wait(job, PATIENCE_S)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["SIGTERM", "SIGINT", "stdin"])
def test_an_orderly_end_leaves_no_process_no_port_and_no_file(tmp_path, ending):
    ready_file = tmp_path / "ready"
    options = ["--ready-file", str(ready_file), "--limits.stop-grace-s", "1"]
    options += ["--exit-with-stdin"] if ending == "stdin" else []
    with running_backend(tmp_path, *options) as backend, connected(backend) as client:
        assert ready_file.read_text().strip() == backend.address
        pid = int(ask(client, "pid"))
        client.submit(PingRequest("sleep:60"))  # even a worker that does not listen must go
        assert eventually(lambda: any(isinstance(e, messages.Accepted) for e in client.poll()))
        if ending == "stdin":
            backend.process.stdin.close()
        else:
            backend.process.send_signal(getattr(signal, ending))
        assert backend.stop_status() == 0
        assert eventually(lambda: client.state.name == "lost", 5.0)
    assert not is_alive(pid)
    assert not ready_file.exists()
    assert list(backend.temporary.iterdir()) == []
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", backend.port)) != 0


@pytest.mark.slow
def test_what_a_killed_backend_leaves_behind_is_swept_up_by_the_next(tmp_path):
    with running_backend(tmp_path) as backend:
        left = set(backend.temporary.iterdir())
        assert left
        backend.kill()
    with running_backend(tmp_path) as following:
        now = set(following.temporary.iterdir())
        assert len(now) == 1
        assert not now & left


def test_a_port_that_is_taken_is_refused_in_words(backend, tmp_path):
    from posefit.server import ServeConfig, ServeError, serve

    with pytest.raises(ServeError, match="another backend"):
        serve(ServeConfig(bind=backend.address))


def test_a_client_that_hears_nothing_closes_without_hanging():
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        client = Client(f"tcp://127.0.0.1:{mute.getsockname()[1]}", config=QUICK)
        client.start()
        client.submit(PingRequest("echo:x"))
        time.sleep(0.1)
        start = time.monotonic()
        client.close()
        assert time.monotonic() - start < 1.0
    assert client.state.name == "closed"


# Without a thread of its own, as in Blender, whose Python bears no second thread


def test_a_client_without_a_thread_does_everything_and_starts_none(backend, tmp_path):
    threads = threading.active_count()
    film = tmp_path / "film.bin"
    film.write_bytes(os.urandom(3 << 20))
    with connected(backend, has_thread=False) as client:
        digest = client.upload(film)
        stored = []
        assert eventually(lambda: stored.extend(client.poll()) or has_stored(stored, digest))
        assert ask(client, "echo:hello") == "hello"
        data = np.arange(1 << 18, dtype=np.float32)
        job = client.submit(PingRequest("echo:large", data))
        np.testing.assert_array_equal(client.wait(job, PATIENCE_S).payload.data, data)
        assert client.report()["jobs"] is not None
        assert threading.active_count() == threads
        running = client.submit(PingRequest("steps:60"))
        client.cancel(running)
        with pytest.raises(JobFailed, match="cancelled"):
            client.wait(running, PATIENCE_S)
    assert client.state.name == "closed"


def has_stored(events, digest):
    return any(isinstance(one, messages.Stored) and one.content_hash == digest for one in events)


def test_a_client_that_nobody_steps_for_long_finds_its_results(tmp_path):
    """As when Blender renders, or reads a large file, for longer than a backend waits."""
    options = ["--limits.heartbeat-s", "0.1", "--limits.client-silence-s", "0.8"]
    with (
        running_backend(tmp_path, *options) as backend,
        connected(backend, has_thread=False) as client,
    ):
        job = client.submit(PingRequest("echo:late"))
        client.poll()
        assert eventually(lambda: "has gone silent" in backend.log.read_text())
        assert client.wait(job, PATIENCE_S).payload.text == "late"


def test_a_client_without_a_thread_outlives_its_backend(tmp_path):
    with running_backend(tmp_path) as first:
        client = Client(first.address, config=QUICK, has_thread=False)
        client.start()
        client.wait_ready(PATIENCE_S)
        first.kill()
    with client, running_backend(tmp_path, bind=first.address):
        assert client.wait(client.submit(PingRequest("echo:again")), PATIENCE_S)
