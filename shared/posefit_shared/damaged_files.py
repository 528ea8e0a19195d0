# SPDX-License-Identifier: Apache-2.0
"""What numpy and zipfile raise on archives of arrays that are damaged, or no archives at all.

They do not promise a list; this one is what fuzzing found (tools/fuzz). Readers turn it into one
sentence that names the file.
"""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib

__all__ = ["DAMAGED_ARRAYS"]

DAMAGED_ARRAYS: tuple[type[Exception], ...] = (
    OSError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError,
    MemoryError, RuntimeError, SyntaxError, SystemError, struct.error, tokenize.TokenError,
    zlib.error, lzma.LZMAError, zipfile.BadZipFile,
)  # fmt: skip
