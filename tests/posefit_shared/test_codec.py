# SPDX-License-Identifier: Apache-2.0
"""Bytes of messages: what goes out comes in, and nothing else does any harm."""

import ast
import contextlib
import inspect

import msgpack
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from message_examples import MESSAGE_EXAMPLES, same

from posefit_shared import codec, messages
from posefit_shared.codec import DTYPES, CodecError, decode, encode, open_envelope
from posefit_shared.messages import Limits, PingRequest, ProtocolError, Submit

TEXT = st.text(max_size=30)


def packed(fields, *buffers, name="hello"):
    return [msgpack.packb({"type": name, "fields": fields}), *buffers]


def reference(part, dtype, shape):
    return msgpack.ExtType(1, msgpack.packb([part, dtype, shape]))


class Bag(messages.Message):
    """A message with one field of any kind."""

    NAME = "bag"

    def __init__(self, value):
        self.value = value

    def to_map(self):
        return {"value": self.value}


def there_and_back(value):
    return open_envelope([bytes(part) for part in encode(Bag(value))]).fields["value"]


ARRAYS = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=5, min_side=0))
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False)
TREES = st.recursive(
    SCALARS | TEXT | ARRAYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def alike(one, other):
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == (
            other.tobytes()
        )  # fmt: skip
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return one == other


@given(TREES)
def test_values_and_arrays_come_back_to_the_bit(value):
    assert alike(value, there_and_back(value))


@given(ARRAYS)
def test_what_is_decoded_is_a_read_only_view_of_what_was_received(array):
    parts = [bytes(part) for part in encode(Bag(array))]
    decoded = open_envelope(parts).fields["value"]
    assert not decoded.flags.writeable or decoded.size == 0
    assert decoded.size == 0 or np.shares_memory(decoded, np.frombuffer(parts[1], np.uint8))


def test_encoding_borrows_a_contiguous_array_instead_of_copying():
    array = np.zeros(1000, np.float32)
    part = encode(Bag(array))[1]
    assert np.shares_memory(np.frombuffer(part, np.uint8), array)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24).reshape(4, 6)[:, ::2],
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(5, dtype=">f4"),
        np.float32(3) * np.ones(()),
    ],
    ids=["strided", "column order", "big endian", "no dimensions"],
)
def test_arrays_of_any_layout_travel(array):
    assert np.array_equal(there_and_back(array), array)


@pytest.mark.parametrize("value", [np.array([object()]), np.array(["x"]), np.array([True]),
                                   np.zeros(2, "datetime64[s]"), np.zeros(2, complex),
                                   np.zeros((1,) * 9), object(), {1, 2}])  # fmt: skip
def test_what_is_not_allowed_does_not_leave(value):
    with pytest.raises(CodecError):
        encode(Bag(value))


@pytest.mark.parametrize("dtype", ["object", "O", "bool", "complex128", "U5", "|V8", "", 3, None])
def test_a_dtype_outside_the_list_does_not_enter(dtype):
    with pytest.raises(CodecError):
        open_envelope(packed({"a": reference(1, dtype, [1])}, bytes(8)))


@pytest.mark.parametrize(
    "shape",
    [[3], [1], [2, 2], [-2], [-1, -2], [2.0], [True, 2], "2", None, [2**31], [2] * 9,
     [2**62, 0], [0, 2**30, 2**30], [1 << 40], [[2]], {}],
)  # fmt: skip
def test_a_shape_that_does_not_fill_its_part_is_refused_before_an_array_is_built(shape):
    with pytest.raises(CodecError):
        open_envelope(packed({"a": reference(1, "float32", shape)}, bytes(8)))


@pytest.mark.parametrize("part", [0, 2, -1, 2**70, "1", None, 1.0, True])
def test_an_array_must_name_a_part_that_is_there(part):
    with pytest.raises((CodecError, OverflowError)) as caught:
        open_envelope(packed({"a": reference(part, "uint8", [8])}, bytes(8)))
    assert caught.type is CodecError or part == 2**70  # msgpack cannot even say 2**70


def test_a_part_belongs_to_one_array_only():
    twice = {"a": reference(1, "uint8", [8]), "b": reference(1, "uint8", [8])}
    with pytest.raises(CodecError, match="already taken"):
        open_envelope(packed(twice, bytes(8)))


def test_a_part_that_no_field_names_is_refused():
    with pytest.raises(CodecError, match="1 arrays"):
        open_envelope(packed({}, bytes(8)))


def test_a_lying_shape_costs_no_memory():
    with pytest.raises(CodecError):
        open_envelope(packed({"a": reference(1, "float64", [2**30, 2**30])}, b""))


