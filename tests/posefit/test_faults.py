# SPDX-License-Identifier: Apache-2.0
"""Networks that break, disks that are full, processes that are killed: the work goes on.

docs/faults.md has the whole table; what is not here is in test_wire_faults.py and beside the code.
"""

import contextlib
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from network import network_before, post_before
from wire_backend import PATIENCE_S, QUICK, ask, connected, eventually, is_alive, running_backend

from posefit.server.store import ContentStore, StoreError
from posefit.texture import TextureError, save_png
from posefit.texture.texture_map import Texture
from posefit_shared import messages
from posefit_shared.client import Client, JobFailed
from posefit_shared.client.connection import MAX_BROKEN_OFF
from posefit_shared.key_files import read_client_keys
from posefit_shared.messages import PingRequest
from posefit_shared.sequence import Sequence, SequenceError, write_sequence

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and /proc of Linux")
IMPATIENT = type(QUICK)(
    hello_timeout_s=1.0, silence_limit_s=0.6, retry_s=0.05, retry_limit_s=0.2, lost_limit_s=60.0
)


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    """One backend for all tests that leave it whole; its heartbeats are quick."""
    options = ["--limits.heartbeat-s", "0.1", "--limits.client-silence-s", "0.8"]
    options += ["--limits.content-bytes", str(64 << 20)]
    with running_backend(tmp_path_factory.mktemp("backend"), *options) as running:
        yield running
        assert running.process.poll() is None, "a test has brought the backend down"


@pytest.fixture
def network(backend):
    with network_before(backend.port) as between:
        yield between


@pytest.fixture
def client(network):
    with Client(network.address, config=IMPATIENT) as far:
        far.wait_ready(PATIENCE_S)
        yield far


def running_job(client, text):
    """A job that a worker is at."""
    job = client.submit(PingRequest(text))
    assert eventually(lambda: any(isinstance(e, messages.Progress) for e in client.poll()))
    return job


# Networks


def test_a_job_outlives_a_cut_network_and_runs_only_once(client, network, tmp_path):
    notes = tmp_path / "notes"
    running = running_job(client, "steps:1.0")
    noted = client.submit(PingRequest(f"note:{notes}"))
    time.sleep(0.1)
    network.cut()
    assert eventually(lambda: client.state.name == "lost")
    network.mend()
    assert client.wait(running, PATIENCE_S).payload.text == "stepped"
    assert client.wait(noted, PATIENCE_S).payload.text == "noted"
    assert notes.read_text().count("\n") == 1


def test_a_network_that_swallows_everything_is_noticed_and_the_job_found_again(client, network):
    job = running_job(client, "steps:1.0")
    network.is_swallowing = True
    assert eventually(lambda: client.state.name == "lost")
    assert "stopped answering" in client.state.reason or "No backend" in client.state.reason
    network.mend()
    assert client.wait(job, PATIENCE_S).payload.text == "stepped"


def test_a_peer_that_has_gone_silent_is_dropped_and_its_session_kept(client, network, backend):
    client.submit(PingRequest("steps:3"))
    with connected(backend) as watcher:
        assert eventually(lambda: watcher.report()["sessions"]["connected"] == 2)
        network.is_swallowing = True
        assert eventually(lambda: watcher.report()["sessions"] == {"open": 2, "connected": 1})
        network.mend()
        assert eventually(lambda: watcher.report()["sessions"]["connected"] == 2)


def test_a_network_cut_again_and_again_loses_no_result_and_doubles_none(client, network):
    dice = random.Random(7)
    jobs = [client.submit(PingRequest(f"echo:{k}", np.zeros(20_000, np.float32)))
            for k in range(30)]  # fmt: skip
    for _ in range(5):
        time.sleep(dice.uniform(0.02, 0.15))
        network.cut()
        time.sleep(dice.uniform(0.0, 0.1))
        network.mend()
    answers = [client.wait(job, PATIENCE_S).payload.text for job in jobs]
    assert answers == [str(k) for k in range(30)]


def test_a_slow_network_carries_jobs_and_its_heartbeats_are_not_taken_for_silence(client, network):
    network.delay_s = 0.1
    assert ask(client, "echo:late") == "late"
    network.delay_s, network.bytes_per_s = 0.0, 400_000.0
    content = os.urandom(300_000)
    content_hash = client.upload(content, "body")
    job = client.submit(PingRequest("content_size", content=content_hash))
    assert client.wait(job, PATIENCE_S).payload.text == "300000"


def test_an_upload_that_a_cut_broke_off_begins_again_and_arrives_whole(client, network, backend):
    network.bytes_per_s = 4_000_000.0
    content_hash = client.upload(os.urandom(3_000_000), "body")
    job = client.submit(PingRequest("content_size", content=content_hash))
    time.sleep(0.3)
    network.cut()
    network.mend()
    network.bytes_per_s = 0.0
    assert client.wait(job, PATIENCE_S).payload.text == "3000000"
    folder = next(backend.temporary.glob("posefit-backend-*")) / "content"
    assert eventually(lambda: not list(folder.glob("incoming-*")))


# Bytes and messages out of order


