"""The score of a box is the mean log-probability of its tokens, and of no others."""

import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from octavius.evaluation.answers import Answered, Decoding
from octavius.evaluation.box_scores import BoxScores
from octavius.evaluation.generation import answer_batch
from octavius.instruction.batch import Batch
from octavius.instruction.sample import Boxes, LabelledBox, Sample
from octavius.instruction.tokenizer import Tokenizer
from octavius.model import Octavius


def watch(tokenizer: Tokenizer, texts: list[str], chances: list[list[float]]) -> BoxScores:
    """A generation of some tokens with given probabilities; rows that end early are padded."""
    ids = [[*tokenizer.encode(text), tokenizer.eos_id] for text in texts]
    length = max(map(len, ids))
    table = torch.tensor([row + [tokenizer.pad_id] * (length - len(row)) for row in ids])
    recorder = BoxScores()
    for step in range(length):
        logits = torch.full((len(ids), len(tokenizer.backend)), -1e9)
        for row, chance in enumerate(chances):
            one = chance[min(step, len(chance) - 1)]
            logits[row, 0 if table[row, step] else 1] = math.log(1 - one)
            logits[row, table[row, step]] = math.log(one)
        recorder(table[:, :step], logits)  # type: ignore[arg-type]
    return recorder


def test_a_box_is_as_likely_as_its_tokens(tokenizer: Tokenizer) -> None:
    first, second = "cat [0.1, 0.2, 0.3, 0.4]", ", dog [0.5, 0.5, 0.9, 0.9]"
    pieces = [len(tokenizer.encode(first)), len(tokenizer.encode(first + second))]
    chances = [0.5] * pieces[0] + [0.25] * (pieces[1] - pieces[0]) + [0.1]
    recorder = watch(tokenizer, [first + second, "no objects"], [chances, [0.5]])
    assert recorder.of_row(0, tokenizer) == pytest.approx([math.log(0.5), math.log(0.25)], abs=1e-4)
    assert recorder.of_row(1, tokenizer) == ()
    assert BoxScores().of_row(0, tokenizer) == ()


def test_equal_to_the_losses_of_the_answer(
    make_model: Callable[..., Octavius],
    make_sample: Callable[..., Sample],
    write: Callable[..., Batch],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was noted while a model spoke is what training would say of the same tokens."""
    model: Any = make_model().eval()
    processor = model.processor()
    gold = Boxes((LabelledBox("cat", (0, 0, 1, 1)),))
    one = replace(make_sample("s", "image"), task="detection", gold=gold)
    batch = write(processor, (one, "Where?", None), (make_sample("t"), "What is there?", None))
    kept: list[BoxScores] = []
    monkeypatch.setattr(
        "octavius.evaluation.generation.BoxScores", lambda: kept.append(BoxScores()) or kept[-1]
    )
    module = SimpleNamespace(answer=model.generate, processor=processor)
    answers: list[Answered] = answer_batch(module, batch, Decoding(max_new_tokens=12))
    (recorder,) = kept
    assert recorder._ids is not None
    ids = recorder._ids[0].tolist()
    noted = [float(column[0]) for column in recorder._kept]
    hidden = batch.input_ids[:1], batch.attention_mask[:1]
    assert len(noted) == len(ids) > 3
    alone = write(processor, (one, "Where?", "x"))
    start = int((alone.labels[0] != -100).nonzero()[0])
    prompt = alone.input_ids[:, :start]
    assert prompt.shape[1] <= hidden[0].shape[1]
    said = torch.cat([prompt, torch.tensor([ids])], 1)
    labels = torch.cat([torch.full_like(prompt, -100), torch.tensor([ids])], 1)
    whole = replace(alone, input_ids=said, attention_mask=torch.ones_like(said), labels=labels)
    assert noted == pytest.approx([-loss for loss in model(whole).losses.tolist()], abs=1e-3)
    assert all(item.likelihoods == () for item in answers)
