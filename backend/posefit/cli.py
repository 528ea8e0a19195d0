# SPDX-License-Identifier: Apache-2.0
"""The command line: each command is a few lines over a function of the engine.

The names and options are promises: scripts outside the project call them. Every error that a user
can act on ends as one sentence on stderr and exit status 2; a run that was interrupted as 130.
Engine modules are imported inside the commands, so that `posefit serve` and `--help` never wait
for torch.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from posefit_shared.body_files import BodyFileError
from posefit_shared.client import BackendError
from posefit_shared.key_files import KeyFileError
from posefit_shared.sequence import SequenceError
from posefit_shared.settings import RefineSettings, SettingsError

from .commands.serving import keys, serve, status
from .errors import OUT_OF_MEMORY, PosefitError, is_out_of_memory

__all__ = ["main"]

logger = logging.getLogger(__name__)

_USER_ERRORS = (
    PosefitError, BackendError, BodyFileError, KeyFileError, SequenceError, SettingsError,
)  # fmt: skip
Device = Literal["auto", "cpu", "cuda"]
Rasterizer = Literal["warp", "pytorch3d"]
Settings = Annotated[RefineSettings, tyro.conf.arg(name="")]
_DEFAULTS = RefineSettings()
Dataset = Literal["3dpw", "emdb", "rich", "h36m", "bedlam"]
World = Literal["auto", "camera"]
Up = Literal["auto", "z", "y", "-y"]
Predicted = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


def demo(output: Path = Path("demo"), device: Device = "auto", blender: Path | None = None) -> None:
    """Run the main job on the bundled real clip: estimate, texture, refine, evaluate, report.

    Args:
        output: Folder for the sequences, the overlay video, the report and demo.blend.
        device: Where to compute.
        blender: Python with the module bpy, for demo.blend (found beside the checkout if there).
    """
    from .commands.demo import run_demo

    run_demo(output, device=device, blender=blender)


def estimate(
    video: tyro.conf.Positional[Path],
    output: Path,
    person: int = 0,
    intrinsics: Path | None = None,
    body: str = "free",
    device: Device = "auto",
) -> None:
    """Make a first estimate of one person's motion from a video.

    Args:
        video: Video file or folder of images.
        output: Sequence file to write.
        person: Which person, 0 being the largest in the first frames.
        intrinsics: Camera file (docs/formats.md); without it a usual lens is assumed.
        body: Body file, or "free".
        device: Where to compute.
    """
    from .commands import refining

    refining.estimate_video(
        video, output, person=person, intrinsics=intrinsics, body=body, device=device
    )


def import_motion(
    file: tyro.conf.Positional[Path],
    output: Path,
    format: str | None = None,  # noqa: A002  # the option's name is a promise
    person: int | None = None,
    body: str = "free",
    footage: Path | None = None,
    world: World = "auto",
    up: Up = "auto",
    focal: float | None = None,
    rate: float | None = None,
    relink: bool = True,
) -> None:
    """Make a sequence of another tool's result (docs/importing.md).

    Args:
        file: The tool's file, or its folder of results.
        output: Sequence file to write; a folder for everybody in it.
        format: Which tool's it is (docs/importing.md has the names); found out from the file
            unless given.
        person: Which person, 0 being the one seen longest.
        body: Body file that the motion will be used with, or "free": worlds turn about its pelvis.
        footage: The video or folder of images: its size and rate, where the file has none.
        world: "camera" takes motion in the camera's frame where a file has a world too.
        up: Up axis of plain SMPL files.
        focal: Focal length in pixels for weak-perspective cameras, instead of the tool's own.
        rate: Frames a second, where file and footage do not say.
        relink: Join tracks that break off and go on under another number (docs/importing.md).
    """
    from .commands.importing import ImportFiles, import_people

    import_people(
        ImportFiles(file, output, footage),
        format_name=format, person=person, body=body, world=world, up=up, focal=focal, rate=rate,
        relink=relink,
    )  # fmt: skip


def texture(
    output: Path,
    sequence: Path | None = None,
    frames: Path | None = None,
    shot: Path | None = None,
    body: str = "free",
    uv: str | None = None,
    device: Device = "auto",
) -> None:
    """Paint the person's texture map from the footage under the poses of a sequence.

    Args:
        output: PNG to write; coverage is its alpha, the hash of its UVs lies in its text.
        sequence: Sequence file with its camera.
        frames: Video file or folder of images.
        shot: Shot file, instead of sequence and frames.
        body: Body file, or "free".
        uv: The body's .obj with texture coordinates, or "xatlas"; the body file's own without it.
        device: Where to compute.
    """
    from .commands import refining

    refining.make_texture(
        output, sequence=sequence, frames=frames, shot=shot, body=body, uv=uv, device=device
    )


def refine(
    output: Path,
    sequence: Path | None = None,
    frames: Path | None = None,
    shot: Path | None = None,
    body: str = "free",
    uv: str | None = None,
    texture: Path | None = None,
    report: Path | None = None,
    keypoints_file: Path | None = None,
    densepose: Path | None = None,
    iuv_mapping: Path | None = None,
    masks: Path | None = None,
    others: tuple[Path, ...] = (),
    device: Device = "auto",
    rasterizer: Rasterizer = "warp",
    server: str | None = None,
    key_file: Path | None = None,
    settings: Settings = _DEFAULTS,
) -> None:
    """Move the body of a sequence until it lies over the footage.

    Args:
        output: Sequence file to write; a folder with --shot.
        sequence: Sequence file with its camera.
        frames: Video file or folder of images.
        shot: Shot file with several cameras or people, instead of sequence and frames.
        body: Body file, or "free".
        uv: The body's .obj with texture coordinates, or "xatlas"; the body file's own without it.
        texture: Personal texture from `posefit texture`; painted afresh without it.
        report: Folder for an HTML report.
        keypoints_file: Keypoints of OpenPose (folder), COCO or MediaPipe (docs/evidence.md).
        densepose: Folder of DensePose's IUV maps, one a frame.
        iuv_mapping: What the maps mean on the body: DensePose's UV_Processed.mat, or an .npz.
        masks: Folder of person masks, one a frame.
        others: Sequence files of other people in the footage, who may stand before this one; a
            shot's people know of each other.
        device: Where to compute.
        rasterizer: Warp, or PyTorch3D's own as the reference.
        server: Address of a running backend (tcp://127.0.0.1:5557) that computes instead.
        key_file: This client's keys, where the backend lets in known clients only.
    """
    from .commands import refining
    from .commands.backend_address import Server
    from .evidence import EvidenceFiles

    evidence = EvidenceFiles(keypoints_file, densepose, iuv_mapping, masks)
    refining.refine_files(
        refining.RefineFiles(output, sequence, frames, shot, texture, report, evidence, others),
        body=body, uv=uv, device=device, rasterizer=rasterizer,
        server=None if server is None else Server(server, key_file), settings=settings,
    )  # fmt: skip


def batch(
    jobs: tyro.conf.Positional[Path],
    output: Path,
    workers: int | None = None,
    retries: int = 1,
    hang_seconds: float = 600.0,
    job_seconds: float = 0.0,
    body: str = "free",
    uv: str | None = None,
    device: Device = "auto",
    rasterizer: Rasterizer = "warp",
    pictures: int = 2,
    ray: str | None = None,
    ray_cpus: float = 1.0,
    ray_gpus: float = 0.0,
    ray_decode_cpus: float = 0.0,
    ray_chunk_frames: int = 2048,
    ray_in_flight: int = 256,
    settings: Settings = _DEFAULTS,
) -> int:
    """Refine many sequences; killed at any moment, the same command goes on (docs/batch.md).

    Args:
        jobs: Table (name, sequence, footage or shot, any setting of refine), or folder of pairs.
        output: Folder for results, summary.csv and report.html.
        workers: Processes side by side; one for each GPU, or one, unless given.
        retries: How often a job is tried again after a crash or a hang.
        hang_seconds: A job that shows no progress for so long is given up.
        job_seconds: Longest time for one job; 0 is no limit.
        body: Body file, or "free", of jobs that name none.
        uv: Texture coordinates of jobs that name none: an .obj, or "xatlas".
        device: Where to compute.
        rasterizer: Warp, or PyTorch3D's own as the reference.
        pictures: Worst frames of each job that are kept as pictures.
        ray: Address of a Ray cluster that computes instead, "auto", or "local" (docs/cluster.md).
        ray_cpus: CPU cores that a job takes there.
        ray_gpus: GPUs that a job takes there; parts of one are allowed.
        ray_decode_cpus: CPU cores of a stage of its own that decodes and looks for keypoints, so
            that nodes with GPUs need not; 0 makes it part of the job.
        ray_chunk_frames: Clips that are longer are divided there into tasks of so many frames, with
            the same result; 0 is never.
        ray_in_flight: Jobs that Ray knows of at once.
    """
    from .batch import Job, command
    from .batch.ray_config import RayConfig

    config = command.BatchConfig(
        jobs, output, Job("defaults", body=body, uv=uv, settings=settings), workers,
        retries, device, rasterizer, pictures, command.ProcessLimits(hang_seconds, job_seconds),
        ray, RayConfig(ray_cpus, ray_gpus, ray_decode_cpus, ray_chunk_frames, ray_in_flight),
    )  # fmt: skip
    try:
        return command.print_result(command.run_batch(config), output)
    except KeyboardInterrupt:
        sys.stderr.write(
            "posefit: the batch was stopped; finished jobs are kept, nothing half-written was left "
            "behind: run the same command again to go on\n"
        )
        return 130


def evaluate(
    predicted: Predicted = (),
    reference: Path | None = None,
    body: str = "free",
    dataset: Dataset | None = None,
    root: Path | None = None,
    protocol: str | None = None,
    split: str | None = None,
    regressor: Path | None = None,
    smplx_to_smpl: Path | None = None,
    output: Path | None = None,
    export: Path | None = None,
) -> None:
    """Print errors as JSON: of a sequence against another, or of folders against a data set.

    Args:
        predicted: Sequence file to judge; with --dataset NAME=FOLDER of them, may be repeated.
        reference: Sequence file taken as the truth.
        body: Body file, or "free"; with --dataset also a folder of SMPL's files by gender.
        dataset: Data set to compare with (docs/datasets.md), instead of a reference.
        root: Its folder, laid out as published.
        protocol: Which of its protocols; the first unless given.
        split: Another part of the data set than the protocol's.
        regressor: J_regressor_h36m.npy, where the protocol needs it.
        smplx_to_smpl: smplx2smpl.pkl, where the protocol needs it.
        output: Folder for the table as JSON, markdown and plot.
        export: Only write the data set's own sequences there, under the names predictions have.
    """
    from .commands import refining

    if dataset is None:
        scores = refining.evaluate_pair(predicted, reference, body)
    else:
        files = refining.DatasetFiles(root, protocol, split, regressor, smplx_to_smpl, output)
        scores = refining.evaluate_on_dataset(dataset, predicted, files, body, export)
    sys.stdout.write(json.dumps(scores, indent=2))
    sys.stdout.write("\n")


def doctor() -> int:
    """Say whether this machine has what posefit needs."""
    from .commands.doctor import examine

    ok = True
    for finding in examine():
        ok &= finding.ok
        sys.stdout.write(f"{'ok   ' if finding.ok else 'LACKS'} {finding.name}: {finding.words}\n")
        sys.stdout.flush()
    return 0 if ok else 1


def bench(only: str | None = None, output: Path | None = None) -> int:
    """Print the tables of docs/benchmarks.md again, each with the plain way in the same run.

    Args:
        only: One table (rasterizer, solver, demo).
        output: Folder for the tables as JSON.
    """
    from .commands.bench import run_benchmarks

    return run_benchmarks(only=only, output=output)


def train() -> int:
    """Train the displacement network on generated pictures (docs/training.md)."""
    raise AssertionError("`_commands` puts the command with its settings in this one's place")


_COMMANDS = {
    function.__name__.removesuffix("_motion"): function
    for function in (
        demo, estimate, import_motion, texture, refine, batch, evaluate, serve, status, keys,
        doctor, bench, train,
    )
}  # fmt: skip


def _commands(words: list[str]) -> tuple[dict[str, Callable[..., Any]], list[str]]:
    """The commands and the words to read; training's settings load torch, so only where needed."""
    if words[:1] != ["train"]:
        return {**_COMMANDS}, words
    from .training import command

    commands = {**_COMMANDS, "train": command.train}
    return commands, ["train", *command.with_config_file(words[1:])]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; what a console script and `python -m posefit` call.

    Args:
        arguments: Words of the command line; those of the process unless given.

    Returns:
        Exit status: 0 done, 1 done but something is lacking, 2 refused in words, 130 interrupted.
    """
    # Idle OpenMP threads that spin take the cores from those that work (docs/solver.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        commands, words = _commands(sys.argv[1:] if arguments is None else arguments)
        status = tyro.extras.subcommand_cli_from_dict(
            commands, prog="posefit", args=words,
            description="Moves an SMPL body until it lies over the picture it came from.",
        )  # fmt: skip
    except _USER_ERRORS as error:
        sys.stderr.write(f"posefit: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("posefit: interrupted; nothing half-written was left behind\n")
        return 130
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        sys.stderr.write(f"posefit: {OUT_OF_MEMORY}\n")
        return 2
    return int(status or 0)


if __name__ == "__main__":
    sys.exit(main())
