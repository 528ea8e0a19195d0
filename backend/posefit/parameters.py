# SPDX-License-Identifier: Apache-2.0
"""Sequences as the solver's tensors, and back."""

from __future__ import annotations

import logging

import numpy as np
import torch

from posefit_shared.sequence import Sequence

from .body import BodyModel, PoseParameters
from .errors import RefinementError

__all__ = ["parameters_of_sequence", "sequence_with_parameters"]

logger = logging.getLogger(__name__)


def parameters_of_sequence(sequence: Sequence, body: BodyModel) -> PoseParameters:
    """A sequence's parameters on the body's device, one row a frame.

    Betas that are known to belong to another body mean nothing on this one: they are left out,
    and a refinement finds the shape afresh.

    Raises:
        RefinementError: the sequence poses other joints than the body has.
    """
    frames, joints = sequence.poses.shape[:2]
    if joints != body.num_joints:
        raise RefinementError(
            f"the sequence poses {joints} joints ({sequence.model_type}), the body {body.name!r} "
            f"has {body.num_joints}: give the body that the sequence was made for"
        )
    betas = np.atleast_2d(sequence.betas)
    if sequence.body not in ("", body.name, body.content_hash):
        logger.warning("the sequence's betas belong to another body and are left out")
        betas = np.zeros((1, body.num_betas), np.float32)
    if betas.shape[1] > body.num_betas:
        logger.warning(
            "the first %d of %d betas are used: the body has no more",
            body.num_betas,
            betas.shape[1],
        )
    full = np.zeros((frames, body.num_betas), np.float32)
    kept = min(body.num_betas, betas.shape[1])
    full[:, :kept] = betas[:, :kept]

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.tensor(values, dtype=body.dtype, device=body.device)

    return PoseParameters(
        betas=tensor(full),
        global_orient=tensor(sequence.poses[:, 0]),
        body_pose=tensor(sequence.poses[:, 1:]),
        transl=tensor(sequence.trans),
    )


def sequence_with_parameters(
    sequence: Sequence, parameters: PoseParameters, body: BodyModel
) -> Sequence:
    """The sequence with new poses, translations and shape; everything else stays.

    One row of betas is written where all frames share their shape.
    """
    poses = torch.cat([parameters.global_orient[:, None], parameters.body_pose], dim=1)
    betas = parameters.betas.cpu().numpy().astype(np.float32)
    if (betas == betas[:1]).all():
        betas = betas[0]
    return sequence.replace(
        poses=poses.cpu().numpy(),
        trans=parameters.transl.cpu().numpy(),
        betas=betas,
        body=body.content_hash,
    )
