# SPDX-License-Identifier: Apache-2.0
"""What a person looks at afterwards: one HTML page that needs no network, and an overlay video.

`data` says what a report is made of; `drawing` paints bodies, `charts` draws curves, `residuals`
measures how far the body is from what a detector sees, `page` puts words and pictures together.
"""

from .data import ReportData
from .page import write_report
from .video import write_overlay_video

__all__ = ["ReportData", "write_overlay_video", "write_report"]
