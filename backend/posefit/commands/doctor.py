# SPDX-License-Identifier: Apache-2.0
"""`posefit doctor`: does this machine have what posefit needs, and what to do where it doesn't."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..body import load_body
from ..displacement.inference import cpu_has_bfloat16
from ..footage import FootageError, open_footage
from ..keypoints.blazepose import MODEL_FILE
from ..rasterizer import rasterize

__all__ = ["Finding", "examine"]

_PACKAGES = (
    "torch", "numpy", "warp-lang", "ai-edge-litert", "av", "pyzmq", "msgpack", "safetensors",
)  # fmt: skip
_LEAST_FREE_BYTES = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    name: str
    """What was looked at."""
    ok: bool
    """Whether posefit can work with what was found."""
    words: str
    """What was found; where it is not good enough, also what to do."""


def examine() -> Iterator[Finding]:
    """Look at one thing after another; nothing is changed and no network is used."""
    for check in (_python, _packages, _device, _body, _rasterizer, _keypoints, _video, _disk):
        yield check()


def _python() -> Finding:
    version = platform.python_version()
    ok = sys.version_info >= (3, 11)
    advice = "" if ok else ": posefit needs 3.11 or newer, make the environment with that"
    return Finding("Python", ok, f"{version} on {platform.system()} {platform.machine()}{advice}")


def _packages() -> Finding:
    versions, missing = [], []
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding(
            "Packages", False, f"{', '.join(missing)} not installed: pip install posefit"
        )
    return Finding("Packages", True, ", ".join(versions))


def _device() -> Finding:
    if not torch.cuda.is_available():
        numbers = "bfloat16" if cpu_has_bfloat16() else "float32"
        threads = torch.get_num_threads()
        return Finding("Device", True, f"CPU, {threads} threads, {numbers}; no CUDA device")
    gpu = torch.cuda.get_device_properties(0)
    return Finding("Device", True, f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")


def _attempt(name: str, action: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, action())
    except (OSError, ValueError, RuntimeError) as error:
        return Finding(name, False, f"{error}: reinstall posefit")


def _body() -> Finding:
    def load() -> str:
        body = load_body("free")
        return f"free body, {len(body.v_template)} vertices, {len(body.faces)} faces"

    return _attempt("Body", load)


def _rasterizer() -> Finding:
    def draw() -> str:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        triangle = torch.tensor([[[-1.0, -1, 3], [1, -1, 3], [0, 1, 3]]], device=device)
        faces = torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device)
        intrinsics = torch.tensor([[[32.0, 0, 16], [0, 32, 16], [0, 0, 1]]], device=device)
        covered = int((rasterize(triangle, faces, intrinsics, (32, 32)).pix_to_face >= 0).sum())
        if covered == 0:
            raise RuntimeError("a triangle before the camera covers no pixel")
        return f"a test triangle covers {covered} pixels on {device}"

    return _attempt("Rasterizer", draw)


def _keypoints() -> Finding:
    path = MODEL_FILE
    if not path.is_file():
        return Finding("Keypoints", False, f"no model at {path}: reinstall posefit")
    return Finding("Keypoints", True, f"BlazePose, {path.stat().st_size / 2**20:.1f} MiB")


def _video() -> Finding:
    import av
    import av.error

    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "with space.mp4"
            with av.open(str(path), "w") as container:
                stream = container.add_stream("libx264", rate=25)
                stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
                picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
                container.mux(stream.encode(picture))
                container.mux(stream.encode(None))
            size = open_footage(path).size
    except (av.error.FFmpegError, FootageError, OSError) as error:
        return Finding("Video", False, f"cannot write and read H.264 ({error}): reinstall av")
    return Finding("Video", True, f"H.264 written and read, {size[0]} × {size[1]}")


def _disk() -> Finding:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    ok = free >= _LEAST_FREE_BYTES
    advice = "" if ok else ": free at least 1 GiB, or point TMPDIR elsewhere"
    return Finding("Disk", ok, f"{free / 2**30:.1f} GiB free for temporary files{advice}")
