# SPDX-License-Identifier: Apache-2.0
"""How fast a refinement is: one frame, a clip, the solver alone, and the plain way beside them.

    python benchmarks/refine_speed.py [--device cuda] [--frames 512] [--gpus 1] [--plain] [--film]
        [--sequence FILE --footage FOLDER --texture PNG] [--output FILE]

Frames are 1080p and lie decoded in memory; the network is the large one unless --network says
net-fast, keypoints are off, the person's texture is given, two rounds. By default the demo's clip,
played to and fro.

- *One frame*: a request for a frame that was not asked for before, to its refined pose; 60 of them
  after a warm-up of five.
- *A clip*: frames a second, the median of three refinements of the same length after three others,
  when everything has been recorded; what the first one takes is told as well.
- *The solver*: 1 000 frames, 1 500 targets each, 10 iterations.
- *The plain way* (--plain): the same two rounds with PyTorch3D's rasteriser (Warp where it is not
  installed), the same network run kernel by kernel, and Adam through smplx's forward (our skinning
  where it is not installed) until the energy is as low as the solver's on the same evidence, at
  most --steps steps. It makes no last look, no verdict, and does not couple frames.
- `--gpus N --processes M`: clips on N GPUs at once, M processes on each, beside one on one.
- `--film`: clips are decoded as they go, from a film of their length (H.264, 1080p).
- `--stages`: milliseconds a frame of each recorded function, which the device is waited for before
  and after; 128 frames at once.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from demo_clip import estimated, longer, longer_film, played
from plain_way import PLAIN, adam, energy_of, forward_of, wait
from solver import make_scene

from posefit.body import (
    BodyModel,
    load_body,
    pose_body,
)
from posefit.displacement import load_estimator
from posefit.engine import refine_views
from posefit.footage import Footage, open_footage
from posefit.gpu.graphs import Recorder, recording
from posefit.parameters import parameters_of_sequence
from posefit.refinement.observation import Observer
from posefit.refinement.pictures import load_pictures
from posefit.solver import solve
from posefit.texture import Texture, load_png
from posefit.texture_clip import paint_texture
from posefit.views import view_of_sequence
from posefit_shared.sequence import Sequence, read_sequence
from posefit_shared.settings import RefineSettings


class Decoded(Footage):
    """Frames that lie in memory."""

    def __init__(self, footage: Footage) -> None:
        self.images = [footage.read(k) for k in range(len(footage))]
        self.path, self.fps, self.size = footage.path, footage.fps, footage.size

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> np.ndarray:
        """See `Footage`."""
        return self.images[index]


class Clip:
    """A sequence with its decoded footage and texture."""

    def __init__(self, arguments: argparse.Namespace, device: str) -> None:
        self.body = load_body("free", device)
        self.settings = RefineSettings(displacement=arguments.network, keypoints=False)
        if arguments.sequence is None:
            self.sequence, film = estimated()
        else:
            self.sequence, film = read_sequence(arguments.sequence), arguments.footage
        self.footage = Decoded(open_footage(film))
        self.film: Path | None = arguments.film
        view = view_of_sequence(self.sequence, self.footage)
        self.texture: Texture = (
            paint_texture(self.sequence, [view], self.body)
            if arguments.texture is None
            else load_png(arguments.texture)
        )

    def part(self, rows: np.ndarray) -> Sequence:
        """Frames of the clip, to and fro."""
        return played(self.sequence, rows)

    def refine(self, sequence: Sequence) -> float:
        """Seconds that a refinement takes."""
        return self._seconds(sequence, self.footage)

    def refine_whole(self, frames: int) -> float:
        """The same of a clip of that length, in memory or from its film."""
        if self.film is None:
            return self.refine(self.part(np.arange(frames)))
        with open_footage(self.film) as footage:
            return self._seconds(longer(self.sequence, frames), footage)

    def _seconds(self, sequence: Sequence, footage: Footage) -> float:
        view = view_of_sequence(sequence, footage)
        wait(self.body)
        began = time.perf_counter()
        refine_views(sequence, [view], body=self.body, settings=self.settings, texture=self.texture)
        wait(self.body)
        return time.perf_counter() - began


def one_frame(clip: Clip, repeats: int) -> dict[str, float]:
    """Milliseconds of single frames."""
    frames = np.random.default_rng(0).permutation(len(clip.footage))
    first = clip.refine(clip.part(frames[:1]))
    for k in range(1, 6):
        clip.refine(clip.part(frames[k : k + 1]))
    spent = [clip.refine(clip.part(frames[k % len(frames)][None])) for k in range(6, 6 + repeats)]
    row = {
        "first_ms": 1e3 * first,
        "median_ms": 1e3 * float(np.median(spent)),
        "p99_ms": 1e3 * float(np.quantile(spent, 0.99)),
        "repeats": repeats,
    }
    print("one frame: " + _told(row), flush=True)
    return row


def whole_clip(clip: Clip, frames: int, ready: Callable[[], None] = lambda: None) -> dict:
    """Frames a second of a long clip."""
    first = clip.refine_whole(frames)
    for _ in range(2):
        clip.refine_whole(frames)
    ready()
    seconds = float(np.median([clip.refine_whole(frames) for _ in range(3)]))
    row = {
        "frames": frames, "is_decoded_before": clip.film is None, "frames_per_s": frames / seconds,
        "first_time_s": first,
    }  # fmt: skip
    if clip.body.device.type == "cuda":
        row["peak_gib"] = torch.cuda.max_memory_allocated(clip.body.device) / 2**30
    print("clip: " + _told(row), flush=True)
    return row


def stages(clip: Clip, frames: int = 128) -> dict[str, float]:
    """Milliseconds a frame of what is recorded, one after the other."""
    sequence, spent = clip.part(np.arange(frames)), {}

    def timed(name: str) -> None:
        plain = getattr(Recorder, name)

        def waited_for(recorder: Recorder, function: Callable, *rest, **options):
            wait(clip.body)
            began = time.perf_counter()
            result = plain(recorder, function, *rest, **options)
            wait(clip.body)
            took = 1e3 * (time.perf_counter() - began) / frames
            spent[function.__name__] = spent.get(function.__name__, 0.0) + took
            return result

        setattr(Recorder, name, waited_for)

    for _ in range(3):
        clip.refine(sequence)
    timed("call")
    timed("loop")
    row = {"whole": 1e3 * clip.refine(sequence) / frames, **spent}
    print("stages, ms a frame: " + _told(row), flush=True)
    return row


def solver_alone(body: BodyModel) -> dict[str, float]:
    """Seconds of 1 000 frames, 1 500 targets, 10 iterations."""
    scene = make_scene(body, 1000, 1500)
    config = replace(scene.config, max_iterations=10, tolerance=0.0)
    spent = []
    with torch.no_grad(), recording():
        for _ in range(5):
            wait(body)
            began = time.perf_counter()
            found = solve(body, scene.start, [scene.evidence], config, reference=scene.start)
            wait(body)
            spent.append(time.perf_counter() - began)
    row = {
        "seconds": spent[-1],
        "iterations": found.iterations,
        "error_mm": scene.error_mm(found.parameters),
        "start_mm": scene.error_mm(scene.start),
    }
    print("solver, 1 000 frames: " + _told(row), flush=True)
    return row


def plain_way(clip: Clip, frames: int, steps: int) -> dict[str, float | str]:
    """Seconds of the plain way for some frames at once."""
    body, sequence = clip.body, clip.part(np.arange(frames))
    start = parameters_of_sequence(sequence, body)
    rasterizer = "pytorch3d" if find_spec("pytorch3d") else "warp"
    observer = Observer(
        body, load_estimator(clip.settings.displacement, body.device), rasterizer=rasterizer
    )
    view = view_of_sequence(sequence, clip.footage)
    forward = forward_of(body, frames)
    pictures = load_pictures(view, range(frames), pose_body(body, start).vertices)
    textures = clip.texture.maps(body)
    spent, taken, parameters = {"look": 0.0, "adam": 0.0}, 0, start
    for attempt in range(2):  # the first one loads kernels
        spent, taken, parameters = {"look": 0.0, "adam": 0.0}, 0, start
        for _ in range(1 if attempt == 0 else clip.settings.rounds):
            began = time.perf_counter()
            with torch.no_grad():
                points = observer.look(pictures, range(frames), parameters, textures).points
            wait(body)
            spent["look"] += time.perf_counter() - began
            with torch.no_grad(), recording():
                wanted = solve(body, parameters, [points], PLAIN, reference=start).parameters
            energy = energy_of(body, points, start, forward)
            with torch.no_grad():
                target = float(energy(wanted))
            parameters, seconds, count = adam(
                energy, parameters, target, 10 if attempt == 0 else steps, body
            )
            spent["adam"] += seconds
            taken += count
    total = spent["look"] + spent["adam"]
    row: dict[str, float | str] = {
        "frames": frames,
        "ms_a_frame": 1e3 * total / frames,
        "look_ms": 1e3 * spent["look"] / frames,
        "adam_ms": 1e3 * spent["adam"] / frames,
        "adam_steps": taken,
        "rasterizer": rasterizer,
        "forward": "smplx" if find_spec("smplx") else "ours",
    }
    print("plain way: " + _told(row), flush=True)
    return row


def _on_one_gpu(gpu: int, arguments: argparse.Namespace, barrier, results) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)
    clip = Clip(arguments, "cuda")
    results.put(whole_clip(clip, arguments.frames, barrier.wait))


def on_gpus(arguments: argparse.Namespace, count: int, each: int) -> dict[str, float]:
    """Frames a second of so many GPUs with so many processes on each, all of which refine clips of
    their own at the same time."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(count * each), context.Queue()
    processes = [
        context.Process(target=_on_one_gpu, args=(k % count, arguments, barrier, results))
        for k in range(count * each)
    ]
    for process in processes:
        process.start()
    rows = [results.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    total = sum(one["frames_per_s"] for one in rows)
    row = {
        "gpus": count, "processes": each, "frames_per_s": total,
        "is_decoded_before": arguments.film is None,
    }  # fmt: skip
    print("GPUs: " + _told(row), flush=True)
    return row


def _told(row: dict) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in row.items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--frames", type=int, default=512, help="length of the clip")
    parser.add_argument("--repeats", type=int, default=60, help="of one frame")
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1, help="on each GPU")
    parser.add_argument("--network", default="net-large", choices=("net-large", "net-fast"))
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--film", action="store_true", help="decode clips as they go")
    parser.add_argument("--stages", action="store_true")
    parser.add_argument("--steps", type=int, default=400, help="most Adam steps a round")
    parser.add_argument("--sequence", type=Path)
    parser.add_argument("--footage", type=Path)
    parser.add_argument("--texture", type=Path, help="PNG, in place of one painted first")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        arguments.film = _film(arguments, Path(folder)) if arguments.film else None
        report = measured(arguments)
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")


