"""Each sample is gathered once in the order of the data, and written as plain JSON."""

from datetime import timedelta
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed
from torch.multiprocessing.spawn import start_processes

from datamodules.base import shard_indices
from octavius.evaluation.answers import Answered
from octavius.evaluation.generation import gather_once
from tests.octavius.callbacks.fake_module import answered, captions, in_set, questions

WHOLE = answered(in_set("b", questions(3)[::-1]) + in_set("a", captions(2)[::-1]))
"""Neither sets nor ids are in the order of the alphabet."""


def _gather(rank: int, folder: str) -> None:
    """One of two processes: answers every second place, and the first one again to fill its last round."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", meeting, timedelta(seconds=60), world_size=2, rank=rank)
    places = shard_indices(len(WHOLE), rank, 2)
    assert len(places) == 3
    found = gather_once([WHOLE[index] for index in places])
    Path(folder, f"{rank}.txt").write_text(" ".join(item.sample.id for item in found))
    distributed.destroy_process_group()


def test_two_processes_gather_each_sample_once_in_the_order_of_the_data(tmp_path: Path) -> None:
    # forked, because a fresh interpreter would spend many seconds on its imports
    start_processes(_gather, args=(str(tmp_path),), nprocs=2, start_method="fork")
    expected = " ".join(item.sample.id for item in WHOLE)
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)] == [expected, expected]


@given(st.permutations(WHOLE), st.integers(0, 5))
def test_whatever_the_order_and_however_often(items: list[Answered], repeated: int) -> None:
    assert gather_once([*items, *items[:repeated]]) == WHOLE
