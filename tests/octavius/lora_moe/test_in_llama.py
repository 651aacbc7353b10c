"""LoRA-MoE inside a whole language model: PEFT's LoRA, checkpointing, generation, beams."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaForCausalLM

from octavius.lora_moe import InstanceGate, LoRAMoELinear, Routing, adapter_parameters, inject
from octavius.lora_moe.gates.base import GateSize

MakeLlama = Callable[[], LlamaForCausalLM]
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
IDS = torch.tensor([[5, 9, 13, 7, 22], [8, 3, 40, 41, 2], [30, 31, 32, 33, 34]])


def with_experts(model: LlamaForCausalLM, experts: int = 3, dropout: float = 0.0) -> Routing:
    """Injects experts that do something into all attention projections."""
    routing = Routing()
    inject(model, TARGETS, experts, 4, 8.0, dropout, routing)
    for name, parameter in adapter_parameters(model).items():
        if name.endswith("lora_B"):
            nn.init.normal_(parameter, std=0.5)
    return routing


def test_one_expert_equals_lora_of_peft(make_llama: MakeLlama) -> None:
    ours, theirs = make_llama(), make_llama()
    routing = with_experts(ours, experts=1)
    settings = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=TARGETS)
    peft: Any = get_peft_model(theirs, settings)
    for name, module in ours.named_modules():
        if isinstance(module, LoRAMoELinear):
            lora: Any = peft.base_model.model.get_submodule(name)
            lora.lora_A["default"].weight.data.copy_(module.lora_A)
            lora.lora_B["default"].weight.data.copy_(module.lora_B)
    with routing.use(torch.ones(3, 1)):
        logits = ours(IDS).logits
    torch.testing.assert_close(logits, peft(IDS).logits, rtol=1e-5, atol=1e-5)
    assert (logits - make_llama()(IDS).logits).abs().max() > 0.1
    ours_count = sum(p.numel() for p in ours.parameters() if p.requires_grad)
    assert ours_count == sum(p.numel() for p in peft.parameters() if p.requires_grad)


def test_the_start_equals_the_frozen_model(make_llama: MakeLlama) -> None:
    model, routing = make_llama(), Routing()
    expected = model(IDS).logits
    inject(model, TARGETS, 4, 8, 8.0, 0.1, routing)
    with routing.use(torch.rand(3, 4)):
        assert torch.equal(model(IDS).logits, expected)


@pytest.mark.parametrize("disturb", [False, True])
def test_checkpointing_changes_no_gradient(make_llama: MakeLlama, disturb: bool) -> None:
    plain = make_llama().train()
    routing = with_experts(plain, dropout=0.2)
    gate = InstanceGate(GateSize(32, 3), top_k=2)
    checkpointed = copy.deepcopy(plain)
    own = next(m.routing for m in checkpointed.modules() if isinstance(m, LoRAMoELinear))
    checkpointed.gradient_checkpointing_enable(
        gradient_checkpointing_kwargs={"use_reentrant": False, "context_fn": own.checkpoint_context}
    )
    calls = []
    checkpointed.model.layers[0].self_attn.q_proj.base.register_forward_hook(lambda *_: calls.append(1))
    grads = []
    for model, held in ((plain, routing), (checkpointed, own)):
        gate.zero_grad()
        torch.manual_seed(1)
        with held.use(gate(model.get_input_embeddings()(IDS), torch.ones_like(IDS))):
            loss = model(IDS, labels=IDS).loss
        if disturb:
            with held.use(torch.rand(3, 3)):
                model(IDS)
            held.set(torch.rand(3, 3))
        loss.backward()
        found = {name: parameter.grad for name, parameter in adapter_parameters(model).items()}
        grads.append({**found, "gate": gate.weight.grad})
    assert len(calls) == 2 + disturb  # forward, the recomputation, and the pass between
    assert len(grads[0]) == 2 * 4 * 2 + 1
    for name, expected in grads[0].items():
        assert expected is not None
        assert expected.abs().max() > 0
        torch.testing.assert_close(grads[1][name], expected)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_generated_batch_equals_its_rows(make_llama: MakeLlama, beams: int) -> None:
    model: Any = make_llama()
    routing = with_experts(model)
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.3, 0.7], [0.5, 0.5, 0.0]])
    ids, mask = IDS.clone(), torch.ones_like(IDS)
    ids[0, :2], mask[0, :2] = 0, 0  # padded left

    def generate(rows: slice, weights: torch.Tensor) -> torch.Tensor:
        with routing.use(weights):
            found: torch.Tensor = model.generate(
                input_ids=ids[rows],
                attention_mask=mask[rows],
                max_new_tokens=8,
                min_new_tokens=8,
                do_sample=False,
                num_beams=beams,
            )
            return found

    together = generate(slice(0, 3), weights)
    assert together.shape == (3, 13)
    for row in range(3):
        part = slice(row, row + 1)
        assert torch.equal(generate(part, weights[part])[0], together[row])
    assert not torch.equal(generate(slice(0, 3), weights.flip(0)), together)
