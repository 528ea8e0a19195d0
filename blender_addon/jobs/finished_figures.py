# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of a refinement under way that are done, as stick figures: made when one is looked at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from posefit_shared.messages import RefineResult

from ..overlays.stick_figure import figure_lines, joint_places
from ..rigs.rig import frames_at
from ..scenes.scene_reader import SceneRequest
from .partial_result import Rows, asked_rows


class FinishedFigures:
    """The done frames of one provisional revision."""

    def __init__(self, request: SceneRequest, result: RefineResult, rows: Rows) -> None:
        """
        Args:
            request: what was asked for.
            result: what came back.
            rows: (N,) as `finished_rows` gave them.
        """
        self._request, self._result = request, result
        every = asked_rows(request.sequence, result) if len(rows) else rows
        assert every is not None  # `finished_rows` found some
        places = np.flatnonzero(np.isin(every, rows))
        scene_frames = request.frames.scene_frames
        pairs = zip(rows.tolist(), places.tolist(), strict=True)
        self._places = {scene_frames[row]: (row, place) for row, place in pairs}

    @property
    def scene_frames(self) -> list[int]:
        """Those frames, in order of time."""
        return sorted(self._places)

    def at(self, scene_frame: int) -> npt.NDArray[np.float32] | None:
        """(L, 3) ends of lines in the world on one frame; none where it is not done."""
        if scene_frame not in self._places:
            return None
        row, place = self._places[scene_frame]
        frames = frames_at(self._request.frames, np.array([row]))
        poses, trans = self._result.poses[place], self._result.trans[place]
        return figure_lines(joint_places(poses[None], trans[None], frames), frames.match.parents)[0]