@pytest.mark.parametrize(
    "header",
    [b"", b"\xc1", b"\x80", msgpack.packb([]), msgpack.packb({"type": "hello"}),
     msgpack.packb({"type": 3, "fields": {}}), msgpack.packb({"type": "hello", "fields": []}),
     msgpack.packb({1: 2}), b"\x91" * 5000, msgpack.packb({"type": "hello", "fields": {"x": b"b"}}),
     msgpack.packb({"type": "hello", "fields": {}}) + b"\x00",
     b"\x82\xa4type\xa1x\xa6fields\x81\xa1t\xd6\xff1234"[:-1],
     msgpack.packb({"type": "x", "fields": {"t": msgpack.ExtType(5, b"1234")}}),
     b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"],
)  # fmt: skip
def test_a_header_that_makes_no_sense_is_refused(header):
    with pytest.raises(CodecError):
        open_envelope([header])


def test_a_header_nested_without_end_is_refused():
    value = []
    for _ in range(200):
        value = [value]
    with pytest.raises(CodecError, match="nested"):
        open_envelope(packed({"a": value}))


@pytest.mark.parametrize(
    ("limits", "parts"),
    [
        (Limits(parts=2), [b"h", b"a", b"b"]),
        (Limits(header_bytes=3), [b"head"]),
        (Limits(part_bytes=3), [b"h", b"part"]),
        (Limits(message_bytes=7), [b"h", b"abc", b"def", b"g"]),
        (Limits(), []),
    ],
)
def test_sizes_are_checked_before_anything_is_read(limits, parts):
    with pytest.raises(CodecError, match="expected"):
        open_envelope(parts, limits)


def test_a_message_beyond_the_receivers_limits_is_not_even_encoded():
    request = PingRequest("x", np.zeros(1000, np.float32))
    with pytest.raises(CodecError, match="send fewer frames"):
        encode(Submit("j", request), Limits(part_bytes=3999))


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=80), max_size=4))
def test_random_bytes_raise_nothing_but_the_two_errors(parts):
    with pytest.raises((CodecError, ProtocolError)):
        decode(parts)


@settings(max_examples=400)
@given(st.data())
def test_damaged_messages_raise_nothing_but_the_two_errors(data):
    parts = [bytearray(part) for part in encode(data.draw(st.sampled_from(MESSAGE_EXAMPLES)))]
    for _ in range(data.draw(st.integers(1, 4))):
        part = data.draw(st.integers(0, len(parts) - 1))
        if parts[part]:
            place = data.draw(st.integers(0, len(parts[part]) - 1))
            parts[part][place] = data.draw(st.integers(0, 255))
    action = data.draw(st.sampled_from(["keep", "cut", "swap", "drop", "double"]))
    if action == "cut":
        parts[0] = parts[0][: data.draw(st.integers(0, len(parts[0])))]
    elif action == "swap":
        parts.reverse()
    elif action == "drop":
        parts.pop()
    elif action == "double":
        parts.append(parts[-1])
    with contextlib.suppress(CodecError, ProtocolError):
        decode([bytes(part) for part in parts])


def test_every_message_survives_the_bytes():
    for message in MESSAGE_EXAMPLES:
        assert same(decode([bytes(part) for part in encode(message)]), message)


def test_the_codec_never_unpickles():
    tree = ast.parse(inspect.getsource(codec))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert not names & {"loads", "load", "eval"}
    assert not imported & {"pickle", "marshal", "shelve"}


@given(st.sampled_from(MESSAGE_EXAMPLES), st.data())
def test_bytes_that_changed_places_on_the_way_are_noticed(message, data):
    """As many, the same ones, in another order: no length tells."""
    parts = [bytes(part) for part in encode(message)]
    whole = b"".join(parts)
    first, second, third = sorted(data.draw(st.integers(0, len(whole))) for _ in range(3))
    mixed = whole[:first] + whole[second:third] + whole[first:second] + whole[third:]
    # A checksum that is no longer where it stands cannot be compared: the header's end stays.
    assume(mixed != whole and not first < len(parts[0]) < third)
    assume(mixed[: len(parts[0])].endswith(parts[0][-11:]))
    received = [mixed[len(b"".join(parts[:k])) :][: len(part)] for k, part in enumerate(parts)]
    with pytest.raises(CodecError):
        decode(received)


def test_a_swap_within_an_array_is_noticed_and_named():
    header, buffer = encode(Submit("job", PingRequest("x", np.arange(1000, dtype=np.float32))))
    data = bytes(buffer)
    with pytest.raises(CodecError, match="damaged on its way"):
        decode([header, data[:400] + data[800:1200] + data[400:800] + data[1200:]])


def test_a_message_without_a_checksum_is_of_an_earlier_minor_version_and_read():
    parts = encode(messages.Heartbeat())
    assert decode(packed({}, name="heartbeat")) == decode(parts)
    assert len(parts[0]) == len(packed({}, name="heartbeat")[0]) + 11
