"""Each sample is gathered once in the order of the data, and written as plain JSON."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed
from torch.multiprocessing.spawn import start_processes

from datamodules.base import even_share
from octavius.evaluation.answers import Answered, gather_once
from octavius.evaluation.predictions import prediction
from octavius.instruction.sample import DescribedObject, DescribedObjects, LabelledBox, Media
from tests.octavius.callbacks.fake_module import answered, captions, detections, in_set, questions, sample

WHOLE = answered(in_set("b", questions(3)[::-1]) + in_set("a", captions(2)[::-1]))
"""Neither sets nor ids are in the order of the alphabet."""


def _gather(rank: int, folder: str) -> None:
    """One of two processes: answers every second place, and the first one again to fill its last round."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", meeting, timedelta(seconds=60), world_size=2, rank=rank)
    places = even_share(len(WHOLE), rank, 2)
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


def test_a_prediction_of_boxes_is_plain_json() -> None:
    one = replace(detections(1)[0], media={"image": Media(path=Path("a/b.png"))})
    item = Answered(one, "Where?", "dog [0, 0, 0.33333333, 1]", (LabelledBox("dog", (0, 0, 1 / 3, 1)),), None)
    line = json.loads(json.dumps(prediction(item)))
    assert line["parsed"] == [{"label": "dog", "box": [0, 0, 0.3333, 1]}]
    assert line["gold"] == {"boxes": [{"label": "cat", "box": [0, 0, 0.2, 0.2], "ignored": False}]}
    assert line["media"] == {"image": str(Path("a/b.png"))}
    assert line["gate"] is None


def test_a_prediction_of_described_objects_is_plain_json() -> None:
    box = (4.0, 4.0, 0.5, 1.0, 1.0, 1.0)
    gold = DescribedObjects((DescribedObject(box, ("a blue chair at the wall", "a chair")),))
    (one,) = answered([sample("r", "dense_captioning3d", gold)])
    line = json.loads(json.dumps(prediction(one)))
    assert line["parsed"] == [{"texts": ["a blue chair at the wall"], "box": [4, 4, 0.5, 1, 1, 1]}]
    assert line["gold"] == {
        "described": [{"texts": ["a blue chair at the wall", "a chair"], "box": [4, 4, 0.5, 1, 1, 1]}]
    }
