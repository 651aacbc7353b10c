"""A tiny Llama of random weights for the tests of the room."""

from collections.abc import Callable

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM


@pytest.fixture
def make_llama() -> Callable[[], LlamaForCausalLM]:
    """Makes the same tiny Llama at each call, in eval mode, with large weights: its choices are decided."""

    def make() -> LlamaForCausalLM:
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=61,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=60,
            initializer_range=0.3,
        )
        model = LlamaForCausalLM(config)
        model.train(False)
        return model

    return make
