# SPDX-License-Identifier: Apache-2.0
"""One example of every message, request and result, and how to compare them."""

import dataclasses

import numpy as np

from posefit_shared import messages, payloads
from posefit_shared.messages import RESULTS
from posefit_shared.sequence import Sequence
from posefit_shared.settings import RefineSettings

HASH = "ab" * 32


def sequence(frames=3, joints=24, **more) -> Sequence:
    poses = np.linspace(-1, 1, frames * joints * 3).reshape(frames, joints, 3)
    return Sequence(poses=poses, trans=np.ones((frames, 3)), **more)


def refine(**changes) -> payloads.RefineRequest:
    fields = {"sequence": sequence(), "media": payloads.MediaReference(path="/films/a b.mp4")}
    return payloads.RefineRequest(**(fields | changes))


def others(people=2, frames=3, joints=24, **changes) -> payloads.OtherPeople:
    fields = {
        "poses": np.zeros((people, frames, joints, 3), np.float32),
        "trans": np.ones((people, frames, 3), np.float32),
        "betas": np.zeros((people, 10), np.float32),
        "is_there": np.ones((people, frames), np.uint8),
        "to_world": np.tile(np.eye(4), (people, 1, 1, 1)),
    }
    return payloads.OtherPeople(**(fields | changes))


def result(frames=2, joints=24, **changes) -> payloads.RefineResult:
    fields = {
        "frame_indices": np.arange(frames),
        "poses": np.zeros((frames, joints, 3), np.float32),
        "trans": np.zeros((frames, 3), np.float32),
        "betas": np.zeros(10, np.float32),
        "confidence": np.ones((frames, joints), np.float32),
        "status": ("refined",) * frames,
    }
    return payloads.RefineResult(**(fields | changes))


REQUEST_EXAMPLES = [
    payloads.PingRequest("hello", np.zeros(3, np.float32), HASH),
    refine(
        texture=HASH, body=HASH, locked_joints=(0, 23), stiffness=np.ones(24, np.float32),
        pinned_frames=(2,), settings=RefineSettings(rounds=3),
        more_views=(
            payloads.ViewReference(
                "side", payloads.MediaReference(path="/side.mp4"), np.array([-1, 0, 1]),
                np.eye(3)[None], np.eye(4)[None].repeat(3, 0), (640, 480), np.zeros(5),
            ),
        ),
        others=others(),
    ),
    payloads.TextureRequest(sequence(), payloads.MediaReference(content_hash=HASH, name="a.mp4")),
    payloads.EstimateRequest(payloads.MediaReference(path="/a"), intrinsics=np.eye(3)),
    payloads.ImportRequest(
        payloads.MediaReference(path="/a.npz"), format="amass", body=HASH, image_size=(640, 480)
    ),
    payloads.PreviewRequest(sequence(1), np.eye(3), np.eye(4), (64, 48), ("depth", "mask")),
    payloads.AlignRequest(
        sequence(), -4, payloads.MediaReference(path="/a"), np.arange(2), np.arange(2),
        np.eye(3)[None], np.eye(4)[None], np.zeros(5), search=30, offset=-2,
    ),
]  # fmt: skip
RESULT_EXAMPLES = [
    payloads.PingResult("x"),
    result(
        report={"cost": [1.0, None, {"deep": True}]},
        intrinsics=np.eye(3)[None],
        distortion=np.zeros(5),
    ),
    payloads.TextureResult(np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.float32), "uv"),
    payloads.EstimateResult(sequence(status=("kept", "failed", "no_person"))),
    payloads.ImportResult(sequence(intrinsics=np.eye(3), world_to_camera=np.eye(4))),
    payloads.PreviewResult(("rgb",), np.zeros((1, 4, 5, 4), np.uint8)),
    payloads.AlignResult(-3, np.eye(4), {"misfit": 0.02, "is_offset_clear": True}),
]
MESSAGE_EXAMPLES = [
    messages.Hello((1, 0), "blender", "5.1", "token"),
    messages.Welcome((1, 0), "0.1", "token", jobs=("a", "b"), models=("net",), credit=4),
    messages.Refused("full", "The house is full."),
    messages.Status("cpu", ("free",), ("ping",)),
    messages.Goodbye(True),
    messages.Heartbeat(),
    messages.Credit(3),
    messages.Have((HASH,)),
    messages.Missing((HASH,), "job", (HASH, HASH)),
    messages.UploadChunk(HASH, 7, np.arange(5, dtype=np.uint8)),
    messages.UploadDone(HASH, 12, "body"),
    messages.Stored(HASH),
    *(messages.Submit("job", request, "batch") for request in REQUEST_EXAMPLES),
    messages.Accepted("job", 2),
    messages.Progress("job", 0.5, "solve", "half", 1.5),
    *(
        messages.Result("job", kind, 3, True, record, {"solve": 1.5})
        for kind, record in zip(RESULTS, [RESULT_EXAMPLES[0], *RESULT_EXAMPLES[1:]], strict=True)
    ),
    messages.Acknowledge("job", 3),
    messages.Failure("media", "There is no footage.", "job"),
    messages.Cancel("job"),
    messages.Cancelled("job"),
    messages.AskReport(),
    messages.Report({"workers": [{"state": "idle"}], "uptime_s": 1.5}),
]


def same(one, other) -> bool:
    """Whether two records say the same, arrays and foreign classes included."""
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and np.array_equal(one, other)
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        alike = all(same(getattr(one, name), getattr(other, name)) for name in names)
        return type(one) is type(other) and alike
    if isinstance(one, tuple):
        pairs = isinstance(other, tuple) and len(one) == len(other)
        return pairs and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other


def label(record) -> str:
    return f"{record.NAME} {getattr(record, 'kind', '')}"
