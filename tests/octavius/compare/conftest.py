"""Commands that only pretend to run, in a folder with two configurations."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from octavius.compare import runs


class Commands:
    """Stands for `octavius fit` and `octavius test`: notes its words, leaves the files that they would leave."""

    def __init__(self) -> None:
        self.given: list[tuple[str, list[str]]] = []
        self.stop_at = -1

    def __call__(self, command: str, words: Iterable[str], log: Path, jobs: int = 1) -> None:  # noqa: ARG002
        said = list(words)
        self.given.append((command, said))
        folder = log.parent
        if command == "fit":
            torch.save({"state_dict": {"a": torch.zeros(2, 3), "b": torch.zeros(4)}}, folder / "last.ckpt")
        if len(self.given) == self.stop_at:
            raise KeyboardInterrupt
        if command == "fit":
            (folder / "logs" / "version_0").mkdir(parents=True)
            cost = {"steps": 7, "seconds": 60.0, "memory_gib": 1.5}
            (folder / "logs" / "version_0" / "cost.json").write_text(json.dumps(cost))
        else:
            (folder / "test").mkdir(exist_ok=True)
            seed = int(folder.name.removeprefix("seed"))
            score = {"acc1": 0.1 * seed + 0.2 * (folder.parent.name == "two")}
            scores = {"q": {"protocol": "standard", **score}, "r": {"protocol": "published", **score}}
            (folder / "test" / "metrics_test.json").write_text(json.dumps(scores))


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """A current folder with two configurations, and commands that only pretend."""
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        Path(f"{name}.yaml").write_text("{}")
    made = Commands()
    monkeypatch.setattr(runs, "octavius", made)
    return made


COMPARE = ("--config", "one.yaml", "--arms", "two.yaml", "--seeds", "2", "--out", "kept")
