"""The top-k router: noise in training alone, and impossible settings."""

import copy

import pytest
import torch

from octavius.lora_moe import InstanceGate
from octavius.lora_moe.gates.base import GateSize, TopKRouter
from octavius.lora_moe.gates.token import TokenGate


def test_noise_is_of_training_alone_bounded_and_seeded() -> None:
    torch.manual_seed(0)
    inputs = torch.ones(50, 40)
    noisy = TopKRouter(1, jitter=0.1).noisy(inputs)
    assert 0.9 <= noisy.min() < 0.91
    assert 1.09 < noisy.max() <= 1.1
    for gate, x in (
        (InstanceGate(GateSize(8, 4), top_k=2, jitter=0.3), [torch.randn(2, 3, 8), torch.ones(2, 3)]),
    ):
        torch.manual_seed(1)
        first = gate(*x)
        assert not torch.equal(gate(*x), first)
        torch.manual_seed(1)
        assert torch.equal(gate(*x), first)
        gate.eval()
        still = copy.deepcopy(gate)
        still.router = TopKRouter(2)
        assert torch.equal(gate(*x), still.train()(*x))
    token, x3 = TokenGate(GateSize(8, 4), top_k=2, jitter=0.3), torch.randn(2, 3, 8)
    assert not torch.equal(token(x3).weights, token(x3).weights)
    token.eval()
    assert torch.equal(token(x3).weights, token(x3).weights)


@pytest.mark.parametrize(
    ("router", "experts", "message"),
    [
        (TopKRouter(3, universal=True), 4, "expected at least top_k [+] 2 experts"),
        (TopKRouter(None, universal=True), 4, "and a number for top_k"),
        (TopKRouter(1, temperature=0), 4, "temperature should be a number above 0 .*, found 0"),
        (TopKRouter(1, jitter=1.0), 4, "jitter should be a number of at least 0 and below 1, found 1"),
        (TopKRouter(5), 4, "more experts than there are: top_k = 5, experts = 4"),
    ],
)
def test_impossible_cuts_are_refused(router: TopKRouter, experts: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        router.routed(experts)
