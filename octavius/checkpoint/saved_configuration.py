"""The configuration of a checkpoint as commands use it: with a note if it was edited, in the present names."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_info

from octavius.checkpoint_format.configuration import Configuration, configuration_of, yaml_path
from octavius.checkpoint_format.earlier import current_classes
from octavius.configuration.text import parse_config
from octavius.lora_moe.gates.earlier import with_gate_options


def saved_config(path: Path, checkpoint: Mapping[str, Any]) -> Configuration | None:
    """The configuration of a checkpoint; prints a note if the file next to it was edited or belongs to another one.

    Args:
        path: path of the checkpoint.
        checkpoint: its content, from `read_checkpoint`.

    Raises:
        ValueError: the configuration file next to it is not valid UTF-8.
    """
    found = configuration_of(path, checkpoint)
    if found is not None and found.note:
        _say_once(found.note)
    return None if found is None else replace(found, text=with_current_names(found))


def with_current_names(saved: Configuration) -> str:
    """The text of a saved configuration; that of an earlier version with the present names of classes and keys.

    Raises:
        ValueError: it is not YAML.
    """
    content = parse_config(saved.text, saved.source)
    current = {name: current_section(section) for name, section in content.items()}
    return saved.text if current == content else yaml.safe_dump(current)


def current_section(section: Any) -> Any:
    """A top-level section of a saved configuration, such as `model`, with the present names of classes and keys."""
    section = current_classes(section)
    options = section.get("init_args") if isinstance(section, dict) else None
    if not isinstance(options, dict) or "lora" not in options:
        return section
    return {**section, "init_args": {**options, "lora": with_gate_options(options["lora"])}}


@lru_cache(64)
def _say_once(text: str) -> None:
    rank_zero_info(text)


def missing_config(checkpoint: Path) -> str:
    """Error message for a checkpoint without a configuration."""
    return (
        f"no configuration next to {checkpoint}, which was saved by an earlier version: expected "
        f"{yaml_path(checkpoint)}, which `octavius fit` wrote; copy it too"
    )
