"""The share of trainable parameters in the paper's Table 4, for Vicuna-13B's shape, without its weights."""

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from octavius.lora_moe import InstanceGate, Routing, inject
from octavius.lora_moe.gates.base import GateSize

WIDTH, CLIP_WIDTH = 5120, 1024
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
VICUNA_13B = LlamaConfig(
    vocab_size=32003,
    hidden_size=WIDTH,
    intermediate_size=13824,
    num_hidden_layers=40,
    num_attention_heads=40,
    tie_word_embeddings=False,
)


@pytest.mark.parametrize(
    ("row", "experts", "rank", "printed"),
    [
        ("baseline", 1, 32, "0.4%"),
        ("sparse top-2", 4, 32, "1.6%"),
        ("weighted sum", 4, 32, "1.6%"),
        ("individual", 6, 32, "2.4%"),
        ("sparse top-2", 4, 16, "0.8%"),
        ("sparse top-2", 4, 8, "0.4%"),
    ],
)
def test_the_trainable_share_is_that_of_table_4(row: str, experts: int, rank: int, printed: str) -> None:
    with torch.device("meta"):
        model = LlamaForCausalLM(VICUNA_13B)
        frozen = sum(tensor.numel() for tensor in model.parameters())
        swapped = inject(model, TARGETS, experts, rank, float(rank), 0.1, Routing())
        others: list[nn.Module] = [nn.Linear(CLIP_WIDTH, WIDTH)]  # the projector of Section 3.2.1
        if experts > 1 and row != "individual":
            others.append(InstanceGate(GateSize(WIDTH, experts), top_k=2))
    assert len(swapped) == 40 * 4
    assert all(tensor.is_meta for tensor in model.parameters())
    trained = [tensor for tensor in model.parameters() if tensor.requires_grad]
    adapters = sum(tensor.numel() for tensor in trained)
    assert adapters == 40 * 4 * experts * rank * 2 * WIDTH
    more = sum(tensor.numel() for module in others for tensor in module.parameters())
    assert frozen == 13_015_895_040, "Vicuna-13B with three more rows of words"
    assert f"{(adapters + more) / (frozen + adapters + more):.1%}" == printed
