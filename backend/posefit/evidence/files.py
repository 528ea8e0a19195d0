# SPDX-License-Identifier: Apache-2.0
"""The evidence files that a user names, read and tied to a sequence in a view."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from posefit_shared.sequence import Sequence

from ..body import BodyModel
from ..refinement.others import Occluders
from ..solver import Evidence
from ..views import View
from .densepose import IuvMaps, dense_evidence
from .errors import EvidenceError
from .frame_files import FrameNames
from .keypoint_files import read_keypoint_files
from .person_choice import landmark_evidence
from .silhouettes import MaskFiles, silhouette_evidence
from .surface_charts import read_surface_charts

__all__ = ["EvidenceFiles", "evidence_of_files"]


@dataclass(frozen=True)
class EvidenceFiles:
    """Where other tools' findings for one footage are; None where there are none."""

    keypoints: Path | None = None
    """OpenPose folder, COCO or MediaPipe file."""
    densepose: Path | None = None
    """Folder of IUV maps."""
    iuv_mapping: Path | None = None
    """What the maps' parts and coordinates mean on the body."""
    masks: Path | None = None
    """Folder of person masks."""

    def __post_init__(self) -> None:
        if self.densepose is not None and self.iuv_mapping is None:
            raise EvidenceError(
                "--densepose needs --iuv-mapping FILE, which says where parts and coordinates are "
                "on the body: give DensePose's UV_Processed.mat (docs/evidence.md)"
            )

    def of_view(self, name: str) -> EvidenceFiles:
        """The files of one camera of a shot: what lies under its name in each folder, where there
        is any; the mapping is everybody's."""

        def own(path: Path | None) -> Path | None:
            matches = sorted(path.glob(f"{name}*")) if path is not None and path.is_dir() else []
            exact = [match for match in matches if match.stem == name]
            return exact[0] if exact else None

        return EvidenceFiles(
            own(self.keypoints), own(self.densepose), self.iuv_mapping, own(self.masks)
        )

    def __bool__(self) -> bool:
        return any((self.keypoints, self.densepose, self.masks))


def evidence_of_files(
    files: EvidenceFiles,
    sequence: Sequence,
    view: View,
    body: BodyModel,
    others: Occluders | None = None,
) -> list[Evidence]:
    """Everything that the files say of the sequence's person in a view.

    Args:
        files: of the view's footage.
        sequence: where the person is thought to be.
        view: its camera and frames.
        body: the model that the sequence poses.
        others: who else is there; masks say nothing where they stand in front.

    Returns:
        One entry a kind, a row a frame of the sequence.

    Raises:
        EvidenceError: a file cannot be read, or says nothing of this person.
    """
    names = FrameNames.of(view.footage)
    found: list[Evidence] = []
    if files.keypoints is not None:
        people = read_keypoint_files(files.keypoints, names, view.footage.size)
        found.append(landmark_evidence(people, sequence, view, body))
    if files.densepose is not None and files.iuv_mapping is not None:
        charts = read_surface_charts(files.iuv_mapping)
        maps = IuvMaps.of(files.densepose, names)
        found.append(dense_evidence(maps, charts, sequence, view, body))
    if files.masks is not None:
        masks = MaskFiles.of(files.masks, names)
        found.append(silhouette_evidence(masks, sequence, view, body, others))
    return found
