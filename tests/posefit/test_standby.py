# SPDX-License-Identifier: Apache-2.0
"""A process that stands by: it takes a dead worker's place, once, and goes with the broker."""

import os
import re
import signal
import sys

import pytest
from wire_backend import ask, connected, eventually, is_alive, running_backend

from posefit.cli import main
from posefit.server import standby as rules
from posefit.server.standby import may_start, pause_after_death
from posefit.server.workers import Worker
from posefit_shared.client import JobFailed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and /proc of Linux")

SOON = ["--standby", "--limits.standby-pause-s", "0.05"]


def state_of_standby(client):
    return [standby["state"] for standby in client.report()["standbys"]]


def wait_for_standby(client):
    assert eventually(lambda: state_of_standby(client) == ["ready"])


def started(backend, role):
    """Processes that have been started as workers or standbys, in order."""
    log = backend.log.read_text()
    return [int(pid) for pid in re.findall(rf"{role} on \S+ started as process (\d+)", log)]


@pytest.fixture
def backend(tmp_path):
    with running_backend(tmp_path, *SOON) as running:
        yield running


@pytest.fixture
def client(backend):
    with connected(backend) as ready:
        wait_for_standby(ready)
        yield ready


def test_a_standby_takes_the_place_of_a_worker_that_is_killed_and_another_follows(backend, client):
    first, (second,) = int(ask(client, "pid")), started(backend, "standby")
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: not is_alive(first))
    assert int(ask(client, "pid")) == second
    wait_for_standby(client)
    assert len(started(backend, "worker")) == 1
    assert len(started(backend, "standby")) == 2


def test_a_job_whose_worker_dies_is_done_by_the_standby(client, tmp_path):
    assert ask(client, f"crash_once:{tmp_path / 'marker'}") == "second try"


def test_a_standby_gets_no_jobs_while_its_worker_lives(backend, client):
    (worker,) = started(backend, "worker")
    assert {int(ask(client, "pid")) for _ in range(10)} == {worker}


def test_a_hung_worker_is_followed_by_the_standby(tmp_path):
    limits = ["--limits.job-stall-s", "0.5"]
    with running_backend(tmp_path, *SOON, *limits) as backend, connected(backend) as client:
        wait_for_standby(client)
        (waiting,) = started(backend, "standby")
        with pytest.raises(JobFailed, match="no progress"):
            ask(client, "sleep:60")
        assert int(ask(client, "pid")) == waiting


def test_a_standby_that_dies_is_started_again(backend, client):
    (waiting,) = started(backend, "standby")
    os.kill(waiting, signal.SIGKILL)
    assert eventually(lambda: len(started(backend, "standby")) == 2)
    wait_for_standby(client)
    assert int(ask(client, "pid")) in started(backend, "worker")


def test_a_worker_that_dies_when_the_standby_is_gone_is_started_again(tmp_path):
    with running_backend(tmp_path, *SOON) as backend, connected(backend) as client:
        wait_for_standby(client)
        (waiting,) = started(backend, "standby")
        worker = int(ask(client, "pid"))
        for pid in (waiting, worker):
            os.kill(pid, signal.SIGKILL)
        assert int(ask(client, "pid")) not in (waiting, worker)


def test_a_job_that_always_kills_its_worker_does_not_use_up_standbys(tmp_path):
    with running_backend(tmp_path, "--standby") as backend, connected(backend) as client:
        wait_for_standby(client)
        for _ in range(4):
            with pytest.raises(JobFailed, match="tried 2 times"):
                ask(client, "crash")
        # Eight deaths: the pause before another standby has grown with each.
        assert len(started(backend, "standby")) <= 3
        assert len(started(backend, "worker")) >= 5
        assert ask(client, "echo:next") == "next"


def test_a_standby_ends_with_its_broker(tmp_path):
    with running_backend(tmp_path, *SOON) as backend, connected(backend) as client:
        wait_for_standby(client)
        (waiting,) = started(backend, "standby")
        assert backend.stop() == 0
        assert not is_alive(waiting)
        assert list(backend.temporary.iterdir()) == []


def test_a_standby_ends_when_its_broker_is_killed(tmp_path):
    with running_backend(tmp_path, *SOON) as backend, connected(backend) as client:
        wait_for_standby(client)
        (waiting,) = started(backend, "standby")
        backend.kill()
        assert eventually(lambda: not is_alive(waiting))


def test_two_workers_of_one_device_share_a_standby(tmp_path):
    two = [*SOON, "--workers", "2"]
    with running_backend(tmp_path, *two) as backend, connected(backend) as client:
        wait_for_standby(client)
        assert len(started(backend, "worker")) == 2
        assert len(started(backend, "standby")) == 1


