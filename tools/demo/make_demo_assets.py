# SPDX-License-Identifier: Apache-2.0
"""Make the demo clip's assets out of the pose2sim wheel and what was marked by hand.

    pip download --no-deps pose2sim==0.10.49
    python tools/demo/make_demo_assets.py pose2sim-0.10.49-py3-none-any.whl \
        backend/posefit/assets/demo

Writes the four videos byte for byte, the licence, `shot.json` (cameras), `points.json` (marked
points) and `masks/` (silhouettes). What a person marked is in `marks.json` beside this script.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from calibrate import mend, read_calibration, triangulate
from PIL import Image

from posefit.footage import open_footage
from posefit.keypoints.detection import Keypoints, detect_keypoints
from posefit_shared.frames import Camera, project

SOURCE = "Pose2Sim/Demo_SinglePerson"
NAMES = ("cam01", "cam02", "cam03", "cam04")
FRAME_OFFSETS = {"cam01": 0, "cam02": 0, "cam03": 0, "cam04": 0}
"""The videos are in step: pairwise searches over ±6 frames put every pair within half a frame."""
MARK_SHARE = 0.5
"""A revised mark lies this far from where it was made to where the other cameras' marks say."""
MARKS = Path(__file__).parent / "marks.json"

logger = logging.getLogger(__name__)


def main() -> None:
    """Build all assets from the wheel named on the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    marks = json.loads(MARKS.read_text("utf-8"))
    (arguments.output / "masks").mkdir(parents=True, exist_ok=True)
    cameras = unpack(arguments.wheel, arguments.output)
    static = marks["static_points"]
    cameras, before, after = mend(cameras, static["pixels"], static["sigma_px"])
    logger.info("things that stand still: %.2f px before, %.2f px after mending", before, after)
    write_json(arguments.output / "shot.json", shot(cameras))
    write_json(arguments.output / "points.json", points(cameras, marks["body_points"]))
    write_masks(arguments.output, marks)


def unpack(wheel: Path, output: Path) -> dict[str, Camera]:
    """Copy videos and licence, and read the calibration as it is."""
    with zipfile.ZipFile(wheel) as source, tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            (output / f"{name}.mp4").write_bytes(source.read(f"{SOURCE}/videos/{name}.mp4"))
        (licence,) = [n for n in source.namelist() if n.endswith("dist-info/licenses/LICENSE")]
        (output / "LICENSE").write_bytes(source.read(licence))
        calibration = Path(folder) / "calibration.txt"
        calibration.write_bytes(source.read(f"{SOURCE}/calibration/Calib.qca.txt"))
        sizes = {name: open_footage(output / f"{name}.mp4").size for name in NAMES}
        return read_calibration(calibration, sizes)


def shot(cameras: dict[str, Camera]) -> dict[str, Any]:
    """The cameras as a shot file."""
    return {
        "about": "Cameras of the demo clip; made by tools/demo/make_demo_assets.py",
        "cameras": [
            {
                "name": name,
                "footage": f"{name}.mp4",
                "frame_offset": FRAME_OFFSETS[name],
                "image_size": list(camera.image_size),
                "intrinsics": camera.intrinsics.round(4).tolist(),
                "distortion": camera.distortion.round(6).tolist(),
                "world_to_camera": camera.world_to_camera.round(8).tolist(),
            }
            for name, camera in cameras.items()
        ],
        "people": [],
    }


def points(cameras: dict[str, Camera], marked: dict[str, Any]) -> dict[str, Any]:
    """Marked points, revised: half way to where the other cameras' marks put them."""
    revised: dict[str, Any] = {name: {} for name in NAMES}
    misses = []
    for frame in marked[NAMES[0]]:
        names = sorted({name for camera in marked.values() for name in camera[frame]})
        for point in names:
            seen = {c: marked[c][frame][point] for c in NAMES if point in marked[c][frame]}
            place = triangulate(cameras, seen) if len(seen) > 1 else None
            for camera, pixel in seen.items():
                agreed = np.array(pixel, np.float64)
                if place is not None and len(seen) > 2:
                    other = project(cameras[camera], place)[0]
                    misses.append(float(np.hypot(*(other - agreed))))
                    agreed = agreed + MARK_SHARE * (other - agreed)
                revised[camera].setdefault(frame, {})[point] = agreed.round(1).tolist()
    logger.info("marks and triangulation: median %.1f px apart", np.median(misses))
    return {
        "about": "Points marked by eye on enlarged crops that showed no detector's result; then "
        "moved half way to where the marks in the other cameras, triangulated, put them. Joint "
        "names mean the centre of the joint, landmark names the skin. Good to about 3 pixels for "
        "ankles, knees and wrists, 6 for shoulders and elbows.",
        "pixels": "x right, y down, centres at +0.5, of the decoded videos",
        "mark_to_triangulation_median_px": round(float(np.median(misses)), 2),
        "cameras": revised,
    }


def write_masks(output: Path, marks: dict[str, Any]) -> None:
    """Silhouettes of the marked frames: the detector's mask, redrawn along edges, then by hand."""
    for name in NAMES:
        footage = open_footage(output / f"{name}.mp4")
        frames = [int(frame) for frame in marks["body_points"][name]]
        keypoints = detect_keypoints(footage)
        for frame in frames:
            mask = redraw(footage.read(frame), keypoints, frame)
            wrong = marks["not_the_person"].get(name, {}).get(str(frame), [])
            for polygon in wrong:
                cv2.fillPoly(mask, [np.array(polygon, np.int32)], 0)
            file = output / "masks" / f"{name}_{frame:03d}.png"
            Image.fromarray(mask > 0).save(file, optimize=True)
            logger.info("%s: %.1f%% of the picture", file.name, 100 * (mask > 0).mean())


def redraw(image: np.ndarray, keypoints: Keypoints, frame: int) -> np.ndarray:
    """The detector's mask with its outline moved to the picture's edges nearby (GrabCut)."""
    height, width = image.shape[:2]
    rough = keypoints.mask(frame, (width, height))
    near = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (11, 11))
    labels = np.where(rough > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[cv2.erode((rough > 0.7).astype(np.uint8), near) > 0] = cv2.GC_FGD
    labels[cv2.dilate((rough > 0.35).astype(np.uint8), near) == 0] = cv2.GC_BGD
    x0, y0, x1, y1 = keypoints.person_box[frame].astype(int) + (-60, -80, 60, 60)
    part = (slice(max(y0, 0), min(y1, height)), slice(max(x0, 0), min(x1, width)))
    inside = labels[part].copy()
    bgr = np.ascontiguousarray(image[part][..., ::-1])
    cv2.setRNGSeed(1)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(bgr, inside, None, *models, 6, cv2.GC_INIT_WITH_MASK)
    drawn = np.isin(inside, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    small = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    drawn = cv2.morphologyEx(drawn, cv2.MORPH_OPEN, small)
    drawn = cv2.morphologyEx(drawn, cv2.MORPH_CLOSE, small)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(drawn)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])) if count > 1 else 0
    mask = np.zeros((height, width), np.uint8)
    mask[part] = (parts == largest) * np.uint8(255)
    return mask


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write JSON with each innermost list on one line."""
    text = json.dumps(data, indent=1, ensure_ascii=False)
    text = re.sub(r"\[([^\[\]{}]*)\]", lambda m: "[" + " ".join(m[1].split()) + "]", text)
    path.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
