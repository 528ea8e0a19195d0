# SPDX-License-Identifier: Apache-2.0
"""Footage: the same frame however it is asked for, and one clear sentence when there is none."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from posefit.footage import FootageError, check_size, open_footage
from posefit.refinement.clip import Clip, clip_seconds, spread_frames
from posefit.texture import TextureError, load_png
from posefit.views import view_of_sequence
from posefit_shared.sequence import Sequence

FRAMES = 40
SIZE = (64, 48)


def numbered_image(number: int) -> np.ndarray:
    """An image that shows its number as six black or white bars, and a mark at the top left."""
    image = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
    for bit in range(6):
        image[16:, 8 + 8 * bit : 16 + 8 * bit] = 255 if number >> bit & 1 else 0
    image[:12, :12] = (255, 0, 0)
    return image


def number_of(image: np.ndarray) -> int:
    bars = [image[24:40, 10 + 8 * bit : 14 + 8 * bit].mean() > 128 for bit in range(6)]
    return sum(1 << bit for bit, is_set in enumerate(bars) if is_set)


def write_video(path: Path, codec: str = "libx264", **options: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(numbered_image(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


VIDEOS = {
    "b-frames.mp4": ("libx264", {"g": "12", "bf": "3"}),
    "open-gop.mkv": ("libx264", {"g": "9", "bf": "2", "x264-params": "open-gop=1:scenecut=0"}),
    "one key.mp4": ("libx264", {"g": "1000"}),
    "old.avi": ("mpeg4", {"g": "10", "bf": "2"}),
    "naked.h264": ("libx264", {"g": "10"}),
    "vp9.webm": ("libvpx-vp9", {"g": "10", "deadline": "realtime", "cpu-used": "8"}),
    "broadcast.ts": ("mpeg2video", {"g": "10", "bf": "2"}),
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name, (codec, options) in VIDEOS.items():
        write_video(folder / name, codec, **options)
    return folder


@pytest.mark.parametrize("name", VIDEOS)
def test_reading_in_order_gives_every_frame_once(videos: Path, name: str) -> None:
    footage = open_footage(videos / name)
    assert footage.size == SIZE
    assert [number_of(image) for image in footage] == list(range(FRAMES))


@pytest.mark.parametrize("name", VIDEOS)
def test_a_frame_read_at_random_is_the_frame_read_in_order(videos: Path, name: str) -> None:
    footage = open_footage(videos / name)
    order = np.random.default_rng(3).permutation(FRAMES)
    assert [number_of(footage.read(int(i))) for i in order] == order.tolist()
    assert [number_of(footage.read(7)) for _ in range(2)] == [7, 7]


def test_a_closed_video_opens_again_when_read(videos: Path) -> None:
    footage = open_footage(videos / "b-frames.mp4")
    footage.read(20)
    footage.close()
    assert number_of(footage.read(21)) == 21


def test_rate_and_times_come_from_the_file_or_from_the_caller(videos: Path) -> None:
    footage = open_footage(videos / "b-frames.mp4")
    assert footage.fps == pytest.approx(25)
    np.testing.assert_allclose(footage.times, np.arange(FRAMES) / 25, atol=1e-6)
    assert open_footage(videos / "b-frames.mp4", fps=60).fps == 60


def test_names_with_spaces_colons_and_other_alphabets_open(tmp_path: Path) -> None:
    for name in ("dans la rue – prise 2.mp4", "撮影:一.mp4", "100%03d.mp4"):
        path = write_video(tmp_path / name)
        assert number_of(open_footage(path).read(5)) == 5


def test_a_rotated_video_comes_upright(videos: Path, tmp_path: Path) -> None:
    path = tmp_path / "turned.mp4"
    data = (videos / "one key.mp4").read_bytes()
    identity = np.array([0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000], ">i4").tobytes()
    # The track's matrix: x' = −y + height, y' = x, a quarter turn clockwise when shown.
    turned = np.array(
        [0, 0x10000, 0, -0x10000, 0, 0, SIZE[1] * 0x10000, 0, 0x40000000], ">i4"
    ).tobytes()
    track = data.index(b"tkhd")
    path.write_bytes(data[:track] + data[track:].replace(identity, turned, 1))
    footage = open_footage(path)
    image = footage.read(3)
    assert footage.size == SIZE[::-1]
    assert image.shape == (SIZE[0], SIZE[1], 3)
    assert image[4, -5, 0] > 200  # the red mark of the top left corner is now top right
    assert image[4, -5, 2] < 80
    assert number_of(np.rot90(image)) == 3


def write_images(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for number, name in enumerate(names):
        Image.fromarray(numbered_image(number)).save(folder / name)
    return folder


def test_images_come_in_natural_order_of_their_names(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "a b", ["f1.png", "f2.png", "F9.png", "f10.png", "f100.png"])
    (folder / "notes.txt").write_text("not a frame")
    (folder / "._f1.png").write_bytes(b"left by a file manager")
    footage = open_footage(folder)
    assert [number_of(image) for image in footage] == [0, 1, 2, 3, 4]
    assert number_of(footage.read(3)) == 3


def test_one_image_is_footage_of_one_frame(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "x", ["still.png"])
    footage = open_footage(folder / "still.png")
    assert len(footage) == 1
    np.testing.assert_array_equal(footage.read(0), numbered_image(0))


def test_sixteen_bit_and_grey_images_become_rgb(tmp_path: Path) -> None:
    folder = tmp_path / "grey"
    folder.mkdir()
    Image.fromarray(np.full((6, 8), 65535, np.uint16)).save(folder / "1.png")
    Image.fromarray(np.full((6, 8), 255, np.uint8)).save(folder / "2.png")
    assert [image.shape for image in open_footage(folder)] == [(6, 8, 3)] * 2
    assert [int(image.min()) for image in open_footage(folder)] == [255, 255]


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "mixed", ["1.png", "2.png"])
    Image.new("RGB", (10, 10)).save(folder / "2.png")
    with pytest.raises(FootageError, match="2.png is 10×10 pixels, the first image is 64×48"):
        open_footage(folder).read(1)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b"just words " * 50, "cannot be opened as a video")],
)
def test_a_file_that_is_no_video_is_refused_in_words(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "take.mp4"
    path.write_bytes(content)
    with pytest.raises(FootageError, match=words):
        open_footage(path)


def test_a_missing_file_and_an_empty_folder_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(FootageError, match="no footage at"):
        open_footage(tmp_path / "nothing.mp4")
    with pytest.raises(FootageError, match="holds no images"):
        open_footage(tmp_path)


def test_a_playlist_cannot_name_other_files(videos: Path, tmp_path: Path) -> None:
    playlist = tmp_path / "list.mp4"
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\n{videos / 'broadcast.ts'}\n#EXT-X-ENDLIST\n")
    with pytest.raises(FootageError, match="cannot be opened"):
        open_footage(playlist)


def test_sound_alone_is_no_footage(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(FootageError, match="no pictures"):
        open_footage(path)


def test_a_truncated_video_without_its_index_says_so(videos: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes((videos / "b-frames.mp4").read_bytes()[:3000])
    with pytest.raises(FootageError, match="cut short"):
        open_footage(path)


def test_a_truncated_video_gives_its_first_frames_and_names_the_break(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", g="10")
    fast = av.open(str(tmp_path / "fast.mp4"), "w", options={"movflags": "faststart"})
    with fast as out, av.open(str(whole)) as source:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    data = (tmp_path / "fast.mp4").read_bytes()
    media = data.index(b"mdat")
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: media + (len(data) - media) // 2])
    footage = open_footage(path)
    read: list[int] = []
    with pytest.raises(FootageError, match=r"cut.mp4 breaks off: frame \d+ of 40"):
        read.extend(number_of(footage.read(i)) for i in range(FRAMES))
    assert read == list(range(len(read)))
    assert 5 < len(read) < FRAMES - 1
    assert number_of(footage.read(2)) == 2


def test_a_frame_beyond_the_end_is_refused_in_words(videos: Path) -> None:
    footage = open_footage(videos / "old.avi")
    for index in (-1, FRAMES):
        with pytest.raises(FootageError, match=f"frame {index} was asked for"):
            footage.read(index)


def test_footage_of_another_size_than_the_camera_is_refused_in_words(videos: Path) -> None:
    footage = open_footage(videos / "old.avi")
    check_size(footage, SIZE)
    with pytest.raises(FootageError, match="is 64×48 pixels, but the camera is for 66×48"):
        check_size(footage, (66, 48))


def test_ten_bits_of_ordinary_video_and_colours_of_either_matrix_are_right(tmp_path: Path) -> None:
    for matrix in (1, 5):  # BT.709 and BT.601
        path = tmp_path / f"matrix {matrix}.mkv"
        with av.open(str(path), "w") as container:
            options = {"x265-params": "lossless=1:log-level=none"}
            stream = container.add_stream("libx265", rate=25, options=options)
            stream.width, stream.height = SIZE
            stream.pix_fmt = "yuv444p10le"
            stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 1
            image = np.empty((SIZE[1], SIZE[0], 3), np.uint8)
            image[:] = (200, 60, 30)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = frame.reformat(format="yuv444p10le", dst_colorspace=matrix)
            frame.colorspace, frame.color_range = matrix, 1
            frame.pts, frame.time_base = 0, Fraction(1, 25)
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        seen = open_footage(path).read(0)[5, 5].astype(int)
        np.testing.assert_allclose(seen, (200, 60, 30), atol=2)


def moments(field: int) -> np.ndarray:
    """A bar that is further to the right in the second field."""
    image = np.full((SIZE[1], SIZE[0], 3), 40, np.uint8)
    image[:, 16 + 16 * field : 28 + 16 * field] = 220
    return image


def test_interlaced_video_shows_one_moment(tmp_path: Path) -> None:
    woven = moments(0)
    woven[1::2] = moments(1)[1::2]
    path = tmp_path / "woven.mp4"
    with av.open(str(path), "w") as container:
        options = {"flags": "+ilme+ildct", "qp": "0"}
        stream = container.add_stream("libx264", rate=25, options=options)
        (stream.width, stream.height), stream.pix_fmt = SIZE, "yuv444p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(woven, format="rgb24")))
        container.mux(stream.encode())
    with open_footage(path) as footage:
        image = footage.read(1).astype(int)
    assert np.abs(image - moments(0)).mean() < 6
    assert np.abs(np.diff(image, axis=0)).max() < 40


def test_pixels_that_are_not_square_become_square(tmp_path: Path) -> None:
    path = tmp_path / "wide.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        (stream.width, stream.height), stream.pix_fmt = SIZE, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(numbered_image(number), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    footage = open_footage(path)
    assert footage.size == (93, 48)
    image = footage.read(2)
    assert image.shape == (48, 93, 3)
    red = np.flatnonzero((image[4].astype(int) @ [1, -1, 0]) > 128)
    assert abs(red.max() + 1 - 12 * 16 / 11) <= 2
    with pytest.raises(FootageError, match=r"64×48 pixels are not square \(16:11\).*93×48"):
        check_size(footage, SIZE)


def write_uneven_video(path: Path, stamps_ms: list[int]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"g": "4", "bf": "2"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, stamp in enumerate(stamps_ms):
            frame = av.VideoFrame.from_ndarray(numbered_image(number), format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("name", ["phone.mp4", "phone.mkv"])
def test_a_varying_rate_gives_each_frame_its_own_time(tmp_path: Path, name: str) -> None:
    stamps = [0, 33, 66, 100, 180, 200, 333, 350, 383, 417]
    footage = open_footage(write_uneven_video(tmp_path / name, stamps))
    assert [number_of(image) for image in footage] == list(range(len(stamps)))
    assert [number_of(footage.read(k)) for k in (7, 2, 9, 4)] == [7, 2, 9, 4]
    np.testing.assert_allclose(footage.times, np.array(stamps) / 1000, atol=1e-3)
    assert not footage.is_even
    even = write_uneven_video(tmp_path / f"even {name}", [0, 33, 67, 100, 133, 167, 200])
    assert open_footage(even).is_even


def test_a_sequence_without_times_takes_those_of_uneven_footage(tmp_path: Path) -> None:
    stamps = [0, 33, 66, 100, 180, 200]
    footage = open_footage(write_uneven_video(tmp_path / "phone.mp4", stamps))
    sequence = Sequence(
        poses=np.zeros((3, 24, 3)), trans=np.zeros((3, 3)), frame_indices=np.array([1, 3, 4]),
        intrinsics=np.eye(3), world_to_camera=np.eye(4), image_size=SIZE,
    )  # fmt: skip
    clip = Clip(sequence, [view_of_sequence(sequence, footage)])
    np.testing.assert_allclose(clip_seconds(clip), [0.033, 0.1, 0.18], atol=1e-3)


@pytest.mark.parametrize("side", [20_000, 12_000])
def test_a_small_file_that_unpacks_to_a_huge_picture_is_refused_before_it_does(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(f"P5 {side} {side} 255\n".encode())
    with pytest.raises(FootageError, match="bomb.png cannot be read as an image.*pixels"):
        open_footage(tmp_path / "bomb.png")


def test_a_picture_whose_text_unpacks_to_megabytes_is_refused_in_words(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 3_000_000, zip=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "text.png", pnginfo=text)
    with pytest.raises(FootageError, match="text.png cannot be read as an image"):
        open_footage(tmp_path / "text.png")
    with pytest.raises(TextureError, match="cannot be read as a texture"):
        load_png(tmp_path / "text.png")


def test_a_film_that_breaks_off_is_not_searched_again_for_each_frame_behind_the_break(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray((videos / "one key.mp4").read_bytes())
    with av.open(str(videos / "one key.mp4")) as whole:
        for packet in [one for one in whole.demux(video=0) if one.size][20:]:
            data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path = tmp_path / "broken.mp4"
    path.write_bytes(data)
    footage = open_footage(path)
    opened = []
    monkeypatch.setattr(av, "open", lambda *a, real=av.open, **k: opened.append(a) or real(*a, **k))
    for index in range(25, 38):
        with pytest.raises(FootageError, match=f"breaks off: frame {index} of"):
            footage.read(index)
    assert len(opened) <= 3
    assert number_of(footage.read(3)) == 3


def test_a_film_is_opened_no_oftener_than_it_must_be(videos: Path, monkeypatch) -> None:
    opened = []
    monkeypatch.setattr(av, "open", lambda *a, real=av.open, **k: opened.append(a) or real(*a, **k))
    footage = open_footage(videos / "b-frames.mp4")
    assert [number_of(footage.read(k)) for k in (0, 1, 2)] == [0, 1, 2]
    assert len(opened) == 2


def test_frames_on_the_way_to_the_next_key_are_reached_without_going_back(
    videos: Path, monkeypatch
) -> None:
    with open_footage(videos / "one key.mp4") as footage:
        assert number_of(footage.read(2)) == 2
        monkeypatch.setattr(footage, "_from_key", lambda index: pytest.fail("it went back"))
        assert [number_of(footage.read(k)) for k in (20, 39)] == [20, 39]
    with open_footage(videos / "vp9.webm") as footage:
        assert footage.key_frames.tolist() == [0, 10, 20, 30]
        footage.read(2)
        sought = []
        found = footage._from_key
        monkeypatch.setattr(footage, "_from_key", lambda k: sought.append(k) or found(k))
        assert number_of(footage.read(30)) == 30
        assert sought == [30]


def test_frames_that_stand_for_a_clip_are_spread_and_soon_decoded(videos: Path) -> None:
    with open_footage(videos / "vp9.webm") as footage:
        sequence = Sequence(
            poses=np.zeros((FRAMES, 24, 3)), trans=np.zeros((FRAMES, 3)),
            intrinsics=np.array([[60.0, 0, 32], [0, 60.0, 24], [0, 0, 1]]),
            world_to_camera=np.eye(4), image_size=SIZE,
        )  # fmt: skip
        clip = Clip(sequence, [view_of_sequence(sequence, footage)])
        chosen = spread_frames(clip, 5)
        assert chosen.tolist() == [0, 10, 20, 30, 36]  # evenly: 0, 10, 20, 29, 39
        assert spread_frames(clip, FRAMES).tolist() == list(range(FRAMES))
