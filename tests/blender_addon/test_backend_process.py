# SPDX-License-Identifier: GPL-3.0-or-later
"""A backend that the extension starts: it says where it listens, and it never stays behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from blender_addon.connection import backend_process

REPOSITORY = Path(__file__).resolve().parents[2]
KEYS = json.dumps({"posefit_keys": 1, "public_key": "a1" * 32, "secret_key": "b2" * 32,
                   "server_key": "c3" * 32})  # fmt: skip


def wait_for(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(pid):
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # before, or between opening and reading
        return False


@pytest.fixture
def stand_in(tmp_path):
    """A Python whose `posefit.server` only says what it was started with, then waits."""
    package = tmp_path / "posefit"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "server.py").write_text(
        "import sys, pathlib\n"
        "words = sys.argv\n"
        "print(words)\n"
        "if '--fail' in words: sys.exit('no torch here')\n"
        "keys = pathlib.Path(words[words.index('--launch-keys') + 1])\n"
        f"keys.touch(0o600); keys.write_text({KEYS!r})\n"
        "pathlib.Path(words[words.index('--ready-file') + 1]).write_text('tcp://127.0.0.1:1234')\n"
        "sys.stdin.read()\n"
    )
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexport PYTHONPATH="{tmp_path}"\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python


def test_its_address_and_its_end_are_known(stand_in, tmp_path):
    roots = [tmp_path / "a film", tmp_path]
    backend = backend_process.start(stand_in, roots, tmp_path / "log folder")
    wait_for(lambda: backend.address() is not None)
    assert backend.address() == "tcp://127.0.0.1:1234"
    assert backend.keys().server_key == "c3" * 32
    backend.stop()
    assert not backend.is_running
    assert not is_alive(backend.process.pid)
    text = backend.log_path.read_text()
    assert str(roots[0]) in text
    assert "tcp://127.0.0.1:0" in text
    assert not backend.ready_path.exists()
    assert not backend.keys_path.exists()


def test_one_that_ends_by_itself_gives_its_last_words(stand_in, tmp_path):
    backend = backend_process.start(stand_in, [], tmp_path / "log", ["--fail"])
    wait_for(lambda: not backend.is_running)
    assert backend.exit_words == "the backend ended (status 1): no torch here"
    assert backend.address() is None
    backend.stop()


def test_a_python_that_is_not_there_is_said(tmp_path):
    with pytest.raises(backend_process.BackendStartError, match="no Python at"):
        backend_process.start(tmp_path / "nowhere/python", [], tmp_path)


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_it_ends_with_the_blender_that_started_it(stand_in, tmp_path, end):
    code = (
        f"import sys, time; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from pathlib import Path\n"
        "from blender_addon.connection import backend_process\n"
        f"b = backend_process.start(Path({str(stand_in)!r}), [], Path({str(tmp_path / 'log')!r}))\n"
        "while b.address() is None: time.sleep(0.05)\n"
        "print(b.process.pid, flush=True)\n" + ("" if end == "exit" else "time.sleep(60)\n")
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    if end == "kill":
        os.kill(parent.pid, signal.SIGKILL)
    parent.wait(20)
    wait_for(lambda: not is_alive(pid))


@pytest.mark.parametrize(
    ("code", "log", "expected"),
    [
        (
            1,
            "2026-11-29 18:28:30,812 INFO posefit.server submitted\nno torch here\n",
            "no torch here",
        ),
        (1, "2026-11-29 18:28:30,812 INFO posefit.server submitted\n", "did not say why"),
        (1, "2026-11-29 18:28:30,812 ERROR posefit.server no port\n", "no port"),
        (-9, "2026-11-29 18:28:30,812 INFO posefit.server submitted\n", "memory was full"),
    ],
)
def test_an_end_is_told_by_what_went_wrong_and_not_by_what_went_on(tmp_path, code, log, expected):
    path = tmp_path / "backend.log"
    path.write_text(log)
    words = backend_process.end_words(code, path)
    assert expected in words
    assert "INFO" not in words
