# SPDX-License-Identifier: Apache-2.0
"""What a backend tells of itself: status, metrics, health, and logs that name the job."""

import json
import re
import sys
import urllib.error
import urllib.request

import pytest
from wire_backend import PATIENCE_S, ask, connected, eventually, running_backend

from posefit.cli import main
from posefit.server import ServeConfig, ServeError, serve
from posefit.server.metrics_port import MetricsPort
from posefit.server.watching import metrics_text
from posefit_shared.client import JobFailed
from posefit_shared.messages import PingRequest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and /proc of Linux")


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    """A backend that is watched, after one job that was done and one that failed."""
    options = ["--metrics", "127.0.0.1:0", "--log-format", "json"]
    with running_backend(tmp_path_factory.mktemp("watched"), *options) as running:
        with connected(running) as client:
            ask(client, "echo:x")
            with pytest.raises(JobFailed):
                ask(client, "bug")
        yield running


def lines_of(backend):
    return [json.loads(line) for line in backend.log.read_text().splitlines()]


def fetch(backend, path):
    address = re.search(r"http://([\d.:]+)/metrics", backend.log.read_text())[1]
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=PATIENCE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_status_tells_people_and_programs_how_a_backend_does(backend, capsys):
    with connected(backend) as client:
        client.submit(PingRequest("steps:60"))
        assert eventually(lambda: client.report()["jobs"]["running"] == 1)
        client.submit(PingRequest("echo:waits"), "batch")
        assert eventually(lambda: client.report()["jobs"]["waiting"]["batch"] == 1)
        assert main(["status", backend.address, "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert main(["status", backend.address]) == 0
        words = capsys.readouterr().out
    assert report["is_ready"]
    assert report["workers"][0]["job_kind"] == "ping"
    assert report["sessions"]["connected"] == 2
    assert {"kind": "ping", "outcome": "done", "count": 1} in report["jobs"]["ended"]
    assert report["bytes"]["process"] > 1 << 20
    assert "cpu (test): busy, ping for" in words
    assert "waiting: 1 batch" in words


def test_status_of_a_backend_that_is_not_there_is_one_sentence(capsys, monkeypatch):
    monkeypatch.setattr("posefit.commands.serving._CONNECT_S", 0.5)
    assert main(["status", "tcp://127.0.0.1:9"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("posefit: ")
    assert "tcp://127.0.0.1:9" in said


def test_a_report_names_no_client_no_job_and_no_file(backend):
    with connected(backend, name="Ana's Blender") as client:
        client.submit(PingRequest("steps:60"))
        assert eventually(lambda: client.report()["jobs"]["running"] == 1)
        text = json.dumps(client.report())
        assert client.session not in text
    for secret in ("Ana", str(backend.folder), "steps"):
        assert secret not in text


def test_metrics_health_and_readiness_are_answered(backend):
    assert eventually(lambda: fetch(backend, "/readyz") == (200, "ok\n"))
    assert fetch(backend, "/healthz") == (200, "ok\n")
    assert fetch(backend, "/else")[0] == 404
    assert eventually(lambda: 'outcome="failed"' in fetch(backend, "/metrics")[1])
    text = fetch(backend, "/metrics")[1]
    sample = re.compile(r'posefit_\w+(\{(\w+="[^"]*",?)+\})? [-+.e\d]+')
    for line in text.splitlines():
        assert line.startswith("# ") or sample.fullmatch(line), line
    assert 'posefit_jobs_total{kind="ping",outcome="done"} 1' in text


def test_each_line_of_the_log_is_an_object_that_names_its_job(backend):
    lines = lines_of(backend)
    jobs = {line["job"] for line in lines if "job" in line}
    bug = next(line for line in lines if "KeyError: 'nothing'" in line.get("traceback", ""))
    assert bug["process"].startswith("worker ")
    assert bug["job"] in jobs
    told = [line for line in lines if line.get("job") == bug["job"]]
    assert {"broker", bug["process"]} == {line["process"] for line in told}


def test_a_broker_that_gives_no_sign_counts_as_unwell():
    port = MetricsPort("127.0.0.1:0")
    try:
        assert port.answer("/readyz")[0] == 503
        port.tell({"is_ready": True})
        assert port.answer("/readyz")[0] == 200
        port._told_at -= 3600
        assert port.answer("/healthz")[0] == port.answer("/readyz")[0] == 503
    finally:
        port.close()


@pytest.mark.parametrize("address", ["0.0.0.0:9464", "9464", "127.0.0.1:x", "example.org:80"])
def test_metrics_stay_on_this_machine(address):
    with pytest.raises(ServeError, match="loopback"):
        serve(ServeConfig(bind="tcp://127.0.0.1:0", metrics=address))


def test_texts_in_metrics_cannot_break_out_of_their_quotes(backend):
    with connected(backend) as client:
        report = client.report()
    report["jobs"]["ended"] = [{"kind": 'a"b\\c\nd', "outcome": "done", "count": 2}]
    assert 'kind="a\\"b\\\\c\\nd",outcome="done"} 2' in metrics_text(report)
