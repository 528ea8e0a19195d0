# SPDX-License-Identifier: Apache-2.0
"""Questions to the rendered validation set: modalities, textures, start, camera, scale, rounds.

All start from `typical` (85 mm) unless they are about the start. Rows of `baseline` are shared:
other questions compare with them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from posefit.displacement import DisplacementField
from posefit.modalities import Modalities
from posefit.parameters import parameters_of_sequence, sequence_with_parameters
from questions.cases import (
    Case,
    at_error,
    covered,
    load_case,
    take_frames,
    with_focal_length,
)
from questions.looks import (
    Alteration,
    Look,
    Refined,
    Sums,
    field_errors,
    pose_errors,
    refine_case,
    solve_from,
)
from questions.rows import Question, Stage

__all__ = ["ERRORS_MM", "FOCAL_FACTORS", "QUESTIONS", "ROUNDS", "SHARES"]

ROUNDS = 4
DEFAULT_ROUNDS = 2
"""posefit's own number of rounds (`RefineSettings.rounds`)."""
ERRORS_MM = (0, 20, 40, 80, 120, 160)
FOCAL_FACTORS = (0.7, 0.85, 1.0, 1.2, 1.4)
SHARES = (0.15, 0.3, 0.5)
FLAGS = ("occluded", "crowded", "truncated", "blurred", "shallow")


# What every question compares with, rounds, scale and the set's own difficulties -----------------


def measure_baseline(stage: Stage, person: int) -> dict[str, Sums]:
    """Rounds 0 to 4 of the start, what scale is worth in the first, and frames by difficulty."""
    case = stage.case(person)
    refined = refine_case(case, stage.bench, rounds=ROUNDS)
    rows: dict[str, Sums] = {}
    for k, sequence in enumerate(refined.sequences):
        sums = pose_errors(case, sequence, stage.body)
        # The error that remains after k rounds is what the next look starts from.
        if k < ROUNDS:
            sums |= field_errors(refined.looks[k], "next_epe")
        sums |= field_errors(refined.looks[0])
        rows[f"{k} rounds"] = sums
    rows |= _by_scale(stage, case, refined.looks[0])
    rows |= _by_flag(stage, person, case, refined)
    return rows


def _by_scale(stage: Stage, case: Case, look: Look) -> dict[str, Sums]:
    """One round from one look's field with its scale, its visibility or both made constant."""
    start = parameters_of_sequence(case.start, stage.body)
    scale, visibility = _constant_scale, _constant_visibility
    changes: dict[str, Callable[[DisplacementField], DisplacementField]] = {
        "scale and visibility": lambda found: found,
        "constant scale": scale,
        "constant visibility": visibility,
        "neither": lambda found: scale(visibility(found)),
    }
    rows = {}
    for name, change in changes.items():
        solved = solve_from(look, start, start, stage.bench, Alteration(field=change))
        sequence = sequence_with_parameters(case.start, solved, stage.body)
        rows[name] = pose_errors(case, sequence, stage.body)
    return rows


def _constant_scale(found: DisplacementField) -> DisplacementField:
    """Every pixel as certain as the median of those that are taken to be seen."""
    seen = found.visibility > 0.5
    middle = found.scale[seen].median() if seen.any() else found.scale.median()
    return dataclasses.replace(found, scale=torch.full_like(found.scale, float(middle)))


def _constant_visibility(found: DisplacementField) -> DisplacementField:
    return dataclasses.replace(found, visibility=torch.ones_like(found.visibility))


def _by_flag(stage: Stage, person: int, case: Case, refined: Refined) -> dict[str, Sums]:
    """Frames of each of the set's difficulties, and those that have none of the first three."""
    frames = stage.dataset.frames_of(person)[stage.chosen(person)]
    has = {name: getattr(stage.dataset, name)[frames] for name in FLAGS}
    has["in full view"] = ~(has["occluded"] | has["crowded"] | has["truncated"])
    rows = {}
    for name, where in has.items():
        if not where.any():
            continue
        chosen = np.flatnonzero(where).tolist()
        part = dataclasses.replace(
            case, start=take_frames(case.start, chosen), truth=take_frames(case.truth, chosen)
        )
        sequence = take_frames(refined.sequences[DEFAULT_ROUNDS], chosen)
        pixels = torch.from_numpy(where)[:, None, None]
        sums = field_errors(refined.looks[0], where=pixels)
        rows[f"frames {name}"] = sums | pose_errors(part, sequence, stage.body)
    return rows


# Modalities ------------------------------------------------------------------------------------


def without(*names: str) -> Alteration:
    """Renderings without some modalities, as the network knows them from training's dropout."""
    absent = {"rgb": 0.5, "texture_valid": 0.0, "normals": 0.0, "depth": 0.0, "vertex_colors": 0.5}

    def change(modalities: Modalities) -> Modalities:
        gone: dict[str, Tensor] = {
            name: torch.full_like(getattr(modalities, name), absent[name]) for name in names
        }
        return dataclasses.replace(modalities, **gone)

    return Alteration(renderings=change)


WITHOUT_TEXTURE = without("rgb", "texture_valid")

LEFT_OUT = {
    "without texture": WITHOUT_TEXTURE,
    "without normals": without("normals"),
    "without depth": without("depth"),
    "without normals and depth": without("normals", "depth"),
    "without vertex colours": without("vertex_colors"),
}


