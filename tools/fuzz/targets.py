# SPDX-License-Identifier: Apache-2.0
"""What is fuzzed: every reader of bytes that strangers may send, with seeds and allowed errors.

An input is bytes. Readers of several buffers (messages, archives) get them split at `MARK`, so
that a fuzzer mutates what the arrays hold and not the checksums around them.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import pickle
import random
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from posefit.camera_file import read_camera
from posefit.errors import PosefitError
from posefit.footage import MAX_FRAMES, FootageError, open_footage
from posefit.importers import import_file
from posefit.importers.bvh_file import read_bvh_text
from posefit.importers.person import ImporterError
from posefit.importers.pickle_machine import load_pickle
from posefit.picture_files import PictureError, read_picture
from posefit.texture import TextureError, load_png
from posefit.worker.messages import WORKER_LIMITS, WORKER_MESSAGES
from posefit_shared.body_files import BodyFileError, read_body
from posefit_shared.codec import CodecError, decode, encode
from posefit_shared.messages import ProtocolError
from posefit_shared.model_pickle import ModelPickleError, read_model_pickle
from posefit_shared.sequence import SequenceError, read_sequence, sequence_to_arrays
from posefit_shared.shot import read_shot

TESTS = Path(__file__).resolve().parents[2] / "tests"
sys.path[:0] = [str(TESTS / "posefit_shared"), str(Path(__file__).parent)]

import films  # noqa: E402
import message_examples as examples  # noqa: E402

MARK = b"\xfe\xed\xfa\xce"
BODY_ARRAYS = (
    "v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f",
)  # fmt: skip
"""What a body file holds; these are small."""


@dataclass(frozen=True)
class Target:
    """One reader."""

    run: Callable[[bytes], object]
    allowed: tuple[type[Exception], ...]
    """How it may refuse; anything else is a finding."""
    seeds: Callable[[], list[bytes]]
    """Inputs to begin with, which it reads."""
    rebuild: Callable[[bytes, bytes, random.Random], bytes] | None = None
    """Changes how an input is built, given another one and dice; bytes are changed in any case."""


def one_input(target: Target, data: bytes) -> bool:
    """Run a target on one input; whether it was read rather than refused."""
    try:
        target.run(data)
    except target.allowed:
        return False
    return True


# Messages


def _decode(data: bytes) -> None:
    encode(decode([*data.split(MARK)]))


def _decode_worker(data: bytes) -> None:
    decode([*data.split(MARK)], WORKER_LIMITS, WORKER_MESSAGES)


def _message_seeds() -> list[bytes]:
    return [MARK.join(bytes(part) for part in encode(m)) for m in examples.MESSAGE_EXAMPLES]


# Archives of arrays


@cache
def _folder() -> Path:
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="posefit-fuzz-", dir=place))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _written(content: bytes, name: str) -> Path:
    path = _folder() / f"{os.getpid()}-{name}"
    path.write_bytes(content)
    return path


def _archive(data: bytes, names: Iterable[str]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, member in zip(names, data.split(MARK), strict=False):
            if member:
                archive.writestr(f"{name}.npy", member)
    return stream.getvalue()


def _npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(array))
    return stream.getvalue()


@cache
def _sequence_arrays() -> dict[str, np.ndarray]:
    motion = examples.sequence(
        2, 24, intrinsics=np.eye(3), world_to_camera=np.eye(4), image_size=(64, 48),
        distortion=np.zeros(5), times=np.arange(2.0), ground=np.array([0.0, 0, 1, 0]),
        status=("kept", "failed"), confidence=np.ones((2, 24)),
    )  # fmt: skip
    return sequence_to_arrays(motion)


def _sequence(data: bytes) -> None:
    read_sequence(_written(_archive(data, _sequence_arrays()), "sequence.npz"))


def _sequence_seeds() -> list[bytes]:
    return [MARK.join(_npy(array) for array in _sequence_arrays().values())]


def _small_body() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    regressor = np.zeros((24, 30), np.float32)
    regressor[:, :24] = np.eye(24)
    weights = np.zeros((30, 24), np.float32)
    weights[:, 0] = 1
    parents = np.array([-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19,
                        20, 21])  # fmt: skip
    return {
        "v_template": rng.normal(size=(30, 3)).astype(np.float32),
        "shapedirs": np.zeros((30, 3, 10), np.float32),
        "posedirs": np.zeros((30, 3, 207), np.float32),
        "J_regressor": regressor,
        "weights": weights,
        "kintree_table": np.stack([parents, np.arange(24)]).astype(np.int64),
        "f": np.array([[0, 1, 2], [1, 2, 3]], np.int64),
    }


def _body(data: bytes) -> None:
    read_body(_written(_archive(data, BODY_ARRAYS), "body.npz"))


def _body_seeds() -> list[bytes]:
    return [MARK.join(_npy(_small_body()[name]) for name in BODY_ARRAYS)]


# Pickles


def _results() -> list[Any]:
    """What tools write, small."""
    frames = np.arange(2)
    smpl = {"global_orient": np.eye(3)[None], "body_pose": np.tile(np.eye(3), (23, 1, 1)),
            "betas": np.zeros(10)}  # fmt: skip
    return [
        {0: {"pose": np.zeros((2, 72)), "trans": np.ones((2, 3)), "betas": np.zeros((2, 10)),
             "pose_world": np.zeros((2, 72)), "trans_world": np.ones((2, 3)),
             "frame_ids": frames}},
        {f"{k}.jpg": {"time": k, "tid": [1], "tracked_time": [0], "smpl": [smpl],
                      "camera": [np.array([0.0, 0, 40])], "size": [[720, 1280]]}
         for k in range(2)},
        {1: {"pred_cam": np.full((2, 3), 0.5), "orig_cam": np.full((2, 4), 0.5),
             "pose": np.zeros((2, 72)), "betas": np.zeros((2, 10)),
             "bboxes": np.full((2, 4), 300.0), "frame_ids": frames}},
        {"results": {"cam": np.full((1, 3), 0.5), "smpl_thetas": np.zeros((1, 72)),
                     "smpl_betas": np.zeros((1, 10))}},
        {"smpl_poses": np.zeros((2, 72)), "smpl_trans": np.ones((2, 3)),
         "smpl_scaling": np.ones(1)},
        {"poses": np.zeros((2, 72)), "trans": np.zeros((2, 3)), "betas": np.zeros(10)},
        [1, 2.5, "text", None, True, (1,), {"a": b"bytes"}, 10**30],
    ]  # fmt: skip


def _pickle_seeds() -> list[bytes]:
    return [pickle.dumps(value, protocol) for value in _results() for protocol in (0, 2, 4, 5)]


def _load_pickle(data: bytes) -> None:
    load_pickle(data, "file")


def _model_pickle(data: bytes) -> None:
    read_model_pickle(data, frozenset(BODY_ARRAYS))


def _model_seeds() -> list[bytes]:
    return [pickle.dumps(_small_body(), protocol) for protocol in (0, 2, 4)]


# Whole files


BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Spine
  {
    OFFSET 0 10 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 5 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.0333
0 90 0 1 2 3 4 5 6
0 91 0 1 2 3 4 5 6
"""


