"""Every backend against a loop over rows, tokens and experts: values, gradients, types, compilation."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from octavius.lora_moe.backends import BACKENDS, choose, fold

TYPES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.03}
"""How far a result may lie from the loop in float64, relative to its norm."""


@dataclass
class Case:
    """Inputs of a backend; `max_active` weights of a row of the gate are not zero."""

    x: Tensor
    down: Tensor
    up: Tensor
    gate: Tensor
    max_active: int
    mask: Tensor | None

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.x, self.down, self.up, self.gate


def loop(x: Tensor, down: Tensor, up: Tensor, gate: Tensor) -> Tensor:
    """One token and one expert at a time, each a plain LoRA."""
    experts = gate.shape[-1]
    rank = up.shape[1] // experts
    if x.dim() == 2:
        return loop(x[:, None], down, up, gate)[:, 0]
    rows = []
    for row in range(len(x)):
        tokens = []
        for token in range(x.shape[1]):
            weights = gate[row if len(gate) > 1 else 0]
            weights = weights[token] if weights.dim() == 2 else weights
            total = torch.zeros(len(up), dtype=x.dtype)
            for expert in range(experts):
                part = slice(expert * rank, (expert + 1) * rank)
                a = down if len(down) == rank else down[part]
                total = total + weights[expert] * (up[:, part] @ (a @ x[row, token]))
            tokens.append(total)
        rows.append(torch.stack(tokens))
    return torch.stack(rows)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any shape, with a sparse gate of samples, of tokens, or of one row for all."""
    torch.manual_seed(draw(st.integers(0, 999)))
    rows, tokens = draw(st.integers(1, 4)), draw(st.integers(0, 4))
    experts, rank = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    width, width_out = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    kind = draw(st.sampled_from(["samples", "one row", "tokens"] if tokens else ["samples", "one row"]))
    shared, max_active = draw(st.booleans()), draw(st.integers(1, experts))
    x = torch.randn((rows, tokens, width) if tokens else (rows, width), dtype=torch.float64)
    mask = torch.rand(x.shape) < 0.5 if draw(st.booleans()) else None
    down = torch.randn(rank if shared else experts * rank, width, dtype=torch.float64)
    up = torch.randn(width_out, experts * rank, dtype=torch.float64)
    lines = {"samples": (rows,), "one row": (1,), "tokens": (rows, tokens)}[kind]
    gate = torch.zeros(*lines, experts, dtype=torch.float64)
    for line in gate.view(-1, experts):
        line[torch.randperm(experts)[:max_active]] = torch.randn(max_active, dtype=torch.float64)
    return Case(x, down, up, gate, max_active, mask)


def assert_near(found: Tensor, expected: Tensor, tolerance: float) -> None:
    assert found.shape == expected.shape
    assert (found.double() - expected).norm() <= tolerance * (1 + expected.norm())


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=30, deadline=None)
@given(case=cases())
def test_values_and_gradients_equal_the_loop(backend: str, dtype: torch.dtype, case: Case) -> None:
    """The experts and the gate are kept in float32 under bfloat16 inputs, as in training."""
    kinds = [dtype] + [torch.promote_types(dtype, torch.float32)] * 3
    ours = [t.to(kind).requires_grad_() for t, kind in zip(case.tensors(), kinds, strict=True)]
    exact = [t.detach().double().requires_grad_() for t in ours]
    x, down, up, gate = ours
    found = BACKENDS[backend](x, down, up, gate, case.max_active, case.mask)
    expected = loop(exact[0] if case.mask is None else exact[0] * case.mask, *exact[1:])
    with torch.no_grad():
        torch.testing.assert_close(BACKENDS[backend](x, down, up, gate, case.max_active, case.mask), found)
    assert found.dtype == dtype
    assert_near(found, expected, TYPES[dtype])
    grad = torch.randn_like(expected).to(dtype)
    grads = torch.autograd.grad(found, ours, grad)
    oracle = torch.autograd.grad(expected, exact, grad.double())
    for name, mine, right in zip(["x", "down", "up", "gate"], grads, oracle, strict=True):
        if name == "gate" and backend == "gathered":  # those left out get no gradient
            assert mine[case.gate == 0].abs().sum() == 0
            right = right * (case.gate != 0)
        assert_near(mine, right, TYPES[dtype])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shared", [False, True])
def test_autocast_computes_in_bf16_and_keeps_gradients_in_fp32(backend: str, shared: bool) -> None:
    torch.manual_seed(0)
    x, down, up = torch.randn(2, 8, 64), torch.randn(8 if shared else 24, 64) / 8, torch.randn(32, 24)
    tensors = [t.requires_grad_() for t in (x, down, up, torch.rand(2, 3))]
    expected = loop(*(t.detach().double() for t in tensors))
    with torch.autocast("cpu", torch.bfloat16):
        found = BACKENDS[backend](*tensors, 3, None)
    assert found.dtype == torch.bfloat16
    assert_near(found, expected, 0.03)
    grads = torch.autograd.grad(found.float().square().sum(), tensors)
    assert {grad.dtype for grad in grads} == {torch.float32}


