# SPDX-License-Identifier: Apache-2.0
"""The report as one HTML file: pictures, curves and style inside it, nothing fetched."""

from __future__ import annotations

import logging
import os
from html import escape
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from posefit_shared.rotations import rotvec_to_matrix

from . import sections
from .data import PosedFrames, Progress, ReportData, pose_frames
from .drawing import (
    AFTER_COLOR,
    BEFORE_COLOR,
    crop_box,
    data_uri,
    draw_alone,
    draw_over,
    heat_colors,
    look_from,
    same_shape,
)
from .residuals import PartResiduals, look_at, measure, surface_values

__all__ = ["page_html", "write_report"]

logger = logging.getLogger(__name__)

PICTURE_HEIGHT = 620
VIEW_SIZE = 300
HEAT_SIZE = 380
VIEW_FRAMES = 4
"""Frames that are shown from the front, the side and above."""

_SCRIPT = """
for (const box of document.querySelectorAll(".compare")) {
  const slider = box.querySelector("input");
  slider.addEventListener("input", () => box.style.setProperty("--at", slider.value + "%"));
}
"""


def write_report(
    directory: str | os.PathLike[str], data: ReportData, *, progress: Progress | None = None
) -> Path:
    """Write `index.html` with everything inside it.

    Args:
        directory: folder for the page; made if need be.
        data: what the page shows.
        progress: told the share that is done.

    Returns:
        The file.

    Raises:
        FootageError: a frame that is to be shown cannot be decoded.
    """
    told = progress or (lambda share: None)
    pictured = np.flatnonzero(data.view.frame_indices >= 0)
    shown = _spread(pictured, data.shown_frames)
    measured = _spread(pictured, data.measured_frames)
    everything = np.arange(len(data.after))
    before = pose_frames(data.before, data.body, everything)
    after = pose_frames(data.after, data.body, everything)
    told(0.15)
    residuals = _residuals(data, measured, before, after)
    told(0.4)
    change = sections.angle_change(data)
    parts = [_header(data), sections.summary(data, residuals, change)]
    if len(shown):
        parts.append(_comparisons(data, shown, before, after))
    told(0.7)
    parts.append(_around(data, _spread(everything, VIEW_FRAMES), before, after))
    told(0.85)
    parts.append(_heat(data, before, after, residuals))
    parts.append(_figures(data, before, after, change))
    parts.append(_limits(data))
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "index.html"
    partial = folder / "index.html.part"
    partial.write_text(page_html(data.title, "".join(parts)), "utf-8")
    partial.replace(file)
    told(1.0)
    return file


