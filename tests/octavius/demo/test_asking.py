"""Turns of the page: what is remembered, and which experts answer."""

from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from octavius.demo.asking import earlier
from octavius.demo.callbacks import Callbacks
from tests.octavius.demo.scripted import scripted

# Found but not imported: importing Gradio takes each worker of the tests eight seconds.
pytestmark = pytest.mark.skipif(
    not (find_spec("gradio") and find_spec("plotly")), reason="the extra demo is not installed"
)


@pytest.fixture
def page(tmp_path: Path) -> Callbacks:
    """The callbacks."""
    return scripted(tmp_path, other=True)


def last(stream: Generator[tuple[Any, ...]], place: int) -> Any:
    """The last value that a stream gives to a component."""
    skipped = {"__type__": "update"}
    return [values[place] for values in stream if values[place] != skipped][-1]


def test_earlier_turns_are_remembered_if_they_are_about_the_same_picture(page: Callbacks) -> None:
    engine: Any = page.asked.engine
    media = page.shown[0].media
    turns = last(page.ask("Describe the picture.", media, [], True), 1)
    turns = last(page.ask("What else?", media, turns, True), 1)
    assert engine.asked[-1].history == (("Describe the picture.", "A red ball & a *blue* box."),)
    last(page.ask("What else?", media, turns, False), 1)
    assert engine.asked[-1].history == ()
    assert earlier(turns, page.shown[2].media) == []
