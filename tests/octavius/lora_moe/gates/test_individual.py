"""The individual gate: an expert for each task, and all of them for unseen tasks."""

import pytest
import torch

from octavius.lora_moe.gates.base import GateInputs, GateSize
from octavius.lora_moe.gates.individual import IndividualGate


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
