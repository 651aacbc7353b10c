"""Any change of a checkpoint file is detected, and other programs can still read it."""

import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavius.checkpoint_format.seal import LENGTH, DamagedError, check_seal, is_sealed, seal


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sealed") / "a.ckpt"
    torch.save({"state_dict": {"a": torch.arange(40.0), "b": torch.ones(3)}, "seed": 5}, path)
    assert not is_sealed(path)
    seal(path)
    return path


def test_a_sealed_archive_is_read_by_torch_and_by_zip(sealed: Path) -> None:
    assert is_sealed(sealed)
    assert check_seal(sealed)
    for mapped in (True, False):
        found = torch.load(sealed, weights_only=True, mmap=mapped)
        assert found["state_dict"]["a"].tolist() == list(range(40))
    with zipfile.ZipFile(sealed) as archive:
        assert archive.testzip() is None
        assert len(archive.comment) == LENGTH


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_each_flipped_bit_is_seen(sealed: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(sealed.read_bytes())
    tail = st.integers(len(content) - LENGTH - 30, len(content) - 1)
    byte = data.draw(st.integers(0, len(content) - 1) | tail)
    content[byte] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "b.ckpt"
    path.write_bytes(content)
    with pytest.raises(DamagedError):
        check_seal(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(data=st.data())
def test_each_cut_is_seen(sealed: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = sealed.read_bytes()
    length = data.draw(st.integers(0, len(content) - 1) | st.integers(len(content) - 110, len(content) - 1))
    path = tmp_path / "b.ckpt"
    path.write_bytes(content[:length] + data.draw(st.sampled_from([b"", bytes(len(content) - length)])))
    with pytest.raises(DamagedError):
        check_seal(path)


def test_a_flipped_bit_in_a_tensor_of_an_archive_without_it_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"a": torch.full((64,), 2.5)}, path)
    assert not check_seal(path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((64,), 2.5).numpy().tobytes()) + 17] ^= 4
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)["a"].unique().numel() == 2  # torch does not see it
    with pytest.raises(DamagedError, match="the checksum of its part"):
        check_seal(path)


def test_a_file_that_changes_is_checked_again(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"a": torch.zeros(1)}, path)
    seal(path)
    assert check_seal(path)
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    with pytest.raises(DamagedError):
        check_seal(path)
