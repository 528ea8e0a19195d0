# SPDX-License-Identifier: Apache-2.0
"""Writes the model card of the displacement networks: every figure in it is read from a file.

    python tools/training/model_card.py [--results benchmarks/results] \
        [--weights backend/posefit/assets/displacement] [--output …/MODEL_CARD.md]

Reads the headers of the weight files, `network_validation.json` (a run's `validation.json`; that of
the network for CPUs is `cpu_validation.json`), `validation_first_look.json` and `calibration.json`.
What hasn't been measured is said not to have been.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

ROOT = Path(__file__).parents[2]
NETWORKS = {
    "network.safetensors": ("`net`, on every device", "network"),
    "cpu.safetensors": ("`net-fast`, for CPUs that must answer soon", "cpu"),
}
"""Weight files, what each is for, and what its validation's file begins with."""

INTRODUCTION = """# Model card: displacement networks

They look at a crop of a frame and at renderings of the current body, and say for every body
pixel where the surface point that it shows really is (crop pixels), how large the error may be,
and whether the point can be seen. `posefit refine` moves the body by their answers. This page is
written by `tools/training/model_card.py` from measurements.
"""

DATA = """## Data

Synthetic pictures alone, generated while training (docs/training.md): the free body and its
garments (made from CC0 data), poses retargeted from the CMU motion capture database (free for
all uses) and DeepMimic's clips (MIT), photographs of free wallpapers as backgrounds and prints.
No licensed data set and no real picture of a person. Held-out clips, photographs and patterns
are in docs/training.md; the Cycles set shares nothing with training but the body.
"""

USE = """## Use, and limits

- Meant for: moving an estimated SMPL body onto a person in a frame, with a person looking at the
  result or a check that keeps the input. Not meant for: identifying people, judging their health
  or measuring their bodies.
- Not or hardly in the training data: wide clothes, children, wheelchairs and prostheses, people
  in close contact, drawings. Body shapes and skin tones are drawn at random; how errors differ
  between groups of real people has not been measured.
- Hidden points are guessed from the body's pose: see their row. Depth can't be told from one
  camera.
- Accuracy on real footage is not proven by these figures: all truth in them is rendered. Starts
  are simulated.

## Licence

Apache-2.0, like the code. The body and garments it was trained on are CC0; no pixel of a
photograph and no motion is in the file.
"""


@dataclass(frozen=True)
class Weights:
    """What a weight file says of itself."""

    name: str
    parameters: int
    megabytes: float
    metadata: dict[str, str]


def read_weights(path: Path) -> Weights:
    """Counts a file's parameters and reads its header."""
    with safe_open(path, framework="np") as data:
        shapes = [data.get_slice(name).get_shape() for name in data.keys()]  # noqa: SIM118
        metadata = data.metadata() or {}
    count = sum(math.prod(shape) for shape in shapes)
    return Weights(path.name, count, path.stat().st_size / 1e6, metadata)


def read_page(path: Path) -> dict[str, Any] | None:
    """A JSON file, or None where there is none."""
    return json.loads(path.read_text()) if path.is_file() else None


def describe_weights(weights: Weights, purpose: str, page: dict[str, Any] | None) -> list[str]:
    """Size and recipe of one file."""
    lines = [
        f"- `{weights.name}` ({purpose}): {weights.parameters / 1e6:.2f} M parameters in half "
        f"precision, {weights.megabytes:.1f} MB; sizes and calibration in the header."
    ]
    progress = json.loads(weights.metadata.get("progress", "null"))
    if progress is not None:
        epochs = f"{progress['steps']:,} steps, {progress['samples']:,} generated samples"
        lines.append(f"  Trained {progress['seconds'] / 60:.1f} minutes: {epochs}.")
    recipe = (page or {}).get("recipe")
    if recipe is not None:
        lines.append(
            f"  On {recipe['processes']} × {recipe['device']} (torch {recipe['torch']}), "
            f"{recipe['batch']} samples of {recipe['size']}² a step and device, "
            f"optimiser {recipe['optimizer']}, learning rate {recipe['learning_rate']:g}, "
            f"reuse {recipe['reuse']}, seed {recipe['seed']}."
        )
    return lines


