"""The source gate starts as a classifier of the training sources, whatever their number, and remains trainable."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from octavius.lora_moe.gates.base import GateSize
from octavius.lora_moe.gates.instance import InstanceGate
from octavius.lora_moe.gates.source import MARGIN, SourceGate, classifier, group

WIDTH = 32
WORDS: dict[str, int] = {}


def pool(texts: Sequence[str]) -> Tensor:
    """Mean word vectors of unit scale, most of whose length is common to all questions."""
    rows = []
    for text in texts:
        ids = [WORDS.setdefault(word, len(WORDS)) for word in text.split()]
        vectors = [torch.randn(WIDTH, generator=torch.Generator().manual_seed(one)) for one in ids]
        rows.append(torch.stack(vectors).mean(0) + 3.0)
    return F.rms_norm(torch.stack(rows), (WIDTH,))


def weights(gate: SourceGate, *texts: str) -> Tensor:
    with torch.no_grad():
        return gate(pool(texts)[:, None], torch.ones(len(texts), 1))


QUESTIONS = ["which piano", "what piano", "which sofa", "what sofa", "which lamp", "what lamp"]
SOURCES = [0, 0, 1, 1, 2, 2]


def test_it_begins_as_a_classifier_of_the_sources_also_in_words_around_the_question() -> None:
    gate = SourceGate(GateSize(WIDTH, 3), top_k=2)
    said = gate.fit_questions(QUESTIONS, SOURCES, pool)
    assert said == (
        "the gate begins as a classifier of 3 sources by 6 questions; 100% of them are classified correctly"
    )
    routed = weights(gate, *QUESTIONS)
    assert torch.equal(routed.argmax(1), torch.tensor(SOURCES))
    assert routed.amax(1).min() > 0.9
    assert ((routed > 0).sum(1) == 2).all()
    around = weights(gate, *(f"Look carefully. {text} Thank you." for text in QUESTIONS))
    assert torch.equal(around.argmax(1), torch.tensor(SOURCES))


def test_the_same_questions_give_the_same_gate_in_any_number() -> None:
    one, other = SourceGate(GateSize(WIDTH, 3), top_k=2), SourceGate(GateSize(WIDTH, 3), top_k=2)
    one.fit_questions(QUESTIONS, SOURCES, pool)
    other.fit_questions(QUESTIONS * 2 + QUESTIONS[:2] * 50, SOURCES * 2 + SOURCES[:2] * 50, pool)
    torch.testing.assert_close(one.weight, other.weight)
    torch.testing.assert_close(one.get_buffer("centre"), other.get_buffer("centre"))


@pytest.mark.parametrize("experts", [2, 3, 5, [2, 4]])
def test_any_number_of_experts_is_used(experts: int | list[int]) -> None:
    gate = SourceGate(GateSize(WIDTH, experts))
    gate.fit_questions(QUESTIONS, SOURCES, pool)
    with torch.no_grad():
        found = gate(pool(QUESTIONS)[:, None], torch.ones(len(QUESTIONS), 1))
    for table in [found] if isinstance(experts, int) else found:
        assert bool((table > 0.4).any(0).all())  # no expert is idle
        for source in range(3):
            rows = table[torch.tensor(SOURCES) == source]
            used = rows > 0.4
            assert bool((used == used[0]).all())  # all questions of a source use the same experts
            assert float(rows[used].min()) == pytest.approx(float(rows[used].max()), abs=0.1)


def test_similar_sources_share_an_expert() -> None:
    points = torch.tensor([[0.0, 0.0], [0.1, 0.0], [5.0, 5.0], [9.0, 9.0]])
    found = group(points, torch.tensor([7, 3, 1, 5]), 2)
    assert found.tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])


def test_sources_that_cannot_be_told_apart_do_not_blow_up_the_weights() -> None:
    gate = SourceGate(GateSize(WIDTH, 2), top_k=2)
    gate.fit_questions(["what", "what"], [0, 1], pool)
    assert gate.weight.isfinite().all()
    torch.testing.assert_close(weights(gate, "what"), torch.full((1, 2), 0.5), atol=1e-3, rtol=0)


def test_the_margin_is_that_many_logits() -> None:
    torch.manual_seed(0)
    groups = torch.arange(60) % 3
    inputs = F.rms_norm(
        torch.randn(3, WIDTH, dtype=torch.float64)[groups] + 0.05 * torch.randn(60, WIDTH), (WIDTH,)
    )
    scores = inputs @ classifier(inputs, groups, torch.full((60,), 1 / 60, dtype=torch.float64)).T
    right = scores[torch.arange(60), groups]
    other = scores.masked_fill(F.one_hot(groups, 3).bool(), -torch.inf).amax(1)
    assert float((right - other).mean()) == pytest.approx(MARGIN)


def test_without_a_fit_it_is_the_instance_gate() -> None:
    torch.manual_seed(0)
    source = SourceGate(GateSize(WIDTH, 3), top_k=2)
    torch.manual_seed(0)
    instance = InstanceGate(GateSize(WIDTH, 3), top_k=2)
    torch.testing.assert_close(
        weights(source, *QUESTIONS),
        instance(pool(QUESTIONS)[:, None], torch.ones(len(QUESTIONS), 1)).detach(),
    )


def test_its_steps_are_smaller_by_the_root_of_the_width() -> None:
    assert SourceGate(GateSize(256, 3), top_k=2).lr_factor == 0.0625
    assert InstanceGate(GateSize(256, 3), top_k=2).lr_factor == 1.0
