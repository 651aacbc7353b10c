"""A tiny routed Llama whose experts do something, and a batch of prompts with answers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from octavius.lora_moe import RoutedModel, get_routed_model
from tests.octavius.settings import lora_moe

MakeRouted = Callable[..., RoutedModel]


@pytest.fixture
def make_routed(make_llama: Callable[[], LlamaForCausalLM]) -> MakeRouted:
    """Makes the same routed Llama at each call; with `live` its experts begin with a B that is not zero."""

    def make(live: bool = True, **options: Any) -> RoutedModel:
        model = make_llama()
        settings: dict[str, Any] = {
            "experts": 3,
            "rank": 2,
            "alpha": 4.0,
            "dropout": 0.0,
            "targets": ["q_proj", "v_proj"],
        }
        torch.manual_seed(1)
        routed = get_routed_model(model, lora_moe(**(settings | options)))
        for name, part in routed.named_parameters():
            if live and name.endswith("lora_B"):
                torch.nn.init.normal_(part, std=0.3)
        return routed

    return make


@pytest.fixture
def batch() -> dict[str, Tensor]:
    """Two prompts with answers, the second padded on the left, as every trainer of transformers makes them."""
    ids = torch.tensor([[1, 5, 9, 13, 7, 22, 3, 60], [0, 0, 1, 40, 41, 2, 8, 60]])
    labels = ids.clone()
    labels[:, :5] = -100
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}
