# SPDX-License-Identifier: Apache-2.0
"""What reading other tools' files can end in."""

from ..errors import PosefitError

__all__ = ["EvidenceError"]


class EvidenceError(PosefitError):
    """An evidence file that cannot be read, or that does not fit the footage or the body."""
