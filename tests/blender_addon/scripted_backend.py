# SPDX-License-Identifier: GPL-3.0-or-later
"""A backend whose answers a test decides: a real socket, real bytes, no engine.

For what a well-behaved backend never does (garbage, silence, another version) and for results that
are known beforehand; the whole path runs against the real process in test_whole_path.py.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import numpy as np
import zmq

from posefit_shared import rotations
from posefit_shared.codec import decode, encode
from posefit_shared.messages import (
    PROTOCOL_VERSION,
    Accepted,
    Cancel,
    Cancelled,
    Failure,
    Have,
    Heartbeat,
    Hello,
    Missing,
    Progress,
    RefineResult,
    Refused,
    Result,
    Submit,
    Welcome,
)

TURN = rotations.rotvec_to_matrix([0.0, 0.0, 0.3])
"""What the scripted refinement turns the left elbow by."""
SHIFT = np.array([0.1, -0.2, 0.05])
"""What it moves the root by, metres."""


def turned_result(request, status="refined", **changes) -> RefineResult:
    """The request's motion with its left elbow turned and its root shifted."""
    motion = request.sequence
    poses = motion.poses.astype(float)
    poses[:, 18] = rotations.matrix_to_rotvec(rotations.rotvec_to_matrix(poses[:, 18]) @ TURN)
    fields = {
        "frame_indices": motion.frame_indices,
        "poses": poses.astype(np.float32),
        "trans": (motion.trans + SHIFT).astype(np.float32),
        "betas": motion.betas,
        "confidence": np.ones(poses.shape[:2], np.float32),
        "status": (status,) * len(poses),
    }
    return RefineResult(**(fields | changes))


def half_done(request) -> list[RefineResult]:
    """One revision as the engine publishes it: the first half turned, the rest as it was sent."""
    motion, whole = request.sequence, turned_result(request, "kept")
    half = len(motion) // 2
    poses = np.concatenate([whole.poses[:half], motion.poses[half:]])
    trans = np.concatenate([whole.trans[:half], motion.trans[half:]])
    return [turned_result(request, "kept", poses=poses, trans=trans)]


@dataclass
class ScriptedBackend:
    """Answers in a thread of its own until it is closed."""

    answer: object = None
    """Takes (request) and gives a result or a Failure; none: jobs are never finished."""
    provisional: object = None
    """Takes (request) and gives provisional revisions, sent before the answer."""
    refuse: Refused | None = None
    """What to answer a hello with instead of a welcome."""
    garbage: bool = False
    """Answer everything with bytes that are no message."""
    accepts_paths: bool = True
    kinds: tuple[str, ...] = ("refine",)
    """Kinds of jobs that it says it knows."""
    port: int = 0
    """Where to listen; a free one unless given."""
    delay: float = 0.0
    """Seconds before a job is accepted."""
    requests: list = field(default_factory=list)
    """Refinements that were asked for."""
    cancelled: list = field(default_factory=list)
    """Jobs that were to be stopped."""

    def __enter__(self) -> ScriptedBackend:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.bind(f"tcp://127.0.0.1:{self.port or '*'}")
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._sayings: list = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def say(self, message: object) -> None:
        """Have something said to every client, soon; for any thread."""
        self._sayings.append(message)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)
        self._context.destroy(linger=0)

    def _run(self) -> None:
        beat = time.monotonic()
        clients = set()
        while not self._stop.is_set():
            if time.monotonic() - beat > 0.5:
                beat = time.monotonic()
                for client in clients:
                    self._send(client, Heartbeat())
            while self._sayings:
                message = self._sayings.pop(0)
                for client in clients:
                    self._send(client, message)
            if not self._socket.poll(20):
                continue
            client, *parts = self._socket.recv_multipart()
            if self.garbage:
                self._socket.send_multipart([client, b"\x93\x01garbage", b"\xff" * 40])
                continue
            clients.add(client)
            self._take(client, decode(parts))

    def _take(self, client: bytes, message: object) -> None:
        if isinstance(message, Hello):
            token = "t" * 32
            welcome = Welcome(
                PROTOCOL_VERSION,
                "0.0.1",
                token,
                device="scripted",
                kinds=self.kinds,
                accepts_paths=self.accepts_paths,
            )
            self._send(client, self.refuse or welcome)
        elif isinstance(message, Have):
            self._send(client, Missing((), asked=message.hashes))  # as if it were all there
        elif isinstance(message, Submit):
            self.requests.append(message.payload)
            time.sleep(self.delay)
            self._send(client, Accepted(message.job))
            self._send(client, Progress(message.job, 0.25, "solving", "frame 1 of 4", 2.0))
            revisions = [] if self.provisional is None else self.provisional(message.payload)
            for number, revision in enumerate(revisions):
                self._send(client, Result(message.job, message.kind, number, False, revision))
            if self.answer is not None:
                answer = self.answer(message.payload)
                if isinstance(answer, Failure):
                    self._send(client, Failure(answer.kind, answer.message, job=message.job))
                else:
                    last = len(revisions)
                    self._send(client, Result(message.job, message.kind, last, True, answer))
        elif isinstance(message, Cancel):
            self.cancelled.append(message.job)
            self._send(client, Cancelled(message.job))

    def _send(self, client: bytes, message: object) -> None:
        self._socket.send_multipart([client, *encode(message)])
