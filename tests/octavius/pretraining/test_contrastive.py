"""Contrastive losses against naive loops, and which pairs are never negatives."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from octavius.pretraining.contrastive import MemoryBank, alike, memory_loss, symmetric_loss


def units(*shape: int) -> Tensor:
    """Random vectors of unit length."""
    return functional.normalize(torch.randn(*shape), dim=-1)


def slow_loss(things: Tensor, targets: Tensor, scale: float, same: Tensor, rows: range) -> float:
    """One row after the other, both ways."""
    total = 0.0
    for first, second, fits in ((things, targets, same), (targets, things, same.T)):
        for i in rows:
            others = [j for j in range(len(second)) if j == i or not fits[i, j]]
            terms = {j: scale * float(first[i] @ second[j]) for j in others}
            total += math.log(sum(math.exp(term) for term in terms.values())) - terms[i]
    return total / (2 * len(rows))


@given(st.integers(2, 8), st.integers(0, 1000))
def test_the_loss_of_a_batch_equals_a_naive_loop(count: int, seed: int) -> None:
    torch.manual_seed(seed)
    things, targets = units(count, 5), units(count, 5)
    same = torch.rand(count, count) < 0.3
    found = symmetric_loss(things, targets, things, targets, torch.tensor(4.0), same)
    assert found.item() == pytest.approx(slow_loss(things, targets, 4.0, same, range(count)), rel=1e-4)


def test_the_mean_over_processes_is_the_loss_of_the_whole_batch() -> None:
    things, targets, same = units(6, 5), units(6, 5), torch.rand(6, 6) < 0.3
    scale = torch.tensor(4.0)
    parts = [
        symmetric_loss(things[rows], targets[rows], things, targets, scale, same, rows.start)
        for rows in (slice(0, 3), slice(3, 6))
    ]
    whole = symmetric_loss(things, targets, things, targets, scale, same)
    torch.testing.assert_close(torch.stack(parts).mean(), whole)
    assert parts[1].item() == pytest.approx(slow_loss(things, targets, 4.0, same, range(3, 6)), rel=1e-4)


def test_what_fits_is_not_asked_to_differ() -> None:
    things, targets = units(3, 4).requires_grad_(), units(3, 4).requires_grad_()
    same = torch.ones(3, 3, dtype=torch.bool)
    loss = symmetric_loss(things, targets, things, targets, torch.tensor(9.0), same)
    assert loss.item() == 0
    loss.backward()
    assert things.grad is not None
    assert not things.grad.any()


def test_things_are_alike_by_instance_caption_or_class() -> None:
    objects, labels = torch.tensor([4, 5, 6, 4, 7]), torch.tensor([0, 0, 1, 0, 0])
    colours, told = torch.tensor([2, 3, 2, 2, -1]), torch.tensor([2, -1, 2, -1, -1])

    def rows(kind: str, said: Tensor | None = None) -> list[str]:
        fits = alike(kind, objects, labels, colours, said)  # type: ignore[arg-type]
        return ["".join("x" if fit else "." for fit in row) for row in fits.tolist()]

    assert rows("instance", told) == ["x..x.", ".x...", "..x..", "x..x.", "....x"]
    assert rows("class", told) == ["xx.xx", "xx.xx", "..x..", "xx.xx", "xx.xx"]
    # the second thing is of another colour than the first caption tells, the last one's is not known
    assert rows("caption", told) == ["xx.xx", ".x.xx", "..x..", "xx.xx", "xx.xx"]
    assert rows("caption") == ["x..xx", ".x..x", "..x..", "x..xx", "xx.xx"]
    with pytest.raises(ValueError, match="not by 'colour'"):
        rows("colour")


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(1, 4), st.integers(0, 99))
def test_the_bank_never_offers_the_own_class_and_only_what_it_keeps(
    labels: list[int], size: int, seed: int
) -> None:
    bank, kept = MemoryBank(4, size, 2), dict[int, list[float]]()
    for part in (labels[: len(labels) // 2], labels[len(labels) // 2 :]):
        numbers = torch.rand(len(part))
        if part:
            bank.add(torch.tensor(part), torch.stack([torch.tensor(part).float(), numbers], dim=1))
        for label, number in zip(part, numbers.tolist(), strict=True):
            kept[label] = [*kept.get(label, []), number][-size:]
    asked = torch.tensor([0, 1, 2, 3])
    drawn, known = bank.draw(asked, 50, torch.Generator().manual_seed(seed))
    assert drawn.shape == (4, 50, 2)
    for label, rows, there in zip(asked.tolist(), drawn, known.tolist(), strict=True):
        others = {(other, number) for other, own in kept.items() if other != label for number in own}
        assert there == bool(others)
        if there:
            assert {(int(owner), number) for owner, number in rows.tolist()} <= others


def test_the_bank_offers_everything_that_it_keeps_of_others_alike() -> None:
    bank = MemoryBank(3, 4, 1)
    bank.add(torch.tensor([0, 1, 1, 2, 2, 2]), torch.arange(6.0)[:, None])
    drawn, _ = bank.draw(torch.tensor([1]), 4000, torch.Generator().manual_seed(0))
    counts = drawn.flatten().long().bincount(minlength=6)
    assert counts[[1, 2]].tolist() == [0, 0]
    assert counts[[0, 3, 4, 5]].min() > 900


def test_the_loss_against_a_bank_equals_a_naive_loop() -> None:
    things, targets, negatives = units(3, 4), units(3, 4), units(3, 7, 4)
    losses = []
    for row in (0, 2):
        right = math.exp(5 * float(things[row] @ targets[row]))
        wrong = sum(math.exp(5 * float(things[row] @ other)) for other in negatives[row])
        losses.append(-math.log(right / (right + wrong)))
    known = torch.tensor([True, False, True])
    found = memory_loss(things, targets, negatives, known, torch.tensor(5.0))
    assert found.item() == pytest.approx(sum(losses) / 2, rel=1e-4)
    assert memory_loss(things, targets, negatives, known & False, torch.tensor(5.0)).item() == 0


@pytest.mark.parametrize(
    ("classes", "size", "said"), [(1, 5, "at least 2 classes, found 1"), (3, 0, "found 0")]
)
def test_a_bank_without_sense_is_told(classes: int, size: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MemoryBank(classes, size, 2)
