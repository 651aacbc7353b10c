"""Blind controls: samples are spread, shuffled and asked again, the same on one process and two."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed
from torch.multiprocessing.spawn import start_processes
from torch.utils.data import DataLoader

from datamodules.examples import EvalSet, EvaluationExamples
from octavius.evaluation.answers import Answered
from octavius.evaluation.blind import ask_again, choose, compare, dealt, tabulate
from octavius.evaluation.controls import Control
from octavius.evaluation.generation import answer_batch
from octavius.evaluation.scores import computed, headline_of
from octavius.instruction.batch import Processor
from octavius.instruction.prompt import PromptBuilder
from octavius.instruction.tokenizer import Tokenizer
from octavius.tasks import TASKS
from tests.octavius.callbacks.fake_module import (
    Looker,
    RoisOfArrays,
    answered,
    captions,
    in_set,
    objects,
    questions,
)

ASKED: list[Control] = ["text", "box", "shuffled"]


@pytest.fixture
def processor(tokenizer: Tokenizer) -> Processor:
    return Processor(PromptBuilder(tokenizer, {"cloud": 2}), {"cloud": RoisOfArrays()})


def loader(processor: Processor, *sets: EvalSet) -> DataLoader[Any]:
    return DataLoader(EvaluationExamples(sets, processor), 3, collate_fn=processor.collate)


def own_answers(processor: Processor, data: DataLoader[Any]) -> list[Answered]:
    """What the model says to all."""
    module, found = Looker(processor), list[Answered]()
    for batch in data:
        found += answer_batch(module, batch)
    return found


def blinded(
    processor: Processor, data: DataLoader[Any], answers: list[Answered], rank: int = 0, world: int = 1
) -> dict[Control, dict[str, list[Answered]]]:
    chosen = choose(answers, clouds=True, limit=7)
    return ask_again(chosen, ASKED, data, partial(answer_batch, Looker(processor)), "cpu", rank, world)


def test_samples_are_drawn_from_each_set_by_chance_and_stay_in_order() -> None:
    answers = answered([*in_set("a", objects(90)), *in_set("q", questions(4)), *in_set("b", objects(3))])
    chosen = choose(answers, clouds=True, limit=30)
    assert {name: len(items) for name, items in chosen.items()} == {"a": 30, "b": 3}
    places = [item.index for item in chosen["a"]]
    assert places == sorted(places)
    assert choose(answers[::-1], clouds=True, limit=30)["a"] == chosen["a"]
    for kind in range(3):  # every third object is of one class: no class is left out
        assert 4 <= sum(place % 3 == kind for place in places) <= 16
    assert sum(place < 45 for place in places) in range(8, 23)
    assert [len(items) for items in choose(answers, clouds=True, limit=None).values()] == [90, 3]


def test_any_media_can_be_asked_for_but_no_text_alone() -> None:
    picture = {"image": next(iter(objects(1)[0].media.values()))}
    seen = [replace(one, media=picture) for one in captions(3)]
    answers = answered([*in_set("a", seen), *in_set("q", questions(4))])
    assert choose(answers, clouds=True, limit=9) == {}
    assert list(choose(answers, clouds=False, limit=9)) == ["a"]


@given(st.integers(1, 30), st.integers(1, 9))
def test_samples_are_dealt_so_that_neighbours_part(count: int, size: int) -> None:
    items = answered(questions(count))
    batches = dealt(items, size)
    assert sorted(item.index for batch in batches for item in batch) == list(range(count))
    assert max(map(len, batches)) <= size
    assert len(batches) == -(-count // size)
    for batch in batches if len(batches) > 1 else []:
        places = [item.index for item in batch]
        assert all(second - first > 1 for first, second in pairwise(places))


def test_each_control_asks_the_same_questions_of_the_chosen_samples(processor: Processor) -> None:
    data = loader(processor, EvalSet("q", questions(2)), EvalSet("things", objects(9), unseen_wording=True))
    answers = own_answers(processor, data)
    found = blinded(processor, data, answers)
    assert list(found) == ASKED
    own = {item.index: item for item in answers}
    for sets in found.values():
        assert list(sets) == ["things"]
        assert len(sets["things"]) == 7
        for item in sets["things"]:
            assert (item.sample, item.question) == (own[item.index].sample, own[item.index].question)
    assert {item.text for item in found["text"]["things"]} == {"cat"}
    assert {item.text for item in found["box"]["things"]} == {"cat", "dog"}
    right = [item.value == item.sample.gold.name for item in found["shuffled"]["things"]]  # type: ignore[union-attr]
    assert sum(right) < 7


def test_boxes_are_no_control_of_pictures(processor: Processor) -> None:
    chosen = {"a": [replace(item, sample=replace(item.sample, media={})) for item in answered(objects(3))]}
    data = loader(processor, EvalSet("a", objects(3)))
    found = ask_again(chosen, ASKED, data, partial(answer_batch, Looker(processor)), "cpu")
    assert {name: list(sets) for name, sets in found.items()} == {"text": ["a"], "box": [], "shuffled": ["a"]}


def _ask(
    rank: int, folder: str, processor: Processor, data: DataLoader[Any], answers: list[Answered]
) -> None:
    """One of two processes; it also counts how often it asked the model."""
    torch.set_num_threads(1)
    meeting = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", meeting, timedelta(seconds=60), world_size=2, rank=rank)
    found = blinded(processor, data, answers, rank, 2)
    texts = {name: {key: said(items) for key, items in sets.items()} for name, sets in found.items()}
    torch.save(texts, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def said(items: Sequence[Answered]) -> list[tuple[int, str]]:
    return [(item.index, item.text) for item in items]


def test_two_processes_ask_and_find_the_same_as_one(processor: Processor, tmp_path: Path) -> None:
    """Seven samples in three batches: the second process runs the first batch again."""
    data = loader(processor, EvalSet("things", objects(9)), EvalSet("few", objects(2)))
    answers = own_answers(processor, data)
    one = blinded(processor, data, answers)
    expected = {name: {key: said(items) for key, items in sets.items()} for name, sets in one.items()}
    assert [len(items) for items in one["text"].values()] == [7, 2]
    # forked, because a fresh interpreter would spend many seconds on its imports
    start_processes(_ask, args=(str(tmp_path), processor, data, answers), nprocs=2, start_method="fork")
    for rank in (0, 1):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=True) == expected


def test_the_table_has_a_row_a_set_with_its_main_metric() -> None:
    chosen = {"z": answered(objects(3)), "a": answered(captions(4))}
    wrong = [replace(item, value="cow") for item in chosen["z"]]
    scores = compare(chosen, {"text": {"z": wrong, "a": chosen["a"]}, "box": {"z": wrong}}, objects(1))
    table = tabulate(chosen, scores)
    assert table.index.tolist() == ["a", "z"]
    assert table.columns.tolist() == [
        *("samples", "protocol", "metric", "model", "majority", "text", "box", "chance"),
    ]
    assert table.loc["z"].tolist() == [3, "standard", "acc1", "1.000", "0.333", "0.333", "0.333", "0.000"]
    assert table["metric"]["a"] == "cider"
    assert table["text"]["a"] == table["model"]["a"]
    assert (table["majority"]["a"], table["box"]["a"]) == ("-", "-"), "nothing to say, nothing to hide"
    assert scores["a"]["text"]["bleu1"] == pytest.approx(1)


def test_every_task_has_a_main_metric_that_is_in_the_table_of_scores() -> None:
    keys: Callable[[str, str], Any] = lambda name, by: [*computed(TASKS[name].metrics(by), [], [])]  # noqa: E731
    found = {
        (name, by): headline_of(name, by, dict.fromkeys(keys(name, by), 0.0))
        for name, task in TASKS.items()
        for by in task.protocols
    }
    assert found["vqa3d", "standard"] == "em1"
    assert found["vqa3d", "published"] == found["captioning3d", "standard"] == "cider"
    assert found["dense_captioning3d", "standard"] == "cider_at50"
    assert found["classification3d", "published"] == "acc1_name_in_text"
    assert found["detection", "standard"] == "recall50"
