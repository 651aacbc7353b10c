"""The gate of the published code against an oracle: padding counts, and the mask does not."""

import torch

from octavius.lora_moe.gates.base import GateSize
from octavius.lora_moe.gates.published import PublishedGate
from tests.octavius import published_code


def test_it_reads_the_mean_of_all_tokens_without_scaling() -> None:
    torch.manual_seed(0)
    gate = PublishedGate(GateSize(6, 4), top_k=2)
    embeddings, mask = torch.randn(3, 5, 6), torch.tensor([[1, 1, 0, 0, 0]] * 3)
    found = gate(embeddings, mask)
    expected = published_code.gate(gate.weight.detach().T, embeddings)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(found, gate(embeddings, torch.ones_like(mask)))
    assert not torch.allclose(found, gate(embeddings[:, :2], mask[:, :2]))


def test_its_weight_is_drawn_from_a_standard_normal() -> None:
    torch.manual_seed(0)
    weight = PublishedGate(GateSize(400, 50)).weight.detach()
    assert abs(weight.mean()) < 0.05
    assert abs(weight.std() - 1) < 0.05
