"""Callback that writes each answer to disk as soon as it is generated, so that an interrupted run can resume."""

from pathlib import Path
from typing import Any

import lightning as L

from octavius.callbacks.scoring.answers import Answered, Sampling, ask, line_of
from octavius.display import file_name
from octavius.instruction.batch import Batch


class Journal(L.Callback):
    """Appends answers to files, batch by batch, one file per set and rank; computes no scores.

    If a run is interrupted, all lines but possibly the last are complete.
    """

    def __init__(
        self,
        folder: Path,
        max_new_tokens: int | None = None,
        num_beams: int = 1,
        likelihood: bool = False,
        sampling: Sampling | None = None,
    ) -> None:
        """Takes the folder for the files, and the settings of an `Evaluation`."""
        self.folder = folder
        self.settings = max_new_tokens, num_beams, likelihood, sampling
        self._places: list[int] = []
        self._answered = 0

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Starts at the first sample to answer."""
        loader: Any = trainer.test_dataloaders
        self._places, self._answered = list(loader.sampler), 0
        self.folder.mkdir(parents=True, exist_ok=True)

    def on_test_batch_end(self, *hook: Any) -> None:
        """Generates and writes the answers of one batch."""
        trainer, module, _, batch, *_ = hook
        self._write(trainer.global_rank, self._ask(module, batch))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Waits for all ranks, since their files are read next."""
        trainer.strategy.barrier("predictions are written")

    def _ask(self, module: L.LightningModule, batch: Batch) -> list[Answered]:
        places = self._places[self._answered : self._answered + len(batch)]
        self._answered += len(batch)
        return ask(module, batch, places, *self.settings)

    def _write(self, rank: int, answers: list[Answered]) -> None:
        lines: dict[str, list[str]] = {}
        for item in answers:
            lines.setdefault(item.sample.benchmark, []).append(line_of(item))
        for name, texts in lines.items():
            with part_file(self.folder, name, rank).open("a", encoding="utf-8") as file:
                file.writelines(texts)


def part_file(folder: Path, name: str, rank: int) -> Path:
    """The file with one rank's answers to a set."""
    return folder / f"{file_name(name)}.{rank}.part"
