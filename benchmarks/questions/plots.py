# SPDX-License-Identifier: Apache-2.0
"""Four pictures of the answers: start and result, focal length, rounds, twist by texture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine

from questions.personal import PAINTED, PERFECT
from questions.rendered import ERRORS_MM, FOCAL_FACTORS, ROUNDS
from questions.rows import Figure

__all__ = ["draw_all"]

Figures = dict[str, dict[str, Figure | None]]

INK, GREY, BLUE, ORANGE, GREEN = "#22262b", "#9aa1a9", "#2f6fb0", "#d9772b", "#3f8f5f"
ROOM = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)
RATIOS = (
    ("PVE after / before", ORANGE, "surface (PVE)"),
    ("PA-MPJPE", BLUE, "pose (PA-MPJPE)"),
    ("2D vertices", GREEN, "in the picture"),
)
"""Column, colour and name of the errors that are drawn against each other."""
STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e8eb",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.dpi": 150,
}


def draw_all(tables: dict[str, Figures], folder: Path) -> None:
    """Draws what the tables allow.

    Args:
        tables: figures by table, row and column.
        folder: where the PNG files go.
    """
    drawings: dict[str, tuple[str, Callable[[Axes, Figures], None]]] = {
        "questions_start.png": ("start", _start),
        "questions_focal.png": ("focal", _focal),
        "questions_rounds.png": ("rounds", _rounds),
        "questions_texture.png": ("twist", _twist),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (table, draw) in drawings.items():
        if table not in tables:
            continue
        with pyplot.rc_context(STYLE):
            figure, axes = pyplot.subplots(figsize=(5.6, 3.4), layout=ROOM)
            draw(axes, tables[table])
            figure.savefig(folder / name)
            pyplot.close(figure)


def _line(
    axes: Axes, x: Sequence[float], figures: Sequence[Figure | None], color: str, aside: float = 0.0
) -> None:
    """A line with each point's interval as a thin bar, moved aside from those of other lines."""
    known = [(a + aside, one) for a, one in zip(x, figures, strict=True) if one is not None]
    at, means = [a for a, _ in known], [one.mean for _, one in known]
    axes.vlines(at, [one.low for _, one in known], [one.high for _, one in known],
                color=color, alpha=0.45, linewidth=1.6)  # fmt: skip
    axes.plot(at, means, "o-", color=color, markersize=4.5, linewidth=1.6)


def _ratio_lines(axes: Axes, x: Sequence[float], rows: Figures, labels: Sequence[str]) -> None:
    """Errors after by before in 3D and in the picture, each named at its right end."""
    step = 0.014 * (max(x) - min(x))
    ends: list[tuple[float, str, str]] = []
    for k, (title, color, name) in enumerate(RATIOS):
        figures = _column(rows, labels, title)
        _line(axes, x, figures, color, aside=(k - 1) * step)
        known = [one.mean for one in figures if one is not None]
        if known:
            ends.append((known[-1], color, name))
    axes.set_ylim(0, None)
    least = 0.065 * axes.get_ylim()[1]
    place = -least
    for mean, color, name in sorted(ends):
        place = max(mean, place + least)
        axes.annotate(name, (max(x) + step, place), xytext=(7, 0), textcoords="offset points",
                      color=color, va="center")  # fmt: skip
    axes.set_ylabel("error after / before")


def _column(rows: Figures, labels: Sequence[str], title: str) -> list[Figure | None]:
    return [rows.get(label, {}).get(title) for label in labels]


def _start(axes: Axes, rows: Figures) -> None:
    labels = [f"{error} mm" for error in ERRORS_MM]
    before = _column(rows, labels, "MPJPE before, mm")
    x = [one.mean if one else error for one, error in zip(before, ERRORS_MM, strict=True)]
    top = max(x) * 1.05
    axes.plot([0, top], [0, top], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate("no change", (0.62 * top, 0.62 * top), xytext=(0, 5), rotation=33,
                  textcoords="offset points", color=GREY, ha="center")  # fmt: skip
    _line(axes, x, _column(rows, labels, "MPJPE after, mm"), BLUE)
    axes.set(xlim=(-2, top), ylim=(0, top), xlabel="joint error of the start, mm",
             ylabel="joint error after two rounds, mm")  # fmt: skip


def _focal(axes: Axes, rows: Figures) -> None:
    _ratio_lines(axes, FOCAL_FACTORS, rows, [f"{factor:g} ×" for factor in FOCAL_FACTORS])
    axes.set_xlabel("assumed focal length / true focal length")
    axes.set_xticks(FOCAL_FACTORS, [f"{factor:g}" for factor in FOCAL_FACTORS])


def _rounds(axes: Axes, rows: Figures) -> None:
    count = list(range(ROUNDS + 1))
    _ratio_lines(axes, count, rows, [str(k) for k in count])
    axes.set_xlabel("rounds of render, predict, solve")
    axes.set_xticks(count)


def _twist(axes: Axes, rows: Figures) -> None:
    names = {
        "start": ("start", GREY),
        "without texture": ("without texture", ORANGE),
        PAINTED["wrong"]: ("texture painted\nunder the starts", BLUE),
        PAINTED["refined"]: ("… under refined\nestimates", BLUE),
        PAINTED["right"]: ("… under the truth", BLUE),
        PERFECT: ("if the network\nwere perfect", GREEN),
    }
    start = rows.get("without texture", {}).get("turned segments: start, °")
    bars = {label: rows.get(label, {}).get("after, °") for label in names} | {"start": start}
    place = np.arange(len(names))[::-1]
    for y, (label, (name, color)) in zip(place, names.items(), strict=True):
        one = bars[label]
        if one is None:
            continue
        axes.barh(y, one.mean, height=0.62, color=color, alpha=0.85)
        axes.plot([one.low, one.high], [y, y], color=INK, linewidth=1.4, solid_capstyle="butt")
        axes.annotate(f"{one.mean:.0f}°", (one.high, y), xytext=(6, 0), va="center",
                      textcoords="offset points")  # fmt: skip
        names[label] = (name, color)
    axes.set_yticks(place, [name for name, _ in names.values()])
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("error of turned segments about their own axis")
    axes.xaxis.set_major_formatter("{x:.0f}°")
    axes.margins(x=0.12)
