"""Validation of the content of checkpoints before any of it is restored.

Lightning and torch restore most values unchecked: text instead of a number, or a tensor with NaN, would
surface only later, as an error elsewhere or as wrong results. Each function returns a description of the
first problem, or None.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from packaging.version import InvalidVersion, Version
from torch import Tensor

from octavius.checkpoint_format.bounds import is_stored

FORMAT_KEY, FORMAT = "checkpoint_format", 2
"""Format 2 has a checksum at the end of the file and the configuration inside; earlier ones lack this key."""


def wrong_kind(checkpoint: Mapping[Any, Any]) -> str | None:
    """Checks types and finiteness of the values that Lightning and Octavius write."""
    if strange := [key for key in checkpoint if not isinstance(key, str)]:
        return f"expected names as its keys, found {strange[0]!r:.60}"
    for key, value in checkpoint.items():
        if key in KINDS and (said := KINDS[key](value)):
            return f"{key}: {said}"
        if key != "state_dict" and (said := _not_finite(value)):
            return f"{key}{said}"
    return None


def wrong_format(checkpoint: Mapping[str, Any], sealed: bool) -> str | None:
    """Why a checkpoint cannot be trusted to be unchanged.

    Args:
        checkpoint: its content.
        sealed: whether its file ends with a valid checksum.
    """
    found = checkpoint.get(FORMAT_KEY)
    if isinstance(found, int) and found > FORMAT:
        return (
            f"it was written by a later version of Octavius ({FORMAT_KEY} {found}, known is {FORMAT}); update"
        )
    if found is not None and not sealed:
        return (
            "it was saved again by another program, and its checksum is gone, so that changes cannot be told from "
            f"damage. Take the file that `octavius fit` wrote; if the change was meant, remove {FORMAT_KEY} too"
        )
    return None


def differs(found: Any, wanted: Any, name: str) -> str | None:
    """Checks that nested plain values match a template in type, for all keys of the template.

    Integers must not be negative, and numbers must be finite.

    Args:
        found: the value that was read.
        wanted: the template: the current value in the running program.
        name: path of the value, for messages.
    """
    if isinstance(wanted, Mapping):
        if not isinstance(found, Mapping):
            return f"{name}: expected keys and values, found {found!r:.60}"
        if missing := [key for key in wanted if key not in found]:
            return f"{name}: {missing[0]!r} is missing"
        inner = (differs(found[key], value, f"{name}.{key}") for key, value in wanted.items())
        return next(filter(None, inner), None)
    if isinstance(wanted, bool):
        return None if isinstance(found, bool) else f"{name}: expected true or false, found {found!r:.60}"
    if isinstance(wanted, int):
        return _count(found) and f"{name}: {_count(found)}"
    if isinstance(wanted, float):
        return _number(found) and f"{name}: {_number(found)}"
    if isinstance(wanted, str):
        return _text(found) and f"{name}: {_text(found)}"
    if isinstance(wanted, list | tuple) and wanted:
        if not isinstance(found, list | tuple) or len(found) != len(wanted):
            return f"{name}: expected {len(wanted)} values, found {found!r:.60}"
        pairs = zip(found, wanted, strict=True)
        return next(
            filter(None, (differs(*pair, f"{name}.{index}") for index, pair in enumerate(pairs))), None
        )
    return None


def _tensors(value: Any) -> str | None:
    if not isinstance(value, dict):
        return f"expected tensors by their names, found {type(value).__name__}"
    for name, part in value.items():
        if not isinstance(name, str) or not isinstance(part, Tensor):
            return f"expected a tensor at {name!r:.80}, found {type(part).__name__}"
        if not _plain(part):
            return f"{name} is not a plain tensor"
        if not _finite(part):
            return f"{name} holds numbers that are not finite; take a checkpoint from before the training diverged"
    return None


def _not_finite(value: Any, path: str = "") -> str | None:
    """The first NaN, or non-plain tensor, inside nested values; infinity is allowed: it means "none yet"."""
    if isinstance(value, Tensor):
        return (
            None
            if _plain(value) and not bool(value.isnan().any())
            else f"{path} is no plain tensor of numbers"
        )
    if isinstance(value, float):
        return f"{path} is not a number" if math.isnan(value) else None
    if isinstance(value, Mapping):
        items: Any = value.items()
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        items = enumerate(value)
    else:
        return None
    return next(filter(None, (_not_finite(part, f"{path}.{key}") for key, part in items)), None)


def _plain(tensor: Tensor) -> bool:
    """Whether a tensor is neither sparse, quantised, without values, nor expanded from fewer values."""
    return (
        tensor.layout == torch.strided
        and not tensor.is_quantized
        and not tensor.is_meta
        and is_stored(tensor)
    )


def _finite(tensor: Tensor) -> bool:
    if not tensor.numel() or not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    if tensor.is_complex() or tensor.dtype.itemsize < 2:
        return bool(tensor.isfinite().all())
    # aminmax propagates NaN, and is several times as fast as creating a boolean tensor.
    return all(bool(extreme.isfinite()) for extreme in tensor.aminmax())


def _count(value: Any) -> str | None:
    fine = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return None if fine else f"expected a whole number of at least 0, found {value!r:.60}"


def _number(value: Any) -> str | None:
    fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return None if fine else f"expected a number, found {value!r:.60}"


def _seed(value: Any) -> str | None:
    return None if value is None else _count(value)


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else f"expected a text, found {value!r:.60}"


def _version(value: Any) -> str | None:
    try:
        Version(value)
    except (InvalidVersion, TypeError):
        return f"expected a version, found {value!r:.60}"
    return None


def _sections(value: Any) -> str | None:
    """Checks a mapping from names to state dicts."""
    fine = isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(part, dict) for name, part in value.items()
    )
    return None if fine else f"expected states by their names, found {value!r:.80}"


def _states(value: Any) -> str | None:
    fine = isinstance(value, list) and all(isinstance(part, dict) for part in value)
    return None if fine else f"expected a list of states, found {value!r:.80}"


def _optimizers(value: Any) -> str | None:
    if said := _states(value):
        return said
    for state in value:
        groups, parts = state.get("param_groups"), state.get("state")
        if not isinstance(groups, list) or not all(
            isinstance(group, dict) and isinstance(group.get("params"), list) for group in groups
        ):
            return f"expected param_groups with their params, found {groups!r:.80}"
        if not isinstance(parts, dict) or not all(isinstance(part, dict) for part in parts.values()):
            return f"expected a state for each parameter, found {parts!r:.80}"
        known = {index for group in groups for index in group["params"] if isinstance(index, int)}
        if strange := [index for index in parts if index not in known]:
            return f"it has a state for parameter {strange[0]!r:.60}, which is in no group"
        tensors = [part for values in parts.values() for part in values.values() if isinstance(part, Tensor)]
        if not all(map(_plain, tensors)):
            return "it holds a tensor that is not plain"
        if not all(map(_finite, tensors)):
            return "it holds numbers that are not finite; take a checkpoint from before the training diverged"
    return None


KINDS: dict[str, Callable[[Any], str | None]] = {
    "state_dict": _tensors,
    "epoch": _count,
    "global_step": _count,
    "pytorch-lightning_version": _version,
    "optimizer_states": _optimizers,
    "lr_schedulers": _states,
    "callbacks": _sections,
    "loops": _sections,
    "seed": _seed,
    "frozen_fingerprint": _text,
    "configuration": _text,
    FORMAT_KEY: _count,
}
"""Checks of the values of a checkpoint, by key."""