def own_split(name: str, page: dict[str, Any]) -> list[str]:
    """Figures of the generator's validation split."""
    figures = page["figures"]

    def row(title: str, before: str, after: str, form: str = "{:.2f}") -> str | None:
        if after not in figures:
            return None
        start = form.format(figures[before]) if before in figures else ""
        return f"| {title} | {start} | {form.format(figures[after])} |"

    rows = [
        row("end-point error, all body pixels, px", "epe_start", "epe"),
        row("visible points, px", "epe_start_visible", "epe_visible"),
        row("hidden points, px", "epe_start_hidden", "epe_hidden"),
        row("the more certain half, px", "", "epe_certain_half"),
        row("pixels within 3 px", "within_3px_start", "within_3px", "{:.1%}"),
        row("without the texture, px", "epe_start", "epe_without_texture"),
        row("segments twisted about their axis, px", "twist_epe_start", "twist_epe_with_texture"),
        row("the same without the texture, px", "twist_epe_start", "twist_epe_without_texture"),
        row("legs exchanged, px", "leg_swap_epe_start", "leg_swap_epe_with_texture"),
        row("visibility told rightly", "", "visibility_accuracy", "{:.1%}"),
    ]
    head = [f"\n`{name}`, the generator's own validation split (same renderer):\n",
            "| | start | network |", "|---|---|---|"]  # fmt: skip
    return head + [one for one in rows if one is not None]


def cycles_set(page: dict[str, Any]) -> list[str]:
    """First looks at the rendered validation set."""
    lines = [
        "\nAnother renderer (Cycles, docs/validation.md), means and 95% intervals over "
        f"{page['set']['people']} people, {page['set']['frames']} frames; starts are simulated:\n",
        "| starts | estimator | before, px | after, px | more certain half, px | hidden, px |",
        "|---|---|---|---|---|---|",
    ]
    names = ("epe_before", "epe", "epe_certain_half", "epe_hidden")
    for level, estimators in page["first_look"].items():
        for name, found in estimators.items():
            if name.startswith("net"):
                cells = " | ".join(with_interval(found[n]) for n in names)
                lines.append(f"| {level} | `{name}` | {cells} |")
    return lines


def with_interval(entry: dict[str, float]) -> str:
    """A figure with its interval."""
    middle = entry["mean"] if "mean" in entry else entry["value"]
    return f"{middle:.2f} ({entry['low']:.2f}–{entry['high']:.2f})"


def calibration(page: dict[str, Any]) -> list[str]:
    """How honest scale and visibility are, on the Cycles set."""
    lines = [
        "\n### Calibration, on the Cycles set\n",
        "| starts | in the 50% interval | 80% | 95% | error found / said | visibility ECE |",
        "|---|---|---|---|---|---|",
    ]
    for level, one in page["levels"].items():
        inside = " | ".join(with_interval(one["coverage"][p]) for p in ("0.5", "0.8", "0.95"))
        ece = one["visibility_ece"]
        lines.append(
            f"| {level} | {inside} | {one['error_over_said']:.2f} | "
            f"{ece['value']:.3f} ({ece['low']:.3f}–{ece['high']:.3f}) |"
        )
    said = "`benchmarks/calibration.py` prints these; docs/images/calibration.png shows them."
    return [*lines, f"\n{said}"]


def card(folder: Path, results: Path) -> str:
    """The page.

    Args:
        folder: with the weight files.
        results: with the measurements.
    """
    files: list[str] = ["## Files\n"]
    figures: list[str] = ["## Figures"]
    for name, (purpose, prefix) in NETWORKS.items():
        if not (folder / name).is_file():
            continue
        page = read_page(results / f"{prefix}_validation.json")
        files += describe_weights(read_weights(folder / name), purpose, page)
        missing = [f"\n`{name}`: not measured on the generator's split."]
        figures += missing if page is None else own_split(name, page)
    look = read_page(results / "validation_first_look.json")
    honest = read_page(results / "calibration.json")
    figures += ["\nNot measured on the Cycles set."] if look is None else cycles_set(look)
    figures += ["\nCalibration: not measured."] if honest is None else calibration(honest)
    parts = [INTRODUCTION, "\n".join(files) + "\n", DATA, "\n".join(figures) + "\n", USE]
    return "\n".join(parts)


def main() -> None:
    """Reads the command line and writes the page."""
    assets = ROOT / "backend/posefit/assets/displacement"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results")
    parser.add_argument("--weights", type=Path, default=assets)
    parser.add_argument("--output", type=Path, default=assets / "MODEL_CARD.md")
    options = parser.parse_args()
    options.output.write_text(card(options.weights, options.results))
    print(options.output)


if __name__ == "__main__":
    main()
