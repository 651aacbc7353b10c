"""Looks up the names in a command line, and puts configurations into their order of precedence."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_info

from octavius.checkpointing.configuration import Configuration, configuration_of, file_beside
from octavius.presets import find_checkpoint, find_config
from octavius.weights import read_checkpoint


def resolve(words: Sequence[str]) -> list[str]:
    """Fills in names: presets, checkpoints, and as the lowest one the configuration beside a checkpoint.

    Precedence: command line, then `--config` files (the last wins), then the checkpoint's own, then defaults.

    Raises:
        ValueError: a preset or checkpoint that is not there; a file of either kind that cannot be read.
    """
    configs: list[str] = []
    rest: list[str] = []
    pending = list(words)
    checkpoint: Path | None = None
    while pending:
        flag, equals, value = pending.pop(0).partition("=")
        if flag not in ("--config", "-c", "--ckpt", "--ckpt_path"):
            rest.append(flag + equals + value)
            continue
        value = value if equals else (pending.pop(0) if pending else "")
        if flag in ("--config", "-c"):
            path = find_config(value)
            read_config(path)
            configs.append(str(path))
        else:
            checkpoint = find_checkpoint(value)
            rest += ["--ckpt", str(checkpoint)]
    if checkpoint is not None:
        saved = saved_config(checkpoint, read_checkpoint(checkpoint))
        if saved is not None:
            parse_config(saved.text, saved.source)
            # The parser takes the text of a configuration in the place of a file's name.
            configs.insert(0, saved.text if saved.file is None else str(saved.file))
        elif not configs:
            raise ValueError(f"{missing_config(checkpoint)}, or name one with --config")
    return [word for config in configs for word in ("--config", config)] + rest


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
    return found


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


def read_config(path: Path) -> dict[str, Any]:
    """What a YAML file of settings says.

    Raises:
        ValueError: it is not YAML, or not a list of keys with their values.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not YAML text: {error}") from None
    return parse_config(text, str(path))


def parse_config(text: str, source: str) -> dict[str, Any]:
    """What a YAML text of settings says.

    Raises:
        ValueError: it is not YAML, or not a list of keys with their values.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{source} is not valid YAML{where}: {error.problem}; correct it there") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{source} is not YAML text: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{source} should hold keys and their values, such as `model:`, found {content!r:.60}"
        )
    return content


def shown(path: Path) -> Path:
    """A path as one would type it here."""
    return path.resolve().relative_to(Path.cwd()) if path.resolve().is_relative_to(Path.cwd()) else path


def named(checkpoint: Path) -> Path:
    """A checkpoint as one would name it here."""
    path = shown(checkpoint)
    return Path(path.name) if path.parent == Path("checkpoints") else path
