"""Auxiliary losses against loops over samples and experts, and where each has its minimum."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavius.lora_moe.gates.base import GateOutput, TopKRouter
from octavius.lora_moe.losses import LOSSES, auxiliary, certainty_balance, squared_cv, switch

Rows = list[list[float]]


def slow_cv(weights: Rows, _: Rows) -> float:
    importance = [sum(row[e] for row in weights) for e in range(len(weights[0]))]
    mean = sum(importance) / len(importance)
    return sum((value - mean) ** 2 for value in importance) / len(importance) / mean**2


def slow_switch(weights: Rows, probabilities: Rows) -> float:
    experts, chosen = len(weights[0]), sum(weight > 0 for row in weights for weight in row)
    total = 0.0
    for e in range(experts):
        share = sum(row[e] > 0 for row in weights) / chosen
        total += share * sum(row[e] for row in probabilities) / len(probabilities)
    return experts * total


def slow_certainty_balance(_: Rows, probabilities: Rows) -> float:
    def entropy(row: list[float]) -> float:
        return -sum(p * math.log(p) for p in row if p > 0)

    mean = [sum(column) / len(probabilities) for column in zip(*probabilities, strict=True)]
    return sum(map(entropy, probabilities)) / len(probabilities) - entropy(mean)


SLOW = {"cv": slow_cv, "switch": slow_switch, "certainty_balance": slow_certainty_balance}


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), samples=st.integers(1, 6), experts=st.integers(2, 5))
def test_losses_equal_loops(name: str, seed: int, samples: int, experts: int) -> None:
    torch.manual_seed(seed)
    choice = TopKRouter(2).choose(3 * torch.randn(samples, experts, dtype=torch.float64))
    expected = SLOW[name](choice.weights.tolist(), choice.probabilities.tolist())
    assert LOSSES[name](*choice).item() == pytest.approx(expected, rel=1e-6, abs=1e-9)
    twice = [torch.cat([part, part]) for part in choice]
    assert LOSSES[name](*twice).item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_extremes() -> None:
    """By hand: four samples that take an expert each, or all the same one."""
    apart, same = torch.eye(4), torch.eye(4)[[0, 0, 0, 0]]
    assert squared_cv(apart, apart) == 0
    assert squared_cv(same, same) == pytest.approx(3.0)  # sums 4, 0, 0, 0: variance 3, mean 1
    assert switch(apart, apart) == pytest.approx(1.0)
    assert switch(same, same) == pytest.approx(4.0)
    assert certainty_balance(apart, apart).item() == pytest.approx(-math.log(4))
    assert certainty_balance(same, same).item() == pytest.approx(0.0, abs=1e-6)
    even = torch.full((4, 4), 0.25)
    assert certainty_balance(even, even).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_following_the_gradient_lowers_the_loss_even_from_certainty(name: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 4)
    logits[0, 0] = 300.0  # its softmax is exactly 1 and 0
    logits.requires_grad_()
    before = LOSSES[name](*TopKRouter(None).choose(logits))
    (grad,) = torch.autograd.grad(before, logits)
    assert grad.isfinite().all()
    assert grad.abs().max() > 0
    after = LOSSES[name](*TopKRouter(None).choose(logits - 0.1 * grad))
    # The share of choices counts all experts of a dense gate alike: nothing to gain there.
    assert after < before or name == "switch"


def test_gates_are_averaged_padding_and_the_universal_expert_left_out() -> None:
    torch.manual_seed(0)
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    layers = [TopKRouter(1, universal=True).choose(torch.randn(2, 3, 4)) for _ in range(2)]
    values = auxiliary(["cv", "switch"], layers, mask)
    for index, name in enumerate(["cv", "switch"]):
        each = [
            SLOW[name](c.weights[..., :4][mask.bool()].tolist(), c.probabilities[mask.bool()].tolist())
            for c in layers
        ]
        assert values[index].item() == pytest.approx(sum(each) / 2, rel=1e-5)
    instance = GateOutput(torch.eye(2), torch.eye(2))
    assert auxiliary(["cv"], [instance], mask).item() == 0.0