@pytest.mark.parametrize(
    "backend",
    ["gathered", *(pytest.param(name, marks=pytest.mark.slow) for name in BACKENDS if name != "gathered")],
)
@pytest.mark.parametrize("shared", [pytest.param(False, marks=pytest.mark.slow), True])
def test_compiles_without_a_graph_break(backend: str, shared: bool) -> None:
    torch.manual_seed(0)
    torch.compiler.reset()
    compiled = torch.compile(BACKENDS[backend], fullgraph=True, dynamic=False, backend="aot_eager")
    down, up = torch.randn(2 if shared else 6, 4), torch.randn(5, 6)
    for gate in (torch.rand(2, 3), torch.rand(2, 7, 3)):
        tensors = [t.requires_grad_() for t in (torch.randn(2, 7, 4), down, up, gate)]
        found, expected = compiled(*tensors, 3, None), BACKENDS[backend](*tensors, 3, None)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(
            torch.autograd.grad(found.square().sum(), tensors),
            torch.autograd.grad(expected.square().sum(), tensors),
        )


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_folded_adds_up_experts(shared: bool) -> None:
    torch.manual_seed(0)
    down, up, gate = torch.randn(2 if shared else 6, 4), torch.randn(5, 6), torch.rand(2, 3)
    found = fold(down, up, gate)
    assert found.shape == (2, 5, 4)
    for row in range(2):
        expected = torch.zeros(5, 4)
        for expert, (b, weight) in enumerate(zip(up.split(2, dim=1), gate[row], strict=True)):
            expected += weight * b @ (down if shared else down[2 * expert : 2 * expert + 2])
        torch.testing.assert_close(found[row], expected)
    torch.testing.assert_close(fold(down, up, gate[0]), found[0])


def test_a_gate_of_tokens_for_all_rows_is_not_mixed_up() -> None:
    torch.manual_seed(0)
    x, down, up, gate = torch.randn(3, 4, 5), torch.randn(6, 5), torch.randn(5, 6), torch.rand(1, 4, 3)
    expected = loop(x, down, up, gate.expand(3, -1, -1))
    for backend in BACKENDS.values():
        torch.testing.assert_close(backend(x, down, up, gate, 3, None), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_tensor_of_experts_by_width_is_kept(backend: str) -> None:
    """Whatever autograd keeps is smaller than tokens by experts by width."""
    torch.manual_seed(0)
    tokens, experts, width = 64, 8, 16
    down, up = (torch.randn(experts * 2, width), torch.randn(width, experts * 2))
    tensors = [t.requires_grad_() for t in (torch.randn(2, tokens, width), down, up)]
    sizes: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        BACKENDS[backend](*tensors, torch.rand(2, experts), 2, None)
    assert max(sizes) <= 2 * tokens * width


@pytest.mark.parametrize(
    ("rows", "tokens", "experts", "max_active", "shared", "expected"),
    [
        (2, 256, 4, 2, False, "gathered"),  # training with long rows: half the experts are half the work
        (8, 64, 32, 2, False, "gathered"),
        (8, 1, 4, 2, False, "concatenated"),  # a step of generation: copies cost more than they save
        (8, 1, 32, 2, False, "concatenated"),
        (1, 1, 32, 2, False, "gathered"),  # one question: two of 32 are copied
        (2, 256, 4, 4, False, "concatenated"),  # nothing can be left out
        (8, 16, 4, 2, True, "concatenated"),
        (2, 256, 4, 2, True, "merged"),
        (2, 256, 1, 1, False, "concatenated"),
    ],
)
def test_the_choice_by_size(
    rows: int, tokens: int, experts: int, max_active: int, shared: bool, expected: str
) -> None:
    down, up = torch.empty((1 if shared else experts) * 32, 576), torch.empty(576, experts * 32)
    assert (
        choose(torch.empty(rows, tokens, 576), down, up, torch.empty(rows, experts), max_active) == expected
    )


def test_in_half_precision_copies_pay_later() -> None:
    down, up, gate = torch.empty(128, 576), torch.empty(576, 128), torch.empty(2, 4)
    x, long = torch.empty(2, 160, 576), torch.empty(2, 320, 576)
    assert choose(x, down, up, gate, 2) == "gathered"
    assert choose(x.bfloat16(), down, up, gate, 2) == "concatenated"
    with torch.autocast("cpu", torch.bfloat16):
        assert choose(x, down, up, gate, 2) == "concatenated"
        assert choose(long, down, up, gate, 2) == "gathered"


def test_experts_are_added_up_in_full_width_only_without_autograd() -> None:
    sizes = torch.empty(1, 1024, 256), torch.empty(1024, 256), torch.empty(256, 1024), torch.empty(1, 32)
    assert choose(*sizes, 32) == "concatenated"
    with torch.no_grad():
        assert choose(*sizes, 32) == "merged"
        assert choose(*sizes, 2) == "gathered"


def test_each_token_by_itself_is_concatenated() -> None:
    sizes = torch.empty(2, 256, 8), torch.empty(8, 8), torch.empty(8, 8), torch.empty(2, 256, 4)
    assert choose(*sizes, 1) == "concatenated"
