# SPDX-License-Identifier: Apache-2.0
"""The jobs that look at footage: refine, texture and estimate, each a few lines over the engine."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import torch

from posefit_shared.frames import Camera
from posefit_shared.messages import (
    EstimateRequest,
    EstimateResult,
    RefineRequest,
    RefineResult,
    TextureRequest,
    TextureResult,
)
from posefit_shared.sequence import Sequence

from ..body import BodyModel
from ..camera_file import LEVEL_CAMERA
from ..engine import refine_views
from ..estimate import estimate
from ..footage import Footage
from ..pipeline import Freedom, Hooks, Refinement
from ..refinement.others import in_frames_of
from ..texture_clip import paint_texture
from ..views import view_of_reference, view_of_sequence
from .job_context import JobContext
from .kept_footage import lent_footage
from .textures import uploaded_texture

__all__ = ["run_estimate", "run_refine", "run_texture"]


def run_refine(request: RefineRequest, body: BodyModel, context: JobContext) -> None:
    """Refine a sequence; provisional revisions go out as windows are solved, the last is final."""
    with ExitStack() as opened:
        footage = opened.enter_context(lent_footage(context.resolve_media(request.media)))
        views = [view_of_sequence(request.sequence, footage)]
        for more in request.more_views:
            path = context.resolve_media(more.media)
            views.append(view_of_reference(more, opened.enter_context(lent_footage(path))))
        texture = None
        if request.texture is not None:
            texture = uploaded_texture(context.content(request.texture, ".png"))

        others = () if request.others is None else in_frames_of(request.sequence, request.others)

        def publish(sequence: Sequence) -> None:
            context.publish(_result(sequence, {}))

        refinement = refine_views(
            request.sequence,
            views,
            body=body,
            settings=request.settings,
            texture=texture,
            freedom=_freedom(request, body),
            others=others,
            hooks=Hooks(
                progress=lambda fraction, stage: context.progress(fraction, stage),
                check_cancelled=context.check_cancelled,
                publish=publish,
            ),
        )
    context.publish(
        _result(refinement.sequence, _report(refinement), with_camera=_seeks_camera(request)),
        final=True,
        timings_ms=refinement.timings_ms,
    )


def run_texture(request: TextureRequest, body: BodyModel, context: JobContext) -> TextureResult:
    """Paint the person's texture from the footage."""
    with lent_footage(context.resolve_media(request.media)) as footage:
        context.progress(0.05, "painting the person's texture")
        texture = paint_texture(
            request.sequence,
            [view_of_sequence(request.sequence, footage)],
            body,
            texture_size=request.resolution,
            check_cancelled=context.check_cancelled,
        )
    rgb = (texture.rgb.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return TextureResult(rgb, texture.coverage.float().cpu().numpy(), texture.uv_hash)


def run_estimate(request: EstimateRequest, body: BodyModel, context: JobContext) -> EstimateResult:
    """Estimate one person's motion from footage alone."""
    with lent_footage(context.resolve_media(request.media)) as footage:
        stop = len(footage) if request.stop_frame is None else request.stop_frame
        sequence = estimate(
            footage,
            body=body,
            camera=_camera(request, footage),
            person=request.person,
            frame_indices=np.arange(request.start_frame, min(stop, len(footage))),
            progress=lambda done, total: context.progress(done / total, "following the person"),
            cancelled=lambda: bool(context.check_cancelled()),
        )
    return EstimateResult(sequence)


def _freedom(request: RefineRequest, body: BodyModel) -> Freedom:
    joints, frames = body.num_joints, len(request.sequence)
    locked = torch.zeros(joints, dtype=torch.bool, device=body.device)
    locked[list(request.locked_joints)] = True
    pinned = torch.zeros(frames, dtype=torch.bool, device=body.device)
    pinned[list(request.pinned_frames)] = True
    stiffness = None
    if request.stiffness is not None:
        stiffness = torch.tensor(request.stiffness, dtype=body.dtype, device=body.device)
    return Freedom(
        locked=locked if request.locked_joints else None,
        stiffness=stiffness,
        pinned=pinned if request.pinned_frames else None,
    )


def _camera(request: EstimateRequest, footage: Footage) -> Camera | None:
    if request.intrinsics is None:
        return None
    distortion = np.zeros(5) if request.distortion is None else request.distortion
    return Camera(request.intrinsics, LEVEL_CAMERA, footage.size, distortion)


def _seeks_camera(request: RefineRequest) -> bool:
    settings = request.settings
    return settings.refine_focal != "off" or settings.refine_distortion


def _result(sequence: Sequence, report: dict, *, with_camera: bool = False) -> RefineResult:
    frames, joints = sequence.poses.shape[:2]
    confidence = sequence.confidence
    if confidence is None:
        confidence = np.zeros((frames, joints), np.float32)
    betas = sequence.betas if sequence.betas.ndim == 1 else sequence.betas.mean(0)
    camera: dict[str, np.ndarray] = {}
    if with_camera and sequence.intrinsics is not None:
        distortion = np.zeros(5) if sequence.distortion is None else sequence.distortion
        camera = {"intrinsics": sequence.intrinsics.reshape(-1, 3, 3), "distortion": distortion}
    return RefineResult(
        frame_indices=np.asarray(sequence.frame_indices, np.int64),
        poses=sequence.poses,
        trans=sequence.trans,
        betas=np.asarray(betas, np.float32),
        confidence=confidence,
        status=sequence.status or ("kept",) * frames,
        report=report,
        **camera,
    )


def _report(refinement: Refinement) -> dict:
    verdict = refinement.verdict
    ratios = verdict.ratio[np.isfinite(verdict.ratio)]
    return {
        "frames": len(verdict.refined),
        "refined": int(verdict.refined.sum()),
        "misfit_after_by_before": float(np.median(ratios)) if len(ratios) else None,
    }
