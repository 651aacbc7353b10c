"""Resolves presets and checkpoints in argv, and orders configurations by precedence."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from octavius.checkpoint.opened import OpenCheckpoint, open_checkpoint
from octavius.checkpoint.saved_configuration import missing_config
from octavius.checkpoint_format.configuration import Configuration
from octavius.configuration.text import parse_config, read_config
from octavius.configuration.trust import TRUST
from octavius.presets import find_checkpoint, find_config


@dataclass
class Arguments:
    """A resolved command line.

    Attributes:
        configs: paths given with `--config`, in order.
        checkpoint: the checkpoint given with `--ckpt`.
        trusted: whether `--trust` is given.
        rest: all other arguments.
    """

    configs: list[Path] = field(default_factory=list)
    checkpoint: OpenCheckpoint | None = None
    trusted: bool = False
    rest: list[str] = field(default_factory=list)

    @property
    def saved(self) -> Configuration | None:
        """The configuration of the checkpoint."""
        return None if self.checkpoint is None else self.checkpoint.saved

    @property
    def resolved(self) -> list[str]:
        """The arguments for the parser.

        Precedence: command line, then `--config` files (the last one wins), then the checkpoint's own
        configuration, then defaults.
        """
        # `--config` of jsonargparse accepts the text of a configuration as well as a path. Later ones override.
        configs = [*([] if self.saved is None else [self.saved.text]), *map(str, self.configs)]
        checkpoint = [] if self.checkpoint is None else ["--ckpt", str(self.checkpoint.path)]
        return [
            *(argument for config in configs for argument in ("--config", config)),
            *self.rest,
            *checkpoint,
        ]

    @property
    def untrusted(self) -> Configuration | None:
        """The configuration that may only name classes on the list of trusted ones; None with `--trust`."""
        return None if self.trusted else self.saved


def resolve(argv: Sequence[str]) -> Arguments:
    """Resolves the names of presets and checkpoints, and reads the configuration of the checkpoint.

    Raises:
        ValueError: a preset or checkpoint does not exist or cannot be read.
    """
    found = Arguments()
    path: Path | None = None
    pending = list(argv)
    while pending:
        argument = pending.pop(0)
        if argument == TRUST:
            found.trusted = True
            continue
        flag, equals, value = argument.partition("=")
        if flag not in ("--config", "-c", "--ckpt", "--ckpt_path"):
            found.rest.append(argument)
            continue
        value = value if equals else (pending.pop(0) if pending else "")
        if flag in ("--config", "-c"):
            found.configs.append(find_config(value))
            read_config(found.configs[-1])
        else:
            path = find_checkpoint(value)
    if path is not None:
        found.checkpoint = open_checkpoint(path)
        if found.saved is not None:
            parse_config(found.saved.text, found.saved.source)
        elif not found.configs:
            raise ValueError(f"{missing_config(path)}, or name one with --config")
    return found


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
