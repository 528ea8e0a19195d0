# SPDX-License-Identifier: Apache-2.0
"""The root of the errors that a user of the engine can act on.

Each message is one sentence that says what was found, what was expected and what to do; the
command line prints it, the worker sends it back, and neither shows a traceback.
"""

__all__ = ["OUT_OF_MEMORY", "PosefitError", "RefinementError", "is_out_of_memory"]

OUT_OF_MEMORY = "memory ran out: choose a smaller window_frames, or fewer frames"
_MEMORY_WORDS = (
    "out of memory", "allocate memory", "not enough memory", "failed to allocate", "alloc_failed",
)  # fmt: skip
"""How CUDA, torch's allocator of the host, Windows', OpenCV and Warp, and cuBLAS say so."""


class PosefitError(RuntimeError):
    """Something that the user can mend."""


class RefinementError(PosefitError):
    """A refinement that cannot be started or finished."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, a GPU's or the machine's, whoever noticed.

    Args:
        error: of any library; none of them is imported for it.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = str(error).lower()
    return not isinstance(error, (OSError, PosefitError)) and any(w in words for w in _MEMORY_WORDS)
