# SPDX-License-Identifier: Apache-2.0
"""What tests of importers share: a motion, joints in pixels, and files as joblib writes them."""

from __future__ import annotations

import contextlib
import functools
import pickle
import sys
import types
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from posefit.body import BodyModel, PoseParameters, load_body, pose_body
from posefit.errors import PosefitError
from posefit_shared.frames import project
from posefit_shared.rotations import rotvec_to_matrix
from posefit_shared.sequence import Sequence, SequenceError

FRAMES = 5
SIZE = (1280, 720)


@functools.cache
def body() -> BodyModel:
    """The free body in double precision."""
    return load_body("free", dtype=torch.float64)


@dataclass(frozen=True)
class Moving:
    """A body before an OpenCV camera: y down, some metres in front."""

    poses: np.ndarray
    trans: np.ndarray
    betas: np.ndarray

    @property
    def matrices(self) -> np.ndarray:
        """(T, 24, 3, 3)."""
        return rotvec_to_matrix(self.poses)


def moving(seed: int = 0, frames: int = FRAMES) -> Moving:
    """A person who faces the camera and moves."""
    rng = np.random.default_rng(seed)
    poses = 0.2 * rng.normal(size=(1, 24, 3)) + 0.05 * rng.normal(size=(frames, 24, 3))
    poses[:, 0] = [3.0, 0.1, -0.2] + 0.05 * rng.normal(size=(frames, 3))
    trans = [0.3, -0.2, 4.0] + 0.1 * rng.normal(size=(frames, 3))
    betas = np.tile(0.5 * rng.normal(size=10), (frames, 1))
    return Moving(*(x.astype(np.float32).astype(np.float64) for x in (poses, trans, betas)))


def joints_of(poses, trans, betas, model: BodyModel | None = None) -> np.ndarray:
    """(T, J, 3) posed joints, by SMPL's own formula."""
    model = body() if model is None else model
    rows = torch.tensor(np.asarray(poses), dtype=model.dtype).reshape(len(poses), -1, 3)
    shape = np.broadcast_to(np.atleast_2d(betas), (len(rows), np.shape(betas)[-1]))
    given = PoseParameters(
        torch.tensor(np.array(shape), dtype=model.dtype),
        rows[:, 0],
        rows[:, 1:],
        torch.tensor(np.array(trans), dtype=model.dtype),
    )
    return pose_body(model, given).joints.numpy().astype(np.float64)


def pixels_of(sequence: Sequence, model: BodyModel | None = None) -> np.ndarray:
    """(T, J, 2) where an imported body's joints are seen by its imported camera."""
    joints = joints_of(sequence.poses, sequence.trans, sequence.betas, model)
    return np.stack([project(sequence.camera(t), frame)[0] for t, frame in enumerate(joints)])


def pinhole_pixels(points: np.ndarray, focal: float, centre: tuple[float, float]) -> np.ndarray:
    """(T, J, 2) of points before an OpenCV camera."""
    return focal * points[..., :2] / points[..., 2:] + np.array(centre)


def worst(first: np.ndarray, other: np.ndarray) -> float:
    """Largest distance, pixels."""
    return float(np.abs(first - other).max())


def damages(value: Any, depth: int = 4) -> Iterator[Any]:
    """Copies of a tree with one thing in each that is missing or something else."""
    if depth == 0:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield {k: v for k, v in value.items() if k != key}
            for other in _others(item):
                yield value | {key: other}
            for inner in damages(item, depth - 1):
                yield value | {key: inner}
    elif isinstance(value, list) and value:
        yield []
        yield value[:-1]
        for inner in damages(value[0], depth - 1):
            yield [inner, *value[1:]]


def _others(item: Any) -> Iterator[Any]:
    yield from (None, "text", [], {}, np.zeros(2), np.zeros((0, 3)))
    if isinstance(item, np.ndarray) and item.dtype.kind == "f" and item.size:
        yield np.full_like(item, np.nan)
        yield item[:-1] if item.ndim else item
        yield item[..., :-1] if item.ndim else item


def assert_damages_are_refused_in_words(
    value: Any, write: Callable[[Path, Any], Any], path: Path, keep: int = 120
) -> None:
    """Import damaged files: each gives people or a sentence, never another error."""
    from posefit.importers import ImporterError, ImportOptions, read

    damaged = list(damages(value))
    chosen = np.random.default_rng(0).permutation(len(damaged))[:keep]
    for k in chosen:
        write(path, damaged[k])
        with contextlib.suppress(ImporterError, SequenceError, PosefitError):
            assert read(path, ImportOptions(image_size=SIZE))


def write_joblib(path: Path, value: Any, compress: bool = True) -> Path:
    """A file as `joblib.dump(value, path, compress=3)` writes it, without joblib.

    Arrays' bytes lie between the instructions, behind a byte that says how much padding there is.
    """
    module = types.ModuleType("joblib.numpy_pickle")

    class NumpyArrayWrapper:
        __module__ = "joblib.numpy_pickle"

        def __init__(self, array: np.ndarray) -> None:
            self.subclass, self.shape, self.dtype = np.ndarray, array.shape, array.dtype
            is_fortran = array.flags.f_contiguous and not array.flags.c_contiguous
            self.order, self.allow_mmap = ("F" if is_fortran else "C"), False
            self.numpy_array_alignment_bytes = 16

    NumpyArrayWrapper.__qualname__ = "NumpyArrayWrapper"
    module.NumpyArrayWrapper = NumpyArrayWrapper

    class Pickler(pickle._Pickler):
        def save(self, obj, save_persistent_id=True):
            if type(obj) is not np.ndarray:
                return super().save(obj)
            wrapper = NumpyArrayWrapper(obj)
            super().save(wrapper)
            self.framer.commit_frame(force=True)
            if obj.dtype.hasobject:
                stream.write(pickle.dumps(obj, protocol=2))
            else:
                padding = 16 - (stream.tell() + 1) % 16
                stream.write(bytes([padding]) + b"\xff" * padding)
                stream.write(obj.tobytes(wrapper.order))
            return None

    import io

    stream = io.BytesIO()
    before = {name: sys.modules.get(name) for name in ("joblib", "joblib.numpy_pickle")}
    sys.modules["joblib"], sys.modules["joblib.numpy_pickle"] = types.ModuleType("joblib"), module
    try:
        Pickler(stream, protocol=4).dump(value)
    finally:
        for name, old in before.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old
    data = stream.getvalue()
    path.write_bytes(zlib.compress(data, 3) if compress else data)
    return path
