# SPDX-License-Identifier: Apache-2.0
"""A data set evaluation as files: JSON, a markdown table, a plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .scoring import METRICS

__all__ = ["markdown_table", "save_plot", "write_results"]

_TITLES = {
    "mpjpe_mm": "MPJPE mm",
    "pa_mpjpe_mm": "PA-MPJPE mm",
    "pve_mm": "PVE mm",
    "accel_mm_per_s2": "Accel m/s²",
    "w_mpjpe_mm": "W-MPJPE mm",
    "wa_mpjpe_mm": "WA-MPJPE mm",
    "rte_percent": "RTE %",
}
_UNITS = {"accel_mm_per_s2": 0.001}
"""What a metric is multiplied by for tables, where papers use another unit."""


def markdown_table(result: dict[str, Any]) -> str:
    """One row a prediction, in the order given; means over frames.

    Args:
        result: from `evaluate_dataset`.
    """
    predictions = result["predictions"]
    shown = _shown(result)
    lines = [
        f"{result['dataset']}, {result['split']}, protocol {result['protocol']} "
        f"({result['source']}).",
        "",
        "| | " + " | ".join(_TITLES[metric] for metric in shown) + " | frames | lacking |",
        "|---|" + "---:|" * (len(shown) + 2),
    ]
    for name, entry in predictions.items():
        means = [
            f"{_value(entry, metric, 'mean'):.1f}" if metric in entry["metrics"] else "–"
            for metric in shown
        ]
        counts = [str(entry["frames"]), str(entry["frames_missing"])]
        lines.append(f"| {name} | " + " | ".join(means + counts) + " |")
    if any(entry["frames_missing"] for entry in predictions.values()):
        lines += ["", "Rows that lack frames are not comparable with those that lack none."]
    lines += [f"\n{note}" for note in result["notes"]]
    return "\n".join(lines) + "\n"


def save_plot(result: dict[str, Any], path: Path) -> None:
    """Bars of each metric's mean, with a mark at the 95th percentile, a panel a metric.

    Args:
        result: from `evaluate_dataset`.
        path: picture file to write.
    """
    from matplotlib.figure import Figure

    names, shown = list(result["predictions"]), _shown(result)
    figure = Figure(figsize=(2.6 * max(1, len(shown)), 3.2), layout="constrained")
    panels = figure.subplots(1, max(1, len(shown)), squeeze=False)[0]
    for panel, metric in zip(panels, shown, strict=False):
        for place, name in enumerate(names):
            entry = result["predictions"][name]
            if metric in entry["metrics"]:
                panel.bar(place, _value(entry, metric, "mean"), color=f"C{place}")
                panel.plot(place, _value(entry, metric, "p95"), "k_", markersize=14)
        panel.set_xticks(range(len(names)), names, rotation=30, ha="right")
        panel.set_title(_TITLES[metric], fontsize=9)
        panel.set_ylim(bottom=0)
    figure.suptitle(f"{result['protocol']}: mean, and 95th percentile (–)", fontsize=9)
    figure.savefig(path, dpi=120)


def write_results(result: dict[str, Any], folder: Path) -> list[Path]:
    """Writes `PROTOCOL.json`, `.md` and `.png`.

    Args:
        result: from `evaluate_dataset`.
        folder: where to; made if missing.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{result['protocol']}{ending}" for ending in (".json", ".md", ".png")]
    files[0].write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    files[1].write_text(markdown_table(result), "utf-8")
    save_plot(result, files[2])
    return files


def _value(entry: dict[str, Any], metric: str, statistic: str) -> float:
    return entry["metrics"][metric][statistic] * _UNITS.get(metric, 1.0)


def _shown(result: dict[str, Any]) -> list[str]:
    """Metrics that any prediction has."""
    entries = result["predictions"].values()
    return [metric for metric in METRICS if any(metric in e["metrics"] for e in entries)]
