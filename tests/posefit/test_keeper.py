# SPDX-License-Identifier: Apache-2.0
"""A backend with a keeper: its broker may be killed at any moment; nothing outlives the keeper."""

import json
import os
import re
import signal
import sys

import pytest
from wire_backend import (
    PATIENCE_S,
    QUICK,
    ask,
    broker_of,
    connected,
    eventually,
    is_alive,
    running_backend,
)

from posefit.commands.serving import run_backend
from posefit.server import keeper
from posefit.server.config import ServeConfig, ServeLimits, config_of_map, map_of_config
from posefit_shared.client import BackendUnavailable, Client
from posefit_shared.key_files import read_client_keys
from posefit_shared.messages import Limits, PingRequest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and /proc of Linux")

KEPT = ["--is-kept"]
SOON = [*KEPT, "--standby", "--limits.standby-pause-s", "0.05"]


def started(backend, role):
    """Processes that have been started as workers or standbys, in order."""
    log = backend.log.read_text()
    return [int(pid) for pid in re.findall(rf"{role} on \S+ started as process (\d+)", log)]


def wait_for_standby(client):
    def is_ready():
        return [one["state"] for one in client.report()["standbys"]] == ["ready"]

    assert eventually(is_ready)


def kill_broker(backend):
    """Kill it, and wait until it is gone."""
    pid = broker_of(backend)
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not is_alive(pid))


def test_a_broker_that_is_killed_is_followed_by_another_whose_worker_stood_by(tmp_path):
    with running_backend(tmp_path, *SOON) as backend, connected(backend) as client:
        first = int(ask(client, "pid"))
        for _ in range(3):
            wait_for_standby(client)
            waiting = started(backend, "standby")[-1]
            kill_broker(backend)
            assert int(ask(client, "pid")) == waiting
            assert not is_alive(first), "a worker ends with its broker"
            first = waiting
        assert f"listens on {backend.address}\n" in backend.log.read_text()[-4000:]


def test_a_job_outlives_the_broker_that_had_it(tmp_path):
    with running_backend(tmp_path, *SOON) as backend, connected(backend) as client:
        wait_for_standby(client)
        job = client.submit(PingRequest("steps:1"))
        assert eventually(lambda: client.report()["jobs"]["running"] == 1)
        kill_broker(backend)
        assert client.wait(job, PATIENCE_S).payload.text == "stepped"


def test_a_broker_that_hangs_is_killed_and_followed_by_another(tmp_path):
    options = [*SOON, "--limits.broker-silence-s", "1.5", "--limits.heartbeat-s", "0.2"]
    with running_backend(tmp_path, *options) as backend, connected(backend) as client:
        wait_for_standby(client)
        frozen = broker_of(backend)
        os.kill(frozen, signal.SIGSTOP)
        assert ask(client, "echo:x") == "x"
        assert not is_alive(frozen)
        assert "the broker hung" in backend.log.read_text()


def test_a_backend_that_is_stopped_as_a_whole_goes_on_when_it_may(tmp_path):
    options = [*KEPT, "--limits.broker-silence-s", "1.0", "--limits.heartbeat-s", "0.2"]
    with running_backend(tmp_path, *options) as backend, connected(backend) as client:
        before, broker = int(ask(client, "pid")), broker_of(backend)
        for pid in (backend.process.pid, broker):
            os.kill(pid, signal.SIGSTOP)
        assert client_notices(client)
        for pid in (broker, backend.process.pid):
            os.kill(pid, signal.SIGCONT)
        assert int(ask(client, "pid")) == before
        assert broker_of(backend) == broker


def client_notices(client):
    """Whether the client has found that its backend says nothing any more."""
    return eventually(lambda: client.state.name == "lost")


def test_a_broker_without_a_standby_is_followed_by_another(tmp_path):
    with running_backend(tmp_path, *KEPT) as backend, connected(backend) as client:
        before = int(ask(client, "pid"))
        kill_broker(backend)
        assert int(ask(client, "pid")) != before
        assert not is_alive(before)


