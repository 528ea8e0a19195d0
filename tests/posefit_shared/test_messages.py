# SPDX-License-Identifier: Apache-2.0
"""Messages check themselves where they are made and where they are read."""

import dataclasses
import math

import numpy as np
import pytest
from message_examples import (
    HASH,
    MESSAGE_EXAMPLES,
    REQUEST_EXAMPLES,
    RESULT_EXAMPLES,
    label,
    others,
    refine,
    result,
    same,
    sequence,
)

from posefit_shared import messages, payload_parts, payloads
from posefit_shared.message_fields import MAX_JSON_DEPTH
from posefit_shared.messages import MESSAGES, REQUESTS, RESULTS, ProtocolError, read_message
from posefit_shared.sequence import STATUSES, Sequence


def test_every_message_request_and_result_has_an_example_here():
    assert {type(example) for example in MESSAGE_EXAMPLES} == set(MESSAGES.values())
    assert [type(example) for example in REQUEST_EXAMPLES] == list(REQUESTS.values())
    assert [type(example) for example in RESULT_EXAMPLES] == list(RESULTS.values())


@pytest.mark.parametrize("message", MESSAGE_EXAMPLES, ids=label)
def test_a_message_is_read_back_from_its_map(message):
    assert same(read_message(message.NAME, message.to_map()), message)


@pytest.mark.parametrize("message", MESSAGE_EXAMPLES, ids=label)
def test_fields_of_a_newer_version_are_ignored(message):
    assert same(read_message(message.NAME, {**message.to_map(), "from_the_future": 1}), message)


@pytest.mark.parametrize("message", MESSAGE_EXAMPLES, ids=label)
def test_a_missing_required_field_is_named(message):
    for field in dataclasses.fields(message):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            values = {k: v for k, v in message.to_map().items() if k != field.name}
            if field.name == "payload" or (field.name == "kind" and "payload" in values):
                continue  # the payload's own fields say what is missing
            with pytest.raises(ProtocolError, match=f"'{field.name}'"):
                read_message(message.NAME, values)


def test_a_payload_that_lacks_a_field_is_refused_by_name():
    with pytest.raises(ProtocolError, match="refine lacks the required field 'media'"):
        read_message("submit", {"job": "j", "kind": "refine", "payload": {"sequence": {}}})


