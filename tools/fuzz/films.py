# SPDX-License-Identifier: Apache-2.0
"""Films to fuzz with: tiny ones of many containers and codecs, and changes to how they are built.

A film is a tree of boxes (MP4, MOV), chunks (AVI) or elements (Matroska), or a row of packets or
units. Changes are made to that tree and written again with sizes that fit, so that they reach
what lies behind a container's first look; sizes that lie are among the changes.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

__all__ = ["make_films", "rebuild"]

MAX_BYTES = 1 << 15
EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
BOXES_OF_BOXES = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"udta", b"moof", b"traf",
                  b"mvex", b"dinf"}  # fmt: skip
LISTS = {b"RIFF", b"LIST"}
ELEMENTS_OF_ELEMENTS = {
    b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae", b"\xe0", b"\x1f\x43\xb6\x75", b"\xa0",
    b"\x1c\x53\xbb\x6b", b"\xbb", b"\xb7", b"\x1a\x45\xdf\xa3", b"\x15\x49\xa9\x66",
    b"\x11\x4d\x9b\x74", b"\x4d\xbb", b"\x55\xb0",
}  # fmt: skip
"""Segment, Tracks, TrackEntry, Video, Cluster, BlockGroup, Cues, CuePoint, CueTrackPositions,
EBML, Info, SeekHead, Seek, Colour."""

FILMS: dict[str, tuple[str, str, dict[str, str], dict[str, str]]] = {
    "b-frames.mp4": ("libx264", "yuv420p", {"g": "3", "bf": "2"}, {}),
    "fragments.mp4": (
        "libx264", "yuv420p", {"g": "2", "bf": "0"},
        {"movflags": "frag_keyframe+empty_moov+default_base_moof"},
    ),
    "index-first.mov": ("mpeg4", "yuv420p", {"g": "3"}, {"movflags": "faststart"}),
    "pictures.mov": ("mjpeg", "yuvj420p", {}, {}),
    "bright.mp4": (
        "libx265", "yuv420p10le",
        {"x265-params": "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"},
        {},
    ),
    "woven.mkv": ("libx264", "yuv420p", {"flags": "+ilme+ildct", "g": "3"}, {}),
    "lossless.mkv": ("ffv1", "yuv420p", {}, {}),
    "web.webm": ("libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8"}, {}),
    "older.webm": ("libvpx", "yuv420p", {"deadline": "realtime"}, {}),
    "old.avi": ("mpeg4", "yuv420p", {"g": "3", "bf": "1"}, {}),
    "raw.avi": ("rawvideo", "bgr24", {}, {}),
    "broadcast.ts": ("mpeg2video", "yuv420p", {"g": "3", "bf": "2"}, {}),
    "naked.h264": ("libx264", "yuv420p", {"g": "3", "bf": "2"}, {}),
    "dance.gif": ("gif", "rgb8", {}, {}),
    "flash.flv": ("flv", "yuv420p", {}, {}),
    "programme.mxf": ("mpeg2video", "yuv420p", {"g": "1"}, {}),
}  # fmt: skip
"""Codec, pixel format, options of the encoder and of the container of each film."""


@cache
def make_films(folder: Path) -> tuple[bytes, ...]:
    """The films, each of four frames of 32×32 pixels; codecs that PyAV lacks here are left out."""
    made = []
    for name, recipe in FILMS.items():
        if recipe[0] in av.codecs_available:
            path = folder / f"seed-{name}"
            _write_film(path, *recipe)
            made.append(path.read_bytes())
    return tuple(made)


def _write_film(
    path: Path, codec: str, pixels: str, options: dict[str, str], more: dict[str, str]
) -> None:
    ramp = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
    with av.open(str(path), "w", options=more) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 32, 32, pixels
        if path.suffix == ".mkv":
            stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(np.roll(ramp, 9 * number, 1), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


# Trees


class Node(NamedTuple):
    """One box, chunk or element: its name, what comes before its children, and its children."""

    name: bytes
    head: bytes
    children: list[Any]
    """Nodes; empty where there is only `head`."""


Parse = Callable[[bytes], list[Node]]
Write = Callable[[list[Node]], bytes]


def _read_boxes(data: bytes) -> list[Node]:
    nodes, place = [], 0
    while place + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        body = data[place + 8 : place + size] if size >= 8 else data[place + 8 :]
        is_parent = name in BOXES_OF_BOXES
        nodes.append(Node(name, b"" if is_parent else body, _read_boxes(body) if is_parent else []))
        place += size if size >= 8 else len(data)
    return nodes


def _write_boxes(nodes: list[Node]) -> bytes:
    bodies = ((node.name, node.head + _write_boxes(node.children)) for node in nodes)
    return b"".join(struct.pack(">I", 8 + len(body)) + name + body for name, body in bodies)


def _read_chunks(data: bytes) -> list[Node]:
    nodes, place = [], 0
    while place + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        body = data[place + 8 : place + 8 + size]
        if name in LISTS:
            nodes.append(Node(name, body[:4], _read_chunks(body[4:])))
        else:
            nodes.append(Node(name, body, []))
        place += 8 + size + size % 2
    return nodes


def _write_chunks(nodes: list[Node]) -> bytes:
    parts = []
    for node in nodes:
        body = node.head + _write_chunks(node.children)
        parts.append(node.name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2))
    return b"".join(parts)


def _read_elements(data: bytes) -> list[Node]:
    nodes, place = [], 0
    while place < len(data) and data[place]:
        name = data[place : place + 9 - data[place].bit_length()]
        place += len(name)
        if place >= len(data) or not data[place]:
            break
        width = 9 - data[place].bit_length()
        size = int.from_bytes(data[place : place + width], "big") & ((1 << 7 * width) - 1)
        body = data[place + width : place + width + size]
        is_parent = name in ELEMENTS_OF_ELEMENTS
        children = _read_elements(body) if is_parent else []
        nodes.append(Node(name, b"" if is_parent else body, children))
        place += width + size
    return nodes


def _write_elements(nodes: list[Node]) -> bytes:
    bodies = ((node.name, node.head + _write_elements(node.children)) for node in nodes)
    return b"".join(name + (len(body) | 1 << 56).to_bytes(8, "big") + body for name, body in bodies)


def _pieces(mark: bytes) -> tuple[Parse, Write]:
    """A row of units that each begin with a mark, behind whatever comes before the first."""

    def read(data: bytes) -> list[Node]:
        first, *rest = data.split(mark)
        return [Node(b"", first, []), *(Node(b"", mark + piece, []) for piece in rest)]

    return read, lambda nodes: b"".join(node.name + node.head for node in nodes)


def _form_of(data: bytes) -> tuple[Parse, Write]:
    if data[4:8] == b"ftyp":
        return _read_boxes, _write_boxes
    if data[:4] == b"RIFF":
        return _read_chunks, _write_chunks
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return _read_elements, _write_elements
    if data[:1] == b"G" and data[188:189] == b"G":
        return _pieces(b"G")
    if data[:4] == b"\x06\x0e\x2b\x34":
        return _pieces(b"\x06\x0e\x2b\x34")
    return _pieces(b"\x00\x00\x01" if b"\x00\x00\x01" in data else b"\x21\xf9")


def rebuild(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A film with some of its parts dropped, doubled, exchanged, renamed or filled with extremes.

    Args:
        data: the film; one that is no film comes back as it is.
        other: another one, parts of which may be taken where both are built alike.
        rng: decides.
    """
    read, write = _form_of(data)
    nodes = read(data)
    spare = [row[k] for row, k in _places(read(other))] if _form_of(other)[0] is read else []
    for _ in range(rng.choice((1, 1, 2, 4))):
        places = list(_places(nodes))
        if not places:
            return data
        row, k = rng.choice(places)
        _CHANGES[rng.randrange(len(_CHANGES))](row, k, spare, rng)
    return write(nodes)[:MAX_BYTES]


