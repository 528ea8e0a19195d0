# SPDX-License-Identifier: GPL-3.0-or-later
"""The footage behind a camera: which file it is, and which of its frames Blender shows when.

Blender numbers frames from the scene's and the clip's starts and offsets; the backend counts the
frames that it decodes, from 0. This module is the only place that knows both.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path

import bpy

from ..rigs.rig import SceneError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""Files of a folder that count as its frames, as the backend counts them."""


@dataclass(frozen=True)
class SceneFootage:
    """Footage as the scene shows it."""

    path: Path
    """A video file, a folder of images, or one image."""
    image_size: tuple[int, int]
    """Width and height, pixels."""
    display_aspect: float
    """Width of one of its pixels by its height, as shown."""
    first_scene_frame: int
    """Scene frame at which its first frame is shown, offset left out."""
    frame_offset: int
    """Frames that are skipped at its beginning."""
    frame_count: int
    """How many frames it has."""
    file_numbers: tuple[int, ...] = ()
    """Image sequences: the number in each file's name, in order of the folder."""
    first_file_number: int = 0
    """Image sequences: the number of the file that Blender starts from."""
    is_still: bool = False
    """Whether it is one picture, shown always."""

    def decoded_frame(self, scene_frame: int) -> int:
        """The decoded frame that the scene shows at a frame.

        Raises:
            SceneError: the footage has no such frame.
        """
        if self.is_still:
            return 0
        step = scene_frame - self.first_scene_frame + self.frame_offset
        if self.file_numbers:
            found = self._places.get(self.first_file_number + step)
            if found is not None:
                return found
        elif 0 <= step < self.frame_count:
            return step
        first, last = self.scene_range
        raise SceneError(
            f"frame {scene_frame} lies outside the footage {self.path.name}, which covers frames "
            f"{first} to {last}: choose frames in that range, or move the clip"
        )

    @functools.cached_property
    def _places(self) -> dict[int, int]:
        """Place in the folder of each file number."""
        return {number: place for place, number in enumerate(self.file_numbers)}

    @property
    def scene_range(self) -> tuple[int, int]:
        """First and last scene frame that the footage covers."""
        first = self.first_scene_frame - self.frame_offset
        if self.file_numbers:
            ahead = self.file_numbers[0] - self.first_file_number
            behind = self.file_numbers[-1] - self.first_file_number
            return first + ahead, first + behind
        return first, first + self.frame_count - 1


def read_own_footage(scene: bpy.types.Scene, camera: bpy.types.Object) -> SceneFootage:
    """The footage that a camera has itself; the scene's active clip counts for its camera alone.

    Raises:
        SceneError: it has none, or it cannot be used.
    """
    background = _background(camera)
    if background is None or (background.source != "IMAGE" and background.use_camera_clip):
        raise SceneError(
            f"camera {camera.name} has no footage of its own: add a background image or movie clip "
            "to it (Camera properties > Background Images), or take it out of Cameras"
        )
    return read_footage(scene, camera)


def read_footage(scene: bpy.types.Scene, camera: bpy.types.Object) -> SceneFootage:
    """The footage that lies behind a camera.

    Raises:
        SceneError: there is none, its file is missing, or it is moved within the picture.
    """
    background = _background(camera)
    if background is not None and background.source == "IMAGE" and background.image is not None:
        return _from_image(background.image, background.image_user)
    clip = _clip(scene, background)
    if clip is None:
        raise SceneError(
            f"camera {camera.name} has no footage: add a background image or movie clip to it "
            "(Camera properties > Background Images)"
        )
    return _from_clip(clip)


def has_footage(scene: bpy.types.Scene, camera: bpy.types.Object) -> bool:
    """Whether any footage lies behind a camera, usable or not.

    Raises:
        SceneError: it is moved within the picture.
    """
    background = _background(camera)
    if background is not None and background.source == "IMAGE":
        return True
    return _clip(scene, background) is not None


def images_in(folder: Path) -> list[Path]:
    """The images of a folder in the order of their names, numbers counted (9 before 10)."""
    return [folder / name for name in _image_names(folder, folder.stat().st_mtime_ns)]


@functools.lru_cache(maxsize=8)
def _image_names(folder: Path, changed_ns: int) -> tuple[str, ...]:
    """The same as names; kept, as thousands take a while, until the folder changes."""
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES
            and not entry.name.startswith(".")
            and entry.is_file()
        ]
    return tuple(sorted(names, key=_natural_key))


def frame_fit(camera: bpy.types.Object) -> str:
    """How the footage lies in the camera's frame: `STRETCH`, `FIT` or `CROP`."""
    background = _background(camera)
    return "FIT" if background is None else background.frame_method


