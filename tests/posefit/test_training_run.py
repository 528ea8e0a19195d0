# SPDX-License-Identifier: Apache-2.0
"""A run: cut and gone on with at any moment, watched on the way, told on boards and in files."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from made_assets import write_assets

from posefit.displacement.weights import Calibration, load_network
from posefit.training import board, checkpoint
from posefit.training.__main__ import main
from posefit.training.checkpoint import (
    BEST,
    CheckpointError,
    Progress,
    read_checkpoint,
    read_moments,
    write_checkpoint,
)
from posefit.training.config import GeneratorConfig, TrainingConfig
from posefit.training.learner import Learner
from posefit.training.loop import train
from posefit.training.moments import MomentsError, moments_of, put_moments
from posefit.training.muon import make_optimizer
from posefit.training.pictures import BACKGROUND, color_wheel
from posefit.training.processes import join_team
from posefit.training.stopping import StopRequest
from posefit.training.watch import Watch

from .test_displacement_network import TINY, tiny_network

TRIAL = [
    "--device=cpu", "--no-compile", "--no-check", "--network=small", "--generator.people=2",
    "--generator.frames=2", "--generator.size=64", "--query-budget=128", "--log-every=1",
    "--validation-batches=0", "--watch-minutes=0", "--no-tensorboard",
]  # fmt: skip


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_assets(tmp_path_factory.mktemp("assets"))


def trial(assets: Path, output: Path, **changes: object) -> TrainingConfig:
    """A run of two small steps on the CPU."""
    config = TrainingConfig(
        assets=assets, output=output, device="cpu", compile=False, check=False, network="small",
        query_budget=128, log_every=1, validation_batches=0, watch_minutes=0.0, max_steps=2,
        tensorboard=False, generator=GeneratorConfig(people=2, frames=2, size=64),
    )  # fmt: skip
    return dataclasses.replace(config, **changes)  # pyright: ignore


def step_with(network: torch.nn.Module, optimizer, seed: int) -> None:
    """One step on made-up gradients."""
    random = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=random)
    optimizer.step()


# ------------------------------------------------------------------ moments


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_an_optimizer_with_anothers_moments_takes_the_same_step(kind: str) -> None:
    network = tiny_network()
    optimizer = make_optimizer(network, kind, 1e-3, 1e-4)
    for seed in range(3):
        step_with(network, optimizer, seed)
    twin = tiny_network()
    twin.load_state_dict(network.state_dict())
    other = make_optimizer(twin, kind, 1e-3, 1e-4)
    put_moments(other, moments_of(optimizer))
    step_with(network, optimizer, 9)
    step_with(twin, other, 9)
    for a, b in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_moments_lie_in_memory_like_their_parameters() -> None:
    """The fused form of AdamW refuses others, and files hold plain rows."""
    network = tiny_network()
    optimizer = make_optimizer(network, "adamw", 1e-3, 1e-4)
    step_with(network, optimizer, 0)
    twin = tiny_network().to(memory_format=torch.channels_last)
    other = make_optimizer(twin, "adamw", 1e-3, 1e-4)
    put_moments(other, {n: m.contiguous() for n, m in moments_of(optimizer).items()})
    kernels = [p for p in twin.parameters() if not p.is_contiguous()]
    assert kernels
    for parameter in kernels:
        state = other.state[parameter]
        assert state["exp_avg"].stride() == state["exp_avg_sq"].stride() == parameter.stride()


def test_moments_of_another_optimizer_are_refused() -> None:
    network = tiny_network()
    plain, pair = (make_optimizer(network, kind, 1e-3, 0.0) for kind in ("adamw", "muon"))
    step_with(network, plain, 0)
    with pytest.raises(MomentsError):
        put_moments(pair, moments_of(plain))


def test_moments_of_another_step_are_left_alone(tmp_path: Path) -> None:
    network = tiny_network()
    optimizer = make_optimizer(network, "muon", 1e-3, 0.0)
    step_with(network, optimizer, 0)
    progress = Progress(steps=1)
    write_checkpoint(tmp_path, network, network, TINY, progress, Calibration(), optimizer)
    fresh = make_optimizer(network, "muon", 1e-3, 0.0)
    assert not read_moments(tmp_path, fresh, Progress(steps=2))
    assert read_moments(tmp_path, fresh, progress)
    for name, value in moments_of(optimizer).items():
        assert torch.allclose(moments_of(fresh)[name], value, rtol=0.01, atol=1e-12)


# ------------------------------------------------------------------ kills


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.mark.parametrize("survivors", range(4))
def test_a_kill_between_any_two_files_leaves_a_checkpoint_to_go_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survivors: int
) -> None:
    network = tiny_network()
    optimizer = make_optimizer(network, "muon", 1e-3, 0.0)
    step_with(network, optimizer, 0)
    write_checkpoint(tmp_path, network, network, TINY, Progress(1), Calibration(), optimizer)
    step_with(network, optimizer, 1)
    replace, count = checkpoint.replace_file, iter(range(9))

    def until_killed(path: Path, write: Callable[[Path], object]) -> None:
        if next(count) == survivors:
            path.with_name(f"{path.name}.partial").write_bytes(b"half of it")
            raise Killed
        replace(path, write)

    monkeypatch.setattr(checkpoint, "replace_file", until_killed)
    with pytest.raises(Killed):
        write_checkpoint(tmp_path, network, network, TINY, Progress(2), Calibration(), optimizer)
    weights, _, progress = read_checkpoint(tmp_path, "cpu")
    is_of_second = survivors >= 3  # moments, averaged weights, weights, page
    assert progress.steps == (2 if is_of_second else 1)
    same = all(
        torch.equal(a.half(), b.half())
        for a, b in zip(weights.parameters(), network.parameters(), strict=True)
    )
    assert same == is_of_second
    fresh = make_optimizer(weights, "muon", 1e-3, 0.0)
    assert read_moments(tmp_path, fresh, progress) == (survivors in (0, 3))


def test_an_edited_page_counts_if_it_is_of_the_same_step(tmp_path: Path) -> None:
    network = tiny_network()
    write_checkpoint(tmp_path, network, network, TINY, Progress(7, share=1.0), Calibration())
    page = tmp_path / "progress.json"
    page.write_text(json.dumps({**json.loads(page.read_text()), "share": 0.4}))
    assert read_checkpoint(tmp_path, "cpu")[2].share == 0.4
    page.write_text(json.dumps({**json.loads(page.read_text()), "steps": 6}))
    assert read_checkpoint(tmp_path, "cpu")[2] == Progress(7, share=1.0)


def test_without_a_checkpoint_the_refusal_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="--resume"):
        read_checkpoint(tmp_path, "cpu")


def test_a_signal_asks_to_stop_and_leaves_later_ones_to_their_owner() -> None:
    stop, before = StopRequest(), signal.getsignal(signal.SIGTERM)
    stop.listen()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        assert stop.signal_number == signal.SIGTERM
    finally:
        stop.forget()
    assert signal.getsignal(signal.SIGTERM) == before


def words_of_a_run(assets: Path, output: Path, *more: str) -> list[str]:
    return ["posefit.training", "--assets", str(assets), "--output", str(output), *TRIAL, *more]


class Terminator(logging.Handler):
    """Terminates this process when it has told of some steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def emit(self, record: logging.LogRecord) -> None:
        self.steps -= '"loss"' in record.getMessage()
        if self.steps == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def start(assets: Path, output: Path, *more: str) -> subprocess.Popen[str]:
    """A run in a process of its own that has taken three steps."""
    words = [sys.executable, "-m", *words_of_a_run(assets, output, *more)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    steps = 0
    for line in process.stderr:
        steps += '"loss"' in line
        if steps == 3:
            return process
    raise AssertionError(f"ended with {process.wait()} before it had taken steps")


@pytest.mark.slow
def test_a_run_that_is_terminated_and_then_killed_goes_on(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Terminator(3)
    logger = logging.getLogger("posefit.training")
    logger.addHandler(watch)
    caplog.set_level("INFO")
    monkeypatch.setattr(sys, "argv", words_of_a_run(assets, tmp_path))
    try:
        assert main() == 128 + signal.SIGTERM
    finally:
        logger.removeHandler(watch)
    saved = json.loads((tmp_path / "progress.json").read_text())
    assert saved["steps"] >= 3
    assert 0 < saved["share"] < 0.9
    second = start(assets, tmp_path, "--resume", str(tmp_path))
    second.kill()
    said = second.communicate(timeout=60)[1]
    assert second.returncode == -signal.SIGKILL, said
    assert json.loads((tmp_path / "progress.json").read_text()) == saved
    train(trial(assets, tmp_path, resume=tmp_path))
    ended = json.loads((tmp_path / "progress.json").read_text())
    assert ended["steps"] == saved["steps"] + 2
    assert ended["share"] == 1.0
    steps = [json.loads(line)["steps"] for line in (tmp_path / "log.jsonl").open()]
    assert steps[-2:] == [saved["steps"] + 1, saved["steps"] + 2]
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.slow
def test_processes_wait_for_the_one_that_validates(assets: Path, tmp_path: Path) -> None:
    words = words_of_a_run(assets, tmp_path, "--watch-minutes", "1e-9", "--watch-batches", "1",
                           "--max-steps", "2")  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # As torchrun starts them.
    team = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", *words], stderr=subprocess.PIPE, text=True,
            env={**os.environ, **team, "RANK": rank, "LOCAL_RANK": rank},
        ) for rank in "01"
    ]  # fmt: skip
    for process in processes:
        said = process.communicate(timeout=200)[1]
        assert process.returncode == 0, said
    looks = [json.loads(line)["steps"] for line in (tmp_path / "watch.jsonl").open()]
    assert looks == [0, 2]
    assert json.loads((tmp_path / "progress.json").read_text())["samples"] == 16


