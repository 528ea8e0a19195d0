# SPDX-License-Identifier: Apache-2.0
"""What the displacement networks cost on a CPU, by runtime, and whether runtimes agree with torch.

    python benchmarks/cpu_network.py [--networks unet small correspondence] [--batches 1 8]
        [--threads 1 2] [--rounds 10] [--compile unet] [--weights FILE] [--output FILE]

Untrained networks: the time of a network doesn't depend on its weights, but for the correspondence
networks' on how much of a crop the body fills (here: the crops of --set). Runtimes take turns, so
that a busy machine is busy for all; the smallest time of all turns counts, per crop of 256². CPU
time is that of all threads together, which other programs disturb less.

Differences from torch are the largest on the body (pixels, log scale, logit), on random inputs,
where all is body, and on what the pipeline feeds the network for one person of the set; --weights
compares a trained U-Net, whose graph is made anew. Only the U-Net has a graph: how many cells the
correspondence networks match depends on the picture. Those are also run as the estimator runs them
on a CPU: layers fused, near the body alone, two crops at a time, and in bfloat16 where the
processor computes it (`displacement/near_body.py`); these rows are approximations by intent.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from torch import Tensor, nn
from validation_set import first_look

from posefit.body import load_body
from posefit.displacement.export import export_graph
from posefit.displacement.fused import fuse_layers
from posefit.displacement.inference import fast_precision
from posefit.displacement.inputs import MODALITY_CHANNELS, RENDER_CHANNELS, network_inputs
from posefit.displacement.kinds import DisplacementNetwork, make_network
from posefit.displacement.near_body import predict_near_body
from posefit.displacement.network import CorrespondenceNetwork
from posefit.displacement.runtime import INPUTS, GraphNetwork
from posefit.displacement.unet import UNet
from posefit.displacement.weights import Calibration, load_network, save_network
from posefit.footage import open_footage
from posefit.validation_set import read_validation_set
from posefit.views import view_of_sequence

SIDE = 256
TOLERANCE = 1e-3
"""Largest difference from torch that is allowed: pixels, and units of log scale and logit."""
CROPS_AT_ONCE = 2
"""Crops that go through a correspondence network at once, as in `displacement.inference`."""
Run = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """One network in one runtime."""

    network: str
    runtime: str
    batch: int
    threads: int
    ms_per_crop: float
    """Smallest wall time."""
    median_ms_per_crop: float
    cpu_ms_per_crop: float
    """Smallest time of all threads together."""
    random_difference: float
    """Largest difference from torch on random inputs."""
    crop_difference: float
    """The same on crops of the set."""


def lively(network: DisplacementNetwork) -> DisplacementNetwork:
    """The untrained network with statistics and last layers that aren't trivial."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2.0, generator=generator)
            elif name.endswith("running_mean") or (value.is_floating_point() and not value.any()):
                value.normal_(0.0, 0.05, generator=generator)
    return network.eval().requires_grad_(False)


def network_of(name: str, weights: Path | None, folder: Path) -> DisplacementNetwork:
    """The trained U-Net that was given, else an untrained network; as it comes out of a file."""
    if name == "unet" and weights is not None:
        return load_network(weights)[0]
    network, path = lively(make_network(name)), folder / f"{name}.safetensors"
    save_network(path, network, network.config, Calibration())
    return load_network(path)[0]


def set_crops(folder: Path, person: int, count: int) -> tuple[Tensor, Tensor]:
    """What the pipeline feeds the network for a person of a rendered set, texture and all."""
    dataset, body = read_validation_set(folder), load_body("free", "cpu")
    start = dataset.start("typical", person)
    footage = open_footage(dataset.footage_folder(person), fps=start.mocap_framerate)
    view = view_of_sequence(start, footage)
    look = first_look(dataset, person, start, view, body)
    render, image = network_inputs(look.images, look.modalities)
    repeats = -(-count // len(render))
    return tuple(x.float().repeat(repeats, 1, 1, 1)[:count] for x in (render, image))


def in_torch(network: nn.Module) -> Run:
    """The network as it is."""
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore

    def run(render: Tensor, image: Tensor) -> Tensor:
        with torch.inference_mode():
            return network(*(x.contiguous(memory_format=torch.channels_last)
                             for x in (render, image)))[-1]  # fmt: skip

    return run


def near_body(network: CorrespondenceNetwork, precision: torch.dtype) -> Run:
    """The network as the estimator runs it on a CPU."""
    network = copy.deepcopy(network)
    fuse_layers(network)
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.to(precision)
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore

    def run(render: Tensor, image: Tensor) -> Tensor:
        inputs = [x.contiguous(memory_format=torch.channels_last) for x in (render, image)]
        parts = zip(*(x.split(CROPS_AT_ONCE) for x in inputs), strict=True)
        is_reduced = precision == torch.bfloat16
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, is_reduced):
            return torch.cat([predict_near_body(network, *part).float() for part in parts])

    return run