def test_an_unknown_message_or_job_is_refused_by_name():
    with pytest.raises(ProtocolError, match="'dance'"):
        read_message("dance", {})
    with pytest.raises(ProtocolError, match="'dance'"):
        read_message("submit", {"job": "j", "kind": "dance", "payload": {}})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: messages.Progress("j", 1.5), "expected 0 to 1"),
        (lambda: messages.Progress("j", math.nan), "finite"),
        (lambda: messages.Progress("j" * 65, 0.5), "65 characters"),
        (lambda: messages.Progress(3, 0.5), "type int"),
        (lambda: messages.Credit(True), "type bool"),
        (lambda: messages.Credit(10**30), "expected 1 to"),
        (
            lambda: messages.Submit("j", payloads.PingRequest(), "asap"),
            "interactive, normal, batch",
        ),
        (lambda: messages.Have(("nothex",)), "no content hash"),
        (lambda: messages.Have((HASH,) * 257), "257 entries"),
        (lambda: messages.Hello((1,)), "1 entries, expected 2"),
        (lambda: messages.UploadChunk(HASH, 0, b"bytes"), "type bytes"),
        (lambda: messages.UploadChunk(HASH, 0, np.zeros(3, np.int8)), "expected uint8"),
        (lambda: messages.Result("j", "ping", 0, True, {"text": "x"}), "finished record"),
        (lambda: payloads.MediaReference(), "either a path or a content hash"),
        (lambda: payloads.MediaReference("/a", HASH), "not both"),
        (lambda: payloads.MediaReference("a\0b"), "zero byte"),
        (lambda: refine(body="someone"), "no content hash"),
        (lambda: refine(locked_joints=(24,)), "beyond the 24"),
        (lambda: refine(pinned_frames=(3,)), "beyond the 3"),
        (lambda: refine(stiffness=np.ones(23, np.float32)), "24 finite factors"),
        (lambda: refine(stiffness=np.full(24, -1, np.float32)), "24 finite factors"),
        (lambda: refine(others=others(frames=2)), "on all 3 frames"),
        (lambda: others(people=17), "17 people, expected 1 to 16"),
        (lambda: others(people=0), "0 people, expected 1 to 16"),
        (lambda: others(to_world=np.tile(np.eye(4), (2, 2, 1, 1))), "1 or 3 transforms"),
        (lambda: others(trans=np.full((2, 3, 3), np.nan, np.float32)), "not finite"),
        (lambda: refine(settings={"rounds": 0}), "rounds"),
        (lambda: result(confidence=np.ones((2, 23), np.float32)), "joint 24"),
        (lambda: result(trans=np.zeros((3, 3), np.float32)), "frame 2"),
        (lambda: result(poses=np.zeros((2, 24, 3))), "expected float32"),
        (lambda: result(status=("refined",)), "needs 2"),
        (lambda: result(status=("great",) * 2), "needs 2"),
        (lambda: result(report={"x": object()}), "plain values"),
        (lambda: result(report={3: 1}), "not a text"),
        (lambda: payloads.PreviewRequest(sequence(1), np.eye(3), np.eye(4), (9999, 1)), "4096"),
        (lambda: payloads.PreviewRequest(sequence(1), np.eye(3), np.eye(4), (9, 9), ()), "least"),
        (
            lambda: payloads.PreviewRequest(sequence(1), np.eye(3), np.eye(4), (9, 9), frame=1),
            "preview.frame",
        ),
    ],
)
def test_what_breaks_a_rule_is_refused_in_one_sentence(make, words):
    with pytest.raises(ProtocolError) as caught:
        make()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_report_may_not_be_nested_without_end():
    report = {"end": 1}
    for _ in range(MAX_JSON_DEPTH):
        report = {"deeper": report}
    with pytest.raises(ProtocolError, match="too large"):
        result(report=report)


def test_a_request_names_all_content_it_needs_once():
    request = refine(
        body=HASH, texture="cd" * 32, media=payloads.MediaReference(content_hash=HASH)
    )  # fmt: skip
    assert request.content_hashes() == (HASH, "cd" * 32)
    assert refine().content_hashes() == ()


def test_a_sequence_travels_with_everything_it_has():
    whole = sequence(
        betas=np.arange(10), body=HASH, gender="female", expression=np.zeros((3, 4)),
        mocap_framerate=24.0, times=np.arange(3) / 24, frame_indices=np.array([4, 7, 9]),
        intrinsics=np.eye(3), world_to_camera=np.eye(4), distortion=np.zeros(5),
        image_size=(640, 480), world="camera", ground=np.array([0, 0, 1.0, 0]), person_id=3,
        confidence=np.ones((3, 24)), status=("refined", "kept", "failed"),
    )  # fmt: skip
    names = [field.name for field in dataclasses.fields(Sequence)]
    assert all(getattr(whole, name) is not None for name in names)
    assert same(payload_parts.sequence_from_map(payload_parts.sequence_to_map(whole)), whole)


@pytest.mark.parametrize(
    "change",
    [
        {"poses": np.zeros((3, 24, 4), np.float32)},
        {"poses": np.full((3, 24, 3), np.nan, np.float32)},
        {"poses": "zeros"},
        {"trans": None},
        {"gender": 7},
        {"mocap_framerate": "fast"},
        {"image_size": 5},
        {"image_size": ["a", "b"]},
        {"status": np.full(3, len(STATUSES), np.uint8)},
        {"status": ["kept"] * 3},
        {"frame_indices": np.array([-1, 0, 1])},
        {"world": {"up": "z"}},
        {"person_id": [1]},
    ],
)
def test_a_broken_sequence_is_a_protocol_error(change):
    values = payload_parts.sequence_to_map(sequence()) | change
    with pytest.raises(ProtocolError):
        payload_parts.sequence_from_map(values)


def test_statuses_keep_their_places_because_the_wire_counts_them():
    assert STATUSES[:4] == ("refined", "kept", "no_person", "failed")
