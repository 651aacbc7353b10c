"""Conversion of configurations that were saved when the options of gates were keys of `lora` itself."""

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
"""Former keys of `lora` to the names of the gate options that they became."""


def with_gate_options(lora: Any) -> Any:
    """Moves former keys of a saved `lora` section to the options of its gate.

    Configurations were saved with all defaults, so keys for options that the gate does not have are dropped.

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
    """Rejects former keys in a `lora` section that a user wrote.

    Raises:
        ValueError: the message gives the current keys with the same values.
    """
    if old := [key for key in lora if key in MOVED]:
        options = ", ".join(f"{MOVED[key]}: {lora[key]}" for key in old)
        raise ValueError(
            f"{' and '.join(f'{key} is gate.init_args.{MOVED[key]}' for key in old)} now. Write in YAML lora: "
            f"{{gate: {{init_args: {{{options}}}}}}}, or on the command line "
            + " ".join(f"--model.lora.gate.init_args.{MOVED[key]}={lora[key]}" for key in old)
        )