def test_a_standby_that_has_become_a_worker_ends_with_its_broker(tmp_path):
    """It is the keeper's child, but may be in the middle of a job that the next one runs again."""
    with running_backend(tmp_path, *SOON) as backend, connected(backend) as client:
        wait_for_standby(client)
        os.kill(int(ask(client, "pid")), signal.SIGKILL)
        taken = int(ask(client, "pid"))
        assert taken in started(backend, "standby")
        kill_broker(backend)
        assert int(ask(client, "pid")) != taken
        assert not is_alive(taken)


def test_a_broker_may_be_killed_while_everything_still_loads(tmp_path):
    with running_backend(tmp_path, *SOON) as backend:
        for _ in range(2):
            kill_broker(backend)
            assert eventually(lambda: len(brokers_of(backend)) == 1)
        with connected(backend) as client:
            assert ask(client, "echo:x") == "x"
            count = len(started(backend, "standby"))
            assert eventually(lambda: len(started(backend, "standby")) > count - 1)
            kill_broker(backend)  # perhaps while the standby loads
            assert ask(client, "echo:y") == "y"
            wait_for_standby(client)


def brokers_of(backend):
    try:
        return [broker_of(backend)]
    except (AssertionError, FileNotFoundError):
        return []


def test_words_for_the_death_of_a_process_that_the_keeper_started(tmp_path):
    with running_backend(tmp_path, *SOON) as backend, connected(backend) as client:
        wait_for_standby(client)
        os.kill(started(backend, "standby")[0], signal.SIGSEGV)
        assert eventually(lambda: "standby on cpu has ended" in backend.log.read_text())
        assert "crashed (signal 11)" in backend.log.read_text()
        wait_for_standby(client)


def test_an_orderly_end_leaves_nothing_though_a_broker_was_killed(tmp_path):
    ready = tmp_path / "ready"
    options = [*SOON, "--ready-file", str(ready)]
    with running_backend(tmp_path, *options) as backend, connected(backend) as client:
        wait_for_standby(client)
        kill_broker(backend)
        ask(client, "echo:x")
        wait_for_standby(client)
        assert ready.read_text().strip() == backend.address
        pids = {*started(backend, "worker"), *started(backend, "standby"), broker_of(backend)}
        assert backend.stop() == 0
        assert not any(is_alive(pid) for pid in pids)
        assert list(backend.temporary.iterdir()) == []
        assert not ready.exists()


def test_nothing_outlives_a_keeper_that_is_killed(tmp_path):
    with running_backend(tmp_path, *SOON) as backend, connected(backend) as client:
        wait_for_standby(client)
        pids = [broker_of(backend), int(ask(client, "pid")), *started(backend, "standby")]
        backend.kill()
        assert eventually(lambda: not any(is_alive(pid) for pid in pids))
    with running_backend(tmp_path, *KEPT, bind=backend.address) as again:
        assert again.address == backend.address


def test_a_keeper_ends_with_the_standard_input_that_it_was_given(tmp_path):
    with running_backend(tmp_path, *SOON, "--exit-with-stdin") as backend:
        with connected(backend) as client:
            wait_for_standby(client)
            pids = [broker_of(backend), *started(backend, "standby")]
        backend.process.stdin.close()
        assert backend.stop_status() == 0
        assert not any(is_alive(pid) for pid in pids)


def test_the_client_of_a_launch_is_let_in_by_the_next_broker_and_nobody_else(tmp_path):
    keys_file = tmp_path / "client.keys"
    options = [*SOON, "--launch-keys", str(keys_file)]
    with running_backend(tmp_path, *options) as backend:
        keys = read_client_keys(keys_file)
        with connected(backend, curve_keys=keys) as client:
            wait_for_standby(client)
            kill_broker(backend)
            assert ask(client, "echo:x") == "x"
        assert read_client_keys(keys_file) == keys
        assert keys_file.stat().st_mode & 0o077 == 0
        with Client(backend.address, config=QUICK) as stranger, pytest.raises(BackendUnavailable):
            stranger.wait_ready(PATIENCE_S)
        assert backend.stop() == 0
        assert not keys_file.exists()