def test_without_the_option_nothing_stands_by(tmp_path):
    with running_backend(tmp_path) as backend, connected(backend) as client:
        assert ask(client, "echo:x") == "x"
        assert client.report()["standbys"] == []


def test_status_and_metrics_tell_of_the_standby(backend, client, capsys):
    assert main(["status", backend.address]) == 0
    assert "standby   cpu: ready" in capsys.readouterr().out


# Rehearsals


def rehearsing(tmp_path, monkeypatch, manner, *options):
    monkeypatch.setenv("REHEARSAL", manner)
    monkeypatch.setenv("REHEARSES", str(tmp_path / "rehearses"))
    return running_backend(tmp_path, "--handlers", "rehearsing_handlers:run_job", *options)


def test_a_rehearsal_makes_way_for_a_job(tmp_path, monkeypatch):
    with (
        rehearsing(tmp_path, monkeypatch, "until_wanted") as backend,
        connected(backend) as client,
    ):
        assert eventually((tmp_path / "rehearses").exists)
        assert ask(client, "x") == "1 rehearsals"
        assert ask(client, "x") == "1 rehearsals", "and is not taken up again"


def test_a_job_that_waits_for_a_worker_spares_it_the_rehearsal(tmp_path, monkeypatch):
    with (
        rehearsing(tmp_path, monkeypatch, "until_wanted") as backend,
        connected(backend) as client,
    ):
        assert ask(client, f"crash_once:{tmp_path / 'marker'}") == "0 rehearsals"


def test_a_rehearsal_that_fails_costs_no_job(tmp_path, monkeypatch):
    with rehearsing(tmp_path, monkeypatch, "fail") as backend, connected(backend) as client:
        assert eventually(lambda: "the rehearsal failed" in backend.log.read_text())
        assert ask(client, "x") == "1 rehearsals"


def test_a_worker_that_dies_of_its_rehearsal_is_followed_by_one_without(tmp_path, monkeypatch):
    with rehearsing(tmp_path, monkeypatch, "crash") as backend, connected(backend) as client:
        assert eventually(lambda: client.report()["worker_deaths"] == 1)
        assert ask(client, "x") == "0 rehearsals"


def test_a_standby_that_has_rehearsed_does_not_rehearse_again(tmp_path, monkeypatch):
    with (
        rehearsing(tmp_path, monkeypatch, "until_wanted", *SOON) as backend,
        connected(backend) as client,
    ):
        ask(client, "x")
        wait_for_standby(client)
        os.kill(started(backend, "worker")[0], signal.SIGKILL)
        assert ask(client, "x") == "1 rehearsals"


# When one is started


def ready_worker():
    return Worker("cpu", state="idle")


def test_a_standby_waits_until_its_worker_has_been_ready_for_a_while():
    standby = Worker("cpu", is_standby=True)
    loading = Worker("cpu", state="starting")
    assert not may_start(standby, [loading], 2.0, now=10.0)
    loading.state = "idle"
    assert not may_start(standby, [loading], 2.0, now=11.9)
    assert may_start(standby, [loading], 2.0, now=12.1)


def test_a_new_worker_does_not_share_the_machine_while_it_is_busy_but_a_long_job_does():
    standby = Worker("cpu", is_standby=True)
    busy = Worker("cpu", state="busy", started_at=100.0)
    assert not may_start(standby, [busy], 2.0, now=110.0)
    assert may_start(standby, [busy], 2.0, now=100.0 + rules.BUSY_GRACE_S)


def test_a_worker_of_another_device_that_cannot_start_holds_no_standby_up():
    standby = Worker("cuda:0", is_standby=True)
    workers = [Worker("cuda:0", state="idle"), Worker("cuda:1", state="down")]
    assert may_start(standby, workers, 2.0, now=1.0)


def test_a_machine_that_is_short_of_memory_gets_no_standby(monkeypatch):
    standby = Worker("cpu", is_standby=True)
    monkeypatch.setattr(rules, "has_memory_to_spare", lambda: False)
    assert not may_start(standby, [ready_worker()], 2.0, now=1.0)
    assert "memory" in standby.last_words
    monkeypatch.setattr(rules, "has_memory_to_spare", lambda: True)
    assert not may_start(standby, [ready_worker()], 2.0, now=2.0), "it was looked at just now"
    assert may_start(standby, [ready_worker()], 2.0, now=1000.0)


def test_the_pause_before_another_standby_grows_and_has_an_end():
    pauses = [pause_after_death(2.0, deaths) for deaths in range(12)]
    assert pauses[:4] == [2.0, 2.0, 4.0, 8.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == rules.PAUSE_LIMIT_S
