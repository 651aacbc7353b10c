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


EARLIER_GATES = ("source", "instance", "dense", "token", "individual", "uniform", "cluster", "published")
"""Gates that configurations of earlier versions may name; later ones are not added here."""

EARLIER_LORA: dict[str, Any] = {
    "experts": 3,
    "rank": 2,
    "alpha": 32.0,
    "dropout": 0.1,
    "top_k": 2,
    "targets": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "gate": "instance",
    "gate_inputs": [],
    "per_layer": False,
    "universal": False,
    "temperature": 1.0,
    "jitter": 0.0,
    "tasks": None,
    "clusters": 16,
    "shared_a": False,
    "scale": "peft",
    "init": "peft",
    "backend": "auto",
    "losses": {},
}
"""`lora` as every earlier version saved it."""
