"""The instance gate against its definition, and what must not change its weights."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavius.lora_moe import InstanceGate
from octavius.lora_moe.gates.base import GateInputs, GateSize


def slow_weights(gate: InstanceGate, embeddings: torch.Tensor, mask: torch.Tensor) -> list[list[float]]:
    """Mean over real tokens, unit scale, softmax, cut to the top k, renormalise above k = 1: number by number."""
    rows = []
    for sample in range(len(embeddings)):
        real = [token for token in range(mask.shape[1]) if mask[sample, token]]
        mean = [sum(embeddings[sample, t, d].item() for t in real) / len(real) for d in range(gate.width)]
        scale = math.sqrt(sum(m * m for m in mean) / len(mean))
        mean = [m / scale for m in mean]
        logits = [sum(w.item() * m for w, m in zip(row, mean, strict=True)) for row in gate.weight]
        total = sum(math.exp(logit) for logit in logits)
        full = [math.exp(logit) / total for logit in logits]
        kept = sorted(range(gate.experts), key=lambda e: full[e], reverse=True)[: gate.top_k]
        share = sum(full[e] for e in kept) if gate.top_k != 1 else 1.0
        rows.append([full[e] / share if e in kept else 0.0 for e in range(gate.experts)])
    return rows


def probabilities(gate: InstanceGate, embeddings: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return gate.choices(GateInputs(embeddings, mask))[0].probabilities


@settings(max_examples=40, deadline=None)
@given(data=st.data(), samples=st.integers(1, 4), tokens=st.integers(1, 6), experts=st.integers(1, 5))
def test_gate_equals_its_definition(data: st.DataObject, samples: int, tokens: int, experts: int) -> None:
    top_k = data.draw(st.integers(1, experts))
    torch.manual_seed(data.draw(st.integers(0, 999)))
    gate = InstanceGate(GateSize(7, experts), top_k=top_k)
    embeddings, mask = torch.randn(samples, tokens, 7) * 3, torch.rand(samples, tokens) < 0.6
    mask[:, data.draw(st.integers(0, tokens - 1))] = True
    weights = gate(embeddings, mask)
    assert weights.dtype == torch.float32
    expected = torch.tensor(slow_weights(gate, embeddings, mask))
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-5)
    assert ((weights > 0).sum(dim=1) <= top_k).all()
    if top_k > 1:
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(samples))
    dense = InstanceGate(GateSize(7, experts), top_k=None)
    dense.load_state_dict(gate.state_dict())
    torch.testing.assert_close(probabilities(gate, embeddings, mask), dense(embeddings, mask))


@settings(max_examples=30, deadline=None)
@given(left=st.integers(0, 4), right=st.integers(0, 4), seed=st.integers(0, 999), integers=st.booleans())
def test_padding_changes_nothing(left: int, right: int, seed: int, integers: bool) -> None:
    torch.manual_seed(seed)
    gate = InstanceGate(GateSize(8, 4), top_k=2)
    embeddings, mask = torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.long if integers else torch.bool)
    padded = torch.full((3, left + 5 + right, 8), math.nan)
    padded[:, left : left + 5] = embeddings
    padded_mask = torch.zeros(3, left + 5 + right, dtype=mask.dtype)
    padded_mask[:, left : left + 5] = mask
    torch.testing.assert_close(gate(padded, padded_mask), gate(embeddings, mask))


def test_one_expert_has_weight_one() -> None:
    gate = InstanceGate(GateSize(8, 1), top_k=1)
    embeddings, mask = torch.randn(3, 5, 8), torch.ones(3, 5)
    assert torch.equal(gate(embeddings, mask), torch.ones(3, 1))
    assert torch.equal(probabilities(gate, embeddings, mask), torch.ones(3, 1))


def test_bf16_and_autocast_compute_in_fp32() -> None:
    torch.manual_seed(0)
    gate = InstanceGate(GateSize(64, 4), top_k=2)
    embeddings, mask = torch.randn(3, 50, 64).bfloat16(), torch.ones(3, 50)
    expected = gate(embeddings.float(), mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(gate(embeddings, mask), expected)
    rounded = gate.weight.detach().bfloat16()
    gate.bfloat16()
    weights = gate(embeddings, mask)
    gate.float()
    assert torch.equal(gate.weight.detach(), rounded.float())
    assert torch.equal(weights, gate(embeddings.float(), mask))


def test_gradient_reaches_the_kept_experts_alone() -> None:
    torch.manual_seed(0)
    gate = InstanceGate(GateSize(8, 4), top_k=2)
    weights = gate(torch.randn(1, 5, 8), torch.ones(1, 5))
    kept = weights[0] > 0
    weights[0, kept][0].backward()
    assert gate.weight.grad is not None
    touched = gate.weight.grad.abs().sum(dim=1) > 0
    assert torch.equal(touched, kept)


@pytest.mark.parametrize("width", [32, 512, 4096])
def test_start_is_not_saturated_at_any_width(width: int) -> None:
    torch.manual_seed(0)
    gate = InstanceGate(GateSize(width, 4), top_k=2)
    full = probabilities(gate, torch.randn(200, 3, width), torch.ones(200, 3))
    assert 0.28 < full.max(dim=1).values.mean() < 0.6


@pytest.mark.parametrize(
    ("experts", "top_k", "message"),
    [
        (4, 5, "top_k = 5, experts = 4; lower top_k to 4"),
        (4, 0, "top_k should be a whole number of at least 1 .*, found 0"),
        (0, 1, "at least 1 expert, found experts = 0"),
    ],
)
def test_impossible_settings_are_refused(experts: int, top_k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InstanceGate(GateSize(8, experts), top_k=top_k)


def test_a_question_without_a_token_is_named() -> None:
    gate = InstanceGate(GateSize(8, 2), top_k=1)
    mask = torch.ones(4, 5)
    mask[1] = mask[3] = 0
    with pytest.raises(ValueError, match=r"no real question token: \[1, 3\]"):
        gate(torch.randn(4, 5, 8), mask)


@pytest.mark.parametrize(("embeddings", "mask"), [((2, 5, 9), (2, 5)), ((2, 8), (2,)), ((2, 5, 8), (2, 4))])
def test_wrong_shapes_are_refused(embeddings: tuple[int, ...], mask: tuple[int, ...]) -> None:
    gate = InstanceGate(GateSize(8, 2), top_k=1)
    with pytest.raises(ValueError, match=r"expects question embeddings \(samples, tokens, 8\)"):
        gate(torch.randn(embeddings), torch.ones(mask))


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
