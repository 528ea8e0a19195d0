# SPDX-License-Identifier: Apache-2.0
"""Films and textures that stay from one job to the next, and no longer than they are the same."""

import os

import cv2
import numpy as np
import pytest
import torch

from posefit.commands.demo import ASSETS
from posefit.footage import FootageError
from posefit.texture import Texture, save_png
from posefit.worker.kept_footage import forget_footage, lent_footage
from posefit.worker.textures import forget_textures, uploaded_texture


@pytest.fixture(autouse=True)
def _nothing_is_kept():
    forget_footage()
    forget_textures()
    yield
    forget_footage()
    forget_textures()


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes((ASSETS / "cam01.mp4").read_bytes())
    return path


def test_a_film_is_opened_once_and_shows_the_same_frames(film):
    with lent_footage(film) as first:
        picture = first.read(5)
    with lent_footage(film) as again:
        assert again is first
        assert (again.read(5) == picture).all()
    forget_footage()
    with lent_footage(film) as opened:
        assert opened is not first
        assert (opened.read(5) == picture).all()


def test_one_film_is_lent_to_one_at_a_time(film):
    with lent_footage(film) as one, lent_footage(film) as other:
        assert one is not other


def test_a_film_that_changed_or_failed_is_opened_anew(film):
    with lent_footage(film) as first:
        pass
    film.write_bytes((ASSETS / "cam02.mp4").read_bytes())
    os.utime(film, ns=(1, 1))
    with lent_footage(film) as changed:
        assert changed is not first
    with pytest.raises(FootageError), lent_footage(film) as broken:
        broken.read(10_000)
    with lent_footage(film) as after:
        assert after is not broken


def test_a_folder_is_listed_each_time(tmp_path):
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
        with lent_footage(tmp_path) as footage:
            pass
    assert len(footage) == 2


def test_a_texture_is_read_once_until_it_changes(tmp_path, free_body):
    path = tmp_path / "skin.png"
    texture = Texture(torch.full((8, 8, 3), 0.5), torch.ones(8, 8), "")
    save_png(texture, path)
    first = uploaded_texture(path)
    assert uploaded_texture(path) is first
    assert first.maps(free_body)([0]) is first.maps(free_body)([0])  # on its way to a GPU once
    save_png(Texture(torch.zeros(8, 8, 3), torch.ones(8, 8), ""), path)
    os.utime(path, ns=(1, 1))
    assert float(uploaded_texture(path).rgb.max()) == 0.0
