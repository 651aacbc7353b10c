"""Settings of experts for tests, with options of the gate beside those of the experts."""

from dataclasses import fields
from typing import Any

from octavius.lora_moe import LoRAMoEConfig
from octavius.lora_moe.gates import GATES
from octavius.lora_moe.gates.factory import GateFactory


def lora_moe(gate: str = "instance", **options: Any) -> LoRAMoEConfig:
    """The settings of a gate by its short name; what is no option of `LoRAMoEConfig` is one of the gate."""
    own = {name: options.pop(name) for name in {*options} - {field.name for field in fields(LoRAMoEConfig)}}
    return LoRAMoEConfig(gate=GateFactory(GATES[gate], own) if own else gate, **options)
