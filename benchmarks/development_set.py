# SPDX-License-Identifier: Apache-2.0
"""Refinements on the development set, on which settings are chosen, made cheap to repeat.

What a picture under a pose makes the network say is kept on disk; so are keypoints. A change of the
solver alone then costs its own time and the looks that it changes.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from spoilt import SpoiltFootage

from posefit.body import BodyModel
from posefit.displacement import DisplacementEstimator, DisplacementField
from posefit.engine import view_keypoints
from posefit.evaluate import evaluate
from posefit.footage import open_footage
from posefit.keypoints.evidence import evidence_for_refinement
from posefit.keypoints.tracks import Keypoints, read_keypoints, write_keypoints
from posefit.modalities import Modalities
from posefit.pipeline import Refinement, refine
from posefit.refinement.clip import Clip
from posefit.refinement.method import Method
from posefit.refinement.observation import TextureMaps
from posefit.solver import LandmarkPixels
from posefit.texture_clip import paint_from_views
from posefit.validation_set import ValidationSet
from posefit.views import View, view_of_sequence
from posefit_shared.sequence import Sequence as PoseSequence
from posefit_shared.settings import RefineSettings

__all__ = ["DEVELOPMENT", "Case", "RememberedEstimator", "errors"]

REPOSITORY = Path(__file__).resolve().parents[1]
DEVELOPMENT = REPOSITORY / "benchmarks/data/development"
MEMORY = REPOSITORY / ".cache/development/memory"
METRICS = ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "vertex_2d_px")


class RememberedEstimator:
    """An estimator that keeps what it said."""

    def __init__(self, estimator: DisplacementEstimator, weights: Path | None) -> None:
        """Wraps an estimator.

        Args:
            estimator: asked where nothing is kept.
            weights: its file; what other weights said is not taken.
        """
        self.name = estimator.name
        self._estimator = estimator
        origin = b"" if weights is None else weights.read_bytes()
        self._key = hashlib.sha256(estimator.name.encode() + origin).hexdigest()[:12]

    def predict(self, images: torch.Tensor, modalities: Modalities) -> DisplacementField:
        """What the estimator says, frame by frame."""
        frames = [self._one(images, modalities, t) for t in range(len(images))]
        return DisplacementField(*(torch.cat(values) for values in zip(*frames, strict=True)))

    def _one(self, images: torch.Tensor, modalities: Modalities, frame: int) -> tuple:
        part = slice(frame, frame + 1)
        own = Modalities(**{name: value[part] for name, value in vars(modalities).items()})
        digest = hashlib.sha256(self._key.encode())
        for values in (images[part], *vars(own).values()):
            digest.update((values * 1024).round().to(torch.int32).cpu().numpy().tobytes())
        path = MEMORY / self._key / f"{digest.hexdigest()[:24]}.npz"
        inside = own.mask[:, 0] > 0
        if path.exists():
            with np.load(path) as kept:
                values = torch.from_numpy(kept["values"].astype(np.float32))
        else:
            found = self._estimator.predict(images[part], own)
            values = torch.cat(
                [found.displacement, found.scale[..., None], found.visibility[..., None]], -1
            )[inside].half()
            path.parent.mkdir(parents=True, exist_ok=True)
            # Whole or not at all, under a name of its own: several tables may be made at once.
            partial = path.with_name(f"{path.stem}.{os.getpid()}.npz")
            np.savez_compressed(partial, values=values.numpy())
            partial.replace(path)
            values = values.float()
        field = torch.zeros(*inside.shape, 4)
        field[..., 2] = 1.0
        field[inside] = values
        return field[..., :2].contiguous(), field[..., 2], field[..., 3]


@dataclass
class Case:
    """One person under one simulated start."""

    dataset: ValidationSet
    body: BodyModel
    person: int
    level: str
    spoilt: bool = False
    """Whether the pictures are made unfit to see by (`spoilt`)."""
    _textures: TextureMaps | None = field(default=None, repr=False)

    @property
    def start(self) -> PoseSequence:
        """The simulated start."""
        return self.dataset.start(self.level, self.person)

    @property
    def truth(self) -> PoseSequence:
        """What is true."""
        return self.dataset.truth(self.person)

    @property
    def view(self) -> View:
        """The pictures."""
        start = self.start
        if self.spoilt:
            footage = SpoiltFootage(self.dataset, self.person, start.mocap_framerate)
            return view_of_sequence(start, footage)
        folder = self.dataset.footage_folder(self.person)
        return view_of_sequence(start, open_footage(folder, fps=start.mocap_framerate))

    def refine(
        self,
        estimator: DisplacementEstimator | None,
        method: Method,
        settings: RefineSettings,
    ) -> Refinement:
        """The whole refinement; keypoints as the settings say."""
        landmarks: tuple[LandmarkPixels, ...] = ()
        view = self.view
        if settings.keypoints:
            keypoints = self._keypoints(view)
            weight = 1.0 if estimator is None else method.keypoint_weight
            landmarks = (
                evidence_for_refinement(
                    view, keypoints, self.body, sigma=method.keypoint_sigma, weight=weight
                ),
            )  # fmt: skip
        if estimator is not None and self._textures is None:
            self._textures = paint_from_views(self.start, [view], self.body)
        textures = self._textures or (lambda frames: None)
        clip = Clip(self.start, [view], landmarks, textures)
        return refine(clip, body=self.body, estimator=estimator, settings=settings, method=method)

    def _keypoints(self, view: View) -> Keypoints:
        start = self.start
        key = hashlib.sha256(start.poses.tobytes() + start.trans.tobytes()).hexdigest()[:16]
        kind = "_spoilt" if self.spoilt else ""
        path = MEMORY / "keypoints" / f"{self.person}_{self.level}_{key}{kind}.npz"
        if path.exists():
            return read_keypoints(path)
        found = view_keypoints(start, view, self.body)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_keypoints(path, found)
        return found


def errors(found: PoseSequence, case: Case) -> dict[str, np.ndarray]:
    """(T,) errors of each metric."""
    scores = evaluate(found, case.truth, case.body)
    return {name: np.array(scores[name]["values"]) for name in METRICS}
