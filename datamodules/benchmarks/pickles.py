"""Safe reader of published pickles of plain data and NumPy arrays: no function or class that they name is called.

`pickle_machine` interprets the format; the functions here replace NumPy's constructors. They check the types of their
arguments, and that a buffer has the length that shape and dtype require, so that no array reaches beyond it.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.benchmarks.base import DAMAGED
from datamodules.benchmarks.pickle_machine import Buildable, Function, Machine, Name, UnsafePickleError
from octavius.files import open_file

PLAIN = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
"""Allowed dtypes: booleans, integers and floats; no objects, records, strings or dates."""

MOST_AXES = 8
"""Largest number of axes of an array."""


class _DType(Buildable):
    """A dtype; the opcode BUILD sets its byte order."""

    def __init__(self, code: str, order: str) -> None:
        super().__init__()
        self.code, self.order = code, order

    def build(self, machine: Machine, state: Any) -> "_DType":  # noqa: ARG002
        """Applies the state (version, byte order, None, None, None, ...): no subarray, names or fields."""
        if type(state) is not tuple or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise UnsafePickleError("an array has a structured dtype, expected plain numbers")
        if type(state[1]) is not str or state[1] not in ("<", ">", "|", "="):
            # The value is not shown: the `repr` of lists that each contain the next one twice takes forever.
            raise UnsafePickleError("a byte order is not one of <, >, | and =")
        self.order = state[1]
        return self

    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype."""
        return np.dtype(self.order + self.code)


class _Array(Buildable):
    """An array before its state is known."""

    def build(self, machine: Machine, state: Any) -> np.ndarray:
        """Applies the state (version, shape, dtype, whether in Fortran order, content)."""
        if type(state) is not tuple or len(state) not in (4, 5):
            raise UnsafePickleError("the state of an array is malformed")
        shape, kind, fortran, content = state[-4:]
        return _from_bytes(machine, content, kind, shape, "F" if fortran else "C")


def _from_bytes(machine: Machine, content: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """A read-only array over bytes, without a copy; checks all arguments, which come from the file."""
    if isinstance(content, str):  # a byte string of Python 2
        content = machine.encode(content)
    if type(kind) is not _DType or type(content) is not bytes:
        raise UnsafePickleError("an array holds objects, expected plain numbers")
    if type(shape) is not tuple or not all(type(size) is int and size >= 0 for size in shape):
        raise UnsafePickleError("the shape of an array is not a tuple of sizes")
    if len(shape) > MOST_AXES or order not in ("C", "F"):
        raise UnsafePickleError(f"an array has {len(shape)} axes, expected {MOST_AXES} at most")
    dtype, count = kind.dtype(), math.prod(shape)
    if count * dtype.itemsize != len(content):
        raise UnsafePickleError(
            f"shape and dtype of an array need {count * dtype.itemsize} bytes, but its content has {len(content)}"
        )
    if not count:
        # Even an empty array can have axes too long for NumPy, such as (0, 2**62).
        return np.zeros([min(size, 1 << 40) for size in shape], dtype)
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def _dtype(_machine: Machine, code: Any, *_: Any) -> _DType:
    """Replaces `numpy.dtype`; plain numbers only."""
    text = code if isinstance(code, str) else ""
    order, plain = (text[0], text[1:]) if text[:1] in ("<", ">", "|", "=") else ("=", text)
    if plain not in PLAIN:
        raise UnsafePickleError(f"an array has the dtype {text or type(code)!r:.40}, expected plain numbers")
    return _DType(plain, order)


def _reconstruct(_machine: Machine, owner: Any, *_: Any) -> _Array:
    """Replaces `numpy.core.multiarray._reconstruct`, which creates an array that BUILD then fills."""
    if owner != Name("numpy.ndarray"):
        raise UnsafePickleError("an array is of a subclass of numpy.ndarray")
    return _Array()


def _from_buffer(machine: Machine, content: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """Replaces `numpy.core.numeric._frombuffer`, which makes arrays in protocol 5."""
    return _from_bytes(machine, content, kind, shape, order)


def encode(machine: Machine, text: Any, encoding: Any = "latin1") -> bytes:
    """Replaces `_codecs.encode`: in protocols 0 to 2, Python 3 writes bytes as a Latin-1 string."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise UnsafePickleError("bytes are encoded otherwise than as a Latin-1 string")
    return machine.encode(text)


def _empty_bytes(_machine: Machine) -> bytes:
    """Replaces `bytes`: in the same protocols, empty bytes are written as a call without arguments."""
    return b""


def refuse_call(*_: object) -> Any:
    """Replaces a class that a pickle may name as an argument, but not call."""
    raise UnsafePickleError("it calls a class that data files only name as an argument")


ARRAYS: Mapping[str, Function] = {
    # NumPy 2 renamed `numpy.core` to `numpy._core`.
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy._core.numeric._frombuffer": _from_buffer,
    "numpy.ndarray": refuse_call,
    "numpy.dtype": _dtype,
    "_codecs.encode": encode,
    "__builtin__.bytes": _empty_bytes,
    "builtins.bytes": _empty_bytes,
}
"""Globals that a pickle of NumPy arrays may name, and the functions called instead."""


def load_pickle(path: Path, functions: Mapping[str, Function] = ARRAYS) -> dict[str, Any]:
    """Loads a pickled dictionary; its keys become strings if they are bytes.

    Args:
        path: the file.
        functions: globals that it may name, and the functions called instead; see `Machine`.

    Raises:
        ValueError: it cannot be read, is not a valid pickle, holds no dictionary, or names a global that is not
            in `functions`.
    """
    try:
        with open_file(path) as file:
            data = file.read()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    try:
        content = Machine(data, functions).load()
    except Exception as error:  # damaged pickles raise almost anything
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path} is not a pickle that can be read safely: {reason}. {DAMAGED}") from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: expected a dictionary, found a {type(content).__name__}; is it the right file?"
        )
    named = {as_text(key): value for key, value in content.items()}
    if len(named) < len(content):
        raise ValueError(f"{path}: a key occurs both as string and as bytes. {DAMAGED}")
    return named


def as_text(value: Any) -> Any:
    """Decodes bytes as Latin-1 (a Python 2 string that Python 3 loaded with `encoding="bytes"`); else no change."""
    return value.decode("latin-1") if isinstance(value, bytes) else value