def measure_modalities(stage: Stage, person: int) -> dict[str, Sums]:
    """One round with each modality left out of what the network sees."""
    case = stage.case(person)
    return {name: _one_round(stage, case, alteration) for name, alteration in LEFT_OUT.items()}


def _one_round(stage: Stage, case: Case, alteration: Alteration | None = None) -> Sums:
    refined = refine_case(case, stage.bench, rounds=1, alteration=alteration or Alteration())
    return field_errors(refined.looks[0]) | pose_errors(case, refined.sequences[1], stage.body)


# Textures --------------------------------------------------------------------------------------


def noisy(textures: Tensor, sigma: float, seed: int) -> Tensor:
    """Colours with Gaussian noise of that deviation, texel by texel."""
    stream = torch.Generator().manual_seed(seed)
    noise = torch.randn(textures[:, :3].shape, generator=stream) * sigma
    return torch.cat([(textures[:, :3] + noise).clamp(0, 1), textures[:, 3:]], 1)


def blurred(textures: Tensor, sigma: float) -> Tensor:
    """Colours as means over their neighbourhood of known texels.

    Args:
        textures: (frame, 4, side, side).
        sigma: of the Gaussian, texels.
    """
    half = int(3 * sigma)
    line = torch.exp(-0.5 * (torch.arange(-half, half + 1) / sigma).square())
    known = (textures[:, 3:] > 0).float()
    stacked = torch.cat([textures[:, :3] * known, known], 1)
    kernel = (line / line.sum()).expand(4, 1, -1)
    blur = torch.nn.functional.conv2d
    stacked = blur(stacked, kernel[..., None], padding=(half, 0), groups=4)
    stacked = blur(stacked, kernel[..., None, :], padding=(0, half), groups=4)
    colors = stacked[:, :3] / stacked[:, 3:].clamp_min(1e-6)
    return torch.cat([colors * known, textures[:, 3:]], 1)


def shifted(textures: Tensor, texels: int) -> Tensor:
    """The painted colours slid over the body along both texture coordinates; coverage stays."""
    moved = textures[:, :3].roll((texels, texels), dims=(2, 3))
    return torch.cat([moved, textures[:, 3:]], 1)


def measure_texture(stage: Stage, person: int) -> dict[str, Sums]:
    """One round with textures that are spoilt, of somebody else, or one grey."""
    case = stage.case(person)
    if case.textures is None:
        return {}
    everyone = len(stage.dataset.people)
    other = stage.case((person + everyone // 2) % everyone)
    changed = {
        "noise 0.1": noisy(case.textures, 0.1, person),
        "noise 0.3": noisy(case.textures, 0.3, person),
        "blur of 2 texels": blurred(case.textures, 2.0),
        "blur of 6 texels": blurred(case.textures, 6.0),
        "shifted by 4 texels": shifted(case.textures, 4),
        "shifted by 12 texels": shifted(case.textures, 12),
        "another person's": other.textures,
    }
    return {
        name: _one_round(stage, dataclasses.replace(case, textures=textures))
        for name, textures in changed.items()
    }


# Start, camera, view ---------------------------------------------------------------------------


def measure_start(stage: Stage, person: int) -> dict[str, Sums]:
    """Two rounds from starts of 0 to 160 mm, each with the texture painted under it."""
    dataset = stage.dataset
    whole_truth, whole = dataset.truth(person), dataset.start("bad", person)
    frames = stage.chosen(person)
    rows = {}
    for error in ERRORS_MM:
        scaled = at_error(whole, whole_truth, stage.body, error)
        case = dataclasses.replace(
            load_case(dataset, person, "bad", frames, None),
            start=take_frames(scaled, frames),
            textures=stage.painter.maps(dataset, person, scaled, frames),
        )
        rows[f"{error} mm"] = _default_rounds(stage, case)
    return rows


def _default_rounds(stage: Stage, case: Case) -> Sums:
    refined = refine_case(case, stage.bench, rounds=DEFAULT_ROUNDS)
    last = refined.sequences[-1]
    return field_errors(refined.looks[0]) | pose_errors(case, last, stage.body)


def measure_focal_length(stage: Stage, person: int) -> dict[str, Sums]:
    """Two rounds with an estimate whose camera has another focal length, and is as far off."""
    case = stage.case(person)
    return {
        f"{factor:g} ×": _default_rounds(
            stage,
            dataclasses.replace(case, start=with_focal_length(case.start, factor, stage.body)),
        )
        for factor in FOCAL_FACTORS
        if factor != 1.0
    }


def measure_cover(stage: Stage, person: int) -> dict[str, Sums]:
    """One round with a part of the person covered by a piece of another picture."""
    case = stage.case(person)
    everyone = len(stage.dataset.people)
    others = load_case(
        stage.dataset, (person + 1) % everyone, stage.level, stage.chosen(person), None
    )
    return {
        f"{share:.0%} covered": _one_round(stage, covered(case, share, others, seed=5))
        for share in SHARES
    }


QUESTIONS = (
    Question("baseline", measure_baseline),
    Question("modalities", measure_modalities),
    Question("texture", measure_texture),
    Question("cover", measure_cover),
    Question("focal", measure_focal_length),
    Question("start", measure_start),
)
"""All questions to this set; the first is what the others compare with."""