def in_onnxruntime(graph: Path, threads: int) -> Run:
    """The graph in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(render: Tensor, image: Tensor) -> Tensor:
        feed = {name: x.numpy() for name, x in zip(INPUTS, (render, image), strict=True)}
        return torch.from_numpy(session.run(None, feed)[0])

    return run


def runtimes(network: DisplacementNetwork, folder: Path, batch: int, threads: int,
             with_compile: bool) -> Iterator[tuple[str, Run]]:  # fmt: skip
    """Each runtime's name and how to run it."""
    yield "torch", in_torch(network)
    if with_compile:
        compiled = copy.deepcopy(network)
        compiled.compile_regions()
        yield "torch.compile", in_torch(compiled)
    if isinstance(network, CorrespondenceNetwork):
        yield "near the body", near_body(network, torch.float32)
        if fast_precision(torch.device("cpu"), network) == torch.bfloat16:
            yield "near the body, bfloat16", near_body(network, torch.bfloat16)
    if not isinstance(network, UNet):
        return
    weights = folder / f"{batch}.safetensors"
    if not weights.is_file():
        save_network(weights, network, network.config, Calibration())
        export_graph(weights, batch=batch, side=SIDE)
    graph = weights.with_suffix(".onnx")
    if find_spec("onnxruntime") is not None:
        yield "ONNX Runtime", in_onnxruntime(graph, threads)
    yield "OpenVINO", GraphNetwork(graph, threads)
    yield "OpenVINO, bfloat16", GraphNetwork(graph, threads, precision="bf16")


def measure(
    ways: dict[str, Run], inputs: tuple[Tensor, Tensor], rounds: int
) -> dict[str, tuple[list[float], list[float]]]:
    """Wall and CPU milliseconds of each turn of each way."""
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            run(*inputs)
            wall, spent = time.perf_counter(), time.process_time()
            run(*inputs)
            times[name][0].append(1e3 * (time.perf_counter() - wall))
            times[name][1].append(1e3 * (time.process_time() - spent))
    return times


def rows_of(name: str, network: DisplacementNetwork, crops: tuple[Tensor, Tensor], folder: Path,
            threads: int, arguments: argparse.Namespace) -> list[Row]:  # fmt: skip
    """The rows of one network on some crops."""
    batch = len(crops[0])
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    noise = tuple(
        torch.rand(batch, c, SIDE, SIDE, generator=generator) * 2 - 1 for c in (RENDER_CHANNELS, 3)
    )
    ways = dict(runtimes(network, folder, batch, threads, name in arguments.compile))
    expected = {id(x): ways["torch"](*x) for x in (noise, crops)}
    times = measure(ways, crops, arguments.rounds)
    rows = []
    for runtime, run in ways.items():
        off = [
            float((run(*x) - expected[id(x)]).abs().amax(1)[body_of(x[0])].max())
            for x in (noise, crops)
        ]
        wall, spent = times[runtime]
        rows.append(Row(name, runtime, batch, threads, min(wall) / batch,
                        float(np.median(wall)) / batch, min(spent) / batch, *off))  # fmt: skip
        print_row(rows[-1])
    return rows


def body_of(render: Tensor) -> Tensor:
    """Pixels that show the body (batch, height, width)."""
    return render[:, MODALITY_CHANNELS["mask"]][:, 0] > 0.5


def print_row(row: Row) -> None:
    """One line of the table."""
    print(
        f"{row.network:14s} {row.runtime:18s} batch {row.batch}  threads {row.threads}  "
        f"{row.ms_per_crop:6.1f} ms (median {row.median_ms_per_crop:6.1f}, "
        f"CPU {row.cpu_ms_per_crop:6.1f})  off torch by {row.random_difference:.1e} random, "
        f"{row.crop_difference:.1e} crops",
        flush=True,
    )


def machine() -> dict[str, str]:
    """What the figures depend on."""
    found = {"machine": platform.machine(), "cores": str(os.cpu_count())}
    cpu = Path("/proc/cpuinfo")
    if cpu.is_file():
        names = [line for line in cpu.read_text().splitlines() if line.startswith("model name")]
        found["cpu"] = names[0].split(":")[1].strip() if names else "unknown"
    for package in ("torch", "openvino", "onnxruntime"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def main() -> None:
    """Prints one row for each network, batch, number of threads and runtime."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=["unet", "small", "correspondence"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--compile", nargs="*", default=[], help="networks for torch.compile too")
    parser.add_argument("--weights", type=Path, help="a trained U-Net in place of an untrained one")
    parser.add_argument("--set", type=Path, default=Path(__file__).parent / "data/development")
    parser.add_argument("--person", type=int, default=0)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    print(json.dumps(machine()))
    crops = set_crops(arguments.set, arguments.person, max(arguments.batches))
    rows: list[Row] = []
    for name in arguments.networks:
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            network = network_of(name, arguments.weights, Path(folder))
            for batch in arguments.batches:
                part = (crops[0][:batch].contiguous(), crops[1][:batch].contiguous())
                for threads in arguments.threads:
                    rows += rows_of(name, network, part, Path(folder), threads, arguments)
    if arguments.output is not None:
        page = {"machine": machine(), "tolerance": TOLERANCE, "rows": [asdict(r) for r in rows]}
        arguments.output.write_text(json.dumps(page, indent=1) + "\n", "utf-8")
    exact = [row for row in rows if not {"bfloat16", "near"} & set(row.runtime.split())]
    worst = max(max(row.random_difference, row.crop_difference) for row in exact)
    print(f"largest difference in float32: {worst:.1e}, allowed {TOLERANCE:g}")
    if worst > TOLERANCE:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
