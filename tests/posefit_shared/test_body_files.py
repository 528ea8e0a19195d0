# SPDX-License-Identifier: Apache-2.0
"""Body files: what is read, what is refused, and that nothing in them ever runs."""

from __future__ import annotations

import builtins
import collections
import gzip
import io
import os
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest

from posefit_shared import skeleton
from posefit_shared.body_files import BodyArrays, BodyFileError, read_body


def small_body(
    rng: np.random.Generator, joint_count: int = 24, betas: int = 10
) -> dict[str, object]:
    """A tetrahedron-like body in SMPL's own layout."""
    vertex_count = 40
    parents = {24: skeleton.PARENTS["smpl"], 52: skeleton.PARENTS["smplh"]}.get(
        joint_count, skeleton.PARENTS["smplx"]
    )
    weights = rng.random((vertex_count, joint_count))
    regressor = rng.random((joint_count, vertex_count)) * (rng.random((joint_count, 40)) < 0.3)
    kintree = np.array([parents, range(joint_count)], dtype=np.int64)
    kintree[0, 0] = 2**32 - 1
    return {
        "v_template": rng.normal(size=(vertex_count, 3)),
        "f": rng.integers(0, vertex_count, (60, 3)).astype(np.uint32),
        "shapedirs": rng.normal(size=(vertex_count, 3, betas)) * 0.01,
        "posedirs": rng.normal(size=(vertex_count, 3, 9 * (joint_count - 1))) * 0.001,
        "J_regressor": regressor,
        "weights": weights / weights.sum(axis=1, keepdims=True),
        "kintree_table": kintree,
    }


def write_npz(path: Path, fields: dict[str, object]) -> Path:
    np.savez_compressed(path, **fields)
    return path


# --- pickles as the official files have them -----------------------------------------------------


class Ch:
    """Looks to pickle like `chumpy.ch.Ch`."""

    __module__ = "chumpy.ch"

    def __init__(self, value: object) -> None:
        self.x = value
        self._dirty_vars = set()
        self._itr = None


class Select:
    """Looks to pickle like `chumpy.reordering.Select`."""

    __module__ = "chumpy.reordering"

    def __init__(self, a: object, idxs: np.ndarray, preferred_shape: object) -> None:
        self.a = a
        self.idxs = idxs
        self.preferred_shape = preferred_shape


class csc_matrix:  # noqa: N801
    """Looks to pickle like `scipy.sparse.csc.csc_matrix`."""

    __module__ = "scipy.sparse.csc"

    def __init__(self, dense: np.ndarray) -> None:
        rows, columns = np.nonzero(dense.T)[::-1]
        order = np.lexsort((rows, columns))
        self._shape = dense.shape
        self.maxprint = 50
        self.data = dense[rows[order], columns[order]]
        self.indices = rows[order].astype(np.int32)
        counts = np.bincount(columns, minlength=dense.shape[1])
        self.indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)


class _Python2Pickler(pickle._Pickler):  # noqa: SLF001
    """Writes bytes as Python 2 wrote its strings: BINSTRING, without a call to an encoder."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: SLF001

    def save_bytes(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes


@pytest.fixture
def foreign_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules under whose names the look-alikes can be pickled."""
    for name, members in {
        "chumpy": (),
        "chumpy.ch": (Ch,),
        "chumpy.reordering": (Select,),
        "scipy.sparse.csc": (csc_matrix,),
    }.items():
        module = types.ModuleType(name)
        for member in members:
            setattr(module, member.__name__, member)
        monkeypatch.setitem(sys.modules, name, module)
    if "scipy" not in sys.modules:
        for name in ("scipy", "scipy.sparse"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))


