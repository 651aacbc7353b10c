"""Which layers injection swaps, what stays trainable, and what it refuses."""

import re
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM

from octavius.lora_moe import LoRAMoELinear, Routing, adapter_parameters, inject

MakeLlama = Callable[[], LlamaForCausalLM]


def put(model: nn.Module, targets: Sequence[str], rank: int = 2, routing: Routing | None = None) -> list[str]:
    """Injection with the settings that these tests do not vary."""
    return inject(model, targets, 3, rank, 4.0, 0.1, routing or Routing())


def test_named_layers_are_swapped_in_the_models_order(make_llama: MakeLlama) -> None:
    model, routing = make_llama(), Routing()
    names = put(model, ["v_proj", "q_proj"], routing=routing)
    assert names == [f"model.layers.{n}.self_attn.{part}_proj" for n in (0, 1) for part in "qv"]
    swapped = {name: module for name, module in model.named_modules() if isinstance(module, LoRAMoELinear)}
    assert list(swapped) == names
    assert all(layer.routing is routing and layer.scale == 2.0 for layer in swapped.values())


@pytest.mark.parametrize(
    ("target", "count"),
    [
        ("self_attn.q_proj", 2),
        ("layers.1.self_attn.q_proj", 1),
        ("lm_head", 1),
        ("model.layers.0.mlp.up_proj", 1),
    ],
)
def test_dotted_suffixes_and_whole_names(make_llama: MakeLlama, target: str, count: int) -> None:
    names = put(make_llama(), [target])
    assert len(names) == count
    assert all(name.endswith(target) for name in names)


def test_only_the_experts_stay_trainable(make_llama: MakeLlama) -> None:
    model = make_llama()
    names = put(model, ["q_proj", "k_proj"], rank=2)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == {f"{name}.{part}" for name in names for part in ("lora_A", "lora_B")}
    held = adapter_parameters(model)
    assert set(held) == trainable
    assert held[f"{names[0]}.lora_A"] is model.get_submodule(names[0]).lora_A
    width, keys = 32, 16  # two layers of q (width to width) and k (width to keys), three experts of rank two
    assert sum(p.numel() for p in held.values()) == 2 * 3 * 2 * ((width + width) + (width + keys))


def test_parameters_of_a_bare_layer_have_short_names() -> None:
    layer = LoRAMoELinear(nn.Linear(2, 2), 1, 1, 1, 0.0, Routing())
    assert set(adapter_parameters(layer)) == {"lora_A", "lora_B"}


def test_a_model_in_eval_mode_stays_in_eval_mode(make_llama: MakeLlama) -> None:
    model = make_llama()
    put(model, ["q_proj"])
    assert not any(module.training for module in model.modules())


def test_experts_are_kept_in_the_asked_type(make_llama: MakeLlama) -> None:
    model = make_llama()
    inject(model, ["q_proj"], 2, 2, 2, 0.0, Routing(), dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in adapter_parameters(model).values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("targets", "rank", "message"),
    [
        (["q_proj"], 0, "rank of a LoRA expert must be at least 1, found rank = 0"),
        (["q_proj"], -1, "found rank = -1"),
        ([], 2, "targets must be a list of layer names, like ['q_proj'], found []"),
        ("q_proj", 2, "found 'q_proj'"),
        (["q_proj", "query", "proj"], 2, "match no linear layer of LlamaForCausalLM: ['query', 'proj']"),
        (
            ["attention"],
            2,
            "['down_proj', 'gate_proj', 'k_proj', 'lm_head', 'o_proj', 'q_proj', 'up_proj', 'v_proj']",
        ),
        (["self_attn"], 2, "match no linear layer of LlamaForCausalLM: ['self_attn']"),
    ],
)
def test_bad_calls_are_refused_and_leave_the_model_alone(
    make_llama: MakeLlama, targets: Sequence[str], rank: int, message: str
) -> None:
    model = make_llama()
    with pytest.raises(ValueError, match=re.escape(message)):
        put(model, targets, rank=rank)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not adapter_parameters(model)


def test_a_second_injection_is_refused(make_llama: MakeLlama) -> None:
    model = make_llama()
    put(model, ["q_proj"])
    with pytest.raises(ValueError, match=r"already has .*first is 'model\.layers\.0\.self_attn\.q_proj'"):
        put(model, ["v_proj"])
