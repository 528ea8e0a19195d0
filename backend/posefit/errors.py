# SPDX-License-Identifier: Apache-2.0
"""The root of the errors that a user of the engine can act on.

Each message is one sentence that says what was found, what was expected and what to do; the
command line prints it, the worker sends it back, and neither shows a traceback.
"""

__all__ = ["PosefitError", "RefinementError"]


class PosefitError(RuntimeError):
    """Something that the user can mend."""


class RefinementError(PosefitError):
    """A refinement that cannot be started or finished."""
