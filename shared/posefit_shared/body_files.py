# SPDX-License-Identifier: Apache-2.0
"""SMPL-family body files as checked numpy arrays: the free body, .npz files, official .pkl files.

The only place where a body file is opened, in Blender and in the backend alike. Everything that
comes out has been checked for shape, range and finiteness; posing it is the backend's business.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Generator
from importlib import resources
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from . import model_pickle, skeleton
from .body_arrays import BodyArrays, BodyFileError, default_joint_names, hashing
from .damaged_files import DAMAGED_ARRAYS
from .slices import to_end

__all__ = ["FREE_BODY", "BodyArrays", "BodyFileError", "body_slices", "read_body"]

FREE_BODY = "free"
"""Name of the body that ships with the project."""

_MAX_FILE_BYTES = 2 << 30
_MAX_JOINTS = 256
_READ_AT_ONCE = 1 << 20
"""Bytes that are unpacked between two pauses, and numbers that are converted."""
_REQUIRED = (
    "v_template", "f", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table",
)  # fmt: skip
_OPTIONAL = ("vt", "ft", "joint_names", "vertex_ids")

_SIDES = {"l": "left", "r": "right"}
_LANDMARK_NAMES = {"nose": "nose"} | {
    f"{short}{theirs}": f"{side}_{ours}"
    for short, side in (*_SIDES.items(), ("L", "left"), ("R", "right"))
    for theirs, ours in (
        ("eye", "eye"), ("ear", "ear"), ("BigToe", "big_toe"), ("SmallToe", "small_toe"),
        ("Heel", "heel"), ("thumb", "thumb_tip"), ("index", "index_tip"),
        ("middle", "middle_tip"), ("ring", "ring_tip"), ("pinky", "pinky_tip"),
    )
}  # fmt: skip
"""Landmark names of smplx's `vertex_ids` and ours."""

_LANDMARK_ORDER = (
    "nose",
    *(f"{side}_{name}" for name in ("eye", "ear") for side in ("right", "left")),
    *(f"left_{name}" for name in ("big_toe", "small_toe", "heel")),
    *(f"right_{name}" for name in ("big_toe", "small_toe", "heel")),
    *(
        f"{side}_{finger}_tip"
        for side in ("left", "right")
        for finger in ("thumb", "index", "middle", "ring", "pinky")
    ),
)
_KNOWN_LANDMARKS: dict[tuple[int, int], tuple[int, ...]] = {
    (6890, 13776): (
        332, 6260, 2800, 4071, 583, 3216, 3226, 3387, 6617, 6624, 6787,
        2746, 2319, 2445, 2556, 2673, 6191, 5782, 5905, 6016, 6133,
    ),
    (10475, 20908): (
        9120, 9929, 9448, 616, 6, 5770, 5780, 8846, 8463, 8474, 8635,
        5361, 4933, 5058, 5169, 5286, 8079, 7669, 7794, 7905, 8022,
    ),
}  # fmt: skip
"""Vertices of `_LANDMARK_ORDER` on SMPL's and SMPL-X's meshes, by (vertices, faces): official
files do not carry them."""


def read_body(source: str | Path, *, num_betas: int = 10) -> BodyArrays:
    """The body in a file, checked, or the free one that ships with the project.

    Args:
        source: `"free"`, or the path of an .npz or .pkl file of the SMPL family.
        num_betas: shape coefficients to keep; fewer where the file has fewer.

    Returns:
        The arrays; `shapedirs` has at most `num_betas` columns.

    Raises:
        BodyFileError: the file is missing, not a body model, damaged, or asks to run code.
    """
    return to_end(body_slices(source, num_betas=num_betas))


