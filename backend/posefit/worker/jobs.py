# SPDX-License-Identifier: Apache-2.0
"""What a worker does for each kind of job: requests in, results out, the engine in between.

A worker imports this module by name (`ServeConfig.handlers`), calls `warm_up` once and `run_job`
for every job. Each kind is one function here; the method itself is elsewhere. What only some kinds
need is imported with the first of them, so that a worker is ready sooner.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from posefit_shared.frames import Camera
from posefit_shared.messages import (
    FREE_BODY,
    ImportRequest,
    ImportResult,
    PingRequest,
    PingResult,
    PreviewRequest,
    PreviewResult,
    Record,
    Request,
)

from ..body import BodyModel, PoseParameters, load_body, pose_body
from ..crop import crop_frames
from ..devices import choose_device
from ..errors import PosefitError
from ..gpu.memory import give_back, give_back_to_system, limit_gpu_memory
from ..modalities import Modalities, render_modalities
from ..parameters import parameters_of_sequence
from .job_context import JobContext, WorkerInfo
from .kept_footage import forget_footage
from .reading_fence import OutsideFence, fenced
from .textures import forget_textures, uploaded_texture

__all__ = ["JobError", "rehearse", "rest", "run_job", "stand_by", "warm_up"]

logger = logging.getLogger(__name__)

PREVIEW_DEPTH_RANGE_M = 1.0
"""Depth behind the nearest point that a preview still tells apart."""


class JobError(PosefitError):
    """A job that this backend cannot run; the message says why."""


def warm_up(device: str) -> WorkerInfo:
    """Find the device and load what every job needs.

    Args:
        device: `cpu`, `cuda`, `cuda:N`, `auto`, or `auto:N` for the N-th GPU where there is one.
    """
    chosen = _choose(device)
    limit_gpu_memory(chosen)
    body = _load_body(FREE_BODY, str(chosen))
    _render_once(body)
    words = "cpu"
    if chosen.type == "cuda":
        words = f"{chosen} ({torch.cuda.get_device_name(chosen)})"
    return WorkerInfo(str(chosen), words, (body.name or FREE_BODY,), tuple(_JOBS))


def rehearse(device: str, is_wanted: Callable[[], bool]) -> bool:
    """Refine a made-up frame, so that the first real one is as fast as the tenth.

    Args:
        device: as `warm_up` found it.
        is_wanted: whether a job has come; the rehearsal then ends.

    Returns:
        Whether it came to its end.
    """
    from .rehearsal import rehearse_frame

    return rehearse_frame(_load_body(FREE_BODY, device), is_wanted)


def stand_by(device: str) -> bool:
    """Load what a standby may: everything on a CPU; for a GPU the modules, the device untouched.

    Args:
        device: as `warm_up` takes it.

    Returns:
        Whether a frame has been rehearsed as well.
    """
    import_module(".rehearsal", __package__)
    chosen = _choose(device)
    if chosen.type == "cuda":
        return False
    has_rehearsed = rehearse(warm_up(device).device, lambda: False)
    give_back_to_system()
    return has_rehearsed


def rest() -> None:
    """Give back what a worker without work keeps of a GPU; the next job records anew."""
    forget_textures()
    forget_footage()
    give_back()


def run_job(request: Request, context: JobContext) -> Record | None:
    """Run one job.

    Args:
        request: what is wanted.
        context: the line to the client and to its files.

    Returns:
        The final result, unless it has been published already.

    Raises:
        PosefitError: in words for the client.
        JobCancelled: the client has cancelled the job.
    """
    if request.KIND not in _JOBS:
        raise JobError(f"this backend cannot run {request.KIND} jobs: update it")
    return _JOBS[request.KIND](request, context)


def _ping(request: PingRequest, context: JobContext) -> PingResult:
    context.check_cancelled()
    return PingResult(request.text, request.data)


def _preview(request: PreviewRequest, context: JobContext) -> PreviewResult:
    """Pictures of the body in one frame."""
    body = body_of_job(request.body, context)
    sequence = request.sequence.slice(request.frame, request.frame + 1)
    parameters = parameters_of_sequence(sequence, body)
    width, height = request.image_size
    with torch.no_grad():
        modalities, _ = render_modalities(
            body,
            pose_body(body, parameters).vertices,
            torch.tensor(request.world_to_camera, dtype=body.dtype, device=body.device)[None],
            torch.tensor(request.intrinsics, dtype=body.dtype, device=body.device)[None],
            (height, width),
            texture=_texture(request.texture, context, body),
        )
        pictures = [_picture(name, modalities) for name in request.modalities]
    return PreviewResult(request.modalities, torch.cat(pictures).cpu().numpy())


def _import(request: ImportRequest, context: JobContext) -> ImportResult:
    """One person of another tool's file."""
    from ..commands.importing import import_for_client

    context.progress(0.0, "reading the file")
    path = context.resolve_media(request.media)
    body = _body_source(request.body, context)
    try:
        with fenced(context.readable_folders):
            return import_for_client(path, request, body)
    except OutsideFence as error:
        raise JobError(
            f"{path.name} needs a file beside it that this backend may not read: keep what belongs "
            "together below one media root"
        ) from error


