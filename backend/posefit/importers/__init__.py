# SPDX-License-Identifier: Apache-2.0
"""Other tools' results as sequences: `posefit import`, and what the extension sends to import.

A module a family of formats says how its files lie and which source that was read from;
`registry` tells formats apart. `content` opens files without running anything from them, `fields`
checks their numbers, `cameras` and `worlds` bring them into posefit's conventions.
"""

from .person import ImportedPerson, ImporterError, ImportOptions
from .registry import FORMATS, Imported, import_file, read, sniff

__all__ = [
    "FORMATS",
    "ImporterError",
    "ImportOptions",
    "Imported",
    "ImportedPerson",
    "import_file",
    "read",
    "sniff",
]
