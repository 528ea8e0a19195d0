# SPDX-License-Identifier: Apache-2.0
"""A video file as footage: any frame, the same however it is reached (PyAV)."""

from __future__ import annotations

import bisect
import itertools
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from ..picture_files import MAX_PIXELS
from .bounded_memory import bound_single_allocations, bounded_memory, room_for
from .frames import DEFAULT_FPS, MAX_FRAMES, Footage, FootageError, RgbImage, check_pixels
from .shown_pictures import pixel_aspect, shown_picture

__all__ = ["VideoFootage"]

logger = logging.getLogger(__name__)

SEQUENTIAL_REACH = 12
"""Frames that are decoded and dropped on the way ahead before a seek is tried."""
_EVEN = 0.2
"""Frames whose lengths differ by more than this share come at a varying rate."""
_CONTAINERS = (
    "mov,mp4,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,ogg,asf,mxf,h264,hevc,ivf,obu,gif"
)
"""What may be opened: no playlists, which could name other files or addresses."""


class VideoFootage(Footage):
    """A video file, decoded frame by frame.

    The packets are listed once without decoding; their presentation times, in order, number the
    frames, so a seek can be checked against the time of the frame that comes out.
    """

    def __init__(self, path: Path, fps: float | None) -> None:
        bound_single_allocations()
        self.path = path
        self._container: Any = None
        self._converter = VideoReformatter()
        self._frames: Iterator[Any] | None = None
        self._next = 0
        self._stamps: list[int] = []
        self._keys: list[int] = []
        self._expected = 0
        self._is_timed = True
        self._ends: dict[int, int] = {}
        """Times from which on nothing could be decoded, by how many keys come before."""
        self._open()
        stream = self._container.streams.video[0]
        rate = fps or stream.average_rate or stream.guessed_rate or DEFAULT_FPS
        self.fps = float(rate)
        self._time_base = float(stream.time_base or 0)
        self._aspect, stored = pixel_aspect(stream), (stream.width, stream.height)
        try:
            with bounded_memory(room_for(path.stat().st_size)):
                self._list_packets(stream)
        except MemoryError as error:
            raise self._claims_too_much() from error
        self.size = self._first_size()
        if self._aspect is not None:
            self.remark = (
                f"; its {stored[0]}×{stored[1]} pixels are not square "
                f"({self._aspect.numerator}:{self._aspect.denominator}), so it is shown at "
                f"{self.size[0]}×{self.size[1]}: tools that ignore this see other pictures"
            )
            logger.info("%s%s", path.name, self.remark.replace(";", ":", 1))

    def __len__(self) -> int:
        return len(self._stamps)

    @property
    def times(self) -> npt.NDArray[np.float64]:
        stamps = np.asarray(self._stamps, np.float64)
        return (stamps - stamps[0]) * self._time_base if self._time_base else super().times

    @property
    def is_even(self) -> bool:
        gaps = np.diff(np.asarray(self._stamps, np.float64))
        if len(gaps) < 2 or not self._time_base:
            return True
        usual = np.median(gaps)
        # Containers round times to their unit: by up to one on either side.
        return bool((np.abs(gaps - usual) <= np.maximum(1.0, _EVEN * usual)).all())

    @property
    def key_frames(self) -> npt.NDArray[np.int64]:
        shown = np.intersect1d(self._keys, self._stamps)
        return np.searchsorted(self._stamps, shown).astype(np.int64)

    def read(self, index: int) -> RgbImage:
        return self.shown(self.decoded(index), index)

    def decoded(self, index: int) -> Any:
        if len(self) <= index < self._expected:
            raise self._broken_off(index)
        self._check_index(index)
        if self._stamps[index] >= self._ends.get(self._keys_before(index), math.inf):
            raise self._broken_off(index)  # opening some broken files takes seconds
        frame = self._ahead(index) if self._within_reach(index) else None
        if frame is None:
            frame = self._from_key(index)
        if frame is None:
            raise self._broken_off(index)
        if (frame.width, frame.height) != self._stored:
            raise FootageError(
                f"frame {index} of {self.path.name} is {frame.width}×{frame.height} pixels, the "
                f"first {self._stored[0]}×{self._stored[1]}: export it again in one size"
            )
        return frame

    def shown(self, decoded: Any, index: int) -> RgbImage:
        image = self._shown(decoded)
        if image.shape[1::-1] != self.size:
            raise FootageError(
                f"frame {index} of {self.path.name} is shown at {image.shape[1]}×{image.shape[0]} "
                f"pixels, the first at {self.size[0]}×{self.size[1]}: export it again in one size"
            )
        return image

    def _shown(self, frame: Any) -> RgbImage:
        try:
            return shown_picture(frame, self._converter, self._aspect)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise FootageError(
                f"the pictures of {self.path.name} cannot be turned into colours "
                f"({_reason(error)}): export it again, as H.264 for example"
            ) from error

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
        self._container, self._frames = None, None

    def _broken_off(self, index: int) -> FootageError:
        total = max(self._expected, len(self))
        return FootageError(
            f"{self.path.name} breaks off: frame {index} of {total} cannot be decoded; copy or "
            "export the file again, or use the frames before it"
        )

    def _open(self) -> None:
        self.close()
        options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
        try:
            # The prefix keeps names with colons from being taken for addresses.
            with bounded_memory(room_for(self.path.stat().st_size)):
                self._container = av.open(f"file:{self.path}", options=options)
        except MemoryError as error:
            raise self._claims_too_much() from error
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise FootageError(
                f"{self.path.name} cannot be opened as a video ({_reason(error)}): it is no video "
                "file, or it was cut short while being written"
            ) from error
        streams = self._container.streams.video
        if not streams:
            self.close()
            raise FootageError(f"{self.path.name} holds no pictures (no video stream)")
        if streams[0].codec_context is None:
            self.close()
            raise FootageError(
                f"the pictures of {self.path.name} are in a form that is not known here: export it "
                "again, as H.264 for example"
            )
        streams[0].thread_type = "AUTO"
        # Frames may turn out larger than the container says.
        streams[0].codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        check_pixels(self.path.name, streams[0].width or 1, streams[0].height or 1)
        self._frames, self._next = None, 0

    def _claims_too_much(self) -> FootageError:
        self.close()
        return FootageError(
            f"opening {self.path.name} takes more memory than a film of this size can be worth: "
            "its tables are broken, or it has a great many streams; export it again"
        )

    def _list_packets(self, stream: Any) -> None:
        stamps: list[int | None] = []
        keys: list[int] = []
        try:
            for packet in _packets_of(self._container, stream):
                if packet.size == 0 or packet.is_discard:
                    continue
                stamps.append(packet.pts)
                if packet.is_keyframe and packet.pts is not None:
                    keys.append(packet.pts)
                if len(stamps) > MAX_FRAMES:
                    raise FootageError(
                        f"{self.path.name} is longer than {MAX_FRAMES} frames: cut it into parts"
                    )
        except av.error.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            logger.warning("%s breaks off: %s", self.path.name, _reason(error))
        self._is_timed = None not in stamps
        if self._is_timed:
            self._stamps, self._keys = sorted({s for s in stamps if s is not None}), sorted(keys)
        else:  # no presentation times: frames are counted as they come, and there is no seeking
            self._stamps, self._keys, self._time_base = list(range(len(stamps))), [], 0.0
        self._expected = min(max(int(stream.frames or 0), len(self._stamps)), MAX_FRAMES)
        if stream.frames and len(self._stamps) < stream.frames - 1:
            logger.warning(
                "%s breaks off: %d of %d frames are there",
                self.path.name, len(self._stamps), stream.frames,
            )  # fmt: skip

    def _first_size(self) -> tuple[int, int]:
        self._open()
        frames = self._decoded()
        for frame in frames:
            if self._is_timed and frame.pts is not None and self._stamps:
                # Edit lists and leading pictures: packets before the first frame that is shown.
                self._stamps = [stamp for stamp in self._stamps if stamp >= frame.pts]
            self._stored = (frame.width, frame.height)
            height, width = self._shown(frame).shape[:2]
            check_pixels(self.path.name, width, height)
            self._frames = itertools.chain((frame,), frames)
            return width, height
        raise FootageError(
            f"not one frame of {self.path.name} can be decoded: copy or export the file again"
        )

    def _decoded(self) -> Iterator[Any]:
        """Decoded frames from here on; ends where nothing more can be decoded."""
        stream = self._container.streams.video[0]
        try:
            for packet in _packets_of(self._container, stream):
                try:
                    yield from packet.decode()
                except av.error.InvalidDataError as error:
                    logger.debug("%s: a packet is broken: %s", self.path.name, _reason(error))
        except (av.error.FFmpegError, OSError) as error:
            logger.debug("%s: reading ended: %s", self.path.name, _reason(error))

    def _within_reach(self, index: int) -> bool:
        if self._frames is None or index < self._next:
            return index < SEQUENTIAL_REACH and self._frames is None
        if index - self._next <= SEQUENTIAL_REACH:
            return True
        # A seek would land before where the decoder stands, if no key comes between.
        stands_behind = self._keys_before(max(self._next - 1, 0))
        return self._is_timed and stands_behind == self._keys_before(index) > 0

    def _ahead(self, index: int) -> Any | None:
        """Frame `index` by decoding on from where the decoder stands; None if it is not met."""
        if self._container is None:
            self._open()
        if self._frames is None:
            self._frames = self._decoded()
        target = self._stamps[index]
        for frame in self._frames:
            stamp = frame.pts if self._is_timed else self._next
            if stamp is None:
                continue
            self._next = bisect.bisect_right(self._stamps, stamp)
            if stamp == target:
                return frame
            if stamp > target:
                return None
        self._frames, self._next = None, 0
        self.close()
        return None

    def _from_key(self, index: int) -> Any | None:
        """Frame `index` by seeking to a key frame before it; earlier ones if that lands late."""
        place, has_ended = self._keys_before(index), True
        for key in reversed(self._keys[:place][-3:]):
            self._open()
            try:
                self._container.seek(key, stream=self._container.streams.video[0])
            except av.error.FFmpegError as error:
                logger.debug("%s: seek failed: %s", self.path.name, _reason(error))
                continue
            frame = self._ahead(index)
            if frame is not None:
                return frame
            has_ended &= self._frames is None
        self._open()
        frame = self._ahead(index)
        if frame is None and has_ended and self._frames is None:
            self._ends[place] = self._stamps[index]
        return frame

    def _keys_before(self, index: int) -> int:
        return bisect.bisect_right(self._keys, self._stamps[index])


def _packets_of(container: Any, stream: Any) -> Iterator[Any]:
    """Packets of one stream, to the end of the file."""
    try:
        yield from container.demux(stream)
    except IndexError:
        # At the end PyAV flushes all streams, and does not know those that came up on the way.
        logger.debug("%s: a stream begins within the film", container.name)


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
