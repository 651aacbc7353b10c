"""What routing tells of tasks, by hand, and the command `interference` from end to end."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from octavius.cli.main import main
from octavius.interference.report import routing_table


def test_what_the_routing_tells_of_the_task() -> None:
    a, b = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    apart = routing_table({"a": a, "b": b}, {"a": a, "b": torch.tensor([[0.0, 1.0], [1.0, 0.0]])})
    assert apart["mutual_information"].tolist() == pytest.approx([np.log(2)] * 2)
    assert apart["stable_under_paraphrase"].tolist() == [1.0, 0.5]
    assert apart["margin"].tolist() == [1.0, 1.0]
    assert apart["entropy"].tolist() == [0.0, 0.0]
    assert routing_table({"a": a, "b": a}, {"a": a, "b": a})["mutual_information"].tolist() == [0.0, 0.0]


def test_a_folder_that_cannot_be_written_to_is_found_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        main(["interference", "--ckpt", "nowhere.ckpt", "--out", str(tmp_path / "file/lab")])
    assert "so that nothing can be written" in capsys.readouterr().err


def test_the_command_writes_a_page_and_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    few: list[Any] = ["--data.init_args.samples_per_epoch", "16", "--data.init_args.workers", "0"]
    few += ["--data.init_args.train_scenes", "50"]
    quiet = [
        "--trainer.logger",
        "false",
        "--trainer.limit_val_batches",
        "0",
        "--trainer.enable_progress_bar",
        "false",
    ]
    main(["fit", "--config", "conventions.yaml", *few, *quiet])
    capsys.readouterr()
    main(["interference", "--ckpt", "last.ckpt", "--samples", "2", "--out", "lab"])
    said = capsys.readouterr().out
    assert "idle experts: none" in said
    assert {path.name for path in Path("lab").iterdir()} == {
        *("gradients.csv", "routing.csv", "experts.csv", "similarity.csv", "interference.png")
    }
    routing = pd.read_csv("lab/routing.csv")
    assert routing["task"].tolist() == [f"convention{index}" for index in range(4)]
    assert pd.read_csv("lab/experts.csv").shape == (4, 10)
    with Image.open("lab/interference.png") as page:
        assert page.width > 1000
