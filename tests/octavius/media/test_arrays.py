"""Arrays are read as NumPy wrote them; files that announce more than they hold are refused without using memory."""

import os
import struct
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavius.media.arrays import MOST_UNPACKED, array_header, load_array, load_arrays


def header(descr: str = "'<f4'", shape: str = "(3, 2)", fortran: bool = False, version: int = 1) -> bytes:
    """What stands before the numbers of an array."""
    words = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()
    return (
        b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(words)) + words
    )


@pytest.mark.parametrize("kind", ["?", "u1", "<i2", ">i8", "<f2", ">f4", "f8", "c16", "U3", "S2", "M8[D]"])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (0, 7), (2, 1, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back(tmp_path: Path, kind: str, shape: tuple[int, ...], order: Any) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype("i8").astype(kind, order=order)
    np.save(tmp_path / "a.npy", array)
    found = load_array(tmp_path / "a.npy")
    np.testing.assert_array_equal(found, array)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.flags.writeable
    assert array_header(tmp_path / "a.npy")[:2] == (array.shape, array.dtype)


BAD = {
    "a billion rows": (
        header(shape="(1000000000000, 3)") + bytes(12),
        "promises 12,000,000,000,000 bytes .* 12 follow",
    ),
    "a shape that overflows": (header(shape="(99999999999999999999, 9)"), "header promises .* 0 follow"),
    "an empty shape beyond all measure": (header(shape="(0, 99999999999999999999)"), "can be read"),
    "a size below zero": (header(shape="(-1, 3)") + bytes(12), "its shape is"),
    "a size that is a truth": (header(shape="(True, 3)") + bytes(12), "its shape is"),
    "a size that is a fraction": (header(shape="(1.0, 3)") + bytes(12), "shape"),
    "objects": (header("'|O'") + bytes(48), "expected plain numbers, found object"),
    "records": (header("[('x', '<f4')]") + bytes(24), "expected plain numbers, found"),
    "nothing of each": (header("'V0'", "(1000000000000,)"), "expected plain numbers"),
    "texts of no length": (header("'S0'", "(1000000000000,)"), "expected plain numbers"),
    "an unknown type": (header("'q9'"), "can be read"),
    "another version": (header(version=3)[:6] + b"\3\0" + header()[8:], "version"),
    "a deep header": (header("(" * 500 + ")" * 500), "can be read"),
    "a header that calls": (header("__import__('os').getcwd()"), "can be read"),
    "a huge header": (b"\x93NUMPY\2\0\xff\xff\xff\x7f", "can be read"),
    "half of the numbers": (header() + bytes(12), "promises 24 bytes of numbers, 12 follow"),
    "nothing": (b"", "can be read"),
    "text": (b"none", "can be read"),
    "an archive": (b"PK\3\4" + bytes(40), "holds several arrays"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_take_no_memory(tmp_path: Path, case: str) -> None:
    content, message = BAD[case]
    (tmp_path / "a.npy").write_bytes(content)
    for read in (load_array, array_header):
        if read is array_header and "beyond all measure" in case:
            continue
        tracemalloc.start()
        with pytest.raises(ValueError, match=rf"a\.npy .*{message}"):
            read(tmp_path / "a.npy")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        tracemalloc.stop()


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (load_array, array_header, lambda path: load_arrays(path, ["a"])):
        for path, reason in ((tmp_path / "pipe", "Is a pipe"), (tmp_path, "Is a directory")):
            with pytest.raises(ValueError, match=rf"can(not)? be read \({reason}"):
                read(path)
        with pytest.raises(ValueError, match=r"no file at .*gone; check the data root"):
            read(tmp_path / "gone")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_named_arrays_of_an_archive(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "a.npz", boxes=np.eye(3), scores=np.arange(3), more=np.array([{}], dtype=object))
    found = load_arrays(tmp_path / "a.npz", ["boxes", "scores", "none"])
    assert {*found} == {"boxes", "scores"}
    np.testing.assert_array_equal(found["boxes"], np.eye(3))
    np.testing.assert_array_equal(found["scores"], np.arange(3))
    with pytest.raises(ValueError, match="expected plain numbers, found object"):
        load_arrays(tmp_path / "a.npz", ["more"])


def test_damaged_archives_are_told(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", boxes=np.random.default_rng(0).normal(size=(50, 6)))
    whole = (tmp_path / "a.npz").read_bytes()
    for index in range(0, len(whole), 29):
        for damaged in (whole[:index], whole[:index] + bytes([whole[index] ^ 255]) + whole[index + 1 :]):
            (tmp_path / "a.npz").write_bytes(damaged)
            with suppress(ValueError):  # any other error fails
                load_arrays(tmp_path / "a.npz", ["boxes"])


def test_members_that_unpack_to_more_than_a_limit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST_UNPACKED == 134_217_728
    monkeypatch.setattr("octavius.media.arrays.MOST_UNPACKED", 1 << 20)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("boxes.npy", header(shape="(1048576, 1)") + bytes(1 << 22))
    with pytest.raises(ValueError, match=r"its member boxes.npy says 4,194,\d+ bytes, expected 1,048,576"):
        load_arrays(tmp_path / "a.npz", ["boxes"])
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("boxes.npy", header() + bytes(24))
    with pytest.raises(ValueError, match="as numpy packs them"):
        load_arrays(tmp_path / "b.npz", ["boxes"])
