"""Writes CIFAR-10's files, which are pickles of Python 2's NumPy, byte by byte."""

import struct
from collections.abc import Sequence
from pathlib import Path

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def text(value: bytes) -> bytes:
    """A text of Python 2, which is also its bytes."""
    return (
        b"U" + struct.pack("<B", len(value)) + value
        if len(value) < 256
        else b"T" + struct.pack("<i", len(value)) + value
    )


def number(value: int) -> bytes:
    """A whole number."""
    return b"J" + struct.pack("<i", value)


def several(values: Sequence[bytes]) -> bytes:
    """A list."""
    return b"](" + b"".join(values) + b"e"


def record(**values: bytes) -> bytes:
    """A whole pickle of protocol 2: a dictionary."""
    return b"\x80\x02}(" + b"".join(text(key.encode()) + value for key, value in values.items()) + b"u."


def bytes_array(rows: Sequence[bytes]) -> bytes:
    """An array of bytes, a row each, as Python 2's numpy pickled it."""
    empty = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + number(0) + b"\x85" + text(b"b") + b"tR"
    )
    kind = b"cnumpy\ndtype\n(" + text(b"u1") + number(0) + number(1) + b"tR"
    kind += b"(" + number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    shape = b"(" + number(len(rows)) + number(len(rows[0])) + b"t"
    return empty + b"(" + number(1) + shape + kind + b"\x89" + text(b"".join(rows)) + b"tb"


def batch(rows: Sequence[bytes], labels: Sequence[int]) -> bytes:
    """The content of a batch file."""
    names = several([text(b"x_s_%06d.png" % index) for index in range(len(rows))])
    return record(
        batch_label=text(b"testing batch 1 of 1"),
        labels=several([number(label) for label in labels]),
        data=bytes_array(rows),
        filenames=names,
    )


def meta(size: int, names: Sequence[str] = NAMES) -> bytes:
    """The content of `batches.meta`."""
    return record(
        num_cases_per_batch=number(size),
        label_names=several([text(name.encode()) for name in names]),
        num_vis=number(3072),
    )


def write(folder: Path, rows: Sequence[bytes], labels: Sequence[int]) -> Path:
    """All files of the data set; every batch has the same pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "batches.meta").write_bytes(meta(len(rows)))
    for name in (*(f"data_batch_{index}" for index in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(batch(rows, labels))
    return folder
