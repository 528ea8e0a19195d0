# SPDX-License-Identifier: Apache-2.0
"""What the commands do: files in, engine, files out; progress bars, no parsing.

The worker runs jobs through the same engine (`jobs`), so a sequence refined here and one refined
by a backend come out alike.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from collections.abc import Sequence as Many
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from posefit_shared.sequence import Sequence, read_sequence, write_sequence
from posefit_shared.settings import RefineSettings

from ..body import BodyModel, load_body
from ..camera_file import read_camera
from ..datasets import (
    Bodies,
    DatasetError,
    Regressors,
    evaluate_dataset,
    export_references,
    protocol_named,
    write_results,
)
from ..devices import choose_device
from ..engine import refine_views
from ..errors import RefinementError
from ..estimate import estimate
from ..evaluate import EvaluationError, evaluate
from ..footage import open_footage
from ..pipeline import Hooks, Refinement
from ..refine_files import Person, RefineFiles, evidence_of_person, people_of_files
from ..report import ReportData, write_report
from ..texture import Texture, load_png, save_png
from ..texture_clip import paint_texture
from .backend_address import Server
from .remote import refine_on_server

__all__ = [
    "DatasetFiles",
    "RefineFiles",
    "estimate_video",
    "evaluate_files",
    "evaluate_on_dataset",
    "evaluate_pair",
    "make_texture",
    "progress_bar",
    "refine_files",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetFiles:
    """Files and choices of one `posefit evaluate --dataset`."""

    root: Path | None
    """The data set's folder."""
    protocol: str | None = None
    """Name of its protocol; the first unless given."""
    split: str | None = None
    """Another part of the data set than the protocol's."""
    regressor: Path | None = None
    """J_regressor_h36m.npy."""
    smplx_to_smpl: Path | None = None
    """smplx2smpl.pkl."""
    output: Path | None = None
    """Folder for the table."""


@contextmanager
def progress_bar(title: str) -> Iterator[Hooks]:
    """Hooks that show a progress bar while the block runs."""
    with tqdm(total=100, desc=title, unit="%", leave=True, bar_format=_BAR) as bar:

        def told(fraction: float, stage: str) -> None:
            bar.set_postfix_str(stage, refresh=False)
            bar.update(max(0, round(100 * fraction) - bar.n))

        yield Hooks(progress=told)


_BAR = "{desc}: {percentage:3.0f}%|{bar:30}| {elapsed}<{remaining} {postfix}"


def estimate_video(
    video: Path, output: Path, *, person: int, intrinsics: Path | None, body: str, device: str
) -> Sequence:
    """`posefit estimate`: a first estimate of one person's motion, written to a sequence file."""
    model = load_body(body, choose_device(device))
    camera = None if intrinsics is None else read_camera(intrinsics)
    with open_footage(video) as footage, progress_bar("estimate") as hooks:
        sequence = estimate(
            footage,
            body=model,
            camera=camera,
            person=person,
            progress=lambda done, total: hooks.progress(0.9 * done / total, "following the person"),
        )
        hooks.progress(1.0, "done")
    write_sequence(output, sequence)
    found = sum(status != "no_person" for status in sequence.status or ())
    logger.info("%s: person found in %d of %d frames", output, found, len(sequence))
    return sequence


def make_texture(
    output: Path,
    *,
    sequence: Path | None,
    frames: Path | None,
    shot: Path | None,
    body: str,
    device: str,
    uv: str | None = None,
) -> Texture:
    """`posefit texture`: the person's texture map from all their frames, written as PNG."""
    model = load_body(body, choose_device(device), uv=uv)
    people = people_of_files(RefineFiles(output, sequence, frames, shot))
    if len(people) != 1:
        raise RefinementError(
            f"the shot has {len(people)} people, a texture is of one: use --sequence and --frames"
        )
    texture = paint_texture(people[0].sequence, people[0].views, model)
    save_png(texture, output)
    logger.info("%s: painted from %d frames", output, len(people[0].sequence))
    return texture


