"""Batches hold what their prompts hold, wherever padding stands."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from octavius.instruction.batch import IGNORE_INDEX, Batch, Example, Processor, collate_examples
from octavius.instruction.prompt import Prompt, PromptBuilder
from octavius.instruction.sample import Media, References, Sample
from octavius.instruction.tokenizer import Tokenizer
from octavius.media.images import ArrayLoader

LOADERS = {name: ArrayLoader((1,)) for name in ("image", "sound")}
PAD = 0
MakeSample = Callable[..., Sample]


@st.composite
def examples(draw: st.DrawFn) -> Example:
    """A prompt of any length with an answer or none, and any of two modalities of two slots each."""
    count = draw(st.integers(5, 12))
    ids = draw(st.lists(st.integers(1, 99), min_size=count, max_size=count))
    asked = draw(st.lists(st.integers(1, 99), min_size=1, max_size=4))
    places = {"image": [0, 1], "sound": [2, 4]}
    names = draw(st.lists(st.sampled_from(sorted(places)), unique=True))
    media = {name: [torch.tensor([draw(st.integers(0, 9))])] for name in names}
    start = draw(st.integers(1, count - 1))
    sample = Sample("s", "captioning", "b", {}, "", References(("x",)))
    return Example(sample, Prompt(ids, start, {name: places[name] for name in names}, asked), media)


@given(st.lists(examples(), min_size=1, max_size=4), st.sampled_from(["left", "right"]))
def test_every_row_is_its_prompt(items: list[Example], side: Literal["left", "right"]) -> None:
    batch = collate_examples(items, PAD, side, LOADERS)
    length = max(len(item.prompt.ids) for item in items)
    assert batch.input_ids.shape == batch.attention_mask.shape == batch.labels.shape == (len(items), length)
    assert len(batch) == len(items)
    slots: dict[str, list[list[int]]] = {}
    media: dict[str, list[int]] = {}
    for row, item in enumerate(items):
        prompt, empty = item.prompt, length - len(item.prompt.ids)
        before, after = (empty, 0) if side == "left" else (0, empty)
        assert batch.input_ids[row].tolist() == [PAD] * before + prompt.ids + [PAD] * after
        assert batch.attention_mask[row].tolist() == [0] * before + [1] * len(prompt.ids) + [0] * after
        marked = [IGNORE_INDEX] * prompt.answer_start + prompt.ids[prompt.answer_start :]
        assert batch.labels[row].tolist() == [IGNORE_INDEX] * before + marked + [IGNORE_INDEX] * after
        real = batch.gate_mask[row].bool()
        assert batch.gate_ids[row][real].tolist() == prompt.gate_ids
        assert batch.gate_mask[row].tolist() == sorted(batch.gate_mask[row].tolist(), reverse=True)
        for name, columns in prompt.slots.items():
            slots.setdefault(name, []).extend([row, before + column] for column in columns)
            media.setdefault(name, []).extend(map(int, item.media[name]))
    assert {name: places.tolist() for name, places in batch.slots.items()} == slots
    assert {name: found.flatten().tolist() for name, found in batch.media.items()} == media


@pytest.fixture
def processor(tokenizer: Tokenizer) -> Processor:
    return Processor(PromptBuilder(tokenizer, {"image": 3}), {"image": ArrayLoader((3, 5))})


def test_answers_pad_right_and_questions_left(processor: Processor, make_sample: MakeSample) -> None:
    asked = [("Is it?", "no"), ("What is it then, tell me?", "a ring")]
    fit = processor.collate([processor.build_example(make_sample("s", "image"), *words) for words in asked])
    use = processor.collate(
        [processor.build_example(make_sample("s", "image"), words[0], None) for words in asked]
    )
    assert fit.attention_mask[:, 0].all()
    assert not fit.attention_mask[0, -1]
    assert use.attention_mask[:, -1].all()
    assert not use.attention_mask[0, 0]
    assert (use.labels == IGNORE_INDEX).all()
    both = [processor.build_example(make_sample(), "Is it?", answer) for answer in ("no", None)]
    with pytest.raises(AssertionError, match="either all examples of a batch have an answer"):
        processor.collate(both)


def test_a_batch_without_any_medium(processor: Processor, make_sample: MakeSample) -> None:
    batch = processor.collate([processor.build_example(make_sample(), "Is it?", "no")])
    assert (batch.slots, batch.media) == ({}, {})


def test_moving_moves_every_tensor(processor: Processor, make_sample: MakeSample) -> None:
    batch = processor.collate([processor.build_example(make_sample("s", "image"), "Is it?", "no")])
    moved = batch.to("meta", non_blocking=True)
    assert isinstance(moved, Batch)
    tensors = [moved.input_ids, moved.attention_mask, moved.labels, moved.gate_ids, moved.gate_mask]
    assert all(tensor.is_meta for tensor in [*tensors, moved.slots["image"], moved.media["image"]])
    assert moved.samples == batch.samples
    assert not batch.input_ids.is_meta


def test_a_bad_medium_is_told_with_its_sample(processor: Processor) -> None:
    image = Media(array=np.zeros((2, 5)))
    sample = Sample("s7", "captioning", "cats", {"image": image}, "", References(("x",)))
    with pytest.raises(
        ValueError,
        match=r"^sample s7 of cats: expected an array of shape \(3, 5\), found one of shape \(2, 5\)",
    ):
        processor.build_example(sample, "What?", "it")