def _film(arguments: argparse.Namespace, folder: Path) -> Path:
    """The clip as a film of the length asked for."""
    short = estimated()[1] if arguments.sequence is None else arguments.footage
    return longer_film(short, folder / "film.mp4", arguments.frames)


def measured(arguments: argparse.Namespace) -> dict:
    """All rows that were asked for."""
    on_gpu = arguments.device.startswith("cuda")
    name = torch.cuda.get_device_name() if on_gpu else f"{platform.machine()} CPU"
    report: dict = {"device": name, "torch": torch.__version__, "cores": os.cpu_count()}
    if arguments.gpus * arguments.processes > 1:
        wanted = [(1, 1), (arguments.gpus, arguments.processes)]
        report["gpus"] = [on_gpus(arguments, count, each) for count, each in wanted]
    else:
        clip = Clip(arguments, arguments.device)
        report["one_frame"] = one_frame(clip, arguments.repeats)
        report["clip"] = whole_clip(clip, arguments.frames)
        if on_gpu:
            report["solver"] = solver_alone(clip.body)
        if arguments.stages and on_gpu:
            report["stages"] = stages(clip)
        if arguments.plain:
            report["plain"] = [plain_way(clip, n, arguments.steps) for n in (1, 64)]
            fast = (report["one_frame"]["median_ms"], 1e3 / report["clip"]["frames_per_s"])
            for row, ms in zip(report["plain"], fast, strict=True):
                row["times_slower"] = row["ms_a_frame"] / ms
                print(f"plain way, {row['frames']} frames: {row['times_slower']:.0f} × slower")
    return report


if __name__ == "__main__":
    main()
