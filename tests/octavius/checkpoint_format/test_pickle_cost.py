"""Short pickles that copy or hash far more than their length are refused; what torch.save writes passes."""

import io
import struct
import time
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from octavius.checkpoint_format.bounds import check_torch_file
from octavius.checkpoint_format.pickle_cost import check_pickle
from octavius.checkpoint_format.weights import read_checkpoint
from octavius.encoders.detector.detector import Detector
from octavius.encoders.detector.published import import_published

HALF = 100_000
TIMES = 5_000


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


LONG = b"(K\x01" + b"K\x01" * HALF
"""The begin of a tuple or list of half a million numbers."""

EXPENSIVE = {
    # q\x00 keeps a value, h\x00 uses it again: each repetition costs a few bytes and copies half a megabyte.
    "encoded texts": text("a" * HALF)
    + b"q\x000]("
    + b"c_codecs\nencode\nh\x00X\x06\0\0\0latin1\x86R" * TIMES
    + b"e",
    "sets": b"]" + LONG + b"eq\x000](" + b"cbuiltins\nset\nh\x00\x85R" * TIMES + b"e",
    "counters": text("ab" * HALF) + b"q\x000](" + b"ccollections\nCounter\nh\x00\x85R" * TIMES + b"e",
    "attributes": b"}("
    + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(HALF // 6))
    + b"uq\x000]("
    + b"ccollections\nOrderedDict\n)Rh\x00b" * TIMES
    + b"e",
    "sizes of tensors": LONG + b"tq\x000](" + b"ctorch\nSize\nh\x00\x85R" * TIMES + b"e",
    "nested keys": b"}(" + b")" + b"q\x00h\x00\x86" * 64 + b"Nu",
    "colliding keys": b"}("
    + b"".join(b"\x8a\x0b" + (n * (2**61 - 1)).to_bytes(11, "little") + b"N" for n in range(50_000))
    + b"u",
    "nested keys of a set": b"cbuiltins\nset\n](" + b")" + b"q\x00h\x00\x86" * 64 + b"e\x85R",
    "long keys of storages": LONG + b"tq\x000](" + b"h\x00Q" * TIMES + b"e",
    "nested keys of a storage": b")" + b"q\x00h\x00\x86" * 64 + b"Q",
}


@pytest.mark.parametrize("case", EXPENSIVE)
def test_expensive_pickles_are_refused(tmp_path: Path, case: str) -> None:
    pickle = b"\x80\x02}X\x0a\x00\x00\x00state_dict" + EXPENSIVE[case] + b"s."
    path = archive(tmp_path, pickle)
    start = time.process_time()
    with pytest.raises(
        ValueError, match=r"copy more than|nested values|no text and no number|as keys|dimensions"
    ):
        read_checkpoint(path)
    assert time.process_time() - start < 20


def archive(folder: Path, pickle: bytes) -> Path:
    torch.save({}, folder / "empty.pt")
    with (
        zipfile.ZipFile(folder / "empty.pt") as empty,
        zipfile.ZipFile(folder / "a.ckpt", "w", zipfile.ZIP_STORED) as made,
    ):
        for name in empty.namelist():
            made.writestr(name, pickle if name.endswith("data.pkl") else empty.read(name))
    return folder / "a.ckpt"


def everything() -> dict[str, Any]:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    return {
        "state_dict": module.state_dict(),
        "parameters": OrderedDict(module.named_parameters()),
        "optimizer": optimizer.state_dict(),
        "bfloat16": torch.ones(2, 3, dtype=torch.bfloat16).T,
        "size": torch.Size([1, 2]),
        "device": torch.device("cpu"),
        "random": (3, tuple(range(625)), None),
        "sets": {1, 2},
        "sparse": torch.eye(3).to_sparse(),
        ("a", 1): [1.5, None, True, "text", b"bytes", {"a": {2: ()}}],
    }


@pytest.mark.parametrize("new", [True, False], ids=["archive", "before 1.6"])
def test_what_torch_writes_passes(tmp_path: Path, new: bool) -> None:
    torch.save(everything(), path := tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    check_torch_file(path)


def test_a_storage_is_not_larger_than_its_file(tmp_path: Path) -> None:
    torch.save(
        {"state_dict": {"a": torch.ones(256)}},
        path := tmp_path / "a.pt",
        _use_new_zipfile_serialization=False,
    )
    content = path.read_bytes()
    assert content.count(b"M\x00\x01") == 2  # elements of the storage, and size of the tensor
    path.write_bytes(content.replace(b"M\x00\x01", b"J\xff\xff\xff\x7f"))
    with pytest.raises(ValueError, match="larger than the file"):
        check_torch_file(path)
    with pytest.raises(ValueError, match="larger than the file"):
        import_published(path, Detector(["a"], "tr3d"))


@given(st.binary(max_size=200), st.integers(0, 300))
def test_damaged_pickles_are_named(noise: bytes, at: int) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(3), "b": [1, (2, {"c"})]}, buffer, _use_new_zipfile_serialization=False)
    content = buffer.getvalue()
    for changed in (noise, content[:at] + noise + content[at:]):
        try:
            check_pickle(changed, len(changed))
        except ValueError as error:
            assert str(error)  # noqa: PT017 - anything else than a ValueError fails