def body_slices(source: str | Path, *, num_betas: int = 10) -> Generator[None, None, BodyArrays]:
    """`read_body` with pauses, its content hash worked out too; a .pkl is read in one slice.

    Raises:
        BodyFileError: as `read_body` raises it.
    """
    if num_betas < 1:
        raise BodyFileError(f"num_betas is {num_betas}, expected at least 1")
    if source == FREE_BODY:
        asset = resources.files(__name__.rpartition(".")[0]).joinpath("assets", "free_body.npz")
        with asset.open("rb") as stream:
            fields = yield from _read_npz(stream.read())
        return (yield from _assemble(fields, FREE_BODY, FREE_BODY, num_betas))
    path = Path(source).expanduser()
    data = _read_file(path)
    if data.startswith(b"PK\x03\x04"):
        fields = yield from _read_npz(data)
    elif path.suffix.lower() in (".pkl", ".pickle"):
        fields = _read_pkl(data, path)
    else:
        raise BodyFileError(
            f"{path} is neither an .npz nor a .pkl file; give an SMPL, SMPL-H or SMPL-X model "
            f'file, or "{FREE_BODY}"'
        )
    return (yield from _assemble(fields, path.stem, str(path), num_betas))


def _read_file(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _MAX_FILE_BYTES:
            raise BodyFileError(
                f"{path} has {size >> 20} MiB, more than the {_MAX_FILE_BYTES >> 20} MiB that a "
                "body model may have; check that it is one"
            )
        return path.read_bytes()
    except OSError as error:
        raise BodyFileError(
            f"body file {path} cannot be read ({error.strerror or error}); check the path"
        ) from error


def _read_pkl(data: bytes, path: Path) -> dict[str, Any]:
    try:
        return model_pickle.read_model_pickle(data, frozenset(_REQUIRED + _OPTIONAL))
    except model_pickle.ModelPickleError as error:
        raise BodyFileError(f"{path} was refused as a body model: {error}") from error


def _read_npz(data: bytes) -> Generator[None, None, dict[str, Any]]:
    fields: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {info.filename: info for info in archive.infolist()}
            for key in _REQUIRED + _OPTIONAL:
                info = members.get(f"{key}.npy")
                if info is not None:
                    with archive.open(info) as stream:
                        fields[key] = yield from _read_npy(stream, info.file_size, key)
    except BodyFileError:
        raise
    except DAMAGED_ARRAYS as error:
        raise BodyFileError(f"the .npz body file is damaged ({error}); copy it again") from error
    return fields


def _read_npy(stream: IO[bytes], size: int, key: str) -> Generator[None, None, npt.NDArray[Any]]:
    """One array whose stated shape is checked against its stored size before it is built."""
    if size > _MAX_FILE_BYTES:
        raise BodyFileError(f"{key} unpacks to {size >> 20} MiB, too large for a body model")
    try:
        version = np.lib.format.read_magic(stream)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, is_fortran, dtype = read_header(stream)
    except DAMAGED_ARRAYS as error:
        raise BodyFileError(f"{key} in the .npz body file is damaged ({error})") from error
    if dtype.kind not in "fiubU":
        raise BodyFileError(
            f"{key} has type {dtype}, expected plain numbers; save it again without objects"
        )
    raw = bytearray()
    while piece := stream.read(_READ_AT_ONCE):
        raw += piece
        yield
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise BodyFileError(f"{key} says shape {shape} but the file holds {len(raw)} bytes of it")
    return np.frombuffer(raw, dtype=dtype).reshape(shape, order="F" if is_fortran else "C")


def _assemble(
    fields: dict[str, Any], name: str, source: str, num_betas: int
) -> Generator[None, None, BodyArrays]:
    missing = [key for key in _REQUIRED if key not in fields]
    if missing:
        raise BodyFileError(
            f"body file {source} lacks {', '.join(missing)}; expected an SMPL, SMPL-H or SMPL-X "
            "model file"
        )
    numbers = {key: _numeric(fields[key], key, source) for key in _REQUIRED}
    parents = _parents(numbers["kintree_table"], source)
    shapedirs = numbers["shapedirs"]
    if shapedirs.ndim != 3:
        raise BodyFileError(f"shapedirs in {source} is {shapedirs.shape}, expected (V, 3, N)")
    count = min(num_betas, _shape_columns(shapedirs.shape[2], len(parents)))
    faces = _integers(numbers["f"], "f", source)
    vt, ft = fields.get("vt"), fields.get("ft")
    has_uv = vt is not None and ft is not None
    try:
        body = BodyArrays(
            v_template=(yield from _float32(numbers["v_template"])),
            faces=faces,
            shapedirs=(yield from _float32(shapedirs[:, :, :count])),
            posedirs=(yield from _float32(numbers["posedirs"])),
            J_regressor=(yield from _float32(numbers["J_regressor"])),
            lbs_weights=(yield from _float32(numbers["weights"])),
            parents=parents,
            vt=(yield from _float32(_numeric(vt, "vt", source))) if has_uv else None,
            ft=_integers(_numeric(ft, "ft", source), "ft", source) if has_uv else None,
            joint_names=_joint_names(fields.get("joint_names"), len(parents)),
            landmarks=_landmarks(
                fields.get("vertex_ids"), (len(numbers["v_template"]), len(faces)), source
            ),
            name=name,
        )
    except BodyFileError as error:
        raise BodyFileError(f"body file {source}: {error}") from error
    yield
    yield from hashing(body)
    return body


def _numeric(value: Any, key: str, source: str) -> npt.NDArray[Any]:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise BodyFileError(f"{key} in {source} has type {array.dtype}, expected numbers")
    return array


def _float32(array: npt.NDArray[Any]) -> Generator[None, None, npt.NDArray[np.float32]]:
    """The numbers as float32, −0 as 0, so that equal bodies have equal hashes."""
    result = np.empty(array.shape, np.float32)
    if not result.ndim:
        result[...] = array + np.float32(0.0)
        return result
    rows = max(1, _READ_AT_ONCE * len(array) // max(array.size, 1))
    for start in range(0, len(array), rows):
        part = slice(start, start + rows)
        with np.errstate(over="ignore"):
            result[part] = array[part]
        result[part] += np.float32(0.0)
        yield
    return result


def _integers(array: npt.NDArray[Any], key: str, source: str) -> npt.NDArray[np.int32]:
    is_whole = bool(np.isfinite(array).all()) and bool((array == np.floor(array)).all())
    if not is_whole or (array.size and (array.min() < 0 or array.max() >= 2**31)):
        raise BodyFileError(f"{key} in {source} holds values that are not indices")
    return np.ascontiguousarray(array, dtype=np.int32)


def _parents(kintree_table: npt.NDArray[Any], source: str) -> npt.NDArray[np.int32]:
    if kintree_table.ndim != 2 or kintree_table.shape[0] != 2 or kintree_table.shape[1] < 2:
        raise BodyFileError(
            f"kintree_table in {source} is {kintree_table.shape}, expected (2, joints)"
        )
    parents = kintree_table[0].astype(np.float64)
    parents[0] = -1  # files mark the root with −1 or 2³² − 1
    is_index = np.isfinite(parents) & (np.abs(parents) < _MAX_JOINTS)
    if not is_index.all():
        raise BodyFileError(f"kintree_table in {source} holds values that are not joints")
    return parents.astype(np.int32)


def _shape_columns(columns: int, joint_count: int) -> int:
    """Columns of `shapedirs` that are shape: SMPL-X appends its expressions (100, or 10)."""
    if joint_count != skeleton.MODEL_JOINT_COUNTS["smplx"]:
        return columns
    return 300 if columns >= 400 else min(columns, 10)


def _joint_names(names: Any, joint_count: int) -> tuple[str, ...]:
    if isinstance(names, np.ndarray) and names.dtype.kind == "U" and names.shape == (joint_count,):
        return tuple(str(name) for name in names)
    return default_joint_names(joint_count)


def _landmarks(vertex_ids: Any, mesh: tuple[int, int], source: str) -> dict[str, int]:
    """Landmarks that the file names, else those of a mesh whose vertices are known."""
    if vertex_ids is None:
        known = _KNOWN_LANDMARKS.get(mesh)
        return dict(zip(_LANDMARK_ORDER, known, strict=True)) if known else {}
    try:
        entries = json.loads(str(np.asarray(vertex_ids)[()]))
        return {
            _LANDMARK_NAMES.get(str(name), str(name)): int(vertex)
            for name, vertex in entries.items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise BodyFileError(
            f"vertex_ids in {source} is not a JSON object of vertex numbers ({error})"
        ) from error
