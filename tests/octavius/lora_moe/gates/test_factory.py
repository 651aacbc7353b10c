"""Gates with their options: from a name, a class or a partial of one, and back to a configuration."""

from functools import partial
from typing import Any

import pytest
import torch

from octavius.lora_moe import InstanceGate
from octavius.lora_moe.gates import GATES
from octavius.lora_moe.gates.base import GateSize
from octavius.lora_moe.gates.factory import GateFactory, class_path, factory_of, option_defaults


@pytest.mark.parametrize("name", GATES)
def test_a_name_and_its_class_make_the_same_factory_with_all_defaults(name: str) -> None:
    factory = factory_of(name)
    assert factory == factory_of(GATES[name]) == factory_of(factory)
    assert set(factory.options) <= set(option_defaults(GATES[name]))
    assert factory.settings == {"class_path": class_path(GATES[name]), "init_args": dict(factory.options)}


def test_options_of_a_partial_reach_the_gate() -> None:
    factory = factory_of(partial(InstanceGate, top_k=1, temperature=0.5))
    assert (factory.options["top_k"], factory.options["jitter"]) == (1, 0.0)
    gate = factory(GateSize(8, 4))
    assert isinstance(gate, InstanceGate)
    assert ((gate(torch.randn(3, 2, 8), torch.ones(3, 2)) > 0).sum(1) == 1).all()
    assert GateFactory(InstanceGate, {"inputs": ["media"]}).options["inputs"] == ("media",)


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ("instnace", "no gate 'instnace' [(]did you mean 'instance'"),
        (torch.nn.Linear, "expected a gate's short name"),
        (3, "functools.partial of its class with options, found 3"),
        (partial(InstanceGate, top_p=1), "InstanceGate has no option 'top_p' [(]did you mean 'top_k'"),
    ],
)
def test_what_is_no_gate_is_refused(gate: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        factory_of(gate)
