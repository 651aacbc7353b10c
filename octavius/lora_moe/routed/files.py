"""The folder of a routed model: settings in JSON and the trained tensors in safetensors, never a pickle.

`model.safetensors` is the name under which trainers of transformers look for weights to resume from; a folder without
`config.json` is no model of its own to transformers. Either file is replaced atomically, settings last.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from json import dumps
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from safetensors.torch import save_file
from torch import Tensor

from octavius import __version__
from octavius.errors import nearest, readable
from octavius.files import replacing, write_text
from octavius.lora_moe.attach import LoRAMoE
from octavius.lora_moe.gates.earlier import with_gate_options
from octavius.lora_moe.gates.factory import imported_gates

SETTINGS, TENSORS = "routed_config.json", "model.safetensors"


@dataclass(frozen=True)
class Saved:
    """What a folder says of itself.

    Attributes:
        lora_moe: the settings of experts and gate.
        base: name, class and fingerprint of the base model.
        embeddings: name of the module that embeds the question; None is the model's own input embeddings.
        also_trained: tensors of the base that were trained too, such as an output layer.
    """

    lora_moe: LoRAMoE
    base: dict[str, str]
    embeddings: str | None
    also_trained: list[str]


def write(folder: Path, saved: Saved, tensors: Mapping[str, Tensor]) -> None:
    """Writes a folder, or replaces what an earlier save left there.

    Raises:
        ValueError: the folder holds a whole model, whose weights would be lost.
    """
    if (folder / "config.json").exists():
        raise ValueError(
            f"{folder} holds a model of its own (config.json), whose weights would be replaced by the experts alone: "
            "name another folder"
        )
    said = {**asdict(saved), "octavius": __version__}
    said["lora_moe"]["gate"] = saved.lora_moe.gate_factory.settings
    text = dumps(said, indent=2, ensure_ascii=False) + "\n"
    settings = folder / SETTINGS
    if settings.is_file() and settings.read_bytes() != text.encode():
        settings.unlink()  # a kill in between must not leave the tensors of one save beside settings of another
    with replacing(folder / TENSORS) as partial:
        save_file(
            {name: part.contiguous().cpu() for name, part in tensors.items()}, partial, {"format": "pt"}
        )
    write_text(settings, text)


def read(folder: Path) -> Saved:
    """What a folder says of itself.

    Raises:
        ValueError: files are missing or damaged, or settings are unknown or of another type.
    """
    if missing := [name for name in (SETTINGS, TENSORS) if not (folder / name).is_file()]:
        raise ValueError(
            f"{folder} has no {' and no '.join(missing)}: expected a folder that `save_pretrained` of a routed model "
            "wrote to its end"
        )
    path = folder / SETTINGS
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}; save the model again") from None
    names = [field.name for field in fields(Saved)]
    _check_keys(path, "", said, names, [*names, "octavius"])
    lora = with_gate_options(said["lora_moe"])
    _check_keys(path, "lora_moe.", lora, [], [field.name for field in fields(LoRAMoE)])
    _check_keys(path, "base.", said["base"], ["fingerprint"], ["name", "class", "fingerprint"])
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Saved, "saved")
    try:
        if nulls := [key for key, value in lora.items() if value is None]:
            raise ValueError(f"{nulls[0]} has no value")
        _check_gate(lora.get("gate"))
        own = {**{name: said[name] for name in names}, "lora_moe": lora}
        found = parser.instantiate(parser.parse_object({"saved": own}))
    except Exception as error:  # jsonargparse raises several kinds for wrong types
        raise ValueError(f"{path}: {readable(str(error)).removeprefix('saved.')}") from None
    saved: Saved = found.saved
    return saved


def _check_gate(gate: Any) -> None:
    """Refuses a gate whose class is not imported: a folder that comes from elsewhere must not import code."""
    name = gate.get("class_path") if isinstance(gate, Mapping) else gate
    if name is not None and name not in imported_gates():
        raise ValueError(f"lora_moe.gate: there is no gate {name!r}; import the module that defines it first")


def _check_keys(path: Path, prefix: str, said: Any, needed: Sequence[str], known: Sequence[str]) -> None:
    """Refuses what is no table, lacks a key, or has one that nothing would read."""
    if not isinstance(said, dict):
        raise ValueError(f"{path}: expected keys and values at {prefix or 'the top'}, found {said!r:.60}")
    if missing := [key for key in needed if key not in said]:
        raise ValueError(f"{path} has no {prefix}{missing[0]}; save the model again")
    for key in said:
        if key not in known:
            raise ValueError(
                f"{path} has the setting {prefix}{key}, which is not known to Octavius {__version__}"
                f"{nearest(key, known) or '; a later version may have written it'}"
            )
