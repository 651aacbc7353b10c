"""Finds configurations and checkpoints by name: in the current folder, then among those shipped with the code."""

from collections.abc import Iterable
from pathlib import Path

from octavius.suggestions import closest


def find_config(name: str | Path) -> Path:
    """The path of a configuration file.

    Args:
        name: a path, or a name under `configs/` such as `2d.yaml` or `pretrain/clip.yaml`.

    Raises:
        ValueError: there is no such file; the message lists the presets.
    """
    for path in _candidates("configs", name):
        if path.is_file():
            return path
    raise _unknown("configuration", name, "configs", _names("configs", ["**/*.yaml"]))


def find_checkpoint(name: str | Path) -> Path:
    """The path of a checkpoint.

    Args:
        name: a path, or a name under `checkpoints/`: a file such as `last.ckpt`, or a folder such as
            `miniature/language`.

    Raises:
        ValueError: there is no such file or folder; the message lists what is there.
    """
    for path in _candidates("checkpoints", name):
        if path.exists():
            return path
    raise _unknown("checkpoint", name, "checkpoints", _names("checkpoints", ["**/*.ckpt", "*/**/"]))


def _candidates(kind: str, name: str | Path) -> list[Path]:
    """The paths that a name may refer to, in order of preference; an absolute path refers to itself."""
    return [location / Path(name).expanduser() for location in _locations(kind) if str(name)]


def _locations(kind: str) -> list[Path]:
    """The folders to search, in order: the current one, its `configs/` or `checkpoints/`, the shipped ones."""
    return [Path.cwd(), Path.cwd() / kind, _shipped(kind)]


def _shipped(kind: str) -> Path:
    """The folder that came with the code: inside the installed package, or at the root of a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / kind
    return installed if installed.is_dir() else package.parent / kind


def _names(kind: str, patterns: Iterable[str]) -> list[str]:
    """All names under `configs/` or `checkpoints/` that would be found."""
    stores = _locations(kind)[1:]
    return sorted(
        {
            path.relative_to(store).as_posix()
            for store in stores
            for pattern in patterns
            for path in store.glob(pattern)
        }
    )


def _unknown(what: str, name: str | Path, kind: str, names: list[str]) -> ValueError:
    """The error for an unknown name, with the nearest known one."""
    spellings = {key: known for known in reversed(names) for key in (Path(known).stem, known)}
    near = closest(str(name), spellings)
    hint = "" if near is None else f" (did you mean '{spellings[near]}'?)"
    locations = ", ".join(dict.fromkeys(str(location) for location in _locations(kind)))
    parts: dict[str, list[str]] = {}
    for known in names:
        folder, _, last = known.rpartition("/")
        parts.setdefault(folder, []).append(last)
    few = [
        f"{len(held)} in {folder}/"
        if folder and len(held) > 3
        else ", ".join(f"{folder}/{last}".lstrip("/") for last in held)
        for folder, held in parts.items()
    ]
    known = f"Known names: {', '.join(few)}." if names else f"There is nothing in {kind}/ yet."
    return ValueError(f"no {what} named '{name}'{hint} (looked in {locations}). {known}")
