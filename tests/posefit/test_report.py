# SPDX-License-Identifier: Apache-2.0
"""Reports: one page that needs no network and says what it shows, and a video of both motions."""

import re
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs LiteRT (pip install ai-edge-litert)")

from PIL import Image

from posefit.footage import open_footage
from posefit.report import ReportData, write_overlay_video, write_report
from posefit.report.charts import Line, line_chart, nice_top, sparkline, status_strip
from posefit.report.drawing import crop_box, draw_alone, heat_colors, look_from, same_shape
from posefit.report.sections import angle_change
from posefit.report.video import VideoError
from posefit.views import view_of_sequence
from posefit_shared.frames import Camera
from posefit_shared.sequence import Sequence

FRAMES = 5
SIZE = (240, 320)
WORLD_TO_CAMERA = np.array([[1.0, 0, 0, 0], [0, 0, -1, 1], [0, 1, 0, 4], [0, 0, 0, 1]])
INTRINSICS = np.array([[330.0, 0, 120], [0, 330, 160], [0, 0, 1]])


@pytest.fixture(scope="module")
def before(free_body) -> Sequence:
    poses = np.zeros((FRAMES, 24, 3), np.float32)
    poses[:, 0, 0] = np.pi / 2
    return Sequence(
        poses=poses,
        trans=np.tile(np.array([0, 0, 1], np.float32), (FRAMES, 1)),
        mocap_framerate=30.0,
        intrinsics=INTRINSICS,
        world_to_camera=WORLD_TO_CAMERA,
        image_size=SIZE,
        body=free_body.content_hash,
    )


@pytest.fixture(scope="module")
def after(before) -> Sequence:
    poses = before.poses.copy()
    poses[:, 18, 1] = np.radians(30)
    return before.replace(
        poses=poses,
        status=("refined", "refined", "kept", "no_person", "failed"),
        confidence=np.full((FRAMES, 24), 0.5, np.float32),
    )


@pytest.fixture(scope="module")
def view(before, tmp_path_factory):
    folder = tmp_path_factory.mktemp("room & <more>")
    for k in range(FRAMES):
        Image.new("RGB", SIZE, (70, 90 + 10 * k, 120)).save(folder / f"{k}.png")
    return view_of_sequence(before, open_footage(folder))


@pytest.fixture(scope="module")
def page(before, after, view, free_body, tmp_path_factory) -> str:
    score = {"mean": 50.0, "low": 40.0, "high": 60.0, "blocks": 3}
    part = {"point_error_px": score, "silhouette_iou": {**score, "mean": 0.5}}
    data = ReportData(
        title="A <b>take</b>",
        before=before,
        after=after,
        view=view,
        body=free_body,
        scores={
            "held_out": ["left"],
            "initial": {"left": part, "all": part},
            "refined": {"left": part, "all": part},
        },
        seconds={"estimate": 1.5},
        timings_ms={"render": 20.0, "solve": 5.0},
        misfit=np.array([0.5, 0.6, 1.1, np.nan, np.nan]),
        shown_frames=2,
    )
    file = write_report(tmp_path_factory.mktemp("report"), data)
    return file.read_text("utf-8")


