# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a job will still take, from what a backend says or from how far it has come."""

import time

import pytest
from blender_addon.jobs.job import Job
from blender_addon.jobs.time_left import TimeLeft, duration_words


def test_nothing_is_known_before_anything_was_done():
    left = TimeLeft()
    assert left.seconds(0.0) is None
    left.report(0.0, 0.0)
    left.report(5.0, 0.0)
    assert left.seconds(5.0) is None


def test_without_a_word_from_the_backend_the_rest_goes_on_as_what_was_done():
    left = TimeLeft()
    left.report(100.0, 0.2)  # what came before it was seen does not count
    left.report(110.0, 0.4)
    assert left.seconds(110.0) == pytest.approx(30.0)


def test_the_backends_word_counts_and_is_counted_down():
    left = TimeLeft()
    left.report(0.0, 0.5, eta_s=20.0)
    assert left.seconds(8.0) == 12.0
    assert left.seconds(50.0) == 0.0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (2.2, "2 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (150, "2 min"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds, words):
    assert duration_words(seconds) == words


def test_less_than_a_second_is_not_said():
    now = time.monotonic()
    job = Job("Scene", words="solving")
    job.time_left.report(now, 0.5, eta_s=0.4)
    assert job.line == "solving"
    job.time_left.report(now, 0.5, eta_s=3600.0)
    assert job.line.startswith("solving, ")
    assert job.line.endswith(" left")
