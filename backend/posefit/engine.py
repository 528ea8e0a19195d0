# SPDX-License-Identifier: Apache-2.0
"""Everything a refinement needs, gathered: keypoints, the person's texture, the estimator.

The command line and the worker both come through here, so a sequence refined by either comes out
the same. The method itself is `pipeline.refine`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from posefit_shared.sequence import Sequence as PoseSequence
from posefit_shared.settings import RefineSettings

from .body import BodyModel, pose_body
from .displacement import DisplacementEstimator, load_estimator
from .keypoints.detection import Keypoints, detect_keypoints
from .keypoints.evidence import evidence_for_refinement
from .parameters import parameters_of_sequence
from .pipeline import Clip, Freedom, Hooks, Refinement, refine, refine_windows
from .refinement.checkpoint import Checkpoint
from .refinement.method import Method
from .refinement.observation import TextureMaps
from .refinement.others import Occluders, OtherPerson
from .refinement.pictures import body_boxes
from .refinement.windows import split_windows
from .solver import Evidence, LandmarkPixels
from .texture import Texture
from .texture_clip import paint_from_views
from .views import View

__all__ = ["refine_views", "refine_views_windows", "view_keypoints"]

logger = logging.getLogger(__name__)

_POSING_BATCH = 64
_PREPARATION = 0.5
"""Share of the progress that detecting and painting take."""


def refine_views(
    sequence: PoseSequence,
    views: Sequence[View],
    *,
    body: BodyModel,
    settings: RefineSettings | None = None,
    method: Method | None = None,
    texture: Texture | None = None,
    freedom: Freedom | None = None,
    hooks: Hooks | None = None,
    rasterizer: str = "warp",
    evidence: Sequence[Evidence] = (),
    others: Sequence[OtherPerson] = (),
    checkpoint: Checkpoint | None = None,
) -> Refinement:
    """Refine a sequence against its pictures, with everything it takes.

    Args:
        sequence: where the bodies are now.
        views: pictures of them, through one or several cameras.
        body: on the device that computes.
        settings: how.
        method: what need not be asked for.
        texture: the person's texture if it was made before; painted from the clip otherwise.
        freedom: joints and frames that must not move.
        hooks: progress, cancelling, provisional results.
        rasterizer: `warp` or `pytorch3d`.
        evidence: what other tools found (`evidence.evidence_of_files`), a row a frame.
        others: who else is in the pictures and may hide the person.
        checkpoint: what was done of this very refinement before; the rest is added to it.

    Raises:
        RefinementError, FootageError, TextureError, DisplacementError: in words.
    """
    settings, checkpoint = settings or RefineSettings(), checkpoint or Checkpoint()
    windows = split_windows(len(sequence), settings.window_frames, settings.window_overlap)
    prepared = _prepare(
        sequence, views, body, settings, method, texture, hooks, evidence, others, checkpoint,
        is_to_look=not all(map(checkpoint.has_window, range(len(windows)))),
    )  # fmt: skip
    return refine(
        prepared.clip, body=body, estimator=prepared.estimator, settings=settings, method=method,
        freedom=freedom, hooks=prepared.hooks, rasterizer=rasterizer, checkpoint=checkpoint,
    )  # fmt: skip


def refine_views_windows(
    sequence: PoseSequence,
    views: Sequence[View],
    windows: Collection[int],
    checkpoint: Checkpoint,
    *,
    body: BodyModel,
    settings: RefineSettings,
    texture: Texture | None = None,
    hooks: Hooks | None = None,
    rasterizer: str = "warp",
    evidence: Sequence[Evidence] = (),
    others: Sequence[OtherPerson] = (),
) -> None:
    """Do some windows of what `refine_views` would do, into a checkpoint that it goes on from.

    Args:
        sequence: as for `refine_views`, like all that is not explained here.
        windows: which; without any, only what all of them share is found (`pipeline`).
        checkpoint: is given what was not in it.

    Raises:
        RefinementError, FootageError, TextureError, DisplacementError: in words.
    """
    prepared = _prepare(
        sequence, views, body, settings, None, texture, hooks, evidence, others, checkpoint
    )
    refine_windows(
        prepared.clip, windows, checkpoint, body=body, estimator=prepared.estimator,
        settings=settings, hooks=prepared.hooks, rasterizer=rasterizer,
    )  # fmt: skip


@dataclass(frozen=True)
class _Prepared:
    """What a refinement begins with."""

    clip: Clip
    estimator: DisplacementEstimator | None
    hooks: Hooks


def _prepare(
    sequence: PoseSequence, views: Sequence[View], body: BodyModel, settings: RefineSettings,
    method: Method | None, texture: Texture | None, hooks: Hooks | None,
    evidence: Sequence[Evidence], others: Sequence[OtherPerson], checkpoint: Checkpoint,
    *, is_to_look: bool = True,
) -> _Prepared:  # fmt: skip
    method, hooks = method or Method(), hooks or Hooks()
    estimator = None
    if settings.displacement != "none":
        estimator = load_estimator(settings.displacement, body.device)
    landmarks = ()
    if settings.keypoints:
        weight = 1.0 if estimator is None else method.keypoint_weight
        seen = _keypoints(sequence, views, body, hooks, checkpoint)
        landmarks = _landmarks(views, seen, body, method, weight)
    occluders = Occluders.of(sequence, others, views, body)
    if occluders is not None:
        landmarks = occluders.hide_landmarks(landmarks, sequence)
        evidence = occluders.hide_landmarks(evidence, sequence)
    textures: TextureMaps = lambda frames: None  # noqa: E731  # of nobody
    if estimator is not None and is_to_look:
        textures = _textures(sequence, views, body, texture, occluders, settings, hooks)
    share = _PREPARATION if settings.keypoints or estimator is not None else 0.0
    later = Hooks(
        progress=lambda fraction, stage: hooks.progress(share + (1 - share) * fraction, stage),
        check_cancelled=hooks.check_cancelled,
        publish=hooks.publish,
    )
    clip = Clip(sequence, views, landmarks, textures, evidence, occluders)
    return _Prepared(clip, estimator, later)


def view_keypoints(
    sequence: PoseSequence, view: View, body: BodyModel, hooks: Hooks | None = None
) -> Keypoints:
    """The detector's landmarks of this person in a view, one row for each frame of the sequence.

    The body says where to look, so that another person is never taken for this one.
    """
    hooks = hooks or Hooks()
    rows = np.flatnonzero(view.frame_indices >= 0)

    def told(done: int, total: int) -> None:
        hooks.check_cancelled()
        hooks.progress(done / max(total, 1), f"looking for keypoints in {view.name}")

    found = detect_keypoints(
        view.footage,
        view.frame_indices[rows],
        box_hint=_person_boxes(sequence, view, body)[rows],
        with_masks=False,
        progress=told,
    )
    return _spread(found, rows, view.frame_indices)


def _keypoints(
    sequence: PoseSequence, views: Sequence[View], body: BodyModel, hooks: Hooks,
    checkpoint: Checkpoint,
) -> list[Keypoints]:  # fmt: skip
    found = []
    for k, view in enumerate(views):
        if (kept := checkpoint.keypoints(k)) is not None:
            found.append(kept)
            continue
        part = Hooks(
            progress=lambda fraction, stage, k=k: hooks.progress(
                _PREPARATION * 0.8 * (k + fraction) / len(views), stage
            ),
            check_cancelled=hooks.check_cancelled,
        )
        found.append(view_keypoints(sequence, view, body, part))
        checkpoint.keep_keypoints(k, found[-1])
    return found


def _landmarks(
    views: Sequence[View], found: Sequence[Keypoints], body: BodyModel, method: Method,
    weight: float,
) -> tuple[LandmarkPixels, ...]:  # fmt: skip
    evidence = []
    for view, keypoints in zip(views, found, strict=True):
        if not keypoints.found.any():
            logger.warning("no person was found in %s: its keypoints say nothing", view.name)
            continue
        evidence.append(
            evidence_for_refinement(
                view, keypoints, body, sigma=method.keypoint_sigma, weight=weight
            )
        )
    return tuple(evidence)


def _textures(
    sequence: PoseSequence,
    views: Sequence[View],
    body: BodyModel,
    texture: Texture | None,
    occluders: Occluders | None,
    settings: RefineSettings,
    hooks: Hooks,
) -> TextureMaps:
    if texture is not None:
        return texture.maps(body)
    hooks.progress(_PREPARATION * 0.8, "painting the person's texture")
    return paint_from_views(
        sequence,
        views,
        body,
        exclusion_seconds=settings.texture_exclusion_seconds,
        others=occluders,
        check_cancelled=hooks.check_cancelled,
    )


def _person_boxes(sequence: PoseSequence, view: View, body: BodyModel) -> npt.NDArray[np.float64]:
    """(T, 4) x0 y0 x1 y1 of the body in the view, source pixels; NaN where it cannot be seen."""
    parameters = parameters_of_sequence(sequence, body)
    squares = []
    for first in range(0, len(sequence), _POSING_BATCH):
        part = parameters[first : first + _POSING_BATCH]
        cameras = [view.camera(first + k) for k in range(len(part))]
        squares.append(body_boxes(pose_body(body, part).vertices, cameras, margin=1.0))
    centre_and_side = np.concatenate(squares)
    centre, half = centre_and_side[:, :2], centre_and_side[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _spread(
    keypoints: Keypoints, rows: npt.NDArray[np.int64], frame_indices: npt.NDArray[np.int64]
) -> Keypoints:
    """Keypoints of some frames as rows among all frames of the sequence."""
    frames = len(frame_indices)

    def wide(values: np.ndarray) -> np.ndarray:
        result = np.zeros((frames, *values.shape[1:]), values.dtype)
        result[rows] = values
        return result

    return Keypoints(
        frame_indices=frame_indices,
        pixels=wide(keypoints.pixels),
        confidence=wide(keypoints.confidence),
        world=wide(keypoints.world),
        person_box=wide(keypoints.person_box),
        found=wide(keypoints.found),
    )
