"""Dropout masks have the right rate, are independent between elements, and are reproducible from a seed."""

import pytest
import torch

from octavius.lora_moe.dropout import kept_inputs

COUNT = 2**20


@pytest.mark.parametrize("p", [0.0, 2**-16, 0.1, 0.5, 0.9, 1 - 2**-16])
def test_as_many_are_dropped_as_the_probability_says(p: float) -> None:
    torch.manual_seed(3)
    mask, factor = kept_inputs(torch.empty(COUNT // 4, 4), p)
    # In each of the four columns, which share the bits of one number: five standard deviations of a binomial count.
    dropped = (~mask).sum(0).float() - p * COUNT / 4
    assert dropped.abs().max() <= 5 * (p * (1 - p) * COUNT / 4) ** 0.5
    assert factor == pytest.approx(1 / (1 - p), rel=1e-3)


@pytest.mark.parametrize("apart", [1, 2, 3, 4, 64])
def test_neighbours_are_dropped_independently(apart: int) -> None:
    torch.manual_seed(4)
    gone = ~kept_inputs(torch.empty(COUNT), 0.3)[0]
    both = (gone[apart:] & gone[:-apart]).float().sum()
    pairs, rate = COUNT - apart, 0.3**2
    assert abs(float(both) - rate * pairs) <= 5 * (rate * pairs) ** 0.5 * 1.5  # overlapping pairs vary more


@pytest.mark.parametrize("p", [0.1, 1 / 3, 0.7])
def test_the_factor_keeps_the_mean(p: float) -> None:
    """Of the rounded probability, not of the one that was asked for."""
    torch.manual_seed(5)
    mask, factor = kept_inputs(torch.empty(COUNT), p)
    assert float((mask * factor).mean()) == pytest.approx(1.0, abs=5 * (p / (1 - p) / COUNT) ** 0.5)
    assert 1 - 1 / factor == pytest.approx(p, abs=2**-17)


def test_one_seed_is_one_mask_and_another_is_not() -> None:
    x = torch.empty(3, 5, 7)  # 105 numbers, no multiple of four
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(kept_inputs(x, 0.5)[0])
    assert masks[0].shape == x.shape
    assert masks[0].dtype == torch.bool
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_no_input_at_all() -> None:
    assert kept_inputs(torch.empty(0, 4), 0.5)[0].shape == (0, 4)


def test_a_probability_near_one_keeps_the_numbers_finite() -> None:
    mask, factor = kept_inputs(torch.empty(8), 1 - 1e-9)
    assert mask.shape == (8,)
    assert factor == 2**16