def refine_files(
    files: RefineFiles,
    *,
    body: str,
    device: str,
    rasterizer: str,
    server: Server | None,
    settings: RefineSettings,
    uv: str | None = None,
) -> list[Sequence]:
    """`posefit refine`: refine each person of a shot, or one sequence, and write what came out."""
    if server is not None and (files.evidence or files.others or uv is not None):
        raise RefinementError(
            "evidence files, other people and texture coordinates are read where the refinement "
            "runs: leave out --server, or them"
        )
    people = people_of_files(files)
    model = load_body(body, choose_device(device if server is None else "cpu"), uv=uv)
    texture = None
    if files.texture is not None and server is None:
        texture = load_png(files.texture, model)
    results = []
    for person in people:
        refinement = None
        with progress_bar(f"refine {person.output.name}") as hooks:
            if server is None:
                refinement = refine_views(
                    person.sequence, person.views, body=model, settings=settings, texture=texture,
                    hooks=hooks, rasterizer=rasterizer,
                    evidence=evidence_of_person(files, person, model), others=person.others,
                )  # fmt: skip
                sequence = refinement.sequence
            else:
                sequence = refine_on_server(
                    server, person.sequence, _only_footage(person), body=body,
                    texture=files.texture, settings=settings, hooks=hooks,
                )  # fmt: skip
        write_sequence(person.output, sequence)
        _tell(person.output, sequence)
        results.append(sequence)
        if files.report is not None:
            folder = files.report if len(people) == 1 else files.report / person.output.stem
            _report(folder, person, sequence, model, refinement)
    return results


def evaluate_files(predicted: Path, reference: Path, body: str) -> dict[str, Any]:
    """`posefit evaluate`: errors of one sequence against another."""
    return evaluate(read_sequence(predicted), read_sequence(reference), load_body(body))


def evaluate_pair(predicted: Many[str], reference: Path | None, body: str) -> dict[str, Any]:
    """`posefit evaluate` without a data set: one sequence against one reference."""
    if len(predicted) != 1 or reference is None:
        raise EvaluationError(
            "give one --predicted file and its --reference, or --dataset and --root"
        )
    return evaluate_files(Path(predicted[0]), reference, body)


def evaluate_on_dataset(
    dataset: str, predicted: Many[str], files: DatasetFiles, body: str, export: Path | None
) -> dict[str, Any]:
    """`posefit evaluate --dataset`: folders of predictions by a published protocol."""
    if files.root is None:
        raise DatasetError(f"--root is needed: the folder in which {dataset} lies")
    protocol = protocol_named(dataset, files.protocol)
    if export is not None:
        count = export_references(protocol, files.root, export, files.split)
        return {"dataset": dataset, "protocol": protocol.name, "exported": count}
    regressors = Regressors(files.regressor, files.smplx_to_smpl)
    with tqdm(desc=protocol.name, unit=" recordings") as bar:
        result = evaluate_dataset(
            protocol, files.root, _named_folders(predicted), Bodies(body), regressors=regressors,
            split=files.split, progress=lambda name: bar.update(),
        )  # fmt: skip
    if files.output is not None:
        for path in write_results(result, files.output):
            logger.info("wrote %s", path)
    return result


def _named_folders(predicted: Many[str]) -> dict[str, Path]:
    """`NAME=FOLDER`, or a folder alone, which then gives the name."""
    folders: dict[str, Path] = {}
    for word in predicted:
        name, separator, folder = word.partition("=")
        path = Path(folder if separator else word)
        name = name if separator else path.name
        if name in folders:
            raise DatasetError(f"two predictions are called {name!r}: name them NAME=FOLDER")
        folders[name] = path
    return folders


def _only_footage(person: Person) -> Path:
    if len(person.views) != 1:
        raise RefinementError(
            f"--server refines one camera, the shot has {len(person.views)}: leave --server out"
        )
    return person.views[0].footage.path


def _tell(output: Path, sequence: Sequence) -> None:
    status = sequence.status or ()
    refined = sum(word == "refined" for word in status)
    logger.info(
        "%s: %d of %d frames refined, the others as they came", output, refined, len(status)
    )


def _report(
    folder: Path,
    person: Person,
    sequence: Sequence,
    body: BodyModel,
    refinement: Refinement | None,
) -> None:
    data = ReportData(
        title=f"Refinement of {person.output.stem}",
        before=person.sequence,
        after=sequence,
        view=person.views[0],
        body=body,
        timings_ms={} if refinement is None else refinement.timings_ms,
        misfit=None if refinement is None else refinement.verdict.ratio,
    )
    write_report(folder, data)
