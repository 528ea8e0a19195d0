# SPDX-License-Identifier: Apache-2.0
"""Curves as inline SVG: no script, no library, colours from the page's own style."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import numpy.typing as npt

__all__ = ["Line", "bar_chart", "line_chart", "nice_top", "sparkline", "status_strip"]

Array = npt.NDArray[np.float64]


class Line:
    """One curve: its name, its values (NaN breaks it) and the CSS class that colours it."""

    def __init__(self, name: str, values: npt.ArrayLike, style: str) -> None:
        self.name = name
        self.values = np.asarray(values, np.float64)
        self.style = style


def nice_top(value: float) -> float:
    """The next round number at or above a value: 1, 2 or 5 times a power of ten."""
    if not np.isfinite(value) or value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    for factor in (1, 2, 5, 10):
        if value <= factor * power * (1 + 1e-9):
            return float(factor * power)
    return float(10 * power)


def path_of(values: Array, width: float, height: float, top: float, left: float = 0.0) -> str:
    """SVG path data of a curve in a box whose lower edge is 0 and upper edge `top`."""
    if len(values) == 0:
        return ""
    x = left + np.linspace(0, width, max(len(values), 2))[: len(values)]
    y = height - np.clip(values / top, -0.02, 1.02) * height
    words, pen_is_up = [], True
    for at, level, value in zip(x, y, values, strict=True):
        if not np.isfinite(value):
            pen_is_up = True
            continue
        words.append(f"{'M' if pen_is_up else 'L'}{at:.1f} {level:.1f}")
        pen_is_up = False
    return "".join(words)


def line_chart(
    lines: Sequence[Line],
    frames: npt.NDArray[np.int64],
    *,
    caption: str,
    label: str,
    width: int = 720,
    height: int = 180,
    reference: float | None = None,
) -> str:
    """Curves over frames with a scale on the left and a legend.

    Args:
        lines: curves of the same frames.
        frames: (T,) frame numbers, for the lower axis.
        caption: below the curves: what the values are, and their unit.
        label: what is drawn, for people who hear the page.
        width, height: of the drawing, pixels.
        reference: a level to mark, if any.
    """
    finite = [line.values[np.isfinite(line.values)] for line in lines]
    most = max([float(values.max()) for values in finite if len(values)] + [reference or 0.0])
    top = nice_top(most)
    left, bottom = 52, 24
    plot_width, plot_height = width - left - 8, height - bottom - 8
    parts = [
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label)}">',
        '<g transform="translate(0 8)">',
    ]
    for share in (0.0, 0.5, 1.0):
        y = plot_height * (1 - share)
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{width - 8}"/>')
        parts.append(
            f'<text class="tick" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">'
            f"{top * share:g}</text>"
        )
    if reference is not None:
        y = plot_height * (1 - reference / top)
        parts.append(f'<path class="reference" d="M{left} {y:.1f}H{width - 8}"/>')
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        frame = frames[round(share * (len(frames) - 1))]
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        parts.append(
            f'<text class="tick" x="{left + share * plot_width:.1f}" y="{plot_height + 18}" '
            f'text-anchor="{anchor}">{frame}</text>'
        )
    for line in lines:
        data = path_of(line.values, plot_width, plot_height, top, left)
        parts.append(f'<path class="line {line.style}" d="{data}"/>')
    parts.append("</g></svg>")
    keys = "".join(f'<span class="key {line.style}">{escape(line.name)}</span>' for line in lines)
    words = f"<figcaption>{keys}<span>{escape(caption)}</span></figcaption>"
    return f"<figure>{''.join(parts)}{words}</figure>"


def bar_chart(
    counts: Sequence[int],
    labels: Sequence[str],
    *,
    caption: str,
    label: str,
    style: str = "after",
    width: int = 540,
    height: int = 190,
) -> str:
    """Counts as bars, each with its label below and its share above.

    Args:
        counts: one for each bar.
        labels: what each bar counts.
        caption: below the bars.
        label: what is drawn, for people who hear the page.
        style: CSS class that colours the bars.
        width, height: of the drawing, pixels.
    """
    total, most = max(sum(counts), 1), max([*counts, 1])
    step, top, bottom = (width - 16) / max(len(counts), 1), 24, 24
    parts = [
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label)}">'
    ]
    for k, (count, name) in enumerate(zip(counts, labels, strict=True)):
        tall = (height - top - bottom) * count / most
        x, y = 8 + k * step, height - bottom - tall
        share = 100 * count / total
        words = f"{share:.0f}%" if share >= 0.5 else "<1%" if count else ""
        parts.append(
            f'<rect class="bar {style}" x="{x + 2:.1f}" y="{y:.1f}" width="{step - 4:.1f}" '
            f'height="{max(tall, 0.5):.1f}" rx="3"><title>{escape(name)}: {count}</title></rect>'
            f'<text class="tick" x="{x + step / 2:.1f}" y="{y - 6:.1f}" text-anchor="middle">'
            f"{escape(words)}</text>"
            f'<text class="tick" x="{x + step / 2:.1f}" y="{height - 6}" text-anchor="middle">'
            f"{escape(name)}</text>"
        )
    return f"<figure>{''.join(parts)}</svg><figcaption>{escape(caption)}</figcaption></figure>"


def sparkline(name: str, value: str, lines: Sequence[Line], top: float) -> str:
    """A small curve with its name and one figure.

    Args:
        name: what it is.
        value: the figure beside it.
        lines: curves on one scale.
        top: upper end of the scale.
    """
    paths = "".join(
        f'<path class="line {line.style}" d="{path_of(line.values, 156, 36, top)}"/>'
        for line in lines
    )
    return (
        f'<div class="spark"><div><b>{escape(name)}</b><span>{escape(value)}</span></div>'
        f'<svg viewBox="0 -2 156 40" role="img" aria-label="{escape(name)} {escape(value)}">'
        f'<path class="grid" d="M0 36H156"/>{paths}</svg></div>'
    )


def status_strip(status: Sequence[str], frames: npt.NDArray[np.int64], height: int = 34) -> str:
    """One bar a frame, coloured by what became of it."""
    count = len(status)
    width = 1000.0 / count
    bars, start = [], 0
    for k in range(1, count + 1):
        if k < count and status[k] == status[start]:
            continue
        words = f"frames {frames[start]}–{frames[k - 1]}: {status[start].replace('_', ' ')}"
        bars.append(
            f'<rect class="status-{escape(status[start])}" x="{start * width:.2f}" y="0" '
            f'width="{(k - start) * width:.2f}" height="{height}"><title>{words}</title></rect>'
        )
        start = k
    return (
        f'<svg class="strip" viewBox="0 0 1000 {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="what became of each frame">{"".join(bars)}</svg>'
    )