def official_looking(fields: dict[str, object]) -> dict[str, object]:
    """The same body as the official files store it: chumpy, sparse, strings beside the arrays."""
    shapedirs = np.asarray(fields["shapedirs"])
    padded = np.concatenate([shapedirs, np.ones_like(shapedirs)], axis=2)
    chosen = np.arange(padded.size).reshape(padded.shape)[:, :, : shapedirs.shape[2]].ravel()
    return fields | {
        "shapedirs": Select(Ch(padded), chosen, shapedirs.shape),
        "v_template": Ch(fields["v_template"]),
        "J_regressor": csc_matrix(np.asarray(fields["J_regressor"])),
        "posedirs": np.asfortranarray(fields["posedirs"]),
        "bs_type": "lrotmin",
        "vert_sym_idxs": np.arange(40),
        "extra": np.float64(3.0),
    }


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_an_official_pickle_reads_as_the_npz_of_the_same_body(
    tmp_path: Path, rng: np.random.Generator, foreign_modules: None, protocol: int
) -> None:
    fields = small_body(rng)
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    path.write_bytes(pickle.dumps(official_looking(fields), protocol=protocol))
    from_pickle = read_body(path)
    from_npz = read_body(write_npz(tmp_path / "same.npz", fields))
    for name in ("v_template", "faces", "shapedirs", "posedirs", "J_regressor", "lbs_weights"):
        np.testing.assert_array_equal(getattr(from_pickle, name), getattr(from_npz, name))
    assert from_pickle.content_hash == from_npz.content_hash
    assert from_pickle.name == "SMPL_NEUTRAL"
    assert from_pickle.joint_names == skeleton.SMPL_JOINT_NAMES


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_a_python_2_pickle_reads_whichever_numpy_wrote_it(
    tmp_path: Path, rng: np.random.Generator, foreign_modules: None, core: str
) -> None:
    fields = small_body(rng)
    stream = io.BytesIO()
    _Python2Pickler(stream, protocol=2).dump(official_looking(fields))
    written = b"numpy._core" if b"numpy._core" in stream.getvalue() else b"numpy.core"
    path = tmp_path / "model.pkl"
    path.write_bytes(stream.getvalue().replace(written, core.encode()))
    body = read_body(path)
    np.testing.assert_array_equal(body.posedirs, np.asarray(fields["posedirs"], dtype=np.float32))


@pytest.mark.parametrize("protocol", [0, 2])
def test_a_file_that_python_2_and_chumpy_wrote_reads_to_the_number(
    tmp_path: Path, protocol: int
) -> None:
    """`data/` holds made-up bodies pickled by Python 2.7, numpy 1.16, scipy 1.2, chumpy 0.70."""

    def ramp(*shape: int) -> np.ndarray:
        return (np.arange(np.prod(shape)) % 97).reshape(shape) / 128

    packed = Path(__file__).parent / "data" / f"chumpy_body_protocol{protocol}.pkl.gz"
    path = tmp_path / "model.pkl"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    body = read_body(path)
    np.testing.assert_array_equal(body.v_template, ramp(12, 3))
    np.testing.assert_array_equal(body.shapedirs, ramp(12, 3, 10))
    np.testing.assert_array_equal(body.posedirs, ramp(12, 3, 207).astype(np.float32))
    assert body.parents.tolist() == list(skeleton.SMPL_PARENTS)
    regressor = np.zeros((24, 12))
    regressor[np.arange(24), np.arange(24) % 12] = 0.5
    regressor[np.arange(24), (np.arange(24) + 3) % 12] = 0.5
    np.testing.assert_array_equal(body.J_regressor, regressor)


def test_reading_never_imports_what_the_pickle_names(
    tmp_path: Path, rng: np.random.Generator, foreign_modules: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(official_looking(small_body(rng)), protocol=2))
    real_import = builtins.__import__

    def watched(name: str, *arguments: object, **options: object) -> object:
        assert not name.startswith(("chumpy", "scipy")), f"imported {name}"
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", watched)
    read_body(path)


# --- pickles that attack -------------------------------------------------------------------------


class _Calls:
    def __init__(self, function: object, *arguments: object) -> None:
        self._reduced = (function, arguments)

    def __reduce__(self) -> object:
        return self._reduced


def _attacks(marker: str) -> dict[str, object]:
    return {
        "os.system": _Calls(os.system, f"touch {marker}"),
        "eval": _Calls(eval, f"open({marker!r}, 'w')"),
        "exec": _Calls(exec, f"open({marker!r}, 'w')"),
        "getattr": _Calls(getattr, collections.OrderedDict, "copy"),
        "open": _Calls(open, marker, "w"),
        "numpy.save": _Calls(np.save, marker, np.zeros(3)),
        "numpy.load": _Calls(np.load, marker, None, True),
        "numpy.fromfile": _Calls(np.fromfile, "/etc/hostname"),
        "a class of ours": _Calls(BodyArrays, 1),
        "operator": _Calls(__import__("operator").attrgetter, "system"),
        "defaultdict": collections.defaultdict(list),
    }


