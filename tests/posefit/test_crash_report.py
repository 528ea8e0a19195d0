# SPDX-License-Identifier: Apache-2.0
"""What a crash leaves for whoever can mend it, and what it keeps to itself."""

import json
import sys

import numpy as np
import pytest
from wire_backend import PATIENCE_S, ask, connected, eventually, running_backend

from posefit.worker import crash_report
from posefit.worker.crash_report import write_crash_report
from posefit_shared.client import JobFailed
from posefit_shared.messages import MediaReference, PingRequest, RefineRequest
from posefit_shared.sequence import Sequence


def reports(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.glob("crash-*.json"))]


@pytest.mark.skipif(sys.platform != "linux", reason="signals of Linux")
def test_a_bug_and_a_crash_are_written_down_and_a_cancelled_or_refused_job_is_not(tmp_path):
    folder = tmp_path / "crashes"
    options = ["--crash-folder", str(folder), "--limits.job-retries", "0"]
    with running_backend(tmp_path, *options) as backend, connected(backend) as client:
        for text in ("fail", "bug", "segfault"):
            with pytest.raises(JobFailed):
                client.wait(client.submit(PingRequest(text, np.ones(7, np.float32))), PATIENCE_S)
        cancelled = client.submit(PingRequest("steps:60"))
        client.cancel(cancelled)
        with pytest.raises(JobFailed, match="cancelled"):
            client.wait(cancelled, PATIENCE_S)
        assert ask(client, "echo:x") == "x"
        assert eventually(lambda: len(reports(folder)) == 2)
    bug, crash = sorted(reports(folder), key=lambda one: one["cause"].startswith("the worker"))
    assert "KeyError: 'nothing'" in bug["traceback"][-1]
    assert bug["request"]["data"] == "float32 (7,)"
    assert bug["device"] == "cpu (test)"
    assert crash["cause"] == "the worker process crashed (signal 11)"
    assert "Segmentation fault" in crash["traceback"][0]
    assert any("wire_handlers.py" in line for line in crash["traceback"])
    assert any("failed (internal)" in line for line in crash["log"])


def test_a_report_has_no_pose_no_name_of_footage_and_no_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ana")
    poses = np.full((3, 24, 3), 0.123456, np.float32)
    sequence = Sequence(poses=poses, trans=np.zeros((3, 3)), body="secret body of somebody")
    request = RefineRequest(sequence, MediaReference(path="/films/Secret Film/take.MP4"))
    path = write_crash_report(
        tmp_path, "why", job="j", kind="refine", request=request, traceback="in /home/ana/x.py"
    )
    text = path.read_text()
    assert "path *.mp4" in text
    assert "float32 (3, 24, 3)" in text
    assert '"displacement"' in text, "settings are told"
    for secret in ("Secret", "secret", "take", "0.1234", "ana"):
        assert secret not in text


def test_the_oldest_reports_go_and_a_folder_that_cannot_be_written_is_no_crash(tmp_path):
    for _ in range(crash_report.KEPT_REPORTS + 3):
        assert write_crash_report(tmp_path / "crashes", "why")
    assert len(reports(tmp_path / "crashes")) == crash_report.KEPT_REPORTS
    (tmp_path / "file").touch()
    assert write_crash_report(tmp_path / "file" / "below", "why") is None
