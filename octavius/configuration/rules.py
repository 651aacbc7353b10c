"""How values from several sources are merged, where Octavius differs from jsonargparse.

- A list replaces what was there before, whatever its length. jsonargparse lets items of two lists of equal length,
  and the items of a list over a single value, inherit the settings of the earlier ones.
- A new `class_path` starts from the defaults of its class. jsonargparse keeps the earlier `init_args` that the new
  class accepts too, which may mean something else there.
- A value is what is written, never the name of a file to read it from.
- Numbers are finite, and integers fit into 64 bits.
- YAML is read strictly (`octavius.configuration.text`).
- A gate may be given by its short name; former keys of its options are refused with a hint to the current ones.

Everything else is as jsonargparse documents: for the same class, `init_args` that are not set again are kept,
`--trainer.callbacks+` appends, and `--trainer.callbacks.init_args.patience` changes the last item. jsonargparse has
no settings for these rules, so functions of its private modules are patched while a command line is parsed.
"""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from typing import Any, cast
from unittest.mock import patch

from jsonargparse import (
    Namespace,
    _actions,
    _common,
    _loaders_dumpers,
    _typehints,
    _util,
    set_parsing_settings,
)

from octavius.checkpoint_format.earlier import MOVED
from octavius.configuration.text import load
from octavius.errors import imported
from octavius.lora_moe import LoRAMoEConfig
from octavius.lora_moe.gates import GATES
from octavius.lora_moe.gates.base import Gate
from octavius.lora_moe.gates.earlier import refuse_earlier_keys
from octavius.lora_moe.gates.factory import class_path, no_gate

LARGEST = 2**63
"""Bound on the absolute value of integers, which have to fit into 64 bits."""
_private: Any = _typehints
_adapt: Any = _typehints.adapt_typehints
_parse_value: Any = _util.parse_value_or_config
_resolve: Any = _typehints.resolve_class_path_by_name
_adapt_class: Any = _typehints.adapt_class_type


@contextmanager
def merging_rules() -> Iterator[None]:
    """Context manager in which jsonargparse follows the rules of this module."""
    set_parsing_settings(config_read_mode_fsspec_enabled=False)  # Lightning switches reading from URLs on
    replaced = (
        (_typehints, "resolve_class_path_by_name", resolve),
        (_typehints, "adapt_typehints", adapt),
        (_typehints, "adapt_class_type", memoized(_adapt_class)),
        (_typehints, "discard_init_args_on_class_path_change", drop_init_args),
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
    """Converts a value to a type, as jsonargparse does; `options["prev_val"]` is the value of an earlier source."""
    parsing = not (options.get("serialize") or options.get("instantiate_classes"))
    if parsing and typehint is LoRAMoEConfig:
        refuse_earlier_keys(as_mapping(val))
    options["enable_path"] = False
    if parsing and isinstance(val, list) and not options.get("append"):
        options["prev_val"] = None  # so that items inherit nothing
        if not isinstance(options.get("orig_val"), str):
            options["orig_val"] = None  # it is copied for each item, which takes long for a long list
    makes_gates = _private.get_callable_return_type(typehint) is Gate
    if makes_gates and not isinstance(options.get("prev_val"), Namespace | dict):
        # Options without a class_path belong to the default gate.
        before = options.get("prev_val")
        options["prev_val"] = _private.Namespace(
            {"class_path": before if isinstance(before, str) else LoRAMoEConfig.gate}
        )
    try:
        found = _adapt(val, typehint, **options)
    except (OverflowError, RecursionError) as error:
        raise ValueError(f"{val!r:.60} is out of range: {error}") from None
    except ValueError as error:
        raise (gate_error(val, options["prev_val"], error) if makes_gates and parsing else error) from None
    if parsing and type(found) is int and abs(found) >= LARGEST:
        raise ValueError(f"expected a number below 2^63 in size, found one of {found.bit_length()} bits")
    if parsing and type(found) is float and not math.isfinite(found):
        raise ValueError(f"expected a finite number, found {found}")
    return found


def memoized(adapt_class: Any) -> Any:
    """Wraps jsonargparse's parsing of a class and its arguments to parse equal ones once.

    jsonargparse parses the arguments of a class three times (as defaults, as given, and to validate the result), so
    the innermost of n nested classes are parsed 3^n times: 18,000 values for the 150 of `2d_3d.yaml`.
    """
    parsed: dict[Any, Any] = {}

    def adapt_class_once(
        value: Any,
        serialize: bool,
        instantiate_classes: bool,
        sub_add_kwargs: Any,
        prev_val: Any = None,
        partial_skip_args: Any = None,
        typehint: Any = None,
    ) -> Any:
        arguments = (
            value,
            serialize,
            instantiate_classes,
            sub_add_kwargs,
            prev_val,
            partial_skip_args,
            typehint,
        )
        if serialize or instantiate_classes:
            return adapt_class(*arguments)
        modes = (_common.lenient_check.get(), _private.sub_defaults.get(), _common.load_value_mode.get())
        key = repr((arguments, modes))
        if key not in parsed:
            parsed[key] = deepcopy(adapt_class(*arguments))
        return deepcopy(parsed[key])

    return adapt_class_once


def as_mapping(value: Any) -> Mapping[str, Any]:
    """The keys and values that a value sets of a class; a dotted option sets a single one."""
    if isinstance(value, _private.NestedArg):
        return {value.key: value.val}
    if isinstance(value, Namespace):
        return cast(Mapping[str, Any], value.as_dict())
    return value if isinstance(value, dict) else {}


def gate_error(value: Any, before: Any, error: ValueError) -> ValueError:
    """Rewrites jsonargparse's error about a gate to name the class that it is about."""
    spec = _private.subclass_spec_as_namespace(value, before)
    if spec is None or "class_path" not in spec:
        return ValueError(f"expected a gate by its short name or its class_path, found {value!r:.100}")
    name = resolve(Gate, str(spec["class_path"]))
    if "." not in name:
        return ValueError(no_gate(name))
    text = re.sub(r"^Type .* expects a function or a callable class: ", "", str(error))
    return ValueError(
        f"Problem with given class_path {name!r}:\n{text.rpartition('. Got value: ')[0] or text}"
    )


def resolve(cls: Any, name: str) -> str:
    """Resolves a class name, the short name of a gate, or the dotted path of a class that was moved since."""
    if name in GATES and isinstance(cls, type) and issubclass(cls, Gate):
        return class_path(GATES[name])
    return _resolve(cls, MOVED.get(name, name))


def drop_init_args(parser_or_action: Any, prev_val: Any, value: Any) -> None:  # noqa: ARG001
    """Drops the arguments of the earlier class if a value names another one."""
    before = prev_val["class_path"] if prev_val and "init_args" in prev_val else None
    if before is not None and not same_class(before, value["class_path"]):
        prev_val.pop("init_args", None)
        prev_val.pop("dict_kwargs", None)


def same_class(one: str, other: str) -> bool:
    """Whether two dotted paths are of one class; paths of modules not imported are compared as text."""
    found = imported(one)
    return one == other or (found is not None and found is imported(other))


def parse_value(value: Any, enable_path: bool = True, simple_types: bool = False) -> Any:  # noqa: ARG001
    """Parses YAML in a string; unlike the original, never takes the string for the name of a file."""
    return _parse_value(value, enable_path=False, simple_types=simple_types)
