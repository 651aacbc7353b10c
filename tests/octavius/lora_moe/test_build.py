"""`build_lora_moe` on language models of Hugging Face: gates, layers and trained parameters are as configured."""

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from octavius.lora_moe import LoRAMoEConfig, LoRAMoELinear, Routing, adapter_parameters, build_lora_moe
from octavius.lora_moe.gates import GATES
from octavius.lora_moe.gates.base import Gate, GateSize
from octavius.lora_moe.gates.cluster import ClusterGate
from octavius.lora_moe.gates.factory import GateFactory, imported_gates
from octavius.lora_moe.inject import depths, per_layer
from tests.octavius.settings import lora_moe

MakeLlama = Callable[[], LlamaForCausalLM]
IDS = torch.tensor([[5, 9, 13, 7, 22], [8, 3, 40, 41, 2]])


def put(make_llama: MakeLlama, settings: LoRAMoEConfig) -> tuple[LlamaForCausalLM, Gate | None, Routing]:
    model, routing = make_llama(), Routing()
    return model, build_lora_moe(model, settings, 32, routing), routing


def test_a_gate_for_each_layer_trains_in_a_plain_model(make_llama: MakeLlama) -> None:
    model, gate, routing = put(make_llama, lora_moe("dense", per_layer=True, rank=2, dropout=0.0))
    assert gate is not None
    for name, part in adapter_parameters(model).items():
        if name.endswith("lora_B"):
            torch.nn.init.normal_(part)
    with routing.use(gate(model.get_input_embeddings()(IDS), torch.ones_like(IDS))):
        model(IDS, labels=IDS).loss.backward()
    assert gate.weight.grad is not None
    assert gate.weight.shape == (2 * 4, 32)
    assert gate.weight.grad.abs().sum(1).min() > 0


def test_token_gates_need_nothing_set_and_are_counted_with_the_experts(make_llama: MakeLlama) -> None:
    model, gate, routing = put(make_llama, LoRAMoEConfig(gate="token", targets=["down_proj"], rank=2))
    assert gate is None
    assert model(IDS).logits.shape == (2, 5, 61)
    assert [tuple(choice.weights.shape) for choice in routing.noted()] == [(2, 5, 4)] * 2
    found = adapter_parameters(model)
    assert {name.split("down_proj.")[1] for name in found} == {"lora_A", "lora_B", "gate.weight"}
    # Two layers, width 48 in and 32 out: A, B and the gate of four experts of rank two.
    assert sum(part.numel() for part in found.values()) == 2 * (8 * 48 + 32 * 8 + 4 * 48)


@pytest.mark.parametrize("shared", [False, True])
def test_parameters_of_layouts(make_llama: MakeLlama, shared: bool) -> None:
    model, *_ = put(make_llama, LoRAMoEConfig(experts=[2, 5], rank=3, targets=["q_proj"], shared_a=shared))
    counts = [layer.experts for layer in model.modules() if isinstance(layer, LoRAMoELinear)]
    assert counts == [2, 5]
    down = [1, 1] if shared else [2, 5]
    expected = 32 * 3 * (sum(down) + 2 + 5)
    assert sum(part.numel() for part in adapter_parameters(model).values()) == expected


@pytest.mark.parametrize("settings", [LoRAMoEConfig(experts=1), LoRAMoEConfig(experts=1, gate="token")])
def test_one_expert_is_plain_lora_whatever_the_gate(make_llama: MakeLlama, settings: LoRAMoEConfig) -> None:
    model, gate, routing = put(make_llama, settings)
    assert gate is None
    assert not any(name.endswith("gate.weight") for name in adapter_parameters(model))
    with routing.use(torch.ones(2, 1)):
        assert model(IDS).logits.shape == (2, 5, 61)


def test_a_gate_is_named_by_its_short_name_its_class_or_a_partial_of_it() -> None:
    named = LoRAMoEConfig(gate="cluster").gate_factory
    assert named == LoRAMoEConfig(gate=ClusterGate).gate_factory == GateFactory(ClusterGate, {"clusters": 16})
    chosen = LoRAMoEConfig(gate=partial(ClusterGate, clusters=3, top_k=1)).gate_factory
    assert chosen.options == {
        "top_k": 1,
        "clusters": 3,
        "per_layer": False,
        "universal": False,
        "temperature": 1.0,
    }
    gate = chosen(GateSize(8, 4))
    assert isinstance(gate, ClusterGate)
    assert (gate.clusters, gate.max_active) == (3, 1)
    for copied in (copy.deepcopy(chosen), pickle.loads(pickle.dumps(chosen))):
        assert copied == chosen != named


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (
            "instnace",
            "there is no gate 'instnace' [(]did you mean 'instance'[?][)]; gates are source, affinity, instance, ",
        ),
        (partial(ClusterGate, cluster=3), "ClusterGate has no option 'cluster' [(]did you mean 'clusters'"),
        (torch.nn.Linear, "expected a gate's short name .*, its class, or functools.partial"),
        (lambda size: ClusterGate(size), "expected a gate's short name"),
    ],
)
def test_what_is_no_gate_is_refused(gate: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LoRAMoEConfig(gate=gate)


@pytest.mark.parametrize("name", GATES)
def test_every_gate_is_its_settings(name: str) -> None:
    factory = LoRAMoEConfig(gate=name).gate_factory
    assert factory.settings["class_path"] in imported_gates()
    assert (
        GateFactory(imported_gates()[factory.settings["class_path"]], factory.settings["init_args"])
        == factory
    )


def test_depths(make_llama: MakeLlama) -> None:
    assert depths(make_llama()) == 2
    assert per_layer([3], 4) == [3, 3, 3, 3]
    assert per_layer([2, 4, 6, 8], 8) == [2, 2, 4, 4, 6, 6, 8, 8]
    with pytest.raises(ValueError, match="has no list of equal layers"):
        depths(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="found 0 numbers"):
        per_layer([], 4)


def test_modalities_that_the_model_has_not_are_refused(make_llama: MakeLlama) -> None:
    with pytest.raises(ValueError, match="which modalities a sample has: the model has none"):
        put(make_llama, lora_moe(inputs=["modality"]))
