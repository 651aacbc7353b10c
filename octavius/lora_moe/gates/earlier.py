"""Settings that were saved before each gate had options of its own, brought into the present form."""

from collections.abc import Mapping
from typing import Any

from octavius.lora_moe.gates import GATES
from octavius.lora_moe.gates.factory import class_path, option_defaults

MOVED = {
    "top_k": "top_k",
    "gate_inputs": "inputs",
    "per_layer": "per_layer",
    "universal": "universal",
    "temperature": "temperature",
    "jitter": "jitter",
    "tasks": "tasks",
    "clusters": "clusters",
}
"""Keys of `lora` that are options of its gate now, by their earlier names."""


def with_gate_options(lora: Any) -> Any:
    """The `lora` section of a saved configuration, with the gate's options where they are now.

    A configuration was saved whole, so options that the gate does not have stand there too, with their defaults.

    >>> with_gate_options({"experts": 2, "gate": "uniform", "top_k": 2})
    {'experts': 2, 'gate': {'class_path': 'octavius.lora_moe.gates.uniform.UniformGate', 'init_args': {}}}
    """
    if not isinstance(lora, Mapping) or not MOVED.keys() & lora.keys():
        return lora
    kind = GATES.get(str(lora.get("gate", "instance")))
    if kind is None:
        return lora
    known = option_defaults(kind)
    options = {new: lora[old] for old, new in MOVED.items() if new in known and lora.get(old) is not None}
    rest = {name: value for name, value in lora.items() if name not in MOVED}
    return {**rest, "gate": {"class_path": class_path(kind), "init_args": options}}


def refuse_earlier_keys(lora: Mapping[str, Any]) -> None:
    """Refuses options of the gate among the keys of `lora`, where people have written them.

    Raises:
        ValueError: the message gives the present keys with the same values.
    """
    if old := [key for key in lora if key in MOVED]:
        options = ", ".join(f"{MOVED[key]}: {lora[key]}" for key in old)
        raise ValueError(
            f"{' and '.join(f'{key} is gate.init_args.{MOVED[key]}' for key in old)} now. Write in YAML lora: "
            f"{{gate: {{init_args: {{{options}}}}}}}, or on the command line "
            + " ".join(f"--model.lora.gate.init_args.{MOVED[key]}={lora[key]}" for key in old)
        )