def _spread(frames: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """At most `count` of the frames, evenly spread, ends set in a little."""
    if len(frames) <= count:
        return frames
    places = np.linspace(0, len(frames) - 1, 2 * count + 1)[1::2]
    return frames[places.round().astype(int)]


def page_html(title: str, content: str) -> str:
    """A page that holds its style and script; `content` is HTML, `title` is words."""
    style = resources.files(__name__.rpartition(".")[0]).joinpath("style.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head>"
        f"<body><main>{content}</main><script>{_SCRIPT}</script></body></html>\n"
    )


def _header(data: ReportData) -> str:
    sequence, footage = data.after, data.view.footage
    words = (
        f"{footage.path.name}, {len(sequence)} frames at {sequence.mocap_framerate:g} per second, "
        f"{footage.size[0]}×{footage.size[1]} pixels. Body: {data.body.name}."
    )
    return f'<h1>{escape(data.title)}</h1><p class="lead">{escape(words)}</p>'


def _residuals(
    data: ReportData,
    frames: npt.NDArray[np.int64],
    before: PosedFrames,
    after: PosedFrames,
) -> tuple[PartResiduals, PartResiduals] | None:
    """Distances to landmarks that are looked for afresh; None where nobody is found."""
    if not len(frames):
        return None
    boxes = np.array(
        [
            crop_box([before.vertices[k], after.vertices[k]], data.view.camera(int(k)), margin=0.05)
            for k in frames
        ],
        np.float64,
    )
    keypoints = look_at(data.view, frames, boxes)
    if not keypoints.found.any():
        logger.info("the report found no landmarks to measure against")
        return None
    pair = [
        measure(
            PosedFrames(posed.vertices[frames], posed.joints[frames]),
            frames,
            keypoints,
            data.view,
            data.body,
        )
        for posed in (before, after)
    ]
    return pair[0], pair[1]


def _comparisons(
    data: ReportData, shown: npt.NDArray[np.int64], before: PosedFrames, after: PosedFrames
) -> str:
    """Frames with both bodies, to be compared with a slider."""
    boxes = []
    cuts = [
        crop_box([before.vertices[k], after.vertices[k]], data.view.camera(int(k))) for k in shown
    ]
    cuts = same_shape(cuts, data.view.footage.size)
    for frame, box in zip(shown, cuts, strict=True):
        camera, number = data.view.camera(int(frame)), int(data.view.frame_indices[frame])
        picture = data.view.footage.read(number)
        first, second = (
            data_uri(
                draw_over(
                    picture,
                    posed.vertices[frame],
                    camera,
                    data.body,
                    color=color,
                    box=box,
                    height=PICTURE_HEIGHT,
                )
            )
            for posed, color in ((before, BEFORE_COLOR), (after, AFTER_COLOR))
        )
        status = data.after.status[frame].replace("_", " ") if data.after.status else ""
        boxes.append(
            f'<div class="compare"><img src="{first}" alt="frame {number} before">'
            f'<div class="over"><img src="{second}" alt="frame {number} after"></div>'
            f'<input type="range" min="0" max="100" value="50" aria-label="compare frame {number}">'
            '<div class="bar"></div><span class="tag l before">before</span>'
            '<span class="tag r after">after</span>'
            f'<span class="tag t">frame {number}{" · " + status if status else ""}</span></div>'
        )
    return (
        "<h2>Over the footage</h2><p class='note'>Drag across a picture: the body as it came in on "
        f'the left, as it went out on the right.</p><div class="compares">{"".join(boxes)}</div>'
    )


def _around(
    data: ReportData, frames: npt.NDArray[np.int64], before: PosedFrames, after: PosedFrames
) -> str:
    """Both bodies from the front, the side and above."""
    numbers = np.asarray(data.after.frame_indices)
    cells = ['<span class="head corner"></span>']
    cells += [f'<span class="head">{name}</span>' for name in ("front", "side", "top")]
    for frame in frames:
        cells.append(f'<span class="row">frame {int(numbers[frame])}</span>')
        joints = np.concatenate([before.joints[frame], after.joints[frame]])
        middle = (joints.max(axis=0) + joints.min(axis=0)) / 2
        span = 1.04 * float((joints.max(axis=0) - joints.min(axis=0)).max()) + 0.24
        facing = rotvec_to_matrix(after_root(data, int(frame))) @ np.array([0.0, 0.0, 1.0])
        for direction in ("front", "side", "top"):
            rotation = look_from(direction, np.array([0.0, 0.0, 1.0]), facing)
            images = [
                data_uri(
                    draw_alone(
                        posed.vertices[frame],
                        data.body,
                        rotation,
                        middle=middle,
                        span_m=span,
                        size=VIEW_SIZE,
                        color=color,
                    )
                )
                for posed, color in ((before, BEFORE_COLOR), (after, AFTER_COLOR))
            ]
            cells.append(
                f'<div class="stack"><img class="under" src="{images[0]}" '
                f'alt="before, {direction}"><img src="{images[1]}" alt="after, {direction}"></div>'
            )
    return (
        "<h2>In space</h2><p class='note'><span class='before'>Before</span> behind, "
        "<span class='after'>after</span> in front. Where they part in depth, one picture can "
        f'hardly tell which is right.</p><div class="views">{"".join(cells)}</div>'
    )


def after_root(data: ReportData, frame: int) -> npt.NDArray[np.float64]:
    """(3,) rotation vector of the refined root."""
    return np.asarray(data.after.poses[frame, 0], np.float64)


def _heat(
    data: ReportData,
    before: PosedFrames,
    after: PosedFrames,
    residuals: tuple[PartResiduals, PartResiduals] | None,
) -> str:
    """Bodies coloured by how far they are from the landmarks, and by how far they moved."""
    parts = []
    rest = data.body.v_template.cpu().numpy()
    if residuals is not None:
        values = [surface_values(entry, data.body) for entry in residuals]
        top = float(np.quantile(values[0], 0.98))
        parts.append(
            "<h3>Distance to the detector's landmarks in this camera</h3>"
            + _heat_row(data, rest, dict(zip(("before", "after"), values, strict=True)), top, "px")
        )
        parts.append(sections.joint_table(residuals))
    moved = np.linalg.norm(
        (after.vertices - after.joints[:, :1]) - (before.vertices - before.joints[:, :1]), axis=-1
    ).mean(axis=0)
    top = 1000 * float(np.quantile(moved, 0.98))
    parts.append(
        "<h3>How far the surface moved against the pelvis, mean</h3>"
        + _heat_row(data, rest, {"movement": 1000 * moved}, top, "mm")
    )
    return "<h2>Residuals on the body</h2>" + "".join(parts)


def _heat_row(
    data: ReportData,
    rest: npt.NDArray[np.float32],
    columns: dict[str, npt.NDArray[np.floating]],
    top: float,
    unit: str,
) -> str:
    middle = (rest.max(axis=0) + rest.min(axis=0)) / 2
    span = 1.08 * float((rest.max(axis=0) - rest.min(axis=0)).max())
    figures = []
    for name, values in columns.items():
        colors = heat_colors(values, top)
        for direction, facing in (("front", 1.0), ("back", -1.0)):
            rotation = look_from("front", np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, facing]))
            image = draw_alone(
                rest,
                data.body,
                rotation,
                middle=middle,
                span_m=span,
                size=HEAT_SIZE,
                vertex_colors=colors,
            )
            figures.append(
                f'<figure><img src="{data_uri(image)}" alt="{name}, {direction}">'
                f'<div class="caption">{escape(name)}, {direction}</div></figure>'
            )
    scale = f'<div class="scale">0<i></i>{top:.0f} {unit} and more</div>'
    return f'<div class="heats">{"".join(figures)}</div>{scale}'