# ------------------------------------------------------------------ watching


def test_the_best_weights_are_kept_and_shipped(assets: Path, tmp_path: Path) -> None:
    config = trial(assets, tmp_path, watch_minutes=1.0, watch_batches=1)
    tmp_path.mkdir(exist_ok=True)
    watch = Watch(config, join_team("cpu"), board.Board())
    network, averaged = tiny_network(), tiny_network().eval()
    learner = Learner(
        network, averaged, make_optimizer(network, "adamw", 1e-3, 0.0), Progress(), 0
    )  # fmt: skip
    good = watch.look(learner, Progress(steps=1))
    kept = [value.half().clone() for value in averaged.parameters()]
    with torch.no_grad():
        for value in averaged.parameters():
            value.add_(torch.randn_like(value), alpha=0.05)
    assert watch.look(learner, Progress(steps=2)) > good
    assert watch.best_epe == good
    best = watch.best_if_better(learner, Progress(steps=2))
    assert best is not None
    for a, b in zip(kept, best.parameters(), strict=True):
        assert torch.equal(a, b.half())
    rows = [json.loads(line) for line in (tmp_path / "watch.jsonl").open()]
    assert [row["is_best"] for row in rows] == [True, False, False]
    assert rows[1]["epe"] == rows[2]["epe"]  # the same pictures each time
    assert (tmp_path / "watch.jpg").stat().st_size > 1000
    with torch.no_grad():
        next(averaged.parameters()).fill_(torch.nan)
    watch.look(learner, Progress(steps=3))
    assert watch.best_epe == good
    # a run that goes on measures what came before it rather than forgetting it
    later = Watch(dataclasses.replace(config, resume=tmp_path), join_team("cpu"), board.Board())
    later.look(learner, Progress(steps=3))
    assert later.best_epe == pytest.approx(good, abs=0.01)


