"""Benchmarks on one process and on two, by DDP and FSDP2: each sample is answered once, with equal likelihoods."""

from pathlib import Path

import pytest

from octavius.evaluation.answers import Answered
from octavius.evaluation.predictions import read_predictions
from tests.octavius import benchmark_processes
from tests.octavius.test_processes import finish, start_two


def read(folder: Path) -> dict[str, list[Answered]]:
    """The answers in all part files of a folder, by set and id."""
    found: dict[str, list[Answered]] = {}
    for file in sorted(folder.glob("unfinished/*.part")):
        for item in read_predictions(file):
            found.setdefault(f"{item.set_name} {item.sample.id}", []).append(item)
    return found


@pytest.mark.slow
def test_two_processes_are_one(tmp_path: Path) -> None:
    benchmark_processes.write_decoder(tmp_path / "decoder")
    finish(start_two(tmp_path, benchmark_processes.__file__), tmp_path)
    benchmark_processes.answer(tmp_path, "one", "auto", 1)
    expected = read(tmp_path / "one")
    assert len(expected) == 9
    assert all(len(items) == 1 for items in expected.values())
    for kind in ("ddp", "fsdp"):
        found = read(tmp_path / kind)
        assert found.keys() == expected.keys()
        assert sum(map(len, found.values())) <= 10, "one to fill the last round"
        for key, items in found.items():
            (alone,) = expected[key]
            assert [item.text for item in items] == [alone.text] * len(items)
            assert len(alone.likelihoods) == (5 if "pictures" in key else 0)
            for item in items:
                for one, other in zip(item.likelihoods, alone.likelihoods, strict=True):
                    assert one == pytest.approx(other, abs=1e-3)