@pytest.mark.parametrize("attack", list(_attacks("")))
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_is_refused_and_runs_nothing(
    tmp_path: Path, rng: np.random.Generator, attack: str, protocol: int
) -> None:
    marker = tmp_path / "ran.npy"
    path = tmp_path / "model.pkl"
    payload = small_body(rng) | {"payload": _attacks(str(marker))[attack]}
    path.write_bytes(pickle.dumps(payload, protocol=protocol))
    with pytest.raises(BodyFileError, match="refused as a body model"):
        read_body(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02cnumpy\nndarray\n}(X\x01\x00\x00\x00aK\x01ub.",
        b"\x80\x02c_codecs\nencode\n}(X\x0c\x00\x00\x00__defaults__N\x75b.",
        b"\x80\x02c_codecs\nencode\nN}X\x0c\x00\x00\x00__defaults__Ns\x86b.",
        b"\x80\x02ccopy_reg\n_reconstructor\ncnumpy\ndtype\ncnumpy\ndtype\nN\x87Rb.",
        b"\x80\x02csys\nmodules\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"\x80\x04\x8c\x05numpy\x8c\x12ndarray.__reduce__\x93.",
        b"\x80\x02K\x01r\xff\xff\xff\x7f.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02X\xff\xff\xff\xffabc.",
        b"(ios\nsystem\n.",
        b"\x80\x02]q\x00h\x00ah\x00a.",
        b"",
        b"garbage that is no pickle at all",
    ],
)
def test_hand_written_pickle_programs_are_refused(tmp_path: Path, program: bytes) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(program)
    with pytest.raises(BodyFileError):
        read_body(path)


def test_arrays_of_objects_in_a_pickle_are_refused(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "model.pkl"
    vertices = np.empty((40, 3), dtype=object)
    path.write_bytes(pickle.dumps(small_body(rng) | {"v_template": vertices}, protocol=2))
    with pytest.raises(BodyFileError, match="plain numbers"):
        read_body(path)


@pytest.mark.parametrize("keep", [0.2, 0.9, 0.999])
def test_a_pickle_cut_short_is_refused(
    tmp_path: Path, rng: np.random.Generator, keep: float
) -> None:
    data = pickle.dumps(small_body(rng), protocol=2)
    path = tmp_path / "model.pkl"
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(BodyFileError, match="refused"):
        read_body(path)


def test_flipped_bytes_in_a_pickle_end_in_a_body_file_error_or_a_body(
    tmp_path: Path, rng: np.random.Generator, foreign_modules: None
) -> None:
    original = bytearray(pickle.dumps(official_looking(small_body(rng)), protocol=2))
    path = tmp_path / "model.pkl"
    for _ in range(150):
        damaged = bytearray(original)
        for position in rng.integers(0, len(original), 3):
            damaged[position] = rng.integers(256)
        header = rng.integers(0, 400)
        damaged[header] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            body = read_body(path)
        except BodyFileError:
            continue
        assert np.isfinite(body.v_template).all()


# --- .npz files ----------------------------------------------------------------------------------


def test_the_free_body_is_a_sound_smpl_body() -> None:
    body = read_body("free")
    assert body.parents.tolist() == list(skeleton.SMPL_PARENTS)
    assert body.joint_names == skeleton.SMPL_JOINT_NAMES
    assert body.num_betas == 10
    assert body.name == "free"
    assert body.vt is not None
    assert body.ft is not None
    assert (np.count_nonzero(body.lbs_weights, axis=1) <= 4).all()
    np.testing.assert_allclose(body.J_regressor.sum(axis=1), 1, atol=1e-4)
    assert {"nose", "left_eye", "right_ear", "left_heel", "right_big_toe", "left_index_tip"} <= set(
        body.landmarks
    )
    assert body.v_template[body.landmarks["left_heel"], 0] > 0


def test_the_free_body_is_a_closed_surface_facing_outwards() -> None:
    body = read_body("free")
    edges = body.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    keys = edges[:, 0].astype(np.int64) * len(body.v_template) + edges[:, 1]
    reverse = edges[:, 1].astype(np.int64) * len(body.v_template) + edges[:, 0]
    assert len(np.unique(keys)) == len(keys)
    assert set(keys.tolist()) == set(reverse.tolist())
    corners = body.v_template[body.faces].astype(np.float64)
    volume = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 0.04 < volume < 0.12


@pytest.mark.parametrize(
    ("joint_count", "columns", "asked", "kept"),
    [(24, 10, 10, 10), (24, 300, 10, 10), (24, 300, 300, 300), (52, 16, 16, 16),
     (55, 400, 400, 300), (55, 20, 16, 10)],
)  # fmt: skip
def test_only_shape_columns_that_exist_are_kept(
    tmp_path: Path,
    rng: np.random.Generator,
    joint_count: int,
    columns: int,
    asked: int,
    kept: int,
) -> None:
    path = write_npz(tmp_path / "body.npz", small_body(rng, joint_count, columns))
    body = read_body(path, num_betas=asked)
    assert body.num_betas == kept
    assert body.num_joints == joint_count
    assert len(body.joint_names) == joint_count


def test_the_hash_names_the_body_and_not_how_it_was_read(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    fields = small_body(rng, betas=300)
    path = write_npz(tmp_path / "body.npz", fields)
    as_double = read_body(path)
    assert as_double.content_hash == read_body(path, num_betas=300).content_hash
    single = {k: np.asarray(v) for k, v in fields.items()}
    single = {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in single.items()}
    assert as_double.content_hash == read_body(write_npz(tmp_path / "s.npz", single)).content_hash
    single["weights"] = np.roll(single["weights"], 1, axis=0)
    assert as_double.content_hash != read_body(write_npz(tmp_path / "t.npz", single)).content_hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v_template": np.zeros((40, 2))}, "expected"),
        ({"v_template": np.full((40, 3), np.nan)}, "finite"),
        ({"v_template": np.full((40, 3), 1e300)}, "finite"),
        ({"v_template": np.random.default_rng(0).normal(size=(40, 3)) * 100}, "metres"),
        ({"f": np.full((60, 3), 40)}, "vertex 40"),
        ({"f": np.full((60, 3), -1)}, "not indices"),
        ({"f": np.full((60, 3), 0.5)}, "not indices"),
        ({"f": np.zeros((0, 3), int)}, "not empty"),
        ({"shapedirs": np.zeros((40, 30))}, "shapedirs"),
        ({"shapedirs": np.zeros((39, 3, 10))}, "shapedirs"),
        ({"posedirs": np.zeros((40, 3, 206))}, "posedirs"),
        ({"J_regressor": np.zeros((23, 40))}, "J_regressor"),
        ({"weights": np.zeros((40, 24))}, "weights"),
        ({"weights": np.full((40, 24), -1 / 24)}, "weights"),
        ({"kintree_table": np.zeros((2, 24), int) + 30}, "tree"),
        ({"kintree_table": np.zeros((3, 24), int)}, "kintree_table"),
        ({"kintree_table": np.full((2, 24), np.inf)}, "not joints"),
        ({"vertex_ids": '{"nose": 40}'}, "nose"),
        ({"vertex_ids": "[1, 2]"}, "JSON"),
        ({"vt": np.zeros((5, 2)), "ft": np.full((60, 3), 5)}, "texture"),
        ({"vt": np.zeros((5, 2)), "ft": np.zeros((59, 3), int)}, "texture"),
    ],
)
def test_arrays_that_make_no_body_are_refused_in_words(
    tmp_path: Path, rng: np.random.Generator, change: dict[str, object], message: str
) -> None:
    path = write_npz(tmp_path / "body.npz", small_body(rng) | change)
    with pytest.raises(BodyFileError, match=message):
        read_body(path)


