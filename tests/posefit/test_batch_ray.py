# SPDX-License-Identifier: Apache-2.0
"""A batch on a cluster of two nodes: what dies is done again elsewhere, with the same results."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import synthetic_clip as made
import test_batch
from PIL import Image

from posefit.batch import BatchError, Job
from posefit.batch.command import BatchConfig, run_batch
from posefit.batch.local_processes import ProcessLimits
from posefit.batch.ray_config import RayConfig
from posefit.batch.ray_tasks import RayTasks
from posefit_shared.sequence import write_sequence
from posefit_shared.settings import RefineSettings

pytestmark = [pytest.mark.ray, pytest.mark.slow]

HERE = Path(__file__).resolve().parent
STORE = 80 * 1024 * 1024


@pytest.fixture(autouse=True)
def ray():
    """Ray, which is optional."""
    return pytest.importorskip("ray", reason="needs Ray (make test-ray)")


NODE = {"num_cpus": 1, "object_store_memory": STORE}


@pytest.fixture
def head(ray, monkeypatch):
    """A cluster of one node with one CPU."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def cluster(head):
    """Two nodes with one CPU each."""
    add_node(head)
    return head


def add_node(cluster):
    cluster.add_node(**NODE)
    cluster.wait_for_nodes()


def run(
    cluster, table, output, display, *, limits=None, retries=1, decode_cpus=0.0,
    connected=lambda: None,
):  # fmt: skip
    def executor(_):
        tasks = RayTasks(
            cluster.address, {"device": "cpu"}, RayConfig(1.0, 0.0, decode_cpus, in_flight=4),
            limits or ProcessLimits(hang_seconds=60), "batch_handlers",
        )  # fmt: skip
        connected()
        return tasks

    config = BatchConfig(table, output, retries=retries)
    return run_batch(config, display=display, make_executor=executor)


class Murderer(test_batch.Recorder):
    """Kills a worker that is at a job when another is done, and a node at the next one."""

    def __init__(self, cluster, table, names):
        super().__init__()
        self.cluster, self.table, self.names = cluster, table, names
        self.victims: list[int] = []
        self.node_is_gone = False

    def done(self, job, summary, seconds):
        super().done(job, summary, seconds)
        busy = self._under_way()
        if not self.victims and busy:
            self.victims.append(busy[0])
            os.kill(busy[0], signal.SIGKILL)
        elif self.victims and not self.node_is_gone:
            self.node_is_gone = True
            node = next(n for n in self.cluster.list_all_nodes() if n is not self.cluster.head_node)
            self.cluster.remove_node(node, allow_graceful=False)

    def _under_way(self) -> list[int]:
        found = []
        for name in self.names:
            lines = test_batch.notes(self.table, name)
            if lines and lines[-1].startswith("began"):
                found.append(int(lines[-1].split()[1]))
        return [process for process in found if test_batch.is_alive(process)]


def test_a_worker_and_then_a_node_die_and_every_job_is_done(ray, head, tmp_path):
    names = [f"long-{k}" for k in range(8)]
    table, output = test_batch.write_table(tmp_path / "in", *names), tmp_path / "out"
    display = Murderer(head, table, names)
    # The driver belongs to the one node that is there when it connects: that is not the one to die.
    result = run(head, table, output, display, connected=lambda: add_node(head))
    assert result.failed == {}
    assert result.done == 8
    assert len(display.victims) == 1
    assert display.node_is_gone
    assert any(words == "again" for _, words in display.words)
    for name in names:
        assert (output / name / f"{name}.npz").read_text() == name
        assert test_batch.events(output, name).count("done") == 1
    ray.init(address=head.address, log_to_driver=False)
    test_batch.wait_until(lambda: sum(node["Alive"] for node in ray.nodes()) == 1, 120)


