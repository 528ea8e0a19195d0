# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of frames read as people write them; runs without Blender."""

import pytest
from blender_addon.control.frame_list import read_frames, write_frames
from blender_addon.rigs.rig import SceneError


@pytest.mark.parametrize(
    ("text", "frames"),
    [
        ("", ()),
        ("7", (7,)),
        ("1, 20-24", (1, 20, 21, 22, 23, 24)),
        (" 3 ,1,, 2..3 ", (1, 2, 3)),
        ("-5--3, -1 - 1", (-5, -4, -3, -1, 0, 1)),
    ],
)
def test_frames_and_ranges_are_read_in_order(text, frames):
    assert read_frames(text) == frames
    assert read_frames(write_frames(frames)) == frames


def test_runs_are_written_as_ranges():
    assert write_frames([24, 1, 20, 21, 22, 23, 23]) == "1, 20-24"
    assert write_frames(range(-2, 2)) == "-2-1"
    assert write_frames([]) == ""


@pytest.mark.parametrize("text", ["1, x", "5-2", "1.5", "0-99999999"])
def test_what_is_no_frame_is_quoted(text):
    with pytest.raises(SceneError, match=text.split(", ")[-1]):
        read_frames(text)
