# SPDX-License-Identifier: Apache-2.0
"""Two people before one camera: what the nearer one hides of the other is known to be hidden."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import synthetic_clip as made
import torch
from PIL import Image

from posefit.batch import Job, read_jobs
from posefit.batch.ray_tasks import with_whole_paths
from posefit.body import pose_body
from posefit.errors import RefinementError
from posefit.parameters import parameters_of_sequence
from posefit.pipeline import Clip, refine
from posefit.refine_files import RefineFiles, people_of_files
from posefit.refinement.observation import Observer
from posefit.refinement.others import Occluders, in_camera_of, in_frames_of, in_world_of
from posefit.refinement.pictures import load_pictures, project_points
from posefit.solver import BLAZEPOSE, LandmarkPixels
from posefit.texture_clip import paint_from_views
from posefit.views import view_of_sequence
from posefit.worker import refinement_jobs
from posefit_shared.messages import MediaReference, OtherPeople, RefineRequest
from posefit_shared.rotations import matrix_to_rotvec, rotvec_to_matrix
from posefit_shared.sequence import SequenceError, write_sequence
from posefit_shared.settings import RefineSettings

FRAMES = 3


@pytest.fixture(scope="module")
def person(free_body):
    return made.true_sequence(free_body, FRAMES, np.random.default_rng(3))


@pytest.fixture(scope="module")
def passer_by(person):
    """Half a metre nearer to the camera, and so far to the side that half of the person shows."""
    return person.replace(trans=person.trans + [0.3, -0.5, 0.0])


@pytest.fixture(scope="module")
def view(person, free_body):
    return view_of_sequence(person, made.filmed(free_body, person))


@pytest.fixture(scope="module")
def occluders(person, passer_by, view, free_body):
    return Occluders.of(person, in_camera_of(person, [passer_by]), [view], free_body)


def looked(view, person, body, others, frames=range(FRAMES)):
    parameters = parameters_of_sequence(person, body)
    pictures = load_pictures(view, list(frames), pose_body(body, parameters).vertices)
    observer = Observer(body, made.ColorMatcher(), crop_size=128, others=others)
    return observer.look(pictures, list(frames), parameters, lambda frames: None)


def covered(pixels, passer_by, body):
    """Which pixels (T, N, 2) the passer-by surely covers, and which surely not."""
    images = made.filmed(body, passer_by).images.sum(-1) > 0
    kernel = np.ones((9, 9), np.uint8)
    column, row = pixels.nan_to_num(0.0).long().unbind(-1)
    inside = (column >= 0) & (column < made.SIZE[0]) & (row >= 0) & (row < made.SIZE[1])
    at = (torch.arange(len(pixels))[:, None], row.clamp(0, 319), column.clamp(0, 239))
    inner, outer = (
        torch.from_numpy(np.stack([change(one.astype(np.uint8), kernel) for one in images]) > 0)
        for change in (cv2.erode, cv2.dilate)
    )
    return inside & inner[at], ~outer[at]


def test_a_limb_behind_somebody_pulls_nothing_and_the_rest_does(
    view, person, passer_by, occluders, free_body
):
    alone, among = (looked(view, person, free_body, others) for others in (None, occluders))
    vertices = pose_body(free_body, parameters_of_sequence(person, free_body)).vertices
    for look, others_pull in ((alone, True), (among, False)):
        chosen = vertices[torch.arange(FRAMES)[:, None], look.points.vertex_indices]
        behind, beside = covered(project_points(chosen, *pinhole()), passer_by, free_body)
        assert (look.points.weights[beside] > 1e-3).sum() > 100
        assert bool((look.points.weights[behind] > 1e-3).any()) is others_pull
    assert (among.figures.seen_share < 0.8 * alone.figures.seen_share).all()


def pinhole():
    """World to camera and intrinsics of the clip."""
    lens, world_to_camera = made.camera()
    return tuple(
        torch.tensor(one).float().expand(FRAMES, -1, -1) for one in (world_to_camera, lens)
    )


def test_somebody_behind_hides_nothing(view, person, free_body):
    behind = person.replace(trans=person.trans + [0.3, 0.5, 0.0])
    others = Occluders.of(person, in_camera_of(person, [behind]), [view], free_body)
    alone, among = (looked(view, person, free_body, one) for one in (None, others))
    torch.testing.assert_close(among.points.weights, alone.points.weights)


def test_a_world_of_their_own_and_another_lens_put_them_at_the_same_pixels(
    person, passer_by, view, occluders, free_body
):
    turn = np.eye(4)
    turn[:3, :3], turn[:3, 3] = [[0, 0, 1], [1, 0, 0], [0, 1, 0]], [1.0, 2.0, 3.0]
    parameters = parameters_of_sequence(passer_by, free_body)
    pelvis = pose_body(free_body, parameters).joints[:, 0].numpy() - passer_by.trans
    longer = passer_by.intrinsics * [[2], [2], [1]]
    longer[:2, 2] = passer_by.intrinsics[:2, 2]
    camera = passer_by.world_to_camera @ np.linalg.inv(turn)
    far = np.eye(4)
    far[2, 3] = (passer_by.world_to_camera @ [*passer_by.trans[0] + pelvis[0], 1.0])[2]
    trans = (passer_by.trans + pelvis) @ turn[:3, :3].T + turn[:3, 3] - pelvis
    poses = passer_by.poses.copy()
    poses[:, 0] = matrix_to_rotvec(turn[:3, :3] @ rotvec_to_matrix(poses[:, 0]))
    moved = passer_by.replace(
        poses=poses, trans=trans, world_to_camera=far @ camera, intrinsics=longer
    )
    # Twice as far before a lens of twice the length: the same pixels, but for perspective.
    others = Occluders.of(person, in_camera_of(person, [moved]), [view], free_body)
    everywhere = (range(FRAMES), *pinhole(), made.SIZE[::-1])
    first, second = (one.depth(*everywhere) for one in (occluders, others))
    both = first.isfinite() & second.isfinite()
    assert both.sum() > 0.9 * (first.isfinite() | second.isfinite()).sum()
    assert (first - second)[both].abs().quantile(0.99) < 0.2


def test_landmarks_behind_somebody_are_not_believed(person, passer_by, occluders, free_body):
    bound = BLAZEPOSE.bind(free_body, torch.float32)
    posed = pose_body(free_body, parameters_of_sequence(person, free_body))
    points = bound.mixture.T @ torch.cat([posed.joints, posed.vertices[:, bound.vertices]], 1)
    world_to_camera, lens = pinhole()
    pixels, ones = project_points(points, world_to_camera, lens), torch.ones(points.shape[:2])
    evidence = LandmarkPixels(BLAZEPOSE, pixels, ones, ones, lens, world_to_camera)
    (seen,) = occluders.hide_landmarks([evidence], person)
    behind, beside = covered(pixels, passer_by, free_body)
    assert behind.sum() > FRAMES
    assert beside.sum() > FRAMES
    assert (seen.weights[behind] == 0).all()
    assert (seen.weights[beside] == 1).all()


def test_what_somebody_hides_is_not_painted(person, passer_by, view, occluders, free_body):
    red = np.stack(list(view.footage))
    red[made.filmed(free_body, passer_by).images.sum(-1) > 0] = (255, 0, 0)
    shown = replace(view, footage=made.ArrayFootage(red))
    alone, among = (
        paint_from_views(person, [shown], free_body, exclusion_seconds=0.0, others=others)([0])[0]
        for others in (None, occluders)
    )
    is_red = [(one[0] > 0.95) & (one[1] < 0.05) & (one[3] > 0.1) for one in (alone, among)]
    assert is_red[0].sum() > 500
    assert is_red[1].sum() == 0


def test_the_same_person_twice_hides_nothing(person, view, free_body, caplog):
    again = made.disturbed(person, np.random.default_rng(0), 0.05, 0.02)
    assert Occluders.of(person, in_camera_of(person, [again]), [view], free_body) is None
    assert "taken for the same person" in caplog.text


def on_the_wire(passer_by, **changes):
    fields = {
        "poses": passer_by.poses[None],
        "trans": passer_by.trans[None],
        "betas": np.atleast_2d(passer_by.betas)[:1],
        "is_there": np.ones((1, FRAMES), np.uint8),
        "to_world": np.eye(4)[None, None],
    }
    return OtherPeople(**(fields | changes))


def test_people_that_come_with_a_request_stand_where_it_says(
    person, passer_by, view, occluders, free_body
):
    """A world of half the size is the same world, once it is doubled."""
    halved = np.diag([0.5, 0.5, 0.5, 1.0])[None, None]
    everywhere = (range(FRAMES), *pinhole(), made.SIZE[::-1])
    expected = occluders.depth(*everywhere)
    (one,) = in_frames_of(person, on_the_wire(passer_by))
    there = Occluders.of(person, [one], [view], free_body)
    torch.testing.assert_close(there.depth(*everywhere), expected)
    (small,) = in_frames_of(person, on_the_wire(passer_by, to_world=halved))
    shrunk = Occluders.of(person, [small], [view], free_body).depth(*everywhere)
    assert shrunk.isfinite().any()
    assert not torch.equal(shrunk.isfinite(), expected.isfinite())
    away = np.array([[1, 0, 1]], np.uint8)
    (seldom,) = in_frames_of(person, on_the_wire(passer_by, is_there=away))
    assert seldom.rows.tolist() == [0, -1, 2]


def test_a_job_hands_its_people_to_the_engine(person, passer_by, free_body, monkeypatch):
    told = []

    def refine_views(sequence, views, **given):
        told.append(given["others"])
        raise RefinementError("far enough")

    monkeypatch.setattr(refinement_jobs, "refine_views", refine_views)
    film = made.filmed(free_body, person)
    monkeypatch.setattr(refinement_jobs, "lent_footage", lambda path: nullcontext(film))
    for others in (None, on_the_wire(passer_by)):
        request = RefineRequest(person, MediaReference(path="/clip"), others=others)
        context = SimpleNamespace(
            check_cancelled=lambda: None, resolve_media=lambda media: Path(media.path)
        )
        with pytest.raises(RefinementError, match="far enough"):
            refinement_jobs.run_refine(request, free_body, context)
    assert [len(one) for one in told] == [0, 1]
    assert told[1][0].sequence.poses == pytest.approx(passer_by.poses)


def test_people_are_matched_by_frame_and_known_only_where_they_were_seen(person):
    first = person.replace(frame_indices=np.array([10, 11, 12]))
    other = person.replace(
        frame_indices=np.array([4, 10, 30]), status=("refined", "no_person", "refined")
    )
    assert in_world_of(first, [other])[0].rows.tolist() == [-1, -1, -1]
    sparse = person.replace(frame_indices=np.array([8, 14, 30]))
    assert in_world_of(first, [sparse])[0].rows.tolist() == [0, -1, 1]


def test_files_bring_their_people(person, passer_by, free_body, tmp_path):
    (tmp_path / "clip").mkdir()
    for frame, image in enumerate(made.filmed(free_body, person)):
        Image.fromarray(image).save(tmp_path / "clip" / f"{frame}.png")
    write_sequence(tmp_path / "a.npz", person)
    write_sequence(tmp_path / "b.npz", passer_by)
    small = passer_by.replace(image_size=(64, 64))
    write_sequence(tmp_path / "small.npz", small)
    files = RefineFiles(
        Path("out"), tmp_path / "a.npz", tmp_path / "clip", others=(tmp_path / "b.npz",)
    )
    assert [len(one.others) for one in people_of_files(files)] == [1]
    wrong = replace(files, others=(tmp_path / "small.npz", tmp_path / "b.npz"))
    with pytest.raises(SequenceError, match="64 × 64, this one's for 240 × 320"):
        people_of_files(wrong)
    assert len(people_of_files(replace(wrong, skip_bad_others=True))[0].others) == 1
    with pytest.raises(RefinementError, match="a shot's people know of each other"):
        people_of_files(RefineFiles(Path("out"), shot=tmp_path, others=files.others))


def test_jobs_of_one_footage_know_of_each_other(tmp_path):
    table = tmp_path / "jobs.csv"
    table.write_text(
        "name,sequence,footage\na,a.npz,clip.mp4\nb,b.npz,clip.mp4\nb2,b.npz,./clip.mp4\n"
        "c,c.npz,other.mp4\n"
    )
    others = {job.name: [path.name for path in job.others] for job in read_jobs(table)}
    assert others == {"a": ["b.npz"], "b": ["a.npz"], "b2": ["a.npz"], "c": []}


def test_a_body_that_is_right_is_not_pulled_to_whoever_stands_before_it(
    person, passer_by, view, occluders, free_body
):
    nearer = made.filmed(free_body, passer_by).images
    seen = np.where(nearer.sum(-1, keepdims=True) > 0, nearer, np.stack(list(view.footage)))
    shown = replace(view, footage=made.ArrayFootage(seen))
    settings = RefineSettings(crop_size=128, rounds=1, smoothness=0.0, refine_shape=False)
    errors = []
    for others in (None, occluders):
        found = refine(
            Clip(person, [shown], others=others), body=free_body,
            estimator=made.ColorMatcher(), settings=settings,
        ).found  # fmt: skip
        first, second = (
            pose_body(free_body, parameters_of_sequence(one, free_body)).joints
            for one in (found, person)
        )
        errors.append(float((first - second).norm(dim=-1).mean(0).max()))
    assert errors[0] > 0.1
    assert errors[1] < 0.5 * errors[0]


def test_people_of_one_clip_in_a_folder_are_named_after_it(tmp_path):
    for name in ("walk.anna.npz", "walk_2.npz", "walk_2b.npz", "walk_2b.mp4", "walk.mp4", "a.npz"):
        (tmp_path / name).touch()
    jobs = {job.name: job for job in read_jobs(tmp_path)}
    clips = {name: job.footage and job.footage.name for name, job in jobs.items()}
    assert clips == {
        "walk.anna": "walk.mp4", "walk_2": "walk.mp4", "walk_2b": "walk_2b.mp4", "a": None,
    }  # fmt: skip
    assert jobs["walk_2"].others == (tmp_path / "walk.anna.npz",)
    assert "name it after its clip" in jobs["a"].problem


def test_jobs_keep_their_people_on_the_way_to_other_machines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = Job("a", Path("a.npz"), Path("c.mp4"), others=(Path("b.npz"), Path("c.npz")))
    assert Job.from_map(job.to_map()) == job
    assert with_whole_paths(job).others == (tmp_path / "b.npz", tmp_path / "c.npz")
