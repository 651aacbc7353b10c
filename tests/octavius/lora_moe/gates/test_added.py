"""The gate to which experts were added: what is new goes to them, all else stays where it was."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from octavius.lora_moe.build import gate_of
from octavius.lora_moe.gates.added import SEEN, AddedGate
from octavius.lora_moe.gates.base import GateSize
from tests.octavius.settings import lora_moe

WIDTH = 16
TABLE = torch.randn(300, WIDTH, generator=torch.Generator().manual_seed(0))
OLD, EARLIER, NEW = ["what is it", "name the thing"], ["is it red"], ["where does he go", "how many dogs"]


def embedded(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    rows = [TABLE[[sum(map(ord, word)) % 300 for word in text.split()]] for text in texts]
    mask = [torch.ones(len(row), dtype=torch.bool) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(rows, True), torch.nn.utils.rnn.pad_sequence(mask, True)


def pool(texts: Sequence[str]) -> Tensor:
    rows, mask = embedded(texts)
    return F.rms_norm((rows * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), (WIDTH,))


def gate_with(added: Sequence[int], experts: int | list[int] = 4, **options: Any) -> AddedGate:
    torch.manual_seed(0)
    layers = 0 if isinstance(experts, int) else len(experts)
    gate = gate_of(lora_moe(experts=experts, added=[*added], **options), GateSize(WIDTH, experts, layers))
    assert isinstance(gate, AddedGate)
    return gate


@pytest.mark.parametrize("name", ["instance", "dense", "uniform", "published"])
def test_new_questions_go_to_the_added_experts_and_others_where_they_went(name: str) -> None:
    gate = gate_with([1], gate=name)
    before = gate.before(*embedded([*OLD, *NEW]))
    assert torch.equal(gate(*embedded([*OLD, *NEW])), F.pad(before, (0, 1)))  # not fitted yet
    gate.remember(OLD, pool)
    said = gate.fit_questions(NEW, [0, 0], pool)
    assert (
        said == "100.0% of 18 training questions go to the added experts; 18 earlier ones keep their routing"
    )
    found = gate(*embedded([*OLD, *NEW]))
    assert torch.equal(found[:2], F.pad(before[:2], (0, 1)))
    assert torch.equal(found[2:], torch.tensor([[0.0, 0.0, 0.0, 1.0]] * 2))


def test_two_added_experts_are_weighted_by_a_layer_that_learns() -> None:
    gate = gate_with([2], experts=[5, 4])
    gate.remember(OLD, pool)
    gate.fit_questions(NEW, [0, 0], pool)
    found = gate(*embedded([*OLD, *NEW]))
    assert [part.shape[1] for part in found] == [5, 4]
    for part in found:
        assert part[:2, -2:].abs().max() == 0
        assert part[2:, :-2].abs().max() == 0
        torch.testing.assert_close(part.sum(1), torch.ones(4))
    found[0][2, -1].backward()
    assert gate.weight is not None
    assert gate.weight.grad is not None
    assert gate.weight.grad.abs().max() > 0


def test_questions_of_all_earlier_trainings_are_kept() -> None:
    first = gate_with([1])
    first.remember(OLD, pool)
    first.fit_questions(EARLIER, [0], pool)
    second = gate_with([1, 1], experts=5)
    second.before.load_state_dict(first.state_dict())
    second.remember(EARLIER, pool)
    assert len(second.kept) == 27
    second.fit_questions(NEW, [0, 0], pool)
    before = first(*embedded([*OLD, *EARLIER]))
    assert before[:, -1].tolist() == [0.0, 0.0, 1.0]
    assert torch.equal(second(*embedded([*OLD, *EARLIER])), F.pad(before, (0, 1)))
    assert second(*embedded(NEW))[:, -1].tolist() == [1.0, 1.0]
    second.remember([f"{number} things" for number in range(5 * SEEN)], pool)
    assert len(second.kept) <= SEEN


def test_what_cannot_be_told_is_refused() -> None:
    gate = gate_with([1])
    with pytest.raises(
        ValueError, match="keeps no questions of earlier trainings: add experts to a checkpoint by"
    ):
        gate.fit_questions(NEW, [0, 0], pool)
    gate.remember(OLD, pool)
    with pytest.raises(
        ValueError, match="none of 18 training questions can be distinguished from those of earlier"
    ):
        gate.fit_questions(OLD, [0, 0], pool)
    assert not gate.get_buffer("fitted")
    with pytest.raises(ValueError, match=r"names 4 experts that were added, and lora\.experts is 4"):
        gate_with([4])
    with pytest.raises(ValueError, match="cannot be added under TokenGate"):
        gate_with([1], gate="token")
