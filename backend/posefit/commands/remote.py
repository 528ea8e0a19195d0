# SPDX-License-Identifier: Apache-2.0
"""`posefit refine --server`: the same refinement, computed by a running backend."""

from __future__ import annotations

from pathlib import Path

from posefit_shared.client import JobFailed
from posefit_shared.messages import FREE_BODY, MediaReference, RefineRequest, RefineResult
from posefit_shared.sequence import Sequence
from posefit_shared.settings import RefineSettings

from ..errors import RefinementError
from ..pipeline import Hooks
from .backend_address import Server, connect

__all__ = ["refine_on_server"]

_CONNECT_S = 10.0


def refine_on_server(
    server: Server,
    sequence: Sequence,
    frames: Path,
    *,
    body: str,
    texture: Path | None,
    settings: RefineSettings,
    hooks: Hooks,
) -> Sequence:
    """Refine one sequence on a backend.

    Footage is named by its path first, which works on one machine below the backend's media
    roots; a video that the backend may not open there is uploaded.

    Args:
        server: the backend.
        sequence: with its camera.
        frames: video file or folder of images.
        body: `free`, or the path of a body file, which is uploaded.
        texture: PNG of the person's texture, which is uploaded.
        settings: how to refine.
        hooks: progress.

    Returns:
        The refined sequence.

    Raises:
        BackendError: the backend is not there, or the job failed; in words.
        KeyFileError: the keys cannot be read or trusted.
        RefinementError: no such footage.
    """
    if not frames.exists():
        raise RefinementError(f"no footage at {frames}: check the path")
    with connect(server, "posefit refine") as client:
        client.wait_ready(_CONNECT_S)
        body_name = FREE_BODY if body == FREE_BODY else client.upload(Path(body), "body")
        painted = None if texture is None else client.upload(texture, "texture")

        def ask(media: MediaReference) -> RefineResult:
            request = RefineRequest(
                sequence=sequence, media=media, body=body_name, settings=settings, texture=painted
            )
            job = client.submit(request, "batch")
            result = client.wait(
                job, on_progress=lambda event: hooks.progress(event.fraction, event.stage)
            )
            assert isinstance(result.payload, RefineResult), "a refine job gives a RefineResult"
            return result.payload

        try:
            found = ask(MediaReference(path=str(frames.resolve())))
        except JobFailed as failure:
            if failure.kind not in ("media", "MediaError") or not frames.is_file():
                raise
            uploaded = client.upload(frames, "media")
            found = ask(MediaReference(content_hash=uploaded, name=frames.name))
    camera = {}
    if found.intrinsics is not None:
        one = len(found.intrinsics) == 1
        camera = {
            "intrinsics": found.intrinsics[0] if one else found.intrinsics,
            "distortion": found.distortion,
        }
    return sequence.replace(
        poses=found.poses,
        trans=found.trans,
        betas=found.betas,
        confidence=found.confidence,
        status=found.status,
        **camera,
    )
