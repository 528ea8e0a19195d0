# SPDX-License-Identifier: Apache-2.0
"""A loopback port that answers who watches over a backend: /metrics, /healthz, /readyz.

The broker's thread leaves a report here every second; the port's own thread reads the last one and
touches nothing else. A report that has grown old means that the broker hangs.
"""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from posefit_shared.addresses import is_loopback

from .config import ServeError
from .watching import metrics_text

__all__ = ["MetricsPort"]

FRESH_S = 10.0
"""Age of the last report beyond which the broker counts as hung."""
REQUEST_S = 5.0
"""Time that one request may take."""


class MetricsPort:
    """The port, from its opening to `close`."""

    def __init__(self, address: str) -> None:
        """Listen.

        Args:
            address: loopback `host:port`; port 0 takes a free one.

        Raises:
            ServeError: it is malformed, not loopback, or taken.
        """
        host, _, port = address.rpartition(":")
        if not is_loopback(host) or not port.isdecimal() or int(port) > 65535:
            raise ServeError(
                f"the metrics' address is {address!r}, expected a loopback one such as "
                "127.0.0.1:9464: let a proxy with a login of its own pass it on to other machines"
            )
        self._report: dict[str, Any] = {}
        self._told_at = time.monotonic()
        try:
            self._server = ThreadingHTTPServer((host, int(port)), self._handler())
        except OSError as error:
            raise ServeError(
                f"cannot answer for metrics on {address} ({error.strerror}): choose another port"
            ) from error
        self._server.daemon_threads = True
        self.address = f"{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def tell(self, report: dict[str, Any]) -> None:
        """Leave a new report; for the broker's thread."""
        self._report, self._told_at = report, time.monotonic()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str) -> tuple[int, str]:
        """Status and text for a path."""
        report, age_s = self._report, time.monotonic() - self._told_at
        if path == "/metrics":
            return (200, metrics_text(report)) if report else (503, "starting\n")
        if path == "/healthz":
            words = f"the broker last gave a sign {age_s:.0f} s ago\n"
            return (200, "ok\n") if age_s < FRESH_S else (503, words)
        if path == "/readyz":
            is_ready = age_s < FRESH_S and report.get("is_ready", False)
            return (200, "ok\n") if is_ready else (503, "no worker is ready\n")
        return 404, "there are /metrics, /healthz and /readyz\n"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        port = self

        class Handler(BaseHTTPRequestHandler):
            timeout = REQUEST_S

            def do_GET(self) -> None:  # noqa: N802  # the base class's name for it
                status, text = port.answer(self.path.partition("?")[0])
                content = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Requests are not logged: there is one every few seconds."""

        return Handler