def _background(camera: bpy.types.Object) -> bpy.types.CameraBackgroundImage | None:
    for background in camera.data.background_images:
        if background.source == "IMAGE":
            has_picture = background.image is not None
        else:
            has_picture = background.clip is not None or background.use_camera_clip
        if not has_picture:
            continue
        moved = any(background.offset) or background.scale != 1 or background.rotation != 0
        if moved or background.use_flip_x or background.use_flip_y:
            raise SceneError(
                f"the background of camera {camera.name} is moved, scaled, turned or flipped: "
                "reset those values, so that it shows what the camera filmed"
            )
        return background
    return None


def _clip(
    scene: bpy.types.Scene, background: bpy.types.CameraBackgroundImage | None
) -> bpy.types.MovieClip | None:
    """The movie clip of a camera's background; the scene's where it names none."""
    if background is not None and not background.use_camera_clip:
        return background.clip
    return scene.active_clip


def _from_clip(clip: bpy.types.MovieClip) -> SceneFootage:
    path = _existing_file(clip.filepath, clip.library)
    _check_readable(path, is_readable(clip))
    sequence = clip.source == "SEQUENCE"
    numbers, number, folder = _image_numbers(path) if sequence else ((), 0, path)
    return SceneFootage(
        path=folder,
        image_size=(int(clip.size[0]), int(clip.size[1])),
        display_aspect=clip.display_aspect[0] / clip.display_aspect[1],
        first_scene_frame=clip.frame_start,
        frame_offset=clip.frame_offset,
        frame_count=len(numbers) if sequence else clip.frame_duration,
        file_numbers=numbers,
        first_file_number=number,
    )


def _from_image(image: bpy.types.Image, user: bpy.types.ImageUser) -> SceneFootage:
    path = _existing_file(image.filepath, image.library)
    size = _picture_size(image, path)
    _check_readable(path, size[0] > 0)
    common = {
        "image_size": size,
        "display_aspect": image.display_aspect[0] / image.display_aspect[1],
        "first_scene_frame": user.frame_start,
        "frame_offset": user.frame_offset,
    }
    if image.source == "MOVIE":
        return SceneFootage(path=path, frame_count=image.frame_duration, **common)
    if image.source == "SEQUENCE":
        numbers, _, folder = _image_numbers(path)
        # An image user counts file numbers from 1, whichever file was picked.
        return SceneFootage(
            path=folder,
            frame_count=len(numbers),
            file_numbers=numbers,
            first_file_number=1,
            **common,
        )
    return SceneFootage(path=path, frame_count=1, is_still=True, **common)


def _existing_file(filepath: str, library: bpy.types.Library | None) -> Path:
    path = Path(bpy.path.abspath(filepath, library=library)).resolve()
    if not path.is_file():
        raise SceneError(f"the footage {path} is not there: put it back, or choose it again")
    return path


def is_readable(clip: bpy.types.MovieClip) -> bool:
    """Whether Blender can read a clip's file; one that it cannot read claims to be 256 x 256."""
    return clip.frame_duration > 0 and clip.size[0] > 0


def _check_readable(path: Path, is_readable: bool) -> None:
    if not is_readable:
        raise SceneError(f"Blender cannot read the footage {path}: convert it, or choose another")


def _picture_size(image: bpy.types.Image, path: Path) -> tuple[int, int]:
    if image.size[0] > 0:
        return int(image.size[0]), int(image.size[1])
    # A sequence knows its size only once it is drawn; a movie clip reads it at once.
    clip = bpy.data.movieclips.load(str(path))
    size = (int(clip.size[0]), int(clip.size[1])) if is_readable(clip) else (0, 0)
    bpy.data.movieclips.remove(clip)
    return size


def _natural_key(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part.lower()) for part in parts]


def _image_numbers(path: Path) -> tuple[tuple[int, ...], int, Path]:
    """File numbers of an image sequence in order of the folder, that of `path`, and the folder."""
    folder = path.parent
    names = _image_names(folder, folder.stat().st_mtime_ns)
    if path.name not in names:
        raise SceneError(
            f"{path.name} is no image that the backend reads: convert the sequence to PNG or JPEG"
        )
    found = _numbers_of(names)
    if len(found) < len(names):
        raise SceneError(
            f"the folder {folder} holds images without a number in their names: an image "
            "sequence needs a folder of its own"
        )
    if len(set(found)) != len(found):
        raise SceneError(
            f"the folder {folder} holds more than one image sequence: give each its own folder"
        )
    return found, found[names.index(path.name)], folder


@functools.lru_cache(maxsize=8)
def _numbers_of(names: tuple[str, ...]) -> tuple[int, ...]:
    """The last number in each file's name, those without one left out."""
    found = (re.search(r"(\d+)\D*$", os.path.splitext(name)[0]) for name in names)
    return tuple(int(match.group(1)) for match in found if match is not None)
