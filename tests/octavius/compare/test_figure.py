"""The picture has a panel for each primary score, and a bar for each arm that was tested on it."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from octavius.compare.figure import draw
from octavius.compare.table import Result


def test_bars_whiskers_and_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Axes] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *rest: (drawn.extend(self.axes), save(self, *rest)))
    results = [
        Result("one", 0, {"a": {"acc1": 0.5}, "b": {"cider": 2.0, "bleu1": 0.1}}, {}),
        Result("one", 1, {"a": {"acc1": 0.7}, "b": {"cider": 2.5, "bleu1": 0.1}}, {}),
        Result("two", 0, {"a": {"acc1": 0.3}}, {}),
        Result("two", 1, {"a": {"acc1": 0.3}}, {}),
    ]
    draw(results, ["two", "one"], tmp_path / "picture.png")
    panels: dict[str, Any] = {panel.get_title(): panel for panel in drawn if panel.get_title()}
    assert list(panels) == ["a acc1", "b cider"]
    heights = {name: [bar.get_height() for bar in panel.patches] for name, panel in panels.items()}
    assert heights == {"a acc1": pytest.approx([0.3, 0.6]), "b cider": pytest.approx([2.25])}
    dots = [points for panel in panels.values() for points in panel.collections]
    assert {len(points.get_offsets()) for points in dots if hasattr(points, "get_sizes")} >= {2}
    with Image.open(tmp_path / "picture.png") as image:
        assert image.width > 300


def test_one_seed_and_one_set(tmp_path: Path) -> None:
    draw([Result("one", 0, {"a": {"acc1": 0.5}}, {})], ["one"], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000