def _with_body(module: str, function: str) -> Callable[[Any, JobContext], Record | None]:
    """A job that gets the body its request names; its module is imported with the first one."""

    def run(request: Any, context: JobContext) -> Record | None:
        run_with_body = getattr(import_module(module, __package__), function)
        return run_with_body(request, body_of_job(request.body, context), context)

    return run


_JOBS: dict[str, Callable[[Any, JobContext], Record | None]] = {
    "ping": _ping,
    "preview": _preview,
    "refine": _with_body(".refinement_jobs", "run_refine"),
    "texture": _with_body(".refinement_jobs", "run_texture"),
    "estimate": _with_body(".refinement_jobs", "run_estimate"),
    "align": _with_body(".alignment_job", "run_align"),
    "import": _import,
}
"""What this backend can do."""


def body_of_job(body: str, context: JobContext) -> BodyModel:
    """The body that a request names: the free one, or an uploaded file of either format.

    Raises:
        BodyFileError: the uploaded file is no body.
    """
    return _load_body(_body_source(body, context), context.device)


def _body_source(body: str, context: JobContext) -> str:
    """What readers of bodies take: `free`, or the uploaded file under a name that they know."""
    if body == FREE_BODY:
        return FREE_BODY
    path = context.content(body)
    with path.open("rb") as file:
        is_archive = file.read(4) == b"PK\x03\x04"
    return str(path if is_archive else context.content(body, ".pkl"))


@lru_cache(maxsize=4)
def _load_body(source: str, device: str) -> BodyModel:
    """Bodies stay loaded between jobs; an uploaded file never changes under its hash."""
    return load_body(source, device)


def _render_once(body: BodyModel) -> None:
    """Load the kernels of crops and renderings now and not in somebody's first job."""
    camera = Camera(np.eye(3), np.eye(4), (8, 8))
    crop_frames([np.zeros((8, 8, 3), np.uint8)], [[4.0, 4.0, 8.0]], [camera], 8, device=body.device)
    still = PoseParameters(
        *(
            torch.zeros(1, *shape, dtype=body.dtype, device=body.device)
            for shape in ((body.num_betas,), (3,), (body.num_joints - 1, 3), (3,))
        )
    )
    away = torch.eye(4, dtype=body.dtype, device=body.device)[None]
    away[:, 2, 3] = 3.0
    lens = away[:, :3, :3] * 32
    with torch.no_grad():
        render_modalities(body, pose_body(body, still).vertices, away, lens, (32, 32))


def _texture(
    content_hash: str | None, context: JobContext, body: BodyModel
) -> Float[Tensor, "1 4 height width"] | None:
    """An uploaded texture as the renderer takes it."""
    if content_hash is None:
        return None
    return uploaded_texture(context.content(content_hash, ".png")).maps(body)([0])


def _picture(name: str, modalities: Modalities) -> Float[Tensor, "1 height width 4"]:
    """One modality as RGBA, 0 to 255."""
    mask = modalities.mask
    if name == "normals":
        rgb = modalities.normals * modalities.normals.new_tensor([0.5, -0.5, -0.5])[:, None, None]
        rgb = rgb + 0.5
    elif name == "depth":
        near = modalities.depth[mask > 0].min() if mask.any() else modalities.depth.new_zeros(())
        rgb = (1 - (modalities.depth - near) / PREVIEW_DEPTH_RANGE_M).expand(-1, 3, -1, -1)
    elif name == "mask":
        rgb = mask.expand(-1, 3, -1, -1)
    else:
        rgb = {"rgb": modalities.rgb, "vertex_colors": modalities.vertex_colors}[name]
    rgba = torch.cat([rgb * mask, mask], dim=1).clamp(0, 1)
    return (rgba * 255).round().permute(0, 2, 3, 1).to(torch.uint8)


def _choose(device: str) -> torch.device:
    """The device that a worker's setting means on this machine."""
    name, _, index = device.partition(":")
    if name != "auto":
        return (
            choose_device(name) if not index else torch.device(choose_device(name).type, int(index))
        )
    is_there = torch.cuda.is_available() and int(index or 0) < torch.cuda.device_count()
    return torch.device("cuda", int(index or 0)) if is_there else torch.device("cpu")
