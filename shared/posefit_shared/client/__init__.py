# SPDX-License-Identifier: Apache-2.0
"""The client of a backend: submit, poll, cancel, upload; see `Client`.

`api` is what users call, `connection` the worker thread that owns the socket, `conversation` the
protocol without its socket, `inbox` the way back, `state` the errors and settings.
"""

from ..addresses import DEFAULT_ADDRESS
from ..key_files import CurveKeys
from .api import Client
from .state import (
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    ClientConfig,
    ConnectionState,
    JobFailed,
    StateChanged,
)

__all__ = [
    "DEFAULT_ADDRESS", "BackendError", "BackendTimeout", "BackendUnavailable",
    "Client", "ClientConfig", "ConnectionState", "CurveKeys", "JobFailed", "StateChanged",
]  # fmt: skip
