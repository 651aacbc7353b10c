"""The configuration of a checkpoint: stored inside it, with an editable YAML copy next to it.

Two files cannot be replaced atomically, so the checkpoint contains the configuration and is complete without
the YAML file. The first line of that file holds the hash of the configuration that it was written from. If it
matches the configuration inside the checkpoint, the file takes precedence, so that users can edit it;
otherwise (a file of another checkpoint, of an interrupted save, or one written by hand) it is ignored.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

KEY = "configuration"
"""Key of the configuration in a checkpoint."""

LINE = "# Configuration {} of the checkpoint beside it: while this line stands, what follows counts.\n"


@dataclass(frozen=True)
class Configuration:
    """The configuration that a checkpoint was trained with.

    Attributes:
        text: YAML.
        source: where it was found, for messages.
        file: the YAML file, if that was used.
        note: a notice for users about the YAML file; may be empty.
    """

    text: str
    source: str
    file: Path | None = None
    note: str = ""


def file_beside(checkpoint: Path) -> Path:
    """The path of a checkpoint's YAML file, whether it exists or not."""
    return checkpoint.with_suffix(".yaml")


def headed(text: str) -> str:
    """The content of the YAML file for a configuration."""
    return LINE.format(_hash(text)) + text


def configuration_of(path: Path, checkpoint: Mapping[str, Any]) -> Configuration | None:
    """The configuration in effect for a checkpoint; None if there is none.

    Args:
        path: path of the checkpoint.
        checkpoint: its content. Earlier versions stored no configuration inside, only in the YAML file.

    Raises:
        ValueError: the YAML file is not text.
    """
    beside, own = file_beside(path), checkpoint.get(KEY)
    text = _read(beside)
    if own is None:
        return None if text is None else Configuration(text, str(beside), beside)
    inside = Configuration(own, f"the configuration in {path}")
    if text is None:
        return inside
    first, _, rest = text.partition("\n")
    if _named(first) != _hash(own):
        if text.strip() == own.strip():
            return Configuration(text, str(beside), beside)
        note = f"{beside} is not of {path.name}, whose own configuration counts; to use the file, name it by --config"
        return replace(inside, note=note)
    if rest == own:
        return Configuration(text, str(beside), beside)
    note = f"{beside} was changed since {path.name} was saved, and counts as it is now"
    return Configuration(text, str(beside), beside, note)


def may_replace(beside: Path) -> bool:
    """Whether a YAML file does not exist or was written along with a checkpoint."""
    text = _read(beside)
    return text is None or _named(text.partition("\n")[0]) is not None


def _named(line: str) -> str | None:
    """The hash in the first line of a file; None if it is another line."""
    before, after = LINE.rstrip("\n").split("{}")
    found = re.fullmatch(f"{re.escape(before)}([0-9a-f]{{16}}){re.escape(after)}", line.rstrip("\r"))
    return None if found is None else found[1]


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def _read(file: Path) -> str | None:
    if not file.is_file():
        return None
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not YAML text: {error}") from None