def swapped_and_found_again(client, network, way, jobs):
    """Each job's answer, while pieces of the stream change places."""
    answers = []
    for text, data in jobs:
        network.swaps[way] = 1
        result = client.wait(client.submit(PingRequest(text, data)), PATIENCE_S).payload
        assert data is None or np.array_equal(result.data, data)
        answers.append(result.text)
    network.swaps[way] = 0
    return answers


@pytest.mark.parametrize("way", ["there", "back"])
def test_bytes_out_of_order_break_the_connection_and_every_answer_is_right(client, network, way):
    """Small jobs: the swap meets the framing or a header. Large ones: what an array holds."""
    dice = np.random.default_rng(5)
    large = [(f"echo:large {k}", dice.random(200_000).astype(np.float32)) for k in range(4)]
    small = [(f"echo:small {k}", None) for k in range(4)]
    answers = swapped_and_found_again(client, network, way, [*small, *large])
    assert answers == [text.removeprefix("echo:") for text, _ in [*small, *large]]
    assert ask(client, "echo:mended") == "mended"


def test_bytes_out_of_order_in_an_upload_are_noticed_and_it_begins_again(client, network, backend):
    content_hash = client.upload(os.urandom(3_000_000), "body")
    network.swaps["there"] = 1
    job = client.submit(PingRequest("content_size", content=content_hash))
    assert client.wait(job, PATIENCE_S).payload.text == "3000000"
    assert network.swaps["there"] == 0
    folder = next(backend.temporary.glob("posefit-backend-*")) / "content"
    assert eventually(lambda: not list(folder.glob("incoming-*")))


@pytest.mark.parametrize("way", ["there", "back"])
def test_encrypted_bytes_out_of_order_break_the_connection_too(tmp_path, way):
    file = tmp_path / "launch.keys"
    with running_backend(tmp_path, "--launch-keys", str(file)) as guarded:
        keys = read_client_keys(file)
        with (
            network_before(guarded.port) as between,
            Client(between.address, curve_keys=keys, config=IMPATIENT) as far,
        ):
            far.wait_ready(PATIENCE_S)
            jobs = [(f"echo:{k}", np.full(50_000, k, np.float32)) for k in range(4)]
            assert swapped_and_found_again(far, between, way, jobs) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_messages_out_of_order_lose_no_job_and_double_none(backend, tmp_path, seed):
    notes = tmp_path / "notes"
    with (
        post_before(backend.address, seed) as post,
        Client(post.address, config=IMPATIENT) as far,
    ):
        far.wait_ready(PATIENCE_S)
        jobs = [far.submit(PingRequest(f"echo:{k}")) for k in range(30)]
        noted = [far.submit(PingRequest(f"note:{notes}")) for _ in range(5)]
        stepping = far.submit(PingRequest("steps:30"))
        far.cancel(stepping)
        told = far.submit(PingRequest("revisions:20"))
        answers = [far.wait(job, PATIENCE_S).payload.text for job in jobs]
        assert answers == [str(k) for k in range(30)]
        assert [far.wait(job, PATIENCE_S).payload.text for job in noted] == ["noted"] * 5
        assert notes.read_text().count("\n") == 5
        with pytest.raises(JobFailed, match="cancelled"):
            far.wait(stepping, PATIENCE_S)
        assert far.wait(told, PATIENCE_S).payload.text == "19"
        assert post.exchanged > 10


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_upload_whose_messages_are_out_of_order_arrives_or_is_refused(backend, seed):
    with (
        post_before(backend.address, seed) as post,
        Client(post.address, config=IMPATIENT) as far,
    ):
        far.wait_ready(PATIENCE_S)
        for size in (1000, 3_000_000):
            content_hash = far.upload(os.urandom(size), "body")
            job = far.submit(PingRequest("content_size", content=content_hash))
            try:
                assert far.wait(job, PATIENCE_S).payload.text == str(size)
            except JobFailed as error:
                assert error.kind == "content"  # noqa: PT017 - either end will do
        assert ask(far, "echo:goes on") == "goes on"


# Processes


def test_a_client_that_is_killed_leaves_its_job_and_no_upload_behind(backend):
    code = (
        "import sys, time, os; from posefit_shared.client import Client\n"
        "from posefit_shared.messages import PingRequest\n"
        "c = Client(sys.argv[1]); c.start(); c.wait_ready(60)\n"
        "c.submit(PingRequest('steps:60'))\n"
        "while not any(type(e).__name__ == 'Progress' for e in c.poll()): time.sleep(0.02)\n"
        "print(c.session, flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, backend.address], stdout=subprocess.PIPE, text=True
    )
    session = child.stdout.readline().strip()
    child.kill()
    child.wait(PATIENCE_S)
    child.stdout.close()
    with connected(backend, session=session) as heir:  # whoever knows the session takes it over
        assert heir.welcome.resumed
        heir.cancel(heir.welcome.jobs[0])
        assert eventually(lambda: heir.report()["jobs"]["running"] == 0)
        assert ask(heir, "echo:free") == "free"


