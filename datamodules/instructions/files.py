"""Writes the instruction file atomically, and never over a file that was made with other settings."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from octavius.display import json_text
from octavius.files import read_text, write_text

VERSION = 1
"""Incremented when the same annotations and settings give other items."""

ADVICE = "Choose another --out, or delete the file if nothing in it is needed."


def record_of(out: Path) -> Path:
    """Path of the file that records the settings."""
    return out.with_suffix(".record.json")


def rejected_of(out: Path) -> Path:
    """Path of the file that lists the rejected pairs and the reasons."""
    return out.with_suffix(".rejected.jsonl")


def refuse_other_settings(out: Path, settings: dict[str, Any]) -> None:
    """Refuses to overwrite a file unless it was made with the same settings.

    Raises:
        ValueError: the settings differ or are not recorded, or the name does not end in `.json`.
    """
    if out.suffix != ".json":
        raise ValueError(f"--out should name a .json file, found {out}")
    if not out.parent.is_dir():
        raise ValueError(f"the folder {out.parent.absolute()}, where {out.name} should go, does not exist")
    if not out.exists():
        return
    try:
        recorded = json.loads(read_text(record_of(out)))
    except (OSError, ValueError):
        raise ValueError(
            f"{out} exists, and no readable {record_of(out).name} beside it tells how it was made. {ADVICE}"
        ) from None
    if recorded != settings:
        raise ValueError(
            f"{out} was made with other settings.\nfound:  {recorded}\nwanted: {settings}\n{ADVICE}"
        )


def write(out: Path, items: Iterable[dict[str, Any]], settings: dict[str, Any]) -> None:
    """Writes the items, one per line, and the settings."""
    rows = ",\n".join(json_text(item) for item in items)
    # The record first: a file without a record could never be overwritten.
    write_text(record_of(out), json.dumps(settings, indent=2) + "\n")
    write_text(out, f"[\n{rows}\n]\n")


def write_rejected(out: Path, rejected: list[dict[str, Any]]) -> None:
    """Writes the rejected pairs, one per line."""
    write_text(rejected_of(out), "".join(json_text(row) + "\n" for row in rejected))
