# SPDX-License-Identifier: Apache-2.0
"""Other tools' findings as evidence for the solver: keypoints, dense maps, silhouettes.

`files` reads what a user names and ties it to a sequence and a view; the other modules read one
kind each. Formats and conventions: docs/evidence.md.
"""

from .errors import EvidenceError
from .files import EvidenceFiles, evidence_of_files

__all__ = ["EvidenceError", "EvidenceFiles", "evidence_of_files"]
