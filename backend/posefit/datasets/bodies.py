# SPDX-License-Identifier: Apache-2.0
"""The user's body models by type and gender: data sets and predictions rarely share one model."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from posefit_shared.body_files import FREE_BODY
from posefit_shared.sequence import Sequence

from ..body import BodyModel, load_body
from .recording import DatasetError

__all__ = ["Bodies"]

_BETAS = 16
"""Shape coefficients kept: BEDLAM has 11, most data sets 10."""
_NAMES = {
    "smpl": {
        "male": r"(smpl_male|basicmodel_m_lbs.*)",
        "female": r"(smpl_female|basicmodel_f_lbs.*)",
        "neutral": r"(smpl_neutral|basicmodel_neutral_lbs.*)",
    },
    "smplh": {gender: f"smplh_{gender}" for gender in ("male", "female", "neutral")},
    "smplx": {gender: f"smplx_{gender}" for gender in ("male", "female", "neutral")},
}
"""What the official files are called, without ending, by model type and gender."""


class Bodies:
    """Finds and loads the body that a sequence belongs to; each file is read once."""

    def __init__(self, source: str | Path, device: str = "cpu") -> None:
        """Takes the place; nothing is read yet.

        Args:
            source: one body file or "free", which then serves every gender; or a folder that
                holds the official files (`SMPL_MALE.pkl`, `basicModel_f_lbs_….pkl`, …) at any
                depth.
            device: where bodies go.
        """
        self.source = source
        self.device = device
        self._load = functools.lru_cache(maxsize=9)(self._load_file)

    @property
    def is_free(self) -> bool:
        """Whether the free body stands in for the data sets' own."""
        return str(self.source) == FREE_BODY

    def of(self, sequence: Sequence) -> BodyModel:
        """The body of a sequence, by its model type and gender.

        Args:
            sequence: whose poses and shape the body is for.

        Raises:
            DatasetError: the folder holds no such file.
            BodyFileError: the file cannot be used.
        """
        return self.get(sequence.model_type, sequence.gender)

    def get(self, model_type: str, gender: str) -> BodyModel:
        """A body by model type and gender.

        Args:
            model_type: `smpl`, `smplh` or `smplx`.
            gender: `male`, `female` or `neutral`.

        Raises:
            DatasetError: the folder holds no such file.
            BodyFileError: the file cannot be used.
        """
        if self.is_free:
            return self._load(FREE_BODY)
        path = Path(self.source).expanduser()
        if not path.is_dir():
            return self._load(str(path))
        pattern = re.compile(_NAMES[model_type][gender], re.IGNORECASE)
        files = [
            file
            for file in sorted(path.rglob("*"))
            if file.suffix.lower() in (".npz", ".pkl") and pattern.fullmatch(file.stem)
        ]
        if not files:
            example = f"{model_type.upper()}_{gender.upper()}.pkl"
            raise DatasetError(
                f"the body folder {path} holds no {gender} {model_type} model ({example}): "
                "put it there (docs/datasets.md)"
            )
        return self._load(str(files[0]))

    def _load_file(self, path: str) -> BodyModel:
        return load_body(path, self.device, num_betas=_BETAS)
