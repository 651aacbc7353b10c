"""Short files that would take endless time or memory are refused, and all that torch.save writes is read."""

import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from octavius.checkpoint.convert import read_published
from octavius.checkpoint_format.bounds import MOST_VALUES, too_large
from octavius.checkpoint_format.weights import read_checkpoint


def with_pickle(path: Path, pickle: bytes, compress: int = zipfile.ZIP_STORED) -> None:
    """Writes an archive of torch with this pickle."""
    torch.save({}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, pickle if name.endswith("data.pkl") else part, compress)


def doubled(depth: int) -> list[Any]:
    """A list of twice the same list of twice the same list: 2**depth values where it is walked."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value, value]
    return value


def saved(path: Path, **changed: Any) -> None:
    torch.save({"state_dict": {"a": torch.ones(3)}, **changed}, path)


BYTEARRAY = (
    b"\x80\x02}X\x0a\x00\x00\x00state_dictcbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85Rs."
)
MANY = b"\x80\x02}X\x0a\x00\x00\x00state_dict(" + b"N" * 10**7 + b"ts."

CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "doubled lists": (lambda p: saved(p, callbacks={"Cost": doubled(60)}), "it holds more than"),
    "doubled lists as a number": (lambda p: saved(p, epoch=doubled(60)), "it holds more than"),
    "an expanded weight": (
        lambda p: saved(p, state_dict={"a": torch.ones(1).expand(10**12)}),
        "a is not a plain tensor",
    ),
    "an expanded average": (
        lambda p: saved(
            p,
            optimizer_states=[
                {"state": {0: {"a": torch.ones(1).expand(10**12)}}, "param_groups": [{"params": [0]}]}
            ],
        ),
        "a tensor that is not plain",
    ),
    "an expanded value": (
        lambda p: saved(p, more=torch.ones(1).expand(10**12)),
        "no plain tensor of numbers",
    ),
    "a bytearray of a terabyte": (lambda p: with_pickle(p, BYTEARRAY), "makes a bytearray"),
    "a compressed pickle": (lambda p: with_pickle(p, MANY, zipfile.ZIP_DEFLATED), "is compressed"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_short_file_takes_little_time(tmp_path: Path, case: str) -> None:
    write, said = CASES[case]
    write(path := tmp_path / "a.ckpt")
    start = time.process_time()
    with pytest.raises(ValueError, match=said) as error:
        read_checkpoint(path)
    assert time.process_time() - start < 20
    assert len(str(error.value)) < 600


def test_weights_that_share_numbers_and_views_are_read(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    saved(path := tmp_path / "a.ckpt", state_dict={"a": whole, "b": whole[1:], "c": whole.T, "d": whole[:0]})
    assert read_checkpoint(path)["state_dict"]["c"].tolist() == whole.T.tolist()


def test_values_are_counted_in_every_place() -> None:
    assert too_large({"a": [{"b": (1, 2, {3})}]}) is None
    assert too_large([[0] * 1000] * (MOST_VALUES // 1000)) is not None


@pytest.mark.parametrize("case", ["a bytearray of a terabyte", "a compressed pickle"])
def test_an_import_is_bounded_too(tmp_path: Path, case: str) -> None:
    write, said = CASES[case]
    write(path := tmp_path / "a.pt")
    with pytest.raises(ValueError, match=said):
        read_published(path)


def test_an_import_takes_names_alone(tmp_path: Path) -> None:
    torch.save({5: torch.ones(1)}, path := tmp_path / "a.pt")
    with pytest.raises(ValueError, match="is no published checkpoint"):
        read_published(path)
