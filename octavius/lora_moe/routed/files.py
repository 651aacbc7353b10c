"""The folder of a routed model: settings in JSON and the trained tensors in safetensors, never a pickle.

`model.safetensors` is the name under which the Trainer of transformers looks for weights to resume from. Without a
`config.json` transformers does not take the folder for a complete model. Both files are replaced atomically, settings
last.
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
from octavius.errors import readable
from octavius.files import atomic_write, read_bytes, read_text, write_text
from octavius.lora_moe.build import LoRAMoEConfig
from octavius.lora_moe.gates.earlier import with_gate_options
from octavius.lora_moe.gates.factory import imported_gates
from octavius.suggestions import nearest

SETTINGS, TENSORS = "routed_config.json", "model.safetensors"


@dataclass(frozen=True)
class Saved:
    """Settings of a saved routed model.

    Attributes:
        lora_moe: configuration of experts and gate.
        base: name, class and fingerprint of the base model.
        embeddings: name of the module that embeds the question; None means the model's input embeddings.
        also_trained: names of base parameters that were trained too, such as those of an output layer.
    """

    lora_moe: LoRAMoEConfig
    base: dict[str, str]
    embeddings: str | None
    also_trained: list[str]


def write(folder: Path, saved: Saved, tensors: Mapping[str, Tensor]) -> None:
    """Writes a folder, or replaces an earlier save in it.

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
    if settings.is_file() and read_bytes(settings) != text.encode():
        # If killed in between, the folder must not pair the tensors of one save with the settings of another.
        settings.unlink()
    with atomic_write(folder / TENSORS) as partial:
        save_file(
            {name: part.contiguous().cpu() for name, part in tensors.items()}, partial, {"format": "pt"}
        )
    write_text(settings, text)


def read(folder: Path) -> Saved:
    """Reads the settings of a folder.

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
        said = json.loads(read_text(path))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}; save the model again") from None
    names = [field.name for field in fields(Saved)]
    _check_keys(path, "", said, names, [*names, "octavius"])
    lora = with_gate_options(said["lora_moe"])
    _check_keys(path, "lora_moe.", lora, [], [field.name for field in fields(LoRAMoEConfig)])
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
    """Refuses a gate whose class is not imported yet: loading a folder must not run code that it names."""
    name = gate.get("class_path") if isinstance(gate, Mapping) else gate
    if name is not None and name not in imported_gates():
        raise ValueError(f"lora_moe.gate: there is no gate {name!r}; import the module that defines it first")


def _check_keys(path: Path, prefix: str, said: Any, needed: Sequence[str], known: Sequence[str]) -> None:
    """Checks that a value is a mapping with all needed keys and no unknown ones."""
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
