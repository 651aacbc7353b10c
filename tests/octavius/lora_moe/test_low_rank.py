"""The weighted sum of low-rank maps against a loop over groups, tokens and experts; its gradients by differences."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from octavius.lora_moe.low_rank import add_without_backward, low_rank


def slow(x: Tensor, down: Tensor, up: Tensor, weights: Tensor, chosen: Tensor, mask: Tensor) -> Tensor:
    """One expert of one token at a time; `weights` (G, T, K) are those of the chosen experts (G, K)."""
    total = torch.zeros(*x.shape[:2], up.shape[0], dtype=x.dtype)
    for group in range(len(x)):
        for token in range(x.shape[1]):
            for index, expert in enumerate(chosen[group].tolist()):
                hidden = down[expert if len(down) > 1 else 0] @ (x[group, token] * mask[group, token])
                total[group, token] += weights[group, token, index] * (up[:, expert] @ hidden)
    return total


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), shared=st.booleans(), picks=st.booleans(), drops=st.booleans())
def test_it_equals_a_loop_over_experts(seed: int, shared: bool, picks: bool, drops: bool) -> None:
    torch.manual_seed(seed)
    x = torch.randn(2, 3, 5, dtype=torch.float64)
    down = torch.randn(1 if shared else 4, 2, 5, dtype=torch.float64)
    up = torch.randn(6, 4, 2, dtype=torch.float64)
    chosen = torch.stack([torch.randperm(4)[:2] for _ in range(2)]) if picks else None
    everyone = torch.arange(4).expand(2, 4) if chosen is None else chosen
    weights = torch.rand(2, 1, everyone.shape[1], dtype=torch.float64)
    mask = torch.rand(2, 3, 5) > 0.3 if drops else None
    found = low_rank(x, down, up, weights, chosen, mask)
    kept = torch.ones_like(x) if mask is None else mask.double()
    torch.testing.assert_close(found, slow(x, down, up, weights.expand(2, 3, -1), everyone, kept))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("chosen", [None, torch.tensor([[2, 0], [1, 2]])])
def test_gradients_equal_differences(shared: bool, chosen: Tensor | None) -> None:
    torch.manual_seed(0)
    parts = [
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 2, 3), (1 if shared else 3, 2, 3), (4, 3, 2), (2, 1, 3 if chosen is None else 2))
    ]
    mask = torch.rand(2, 2, 3) > 0.2
    assert torch.autograd.gradcheck(lambda *given: low_rank(*given, chosen, mask), parts)


@pytest.mark.parametrize("shape", [(2, 3), (1, 3), (2, 4, 3)])
def test_without_gradients_it_is_added_to_the_output(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x, out, gate = torch.randn(2, 4, 5), torch.randn(2, 4, 6), torch.rand(shape)
    down, up = torch.randn(3, 2, 5), torch.randn(6, 3, 2)
    found = add_without_backward(out, x, down.flatten(0, 1), up.flatten(1), gate)
    each = (gate if gate.dim() == 3 else gate[:, None]).expand(2, 4, 3)
    expected = slow(x, down, up, each, torch.arange(3).expand(2, 3), torch.ones_like(x))
    torch.testing.assert_close(found, out + expected)
