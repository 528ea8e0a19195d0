# SPDX-License-Identifier: Apache-2.0
"""The paper's questions, asked of one network: tables with intervals over people.

    python benchmarks/paper_questions.py [--questions twist change …] [--frames 3]
        [--weights FILE] [--threads 2] [--page docs/questions.md] [--output FILE]

Answers are kept person by person under what they depend on, so a run that was cut goes on, and one
with other weights begins anew. The starts of both sets are simulated. docs/questions.md says what
each question means.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from questions import personal, plots, rendered
from questions.cases import Painter
from questions.looks import Bench
from questions.page import (
    TABLES,
    Tables,
    as_plain,
    fill_page,
    from_plain,
    table_figures,
    table_markdown,
)
from questions.rows import Answer, Stage, answer

from posefit.body import load_body
from posefit.displacement.inference import NetworkEstimator
from posefit.displacement.weights import shipped_weights
from posefit.validation_set import read_validation_set

NAMES = [question.name for question in (*rendered.QUESTIONS, *personal.QUESTIONS)]


def open_stage(folder: Path, frames: int, bench: Bench, options: argparse.Namespace) -> Stage:
    """A set, ready to be asked.

    Args:
        folder: of the set.
        frames: of each person.
        bench: body and network.
        options: people and cache.
    """
    dataset = read_validation_set(folder)
    dataset.check_body(bench.body.content_hash)
    people = tuple(options.people) or tuple(range(len(dataset.people)))
    painter = Painter(bench.body, options.cache / "textures")
    return Stage(dataset, bench, painter, people, frames)


def ask(
    options: argparse.Namespace, bench: Bench, key: str, tell: Callable[[str], None]
) -> dict[str, Answer]:
    """All answers that were asked for, by question.

    Args:
        options: of the command line.
        bench: body and network.
        key: everything that answers depend on beside question, person and frames.
        tell: told as they come.
    """
    sets = (
        (rendered.QUESTIONS, open_stage(options.set, options.frames, bench, options)),
        (personal.QUESTIONS, open_stage(options.texture_set, options.texture_frames, bench,
                                        options)),
    )  # fmt: skip
    answers: dict[str, Answer] = {}
    for questions, stage in sets:
        stamp = hashlib.sha256((stage.dataset.folder / "set.npz").read_bytes()).hexdigest()
        for question in questions:
            if question.name not in options.questions:
                continue
            began = time.perf_counter()
            answers[question.name] = answer(
                question, stage, options.cache / "answers", f"{key} {stamp}", tell
            )
            tell(f"{question.name}: {time.perf_counter() - began:.0f} s")
    return answers


def write_down(figures: Tables, about: dict[str, Any], options: argparse.Namespace) -> None:
    """Tables to the terminal, and to page, JSON and pictures where they were asked for.

    Args:
        figures: by table.
        about: what they were measured with.
        options: of the command line.
    """
    known = {table.name: table for table in TABLES}
    markdown = {name: table_markdown(known[name], one) for name, one in figures.items()}
    for name, text in markdown.items():
        print(f"\n{name}\n\n{text}", flush=True)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        plain = {name: as_plain(one) for name, one in figures.items()}
        options.output.write_text(json.dumps({"about": about, "tables": plain}, indent=1) + "\n")
    if options.page:
        text = options.page.read_text(encoding="utf-8")
        filled = fill_page(text, markdown | {"about": said_of(about)})
        options.page.write_text(filled, encoding="utf-8")
    if options.plots:
        plots.draw_all(figures, options.plots)


def said_of(about: dict[str, Any]) -> str:
    """What the tables were measured with, in a sentence."""
    people = about["people"]
    return (
        f"The tables below: weights `{about['weights']}` ({about['weights_file']}), {people} of 12 "
        f"people; {about['frames']} frames of each of the rendered set, "
        f"{about['texture_frames']} of the texture set; {about['machine']}."
    )


def weights_and_key(weights: Path, bench: Bench) -> tuple[str, str]:
    """The weights' short name, and what answers depend on."""
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:12]
    return digest, f"{digest} {bench.solver} {bench.crop_size} {bench.body.content_hash}"


def main() -> None:
    """Reads the command line, asks, and writes the answers down."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(__file__).parent / "data"
    parser.add_argument("--set", type=Path, default=data / "validation")
    parser.add_argument("--texture-set", type=Path, default=data / "texture_questions")
    parser.add_argument("--questions", nargs="+", choices=NAMES, default=NAMES, metavar="NAME",
                        help=f"some of {', '.join(NAMES)}; all by default")  # fmt: skip
    parser.add_argument("--people", nargs="*", type=int, default=[], help="all unless named")
    parser.add_argument("--frames", type=int, default=3, help="of each person, rendered set")
    parser.add_argument("--texture-frames", type=int, default=3, help="of each, texture set")
    parser.add_argument("--weights", type=Path, default=shipped_weights())
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path(".cache/questions"))
    parser.add_argument("--output", type=Path, help="JSON to write")
    parser.add_argument("--page", type=Path, help="page to fill, docs/questions.md")
    parser.add_argument("--plots", type=Path, help="folder for pictures, docs/images")
    parser.add_argument("--again", type=Path, metavar="JSON",
                        help="write page and pictures from a JSON of --output")  # fmt: skip
    options = parser.parse_args()
    if options.page and set(options.questions) != set(NAMES):
        parser.error("--page takes all questions, or its tables would be of different networks")
    if options.again:
        stored = json.loads(options.again.read_text(encoding="utf-8"))
        write_down(from_plain(stored["tables"]), stored["about"], options)
        return
    torch.set_num_threads(options.threads)
    bench = Bench(load_body("free"), NetworkEstimator(torch.device("cpu"), options.weights))
    digest, key = weights_and_key(options.weights, bench)
    began = time.perf_counter()
    answers = ask(options, bench, key, lambda text: print(text, flush=True))
    about = {
        "weights": digest,
        "weights_file": options.weights.name,
        "people": max(len(row) for rows in answers.values() for row in rows.values()),
        "frames": options.frames,
        "texture_frames": options.texture_frames,
        "machine": f"{platform.processor() or platform.machine()}, torch {torch.__version__}",
        "threads": options.threads,
        "seconds": round(time.perf_counter() - began, 1),
        "starts": "simulated",
    }
    asked = [one for one in TABLES if {row.question for row in one.rows} & answers.keys()]
    write_down({table.name: table_figures(table, answers) for table in asked}, about, options)


if __name__ == "__main__":
    main()
