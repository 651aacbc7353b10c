"""The configuration of a checkpoint: stored inside it, with an editable YAML copy next to it.

Two files cannot be replaced in one atomic step, so the checkpoint contains the configuration and is complete
without the YAML file. The first line of the YAML file holds the hash of the configuration that was saved. While
that hash equals the hash of the configuration in the checkpoint, the file belongs to the checkpoint and takes
precedence, even if the lines below were edited. Otherwise (a file of another checkpoint, of an interrupted save,
or one written by hand) the configuration in the checkpoint takes precedence.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from octavius.files import read_text

KEY = "configuration"
"""Key of the configuration in a checkpoint."""

HEADER = "# Configuration {} of the checkpoint next to this file. Edits take effect as long as this line is kept.\n"


@dataclass(frozen=True)
class Configuration:
    """The configuration in effect for a checkpoint, and where it was found.

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


def yaml_path(checkpoint: Path) -> Path:
    """The path of a checkpoint's YAML file, whether it exists or not."""
    return checkpoint.with_suffix(".yaml")


def with_header(text: str) -> str:
    """The content of the YAML file for a configuration."""
    return HEADER.format(_hash(text)) + text


def configuration_of(path: Path, checkpoint: Mapping[str, Any]) -> Configuration | None:
    """The configuration in effect for a checkpoint; None if there is none.

    Args:
        path: path of the checkpoint.
        checkpoint: its content. Earlier versions stored no configuration inside, only in the YAML file.

    Raises:
        ValueError: the YAML file is not valid UTF-8.
    """
    file, stored_text = yaml_path(path), checkpoint.get(KEY)
    text = _read(file)
    if stored_text is None:
        return None if text is None else Configuration(text, str(file), file)
    stored = Configuration(stored_text, f"the configuration in {path}")
    if text is None:
        return stored
    first, _, body = text.partition("\n")
    if _header_hash(first) != _hash(stored_text):
        if text.strip() == stored_text.strip():  # the same content without the header: nothing to warn about
            return Configuration(text, str(file), file)
        note = (
            f"ignoring {file}, which was not written for {path.name}: using the configuration inside the checkpoint; "
            f"to use the file, add --config {file}"
        )
        return replace(stored, note=note)
    if body == stored_text:
        return Configuration(text, str(file), file)
    note = f"{file} was edited after {path.name} was saved: using the edited file"
    return Configuration(text, str(file), file, note)


def may_overwrite(file: Path) -> bool:
    """Whether saving or removing a checkpoint may overwrite or delete a YAML file.

    True if it does not exist, or if it has the header, even if it was edited below.
    """
    text = _read(file)
    return text is None or _header_hash(text.partition("\n")[0]) is not None


def _header_hash(line: str) -> str | None:
    """The hash in the first line of a file; None if the line is not a header."""
    # The words behind the hash are not compared: they differ between versions.
    match = re.fullmatch(r"# Configuration ([0-9a-f]{16}) of the checkpoint .*", line.rstrip("\r"))
    return None if match is None else match[1]


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def _read(file: Path) -> str | None:
    if not file.is_file():
        return None
    try:
        return read_text(file)
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not valid UTF-8: {error}") from None
