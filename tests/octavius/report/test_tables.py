"""The paper's tables with a column of scores."""

import csv
from pathlib import Path

import pytest

from octavius.cli.main import main
from octavius.report.paper import SOURCE
from octavius.report.score import scores_of
from octavius.report.tables import markdown
from tests.octavius.callbacks.fake_module import answered, in_set, questions
from tests.octavius.metrics.conftest import Scored, scored  # noqa: F401 - the fixture
from tests.octavius.report.answers import some, write


def test_the_papers_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "all.jsonl", some())
    main(["score", str(file), "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert said == (tmp_path / "scores.md").read_text()
    assert "## Table 1: images" in said
    assert "## Table 2" not in said, "no set fills a column of it"
    with (tmp_path / "scores.csv").open() as text:
        rows = list(csv.DictReader(text))
    mine = next(row for row in rows if row["source"] == "this checkpoint" and row["row"] == "standard")
    assert float(mine["VQA ScienceQA Acc@1"]) == pytest.approx(100 * 4 / 6)
    assert float(mine["Det. VOC Recall@0.5"]) == pytest.approx(75)
    assert float(mine["VQA ScienceQA Acc@1 low"]) < 67 < float(mine["VQA ScienceQA Acc@1 high"])
    assert mine["Facial hair Acc@1"] == ""
    papers = [row for row in rows if row["source"] == SOURCE and row["row"] == "LAMM v2, MoE"]
    assert papers[0]["Det. VOC Recall@0.5"] == "39.04"
    assert "another model" in SOURCE
    long = list(csv.DictReader((tmp_path / "scores_scores.csv").open()))
    assert {row["metric"] for row in long if row["set"] == "voc2012"} >= {"map50", "map_coco", "recall50"}


def test_parts_of_the_miniature_are_rows(tmp_path: Path) -> None:
    items = [
        *answered(in_set("held_out/vqa", questions(3))),
        *answered(in_set("unseen_style/vqa", questions(4))),
    ]
    text = markdown(scores_of([write(tmp_path / "m.jsonl", items)], "standard"))
    assert "| held_out, standard | this checkpoint, on sets of its own that stand in" in text
    assert text.count("| - | - | 100.00 [") >= 2