def _places(nodes: list[Node]) -> Iterator[tuple[list[Node], int]]:
    for k, node in enumerate(nodes):
        yield nodes, k
        yield from _places(node.children)


def _drop(row: list[Node], k: int, _spare: list[Node], _rng: random.Random) -> None:
    del row[k]


def _double(row: list[Node], k: int, _spare: list[Node], rng: random.Random) -> None:
    row[k:k] = [_copy(row[k])] * rng.choice((1, 1, 3, 50))


def _exchange(row: list[Node], k: int, _spare: list[Node], rng: random.Random) -> None:
    other = rng.randrange(len(row))
    row[k], row[other] = row[other], row[k]


def _rename(row: list[Node], k: int, _spare: list[Node], rng: random.Random) -> None:
    row[k] = row[k]._replace(name=rng.choice([node.name for node in row] + [b"free", b"junk"]))


def _graft(row: list[Node], k: int, spare: list[Node], rng: random.Random) -> None:
    if spare:
        row[k] = _copy(rng.choice(spare))


def _fill(row: list[Node], k: int, _spare: list[Node], rng: random.Random) -> None:
    """A number of four bytes, or one, set to an extreme; often in a leaf's first bytes."""
    content = bytearray(row[k].head)
    if len(content) < 4:
        content[:] = rng.randbytes(len(content))
    else:
        last = len(content) - 4
        place = rng.randrange(0, min(last, 64) + 1) if rng.random() < 0.7 else rng.randint(0, last)
        place -= place % 4 if rng.random() < 0.7 else 0
        number = rng.choice(EXTREMES) if rng.random() < 0.8 else rng.getrandbits(32)
        if rng.random() < 0.3:
            content[place] = number & 0xFF
        else:
            content[place : place + 4] = number.to_bytes(4, rng.choice(("big", "little")))
    row[k] = row[k]._replace(head=bytes(content))


def _cut(row: list[Node], k: int, _spare: list[Node], rng: random.Random) -> None:
    row[k] = row[k]._replace(head=row[k].head[: rng.randint(0, len(row[k].head))])


def _copy(node: Node) -> Node:
    return node._replace(children=[_copy(child) for child in node.children])


_CHANGES = (_drop, _double, _exchange, _rename, _graft, _fill, _fill, _fill, _cut)
