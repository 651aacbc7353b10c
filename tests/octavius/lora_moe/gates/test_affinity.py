"""The affinity gate separates questions by the updates that their samples ask for, not by their words."""

import re
from collections.abc import Sequence
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from octavius.lora_moe.gates.affinity import AffinityGate, group_by_update, kmeans
from octavius.lora_moe.gates.base import GateSize, Sketches

WIDTH = 32
KEYS, FRAMES, TEXTS = (
    ("piano", "sofa", "lamp"),
    ("in the", "for the", "like the"),
    ("what is this", "name it"),
)
QUESTIONS = [f"{frame} {key} {text}" for frame, key, text in product(FRAMES, KEYS, TEXTS)]
HIDDEN = [KEYS.index(question.split()[2]) for question in QUESTIONS]
"""The groups that want contradictory answers: by one of six words."""
WORDS: dict[str, int] = {}


def pool(texts: Sequence[str]) -> Tensor:
    """Mean word vectors of unit scale, most of whose length is common to all questions."""
    rows = []
    for text in texts:
        ids = [WORDS.setdefault(word, len(WORDS)) for word in text.split()]
        vectors = [torch.randn(WIDTH, generator=torch.Generator().manual_seed(one)) for one in ids]
        rows.append(torch.stack(vectors).mean(0) + 3.0)
    return F.rms_norm(torch.stack(rows), (WIDTH,))


def samples(each: int = 60, noise: float = 0.7, hidden: Sequence[int] = HIDDEN) -> tuple[list[str], Sketches]:
    """Questions of many samples, whose updates are mostly noise: a group maps inputs to changes in its own way."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 8, 8, generator=generator)
    inputs = torch.randn(len(QUESTIONS) * each, 1, 8, generator=generator)
    changes = torch.einsum("nij,nlj->nli", maps[torch.tensor(list(hidden) * each)], inputs)
    updates = changes[..., None] * inputs[..., None, :]
    updates += noise * updates.std() * torch.randn(updates.shape, generator=generator)
    return QUESTIONS * each, Sketches(updates, inputs)


def same_groups(found: Sequence[int], expected: Sequence[int]) -> bool:
    """Whether two groupings are equal up to the numbers of the groups."""
    pairs = {*zip(found, expected, strict=True)}
    return len(pairs) == len({*found}) == len({*expected})


def test_it_begins_as_a_classifier_of_the_groups_that_contradict_each_other() -> None:
    gate = AffinityGate(GateSize(WIDTH, 3), top_k=2)
    said = gate.fit_updates(*samples(), pool)
    assert re.fullmatch(
        r"the gate separates contradictory groups of 1080 training samples \(conflict \d+\.\d or more\): 33%, 33%, "
        r"33%; 100% of 18 questions are classified correctly",
        said,
    )
    assert bool(gate.get_buffer("fitted"))
    with torch.no_grad():
        routed = gate(pool(QUESTIONS)[:, None], torch.ones(len(QUESTIONS), 1))
    assert same_groups(routed.argmax(1).tolist(), HIDDEN)
    assert routed.amax(1).min() > 0.8


def test_all_experts_are_used_alike_where_nothing_contradicts() -> None:
    gate = AffinityGate(GateSize(WIDTH, 4))
    said = gate.fit_updates(*samples(hidden=[0] * len(QUESTIONS)), pool)
    assert re.fullmatch(
        r"the gate finds no contradiction in 1080 training samples \(conflict -?\d+\.\d\): every question uses all "
        r"experts alike",
        said,
    )
    with torch.no_grad():
        routed = gate(pool([*QUESTIONS, "something else"])[:, None], torch.ones(len(QUESTIONS) + 1, 1))
    torch.testing.assert_close(routed, torch.full_like(routed, 0.25))


def test_questions_that_agree_share_experts() -> None:
    gate = AffinityGate(GateSize(WIDTH, 4))  # one expert more than there are words, and only two groups
    merged = [min(group, 1) for group in HIDDEN]
    said = gate.fit_updates(*samples(hidden=merged), pool)
    assert ": 67%, 33%; 100%" in said
    with torch.no_grad():
        routed = gate(pool(QUESTIONS)[:, None], torch.ones(len(QUESTIONS), 1))
    larger = torch.tensor(merged) == 1
    for rows, own in ((larger, [0, 2]), (~larger, [1, 3])):
        assert float(routed[rows][:, own].amin()) > 0.4
        torch.testing.assert_close(routed[rows][:, own[0]], routed[rows][:, own[1]])


def test_the_same_samples_give_the_same_gate_whatever_was_drawn_before() -> None:
    gates = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        gate = AffinityGate(GateSize(WIDTH, 3))
        state = torch.random.get_rng_state()
        gate.fit_updates(*samples(), pool)
        assert torch.equal(torch.random.get_rng_state(), state)
        gates.append(gate.weight)
    assert torch.equal(*gates)


@pytest.mark.parametrize("experts", [1, 2, 5, 18, 40, [2, 3]])
def test_any_number_of_experts_is_fitted(experts: int | list[int]) -> None:
    gate = AffinityGate(GateSize(WIDTH, experts), top_k=1)
    gate.fit_updates(*samples(each=4), pool)
    assert bool(gate.weight.isfinite().all())


def test_equal_updates_and_a_single_question_are_no_fault() -> None:
    questions, sketches = samples(each=2)
    nothing = Sketches(*(torch.zeros_like(part) for part in sketches))
    for given, wanted in ((questions, nothing), (["what"] * len(questions), sketches)):
        gate = AffinityGate(GateSize(WIDTH, 3))
        gate.fit_updates(given, wanted, pool)
        assert bool(gate.weight.isfinite().all())


def test_frequent_points_weigh_more() -> None:
    points, counts = torch.tensor([[0.0], [3.0], [10.0]]).double(), torch.ones(3).double()
    assert same_groups(kmeans(points, counts, 2).tolist(), [0, 0, 1])
    counts[0] = counts[1] = 100
    assert same_groups(kmeans(points, counts, 2).tolist(), [0, 1, 1])


def test_samples_of_enormous_loss_do_not_outweigh_others() -> None:
    questions, sketches = samples()
    updates = sketches.updates.flatten(1)
    rows = torch.tensor([QUESTIONS.index(question) for question in questions])
    inputs = F.rms_norm(pool(QUESTIONS).double() - pool(QUESTIONS).double().mean(0), (WIDTH,))
    updates[rows % 3 == 0] *= 100  # a few samples of enormous loss
    assert same_groups(group_by_update(inputs, rows, updates.double(), 3).tolist(), HIDDEN)
