# SPDX-License-Identifier: Apache-2.0
"""The demo clip's assets fit together: cameras agree with each other and with what was marked."""

from pathlib import Path

import numpy as np
import pytest

from posefit import evaluate
from posefit.evaluate import EvaluationError
from posefit.footage import check_size, open_footage
from posefit.view_truth import read_truths
from posefit_shared.frames import project, undistort_points
from posefit_shared.shot import Shot, read_shot

DEMO = Path(evaluate.__file__).parent / "assets" / "demo"
CAMERAS = ("cam01", "cam02", "cam03", "cam04")


@pytest.fixture(scope="module")
def shot() -> Shot:
    return read_shot(DEMO / "shot.json")


def test_the_shot_names_four_cameras_with_footage_of_their_size(shot) -> None:
    assert tuple(camera.name for camera in shot.cameras) == CAMERAS
    for camera in shot.cameras:
        footage = open_footage(camera.footage)
        check_size(footage, camera.camera.image_size)
        assert len(footage) == 100
        assert footage.fps == pytest.approx(60)
        assert camera.frame_offset == 0


def test_cameras_stand_around_the_person_above_the_floor(shot) -> None:
    for camera in shot.cameras:
        position = camera.camera.position
        assert 1.5 < position[2] < 2.5
        assert 2.0 < np.hypot(*(position[:2] - [-1.1, 0.0])) < 5.0


def test_marks_of_three_or_more_cameras_meet_in_space(shot) -> None:
    """What was marked in each camera alone must triangulate, or calibration and marks are wrong."""
    truths = {truth.camera: truth for truth in read_truths(DEMO)}
    misses = []
    for frame in (15, 50, 85):
        names = {name for truth in truths.values() for name in truth.points[frame]}
        for name in names:
            seen = {c: t.points[frame][name] for c, t in truths.items() if name in t.points[frame]}
            if len(seen) >= 3:
                misses += miss_of_triangulation(shot, seen)
    assert len(misses) > 80
    assert np.median(misses) < 3.0
    assert max(misses) < 9.0


def miss_of_triangulation(shot: Shot, seen: dict[str, tuple[float, float]]) -> list[float]:
    rows = []
    for name, pixel in seen.items():
        camera = shot.camera(name).camera
        u, v = undistort_points(camera, pixel)
        matrix = camera.intrinsics @ camera.world_to_camera[:3] / 1000
        rows += [u * matrix[2] - matrix[0], v * matrix[2] - matrix[1]]
    point = np.linalg.svd(np.array(rows))[2][-1]
    place = point[:3] / point[3]
    return [
        float(np.linalg.norm(project(shot.camera(name).camera, place)[0] - pixel))
        for name, pixel in seen.items()
    ]


def test_marked_points_lie_on_the_person(shot, free_body) -> None:
    known = {*free_body.joint_names, *free_body.landmarks}
    for truth in read_truths(DEMO):
        assert sorted(truth.masks) == [15, 50, 85]
        for frame, points in truth.points.items():
            mask = truth.masks[frame]
            assert mask.shape == shot.camera(truth.camera).camera.image_size[::-1]
            assert 0.03 < mask.mean() < 0.09
            inside = [near(mask, *pixel) for pixel in points.values()]
            assert np.mean(inside) > 0.85, (truth.camera, frame)
            assert set(points) <= known


def near(mask: np.ndarray, x: float, y: float, reach: int = 6) -> bool:
    row, column = int(y), int(x)
    part = mask[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
    return bool(part.any())


def test_truths_that_are_not_there_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no marked points can be read"):
        read_truths(tmp_path)
    (tmp_path / "points.json").write_text('{"cameras": {"a": {"x": {}}}}')
    with pytest.raises(EvaluationError, match="no marked points can be read"):
        read_truths(tmp_path)


def test_licence_and_notice_lie_beside_what_they_are_of() -> None:
    assert "BSD 3-Clause" in (DEMO / "LICENSE").read_text("utf-8")
    assert "perfanalytics" in (DEMO / "NOTICE.md").read_text("utf-8")
    blazepose = DEMO.parent / "blazepose"
    assert "Apache License" in (blazepose / "LICENSE").read_text("utf-8")
    assert "MediaPipe" in (blazepose / "NOTICE.md").read_text("utf-8")
