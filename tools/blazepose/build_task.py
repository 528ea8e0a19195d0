# SPDX-License-Identifier: Apache-2.0
"""Make the pose detector's `.task` file out of a mediapipe 0.10 wheel.

The wheels of mediapipe 0.10.14 to 0.10.21 carry the BlazePose networks as loose files. This script
repacks them, byte for byte, as the uncompressed zip that mediapipe calls a `.task` file, with the
wheel's licence beside it:

    pip download --no-deps --only-binary=:all: --python-version 311 \
        --platform manylinux_2_28_x86_64 mediapipe==0.10.21
    python tools/blazepose/build_task.py mediapipe-0.10.21-*.whl backend/posefit/assets/blazepose
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import zipfile
from pathlib import Path

MEMBERS = {
    "pose_detector.tflite": "mediapipe/modules/pose_detection/pose_detection.tflite",
    "pose_landmarks_detector.tflite": "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
}
"""Name inside the `.task` file, as mediapipe looks it up, and where the wheel keeps it."""

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Fixed date of every member, so that the same wheel gives the same bytes."""

logger = logging.getLogger(__name__)


def write_task(wheel: zipfile.ZipFile, destination: Path) -> None:
    """Write the two networks, stored uncompressed, as one `.task` file.

    Args:
        wheel: an opened mediapipe 0.10 wheel.
        destination: the file to write.
    """
    with zipfile.ZipFile(destination, "w", zipfile.ZIP_STORED) as task:
        for name, source in MEMBERS.items():
            task.writestr(zipfile.ZipInfo(name, EPOCH), wheel.read(source))


def write_licence(wheel: zipfile.ZipFile, destination: Path) -> None:
    """Copy the wheel's licence text.

    Args:
        wheel: an opened mediapipe 0.10 wheel.
        destination: the file to write.
    """
    (name,) = [n for n in wheel.namelist() if n.endswith(".dist-info/LICENSE")]
    destination.write_bytes(wheel.read(name))


def main() -> None:
    """Repack the wheel named on the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    task = arguments.output / "pose_landmarker_full.task"
    with zipfile.ZipFile(arguments.wheel) as wheel:
        write_task(wheel, task)
        write_licence(wheel, arguments.output / "LICENSE")
    digest = hashlib.sha256(task.read_bytes()).hexdigest()
    logger.info("%s: %d bytes, sha256 %s", task, task.stat().st_size, digest)


if __name__ == "__main__":
    main()
