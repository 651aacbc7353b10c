"""Pickles of plain data are read; those that would run something, or are damaged, are refused in words."""

import os
import pickle
import subprocess
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


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_data_come_back(tmp_path: Path, protocol: int) -> None:
    pixels = np.arange(256, dtype="uint8").reshape(4, 64)
    file = dump(tmp_path / "a", {"data": pixels, "names": ["a", "b"], "many": 3}, min(protocol, 4))
    found = load_pickle(file)
    np.testing.assert_array_equal(found.pop("data"), pixels)
    assert found == {"names": ["a", "b"], "many": 3}


@pytest.mark.parametrize("function", [os.mkdir, os.system, subprocess.call, eval])
def test_nothing_is_run(tmp_path: Path, function: Any) -> None:
    trace = tmp_path / "trace"
    argument = {os.mkdir: str(trace), eval: f"__import__('os').mkdir({str(trace)!r})"}.get(
        function, f"mkdir {trace}"
    )
    file = dump(tmp_path / "a", {"data": Harmful(function, argument)})
    with pytest.raises(
        ValueError, match=r"not a pickle that can be read safely: it names \w+\.\w+, which no data"
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