def test_a_worker_killed_at_any_moment_costs_no_job(tmp_path):
    dice = random.Random(3)
    options = ["--limits.job-retries", "3"]
    with running_backend(tmp_path, *options) as backend, connected(backend) as client:
        for _ in range(2):
            pid = int(ask(client, "pid"))
            jobs = [client.submit(PingRequest("steps:0.1")) for _ in range(3)]
            time.sleep(dice.uniform(0.0, 0.25))
            os.kill(pid, signal.SIGKILL)
            for job in jobs:
                assert client.wait(job, PATIENCE_S).payload.text == "stepped"
        assert client.report()["worker_deaths"] == 2
        assert not is_alive(pid)
        assert len(list(backend.temporary.rglob("worker-*"))) == 1, "the dead leave no folders"


# Disks


@contextlib.contextmanager
def full_disk():
    """No file of this process grows beyond 100 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def write_upload(folder):
    store = ContentStore(folder, 1 << 30, 1 << 30)
    incoming = store.begin("b" * 64)
    try:
        for offset in (0, 90_000):
            store.append(incoming, offset, memoryview(bytes(90_000)))
    finally:
        store.abandon(incoming)
        assert store.usage == (0, 0)


def write_long_sequence(folder):
    poses = np.random.default_rng(0).normal(size=(2000, 24, 3))
    write_sequence(folder / "out.npz", Sequence(poses=poses, trans=np.zeros((2000, 3))))


def write_texture(folder):
    noise = torch.rand(256, 256, 3)
    save_png(Texture(noise, noise[..., 0], ""), folder / "texture.png")


@pytest.mark.parametrize("write", [write_upload, write_long_sequence, write_texture])
def test_a_full_disk_is_one_sentence_and_no_half_written_file(tmp_path, write):
    with full_disk(), pytest.raises((StoreError, SequenceError, TextureError)) as caught:
        write(tmp_path)
    assert "File too large" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_backend_whose_disk_is_full_refuses_the_upload_and_serves_on(tmp_path):
    with running_backend(tmp_path) as backend, connected(backend) as client:
        assert ask(client, "echo:x") == "x"
        subprocess.run(["prlimit", f"--pid={backend.process.pid}", "--fsize=500000"], check=True)
        content_hash = client.upload(bytes(900_000), "body")
        with pytest.raises(JobFailed, match="cannot be stored"):
            ask(client, "content", content=content_hash)
        assert ask(client, "echo:still here") == "still here"
        assert client.report()["bytes"]["uploads"] == 0


def test_a_tunnel_that_closes_each_connection_is_not_taken_for_a_backend_that_wants_keys(tmp_path):
    """A forwarded port takes connections and breaks them off while what lies behind it is gone."""
    with running_backend(tmp_path) as backend, connected(backend) as client:
        assert ask(client, "echo:x") == "x"
        backend.kill()
        with socket.create_server(("127.0.0.1", backend.port)) as tunnel:
            tunnel.settimeout(PATIENCE_S)
            for _ in range(2 * MAX_BROKEN_OFF):
                tunnel.accept()[0].close()
        job = client.submit(PingRequest("echo:again"))
        with running_backend(tmp_path, bind=backend.address):
            assert client.wait(job, PATIENCE_S).payload.text == "again"


JUMPING_CLOCK = """
import os, time
_time, _time_ns = time.time, time.time_ns

def _jumped():
    with open(os.environ["CLOCK_JUMP"]) as file:
        return float(file.read() or 0)

time.time = lambda: _time() + _jumped()
time.time_ns = lambda: _time_ns() + int(1e9 * _jumped())
"""
"""Loaded by every Python that finds it first on its path."""


def test_a_clock_that_jumps_costs_no_job_no_worker_and_no_session(tmp_path, monkeypatch):
    """Two days ahead and four back, in the midst of jobs, for the broker and its worker."""
    jump = tmp_path / "jump"
    jump.write_text("0")
    (tmp_path / "sitecustomize.py").write_text(JUMPING_CLOCK)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("CLOCK_JUMP", str(jump))
    limits = ["--limits.heartbeat-s", "0.1", "--limits.client-silence-s", "2"]
    with running_backend(tmp_path, "--is-kept", *limits) as backend, connected(backend) as client:
        before, session = ask(client, "pid"), client.session
        set_clock(jump, days=10)
        assert float(ask(client, "time")) > time.time() + 5 * 86400, "the clock has jumped"
        job = client.submit(PingRequest(f"until:{tmp_path / 'enough'}"))
        assert eventually(lambda: client.report()["jobs"]["running"] == 1)
        for days in (2, -2, 30 * 365, 0):
            set_clock(jump, days)
            since = client.report()["uptime_s"]
            assert eventually(lambda since=since: client.report()["uptime_s"] > since + 0.3)
            assert client.report()["jobs"]["running"] == 1
        (tmp_path / "enough").touch()
        assert client.wait(job, PATIENCE_S).payload.text == "it is there"
        assert ask(client, "pid") == before
        assert client.session == session
        assert client.report()["worker_deaths"] == 0


def set_clock(jump, days):
    """Let the clock of what reads the file be so many days from the true one, at once."""
    (jump.parent / "next jump").write_text(str(86400 * days))
    (jump.parent / "next jump").replace(jump)
