"""Looks up the names in a command line, and puts configurations into their order of precedence."""

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
    """Words of a command line.

    Attributes:
        configs: of `--config`, in their order.
        checkpoint: of `--ckpt`.
        saved: the configuration of that.
        trusted: whether `--trust` is among them.
        rest: all others.
    """

    configs: list[Path] = field(default_factory=list)
    checkpoint: Path | None = None
    saved: Configuration | None = None
    trusted: bool = False
    rest: list[str] = field(default_factory=list)

    @property
    def resolved(self) -> list[str]:
        """What the parser is given.

        Precedence: command line, then `--config` files (the last wins), then the checkpoint's own, then defaults.
        """
        # The parser takes the text of a configuration in the place of a file's name.
        configs = [*([] if self.saved is None else [self.saved.text]), *map(str, self.configs)]
        checkpoint = [] if self.checkpoint is None else ["--ckpt", str(self.checkpoint)]
        return [*(word for config in configs for word in ("--config", config)), *self.rest, *checkpoint]

    @property
    def untrusted(self) -> Configuration | None:
        """The configuration that may name listed classes only."""
        return None if self.trusted else self.saved


def resolve(words: Sequence[str]) -> Words:
    """Looks up presets and checkpoints, and the configuration of a checkpoint.

    Raises:
        ValueError: a preset or checkpoint that is not there; a file of either kind that cannot be read.
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
    """The configuration of a checkpoint; says so where the file beside it was changed, or is of another one.

    Args:
        path: of the checkpoint.
        checkpoint: what `read_checkpoint` gives.

    Raises:
        ValueError: the file beside it is no text.
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
    """What to say when there is none."""
    return (
        f"no configuration beside {checkpoint}, which was saved by an earlier version: expected "
        f"{file_beside(checkpoint)}, which `octavius fit` wrote; copy it too"
    )


def called(config: str) -> str:
    """How a configuration is called in messages: by the name of its file, if it is not given as a text."""
    return "the checkpoint's own" if "\n" in config else Path(config).name


def shown(path: Path) -> Path:
    """A path as one would type it here."""
    return path.resolve().relative_to(Path.cwd()) if path.resolve().is_relative_to(Path.cwd()) else path


def named(checkpoint: Path) -> Path:
    """A checkpoint as one would name it here."""
    path = shown(checkpoint)
    return Path(path.name) if path.parent == Path("checkpoints") else path
