"""How values from several sources are merged, where Octavius differs from jsonargparse.

- A list replaces what was there before, whatever its length. jsonargparse lets items of two lists of equal length,
  and the items of a list over a single value, inherit the settings of the earlier ones.
- Another `class_path` begins with the defaults of its class. jsonargparse keeps the earlier `init_args` that the new
  class would accept too, which may mean something else there.
- A value is what is written, never the name of a file to read it from.
- Numbers are finite, and integers fit into 64 bits.
- YAML is read strictly (`octavius.configuration.text`).

All else is as jsonargparse documents: the same class keeps what is not set again, `--trainer.callbacks+` appends, and
`--trainer.callbacks.init_args.patience` changes the last item. There are no settings for these rules, so functions of
its private modules are replaced while a command line is parsed.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from jsonargparse import _actions, _loaders_dumpers, _typehints, _util, set_parsing_settings

from octavius.configuration.text import load
from octavius.errors import imported

LARGEST = 2**63
_adapt: Any = _typehints.adapt_typehints
_parse_value: Any = _util.parse_value_or_config


@contextmanager
def merging_rules() -> Iterator[None]:
    """Octavius' rules hold for everything that jsonargparse parses in this block."""
    set_parsing_settings(config_read_mode_fsspec_enabled=False)  # Lightning allows reading from the network
    replaced = (
        (_typehints, "adapt_typehints", adapt),
        (_typehints, "discard_init_args_on_class_path_change", begin_anew),
        (_typehints, "parse_value_or_config", parse_value),
        (_actions, "parse_value_or_config", parse_value),
        (_loaders_dumpers, "yaml_load", load),
    )
    with ExitStack() as stack:
        for module, name, function in replaced:
            stack.enter_context(patch.object(module, name, function))
        stack.enter_context(patch.dict(_loaders_dumpers.loaders, {"yaml": load}))
        yield


def adapt(val: Any, typehint: Any, **options: Any) -> Any:
    """Converts a value to a type, as jsonargparse does; `prev_val` is what an earlier source said."""
    parsing = not (options.get("serialize") or options.get("instantiate_classes"))
    options["enable_path"] = False
    if parsing and isinstance(val, list) and not options.get("append"):
        options["prev_val"] = None
        if not isinstance(options.get("orig_val"), str):
            options["orig_val"] = None  # it is copied for each item, which takes long for a long list
    try:
        found = _adapt(val, typehint, **options)
    except (OverflowError, RecursionError) as error:
        raise ValueError(f"{val!r:.60} is out of range: {error}") from None
    if parsing and type(found) is int and abs(found) >= LARGEST:
        raise ValueError(f"expected a number below 2^63 in size, found one of {found.bit_length()} bits")
    if parsing and type(found) is float and not math.isfinite(found):
        raise ValueError(f"expected a finite number, found {found}")
    return found


def begin_anew(parser_or_action: Any, prev_val: Any, value: Any) -> None:  # noqa: ARG001
    """Drops the settings of the earlier class, when a value names another one."""
    before = prev_val["class_path"] if prev_val and "init_args" in prev_val else None
    if before is not None and not same_class(before, value["class_path"]):
        prev_val.pop("init_args", None)
        prev_val.pop("dict_kwargs", None)


def same_class(one: str, other: str) -> bool:
    """Whether two dotted names are of one class; of a module that is not imported, equal names are."""
    found = imported(one)
    return one == other or (found is not None and found is imported(other))


def parse_value(value: Any, enable_path: bool = True, simple_types: bool = False) -> Any:  # noqa: ARG001
    """Parses YAML in a string; unlike jsonargparse's, it never takes the string for a file's name."""
    return _parse_value(value, enable_path=False, simple_types=simple_types)