def test_a_missing_array_is_named(tmp_path: Path, rng: np.random.Generator) -> None:
    fields = small_body(rng)
    del fields["posedirs"]
    with pytest.raises(BodyFileError, match="lacks posedirs"):
        read_body(write_npz(tmp_path / "body.npz", fields))


def test_objects_in_an_npz_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    fields = small_body(rng) | {"weights": np.array([{}, None], dtype=object)}
    with pytest.raises(BodyFileError, match="weights"):
        read_body(write_npz(tmp_path / "body.npz", fields))


def test_an_array_that_claims_to_be_huge_is_refused_before_memory_is_taken(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = write_npz(tmp_path / "body.npz", small_body(rng))
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 3)}
    )
    with zipfile.ZipFile(path) as archive:
        kept = {n: archive.read(n) for n in archive.namelist() if n != "v_template.npy"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in kept.items():
            archive.writestr(name, data)
        archive.writestr("v_template.npy", stream.getvalue())
    with pytest.raises(BodyFileError, match="v_template says shape"):
        read_body(path)


def test_files_that_are_something_else_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(BodyFileError, match="cannot be read"):
        read_body(tmp_path / "missing.npz")
    with pytest.raises(BodyFileError, match="cannot be read"):
        read_body(tmp_path)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    with pytest.raises(BodyFileError, match="neither"):
        read_body(tmp_path / "picture.png")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04" + b"\0" * 50)
    with pytest.raises(BodyFileError, match="damaged"):
        read_body(tmp_path / "cut.npz")


def test_official_meshes_get_their_known_landmarks() -> None:
    from posefit_shared.body_files import _KNOWN_LANDMARKS, _LANDMARK_ORDER

    for (vertex_count, _), vertices in _KNOWN_LANDMARKS.items():
        assert len(vertices) == len(_LANDMARK_ORDER) == len(set(vertices))
        assert max(vertices) < vertex_count
