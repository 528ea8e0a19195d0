# SPDX-License-Identifier: Apache-2.0
"""Messages ↔ multipart bytes: a msgpack header, then the raw buffers of its arrays.

The header is the map `{"type": name, "fields": {…}, "check": crc}`. Where a field holds an array it
has the msgpack extension 1, which is the packed list `[part, dtype, shape]`; part 1 is the first
buffer after the header. `check`, always last and of four bytes, is the CRC-32 of the header without
it and of all buffers: whatever damages a message on its way is noticed. Senders of protocol 1.0
left it out. Arrays are little-endian and C-ordered, of the dtypes in `DTYPES` and no other.
Nothing is copied: encoding borrows the arrays until they are sent, decoding gives read-only views
of what was received. Lengths are checked before an array is built. Nothing is ever unpickled.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

from .messages import MESSAGES, Limits, Message, read_message

DTYPES = {
    dtype: np.dtype(dtype).newbyteorder("<")
    for dtype in (
        "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
        "float16", "float32", "float64",
    )
}  # fmt: skip
"""Element types that may travel."""

ARRAY_EXTENSION = 1
MAX_DIMENSIONS = 8
MAX_NESTING = 16
_CHECK = b"\xa5check\xce"
"""What stands before the four bytes of the checksum, at the header's end: a text of five letters,
and the mark of a number of four bytes."""
DEFAULT_LIMITS = Limits()

Buffer = bytes | memoryview


class CodecError(ValueError):
    """Bytes that are no message of this protocol; the text says what was found."""


@dataclass(frozen=True)
class Envelope:
    """A message whose bytes are sound and whose meaning has not been checked yet."""

    name: str
    fields: Mapping[str, Any]

    def text(self, field: str) -> str | None:
        """A short text field, if it is there: for answering a message that cannot be read."""
        value = self.fields.get(field)
        return value if isinstance(value, str) and len(value) <= 64 else None


def encode(message: Message, limits: Limits = DEFAULT_LIMITS) -> list[Buffer]:
    """The parts of a message, ready to be sent as one multipart message.

    Args:
        message: what to send; its arrays are borrowed until the parts have been sent.
        limits: what the receiver accepts.

    Raises:
        CodecError: the message is larger than the limits allow.
    """
    buffers: list[Buffer] = []

    def pack_array(value: Any) -> msgpack.ExtType:
        if not isinstance(value, np.ndarray):
            raise CodecError(f"a message holds a {type(value).__name__}, which cannot travel")
        dtype = DTYPES.get(value.dtype.name)
        if dtype is None or value.ndim > MAX_DIMENSIONS:
            raise CodecError(f"an array is {value.dtype} {value.shape}, which cannot travel")
        array = np.ascontiguousarray(value, dtype)
        buffers.append(array.reshape(-1).view(np.uint8).data if array.size else b"")
        reference = [len(buffers), value.dtype.name, list(value.shape)]
        return msgpack.ExtType(ARRAY_EXTENSION, msgpack.packb(reference))

    content = {"type": message.NAME, "fields": message.to_map()}
    try:
        header: Any = msgpack.packb(content, default=pack_array)
    except (OverflowError, RecursionError, UnicodeEncodeError) as error:
        raise CodecError(f"the message {message.NAME} cannot be packed ({error})") from error
    parts: list[Buffer] = [_with_check(header, buffers), *buffers]
    check_sizes([len(part) for part in parts], limits)
    return parts


def decode(
    parts: Sequence[Buffer],
    limits: Limits = DEFAULT_LIMITS,
    kinds: Mapping[str, type[Message]] = MESSAGES,
) -> Message:
    """The message in the parts; its arrays are read-only views of them.

    Raises:
        CodecError: the bytes are no message, or larger than the limits.
        ProtocolError: the message breaks a rule of the protocol.
    """
    envelope = open_envelope(parts, limits)
    return read_message(envelope.name, envelope.fields, kinds)


def open_envelope(
    parts: Sequence[Buffer], limits: Limits = DEFAULT_LIMITS, *, is_checked: bool = True
) -> Envelope:
    """The type and raw fields of a message: the first half of `decode`.

    Args:
        parts: the message.
        limits: what is accepted.
        is_checked: compare the checksum; needless for messages that are only passed on.

    Raises:
        CodecError: the bytes are no message, not those that were sent, or larger than the limits.
    """
    check_sizes([len(part) for part in parts], limits)
    if is_checked:
        _compare_check(parts)
    used: set[int] = set()

    def read_extension(code: int, data: bytes) -> np.ndarray:
        if code != ARRAY_EXTENSION:
            raise CodecError(f"the header holds msgpack extension {code}, expected only 1")
        return _read_array(data, parts, used)

    content = _unpack(parts[0], limits, read_extension)
    if not isinstance(content, dict) or not isinstance(content.get("fields"), dict):
        raise CodecError("the header is no map of type and fields")
    name = content.get("type")
    if not isinstance(name, str):
        raise CodecError("the header has no type, expected the message's name")
    if len(used) != len(parts) - 1:
        raise CodecError(f"the message has {len(parts) - 1} arrays, its header names {len(used)}")
    _check_nesting(content["fields"])
    return Envelope(name, content["fields"])


def _with_check(header: bytes, buffers: Sequence[Buffer]) -> bytes:
    """The header, a map of two entries, with the checksum as a third."""
    check = _check_of(header, buffers)
    return b"\x83" + header[1:] + _CHECK + check.to_bytes(4, "big")


def _check_of(header: Buffer, buffers: Sequence[Buffer]) -> int:
    check = zlib.crc32(header)
    for buffer in buffers:
        check = zlib.crc32(buffer, check)
    return check


def _compare_check(parts: Sequence[Buffer]) -> None:
    header, place = bytes(parts[0]), len(parts[0]) - len(_CHECK) - 4
    if header[place:-4] != _CHECK:
        return
    found = _check_of(b"\x82" + header[1:place], parts[1:])
    if found != int.from_bytes(header[-4:], "big"):
        raise CodecError("the message was damaged on its way: its checksum is another one")


def check_sizes(sizes: Sequence[int], limits: Limits = DEFAULT_LIMITS) -> None:
    """Refuse a message by the sizes of its parts, before anything is read.

    Raises:
        CodecError: too many parts, or one of them or their sum is too large.
    """
    if not 1 <= len(sizes) <= limits.parts:
        raise CodecError(f"the message has {len(sizes)} parts, expected 1 to {limits.parts}")
    if sizes[0] > limits.header_bytes:
        raise CodecError(f"the header has {sizes[0]} bytes, expected at most {limits.header_bytes}")
    if max(sizes) > limits.part_bytes or sum(sizes) > limits.message_bytes:
        raise CodecError(
            f"the message has {sum(sizes)} bytes, the largest part {max(sizes)}, expected at most "
            f"{limits.message_bytes} and {limits.part_bytes}: send fewer frames at once"
        )


def _unpack(header: Buffer, limits: Limits, ext_hook: Any) -> Any:
    try:
        return msgpack.unpackb(
            header,
            ext_hook=ext_hook,
            strict_map_key=True,
            max_str_len=limits.header_bytes,
            max_bin_len=0,
            max_ext_len=128,
        )
    except CodecError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise CodecError(f"the header is no msgpack map ({type(error).__name__})") from error


def _read_array(data: bytes, parts: Sequence[Buffer], used: set[int]) -> np.ndarray:
    """The array that one extension of the header describes, as a view of its part."""
    try:
        reference = msgpack.unpackb(data, max_ext_len=0, max_bin_len=0)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise CodecError("an array's description is no msgpack list") from error
    if not isinstance(reference, list) or len(reference) != 3:
        raise CodecError("an array's description is not [part, dtype, shape]")
    part, name, shape = reference
    if type(part) is not int or not 1 <= part < len(parts) or part in used:
        raise CodecError("an array names a part that is not there or already taken")
    if not isinstance(name, str) or name not in DTYPES:
        raise CodecError(f"an array is of dtype {str(name)[:20]!r}, which is not allowed")
    dtype = DTYPES[name]
    _check_length(shape, dtype.itemsize, len(parts[part]))
    used.add(part)
    if not len(parts[part]):
        return np.empty(shape, dtype)
    return np.frombuffer(parts[part], dtype).reshape(shape)


def _check_length(shape: Any, itemsize: int, length: int) -> None:
    """Refuse a shape that does not fill its part to the byte."""
    valid = (
        isinstance(shape, list)
        and len(shape) <= MAX_DIMENSIONS
        and all(type(size) is int and 0 <= size < 2**31 for size in shape)
    )
    if not valid:
        raise CodecError("an array's shape is no list of at most eight sizes")
    count, extent = 1, 1
    for size in shape:
        count, extent = count * size, extent * max(size, 1)
    if count * itemsize != length or extent * itemsize >= 2**40:
        raise CodecError(f"an array of shape {shape} is {length} bytes long, which cannot be")


def _check_nesting(fields: Any) -> None:
    waiting = [(fields, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_NESTING:
            raise CodecError(f"the header is nested deeper than {MAX_NESTING} levels")
        if isinstance(value, dict):
            waiting += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list):
            waiting += [(item, depth + 1) for item in value]
