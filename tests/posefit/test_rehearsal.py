# SPDX-License-Identifier: Apache-2.0
"""The made-up frame that a worker refines before the first real one."""

import logging

import pytest

from posefit.worker.jobs import rehearse, stand_by, warm_up
from posefit.worker.rehearsal import rehearse_frame


def test_a_rehearsal_ends_when_a_job_comes(free_body):
    asked = []

    def is_wanted():
        asked.append(None)
        return len(asked) > 2

    assert not rehearse_frame(free_body, is_wanted)
    assert len(asked) == 3


@pytest.mark.slow
def test_a_rehearsal_goes_through_and_alarms_nobody(caplog):
    with caplog.at_level(logging.WARNING):
        assert rehearse(warm_up("cpu").device, lambda: False)
    assert caplog.records == []


@pytest.mark.slow
def test_a_standby_of_a_cpu_has_rehearsed_before_it_is_needed():
    assert stand_by("cpu")
