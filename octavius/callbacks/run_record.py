"""Callback that records what a run is and how it ended: `run.json` and `config.yaml` in the log folder.

Trackers get the settings too, as hyperparameters.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException

from octavius.callbacks.board import MEAN, OVERVIEW, log_folder, show_settings
from octavius.configuration.text import parse_config
from octavius.errors import message
from octavius.files import write_text
from octavius.runs import facts

LOSS = "train/loss"


class RunRecord(L.Callback):
    """Writes the record when a run starts, and its outcome when it ends."""

    def __init__(
        self, argv: Sequence[str], configuration: str, seed: int | None, checkpoint: Path | None
    ) -> None:
        """Writes nothing yet.

        Args:
            argv: the arguments of the command line.
            configuration: YAML text of the whole configuration.
            seed: the seed of the run.
            checkpoint: the checkpoint that is resumed or scored.
        """
        self.argv, self.configuration, self.seed, self.checkpoint = argv, configuration, seed, checkpoint
        self._folder: Path | None = None
        self._facts: dict[str, Any] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Writes the record of a run that has just started."""
        folder = log_folder(trainer)
        if folder is None or not trainer.is_global_zero or self._facts:
            return
        self._folder = folder
        self._facts = facts.start(stage, self.argv, self.seed, trainer.world_size)
        if self.checkpoint is not None:
            self._facts["checkpoint"] = {"path": str(self.checkpoint.absolute())}
        write_text(folder / facts.CONFIG, self.configuration)
        facts.write(folder, self._facts)
        if stage == "fit":
            show_settings(trainer, settings_of(self.configuration), (LOSS, OVERVIEW.format("val", MEAN)))

    def on_exception(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,  # noqa: ARG002
        exception: BaseException,
    ) -> None:
        """Records that the run was stopped, or the error that ended it."""
        if isinstance(exception, KeyboardInterrupt | SystemExit | SIGTERMException):
            self._end(trainer, facts.STOPPED)
        else:
            self._end(trainer, facts.FAILED, f"{type(exception).__name__}: {message(exception)}")

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Records that the run has finished, unless it ended with an error."""
        if self._facts.get("status") == facts.RUNNING:
            self._end(trainer, facts.FINISHED)

    def _end(self, trainer: L.Trainer, status: str, error: str | None = None) -> None:
        if self._folder is None:
            return
        self._facts |= {"status": status, "ended": facts.now(), "step": trainer.global_step}
        if error is not None:
            self._facts["error"] = error
        facts.write(self._folder, self._facts)


def settings_of(configuration: str) -> dict[str, str | float]:
    """The numbers and names in the sections `model`, `data` and `trainer` of a configuration, by their dotted keys.

    >>> settings_of("model: {class_path: a.Model, init_args: {lr: 0.1, lora: {rank: 4}, heads: [1]}}")
    {'model': 'Model', 'model.lr': 0.1, 'model.lora.rank': 4}
    """
    found = dict[str, str | float]()

    def add(key: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, part in value.items():
                add(key if name in ("class_path", "init_args") else f"{key}.{name}", part)
        elif isinstance(value, str):
            found[key] = value.rpartition(".")[2] if key not in found and "/" not in value else value
        elif isinstance(value, bool | int | float):
            found[key] = value

    sections = parse_config(configuration, "the configuration")
    for name in ("model", "data", "trainer"):
        add(name, sections.get(name))
    return found
