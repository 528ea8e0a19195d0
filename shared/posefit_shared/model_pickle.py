# SPDX-License-Identifier: Apache-2.0
"""Body model pickles read without running anything that they ask for.

The official SMPL files are Python 2 pickles of numpy arrays, scipy sparse matrices and chumpy
objects. A pickle is a program, so none of the classes it names is ever imported: each name on a
short list stands for an inert stub that records its state, every other name is refused, and the
arrays are rebuilt here from the recorded bytes. Neither scipy nor chumpy is needed.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ModelPickleError", "instructions", "read_array_pickle", "read_model_pickle"]

_MAX_OPCODES = 2_000_000
_MAX_MEMO = 1_000_000
_MAX_DEPTH = 12
_DTYPES = {
    "b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8",
}  # fmt: skip
_OPCODES = {opcode.code.encode("latin1"): opcode for opcode in pickletools.opcodes}
_REFUSED_OPCODES = {"EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER"}


class ModelPickleError(ValueError):
    """The pickle names something outside the list, or is not a body model's pickle at all."""


class _Recorded:
    """Stub instance: keeps constructor arguments and state, interprets nothing."""

    arguments: tuple[object, ...] = ()
    state: Any = None

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Dtype(_Recorded):
    """Stands for `numpy.dtype`."""


class _Array(_Recorded):
    """Stands for `numpy.ndarray`, made by `_reconstruct` and filled by its state."""


class _BufferArray(_Recorded):
    """Stands for an array of pickle protocol 5: (buffer, dtype, shape, order)."""


class _Scalar(_Recorded):
    """Stands for a numpy scalar: (dtype, bytes)."""


class _Sparse(_Recorded):
    """Stands for `scipy.sparse` matrices; which axis is compressed is its class's business."""


class _SparseColumns(_Sparse):
    """Stands for `csc_matrix` and `csc_array`."""


class _SparseRows(_Sparse):
    """Stands for `csr_matrix` and `csr_array`."""


class _Chumpy(_Recorded):
    """Stands for `chumpy.ch.Ch`: its value is the attribute `x`."""


class _ChumpySelect(_Recorded):
    """Stands for `chumpy.reordering.Select`: elements `idxs` of the flattened `a`."""


class _Ignored(_Recorded):
    """Stands for containers without meaning here (sets in chumpy's bookkeeping)."""


class _Function:
    """A callable that a pickle may call but whose attributes it cannot change."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., object]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *arguments: object) -> object:
        return self._call(*arguments)

    def __setstate__(self, _state: object) -> None:
        raise ModelPickleError("the pickle tries to change one of the functions that read it")

    def __setattr__(self, _name: str, _value: object) -> None:
        raise ModelPickleError("the pickle tries to change one of the functions that read it")


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ModelPickleError("the pickle encodes its bytes in a way no body model does")
    return text.encode("latin1")


def _old_style_object(cls: object, _base: object, _state: object = None) -> object:
    if not (isinstance(cls, type) and issubclass(cls, _Recorded)):
        raise ModelPickleError("the pickle builds an object that no body model holds")
    return cls()


def _ordered_dict(items: object = ()) -> dict[object, object]:
    if not isinstance(items, list | tuple):
        raise ModelPickleError("the pickle holds a dictionary that no body model holds")
    return {key: value for key, value in items}


def _allowed_names() -> dict[tuple[str, str], object]:
    allowed: dict[tuple[str, str], object] = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("_codecs", "encode"): _Function(_encode),
        ("collections", "OrderedDict"): _Function(_ordered_dict),
        ("chumpy.ch", "Ch"): _Chumpy,
        ("chumpy.reordering", "Select"): _ChumpySelect,
    }
    for core in ("numpy.core", "numpy._core"):
        allowed[f"{core}.multiarray", "_reconstruct"] = _Function(lambda *_: _Array())
        allowed[f"{core}.multiarray", "scalar"] = _Scalar
        allowed[f"{core}.numeric", "_frombuffer"] = _BufferArray
    for sparse, stub in (("csc", _SparseColumns), ("csr", _SparseRows)):
        for module in (f"scipy.sparse.{sparse}", f"scipy.sparse._{sparse}"):
            allowed[module, f"{sparse}_matrix"] = stub
            allowed[module, f"{sparse}_array"] = stub
    for module in ("__builtin__", "builtins"):
        allowed[module, "object"] = _Ignored
        allowed[module, "set"] = _Ignored
    for module in ("copy_reg", "copyreg"):
        allowed[module, "_reconstructor"] = _Function(_old_style_object)
    return allowed


_ALLOWED = _allowed_names()


class _ModelUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise ModelPickleError(
                f"it asks for {module}.{name}, which no body model needs; nothing was run"
            ) from None


def read_model_pickle(data: bytes, wanted: frozenset[str]) -> dict[str, Any]:
    """The named entries of a body model's pickle, as arrays and strings.

    Args:
        data: the whole file.
        wanted: the top-level keys to rebuild; the others are left alone.

    Returns:
        One entry for each wanted key that the pickle has: a numpy array (dense, also for sparse
        matrices), a string, or a number.

    Raises:
        ModelPickleError: the file names anything but what SMPL files are made of, is cut short, or
            does not hold a dictionary.
    """
    model = _load_dictionary(data)
    return {key: _resolve(value) for key, value in model.items() if key in wanted}


def read_array_pickle(data: bytes, wanted: frozenset[str] | None = None) -> dict[str, Any]:
    """The entries of a data set's pickle, lists and dictionaries inside them included.

    Data sets store arrays in nested lists and dictionaries, also as Python 2 wrote them. They are
    read by the same rules as body models: nothing that the file names is imported or run.

    Args:
        data: the whole file.
        wanted: the top-level keys to rebuild; None rebuilds all of them.

    Returns:
        One entry for each such key: an array, a string, a number, None, or lists, tuples and
        dictionaries of these.

    Raises:
        ModelPickleError: the file names anything but what arrays are made of, is cut short, or
            does not hold a dictionary.
    """
    return {
        key: _resolve_nested(value)
        for key, value in _load_dictionary(data).items()
        if wanted is None or key in wanted
    }


def _load_dictionary(data: bytes) -> dict[str, Any]:
    """The pickle's dictionary with stubs where objects are."""
    _scan_opcodes(data)
    try:
        model = _ModelUnpickler(io.BytesIO(data), encoding="latin1").load()
    except ModelPickleError:
        raise
    except (
        pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError,
        ValueError, OverflowError, MemoryError, RecursionError,
    ) as error:  # fmt: skip
        raise ModelPickleError(f"it cannot be read as a pickle ({error})") from error
    if isinstance(model, _Recorded) and isinstance(model.state, dict):
        model = model.state
    if not isinstance(model, dict):
        raise ModelPickleError(
            f"it holds a {type(model).__name__}, expected a dictionary of arrays"
        )
    return model