def test_a_second_backend_at_the_same_address_is_refused_and_harms_nothing(tmp_path):
    ready = tmp_path / "ready"
    with running_backend(tmp_path, *KEPT, "--ready-file", str(ready)) as backend:
        config = ServeConfig(
            bind=backend.address, device="cpu", handlers="wire_handlers:run_job", ready_file=ready
        )
        assert keeper.keep(map_of_config(config)) == 2
        assert ready.read_text().strip() == backend.address
        with connected(backend) as client:
            assert ask(client, "echo:x") == "x"


def test_a_crash_of_the_broker_leaves_a_report(tmp_path):
    options = [*KEPT, "--crash-folder", str(tmp_path / "crashes")]
    with running_backend(tmp_path, *options) as backend, connected(backend) as client:
        os.kill(broker_of(backend), signal.SIGSEGV)
        assert ask(client, "echo:x") == "x"
        (path,) = (tmp_path / "crashes").iterdir()
        report = json.loads(path.read_text())
        assert report["cause"] == "the broker has ended (signal 11)"
        assert any("broker.py" in line for line in report["traceback"])


def test_an_orderly_end_is_no_crash(tmp_path):
    options = [*KEPT, "--crash-folder", str(tmp_path / "crashes")]
    with running_backend(tmp_path, *options) as backend, connected(backend) as client:
        ask(client, "echo:x")
        assert backend.stop() == 0
    assert not (tmp_path / "crashes").exists()


def test_a_broker_that_cannot_live_is_not_started_for_ever(monkeypatch, caplog):
    monkeypatch.setattr(keeper, "BROKER", "no_such_module")
    monkeypatch.setattr(keeper, "PAUSE_S", 0.0)
    config = map_of_config(ServeConfig(handlers="json:loads"))
    assert keeper.keep(config) == 1
    assert f"died {keeper.DEATHS_LIMIT} times in a row" in caplog.text


def test_a_keeper_is_told_to_end_while_it_pauses(tmp_path, monkeypatch):
    monkeypatch.setattr(keeper, "BROKER", "no_such_module")
    monkeypatch.setattr(keeper, "PAUSE_S", 600.0)
    monkeypatch.setattr(keeper, "PAUSE_LIMIT_S", 600.0)
    told = []

    def say(*words):
        if len(told) == 1:  # the second pause begins
            os.kill(os.getpid(), signal.SIGTERM)
        told.append(words)

    monkeypatch.setattr(keeper.logger, "error", say)
    assert keeper.keep(map_of_config(ServeConfig(handlers="json:loads"))) == 0
    assert len(told) == 2


def test_settings_reach_the_broker_as_they_were(tmp_path):
    limits = ServeLimits(wire=Limits(parts=7), sessions=3)
    for config in (
        ServeConfig(),
        ServeConfig(
            media_roots=(tmp_path, tmp_path / "a b"), launch_keys=tmp_path / "k", workers=2,
            ready_file=tmp_path / "r", limits=limits, is_kept=True, crash_folder=tmp_path,
        ),
    ):  # fmt: skip
        assert config_of_map(map_of_config(config)) == config


def test_where_no_file_can_be_handed_over_the_backend_runs_without_a_keeper(monkeypatch):
    """As on Windows, though Blender asks for one there too."""
    told = []
    monkeypatch.setattr(keeper, "can_keep", lambda: False)
    monkeypatch.setattr(keeper, "keep", lambda config: pytest.fail("a keeper was started"))
    monkeypatch.setattr("posefit.server.broker.serve", lambda *words: told.append(words) or 0)
    monkeypatch.setattr("posefit.commands.serving.start_process", _refuse)
    assert run_backend(ServeConfig(bind="tcp://127.0.0.1:0", is_kept=True)) == 0
    assert len(told) == 1


def _refuse(preload):
    raise OSError("nothing is started here")