def test_shipping_the_best_loses_nothing_of_the_last(tmp_path: Path) -> None:
    network, averaged, best = (tiny_network() for _ in range(3))
    with torch.no_grad():
        for factor, module in ((0.5, averaged), (0.25, best)):
            for value in module.parameters():
                value.mul_(factor)
    write_checkpoint(tmp_path, network, averaged, TINY, Progress(5), Calibration(), best=best)
    assert json.loads((tmp_path / "progress.json").read_text())["shipped"] == "best"
    shipped, _ = load_network(tmp_path / "weights.safetensors")
    _, gone_on_with, progress = read_checkpoint(tmp_path, "cpu")
    for a, b, c, d in zip(
        shipped.parameters(), best.parameters(), gone_on_with.parameters(), averaged.parameters(),
        strict=True,
    ):  # fmt: skip
        assert torch.equal(a.half(), b.half())
        assert torch.equal(c.half(), d.half())
    write_checkpoint(tmp_path, network, averaged, TINY, progress, Calibration())
    assert json.loads((tmp_path / "progress.json").read_text())["shipped"] == "last"


@pytest.mark.slow
def test_a_run_leaves_its_settings_its_figures_and_its_curves(assets: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(trial(assets, tmp_path, watch_minutes=1e-9, watch_batches=1, tensorboard=True))
    assert (tmp_path / BEST).is_file()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"training/loss", "training/samples_per_s", "validation/epe"} <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("training/loss")] == [1, 2]
    assert len(tags["images"]) == 1


def test_without_tensorboard_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(board.importlib.util, "find_spec", lambda name: None)
    with caplog.at_level("INFO"):
        made = board.open_board(tmp_path / "tensorboard", 0, wanted=True)
    assert len(caplog.records) == 1
    assert "posefit[train]" in caplog.text
    made.scalars("training", {"loss": 1.0}, 1)
    made.picture("nothing", np.zeros((2, 2, 3), np.uint8), 1)
    assert not list(tmp_path.iterdir())


def test_the_color_wheel_is_white_at_rest_and_opposite_ways_make_grey() -> None:
    mask = torch.ones(1, 1, 4, dtype=torch.bool)
    mask[..., 3] = False
    right = torch.tensor([5.0, 0.0])
    field = torch.stack([right * 0, right, -right, right], dim=1).view(1, 2, 1, 4)
    colors = color_wheel(field, mask, torch.tensor([5.0]))[0, :, 0]
    assert torch.allclose(colors[:, 0], torch.ones(3))
    assert torch.allclose(colors[:, 1] + colors[:, 2], torch.ones(3), atol=1e-6)
    assert colors[:, 1].argmax() == 0
    assert torch.allclose(colors[:, 3], torch.full((3,), BACKGROUND))
