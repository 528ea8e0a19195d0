# SPDX-License-Identifier: Apache-2.0
"""How fast a backend answers through `posefit serve`: one frame and a clip, request to result.

    python benchmarks/request_speed.py [--device cuda] [--repeats 60] [--frames 512]
        [--sequence FILE --footage FILE --texture PNG] [--output FILE]

The wire, the broker, a worker of its own and the reading of pictures are in the figures; the large
network, two rounds, keypoints off, the person's texture uploaded before. *One frame*: another one
each time, its 1080p picture read from a JPEG. *A clip*: a film of that many frames (the clip to
and fro), decoded as it goes; three requests, of which the first records. By default the
demo's clip.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from demo_clip import estimated, longer, longer_film

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "tests/posefit")]

from wire_backend import REAL_JOBS, Backend, connected, eventually  # noqa: E402

from posefit.footage import open_footage  # noqa: E402
from posefit_shared.client import Client  # noqa: E402
from posefit_shared.messages import MediaReference, RefineRequest  # noqa: E402
from posefit_shared.sequence import Sequence, read_sequence  # noqa: E402
from posefit_shared.settings import RefineSettings  # noqa: E402

PATIENCE_S = 600.0


def painted(sequence: Sequence, film: Path, folder: Path) -> Path:
    """The person's texture."""
    from posefit.body import load_body
    from posefit.texture import save_png
    from posefit.texture_clip import paint_texture
    from posefit.views import view_of_sequence

    with open_footage(film) as footage:
        view = view_of_sequence(sequence, footage)
        save_png(paint_texture(sequence, [view], load_body("free")), folder / "texture.png")
    return folder / "texture.png"


def as_pictures(film: Path, folder: Path) -> Path:
    """The film's frames as JPEGs."""
    folder.mkdir()
    with open_footage(film) as footage:
        for frame in range(len(footage)):
            picture = cv2.cvtColor(footage.read(frame), cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(folder / f"{frame:05}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return folder


def seconds_of(client: Client, request: RefineRequest) -> float:
    """From submission to the final result."""
    began = time.perf_counter()
    client.wait(client.submit(request), PATIENCE_S)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--frames", type=int, default=512)
    parser.add_argument("--sequence", type=Path)
    parser.add_argument("--footage", type=Path)
    parser.add_argument("--texture", type=Path)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    settings = RefineSettings(displacement="net-large", keypoints=False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.sequence is None:
            sequence, film = estimated()
        else:
            sequence, film = read_sequence(arguments.sequence), arguments.footage.resolve()
        texture = arguments.texture or painted(sequence, film, folder)
        pictures = as_pictures(film, folder / "pictures")
        long_film = longer_film(film, folder / "film.mp4", arguments.frames)
        roots = ("--media-root", str(folder), str(film.parent))
        backend = Backend(
            folder, *roots, "--no-standby", program=REAL_JOBS, device=arguments.device
        )
        try:
            with connected(backend) as client:
                eventually(lambda: client.report()["is_ready"], PATIENCE_S)
                worn = client.upload(texture, "texture")

                def frame(k: int) -> RefineRequest:
                    k %= len(sequence)
                    media = MediaReference(path=str(pictures))
                    return RefineRequest(
                        sequence.slice(k, k + 1), media, settings=settings, texture=worn
                    )

                first = seconds_of(client, frame(0))
                warm = [seconds_of(client, frame(7 * k)) for k in range(1, 6)]
                spent = [seconds_of(client, frame(11 * k)) for k in range(arguments.repeats)]
                clip = RefineRequest(
                    longer(sequence, arguments.frames), MediaReference(path=str(long_film)),
                    settings=settings, texture=worn,
                )  # fmt: skip
                clips = [seconds_of(client, clip) for _ in range(3)]
        finally:
            backend.stop()
        row = {
            "device": arguments.device, "cores": os.cpu_count(),
            "first_ms": 1e3 * first, "second_to_sixth_ms": [1e3 * one for one in warm],
            "median_ms": 1e3 * float(np.median(spent)),
            "p99_ms": 1e3 * float(np.quantile(spent, 0.99)), "repeats": arguments.repeats,
            "clip_frames": arguments.frames,
            "clip_frames_per_s": [arguments.frames / one for one in clips],
        }  # fmt: skip
        print(json.dumps(row), flush=True)
        if arguments.output:
            arguments.output.write_text(json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()
