"""The script that draws the pictures of the README works on predictions files."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.pages import ROOT

SCRIPT = ROOT / "docs" / "images" / "draw.py"
BOX = "ball [0.10, 0.20, 0.50, 0.90]"


def draw(picture: str, records: list[dict[str, Any]], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs a copy of the script, which writes beside itself."""
    predictions = folder / "predictions_test.jsonl"
    predictions.write_text("".join(json.dumps(record) + "\n" for record in records))
    copy = folder / SCRIPT.name
    copy.write_text(SCRIPT.read_text())
    monkeypatch.setattr(sys, "argv", [str(copy), picture, str(predictions)])
    runpy.run_path(str(copy), run_name="__main__")
    return folder / f"{picture}.png"


def test_routing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = {
        "task": "classification",
        "set": "seen",
        "prediction": "ball",
        "gold": {"name": "ball", "names": ["ball"]},
    }
    records = [base | {"id": str(n), "group": f"convention{n}", "gate": [n, 1 - n]} for n in (0, 1)]
    with Image.open(draw("routing", records, tmp_path, monkeypatch)) as image:
        assert image.width > 300


def test_detections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "image.png")
    thing = {"label": "ball", "box": [0.1, 0.2, 0.5, 0.9], "ignored": False}
    record = {
        "task": "detection",
        "set": "held_out/detection",
        "id": "0",
        "media": {"image": str(tmp_path / "image.png")},
    }
    record |= {"prediction": BOX, "gold": {"boxes": [thing]}}
    with Image.open(draw("detections", [record], tmp_path, monkeypatch)) as image:
        assert image.width > 300
