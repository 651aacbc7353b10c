"""The uniform gate gives all experts the same weight."""

import torch

from octavius.lora_moe.gates.base import GateSize
from octavius.lora_moe.gates.uniform import UniformGate


def test_uniform_gate_gives_all_the_same() -> None:
    weights = UniformGate(GateSize(8, 4))(torch.randn(3, 2, 8), torch.ones(3, 2))
    assert torch.equal(weights, torch.full((3, 4), 0.25))
    both = UniformGate(GateSize(8, [2, 5]))(torch.randn(3, 2, 8), torch.ones(3, 2))
    assert [table.shape for table in both] == [(3, 2), (3, 5)]
