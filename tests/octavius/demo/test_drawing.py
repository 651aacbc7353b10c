"""Boxes, bars and clouds of the page are drawn to scale."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from octavius.demo.callbacks import Callbacks
from octavius.demo.drawing import bars, cloud, picture
from octavius.instruction.sample import LabelledBox, Media
from octavius.serve.rows import Answer
from tests.octavius.demo.scripted import scripted

# Found but not imported: importing Gradio takes each worker of the tests eight seconds.
pytestmark = pytest.mark.skipif(
    not (find_spec("gradio") and find_spec("plotly")), reason="the extra demo is not installed"
)


@pytest.fixture
def page(tmp_path: Path) -> Callbacks:
    """The callbacks."""
    return scripted(tmp_path, other=True)


def test_boxes_and_bars_are_drawn_to_scale(page: Callbacks) -> None:
    text = picture(page.shown[0].media["image"], [LabelledBox("a & b", (0.5, 0.5, 1.0, 1.0))])
    assert 'viewBox="0 0 1000 750.0"' in text
    assert 'x="500.0" y="375.0" width="500.0" height="375.0"' in text
    assert "a &amp; b" in text
    assert "width:50.0%" in bars(Answer("x", weights=(2.0, 1.0)))
    assert bars(Answer("x")) == ""


def test_a_large_cloud_is_thinned(tmp_path: Path) -> None:
    np.save(tmp_path / "large.npy", np.random.default_rng(0).random((40_000, 3)))
    figure = cloud(Media(path=tmp_path / "large.npy"), {"answer": [("<i>", (0, 0, 0, 1, 1, 1))]})
    assert len(figure.data[0].x) == 15_000
    assert figure.data[1].hovertext == "&lt;i&gt;"
    assert len(figure.data[1].x) == 36
