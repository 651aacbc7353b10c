"""Likelihoods of candidates equal those of training, one by one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from octavius.decoder import decoder
from octavius.instruction.batch import Batch
from octavius.instruction.sample import Sample
from octavius.model import Octavius

CANDIDATES = [
    ["a cat", "two small blue rings on the left of a box", "yes"],
    [],
    ["no", "a red circle", "a"],
    ["a cat"],
]
QUESTIONS = ["What is it?", "Say it.", "Which of these things is on the mat, and is it the red one?", "Who?"]


@pytest.mark.parametrize("together", [64, 2])
@pytest.mark.parametrize("experts", [None, 1, 3])
def test_equal_to_the_loss_of_each_answer_alone(
    make_model: Callable[..., Octavius],
    make_sample: Callable[..., Sample],
    write: Callable[..., Batch],
    experts: int | None,
    together: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Mixed lengths and modalities; each row with its own experts; in one pass of candidates, or in many."""
    monkeypatch.setattr(decoder, "TOGETHER", together)
    model = make_model(experts).eval()
    processor = model.processor()
    media: list[tuple[str, ...]] = [("image",), (), ("image", "sound"), ("sound",)]
    samples = [make_sample(f"s{n}", *names) for n, names in enumerate(media)]
    batch = write(processor, *[(one, asked, None) for one, asked in zip(samples, QUESTIONS, strict=True)])
    found = model.likelihoods(batch, CANDIDATES)
    assert [len(row) for row in found] == [3, 0, 3, 1]
    for row, texts in enumerate(CANDIDATES):
        for index, text in enumerate(texts):
            alone = model(write(processor, (samples[row], QUESTIONS[row], text))).losses
            logprob, tokens = found[row][index]
            assert tokens == len(alone)
            assert logprob == pytest.approx(-alone.sum().item(), abs=1e-3, rel=1e-4)


def test_nothing_to_score_runs_nothing(
    make_model: Callable[..., Octavius],
    make_sample: Callable[..., Sample],
    write: Callable[..., Batch],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model: Any = make_model().eval()
    batch = write(model.processor(), (make_sample("s"), "What?", None))
    monkeypatch.setattr(model.decoder.lm, "forward", None)
    assert model.likelihoods(batch, [[]]) == [[]]
    with pytest.raises(RuntimeError, match="no gate weights"):
        _ = model.routing.weights
    assert torch.is_grad_enabled()
