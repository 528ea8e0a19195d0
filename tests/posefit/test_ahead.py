# SPDX-License-Identifier: Apache-2.0
"""Decoding beside computing: in order, bounded, each frame once, and nothing left running."""

import threading

import numpy as np
import pytest
import synthetic_clip as made
import torch

from posefit.ahead import Ahead, frames_ahead
from posefit.body import pose_body
from posefit.commands.demo import ASSETS
from posefit.footage import FootageError, open_footage
from posefit.parameters import parameters_of_sequence
from posefit.refinement.pictures import PicturesAhead, boxes_of_clip, load_pictures
from posefit.refinement.windows import split_windows
from posefit.views import View, view_of_sequence
from posefit_shared.frames import Camera


def is_over():
    return not any(thread.name == "ahead" for thread in threading.enumerate())


def test_results_come_in_order_and_no_more_lie_ready_than_allowed():
    begun, may_go_on = [], threading.Event()

    def make(k):
        begun.append(k)
        if k == 4:
            may_go_on.set()  # one is given, two lie ready, one waits for room: the fifth is begun
        return k * k

    with Ahead(make, 20, most=2) as results:
        assert next(results) == 0
        next(results)
        assert may_go_on.wait(10)
        assert len(begun) <= 5
        assert [*results] == [k * k for k in range(2, 20)]
    assert is_over()


def test_leaving_early_ends_the_thread_and_an_error_comes_where_its_frame_would():
    footage = made.ArrayFootage(np.zeros((3, 8, 8, 3), np.uint8))
    with frames_ahead(footage.read, [0, 1, 2, 7], 192) as frames:
        assert len([next(frames) for _ in range(3)]) == 3
        with pytest.raises(FootageError, match="frame 7 was asked for"):
            next(frames)
    with frames_ahead(footage.read, [0] * 1000, 192) as frames:
        next(frames)
    assert is_over()


def test_whoever_waits_can_stop():
    never = threading.Event()

    class StopError(Exception):
        pass

    def stop():
        never.set()
        raise StopError

    with pytest.raises(StopError), Ahead(lambda k: never.wait(60), 1, 1, stop) as results:
        next(results)
    assert is_over()


def test_a_disk_that_never_answers_holds_nobody(monkeypatch, caplog):
    monkeypatch.setattr("posefit.ahead._LONGEST_WAIT_S", 0.05)
    answers = threading.Event()
    with Ahead(lambda k: answers.wait(60), 1, 1):
        pass
    assert "it is not waited for" in caplog.text
    answers.set()


@pytest.mark.parametrize("in_two", [False, True])
def test_windows_get_the_pictures_of_their_frames_and_each_is_decoded_once(free_body, in_two):
    truth = made.true_sequence(free_body, 9, np.random.default_rng(1))
    footage = made.filmed(free_body, truth)
    view = view_of_sequence(truth, footage)
    parameters = parameters_of_sequence(truth, free_body)
    whole = load_pictures(view, range(9), pose_body(free_body, parameters).vertices)
    read, decode = [], footage.read
    footage.read = lambda index: read.append(index) or decode(index)
    boxes = boxes_of_clip([view], free_body, parameters)
    with PicturesAhead([view], boxes, free_body.device, in_two=in_two) as ahead:
        for window in split_windows(9, 4, 2):
            frames = [*range(window.start, window.stop)]
            (pictures,) = ahead.take(frames)
            for frame, picture in zip(frames, pictures, strict=True):
                np.testing.assert_array_equal(picture.image, whole[frame].image)
                np.testing.assert_array_equal(
                    picture.camera.intrinsics, whole[frame].camera.intrinsics
                )
    assert read == [*range(9)]


@pytest.mark.parametrize("in_two", [False, True])
def test_a_film_that_breaks_off_ends_both_threads_where_its_frame_was_wanted(in_two):
    with open_footage(ASSETS / "cam01.mp4") as footage:
        width, height = footage.size
        lens = np.array([[1000.0, 0, width / 2], [0, 1000.0, height / 2], [0, 0, 1]])
        camera = Camera(lens, np.eye(4), footage.size)
        view = View("camera", footage, np.array([0, 1, 2, len(footage)]), (camera,))
        boxes = [np.tile([width / 2, height / 2, 200.0], (4, 1))]
        with PicturesAhead([view], boxes, torch.device("cpu"), in_two=in_two) as ahead:
            (pictures,) = ahead.take([0, 1, 2])
            assert [picture.image.shape for picture in pictures] == [pictures[0].image.shape] * 3
            expected = footage.read(1)[height // 2 - 100, width // 2 - 100]
            assert (pictures[1].image[0, 0] == expected).all()
            with pytest.raises(FootageError, match="was asked for"):
                ahead.take([3])
    assert is_over()
