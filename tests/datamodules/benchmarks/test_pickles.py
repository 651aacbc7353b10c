"""Pickles of plain data are read; malicious and damaged ones are refused with a message."""

import collections
import datetime
import os
import pickle
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.benchmarks.pickles import load_pickle


class Harmful:
    """Makes a folder when it is unpickled by the usual means."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, Any]:
        return self.call


def dump(file: Path, content: Any, protocol: int = 2) -> Path:
    file.write_bytes(pickle.dumps(content, protocol=protocol))
    return file


PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
PLAIN: dict[str, Any] = {
    "none": None,
    "truths": [True, False],
    "numbers": [0, 1, -1, 255, 256, 65535, 65536, -(2**31), 2**31, 2**70, -(2**2100), 0.5, -1e300],
    "texts": ["", "a", "\u00e9\u6f22\n'\"\\", "\ud800", "x" * 70_000],
    "bytes": [b"", b"\x00\xff", b"y" * 300],
    "nested": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {"a": {"b": [[]]}}],
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data_come_back(tmp_path: Path, protocol: int) -> None:
    shared = ["the same"]
    found = load_pickle(dump(tmp_path / "a", {**PLAIN, "twice": [shared, shared]}, protocol))
    assert found.pop("twice") == [shared, shared]
    assert found == PLAIN
    assert [type(value) for value in found["truths"]] == [bool, bool]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", ["?", "u1", "i1", "<u2", ">u2", "<i4", ">i8", "<f2", ">f4", "f8"])
def test_arrays_come_back(tmp_path: Path, protocol: int, kind: str) -> None:
    numbers = np.arange(24).astype(kind)
    arrays = {
        "line": numbers,
        "box": numbers.reshape(2, 3, 4),
        "fortran": np.asfortranarray(numbers.reshape(4, 6)),
        "slice": numbers[::-2],
        "empty": numbers[:0].reshape(0, 7),
        "single": np.array(numbers[3]),
    }
    found = load_pickle(dump(tmp_path / "a", {**arrays, "again": arrays["box"]}, protocol))
    np.testing.assert_array_equal(found.pop("again"), arrays["box"])
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)


def test_texts_of_python_2_are_read_as_it_wrote_them(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"(dp0\nS'na\\xefve'\np1\nI01\nsS'long'\nL12L\ns.")
    assert load_pickle(tmp_path / "a") == {"na\xefve": True, "long": 12}


def test_keys_of_bytes_are_texts(tmp_path: Path) -> None:
    assert load_pickle(dump(tmp_path / "a", {b"data": 1, "labels": 2}, 4)) == {"data": 1, "labels": 2}
    with pytest.raises(ValueError, match="a key occurs both as string and as bytes"):
        load_pickle(dump(tmp_path / "a", {b"data": 1, "data": 2}, 4))


@pytest.mark.parametrize("function", [os.mkdir, os.system, subprocess.call, eval])
def test_nothing_is_run(tmp_path: Path, function: Any) -> None:
    trace = tmp_path / "trace"
    argument = {os.mkdir: str(trace), eval: f"__import__('os').mkdir({str(trace)!r})"}.get(
        function, f"mkdir {trace}"
    )
    file = dump(tmp_path / "a", {"data": Harmful(function, argument)})
    with pytest.raises(
        ValueError, match=r"not a pickle that can be read safely: it names \w+\.\w+, which is not plain data"
    ):
        load_pickle(file)
    assert not trace.exists()
    if function is os.mkdir:  # the file is as harmful as it claims to be
        pickle.loads(file.read_bytes())
        assert trace.is_dir()


@given(cut=st.integers(0, 400), flipped=st.integers(0, 400), byte=st.integers(0, 255))
def test_damage_is_told_or_is_none(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flipped: int, byte: int
) -> None:
    content = {"data": np.arange(200, dtype="uint8"), "labels": [1, 2, 3]}
    whole = bytearray(pickle.dumps(content, protocol=2))
    whole[flipped % len(whole)] = byte
    file = tmp_path_factory.mktemp("pickles") / "a"
    file.write_bytes(whole[: len(whole) - cut])
    with suppress(ValueError):  # any other error fails
        load_pickle(file)


def test_other_kinds_and_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a dictionary, found a list; is it the right file"):
        load_pickle(dump(tmp_path / "a", [1]))
    with pytest.raises(ValueError, match="gone cannot be read: No such file"):
        load_pickle(tmp_path / "gone")
    (tmp_path / "page").write_text("<html>404</html>")
    with pytest.raises(ValueError, match="page is not a pickle that can be read safely"):
        load_pickle(tmp_path / "page")


KIND = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"


def state(shape: bytes, kind: bytes = KIND, content: bytes = b"U\x03abc") -> bytes:
    """What completes an array."""
    return b"(K\x01" + shape + kind + b"\x89" + content + b"tb"


class Other:
    """A class that only we know."""


UNSAFE: dict[str, tuple[bytes, str]] = {
    "a call of ndarray at an address of the file's choice": (
        b"(U\x04datacnumpy\nndarray\n(K\x08\x85tRd.",
        "it calls a class that data files only name",
    ),
    "ndarray over a buffer": (
        b"(U\x04datacnumpy\nndarray\n(J\xff\xff\xff\x7f\x85U\x01dU\x08aaaaaaaaK\x00tRd.",
        "it calls a class that data files only name",
    ),
    "less content than the shape says": (
        b"(U\x04data" + ARRAY + state(b"J\xff\xff\xff\x7f\x85") + b"d.",
        "need 2147483647 bytes, but its content has 3",
    ),
    "a shape that overflows": (
        b"(U\x04data" + ARRAY + state(b"\x8a\x09" + b"\0" * 8 + b"\x01\x85") + b"d.",
        " bytes, but its content has 3",
    ),
    "a shape below zero": (
        b"(U\x04data" + ARRAY + state(b"J\xfd\xff\xff\xffJ\xff\xff\xff\xff\x86") + b"d.",
        "the shape of an array is not a tuple of sizes",
    ),
    "an array of objects": (
        b"(U\x04data" + ARRAY + state(b"K\x01\x85", b"cnumpy\ndtype\n(U\x02O8K\x00K\x01tR") + b"d.",
        "has the dtype 'O8', expected plain numbers",
    ),
    "an array whose content is a list": (
        b"(U\x04data" + ARRAY + state(b"K\x01\x85", content=b"]") + b"d.",
        "an array holds objects",
    ),
    "a type without a size": (
        b"(U\x04data" + ARRAY + state(b"K\x01\x85", b"cnumpy\ndtype\n(U\x02V0tR") + b"d.",
        "has the dtype 'V0'",
    ),
    "a type with fields": (
        b"(U\x04datacnumpy\ndtype\n(U\x02u1tR(K\x03U\x01|N(U\x01at}tbd.",
        "a structured dtype",
    ),
    "an array of a class": (
        b"(U\x04datacnumpy.core.multiarray\n_reconstruct\n(NNNtRd.",
        "a subclass of numpy.ndarray",
    ),
    "a state for what has none": (b"(U\x04data]}bd.", "it sets the state of a list"),
    "a new object": (b"(U\x04datacnumpy\nndarray\n)\x81d.", r"not an opcode for plain data"),
    "an object of a registry": (b"\x80\x02\x82\x01.", "not an opcode for plain data"),
    "something outside of the file": (b"U\x04dataQ.", "refers to something outside of the file"),
    "an instance": (b"(inumpy\nndarray\n.", "not an opcode for plain data"),
    "a call of a text": (b"U\x04data)R.", "it calls a value that is not a function"),
    "a set": (b"\x80\x04\x8f.", "not an opcode for plain data"),
    "a name that is hidden": (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "it names os.system"),
    "a name out of a number": (b"\x80\x04K\x01K\x02\x93.", "it names ?"),
    "a key that is a number": (b"(K\x01K\x02d.", "a key is a int"),
    "a key that is a tuple": (b"()K\x02d.", "a key is a tuple"),
    "a key without a value": (b"(U\x04datad.", "a key has no value"),
    "more than there is": (b"B\xff\xff\xff\xff.", "it ends at byte 6, where 4294967300 bytes were"),
    "an endless frame": (b"\x80\x04\x96" + b"\xff" * 8, "it ends at byte 11"),
    "two values": (b"}}.", "it ends in the middle of a value"),
    "nothing stored": (b"h\x07.", "nothing was stored under the index 7"),
    "no value": (b".", "a value is missing"),
    "a value from before a mark": (b"}(0.", "a value is missing"),
    "a text without quotes": (b"Sos\n.", "pickle that can be read safely"),
    "no bytes of Latin 1": (
        b"c_codecs\nencode\n(U\x01aU\x03hextR.",
        "encoded otherwise than as a Latin-1 string",
    ),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_what_no_data_file_needs_is_refused(tmp_path: Path, case: str) -> None:
    content, message = UNSAFE[case]
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_pickle(tmp_path / "a")


@pytest.mark.parametrize(
    "value",
    [
        np.array([{}]),
        np.zeros(2, "c8"),
        np.zeros(2, "M8[s]"),
        np.zeros(2, [("a", "f4")]),
        np.array(["a"]),
        np.float32(1),
        Other(),
        Other,
        {1},
        datetime.date(2020, 1, 1),
        collections.Counter(),
    ],
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_other_objects_are_refused(tmp_path: Path, protocol: int, value: Any) -> None:
    with pytest.raises(ValueError, match=r"not a pickle that can be read safely: .*copy it again"):
        load_pickle(dump(tmp_path / "a", {"data": value}, protocol))


def doubled(depth: int) -> bytes:
    """A list of twice the same list of twice the same list: short, and endless where it is written out."""
    return b"]q\x00" + b"".join(
        b"0](h" + bytes([n]) + b"h" + bytes([n]) + b"eq" + bytes([n + 1]) for n in range(depth)
    )


BOMBS = {
    "a memo of four billion entries": b"}r\xff\xff\xff\xff.",
    "a text encoded again and again": b"(]q\x01X\x00\x00\x01\x00"
    + b"a" * 65536
    + b"q\x020(c_codecs\nencode\n(h\x02U\x06latin1tR"
    + b"c_codecs\nencode\n(h\x02U\x06latin1tR" * 20_000
    + b"l.",
    "doubled lists": b"(U\x04data" + doubled(200) + b"d.",
    "a byte order of doubled lists": doubled(200) + b"0}U\x04datacnumpy\ndtype\n(U\x02u1tR(K\x03h\xc8NNNtbs.",
    "deep lists": b"(U\x04data" + b"(" * 100_000 + b"l" * 100_000 + b"d.",
    "many arrays": b"(U\x04data(" + (ARRAY + state(b"K\x03\x85")) * 5000 + b"ld.",
    "an array remembered often": b"(U\x04data" + ARRAY + b"q\x01" * 200_000 + state(b"K\x03\x85") + b"d.",
    "colliding keys": b"}("
    + b"".join(b"\x8a\x0b" + (n * (2**61 - 1)).to_bytes(11, "little") + b"N" for n in range(50_000))
    + b"u.",
}


@pytest.mark.parametrize("case", BOMBS)
def test_short_files_take_little_time_and_memory(tmp_path: Path, case: str) -> None:
    (tmp_path / "a").write_bytes(BOMBS[case])
    start = time.monotonic()
    with suppress(ValueError):
        load_pickle(tmp_path / "a")
    assert time.monotonic() - start < 20


def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, reason in (
        (tmp_path / "pipe", "Is a pipe, expected an ordinary file"),
        (Path("/dev/zero"), "Is a device"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(ValueError, match=f"{path} cannot be read: {reason}"):
            load_pickle(path)


@given(
    content=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.lists(inner).map(tuple),
        max_leaves=12,
    ),
    protocol=st.sampled_from(PROTOCOLS),
)
def test_plain_data_are_what_python_reads(
    tmp_path_factory: pytest.TempPathFactory, content: Any, protocol: int
) -> None:
    file = dump(tmp_path_factory.mktemp("pickles") / "a", {"content": content}, protocol)
    assert load_pickle(file) == pickle.loads(file.read_bytes())