def test_the_page_fetches_nothing(page) -> None:
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", page)
    words = re.sub(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.search(r"""//[a-z]|url\(|@import""", words)


def test_the_page_says_what_became_of_the_frames(page) -> None:
    assert "2<small> of 5</small>" in page
    assert "2 refined" in page
    assert "1 kept as it came" in page
    assert "the person was not seen" in page
    assert "50.0 <small>[40.0, 60.0]</small>" in page


def test_words_from_outside_cannot_become_markup(page) -> None:
    assert "A &lt;b&gt;take&lt;/b&gt;" in page
    assert "room &amp; &lt;more&gt;" in page
    assert "<b>take" not in page


def test_the_page_says_what_it_does_not_show(page) -> None:
    assert "What this does not show" in page
    assert "say nothing about accuracy on other footage" in page


def test_every_joint_has_its_curve_and_the_turn_is_right(page, before, after, view, free_body):
    assert page.count('class="spark"') == 24
    assert "<b>L Elbow</b><span>30.0°</span>" in page
    data = ReportData(before=before, after=after, view=view, body=free_body)
    change = angle_change(data)
    np.testing.assert_allclose(change[:, 18], 30, atol=1e-3)
    np.testing.assert_allclose(np.delete(change, 18, axis=1), 0, atol=1e-3)


def test_a_page_needs_no_scores_pictures_or_timings(
    before, after, view, free_body, tmp_path: Path
) -> None:
    import dataclasses

    blind = dataclasses.replace(view, frame_indices=np.full(FRAMES, -1))
    plain = after.replace(status=None, confidence=None)
    file = write_report(
        tmp_path / "new" / "folder",
        ReportData(before=before, after=plain, view=blind, body=free_body),
    )
    text = file.read_text("utf-8")
    assert "Over the footage" not in text
    assert "Cameras that the refinement did not see" not in text
    assert [p.name for p in file.parent.iterdir()] == ["index.html"]


def test_the_video_shows_both_motions_side_by_side(
    before, after, view, free_body, tmp_path: Path
) -> None:
    path = tmp_path / "over lay.mp4"
    told: list[float] = []
    write_overlay_video(path, view, before, after, free_body, progress=told.append)
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        assert file.streams.video[0].codec_context.name == "h264"
        assert float(file.streams.video[0].average_rate) == 30
    assert len(frames) == FRAMES
    assert told[-1] == 1.0
    half = frames[0].shape[1] // 2
    left, right = frames[0][:, : half - 3].astype(int), frames[0][:, half + 3 :].astype(int)
    body_left, body_right = left[..., 0] - left[..., 2], right[..., 0] - right[..., 2]
    assert body_left.max() > 60  # the body as it came is orange,
    assert body_right.max() < 60  # as it went blue
    assert [p.name for p in tmp_path.iterdir()] == ["over lay.mp4"]


def test_a_video_without_pictures_is_refused_in_words(before, view, free_body, tmp_path) -> None:
    import dataclasses

    blind = dataclasses.replace(view, frame_indices=np.full(FRAMES, -1))
    with pytest.raises(VideoError, match="no pictures"):
        write_overlay_video(tmp_path / "x.mp4", blind, before, before, free_body)


@pytest.mark.parametrize(("value", "top"), [(0.03, 0.05), (1, 1), (1.1, 2), (7, 10), (0, 1)])
def test_scales_end_at_round_numbers(value: float, top: float) -> None:
    assert nice_top(value) == pytest.approx(top)


def test_charts_are_well_formed_and_break_where_nothing_is_known() -> None:
    lines = [Line("a & b", [0, 1, np.nan, 3, 4], "after")]
    figure = ElementTree.fromstring(
        line_chart(lines, np.arange(5), caption="m < 1", label='"quoted"', reference=2.0)
    )
    (curve,) = [p for p in figure.iter("path") if "after" in p.attrib["class"]]
    assert curve.attrib["d"].count("M") == 2
    ElementTree.fromstring(sparkline("<j>", "1°", lines, 4.0))
    strip = ElementTree.fromstring(status_strip(["kept", "kept", "refined"], np.arange(7, 10)))
    assert [r.find("title").text for r in strip] == ["frames 7–8: kept", "frames 9–9: refined"]


def test_views_from_front_side_and_top_are_rotations_that_see_the_right_side() -> None:
    up, facing = np.array([0.0, 0, 1]), np.array([0.0, -1, 0.3])
    for direction in ("front", "side", "top"):
        rotation = look_from(direction, up, facing)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1)
    front, side = look_from("front", up, facing), look_from("side", up, facing)
    assert (front @ [0, -1, 0])[2] < 0  # the face is nearest in the front view
    assert (front @ [1, 0, 0])[0] > 0  # their left hand is on the right of the picture
    assert (side @ [0, -1, 0])[0] < 0  # from their left they look to the left of the picture
    assert (look_from("top", up, facing) @ [0, 0, 1])[2] < 0


def test_a_body_alone_lies_on_a_transparent_ground(free_body) -> None:
    rest = free_body.v_template.numpy()
    image = draw_alone(
        rest,
        free_body,
        look_from("front", np.array([0.0, 1, 0]), np.array([0.0, 0, 1])),
        middle=(rest.max(0) + rest.min(0)) / 2,
        span_m=2.2,
        size=96,
        vertex_colors=heat_colors(np.zeros(len(rest)), 1.0),
    )
    assert image.shape == (96, 96, 4)
    assert image[0, 0, 3] == 0
    covered = image[..., 3] > 200
    assert 0.05 < covered.mean() < 0.5
    assert (image[covered][:, 2] > image[covered][:, 0]).mean() > 0.95  # nothing is hot


def test_cut_outs_have_one_shape_and_stay_inside_the_picture() -> None:
    boxes = same_shape([(0, 0, 50, 100), (90, 20, 130, 60)], (140, 120))
    assert {(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes} == {(50, 100)}
    assert all(x0 >= 0 and y0 >= 0 and x1 <= 140 and y1 <= 120 for x0, y0, x1, y1 in boxes)


def test_a_body_out_of_view_is_shown_with_the_whole_picture(free_body) -> None:
    camera = Camera(INTRINSICS, WORLD_TO_CAMERA, SIZE)
    behind = free_body.v_template.numpy() + np.array([0, -50, 0], np.float32)
    assert crop_box([behind], camera) == (0, 0, 240, 320)