def _resolve_nested(value: Any, depth: int = 0) -> Any:
    """`_resolve` for what lists, tuples and dictionaries hold as well."""
    if depth > _MAX_DEPTH:
        raise ModelPickleError("its objects are nested deeper than any data set's")
    if isinstance(value, list | tuple):
        return type(value)(_resolve_nested(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return {key: _resolve_nested(item, depth + 1) for key, item in value.items()}
    return _resolve(value, depth)


def _scan_opcodes(data: bytes) -> None:
    """Refuse, before loading, opcodes that no body model uses or that reserve huge memory."""
    try:
        for count, (name, argument) in enumerate(instructions(io.BytesIO(data))):
            if name in _REFUSED_OPCODES:
                raise ModelPickleError(f"it uses the pickle instruction {name}")
            if name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > _MAX_MEMO:
                raise ModelPickleError("it reserves more objects than any body model holds")
            if count > _MAX_OPCODES:
                raise ModelPickleError("it has more instructions than any body model")
    except ModelPickleError:
        raise
    except (ValueError, KeyError, IndexError, UnicodeError, OverflowError) as error:
        raise ModelPickleError(f"it is not a pickle, or is cut short ({error})") from error


def instructions(stream: io.BytesIO) -> Iterator[tuple[str, Any]]:
    """Each instruction's name and argument, up to STOP; none is carried out.

    As `pickletools.genops`, which refuses the escaped bytes in Python 2's text pickles: the
    argument of STRING is its quoted bytes.

    Args:
        stream: a pickle; it is read no further than the instruction that came last.

    Raises:
        ValueError: something is no instruction, or is cut short.
    """
    name = ""
    while name != "STOP":
        opcode = _OPCODES.get(stream.read(1))
        if opcode is None:
            raise ValueError(f"no instruction at byte {stream.tell()}")
        name, argument = opcode.name, None
        if name == "STRING":
            argument = stream.readline()
        elif opcode.arg is not None:
            argument = opcode.arg.reader(stream)
        yield name, argument


def _resolve(value: Any, depth: int = 0) -> Any:
    """A stub's value: arrays rebuilt from recorded bytes, chumpy objects from their arrays."""
    if depth > _MAX_DEPTH:
        raise ModelPickleError("its objects are nested deeper than any body model's")
    if isinstance(value, _Array):
        return _array_from_state(value.state)
    if isinstance(value, _BufferArray):
        return _array_from_buffer(value.arguments)
    if isinstance(value, _Scalar):
        dtype, raw = _exactly(value.arguments, 2, "scalar")
        return _array(raw, dtype, (), "C")[()]
    if isinstance(value, _Sparse):
        return _dense(value, depth)
    if isinstance(value, _ChumpySelect):
        return _selection(value.state, depth)
    if isinstance(value, _Chumpy):
        return _resolve(_attribute(value.state, "x", "chumpy object"), depth + 1)
    if isinstance(value, _Recorded):
        raise ModelPickleError("it holds an object where an array was expected")
    return value


def _array_from_state(state: Any) -> npt.NDArray[Any]:
    _version, shape, dtype, is_fortran, raw = _exactly(state, 5, "array")
    return _array(raw, dtype, shape, "F" if is_fortran else "C")


def _array_from_buffer(arguments: Any) -> npt.NDArray[Any]:
    raw, dtype, shape, order = _exactly(arguments, 4, "array")
    return _array(raw, dtype, shape, order)


def _array(raw: Any, dtype: Any, shape: Any, order: Any) -> npt.NDArray[Any]:
    numpy_dtype = _plain_dtype(dtype)
    if isinstance(raw, str):
        raw = raw.encode("latin1")
    if not isinstance(raw, bytes | bytearray) or order not in ("C", "F"):
        raise ModelPickleError("an array in it has no bytes of its own")
    is_shape = isinstance(shape, tuple) and all(isinstance(n, int) and n >= 0 for n in shape)
    if not is_shape or math.prod(shape) * numpy_dtype.itemsize != len(raw):
        raise ModelPickleError(f"an array in it says shape {shape} but holds {len(raw)} bytes")
    return np.frombuffer(raw, dtype=numpy_dtype).reshape(shape, order=order)


def _plain_dtype(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, _Dtype) or not dtype.arguments:
        raise ModelPickleError("an array in it has no plain number type")
    code = dtype.arguments[0]
    if not isinstance(code, str) or code.lstrip("<>|=") not in _DTYPES:
        raise ModelPickleError(f"an array in it has type {code!r}, expected plain numbers")
    order = dtype.state[1] if isinstance(dtype.state, tuple) and len(dtype.state) > 1 else "<"
    if order not in ("<", ">", "|", "="):
        raise ModelPickleError(f"an array in it has byte order {order!r}")
    return np.dtype(code.lstrip("<>|=")).newbyteorder(order)


def _dense(matrix: _Sparse, depth: int) -> npt.NDArray[Any]:
    """Dense array of a compressed sparse matrix."""
    state = matrix.state
    shape = state.get("_shape", state.get("shape")) if isinstance(state, dict) else None
    if not (isinstance(shape, tuple) and len(shape) == 2):
        raise ModelPickleError("a sparse matrix in it has no shape")
    rows, columns = (int(_resolve(n, depth + 1)) for n in shape)
    if not (0 < rows <= 1_000 and 0 < columns <= 1_000_000):
        raise ModelPickleError(f"a sparse matrix in it is {rows}×{columns}, larger than any body's")
    values, indices, pointers = (
        np.asarray(_resolve(_attribute(state, name, "sparse matrix"), depth + 1)).ravel()
        for name in ("data", "indices", "indptr")
    )
    by_column = isinstance(matrix, _SparseColumns)
    compressed, other = (columns, rows) if by_column else (rows, columns)
    lengths = np.diff(pointers)
    is_sound = (
        len(pointers) == compressed + 1
        and len(values) == len(indices) == int(lengths.sum())
        and bool((lengths >= 0).all())
        and (not len(indices) or (indices.min() >= 0 and indices.max() < other))
    )
    if not is_sound:
        raise ModelPickleError("a sparse matrix in it has indices that do not fit its shape")
    dense = np.zeros((compressed, other), dtype=np.float64)
    np.add.at(dense, (np.repeat(np.arange(compressed), lengths), indices), values)
    return dense.T if by_column else dense


def _selection(state: Any, depth: int) -> npt.NDArray[Any]:
    """What chumpy's `Select` computes: `a.ravel()[idxs].reshape(preferred_shape)`."""
    source = np.asarray(_resolve(_attribute(state, "a", "chumpy selection"), depth + 1)).ravel()
    chosen = np.asarray(_resolve(_attribute(state, "idxs", "chumpy selection"), depth + 1)).ravel()
    if chosen.dtype.kind not in "iu" or (
        len(chosen) and (chosen.min() < 0 or chosen.max() >= len(source))
    ):
        raise ModelPickleError("a chumpy selection in it points outside its array")
    result = source[chosen]
    shape = state.get("preferred_shape")
    if shape is None:
        return result
    shape = tuple(int(_resolve(n, depth + 1)) for n in np.atleast_1d(_resolve(shape)).tolist())
    if math.prod(shape) != len(result):
        raise ModelPickleError(f"a chumpy selection in it cannot take the shape {shape}")
    return result.reshape(shape)


def _attribute(state: Any, name: str, owner: str) -> Any:
    if not isinstance(state, dict) or name not in state:
        raise ModelPickleError(f"a {owner} in it has no {name}")
    return state[name]


def _exactly(values: Any, count: int, what: str) -> Any:
    if not isinstance(values, tuple) or len(values) != count:
        raise ModelPickleError(f"an {what} in it is stored in a form that numpy does not write")
    return values
