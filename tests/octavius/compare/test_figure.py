"""The picture has a panel for each primary score, and a bar for each arm that was tested on it."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from octavius.compare.figure import draw, draw_curves
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


def test_curves_over_a_number_with_the_blind_ceiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Axes] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *rest: (drawn.extend(self.axes), save(self, *rest)))
    results = [
        Result(arm, seed, {"a": {"acc1": score + seed / 10, "blind_ceiling": ceiling}}, {})
        for arm, score, ceiling in [("r2", 0.8, 0.5), ("r4", 0.6, 0.4), ("one2", 0.4, 0.5)]
        for seed in (0, 1)
    ]
    draw_curves(
        results, {"tasks": {"routed": {2: "r2", 4: "r4"}, "one": {2: "one2"}}}, tmp_path / "curves.png"
    )
    lines = {str(line.get_label()): line for line in drawn[0].get_lines()}
    assert list(lines["blind ceiling"].get_xydata().flatten()) == [2, 0.5, 4, 0.4]  # type: ignore[union-attr]
    ends = [bar.lines[0].get_xydata() for bar in drawn[0].containers]  # type: ignore[attr-defined]
    assert [points.tolist() for points in ends] == [
        [[2, pytest.approx(0.85)], [4, pytest.approx(0.65)]],
        [[2, pytest.approx(0.45)]],
    ]
    assert drawn[0].get_xlabel() == "tasks"
    assert (tmp_path / "curves.png").stat().st_size > 1000
