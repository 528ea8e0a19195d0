# SPDX-License-Identifier: GPL-3.0-or-later
"""Cut the pictures of docs/first_refinement.md out of those of a session.

    .venv/bin/python tests/gui/doc_pictures.py out/gui/sid

Run it after `make test-gui` when panels have changed, and look at what it writes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

IMAGES = Path(__file__).resolve().parents[2] / "docs/images"
QUALITY = 88
SIDEBAR = (1018, 62, 1314)
"""Left edge, upper edge and right edge of the sidebar in a window of 1600 × 1100."""
VIEW = (300, 62, 1314, 1000)
"""The 3D view with its sidebar: left, upper, right and lower edge."""
VIEW_WIDTH = 860
"""As wide is the view in the page: a picture stays below 150 kB."""
ALIGN = (860, 600, 1314, 830)
"""The dialogue of Align to Footage, and the panel that it was opened from."""
PERSON = (430, 180, 810, 740)
"""The person in the 3D view."""

Picture = npt.NDArray[np.uint8]


def sidebar(picture: Picture, lower: int, upper: int = SIDEBAR[1]) -> Picture:
    """The sidebar down to a row."""
    return picture[upper:lower, SIDEBAR[0] : SIDEBAR[2]]


def cut(picture: Picture, edges: tuple[int, int, int, int]) -> Picture:
    """A part of a picture."""
    left, upper, right, lower = edges
    return picture[upper:lower, left:right]


def beside(*pictures: Picture) -> Picture:
    """Pictures in a row, a white gap between them."""
    height = max(len(one) for one in pictures)
    parts = []
    for one in pictures:
        below = np.full((height - len(one), one.shape[1], 3), 255, np.uint8)
        parts += [np.concatenate([one, below]), np.full((height, 12, 3), 255, np.uint8)]
    return np.concatenate(parts[:-1], axis=1)


def without_middle(picture: Picture, first: int, last: int) -> Picture:
    """A picture without the rows between two."""
    return np.concatenate([picture[:first], picture[last:]])


def smaller(picture: Picture, width: int) -> Picture:
    """A picture of a width."""
    height = round(len(picture) * width / picture.shape[1])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def main() -> int:
    """Write the pictures of the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("session", type=Path)
    session = parser.parse_args().session

    def of(name: str) -> Picture:
        found = sorted(session.glob(f"[0-9][0-9]_{name}.png"))
        if not found:
            raise SystemExit(f"{session} has no picture {name}: run make test-gui")
        return cv2.imread(str(found[0]))

    pictures = {
        "backend": beside(sidebar(of("tab"), 330), sidebar(of("connected"), 330)),
        "dialog": smaller(without_middle(of("estimate_dialog"), 230, 1034), 1000),
        "imported": smaller(cut(of("imported"), VIEW), VIEW_WIDTH),
        "under_way": sidebar(of("refine_range_under_way"), 990, 480),
        "before_after": beside(cut(of("imported"), PERSON), cut(of("frame_refined"), PERSON)),
        "compare": smaller(cut(of("comparing"), VIEW), VIEW_WIDTH),
        "review": smaller(cut(of("change_in_colours"), VIEW), VIEW_WIDTH),
        "queue": sidebar(of("queue"), 608, 326),
        "align": cut(of("align_dialog"), ALIGN),
        "killed": sidebar(of("backend_killed"), 434),
    }
    for name, picture in pictures.items():
        target = IMAGES / f"first_{name}.jpg"
        cv2.imwrite(str(target), picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        sys.stdout.write(f"{target.name} {target.stat().st_size / 1000:.0f} kB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
