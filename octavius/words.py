"""Words of a command line come in; the same go out with names looked up and configurations in their order."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from octavius.presets import find_checkpoint, find_config
from octavius.weights import read_checkpoint


def resolve(words: Sequence[str]) -> list[str]:
    """Fills in names: presets, checkpoints, and as the lowest one the configuration beside a checkpoint.

    Precedence: command line, then `--config` files (the last wins), then the checkpoint's own, then defaults.

    Raises:
        ValueError: a preset or checkpoint that is not there; a file of either kind that cannot be read.
    """
    configs: list[Path] = []
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
            configs.append(find_config(value))
            read_config(configs[-1])
        else:
            checkpoint = find_checkpoint(value)
            read_checkpoint(checkpoint)
            rest += ["--ckpt", str(checkpoint)]
    if checkpoint is not None:
        saved = saved_config(checkpoint)
        if saved is not None:
            configs.insert(0, saved)
        elif not configs:
            raise ValueError(f"{missing_config(checkpoint)}, or name one with --config")
    return [word for path in configs for word in ("--config", str(path))] + rest


def saved_config(checkpoint: Path) -> Path | None:
    """The configuration that `octavius fit` wrote beside a checkpoint, if it is still there."""
    path = checkpoint.with_suffix(".yaml")
    return path if path.is_file() else None


def missing_config(checkpoint: Path) -> str:
    """What to say when there is none."""
    beside = checkpoint.with_suffix(".yaml")
    return (
        f"no configuration beside {checkpoint}: expected {beside}, which `octavius fit` writes; copy it too"
    )


def read_config(path: Path) -> dict[str, Any]:
    """What a YAML file of settings says.

    Raises:
        ValueError: it is not YAML, or not a list of keys with their values.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{path} is not valid YAML{where}: {error.problem}; correct it there") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML text: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} should hold keys and their values, such as `model:`, found {content!r:.60}")
    return content


def shown(path: Path) -> Path:
    """A path as one would type it here."""
    return path.resolve().relative_to(Path.cwd()) if path.resolve().is_relative_to(Path.cwd()) else path


def named(checkpoint: Path) -> Path:
    """A checkpoint as one would name it here."""
    path = shown(checkpoint)
    return Path(path.name) if path.parent == Path("checkpoints") else path
