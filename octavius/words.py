"""Resolves presets and checkpoints in argv, and orders configurations by precedence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_info

from octavius.checkpointing.configuration import Configuration, configuration_of, file_beside
from octavius.configuration.text import parse_config, read_config
from octavius.configuration.trust import TRUST
from octavius.lora_moe.gates.earlier import with_gate_options
from octavius.presets import find_checkpoint, find_config
from octavius.weights import read_checkpoint


@dataclass
class Words:
    """A resolved command line.

    Attributes:
        configs: paths given with `--config`, in order.
        checkpoint: path given with `--ckpt`.
        saved: the configuration of that checkpoint.
        trusted: whether `--trust` is given.
        rest: all other arguments.
    """

    configs: list[Path] = field(default_factory=list)
    checkpoint: Path | None = None
    saved: Configuration | None = None
    trusted: bool = False
    rest: list[str] = field(default_factory=list)

    @property
    def resolved(self) -> list[str]:
        """The arguments for the parser.

        Precedence: command line, then `--config` files (the last one wins), then the checkpoint's own
        configuration, then defaults.
        """
        # `--config` of jsonargparse accepts the text of a configuration as well as a path. Later ones override.
        configs = [*([] if self.saved is None else [self.saved.text]), *map(str, self.configs)]
        checkpoint = [] if self.checkpoint is None else ["--ckpt", str(self.checkpoint)]
        return [*(word for config in configs for word in ("--config", config)), *self.rest, *checkpoint]

    @property
    def untrusted(self) -> Configuration | None:
        """The configuration that may only name classes on the list of trusted ones; None with `--trust`."""
        return None if self.trusted else self.saved


def resolve(words: Sequence[str]) -> Words:
    """Resolves the names of presets and checkpoints, and reads the configuration of the checkpoint.

    Raises:
        ValueError: a preset or checkpoint does not exist or cannot be read.
    """
    found = Words()
    pending = list(words)
    while pending:
        word = pending.pop(0)
        if word == TRUST:
            found.trusted = True
            continue
        flag, equals, value = word.partition("=")
        if flag not in ("--config", "-c", "--ckpt", "--ckpt_path"):
            found.rest.append(word)
            continue
        value = value if equals else (pending.pop(0) if pending else "")
        if flag in ("--config", "-c"):
            found.configs.append(find_config(value))
            read_config(found.configs[-1])
        else:
            found.checkpoint = find_checkpoint(value)
    if found.checkpoint is not None:
        found.saved = saved_config(found.checkpoint, read_checkpoint(found.checkpoint))
        if found.saved is not None:
            parse_config(found.saved.text, found.saved.source)
        elif not found.configs:
            raise ValueError(f"{missing_config(found.checkpoint)}, or name one with --config")
    return found


def saved_config(path: Path, checkpoint: Mapping[str, Any]) -> Configuration | None:
    """The configuration of a checkpoint; prints a note if the file next to it was edited or belongs to another one.

    Args:
        path: path of the checkpoint.
        checkpoint: its content, from `read_checkpoint`.

    Raises:
        ValueError: the configuration file next to it is not text.
    """
    found = configuration_of(path, checkpoint)
    if found is not None and found.note:
        _say_once(found.note)
    return None if found is None else replace(found, text=by_todays_keys(found))


def by_todays_keys(saved: Configuration) -> str:
    """The text of a saved configuration, where one of an earlier version is written by the keys of this one.

    Raises:
        ValueError: it is not YAML.
    """
    content = parse_config(saved.text, saved.source)
    model = with_model_keys(content.get("model"))
    return saved.text if model == content.get("model") else yaml.safe_dump({**content, "model": model})


def with_model_keys(model: Any) -> Any:
    """The same for the section `model`."""
    options = model.get("init_args") if isinstance(model, dict) else None
    if not isinstance(options, dict) or "lora" not in options:
        return model
    return {**model, "init_args": {**options, "lora": with_gate_options(options["lora"])}}


@lru_cache(64)
def _say_once(text: str) -> None:
    rank_zero_info(text)


def missing_config(checkpoint: Path) -> str:
    """Error message for a checkpoint without a configuration."""
    return (
        f"no configuration beside {checkpoint}, which was saved by an earlier version: expected "
        f"{file_beside(checkpoint)}, which `octavius fit` wrote; copy it too"
    )


def called(config: str) -> str:
    """The name of a configuration in messages: its file name, or "the checkpoint's own" if given as text."""
    return "the checkpoint's own" if "\n" in config else Path(config).name


def shown(path: Path) -> Path:
    """A path relative to the current folder if it is inside that, else unchanged."""
    return path.resolve().relative_to(Path.cwd()) if path.resolve().is_relative_to(Path.cwd()) else path


def named(checkpoint: Path) -> Path:
    """The shortest name that `find_checkpoint` resolves to this checkpoint."""
    path = shown(checkpoint)
    return Path(path.name) if path.parent == Path("checkpoints") else path
