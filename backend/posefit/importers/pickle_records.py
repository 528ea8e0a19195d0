# SPDX-License-Identifier: Apache-2.0
"""What pickles of results may name, each as an inert record, and the arrays made of them."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Record", "RecordError", "Storage", "known_name", "resolved", "storage_dtype"]

_PLAIN = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
_MAX_DEPTH = 64
_STORAGES = {
    "Double": "f8", "Float": "f4", "Half": "f2", "BFloat16": "bfloat16", "Long": "i8", "Int": "i4",
    "Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "b1", "Untyped": "u1",
}  # fmt: skip
_TORCH_TYPES = {
    "float64": "f8", "float32": "f4", "float16": "f2", "bfloat16": "bfloat16", "int64": "i8",
    "int32": "i4", "int16": "i2", "int8": "i1", "uint8": "u1", "bool": "b1",
}  # fmt: skip


class RecordError(ValueError):
    """A pickle that asks for what is not allowed, or describes an impossible array."""


class Record:
    """Something that a pickle described; interprets nothing until it is asked for its value."""

    has_nested_pickle = False
    value: Any = None

    def build(self, state: Any, stream: io.BytesIO) -> None:
        """Take the state that a pickle sets."""
        raise RecordError("it changes an object that no result holds")

    def resolve(self, depth: int, memo: dict[int, Any]) -> Any:
        """The plain value."""
        return self.value


class _Name(Record):
    """A class or constant that stands as an argument only."""

    def __init__(self, value: str) -> None:
        self.value = value


class _Dtype(Record):
    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = code, "<"

    def build(self, state: Any, stream: io.BytesIO) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise RecordError("an array in it has an unknown byte order")
        self.order = state[1]

    @property
    def is_object(self) -> bool:
        return isinstance(self.code, str) and self.code.lstrip("<>|=") in ("O", "O4", "O8")

    def numpy(self) -> np.dtype[Any]:
        code = self.code.lstrip("<>|=") if isinstance(self.code, str) else ""
        is_text = code[:1] in ("U", "S") and code[1:].isdigit() and int(code[1:]) < 65536
        if code not in _PLAIN and not is_text:
            raise RecordError(f"an array in it has type {self.code!r}, expected numbers or text")
        return np.dtype(self.order + code if is_text or code[1:] != "1" else code)


class _Array(Record):
    """`numpy.ndarray`, made by `_reconstruct` or `_frombuffer` and filled by its state."""

    def __init__(self, *_: Any) -> None:
        self.parts: tuple[Any, ...] = ()

    def build(self, state: Any, stream: io.BytesIO) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise RecordError("an array in it is stored in a form that numpy does not write")
        self.parts = state

    def resolve(self, depth: int, memo: dict[int, Any]) -> Any:
        if not self.parts:
            raise RecordError("an array in it was never filled")
        _, shape, dtype, is_fortran, raw = self.parts
        if not isinstance(dtype, _Dtype):
            raise RecordError("an array in it has no type")
        if not dtype.is_object:
            return _numbers(raw, dtype, shape, "F" if is_fortran else "C")
        if not isinstance(raw, list) or _size(shape) != len(raw):
            raise RecordError("an array of objects in it does not have as many as it says")
        array = np.empty(len(raw), dtype=object)
        for place, item in enumerate(raw):
            array[place] = resolved(item, depth + 1, memo)
        return array.reshape(shape, order="F" if is_fortran else "C")


class _JoblibArray(Record):
    """joblib's `NumpyArrayWrapper`: the array's bytes follow in the file.

    Source: joblib/numpy_pickle.py of github.com/joblib/joblib, NumpyArrayWrapper.read_array.
    """

    def __init__(self, *_: Any) -> None:
        self.dtype: Any = None

    def build(self, state: Any, stream: io.BytesIO) -> None:
        if not isinstance(state, dict) or not isinstance(state.get("dtype"), _Dtype):
            raise RecordError("an array in it is stored in a form that joblib does not write")
        dtype, shape = state["dtype"], state.get("shape")
        if dtype.is_object:
            self.has_nested_pickle = True
            return
        count = _size(shape)
        if state.get("numpy_array_alignment_bytes") is not None:
            stream.read(int.from_bytes(stream.read(1), "little"))
        raw = stream.read(count * dtype.numpy().itemsize)
        self.value = _numbers(raw, dtype, shape, state.get("order", "C"))

    def resolve(self, depth: int, memo: dict[int, Any]) -> Any:
        return resolved(self.value, depth + 1, memo)


class Storage(Record):
    """A torch storage: a flat array that may be known only later."""

    def __init__(self, dtype: str, raw: bytes | None = None) -> None:
        self.dtype, self.raw = dtype, raw

    def numbers(self, dtype: str | None = None) -> np.ndarray:
        """Its numbers, as a type of their own if one is given."""
        if self.raw is None:
            raise RecordError("a tensor in it has no numbers")
        dtype = dtype or self.dtype
        if dtype == "bfloat16":
            return (np.frombuffer(self.raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        return np.frombuffer(self.raw, np.dtype(dtype).newbyteorder("<"))


class _Tensor(Record):
    """`torch._utils._rebuild_tensor_v2` and `_v3`: strides over a storage."""

    def __init__(
        self, storage: Any, offset: Any, size: Any, stride: Any, dtype: Any = None
    ) -> None:
        if not isinstance(storage, Storage):
            raise RecordError("a tensor in it has no storage")
        self.storage, self.dtype = storage, dtype
        self.layout = (offset, tuple(size), tuple(stride))

    def resolve(self, depth: int, memo: dict[int, Any]) -> Any:
        flat = self.storage.numbers(self.dtype)
        offset, size, stride = self.layout
        count = _size(size)
        are_whole = isinstance(offset, int) and all(isinstance(n, int) for n in stride)
        if not are_whole or len(stride) != len(size) or offset < 0 or min(stride, default=0) < 0:
            raise RecordError("a tensor in it has an impossible layout")
        last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
        if count and last >= len(flat):
            raise RecordError("a tensor in it reaches beyond its numbers")
        if count > max(len(flat), 1 << 16):
            raise RecordError("a tensor in it repeats its numbers more often than any result")
        steps = tuple(s * flat.itemsize for s in stride)
        view = np.lib.stride_tricks.as_strided(flat[offset:], size, steps, writeable=False)
        return view.copy()


def resolved(value: Any, depth: int = 0, memo: dict[int, Any] | None = None) -> Any:
    """A loaded object with arrays in place of records; what occurs twice stays one object.

    Raises:
        RecordError: an array is impossible, or objects are nested too deeply.
    """
    memo = {} if memo is None else memo
    if depth > _MAX_DEPTH:
        raise RecordError("its objects are nested deeper than any result's")
    if not isinstance(value, Record | list | tuple | dict):
        return value
    if id(value) in memo:
        return memo[id(value)][1]
    if isinstance(value, Record):
        result = value.resolve(depth, memo)
    elif isinstance(value, dict):
        result = {}
        for key, item in value.items():
            result[_key(resolved(key, depth + 1, memo))] = resolved(item, depth + 1, memo)
    else:
        result = type(value)(resolved(item, depth + 1, memo) for item in value)
    memo[id(value)] = (value, result)
    return result


def storage_dtype(name: Any) -> str:
    """The type of a torch storage's numbers by the storage's class, `FloatStorage`, ….

    Raises:
        RecordError: no such class is known.
    """
    word = name.value if isinstance(name, _Name) else getattr(name, "name", name)
    word = str(word).rsplit(".", 1)[-1].removesuffix("Storage")
    if word not in _STORAGES:
        raise RecordError(f"a tensor in it has the storage {word!r}")
    return _STORAGES[word]


def known_name(module: str, name: str) -> Callable[..., Any] | None:
    """What makes the record of a name, or None where the name is not allowed."""
    if module == "torch" and (name.removesuffix("Storage") in _STORAGES or name in _TORCH_TYPES):
        return lambda: _Name(name)
    return _KNOWN.get((module, name))


def _numbers(raw: Any, dtype: _Dtype, shape: Any, order: Any) -> np.ndarray:
    numpy_dtype = dtype.numpy()
    if isinstance(raw, str):
        raw = raw.encode("latin1")
    if not isinstance(raw, bytes | bytearray) or order not in ("C", "F"):
        raise RecordError("an array in it has no bytes of its own")
    if _size(shape) * numpy_dtype.itemsize != len(raw):
        raise RecordError(f"an array in it says shape {shape} but holds {len(raw)} bytes")
    if not raw:
        return np.zeros(shape, numpy_dtype)
    array = np.frombuffer(raw, numpy_dtype).reshape(shape, order=order)
    return array.astype(numpy_dtype.newbyteorder("="))


def _size(shape: Any) -> int:
    if not isinstance(shape, tuple | list):
        raise RecordError("an array in it has no shape")
    if not all(isinstance(n, int) and 0 <= n < 1 << 40 for n in shape):
        raise RecordError(f"an array in it has the shape {shape}")
    return math.prod(shape)


def _key(key: Any) -> Any:
    if isinstance(key, np.generic):
        return key.item()
    if isinstance(key, np.ndarray | list | dict):
        raise RecordError("a dictionary in it has a key that is no name or number")
    return key


def _scalar(dtype: Any, raw: Any = b"") -> Any:
    if not isinstance(dtype, _Dtype):
        raise RecordError("a number in it has no type")
    record = _Array()
    record.parts = (1, (), dtype, False, [raw] if dtype.is_object else raw)
    return _Item(record)


class _Item(Record):
    """A numpy scalar."""

    def __init__(self, array: _Array) -> None:
        self.array = array

    def resolve(self, depth: int, memo: dict[int, Any]) -> Any:
        return self.array.resolve(depth, memo)[()]


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    record = _Array()
    record.parts = (1, shape, dtype, order == "F", raw)
    return record


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise RecordError("it encodes its bytes in a way that no result does")
    return text.encode("latin1")


def _dictionary(*arguments: Any) -> dict[Any, Any]:
    items = arguments[-1] if arguments else ()
    return dict(items) if isinstance(items, list | tuple | dict) else {}


def _listed(items: Any = ()) -> list[Any]:
    if not isinstance(items, list | tuple):
        raise RecordError("it makes a set of something that is no list")
    return list(items)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, offset, size, stride)


def _typed_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> _Tensor:
    word = getattr(dtype, "name", "").rsplit(".", 1)[-1]
    if word not in _TORCH_TYPES:
        raise RecordError("a tensor in it has an unknown type of numbers")
    return _Tensor(storage, offset, size, stride, _TORCH_TYPES[word])


def _stored_tensor(raw: Any) -> Any:
    from .torch_files import storage_of_bytes

    if not isinstance(raw, bytes):
        raise RecordError("a tensor in it has no bytes")
    return storage_of_bytes(raw)


def _bytes(raw: Any = b"", *_: Any) -> bytes:
    if isinstance(raw, str):
        raw = raw.encode("latin1")
    if not isinstance(raw, bytes):
        raise RecordError("it makes bytes of something else")
    return raw


def _path(*parts: Any) -> str:
    return "/".join(str(part) for part in parts)


def _known() -> dict[tuple[str, str], Callable[..., Any]]:
    known: dict[tuple[str, str], Callable[..., Any]] = {
        ("numpy", "ndarray"): lambda *_: _Name("ndarray"),
        ("numpy", "dtype"): _Dtype,
        ("_codecs", "encode"): _encode,
        ("collections", "OrderedDict"): _dictionary,
        ("collections", "defaultdict"): lambda *_: {},
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_tensor_v3"): _typed_tensor,
        ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        ("torch.storage", "_load_from_bytes"): _stored_tensor,
        ("torch.storage", "UntypedStorage"): lambda: _Name("UntypedStorage"),
        ("torch", "Size"): lambda items=(): tuple(items),
        ("torch", "device"): lambda *words: " ".join(map(str, words)),
    }
    for core in ("numpy.core", "numpy._core"):
        known[f"{core}.multiarray", "_reconstruct"] = _Array
        known[f"{core}.multiarray", "scalar"] = _scalar
        known[f"{core}.numeric", "_frombuffer"] = _from_buffer
    for joblib in ("joblib", "sklearn.externals.joblib"):
        known[f"{joblib}.numpy_pickle", "NumpyArrayWrapper"] = _JoblibArray
    for module in ("__builtin__", "builtins"):
        known[module, "dict"] = _dictionary
        for name in ("set", "frozenset", "list"):
            known[module, name] = _listed
        for name in ("bytes", "bytearray"):
            known[module, name] = _bytes
    for name in ("PosixPath", "PurePosixPath", "WindowsPath"):
        known["pathlib", name] = _path
        known["pathlib._local", name] = _path
    return known


_KNOWN = _known()
