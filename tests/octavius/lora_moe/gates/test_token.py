"""The token gate against its definition, and layers that route each token."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavius.lora_moe import LoRAMoELinear, Routing
from octavius.lora_moe.gates.base import GateOutput, GateSize, TopKRouter
from octavius.lora_moe.gates.token import TokenGate


def slow_choice(logits: list[float], router: TopKRouter) -> list[float]:
    """The weights of one sample's or token's logits, by the words of `TopKRouter`."""
    powers = [math.exp(logit / router.temperature) for logit in logits]
    full = [power / sum(powers) for power in powers]
    top_k = len(logits) if router.top_k is None else router.top_k
    kept = sorted(range(len(logits)), key=lambda e: full[e], reverse=True)[:top_k]
    total = sum(full[e] for e in kept) if top_k > 1 and not router.universal else 1.0
    weights = [full[e] / total if e in kept else 0.0 for e in range(len(logits))]
    return [*weights, 1 - sum(weights)] if router.universal else weights


@st.composite
def cuts(draw: st.DrawFn) -> tuple[TopKRouter, int]:
    """A cut and a number of experts that it fits."""
    universal = draw(st.booleans())
    experts = draw(st.integers(3 if universal else 1, 6))
    top_k = draw(st.integers(1, experts - 2 * universal))
    return TopKRouter(top_k, universal, draw(st.sampled_from([0.5, 1.0, 3.0]))), experts


@settings(max_examples=40, deadline=None)
@given(chosen=cuts(), seed=st.integers(0, 999), tokens=st.integers(0, 3))
def test_token_gate_equals_its_definition(chosen: tuple[TopKRouter, int], seed: int, tokens: int) -> None:
    router, experts = chosen
    torch.manual_seed(seed)
    gate = TokenGate(
        GateSize(5, experts),
        top_k=router.top_k or 1,
        universal=router.universal,
        temperature=router.temperature,
    )
    x = torch.randn((2, tokens, 5) if tokens else (2, 5)) * 4
    weights, probabilities = gate(x)
    assert weights.shape == (*x.shape[:-1], experts)
    assert probabilities.shape == (*x.shape[:-1], experts - router.universal)
    for found, token in zip(weights.reshape(-1, experts), x.reshape(-1, 5), strict=True):
        scale = math.sqrt(sum(float(value) ** 2 for value in token) / 5)
        logits = [
            sum(float(w * v) for w, v in zip(row, token, strict=True)) / scale for row in gate.weight.detach()
        ]
        torch.testing.assert_close(found, torch.tensor(slow_choice(logits, router)), rtol=1e-4, atol=1e-5)
    if router.universal:
        torch.testing.assert_close(weights.sum(-1), torch.ones(x.shape[:-1]))


def token_layer(experts: int = 3, width: int = 6) -> LoRAMoELinear:
    """A layer with a gate of its own and experts that do something."""
    gate = TokenGate(GateSize(width, experts), top_k=2)
    layer = LoRAMoELinear(torch.nn.Linear(width, 5), experts, 2, 3.0, 0.0, Routing().part(), gate=gate)
    torch.nn.init.normal_(layer.lora_B)
    return layer


def slow_tokens(layer: LoRAMoELinear, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """One token and one expert at a time; A may be shared."""
    rows = []
    for token, own in zip(x.flatten(0, 1), weights.flatten(0, 1), strict=True):
        total = layer.base(token)
        for expert in range(layer.experts):
            part = slice(expert * layer.rank, (expert + 1) * layer.rank)
            down = layer.lora_A if layer.shared_a else layer.lora_A[part]
            total = total + own[expert] * layer.scale * (token @ down.T @ layer.lora_B[:, part].T)
        rows.append(total)
    return torch.stack(rows).unflatten(0, x.shape[:2])


@pytest.mark.parametrize("shared", [False, True])
def test_weights_of_each_token_equal_a_loop_over_tokens(shared: bool) -> None:
    torch.manual_seed(0)
    layer = LoRAMoELinear(torch.nn.Linear(6, 5), 3, 2, 3.0, 0.0, Routing(), shared_a=shared).double()
    torch.nn.init.normal_(layer.lora_B)
    x, weights = torch.randn(2, 4, 6).double(), torch.rand(2, 4, 3).double()
    with layer.routing.use(weights):
        torch.testing.assert_close(layer(x), slow_tokens(layer, x, weights))
        message = "set for 4 tokens of each row, but a LoRA-MoE layer got"
        with pytest.raises(ValueError, match=f"{message} 1 tokens"):
            layer(x[:, :1])
        with pytest.raises(ValueError, match=f"{message} no tokens"):
            layer(x[:, 0])
    with layer.routing.use(weights[:, 0]):  # a packed row whose tokens agree is an instance
        instance = layer(x)
    with layer.routing.use(weights[:, :1].expand(-1, 4, -1)):
        torch.testing.assert_close(layer(x), instance)


def test_a_layers_own_gate_routes_each_token_and_notes_it() -> None:
    torch.manual_seed(0)
    layer, x = token_layer(), torch.randn(2, 4, 6)
    choice = layer.gate(x) if layer.gate is not None else None
    assert isinstance(choice, GateOutput)
    torch.testing.assert_close(layer(x), slow_tokens(layer, x, choice.weights))
    for index in range(4):  # as with a cache, one token at a time
        torch.testing.assert_close(layer(x[:, index : index + 1]), layer(x)[:, index : index + 1])
    layer(x).square().sum().backward()
    assert layer.gate is not None
    assert layer.gate.weight.grad is not None
    assert layer.gate.weight.grad.abs().max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_layers_own_gate_compiles_without_a_graph_break(backend: str) -> None:
    torch.manual_seed(0)
    layer, x = token_layer(), torch.randn(2, 4, 6)
    torch.compiler.reset()  # what other tests compiled counts against the limit of recompilations
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(x), layer(x))
    torch.testing.assert_close(compiled(2 * x), layer(2 * x))
