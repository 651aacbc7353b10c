"""The dense gate weights all experts by the softmax."""

import torch

from octavius.lora_moe.gates.base import GateSize
from octavius.lora_moe.gates.dense import DenseGate


def test_all_experts_have_the_weight_of_the_softmax() -> None:
    torch.manual_seed(0)
    gate = DenseGate(GateSize(6, 4), temperature=0.5)
    embeddings, mask = torch.randn(3, 5, 6), torch.ones(3, 5)
    question = embeddings.mean(1)
    question = question / question.square().mean(1, keepdim=True).sqrt()
    found = gate(embeddings, mask)
    torch.testing.assert_close(found, (question @ gate.weight.T / 0.5).softmax(-1))
    assert (found > 0).all()
    assert gate.max_active is None
