# SPDX-License-Identifier: Apache-2.0
"""Workers' processes that are started before the broker is there."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import zmq
from wire_backend import HERE, PATIENCE_S, QUICK, ask, is_alive

from posefit.cli import main
from posefit.worker.start import start_process
from posefit_shared.client import Client

EARLY = """
import sys
sys.path.insert(0, {folder!r})
from posefit.worker.start import start_process
early = [start_process("json")]
print(early[0].pid, flush=True)
from posefit.server import ServeConfig, serve
config = ServeConfig(bind="tcp://127.0.0.1:0", device="cpu", handlers="wire_handlers:run_job",
                     exit_with_stdin=True)
sys.exit(serve(config, early))
"""


def test_a_process_that_nobody_gives_work_ends_with_whoever_started_it():
    process = start_process("json")
    process.stdin.close()
    assert process.wait(PATIENCE_S) == 3


def test_a_process_whose_module_cannot_be_loaded_ends_and_says_why(capfd):
    process = start_process("no_such_module")
    assert process.wait(PATIENCE_S) == 1
    process.stdin.close()
    assert "no_such_module" in capfd.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="/proc of Linux")
def test_the_broker_takes_a_process_that_was_started_before_it(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{HERE}:{':'.join(filter(None, sys.path))}")
    command = [sys.executable, "-c", EARLY.format(folder=str(HERE))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        pid = int(run.stdout.readline())
        address = run.stdout.readline().split()[1]
        with Client(address, config=QUICK) as client:
            client.wait_ready(PATIENCE_S)
            assert int(ask(client, "pid")) == pid
        run.stdin.close()
        assert run.wait(PATIENCE_S) == 0
    assert not is_alive(pid)


def test_a_backend_that_cannot_start_leaves_no_process(capsys, monkeypatch):
    started = []

    def start(preload):
        started.append(start_process("json"))
        return started[-1]

    monkeypatch.setattr("posefit.commands.serving.start_process", start)
    monkeypatch.setattr("posefit.server.keeper.can_keep", lambda: False)
    with ThreadPoolExecutor() as pool, zmq.Context() as context, context.socket(zmq.REP) as taken:
        port = taken.bind_to_random_port("tcp://127.0.0.1")
        serving = pool.submit(main, ["serve", "--bind", f"tcp://127.0.0.1:{port}"])
        assert serving.result(PATIENCE_S) == 2
    assert "cannot listen" in capsys.readouterr().err
    assert [process.poll() is None for process in started] == [False]


def test_an_address_that_may_not_be_used_is_refused_before_anything_starts(capsys, monkeypatch):
    monkeypatch.setattr("posefit.server.keeper.start_process", lambda preload: pytest.fail(preload))
    assert main(["serve", "--bind", "tcp://0.0.0.0:5557"]) == 2
    assert "needs keys" in capsys.readouterr().err
