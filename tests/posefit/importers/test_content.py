# SPDX-License-Identifier: Apache-2.0
"""Files are opened without running anything from them, whatever wrote them."""

import bz2
import collections
import gzip
import lzma
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from import_layouts import write_joblib

from posefit.importers import ImporterError
from posefit.importers.content import load_content


def result():
    """Everything that results are made of."""
    people = collections.defaultdict(dict)
    people[3]["pose"] = np.arange(12.0).reshape(3, 4)
    people[3]["fortran"] = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    people[3]["names"] = np.array(["a", "bcd"])
    people[3]["none"] = np.zeros((0, 3))
    people[3]["objects"] = np.array([{"inner": np.arange(3)}, None], dtype=object)
    people[3]["scalar"] = np.float32(2.5)
    people[3]["words"] = ["x", None, (1, 2.5, True)]
    return people


def assert_same(expected, found):
    if isinstance(expected, dict):
        assert set(expected) == set(found)
        for key in expected:
            assert_same(expected[key], found[key])
    elif isinstance(expected, list | tuple):
        assert len(expected) == len(found)
        for one, other in zip(expected, found, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray) and expected.dtype == object:
        assert_same(list(expected), list(found))
    elif isinstance(expected, torch.Tensor):
        np.testing.assert_array_equal(expected.detach().float().numpy(), found)
    else:
        np.testing.assert_array_equal(expected, found)


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol_come_back_as_they_were(tmp_path, protocol):
    path = tmp_path / "result.pkl"
    path.write_bytes(pickle.dumps(result(), protocol))
    content = load_content(path)
    assert content.kind == "pickle"
    assert_same(result(), content.data)


@pytest.mark.parametrize("compress", [False, True])
def test_joblib_files_come_back_as_they_were(tmp_path, compress):
    content = load_content(write_joblib(tmp_path / "result.pkl", result(), compress))
    assert_same(result(), content.data)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_the_other_packings_are_known(tmp_path, pack):
    plain = write_joblib(tmp_path / "plain", result(), compress=False)
    (tmp_path / "packed").write_bytes(pack(plain.read_bytes()))
    assert_same(result(), load_content(tmp_path / "packed").data)


@pytest.mark.parametrize("is_zip", [True, False])
def test_torch_files_become_arrays(tmp_path, is_zip):
    tensors = {
        "a": torch.randn(3, 4),
        "strided": torch.randn(4, 4)[1:, ::2].T,
        "inner": {"half": torch.randn(2).half(), "b": torch.randn(3).bfloat16()},
        "whole": torch.arange(4),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "flags": torch.tensor([True, False]),
    }
    torch.save(tensors, tmp_path / "r.pt", _use_new_zipfile_serialization=is_zip)
    content = load_content(tmp_path / "r.pt")
    assert content.kind == "torch"
    assert_same(tensors, content.data)


def test_tensors_in_an_npy_file_become_arrays(tmp_path):
    np.save(tmp_path / "t.npy", {"pose": torch.randn(2, 3), "frame": torch.arange(2)})
    data = load_content(tmp_path / "t.npy").data
    assert data["pose"].shape == (2, 3)
    assert data["frame"].tolist() == [0, 1]


def test_objects_in_an_npz_come_out_of_their_arrays(tmp_path):
    np.savez(tmp_path / "r.npz", results={"cam": np.arange(3)}, plain=np.arange(2))
    data = load_content(tmp_path / "r.npz").data
    assert_same({"results": {"cam": np.arange(3)}, "plain": np.arange(2)}, data)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("kind", ["pickle", "joblib", "torch", "npz", "npy", "inner tensor"])
def test_a_file_that_would_run_a_command_is_refused_and_runs_nothing(tmp_path, kind):
    mark, path = tmp_path / "it-ran", tmp_path / "evil.pkl"
    bomb = {"pose": Evil(mark)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(bomb))
    elif kind == "joblib":
        write_joblib(path, bomb)
    elif kind == "torch":
        torch.save(bomb, path)
    elif kind == "npz":
        path = tmp_path / "evil.npz"
        np.savez(path, results=bomb)
    elif kind == "npy":
        path = tmp_path / "evil.npy"
        np.save(path, bomb)
    else:
        storage = torch.ones(2).untyped_storage()
        path.write_bytes(pickle.dumps({"a": storage, "b": Evil(mark)}))
    with pytest.raises(ImporterError, match=r"was refused .*nothing was run.*: import only"):
        load_content(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x04cbuiltins\neval\n(X\x03\x00\x00\x001+1tR.",
        b"\x80\x04cbuiltins\ngetattr\n.",
        b"\x80\x02cnumpy\nndarray\n}X\x01\x00\x00\x00aK\x01sb.",
        b"\x80\x02c__main__\nX\n)\x81.",
        b"(S'touch x'\nios\nsystem\n.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02X\x01\x00\x00\x00aQ.",
    ],
)
def test_programs_beyond_arrays_and_containers_are_refused(tmp_path, program):
    (tmp_path / "p.pkl").write_bytes(program)
    with pytest.raises(ImporterError):
        load_content(tmp_path / "p.pkl")


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["pickle", "joblib", "torch", "npz"])
def test_files_that_are_cut_short_are_refused_in_words(tmp_path, kind, keep):
    path = tmp_path / "r"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(result()))
    elif kind == "joblib":
        write_joblib(path, result())
    elif kind == "torch":
        torch.save({"a": torch.randn(30)}, path)
    else:
        path = tmp_path / "r.npz"
        np.savez(path, results=dict(result()))
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ImporterError, match=r"copy it again|expected"):
        load_content(path)


@pytest.mark.parametrize("junk", [b"", b"hello", b"\x00" * 100, b"{}", b"PK\x03\x04 no zip"])
def test_other_files_are_refused_in_words(tmp_path, junk):
    (tmp_path / "j").write_bytes(junk)
    with pytest.raises(ImporterError):
        load_content(tmp_path / "j")


def test_an_array_that_claims_more_than_it_holds_is_refused(tmp_path):
    data = pickle.dumps({"a": np.arange(4, dtype=np.float64)}, 2)
    (tmp_path / "a.pkl").write_bytes(data.replace(b"K\x04\x85", b"K\x05\x85"))
    with pytest.raises(ImporterError, match="says shape"):
        load_content(tmp_path / "a.pkl")


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path):
    torch.save({"a": torch.arange(4.0)}, tmp_path / "t.pt")
    with zipfile.ZipFile(tmp_path / "t.pt") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "t.pt", "w") as archive:
        for name, raw in entries.items():
            archive.writestr(name, raw[:8] if name.endswith("data/0") else raw)
    with pytest.raises(ImporterError, match="beyond its numbers"):
        load_content(tmp_path / "t.pt")


def test_lists_that_hold_each_other_many_times_do_not_grow(tmp_path):
    doubled = []
    for _ in range(40):
        doubled = [doubled, doubled]
    (tmp_path / "d.pkl").write_bytes(pickle.dumps({"a": doubled}))
    assert load_content(tmp_path / "d.pkl").kind == "pickle"