def test_bad_jobs_stop_no_other_and_say_why(cluster, tmp_path):
    names = ("refuse-1", "break-1", "crash-1", "hang-1", "fill-1", "good-1")
    table, output = test_batch.write_table(tmp_path / "in", *names), tmp_path / "out"
    result = run(
        cluster, table, output, test_batch.Recorder(), limits=ProcessLimits(4.0), retries=0
    )
    assert result.done == 1
    assert result.failed["refuse-1"] == "the body lies wholly outside the picture"
    assert "ValueError: a mistake" in result.failed["break-1"]
    assert "the process died" in result.failed["crash-1"]
    assert "no progress for 4 s" in result.failed["hang-1"]
    assert "the disk is full on the node" in result.failed["fill-1"]
    assert "Traceback" in (output / ".batch/logs/break-1.log").read_text()


def test_decoding_is_a_stage_of_its_own_whose_death_and_failure_are_the_jobs(cluster, tmp_path):
    names = ("good-1", "blind-1", "vanish-1")
    table, output = test_batch.write_table(tmp_path / "in", *names), tmp_path / "out"
    result = run(cluster, table, output, test_batch.Recorder(), decode_cpus=1.0)
    assert result.failed == {"blind-1": "no footage"}
    assert result.done == 2
    noted = [line.split()[0] for line in test_batch.notes(table, "vanish-1")]
    assert noted == ["looked", "looked", "began", "given", "ended"]
    assert "given ['seen']" in test_batch.notes(table, "good-1")


def test_a_long_clip_is_divided_and_only_the_part_whose_process_dies_is_done_again(
    cluster, tmp_path
):
    table, output = test_batch.write_table(tmp_path / "in", "parts-1", "good-1"), tmp_path / "out"
    result = run(cluster, table, output, test_batch.Recorder(), decode_cpus=1.0)
    assert result.failed == {}
    assert result.done == 2
    noted = [line for line in test_batch.notes(table, "parts-1") if line[:5] in ("part ", "given")]
    assert sorted(noted[:-1]) == ["part a", "part b", "part b", "part c"]
    assert noted[-1] == "given ['part-a', 'part-b', 'part-c', 'seen', 'shared']"
    assert "divided 2048" in test_batch.notes(table, "parts-1")


def test_a_cluster_gives_the_arrays_that_this_machine_gives(cluster, free_body, tmp_path):
    folder = tmp_path / "clips"
    for k, frames in enumerate((3, 9)):
        rng = np.random.default_rng(k)
        truth = made.true_sequence(free_body, frames, rng)
        footage = made.filmed(free_body, truth)
        (folder / f"clip {k}").mkdir(parents=True)
        for frame in range(frames):
            Image.fromarray(footage.read(frame)).save(folder / f"clip {k}" / f"{frame}.png")
        write_sequence(folder / f"clip {k}.npz", made.disturbed(truth, rng, 0.05, 0.01))
    settings = RefineSettings(
        displacement="flow", keypoints=True, rounds=1, crop_size=128, window_frames=4,
        window_overlap=1,
    )  # fmt: skip
    defaults, results = Job("", settings=settings), []
    for place in (None, cluster.address):
        output = tmp_path / f"out {len(results)}"
        config = BatchConfig(
            folder, output, defaults, device="cpu", ray=place,
            ray_resources=RayConfig(decode_cpus=1.0, chunk_frames=4),
        )  # fmt: skip
        assert run_batch(config, display=test_batch.Recorder()).done == 2
        results.append(output)
    for k in range(2):
        local, remote = (np.load(output / f"clip {k}/clip {k}.npz") for output in results)
        assert sorted(local.files) == sorted(remote.files)
        for key in local.files:
            if local[key].dtype.kind == "f":
                np.testing.assert_allclose(remote[key], local[key], atol=1e-4, err_msg=key)
            else:
                np.testing.assert_array_equal(remote[key], local[key])


def test_no_cluster_is_one_sentence(tmp_path):
    table = test_batch.write_table(tmp_path, "good-1")
    with pytest.raises(BatchError, match="no Ray cluster answers at 127.0.0.1:1 "):
        run_batch(BatchConfig(table, tmp_path / "out", ray="127.0.0.1:1"))
