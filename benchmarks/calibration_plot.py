# SPDX-License-Identifier: Apache-2.0
"""The picture of `calibration.py`'s figures: `python benchmarks/calibration_plot.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = ("#efa22f", "#dc5f3b", "#a52f63", "#45206e")
"""Of the starts, from good to bad: darker is worse."""
IDEAL = "#9a9a9a"
STYLE = {
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.labelcolor": "#333333",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
}


def draw(results: dict[str, Any], path: Path) -> None:
    """Draws scale, intervals and visibility side by side.

    Args:
        results: figures by level of `calibration.measured`; "all" is left out beside others.
        path: PNG to write.
    """
    levels = {name: one for name, one in results.items() if name != "all" or len(results) == 1}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12.6, 4.15), layout="constrained", facecolor="white")
        scale, inside, visibility = figure.subplots(1, 3)
        _draw_scale(scale, levels)
        _draw_coverage(inside, levels)
        _draw_visibility(visibility, levels)
        figure.get_layout_engine().set(w_pad=0.12)  # pyright: ignore
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130)


def _draw_scale(axes: Axes, levels: dict[str, Any]) -> None:
    """Mean error that is said and found, by tenths of the said scale."""
    values = []
    for color, (name, one) in zip(COLORS, levels.items(), strict=False):
        said = [row["said_mean_px"] for row in one["scale_groups"]]
        found = [row["found_mean_px"] for row in one["scale_groups"]]
        values += said + found
        axes.plot(said, found, "o-", color=color, label=f"starts “{name}”", ms=4.5, lw=1.6)
    span = [0.8 * min(values), 1.25 * max(values)]
    axes.plot(span, span, color=IDEAL, lw=1, ls=(0, (4, 3)), zorder=0)
    axes.set(xscale="log", yscale="log", xlim=span, ylim=span, box_aspect=1)
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if span[0] <= t <= span[1]]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(mpl.ticker.FixedLocator(ticks))
        axis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
        axis.set_minor_locator(mpl.ticker.NullLocator())
    axes.set(xlabel="error that the network says, px", ylabel="error found, px")
    axes.set_title("Scale: error said and found")
    axes.text(0.97, 0.04, "below the line: too careful\nabove: too sure", color="#777777",
              transform=axes.transAxes, ha="right", fontsize=8.5)  # fmt: skip
    axes.legend(frameon=False, loc="upper left", fontsize=9)


def _draw_coverage(axes: Axes, levels: dict[str, Any]) -> None:
    """Share of errors inside the intervals that are said to hold 50, 80 and 95%."""
    axes.plot([0.4, 1], [0.4, 1], color=IDEAL, lw=1, ls=(0, (4, 3)), zorder=0)
    lowest = 0.4
    for shift, color, one in zip((-0.008, 0.008, 0.0, 0.016), COLORS, levels.values(),
                                 strict=False):  # fmt: skip
        wanted = [float(name) + shift for name in one["coverage"]]
        entries = list(one["coverage"].values())
        middle = [entry["value"] for entry in entries]
        reach = [
            [e["value"] - e["low"] for e in entries],
            [e["high"] - e["value"] for e in entries],
        ]
        reach = [[max(0.0, v) for v in row] for row in reach]
        lowest = min(lowest, *(e["low"] for e in entries))
        axes.errorbar(wanted, middle, yerr=reach, fmt="o-", color=color, ms=4.5, lw=1.6, capsize=3)
    axes.set(xlim=(0.42, 1.0), ylim=(lowest - 0.03, 1.0), xticks=[0.5, 0.8, 0.95])
    axes.set_yticks([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.95][int(lowest > 0.3) * 2 :])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(mpl.ticker.PercentFormatter(1.0, decimals=0))
    axes.set(xlabel="interval said to hold", ylabel="errors inside it", box_aspect=1)
    axes.text(0.97, 0.04, "below the line: too sure", color="#777777", transform=axes.transAxes,
              ha="right", fontsize=8.5)  # fmt: skip
    axes.set_title("Intervals: share of errors inside")


def _draw_visibility(axes: Axes, levels: dict[str, Any]) -> None:
    """Chance that a point can be seen, said and found; bars: how many pixels say so."""
    axes.plot([0, 1], [0, 1], color=IDEAL, lw=1, ls=(0, (4, 3)), zorder=0)
    width = 0.08 / len(levels)
    for index, (color, one) in enumerate(zip(COLORS, levels.values(), strict=False)):
        rows = one["visibility_groups"]
        count = sum(row["pixels"] for row in rows)
        centres = [(min(int(row["said"] * 10), 9) + 0.5) / 10 for row in rows]
        places = [x + (index - (len(levels) - 1) / 2) * width for x in centres]
        heights = [0.25 * row["pixels"] / count for row in rows]
        axes.bar(places, heights, width, color=color, alpha=0.4, zorder=0, linewidth=0)
        ece = one["visibility_ece"]["value"]
        axes.plot([r["said"] for r in rows], [r["found"] for r in rows], "o-", color=color, ms=4.5,
                  lw=1.6, label=f"ECE {ece:.3f}")  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1), box_aspect=1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(mpl.ticker.MultipleLocator(0.25))
        axis.set_major_formatter(mpl.ticker.PercentFormatter(1.0, decimals=0))
    axes.set(xlabel="chance that the network says", ylabel="points that can be seen")
    axes.set_title("Visibility (bars: pixels)")
    axes.legend(frameon=False, loc="upper left", fontsize=9)


if __name__ == "__main__":
    page = json.loads(Path("benchmarks/results/calibration.json").read_text())
    draw(page["levels"], Path("docs/images/calibration.png"))