def _figures(
    data: ReportData,
    before: PosedFrames,
    after: PosedFrames,
    change: npt.NDArray[np.float64],
) -> str:
    parts = ["<h2>Frame by frame</h2>", sections.frame_status(data)]
    if data.scores is not None:
        parts += [
            "<h2>Cameras that the refinement did not see</h2><p class='note'>Distance of marked "
            "points, and overlap of silhouettes (1 is perfect), with 95% intervals by block "
            "bootstrap.</p>",
            sections.held_out(data.scores),
        ]
    parts += ["<h2>Motion</h2>", sections.motion(data, before, after)]
    parts += ["<h2>Joint by joint</h2>", sections.joint_curves(data, change)]
    if data.seconds or data.timings_ms:
        parts += ["<h2>Time</h2>", sections.times(data)]
    return "".join(parts)


def _limits(data: ReportData) -> str:
    """What these figures do not say."""
    items = [
        "One camera does not see depth. An overlay can be right and the pose in space wrong; look "
        "at the side and top views, and at cameras that had no part in it.",
        "Distances to landmarks compare the body with a detector that also helped to refine it. "
        "They show that the refinement did what it was told, not that it is true.",
        "Hidden limbs are guesses from the pose prior and from their neighbours in time. Joints "
        "with low confidence are such guesses.",
        "“Kept” means that a frame's change did not explain its picture better, so it came back "
        "as it was. It does not mean that the input was right.",
    ]
    if data.scores is not None:
        counts = data.scores["refined"]["all"].get("point_error_px") or {"blocks": 0}
        items.insert(
            0,
            f"The scores rest on {counts['blocks']} stretches of one short clip of one person. "
            "They show that the path works; they say nothing about accuracy on other footage.",
        )
        items.append(
            "Marks were made by eye, to 3 to 6 pixels; below that, differences mean nothing. The "
            "silhouettes started from the detector's mask."
        )
    if data.after.world != "gravity":
        items.append(
            "The camera was not known: a usual lens was assumed, and that it stood level. "
            "Distances and sizes in metres follow from that assumption."
        )
    entries = "".join(f"<li>{escape(item)}</li>" for item in items)
    return (
        f'<h2>What this does not show</h2><ul class="limits">{entries}</ul>'
        "<footer>Written by posefit. The page holds everything it shows and fetches nothing."
        "</footer>"
    )
