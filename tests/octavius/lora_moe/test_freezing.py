"""What is trained: all, experts and gate, or the gate alone."""

from typing import Any

import pytest
from torch import nn
from transformers import LlamaForCausalLM

from octavius.lora_moe import LoRAMoEConfig, get_routed_model
from octavius.lora_moe.freezing import freeze
from tests.octavius.settings import lora_moe


def trained(model: nn.Module) -> set[str]:
    return {name for name, part in model.named_parameters() if part.requires_grad}


@pytest.mark.parametrize("gate", ["instance", "token"])
def test_only_the_gate_is_trained(make_llama: Any, gate: str) -> None:
    model: LlamaForCausalLM = make_llama()
    routed = get_routed_model(model, LoRAMoEConfig(experts=3, rank=2, gate=gate, train="gate"))
    names = trained(routed)
    assert names
    assert all("gate" in name.split(".") for name in names)


def test_what_was_frozen_before_stays_so() -> None:
    model = nn.ModuleDict({"projector": nn.Linear(2, 2), "encoder": nn.Linear(2, 2).requires_grad_(False)})
    freeze(model, lora_moe())
    assert trained(model) == {"projector.weight", "projector.bias"}


def test_a_gate_without_parameters_is_refused(make_llama: Any) -> None:
    for options in ({"experts": 3, "gate": "uniform"}, {"experts": 1}):
        with pytest.raises(ValueError, match=r"trains the gate alone, but .*; take train: experts, or all"):
            get_routed_model(make_llama(), LoRAMoEConfig(rank=2, train="gate", **options))