def _import(data: bytes) -> None:
    import_file(_written(data, "result"))


def _import_seeds() -> list[bytes]:
    packed = [zlib.compress(pickle.dumps(value, 2)) for value in _results()[:2]]
    archive = _archive(_sequence_seeds()[0], _sequence_arrays())
    return [*_pickle_seeds(), *packed, archive, BVH.encode()]


def _bvh(data: bytes) -> None:
    read_bvh_text(data.decode("utf-8", "replace"), "file.bvh")


def _picture(data: bytes) -> None:
    if len(data) < 1 << 16:
        read_picture(_written(data, "picture"), lambda image: np.asarray(image.convert("RGB")))


def _picture_seeds() -> list[bytes]:
    seeds = []
    picture = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    for name in ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF"):
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, name)
        seeds.append(stream.getvalue())
    return seeds


def _texture(data: bytes) -> None:
    if len(data) < 1 << 16:
        load_png(_written(data, "texture"))


def _footage(data: bytes) -> None:
    """In order, then back and forth; pictures are of the size that was promised."""
    with open_footage(_written(data, "film")) as footage:
        assert len(footage.times) == len(footage) <= MAX_FRAMES
        assert footage.is_even in (True, False)
        first = range(min(len(footage), 8))
        for index in (*first, len(footage) - 1, 1, *reversed(first)):
            assert footage.read(index).shape == (*footage.size[::-1], 3)


def _camera(data: bytes) -> None:
    read_camera(_written(data, "camera.json"))


def _shot(data: bytes) -> None:
    read_shot(_written(data, "shot.json"))


def _json_seeds() -> list[bytes]:
    camera = {"name": "a", "footage": "a.mp4", "frame_offset": 1, "image_size": [64, 48],
              "intrinsics": np.eye(3).tolist(), "distortion": [0.0] * 5,
              "world_to_camera": np.eye(4).tolist()}  # fmt: skip
    return [json.dumps(camera).encode(), json.dumps({"cameras": [camera], "people": ["a.npz"]})
            .encode()]  # fmt: skip


TARGETS: dict[str, Target] = {
    "messages": Target(_decode, (CodecError, ProtocolError), _message_seeds),
    "worker_messages": Target(_decode_worker, (CodecError, ProtocolError), _message_seeds),
    "sequence": Target(_sequence, (SequenceError,), _sequence_seeds),
    "body": Target(_body, (BodyFileError,), _body_seeds),
    "model_pickle": Target(_model_pickle, (ModelPickleError,), _model_seeds),
    "pickle": Target(_load_pickle, (ImporterError,), _pickle_seeds),
    "import": Target(_import, (PosefitError, SequenceError, BodyFileError), _import_seeds),
    "bvh": Target(_bvh, (ImporterError,), lambda: [BVH.encode()]),
    "picture": Target(_picture, (PictureError,), _picture_seeds),
    "texture": Target(_texture, (TextureError,), _picture_seeds),
    "footage": Target(
        _footage, (FootageError,), lambda: [*films.make_films(_folder())], films.rebuild
    ),
    "camera": Target(_camera, (PosefitError, SequenceError), _json_seeds),
    "shot": Target(_shot, (SequenceError,), _json_seeds),
}
"""Every reader by its name."""
