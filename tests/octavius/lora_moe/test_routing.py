"""Gate weights set, restored, copied and repeated: what a layer may read, and when."""

import copy
import pickle
from contextlib import suppress

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from octavius.lora_moe import Routing
from octavius.lora_moe.gates.base import GateOutput


def test_reading_unset_weights_says_what_to_do() -> None:
    routing = Routing()
    with pytest.raises(RuntimeError, match=r"no gate weights are set.*routing\.use\(weights\)"):
        _ = routing.weights
    with pytest.raises(RuntimeError, match="no gate weights are set"):
        routing.for_rows(3)


def test_set() -> None:
    routing, weights = Routing(), torch.rand(2, 3)
    routing.set(weights)
    assert routing.weights is weights
    assert repr(routing) == "Routing((2, 3))"


def test_use_restores_what_was_there_also_after_an_error() -> None:
    routing, outer, inner = Routing(), torch.rand(2, 3), torch.rand(4, 3)
    context = routing.use(outer)
    with context:
        assert routing.weights is outer
        with suppress(KeyError), routing.use(inner):
            assert routing.weights is inner
            raise KeyError
        assert routing.weights is outer
        with context:
            assert routing.weights is outer
        assert routing.weights is outer
    assert repr(routing) == "Routing(unset)"


@given(samples=st.integers(1, 5), beams=st.integers(1, 4), experts=st.integers(1, 4))
def test_rows_of_a_sample_follow_each_other(samples: int, beams: int, experts: int) -> None:
    routing, weights = Routing(), torch.rand(samples, experts)
    with routing.use(weights):
        rows = routing.for_rows(samples * beams)
    assert rows.shape == (samples * beams, experts)
    for row in range(samples * beams):
        assert torch.equal(rows[row], weights[row // beams])


@pytest.mark.parametrize("rows", [1, 2, 4, 7])
def test_other_numbers_of_rows_are_refused_with_both_counts(rows: int) -> None:
    routing = Routing()
    routing.set(torch.rand(3, 2))
    with pytest.raises(ValueError, match=rf"set for 3 samples, but a LoRA-MoE layer got {rows} rows"):
        routing.for_rows(rows)


@pytest.mark.parametrize(
    "weights", [torch.rand(3), torch.rand(2, 3, 1, 1), torch.ones(2, 3).long(), torch.rand(0, 3)]
)
def test_weights_of_another_shape_or_type_are_refused(weights: torch.Tensor) -> None:
    routing = Routing()
    with pytest.raises(ValueError, match=r"floating point of shape \(samples, experts\), found"):
        routing.set(weights)
    with pytest.raises(ValueError, match=r"floating point of shape \(samples, experts\), found"):
        routing.use(weights)


def test_copies_are_unset() -> None:
    routing = Routing()
    routing.set(torch.rand(2, 3, requires_grad=True) * 2)  # not a leaf: torch refuses to copy it
    assert repr(copy.deepcopy(routing)) == "Routing(unset)"
    assert repr(pickle.loads(pickle.dumps(routing))) == "Routing(unset)"
    assert repr(routing) == "Routing((2, 3))"


def test_recomputation_reads_the_weights_of_its_own_forward() -> None:
    routing = Routing()
    seen: list[float] = []

    def region(x: torch.Tensor) -> torch.Tensor:
        seen.append(routing.weights[0, 0].item())
        return (x * routing.weights[0, 0]).sin()

    x = torch.tensor([0.5], requires_grad=True)
    outputs = []
    for value in (2.0, 3.0):
        with routing.use(torch.tensor([[value]])):
            outputs.append(checkpoint(region, x, use_reentrant=False, context_fn=routing.checkpoint_context))
    routing.set(torch.tensor([[7.0]]))
    for output, value in zip(outputs, (2.0, 3.0), strict=True):
        for _ in range(2):  # a second backward over a kept graph re-runs the region again
            (grad,) = torch.autograd.grad(output, x, retain_graph=True)
            assert grad.item() == pytest.approx(value * torch.tensor(0.5 * value).cos().item())
    assert seen == [2.0, 3.0, 2.0, 2.0, 3.0, 3.0]
    assert routing.weights.item() == 7.0


def test_parts_are_set_restored_and_cleared_with_the_whole() -> None:
    routing = Routing()
    first, second = routing.part(), routing.part()
    assert routing.parts == [first, second]
    shared, own = torch.rand(2, 3), [torch.rand(2, 2), torch.rand(2, 4)]
    routing.set(shared)
    assert first.weights is second.weights is routing.weights is shared
    with routing.use(own):
        assert first.weights is own[0]
        assert second.for_rows(4).equal(own[1].repeat_interleave(2, 0))
        assert repr(routing) == "Routing((2, 2), (2, 4))"
        with pytest.raises(RuntimeError, match="no gate weights are set"):  # no one table holds for all
            _ = routing.weights
        _, again = routing.checkpoint_context()
    assert first.weights is shared
    with again:
        assert second.weights is own[1]


@pytest.mark.parametrize("count", [1, 3])
def test_weights_for_another_number_of_parts_are_refused(count: int) -> None:
    routing = Routing()
    routing.part(), routing.part()
    with pytest.raises(ValueError, match=f"given for {count} parts of a model that has 2"):
        routing.set([torch.rand(2, 3)] * count)
    with pytest.raises(ValueError, match="given for 1 parts of a model that has 0"):
        Routing().set([torch.rand(2, 3)])


def test_copies_keep_their_own_parts_and_forget_what_was_noted() -> None:
    routing = Routing()
    part = routing.part()
    part.note(GateOutput(torch.rand(2, 3, requires_grad=True) * 2, torch.rand(2, 3)))
    copied, copied_part = copy.deepcopy((routing, part))
    assert copied.parts == [copied_part]
    assert copied_part is not part
    assert copied.noted() == []
    assert len(routing.noted()) == 1


def test_the_first_pass_stays_noted_inside_its_context_and_the_last_outside() -> None:
    routing = Routing()
    part, choices = routing.part(), [GateOutput(torch.rand(1, 2), torch.rand(1, 2)) for _ in range(3)]
    part.note(choices[0])
    with routing.first_pass():
        assert routing.noted() == []
        part.note(choices[1])
        part.note(choices[2])
        assert routing.noted() == [choices[1]]
    part.note(choices[2])
    assert routing.noted() == [choices[2]]


@given(samples=st.integers(1, 4), tokens=st.integers(1, 4), beams=st.integers(1, 3))
def test_weights_of_tokens_follow_their_rows_and_fit_only_their_tokens(
    samples: int, tokens: int, beams: int
) -> None:
    routing, weights = Routing(), torch.rand(samples, tokens, 2)
    with routing.use(weights):
        rows = routing.for_rows(samples * beams, tokens)
        for row in range(samples * beams):
            assert torch.equal(rows[row], weights[row // beams])
        with pytest.raises(
            ValueError, match=f"set for {tokens} tokens of each row.* got {tokens + 1} tokens"
        ):
            routing.for_rows(samples, tokens + 1)


@pytest.mark.parametrize(
    ("weights", "given", "expected"),
    [
        (torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]), None, 2),
        (torch.tensor([[0.0, 0.0, -1.0]]), None, 1),
        (torch.zeros(2, 3), None, 1),
        (torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]), None, 1),
        (torch.tensor([[0.0, 1.0, 0.0]], requires_grad=True), None, 3),  # zeros may want a gradient
        (torch.tensor([[0.0, 1.0, 0.0]], requires_grad=True), 1, 1),
        (torch.tensor([[0.0, 1.0, 0.0]]), 2, 2),
        (torch.rand(2, 3), 5, 3),
        (torch.zeros(2, 3, device="meta"), None, 3),
        (torch.zeros(2, 3, device="meta"), 2, 2),
    ],
)
def test_how_many_weights_count(weights: torch.Tensor, given: int | None, expected: int) -> None:
    routing = Routing()
    part = routing.part()
    with routing.use(weights, given):
        assert routing.max_active == part.max_active == expected
        state = routing.checkpoint_context()[1]
        with routing.use(torch.rand(1, 7)):
            assert part.max_active == 7
            with state:
                assert part.max_active == expected
    with pytest.raises(RuntimeError, match="no gate weights are set"):
        _ = routing.max_active


def test_more_weights_than_the_bound_are_refused() -> None:
    with pytest.raises(ValueError, match="max_active is 1, but 2 experts of a sample have a weight"):
        Routing().set(torch.tensor([[0.5, 0.5, 0.0]]), 1)
    with pytest.raises(ValueError, match="at least 1 expert is active for each sample, found max_active = 0"):
        Routing().set(torch.rand(1, 3), 0)
