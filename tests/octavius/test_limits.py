"""Bounds of every numeric setting of every class that a configuration can name."""

import inspect
import math
import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import octavius.cli.main  # noqa: F401 - imports the data modules
from datamodules.instructions.build import build_instructions
from datamodules.instructions.endpoint import connect
from datamodules.miniature.files import build
from datamodules.miniature.rooms.files import build as build_rooms
from octavius.checkpoint.load import OctaviusModule
from octavius.cli.predict import predict
from octavius.configuration.trust import LISTED
from octavius.limits import FRACTION, POSITIVE_INT, PROBABILITY_BELOW_1, SEED_RANGE, SIZE_RANGE, Range

DUMMIES = {"benchmark": "cifar10", "split": "train", "decoder": None, "encoders": {}, "root": "r"}
OWN = [
    getattr(import_module(module), name)
    for module, names in LISTED.items()
    for name in names
    if module.startswith(("octavius", "datamodules")) and name not in ("Checkpoint", "FSDP2")
]


def numeric(made: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """Parameters that take numbers, and what a bad number looks like in the place of one."""
    hints = typing.get_type_hints(made if is_dataclass(made) or inspect.isfunction(made) else made.__init__)
    for name in inspect.signature(made).parameters:
        text = str(hints.get(name))
        if re.search(r"\b(int|float)\b", text) and "ndarray" not in text:
            yield name, hints[name]


def filled(kind: Any, number: float) -> Any:
    """A value of a type, with a number where it wants one."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return tuple(number for part in inner if part is not Ellipsis)
    if origin is dict:
        return {"cv": number}
    if origin is list:
        return [number]
    return number


SETTINGS = [(one, name, kind) for one in OWN for name, kind in numeric(one)]


def test_there_are_settings_to_look_at() -> None:
    assert len(SETTINGS) > 100
    assert (OctaviusModule, "lr") in {(one, name) for one, name, _ in SETTINGS}


@pytest.mark.parametrize("number", [-1, math.nan, math.inf, 10**30, True], ids=str)
@pytest.mark.parametrize(
    ("made", "name", "kind"), SETTINGS, ids=lambda one: getattr(one, "__name__", str(one))[:24]
)
def test_no_numeric_setting_takes_a_number_that_means_nothing(
    made: Callable[..., Any], name: str, kind: Any, number: float
) -> None:
    required = [
        key
        for key, parameter in inspect.signature(made).parameters.items()
        if parameter.default is inspect.Parameter.empty
    ]
    given = {key: DUMMIES.get(key) for key in required}
    single = next((part for part in typing.get_args(kind) if typing.get_origin(part) is None), kind)
    given[name] = filled(single if typing.get_origin(kind) not in (tuple, dict, list) else kind, number)
    with pytest.raises(ValueError, match=name):
        made(**given)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"warmup": 1.5}, "warmup should be a number of at least 0 and at most 1, found 1.5"),
        ({"lr": 0.0}, "lr should be a number above 0 and at most 1,000,000,000, found 0.0"),
        ({"betas": (0.9, 1.0)}, "betas should be a number of at least 0 and below 1, found 1.0"),
        (
            {"max_tokens": 0},
            "max_tokens should be a whole number of at least 1 and at most 100,000,000, found 0",
        ),
    ],
)
def test_the_message_says_what_is_wanted(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        OctaviusModule(None, {}, **options)  # type: ignore[arg-type] - it is refused before that


def test_answers_have_a_length_and_beams() -> None:
    for options in ({"max_new_tokens": 0}, {"num_beams": 0}, {"num_beams": 10**9}):
        with pytest.raises(ValueError, match="should be a whole number"):
            predict("What?", **options)


@pytest.mark.parametrize("number", [-1, 10**30, True], ids=str)
@pytest.mark.parametrize(
    ("command", "name"),
    [
        *((command, name) for command in (build, build_rooms) for name in ("seed", "processes")),
        *((build_instructions, name) for name in ("limit", "seed")),
    ],
)
def test_commands_refuse_numbers_that_mean_nothing(
    tmp_path: Path, command: Callable[..., Any], name: str, number: int
) -> None:
    asked = {} if command is not build_instructions else {"source": "coco", "split": "train2017"}
    with pytest.raises(ValueError, match=name):
        command(root=tmp_path / "new", **asked, **{name: number})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("concurrency", 10**9),
        ("concurrency", True),
        ("retries", 10**9),
        ("timeout", math.inf),
        ("timeout", math.nan),
    ],
)
def test_the_endpoint_refuses_numbers_that_mean_nothing(name: str, number: float) -> None:
    asked: dict[str, Any] = {"model": "m", "concurrency": 1, "retries": 0, "timeout": 1.0, "extra": None}
    with pytest.raises(ValueError, match=name):
        connect(**{**asked, name: number})


@given(st.integers() | st.floats())
def test_a_range_holds_exactly_what_lies_in_it(number: float) -> None:
    for found, wanted in (
        (FRACTION, 0 <= number <= 1),
        (PROBABILITY_BELOW_1, 0 <= number < 1),
        (SIZE_RANGE, isinstance(number, int) and 1 <= number <= 65_536),
        (Range(0, 5, exclude_minimum=True), 0 < number <= 5),
    ):
        try:
            found.check(value=number)
            held = True
        except ValueError:
            held = False
        assert held == wanted


def test_null_is_left_to_the_type_and_every_number_of_several_counts() -> None:
    POSITIVE_INT.check(limit=None)
    SEED_RANGE.check(seeds=[0, 2**32 - 1])
    with pytest.raises(ValueError, match="seeds should be"):
        SEED_RANGE.check(seeds=[0, 2**32])
