# SPDX-License-Identifier: Apache-2.0
"""Sections of the report that are figures, curves and tables; each gives back a piece of HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from posefit_shared.rotations import matrix_to_rotvec, rotvec_to_matrix

from ..metrics import second_difference
from .charts import Line, line_chart, nice_top, sparkline, status_strip
from .data import PosedFrames, ReportData
from .residuals import PartResiduals

__all__ = [
    "angle_change",
    "card",
    "frame_status",
    "held_out",
    "joint_curves",
    "motion",
    "summary",
    "times",
]

Array = npt.NDArray[np.float64]

_STATUS_WORDS = {
    "refined": "refined",
    "kept": "kept as it came: the change did not explain the picture better",
    "no_person": "the person was not seen; carried across",
    "failed": "no solution; kept as it came",
}


def summary(
    data: ReportData, residuals: tuple[PartResiduals, PartResiduals] | None, change: Array
) -> str:
    """Cards with the figures that matter most.

    Args:
        data: of the report.
        residuals: before and after.
        change: (T, J) how far each joint turned, degrees.
    """
    cards = [_status_card(data)]
    if data.scores is not None:
        cards.append(_score_card(data.scores, "point_error_px", "Points, unseen cameras"))
        cards.append(_score_card(data.scores, "silhouette_iou", "Overlap, unseen cameras"))
    if residuals is not None:
        before, after = (entry.median for entry in residuals)
        cards.append(
            card(
                "Landmarks, this camera",
                _arrow(f"{before:.1f}", f"{after:.1f}", "px"),
                "median distance; the detector helped to refine",
            )
        )
    cards.append(
        card(
            "Turn of a joint, median",
            f"{np.median(change):.1f}<small>°</small>",
            f"95% of all turns under {np.quantile(change, 0.95):.0f}°",
        )
    )
    return f'<div class="cards">{"".join(cards)}</div>'


def _status_card(data: ReportData) -> str:
    status = data.after.status or ("refined",) * len(data.after)
    refined = sum(word == "refined" for word in status)
    return card(
        "Frames refined",
        f"{refined}<small> of {len(status)}</small>",
        "the others were kept as they came" if refined < len(status) else "every frame",
    )


def _score_card(scores: Mapping[str, Any], name: str, title: str) -> str:
    before, after = (scores[which]["all"].get(name) for which in ("initial", "refined"))
    if before is None or after is None:
        return card(title, "–", "nothing marked")
    unit, digits = ("px", 1) if name.endswith("px") else ("", 2)
    return card(
        title,
        _arrow(f"{before['mean']:.{digits}f}", f"{after['mean']:.{digits}f}", unit),
        f"95% interval {after['low']:.{digits}f} to {after['high']:.{digits}f}, "
        f"{after['blocks']} stretches of time",
    )


def card(name: str, figure: str, more: str) -> str:
    """A card with one figure, which is HTML; the rest is words."""
    return (
        f'<div class="card"><span class="name">{escape(name)}</span>'
        f'<span class="figure">{figure}</span><span class="more">{escape(more)}</span></div>'
    )


def _arrow(before: str, after: str, unit: str) -> str:
    tail = f"<small> {unit}</small>" if unit else ""
    return f'<span class="before">{before}</span><i>→</i><span class="after">{after}</span>{tail}'


def angle_change(data: ReportData) -> Array:
    """(T, J) degrees by which each joint turned."""
    first = rotvec_to_matrix(data.before.poses.astype(np.float64))
    second = rotvec_to_matrix(data.after.poses.astype(np.float64))
    turn = matrix_to_rotvec(np.swapaxes(first, -1, -2) @ second)
    return np.degrees(np.linalg.norm(turn, axis=-1))


def joint_curves(data: ReportData, change: Array) -> str:
    """Small curves of every joint: how far it turned, and how sure the result is of it."""
    top = nice_top(float(np.quantile(change, 0.995)))
    confidence = data.after.confidence
    parts = []
    for joint, name in enumerate(data.body.joint_names):
        if joint >= change.shape[1]:
            break
        lines = [Line("turn", change[:, joint], "after")]
        if confidence is not None:
            lines.insert(0, Line("confidence", confidence[:, joint] * top, "quiet"))
        label = f"{np.median(change[:, joint]):.1f}°"
        parts.append(sparkline(name.replace("_", " "), label, lines, top))
    keys = '<span class="key after">turn against the input</span>'
    if confidence is not None:
        keys += '<span class="key quiet">confidence, 0 to 1 over the full height</span>'
    return (
        f'<p class="note">Scale of every curve: 0 to {top:g}°. The figure is the median.</p>'
        f'<div class="keys">{keys}</div><div class="sparks">{"".join(parts)}</div>'
    )


def motion(data: ReportData, before: PosedFrames, after: PosedFrames) -> str:
    """Curves over time: how hard the joints accelerate, and how the pelvis moved in depth."""
    frames = np.asarray(data.after.frame_indices)
    times = data.after.times
    if times is None:
        times = frames / data.after.mocap_framerate
    parts = []
    if len(frames) >= 3 and (np.diff(times) > 0).all():
        lines = []
        for name, posed, style in (("before", before, "before"), ("after", after, "after")):
            length = np.linalg.norm(second_difference(posed.joints, times), axis=-1).mean(axis=1)
            lines.append(Line(name, np.pad(length, 1, constant_values=np.nan), style))
        parts.append("<h3>Acceleration of the joints, mean</h3>")
        label = "mean acceleration of the joints before and after"
        parts.append(line_chart(lines, frames, caption="m/s² by frame", label=label))
    moved = 100 * np.linalg.norm(after.joints[:, 0] - before.joints[:, 0], axis=-1)
    parts.append("<h3>How far the pelvis moved</h3>")
    line = [Line("pelvis, after against before", moved, "after")]
    parts.append(line_chart(line, frames, caption="cm by frame", label="distance the pelvis moved"))
    return "".join(parts)


def frame_status(data: ReportData) -> str:
    """A strip of all frames, and the misfit behind it."""
    frames = np.asarray(data.after.frame_indices)
    status = data.after.status or ("refined",) * len(data.after)
    keys = "".join(
        f'<span><i class="status-{word}"></i>{status.count(word)} {escape(words)}</span>'
        for word, words in _STATUS_WORDS.items()
        if word in status
    )
    parts = [status_strip(status, frames), f'<div class="keys">{keys}</div>']
    if data.misfit is not None and np.isfinite(data.misfit).any():
        line = [Line("misfit after ÷ before", np.asarray(data.misfit, np.float64), "after")]
        parts.append(
            line_chart(
                line,
                frames,
                caption="by frame; below 1 the result explains the picture better",
                label="misfit after by misfit before",
                reference=1.0,
            )
        )
    return "".join(parts)


def held_out(scores: Mapping[str, Any]) -> str:
    """Table of the scores in cameras that the refinement did not see."""
    names = [*scores.get("held_out", ()), "all"]
    rows = []
    for name in names:
        cells = []
        for measure, digits in (("point_error_px", 1), ("silhouette_iou", 3)):
            for which in ("initial", "refined"):
                entry = scores[which].get(name, {}).get(measure)
                cells.append("<td>–</td>" if entry is None else _score_cell(entry, digits))
        label = "all together" if name == "all" else name
        rows.append(f"<tr><td>{escape(label)}</td>{''.join(cells)}</tr>")
    head = (
        "<tr><th>camera</th><th>points before, px</th><th>after</th>"
        "<th>overlap before</th><th>after</th></tr>"
    )
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def _score_cell(entry: Mapping[str, Any], digits: int) -> str:
    return (
        f"<td>{entry['mean']:.{digits}f} <small>[{entry['low']:.{digits}f}, "
        f"{entry['high']:.{digits}f}]</small></td>"
    )


def times(data: ReportData) -> str:
    """Tables of where the time went."""
    parts = []
    frames = max(len(data.after), 1)
    if data.seconds:
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{spent:.2f} s</td>"
            f"<td>{1000 * spent / frames:.1f} ms</td></tr>"
            for name, spent in data.seconds.items()
        )
        head = "<tr><th>step</th><th>wall time</th><th>a frame</th></tr>"
        parts.append(f"<table>{head}{rows}</table>")
    if data.timings_ms:
        total = sum(data.timings_ms.values()) or 1.0
        rows = "".join(
            f"<tr><td>{escape(name.replace('_', ' '))}</td><td>{spent:.0f} ms</td>"
            f"<td>{spent / frames:.2f} ms</td><td>{100 * spent / total:.0f}%</td></tr>"
            for name, spent in sorted(data.timings_ms.items(), key=lambda item: -item[1])
        )
        head = "<tr><th>inside the refinement</th><th>time</th><th>a frame</th><th>share</th></tr>"
        parts.append(f"<table>{head}{rows}</table>")
    return "".join(parts)


def joint_table(residuals: Sequence[PartResiduals]) -> str:
    """Table of joints and their median distance to the landmarks."""
    before, after = (entry.by_joint for entry in residuals)
    rows = "".join(
        f"<tr><td>{escape(name.replace('_', ' '))}</td>"
        + "".join(
            f"<td>{value:.1f}</td>" if np.isfinite(value) else "<td>–</td>"
            for value in (before[name], after[name])
        )
        + "</tr>"
        for name in before
    )
    head = "<tr><th>joint</th><th>before, px</th><th>after, px</th></tr>"
    table = f'<div class="scroll"><table>{head}{rows}</table></div>'
    return f"<details><summary>Joint by joint</summary>{table}</details>"
