# SPDX-License-Identifier: Apache-2.0
"""The page of a batch, one HTML file that fetches nothing: what failed, and where to look first."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

from ..report.charts import bar_chart
from ..report.page import page_html
from ..report.sections import card
from ..whole_files import replace_file
from .gathering import BatchFigures, ShownFrame
from .summary import CHANGE_EDGES_MM, CONFIDENCE_EDGES, JobSummary

__all__ = ["write_page"]

_FAILED_SHOWN = 200
_LARGEST_PICTURE = 400_000


def write_page(folder: Path, figures: BatchFigures, title: str) -> Path:
    """Write `report.html`.

    Args:
        folder: the batch's output, in which the jobs' pictures are.
        figures: what the batch came to.
        title: heading of the page.

    Returns:
        The file.

    Raises:
        OSError: it cannot be written.
    """
    parts = [_header(figures, title), _cards(figures)]
    if figures.failed:
        parts.append(_failed(figures))
    if figures.worst:
        parts.append(_worst(folder, figures))
    if figures.frames:
        parts.append(_distributions(figures))
        parts.append(_jobs(figures))
    parts.append(_limits())
    file, page = folder / "report.html", page_html(title, "".join(parts))
    replace_file(file, lambda path: path.write_text(page, "utf-8", "backslashreplace"))
    return file


def _header(figures: BatchFigures, title: str) -> str:
    left = figures.jobs - figures.done - len(figures.failed)
    words = f"{figures.jobs} jobs, {figures.frames} frames."
    if left:
        words += f" {left} jobs are not done yet."
    return f'<h1>{escape(title)}</h1><p class="lead">{escape(words)}</p>'


def _cards(figures: BatchFigures) -> str:
    failed = len(figures.failed)
    refined = figures.status.get("refined", 0)
    share = 100 * refined / max(figures.frames, 1)
    cards = [
        card(
            "Jobs done",
            f"{figures.done}<small> of {figures.jobs}</small>",
            f"{failed} failed" if failed else "none failed",
        ),
        card("Frames refined", f"{share:.0f}<small>%</small>", f"{refined} of {figures.frames}"),
        card(
            "Half of the frames moved less than",
            _median(figures.change_mm, CHANGE_EDGES_MM, " mm"),
            "mean over the joints",
        ),
        card(
            "Frames to look at",
            str(sum(figures.confidence[:5])),
            "confidence of a body part below 0.5",
        ),
    ]
    if figures.frames:
        rate = f"{figures.seconds / figures.frames:.2f}<small> s a frame</small>"
        cards.append(card("Time", rate, f"{_duration(figures.seconds)} of all jobs together"))
    return f'<div class="cards">{"".join(cards)}</div>'


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _median(counts: list[int], edges: tuple[float, ...], unit: str) -> str:
    """The upper edge of the bin in which the median lies."""
    half, seen = sum(counts) / 2, 0
    for k, count in enumerate(counts):
        seen += count
        if seen >= half and seen:
            if k + 1 == len(edges):
                return "–"
            return f"{edges[k + 1]:g}<small>{unit}</small>"
    return "–"


def _failed(figures: BatchFigures) -> str:
    rows = "".join(
        f'<tr><td class="name">{escape(name)}</td><td class="words">{escape(words)}</td></tr>'
        for name, words in list(figures.failed.items())[:_FAILED_SHOWN]
    )
    more = len(figures.failed) - _FAILED_SHOWN
    note = f"<p class='note'>{more} more are in summary.csv.</p>" if more > 0 else ""
    return (
        f"<h2>Failed: {len(figures.failed)}</h2><p class='note'>Mend what the sentences say and "
        "run the same command again: only these are done again.</p>"
        f'<div class="scroll"><table><tr><th>job</th><th style="text-align:left">why</th></tr>'
        f"{rows}</table></div>{note}"
    )


def _worst(folder: Path, figures: BatchFigures) -> str:
    boxes = "".join(_compare(folder, shown) for shown in figures.worst)
    return (
        "<h2>Look at these first</h2><p class='note'>The least sure frames of all jobs, the worst "
        "first. Drag across a picture: <span class='before'>as it came in</span> on the left, "
        "<span class='after'>as it went out</span> on the right. Named is the body part that the "
        "result is least sure of, with its confidence.</p>"
        f'<div class="compares">{boxes}</div>'
    )


def _compare(folder: Path, shown: ShownFrame) -> str:
    frame = shown.worst
    first, second = (_picture(folder / shown.job / name) for name in (frame.before, frame.after))
    if not first or not second:
        return ""
    name = escape(f"{shown.job}, frame {frame.frame}")
    return (
        f'<div class="compare even"><img src="{first}" alt="{name} before">'
        f'<div class="over"><img src="{second}" alt="{name} after"></div>'
        f'<input type="range" min="0" max="100" value="50" aria-label="compare {name}">'
        '<div class="bar"></div>'
        f'<span class="tag l">{escape(frame.why)} · {frame.confidence:.2f}</span>'
        f'<span class="tag t">{name}</span></div>'
    )


def _picture(path: Path) -> str:
    """A picture as the text of an `src` attribute; empty if it is not there any more."""
    try:
        data = path.read_bytes()
    except OSError:
        return ""
    if not data.startswith(b"\xff\xd8") or len(data) > _LARGEST_PICTURE:
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def _distributions(figures: BatchFigures) -> str:
    change = bar_chart(
        figures.change_mm, _ranges(CHANGE_EDGES_MM, ""),
        label="frames by how far their joints moved",
        caption="how far the joints of a frame moved, mm, mean over the joints",
    )  # fmt: skip
    sure = bar_chart(
        figures.confidence, _ranges(CONFIDENCE_EDGES, "1"),
        label="frames by confidence",
        caption="confidence of a frame's least sure body part, 0 to 1",
    )  # fmt: skip
    return f'<h2>All frames</h2><div class="pair">{change}{sure}</div>'


def _ranges(edges: tuple[float, ...], end: str) -> list[str]:
    """Labels of bins; the last one is open unless it has an end."""
    upper = [*(f"{edge:g}" for edge in edges[1:]), end]
    return [
        f"{low:g}–{high}" if high else f">{low:g}" for low, high in zip(edges, upper, strict=True)
    ]


def _jobs(figures: BatchFigures) -> str:
    rows = "".join(_job_row(summary) for summary in figures.shown_jobs)
    head = (
        "<tr><th>job</th><th>frames</th><th>refined</th><th>kept</th><th>not seen</th>"
        "<th>moved, median mm</th><th>confidence, median</th><th>time</th></tr>"
    )
    shown = len(figures.shown_jobs)
    note = "the least sure first"
    if shown < figures.done:
        note += f"; {shown} of {figures.done} are shown, all are in summary.csv"
    return (
        f"<h2>Jobs</h2><p class='note'>{note[0].upper()}{note[1:]}.</p>"
        f'<div class="scroll"><table>{head}{rows}</table></div>'
    )


def _job_row(summary: JobSummary) -> str:
    status = summary.status
    unseen = status.get("no_person", 0) + status.get("failed", 0)
    sure = "–" if summary.median_confidence is None else f"{summary.median_confidence:.2f}"
    link = escape(summary.name)
    return (
        f'<tr><td class="name">{link}</td><td>{summary.frames}</td><td>{summary.refined}</td>'
        f"<td>{status.get('kept', 0)}</td><td>{unseen}</td>"
        f"<td>{summary.median_change_mm:.1f}</td><td>{sure}</td>"
        f"<td>{_duration(summary.seconds)}</td></tr>"
    )


def _limits() -> str:
    items = (
        "Confidence says how well the evidence holds a pose, not that it is right. A frame with "
        "high confidence can be wrong where one camera does not see depth.",
        "“Kept” means that a frame's change did not explain its picture better, so it came back as "
        "it was. It does not mean that the input was right.",
        "Pictures are of each job's first camera.",
    )
    entries = "".join(f"<li>{escape(item)}</li>" for item in items)
    return (
        f'<h2>What this does not show</h2><ul class="limits">{entries}</ul>'
        "<footer>Written by posefit. The page holds everything it shows and fetches nothing."
        "</footer>"
    )
