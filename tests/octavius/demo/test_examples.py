"""Examples of the page take turns and fit the model."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from octavius.demo.callbacks import Callbacks
from octavius.demo.examples import by_task, chips, pictured
from tests.octavius.demo.scripted import scripted

# Found but not imported: importing Gradio takes each worker of the tests eight seconds.
pytestmark = pytest.mark.skipif(
    not (find_spec("gradio") and find_spec("plotly")), reason="the extra demo is not installed"
)


@pytest.fixture
def page(tmp_path: Path) -> Callbacks:
    """The callbacks."""
    return scripted(tmp_path, other=True)


def test_examples_take_turns_and_fit_the_model(page: Callbacks) -> None:
    found = pictured(page.examples, ("cloud",))
    assert [example.benchmark for example, _ in found] == ["rooms/dense"]
    assert chips(page.examples, ("image",)) == ["Find all objects.", "Describe the picture."]
    assert chips([], ("image",))
    assert chips(
        [replace(page.examples[0], own=True), replace(page.examples[1], own=True, media={})], ()
    ) == ["Describe the picture."]
    assert list(by_task(page.examples[:1])) == ["held_out/detection"]
