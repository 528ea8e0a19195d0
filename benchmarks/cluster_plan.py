# SPDX-License-Identifier: Apache-2.0
"""A plan for very many clips, computed from measured rates (docs/cluster.md).

    python benchmarks/cluster_plan.py --clips 100000 --core-hour 0.04 --gpu-hour 3

Reads `benchmarks/results/rates_*.json` (`rates.py`), `refine_speed_*.json` (`refine_speed.py`: a
GPU that gets its frames decoded) and `memory.json` (`memory.py`). On CPU nodes a rate is seconds
of cores: work that other programs held up counts only once. On GPU nodes it is seconds of the
clock of a whole GPU, and the cores that go with it; decoding and looking for keypoints may be a
stage of its own on other nodes (`--ray-decode-cpus`).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_CPU_HEAD = "| way | machine | a frame, core s | core hours | {cores} cores, h | cost |"
_GPU_HEAD = "| way | machine | a frame, s | GPU hours | {gpus} GPUs, h | cores a GPU | cost |"


@dataclass(frozen=True)
class Plan:
    """What is to be done, where, and what that costs."""

    clips: int
    frames: int
    """Of each clip."""
    cores: int
    gpus: int
    core_hour: float
    gpu_hour: float
    busy: float
    """Share of their time that machines compute: the rest is starting, waiting, the tail."""

    @property
    def all_frames(self) -> int:
        """Frames in all."""
        return self.clips * self.frames


def rates(folder: Path) -> list[dict[str, Any]]:
    """Every measured machine."""
    files = sorted(folder.glob("rates_*.json"))
    if not files:
        raise SystemExit(f"no rates in {folder}: run benchmarks/rates.py first")
    machines = [json.loads(path.read_text()) for path in files]
    speeds = [path for path in sorted(folder.glob("refine_speed_*.json")) if "cpu" not in path.stem]
    return machines + [_of_speed(path) for path in speeds]


def _of_speed(path: Path) -> dict[str, Any]:
    """The rate of a GPU whose frames another stage decodes."""
    report = json.loads(path.read_text())
    row = {
        "way": "network alone, frames decoded elsewhere",
        "is_stage": False,
        "seconds_a_frame": 1.0 / report["clip"]["frames_per_s"],
        "core_seconds_a_frame": None,
    }
    return {"name": path.stem.removeprefix("refine_speed_"), "is_gpu": True, "rows": [row]}


def cpu_rows(plan: Plan, machine: dict[str, Any]) -> list[str]:
    """Rows of a machine without a GPU."""
    rows = []
    for row in machine["rows"]:
        hours = plan.all_frames * row["core_seconds_a_frame"] / 3600 / plan.busy
        rows.append(
            f"| {_named(row)} | {machine['name']} | {row['core_seconds_a_frame']:.3g} | "
            f"{hours:,.0f} | {hours / plan.cores:.1f} | {hours * plan.core_hour:,.0f} |"
        )
    return rows


def gpu_rows(plan: Plan, machine: dict[str, Any]) -> list[str]:
    """Rows of a machine with a GPU, on which one job ran alone."""
    rows = []
    for row in machine["rows"]:
        hours = plan.all_frames * row["seconds_a_frame"] / 3600 / plan.busy
        busy = row["core_seconds_a_frame"]
        cores = "–" if busy is None else f"{busy / row['seconds_a_frame']:.1f}"
        rows.append(
            f"| {_named(row)} | {machine['name']} | {row['seconds_a_frame']:.3g} | {hours:,.0f} | "
            f"{hours / plan.gpus:.1f} | {cores} | {hours * plan.gpu_hour:,.0f} |"
        )
    return rows


def _named(row: dict[str, Any]) -> str:
    return f"*{row['way']}*" if row["is_stage"] else row["way"]


def storage(plan: Plan, clip_mb: float, result_mb: float) -> list[str]:
    """What is read and written."""
    journal = 3 * plan.clips * 130 / 1e6
    return [
        f"- read {plan.clips * clip_mb / 1e6:.2f} TB of clips, write "
        f"{plan.clips * result_mb / 1e3:.0f} GB of results and {journal:.0f} MB of journal",
        f"- keypoints from stage to stage: {plan.all_frames * 800 / 1e9:.0f} GB in all, "
        f"{plan.frames * 800 / 1e6:.2f} MB a clip",
    ]


def failures(plan: Plan, hours: float, lost_a_day: float, broken: float) -> list[str]:
    """What has to be done again, and what it costs.

    Args:
        plan: of the run.
        hours: it lasts.
        lost_a_day: chance that a task's machine goes away within a day.
        broken: share of clips that fail by themselves and are tried once more.
    """
    job_h = hours * plan.cores / plan.clips
    lost = plan.clips * lost_a_day * job_h / 24
    again = lost + broken * plan.clips
    return [
        f"- with {lost_a_day:.0%} of machines lost a day about {lost:.0f} jobs are under way when "
        f"theirs goes; with {broken:.1%} of clips that fail {broken * plan.clips:.0f} are tried "
        f"twice: {again / plan.clips:.2%} more work",
    ]


def memory(folder: Path) -> list[str]:
    """Largest memory of a task, by clip length."""
    path = folder / "memory.json"
    if not path.is_file():
        return []
    peaks = json.loads(path.read_text())["peak_mb_by_frames"]
    words = ", ".join(f"{value} MB at {frames} frames" for frames, value in peaks.items())
    return [f"- memory of a task without a network (`memory.py`): {words}"]


def main() -> None:
    """Print the plan as markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=30.0)
    parser.add_argument("--cores", type=int, default=1000)
    parser.add_argument("--gpus", type=int, default=32)
    parser.add_argument("--core-hour", type=float, default=0.04)
    parser.add_argument("--gpu-hour", type=float, default=3.0)
    parser.add_argument("--busy", type=float, default=0.85)
    parser.add_argument("--clip-mb", type=float, default=5.0)
    parser.add_argument("--result-mb", type=float, default=0.2)
    parser.add_argument("--lost-a-day", type=float, default=0.05)
    parser.add_argument("--broken", type=float, default=0.005)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    plan = Plan(
        given.clips, round(given.seconds * given.rate), given.cores, given.gpus, given.core_hour,
        given.gpu_hour, given.busy,
    )  # fmt: skip
    machines = rates(given.results)
    print(f"{plan.clips:,} clips of {plan.frames} frames: {plan.all_frames:,} frames; machines "
          f"compute {plan.busy:.0%} of the time\n")  # fmt: skip
    for head, rows, is_gpu in ((_CPU_HEAD, cpu_rows, False), (_GPU_HEAD, gpu_rows, True)):
        chosen = [row for one in machines if one["is_gpu"] is is_gpu for row in rows(plan, one)]
        if chosen:
            title = head.format(cores=plan.cores, gpus=plan.gpus)
            print("\n".join([title, "|---" * (title.count("|") - 1) + "|", *chosen]) + "\n")
    on_cpus = next((one for one in machines if not one["is_gpu"]), None)
    lines = [*memory(given.results), *storage(plan, given.clip_mb, given.result_mb)]
    if on_cpus is not None:
        slowest = max(row["core_seconds_a_frame"] for row in on_cpus["rows"])
        hours = plan.all_frames * slowest / 3600 / plan.busy / plan.cores
        lines += failures(plan, hours, given.lost_a_day, given.broken)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
