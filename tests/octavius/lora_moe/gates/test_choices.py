"""The token, individual and uniform gates, the universal expert, and the noise, each against its definition."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavius.lora_moe import InstanceGate, LoRAMoELinear, Routing
from octavius.lora_moe.gates.base import GateInputs, GateOutput, GateSize, TopKRouter
from octavius.lora_moe.gates.individual import IndividualGate
from octavius.lora_moe.gates.token import TokenGate
from octavius.lora_moe.gates.uniform import UniformGate


def slow_choice(logits: list[float], cut: TopKRouter) -> list[float]:
    """The weights of one sample's or token's logits, by the words of `TopKRouter`."""
    powers = [math.exp(logit / cut.temperature) for logit in logits]
    full = [power / sum(powers) for power in powers]
    top_k = len(logits) if cut.top_k is None else cut.top_k
    kept = sorted(range(len(logits)), key=lambda e: full[e], reverse=True)[:top_k]
    total = sum(full[e] for e in kept) if top_k > 1 and not cut.universal else 1.0
    weights = [full[e] / total if e in kept else 0.0 for e in range(len(logits))]
    return [*weights, 1 - sum(weights)] if cut.universal else weights


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
    cut, experts = chosen
    torch.manual_seed(seed)
    gate = TokenGate(
        GateSize(5, experts), top_k=cut.top_k or 1, universal=cut.universal, temperature=cut.temperature
    )
    x = torch.randn((2, tokens, 5) if tokens else (2, 5)) * 4
    weights, probabilities = gate(x)
    assert weights.shape == (*x.shape[:-1], experts)
    assert probabilities.shape == (*x.shape[:-1], experts - cut.universal)
    for found, token in zip(weights.reshape(-1, experts), x.reshape(-1, 5), strict=True):
        scale = math.sqrt(sum(float(value) ** 2 for value in token) / 5)
        logits = [
            sum(float(w * v) for w, v in zip(row, token, strict=True)) / scale for row in gate.weight.detach()
        ]
        torch.testing.assert_close(found, torch.tensor(slow_choice(logits, cut)), rtol=1e-4, atol=1e-5)
    if cut.universal:
        torch.testing.assert_close(weights.sum(-1), torch.ones(x.shape[:-1]))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), counts=st.lists(st.integers(2, 5), min_size=1, max_size=3))
def test_a_gate_for_each_depth_is_as_many_gates(seed: int, counts: list[int]) -> None:
    torch.manual_seed(seed)
    gate = InstanceGate(GateSize(6, counts), top_k=2, temperature=0.7)
    embeddings, mask = torch.randn(3, 4, 6), torch.ones(3, 4)
    start = 0
    for count, found in zip(counts, gate(embeddings, mask), strict=True):
        alone = InstanceGate(GateSize(6, count), top_k=2, temperature=0.7)
        alone.weight.data = gate.weight.data[start : start + count]
        torch.testing.assert_close(found, alone(embeddings, mask))
        start += count
    assert start == len(gate.weight)


def test_modalities_and_media_add_to_the_logits() -> None:
    torch.manual_seed(0)
    gate = InstanceGate(GateSize(6, 4, modalities=2), top_k=None, inputs=("modality", "media"))
    assert gate.modality_embeddings is not None
    assert gate.media_weight is not None
    torch.nn.init.normal_(gate.modality_embeddings)
    embeddings, mask, media = torch.randn(3, 4, 6), torch.ones(3, 4), torch.randn(3, 6)
    media[2] = 0
    brings = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    found = gate(embeddings, mask, modalities=brings, media=media)
    for row in range(3):
        question = embeddings[row].mean(0)
        question = question / question.square().mean().sqrt()
        for own, here in zip(gate.modality_embeddings, brings[row], strict=True):
            question = question + here * own
        logits = gate.weight @ question
        if row < 2:
            logits = logits + gate.media_weight @ (media[row] / media[row].square().mean().sqrt())
        torch.testing.assert_close(found[row], logits.softmax(0))
    found[0, 0].backward()
    grads = (gate.weight.grad, gate.modality_embeddings.grad, gate.media_weight.grad)
    assert all(grad is not None and grad.abs().max() > 0 for grad in grads)
    with pytest.raises(ValueError, match=r"give it `modalities` \(B, M\)"):
        gate(embeddings, mask, media=media)
    with pytest.raises(ValueError, match=r"give it `media` \(B, D\)"):
        gate(embeddings, mask, modalities=brings)


def test_a_lone_expert_still_teaches_its_gate() -> None:
    torch.manual_seed(0)
    gate = InstanceGate(GateSize(8, 4), top_k=1)
    weights = gate(torch.randn(2, 5, 8), torch.ones(2, 5))
    assert ((weights > 0).sum(1) == 1).all()
    weights.sum().backward()
    assert gate.weight.grad is not None
    assert gate.weight.grad.abs().sum(1).min() > 0  # through the softmax, of those not chosen too


def test_noise_is_of_training_alone_bounded_and_seeded() -> None:
    torch.manual_seed(0)
    inputs = torch.ones(50, 40)
    noisy = TopKRouter(1, jitter=0.1).noisy(inputs)
    assert 0.9 <= noisy.min() < 0.91
    assert 1.09 < noisy.max() <= 1.1
    for gate, x in (
        (InstanceGate(GateSize(8, 4), top_k=2, jitter=0.3), [torch.randn(2, 3, 8), torch.ones(2, 3)]),
    ):
        torch.manual_seed(1)
        first = gate(*x)
        assert not torch.equal(gate(*x), first)
        torch.manual_seed(1)
        assert torch.equal(gate(*x), first)
        gate.eval()
        still = copy.deepcopy(gate)
        still.cut = TopKRouter(2)
        assert torch.equal(gate(*x), still.train()(*x))
    token, x3 = TokenGate(GateSize(8, 4), top_k=2, jitter=0.3), torch.randn(2, 3, 8)
    assert not torch.equal(token(x3).weights, token(x3).weights)
    token.eval()
    assert torch.equal(token(x3).weights, token(x3).weights)


def test_individual_gate_goes_by_name_and_unseen_tasks_take_all() -> None:
    gate = IndividualGate(GateSize(8, 3), tasks=["vqa", "detection", "captioning"])
    asked = GateInputs(torch.randn(2, 1, 4), torch.ones(2, 1), ["captioning", "vqa"])
    expected = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    assert torch.equal(gate.choices(asked)[0].weights, expected)
    unseen = asked._replace(tasks=["vqa", "rhyming"])
    with pytest.raises(
        ValueError, match=r"no expert for the tasks \['rhyming'\]: it has \['vqa', 'detection'"
    ):
        gate.choices(unseen)
    found = gate.eval().choices(unseen)[0].weights
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]]))
    with pytest.raises(ValueError, match="expected one for each of 2 samples, found none"):
        gate(torch.randn(2, 1, 4), torch.ones(2, 1))


@pytest.mark.parametrize("tasks", [[], "vqa", ["vqa", "vqa"]])
def test_individual_gate_wants_each_name_once(tasks: list[str]) -> None:
    with pytest.raises(ValueError, match="an expert for each task, named once each in `tasks`"):
        IndividualGate(GateSize(8, len(tasks)), tasks=tasks)


def test_uniform_gate_gives_all_the_same() -> None:
    weights = UniformGate(GateSize(8, 4))(torch.randn(3, 2, 8), torch.ones(3, 2))
    assert torch.equal(weights, torch.full((3, 4), 0.25))
    both = UniformGate(GateSize(8, [2, 5]))(torch.randn(3, 2, 8), torch.ones(3, 2))
    assert [table.shape for table in both] == [(3, 2), (3, 5)]


@pytest.mark.parametrize(
    ("cut", "experts", "message"),
    [
        (TopKRouter(3, universal=True), 4, "expected at least top_k [+] 2 experts"),
        (TopKRouter(None, universal=True), 4, "and a gate that cuts"),
        (TopKRouter(1, temperature=0), 4, "temperature should be a number above 0 .*, found 0"),
        (TopKRouter(1, jitter=1.0), 4, "jitter should be a number of at least 0 and below 1, found 1"),
        (TopKRouter(5), 4, "more experts than there are: top_k = 5, experts = 4"),
    ],
)
def test_impossible_cuts_are_refused(cut: TopKRouter, experts: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cut.routed(experts)


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


@pytest.mark.parametrize("backend", [pytest.param("eager", marks=pytest.mark.slow), "aot_eager"])
def test_a_layers_own_gate_compiles_without_a_graph_break(backend: str) -> None:
    torch.manual_seed(0)
    layer, x = token_layer(), torch.randn(2, 4, 6)
    torch.compiler.reset()  # what other tests compiled counts against the limit of recompilations
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(x), layer(x))
    torch.testing.assert_close(compiled(2 * x), layer(2 * x))
