"""The page of the interference lab is drawn with odd names and without experts."""

from pathlib import Path

import pandas as pd
import torch

from octavius.interference.figure import draw
from octavius.interference.gradients import cosines


def test_the_page_of_one_lora_has_no_experts_and_odd_names_are_drawn(tmp_path: Path) -> None:
    table = cosines({"$a_": {"l.0.q": torch.ones(2)}, "b$": {"l.0.q": -torch.ones(2)}})
    empty = pd.DataFrame()
    draw(table, empty, empty, empty, "$x").savefig(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 1000
