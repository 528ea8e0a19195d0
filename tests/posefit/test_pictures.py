# SPDX-License-Identifier: Apache-2.0
"""Pictures: boxes about what can be seen of a body, and cut-outs kept where they are looked at."""

import numpy as np
import pytest
import torch

from posefit.crop import crop_frames, square_boxes
from posefit.refinement.pictures import Picture, body_boxes, keep_pictures, project_points
from posefit_shared.frames import Camera

K = np.array([[900.0, 0, 655], [0, 880, 348], [0, 0, 1]])


def test_boxes_hold_what_is_in_view_or_near_it(rng):
    """Whole, cut off, partly behind the camera, beside the picture, far outside."""
    offsets = np.array([[0, 0, 4.0], [1.5, 0.8, 2], [0, 0, 0.2], [2.9, 0, 3.2], [-60, 0, 4]])
    points = rng.normal(0, 0.4, (5, 300, 3)) * [1, 1, 0.5] + offsets[:, None]
    vertices = torch.tensor(points, dtype=torch.float32)
    cameras = [Camera(K, np.eye(4), (1281, 719))] * 5
    matrices = [torch.tensor(m).float().expand(5, -1, -1) for m in (np.eye(4), K)]
    pixels = project_points(vertices, *matrices).double().numpy()
    size = np.array([1281.0, 719.0])
    inside = ((pixels >= 0) & (pixels <= size)).all(-1)
    near = ((pixels >= -0.25 * size) & (pixels <= 1.25 * size)).all(-1)
    boxes = body_boxes(vertices, cameras, margin=1.3)
    assert np.isfinite(boxes).all(1).tolist() == inside.any(1).tolist()
    assert inside.any(1).tolist() == [True, True, True, True, False]
    for box, cloud, kept in zip(boxes[:4], pixels, near, strict=False):
        low, high = cloud[kept].min(0), cloud[kept].max(0)
        np.testing.assert_array_equal(box, [*(low + high) / 2, 1.3 * (high - low).max()])
    np.testing.assert_array_equal(
        boxes[:4], square_boxes(np.where(near[..., None], pixels, np.nan))[:4]
    )


def test_kept_pictures_let_go_of_the_frames_that_they_were_cut_out_of():
    frame = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    camera = Camera(K, np.eye(4), (3, 2))
    kept, nothing = keep_pictures([Picture(frame[1:3, 1:4], camera), None], "cpu")
    assert nothing is None
    assert kept is not None
    np.testing.assert_array_equal(kept.image, frame[1:3, 1:4])
    assert isinstance(kept.image, np.ndarray)
    assert kept.image.base is None
    assert keep_pictures([kept], "cpu")[0] is kept


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpus_crops_are_those_of_the_cpu_and_nothing_waits_for_them(rng):
    frame = np.repeat((rng.uniform(0, 255, (24, 32, 1))), 3, -1).astype(np.uint8)
    frame = np.kron(frame, np.ones((20, 20, 1), np.uint8))
    camera = Camera(K, np.eye(4), (640, 480), np.array([-0.1, 0.02, 0.001, 0.0, 0.0]))
    pictures = [Picture(frame[:, k * 10 :], camera) for k in range(3)]
    boxes = np.array([[300.0, 240, 100], [200, 200, 400], [20, 400, 900]])
    expected = crop_frames([p.image for p in pictures], boxes, [camera] * 3, 128)
    torch.zeros(1, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        kept = [picture for picture in keep_pictures(pictures, "cuda") if picture is not None]
        images = [*(picture.image for picture in kept[:2]), pictures[2].image]
        found = crop_frames(images, boxes, [camera] * 3, 128, device="cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert isinstance(kept[0].image, torch.Tensor)
    assert float((found.images.cpu() - expected.images).abs().mean()) < 2 / 255
    torch.testing.assert_close(found.intrinsics.cpu(), expected.intrinsics)
