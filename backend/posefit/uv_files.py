# SPDX-License-Identifier: Apache-2.0
"""Texture coordinates for a body from a user's `.obj`, or from xatlas where that is asked for.

Official SMPL files have none; their makers give `.obj` files that do. Without either a body is
unrolled as in `unwrap`, which needs nothing and gives the same coordinates on every machine.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from posefit_shared.body_files import BodyArrays, BodyFileError

__all__ = ["XATLAS", "read_obj_uv", "with_texture_coordinates"]

logger = logging.getLogger(__name__)

XATLAS = "xatlas"
"""What asks for xatlas instead of naming a file."""
_MAX_BYTES = 256 << 20
_CACHE = Path("~/.cache/posefit/uv")
Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int32]


def with_texture_coordinates(
    arrays: BodyArrays, uv: str | Path, cache: Path | None = None
) -> BodyArrays:
    """A body's arrays with other texture coordinates.

    Args:
        arrays: the body.
        uv: an `.obj` of the same mesh, or `xatlas`.
        cache: folder for what xatlas made; the user's cache unless given.

    Raises:
        BodyFileError: the file does not fit, or xatlas is not installed.
    """
    if str(uv) == XATLAS:
        vt, ft = _xatlas(arrays, cache or _CACHE.expanduser())
    else:
        vt, ft = read_obj_uv(Path(uv).expanduser(), arrays.faces, len(arrays.v_template))
    return dataclasses.replace(arrays, vt=vt, ft=ft)


def read_obj_uv(path: Path, faces: npt.NDArray[np.integer], vertices: int) -> tuple[Floats, Ids]:
    """Texture coordinates (U, 2) and those of each face corner (F, 3), in the body's face order.

    The file's faces may come in another order and begin at another corner; they must be the same
    triangles of the same vertices.

    Args:
        path: `.obj` with `v`, `vt` and `f v/vt …`.
        faces: (F, 3) of the body.
        vertices: of the body.

    Raises:
        BodyFileError: the file cannot be read, has no texture coordinates, or is another mesh.
    """
    count, vt, corners, coordinates = _parse(path)
    if not len(vt) or not len(corners):
        raise BodyFileError(
            f"{path.name} has {len(vt)} texture coordinates and {len(corners)} textured faces: "
            "give an .obj with 'vt' lines and faces as v/vt"
        )
    if count != vertices or len(corners) != len(faces):
        raise BodyFileError(
            f"{path.name} has {count} vertices and {len(corners)} triangles, the body {vertices} "
            f"and {len(faces)}: give the .obj of this very body"
        )
    if coordinates.min() < 0 or coordinates.max() >= len(vt):
        raise BodyFileError(f"{path.name} names texture coordinates that it lacks: copy it again")
    theirs, ours = np.sort(corners, axis=1), np.sort(np.asarray(faces, np.int64), axis=1)
    order, back = np.lexsort(theirs.T[::-1]), np.lexsort(ours.T[::-1])
    if not np.array_equal(theirs[order], ours[back]):
        raise BodyFileError(
            f"{path.name} has other triangles than the body: give the .obj of this very body"
        )
    ft = np.empty((len(faces), 3), np.int32)
    # Corner by corner: where the body's vertex stands in the file's triangle.
    mine, their_corners = np.asarray(faces, np.int64)[back], corners[order]
    place = (mine[:, :, None] == their_corners[:, None]).argmax(2)
    ft[back] = np.take_along_axis(coordinates[order], place, axis=1)
    return vt, ft


def _parse(
    path: Path,
) -> tuple[int, Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Vertices counted, texture coordinates, and each triangle's vertices and coordinates."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BodyFileError(
                f"{path.name} is larger than {_MAX_BYTES >> 20} MiB: no body's .obj"
            )
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError as error:
        raise BodyFileError(
            f"{path} cannot be read ({error.strerror or error}): check the path"
        ) from error
    vertices, vt, corners, coordinates = 0, [], [], []
    try:
        for line in lines:
            words = line.split()
            if not words:
                continue
            if words[0] == "v":
                vertices += 1
            elif words[0] == "vt":
                vt.append((float(words[1]), float(words[2])))
            elif words[0] == "f" and "/" in words[1]:
                pairs = [word.split("/")[:2] for word in words[1:]]
                for k in range(1, len(pairs) - 1):  # polygons as fans
                    fan = (pairs[0], pairs[k], pairs[k + 1])
                    corners.append([_index(v, vertices) for v, _ in fan])
                    coordinates.append([_index(t, len(vt)) for _, t in fan])
    except (ValueError, IndexError) as error:
        raise BodyFileError(f"{path.name} is no .obj ({error}): copy it again") from error
    return (
        vertices,
        np.array(vt, np.float32).reshape(-1, 2),
        np.array(corners, np.int64).reshape(-1, 3),
        np.array(coordinates, np.int64).reshape(-1, 3),
    )


def _index(word: str, count: int) -> int:
    """A number of an .obj: from 1, or from the end where it is negative."""
    number = int(word)
    return number - 1 if number > 0 else count + number


def _xatlas(arrays: BodyArrays, cache: Path) -> tuple[Floats, Ids]:
    """xatlas' charts, made once a body and kept: it takes seconds."""
    if importlib.util.find_spec("xatlas") is None:
        raise BodyFileError(
            "xatlas is not installed: pip install 'posefit[unwrap]', or name an .obj, or leave out "
            "--uv"
        )
    import xatlas

    file = cache / f"{arrays.content_hash[:32]}-{xatlas.__version__}.npz"
    if file.is_file():
        with np.load(file, allow_pickle=False) as data:
            return data["vt"], data["ft"]
    logger.info("unwrapping %s with xatlas, once", arrays.name)
    _, ft, vt = xatlas.parametrize(arrays.v_template, arrays.faces.astype(np.uint32))
    vt, ft = vt.astype(np.float32), ft.astype(np.int32)
    cache.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".part")
    with partial.open("wb") as handle:
        np.savez_compressed(handle, vt=vt, ft=ft)
    partial.replace(file)
    return vt, ft
