"""Callback that writes and scores the answers of every validation and test."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
from torch.utils.data import DataLoader

from octavius.callbacks.board import MEAN, OVERVIEW, log_folder
from octavius.display import csv_cell, visible
from octavius.evaluation import blind
from octavius.evaluation.answers import Answered, Decoding, Sampling, left_out_lines, readable
from octavius.evaluation.controls import ALL, Control
from octavius.evaluation.generation import answer_batch, gather_once
from octavius.evaluation.prediction_files import PredictionFiles
from octavius.evaluation.scores import (
    BLIND_CEILING,
    chance,
    headline_of,
    measurements,
    printed,
    rows,
    score,
    set_intervals,
    tabulate,
)
from octavius.files import write_text
from octavius.instruction.sample import Sample
from octavius.limits import POSITIVE_INT, SIZE_RANGE
from octavius.runs import history
from octavius.runs.history import Measurement
from octavius.suggestions import nearest

HEAD = """\
blind controls, on the same samples (majority: most frequent training answer; text: media masked; box: boxes without
features; shuffled: features of another scene)"""


class Evaluation(L.Callback):
    """Writes the answers that `validation_step` and `test_step` return to a predictions file, and scores them.

    Each sample counts once, whatever the number of ranks. Samples that cannot be read are excluded from all scores
    and listed below the table.

    Callbacks with a method `on_answers(trainer, module, stage, answers)` receive all answers on every rank.

    Attributes:
        table: scores of the last evaluation, one row per set and group.
        controls_table: blind controls (input ablations and a majority baseline) of the last evaluation, one row
            per set; None if there were none.
    """

    def __init__(
        self,
        max_new_tokens: int | None = None,
        num_beams: int = 1,
        controls: list[Control] | None = None,
        controls_limit: int | None = 100,
        likelihood: bool = False,
        sampling: Sampling | None = None,
    ) -> None:
        """Sets decoding, greedy by default, and the blind controls.

        Args:
            max_new_tokens: maximum length of an answer in tokens; null uses the limit of each task.
            num_beams: number of beams in beam search; 1 is greedy.
            controls: blind controls to compute at every evaluation, any of majority, text, box and shuffled;
                samples need media; null computes all of them at tests only, for samples with point clouds.
            controls_limit: number of samples per set that are asked again for the controls, drawn at random;
                null asks all.
            likelihood: also score the most likely of all candidate answers, for tasks that have them, as
                `acc1_likelihood`.
            sampling: sample answers at random, as for the published numbers; null decodes without sampling, which is
                reproducible.
        """
        SIZE_RANGE.check(max_new_tokens=max_new_tokens, num_beams=num_beams)
        if unknown := set(controls or ()) - set(ALL):
            raise ValueError(
                f"there is no control {sorted(unknown)[0]!r}{nearest(sorted(unknown)[0], ALL)}"
                f"; known ones are {', '.join(ALL)}"
            )
        if controls_limit is not None and controls_limit < 1:
            raise ValueError(
                f"controls_limit must be at least 1 or null, found {controls_limit}; for no controls set "
                "`controls` to []"
            )
        POSITIVE_INT.check(controls_limit=controls_limit)
        self.decoding = Decoding(max_new_tokens, num_beams, likelihood, sampling)
        self.controls, self.controls_limit = controls, controls_limit
        self.table: pd.DataFrame | None = None
        self.controls_table: pd.DataFrame | None = None
        self._answers: list[Answered] = []
        self._files: PredictionFiles | None = None
        self._loader: DataLoader[Any] | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Gives the module the settings by which its steps generate answers."""
        pl_module.decoding = self.decoding  # type: ignore[assignment]

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Resets the state, which an interrupted evaluation may have left behind."""
        self._begin(trainer, "val", trainer.val_dataloaders)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Resets the state, which an interrupted evaluation may have left behind."""
        self._begin(trainer, "test", trainer.test_dataloaders)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Writes the answers to one batch."""
        self._add(trainer, pl_module, outputs)

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Writes the answers to one batch."""
        self._add(trainer, pl_module, outputs)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Scores all answers."""
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Scores all answers."""
        self._finish(trainer, pl_module, "test")

    def open_files(self, trainer: L.Trainer, stage: str) -> PredictionFiles | None:
        """The predictions file of a stage, with this rank's stale part removed.

        None without a logger and in a sanity check.
        """
        folder = log_folder(trainer)
        if folder is None or trainer.sanity_checking:
            return None
        files = PredictionFiles(folder, f"predictions_{stage}")
        files.discard(trainer.global_rank)
        return files

    def collect(self, trainer: L.Trainer) -> list[Answered]:
        """The answers of all ranks, each sample once; on rank 0 they are written to the complete predictions file."""
        answers = gather_once(self._answers)
        if self._files is not None:
            if trainer.is_global_zero:
                self._files.finish(answers)
            trainer.strategy.barrier("predictions are written")
            self._files.discard(trainer.global_rank)  # on other nodes rank 0 may not see the parts
        return answers

    def report(
        self, trainer: L.Trainer, module: L.LightningModule, stage: str, everything: Sequence[Answered]
    ) -> None:
        """Scores the answers: logs, prints and writes tables, runs the blind controls, calls `on_answers`."""
        answers = readable(everything)
        scores = score(answers)
        for name, ceiling in getattr(trainer.datamodule, "blind_ceilings", {}).items():  # type: ignore[attr-defined]
            if name in scores:
                scores[name][BLIND_CEILING] = ceiling
        for name, row in scores.items():
            # All ranks have the same value; sync_dist only silences Lightning's warning about each key.
            module.log_dict(
                {f"{stage}/{visible(name)}/{key}": value for key, value in row.items()}, sync_dist=True
            )
        guesses = chance(answers)
        self.table = tabulate(answers, scores, guesses)
        if trainer.sanity_checking:
            return
        folder = log_folder(trainer)
        if trainer.is_global_zero:
            self._write(trainer, stage, everything, scores, guesses, folder)
        self._blind(trainer, module, stage, answers, folder)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if hasattr(callback, "on_answers"):
                callback.on_answers(trainer, module, stage, answers)

    def run_controls(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        chosen: dict[str, list[Answered]],
        controls: Sequence[Control],
    ) -> dict[str, dict[str, dict[str, float]]]:
        """Asks the chosen samples again under blind controls; see `blind.compare` for the result."""
        if trainer.is_global_zero:
            count = sum(len(items) for items in chosen.values())
            print(f"\nblind controls ask {count} samples again ...", flush=True)
        answer = partial(answer_batch, module, decoding=replace(self.decoding, likelihood=False))
        processes = trainer.global_rank, trainer.world_size
        assert self._loader is not None
        blinded = blind.ask_again(chosen, controls, self._loader, answer, module.device, *processes)
        training = training_samples(trainer) if "majority" in controls else None
        return blind.compare(chosen, blinded, training)

    def _begin(self, trainer: L.Trainer, stage: str, loader: Any) -> None:
        if not isinstance(loader, DataLoader):
            raise ValueError(
                f"the evaluation takes one DataLoader over all its sets, found {type(loader).__name__}; join the "
                "sets, as InstructionDataModule does"
            )
        self._answers, self._loader = [], loader
        self._files = self.open_files(trainer, stage)

    def _add(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any) -> None:
        answers = outputs.get("answers") if isinstance(outputs, dict) else None
        if not isinstance(answers, list):
            raise ValueError(
                "the evaluation scores the answers that validation_step and test_step return, as in "
                '`return {"answers": answer_batch(self, batch, self.decoding)}`; '
                f"those of {type(module).__name__} returned {type(outputs).__name__}"
            )
        self._answers += answers
        if self._files is not None:
            self._files.append(answers, trainer.global_rank)

    def _finish(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        everything = self.collect(trainer)
        self._answers = []
        self.report(trainer, module, stage, everything)

    def _write(
        self,
        trainer: L.Trainer,
        stage: str,
        everything: Sequence[Answered],
        scores: dict[str, dict[str, float]],
        guesses: dict[str, dict[str, float]],
        folder: Path | None,
    ) -> None:
        """Prints the table, and writes all scores to the log folder: as CSV, as JSON, and to the run's history."""
        assert self.table is not None
        answers = readable(everything)
        intervals = (
            {name: set_intervals(items) for name, items in rows(answers).items()} if stage == "test" else {}
        )
        if intervals:
            self.table = tabulate(answers, scores, guesses, intervals)
        training = trainer.state.fn == "fit"
        when = f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}"
        if not training:
            when = f"{stage} of the checkpoint of step {trainer.global_step}" if trainer.ckpt_path else stage
        head = "score [95 % interval]" if intervals else "score"
        print(f"\n{when}: {head} (chance: each sample gets another's true answer)")
        print("\n".join([printed(self.table), *left_out_lines(everything)]), flush=True)
        if folder is None:
            return
        protocols = {name: items[0].sample.protocol for name, items in rows(answers).items()}
        named: dict[str, dict[str, Any]] = {}
        for name, row in scores.items():
            named[name] = {"protocol": protocols[name], **row}
            named[name] |= {"intervals": intervals[name]} if name in intervals else {}
            gone = sum(bool(item.left_out) and item.set_name == name for item in everything)
            named[name] |= {"left_out": gone} if gone else {}
        measured = measurements(answers, scores, guesses, intervals)
        history.append(
            folder,
            (Measurement(stage, trainer.current_epoch + 1, trainer.global_step, **row) for row in measured),
        )
        first = pd.DataFrame([row for row in measured if row["headline"]]).groupby("task")["value"].mean()
        means = {OVERVIEW.format(stage, task): float(value) for task, value in first.items()}
        for logger in trainer.loggers:
            logger.log_metrics(
                means | {OVERVIEW.format(stage, MEAN): float(first.mean())}, trainer.global_step
            )
        table = pd.DataFrame(measured).drop(columns="headline")
        write_text(folder / f"metrics_{stage}.csv", table.map(csv_cell).to_csv(index=False))
        write_text(folder / f"metrics_{stage}.json", json.dumps(named, indent=1))

    def _blind(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        stage: str,
        answers: Sequence[Answered],
        folder: Path | None,
    ) -> None:
        """Asks some samples again under the blind controls; logs, prints and writes the scores."""
        self.controls_table = None
        controls = self.controls if self.controls is not None else list(ALL) if stage == "test" else []
        chosen = blind.choose(answers, self.controls is None, self.controls_limit) if controls else {}
        if not chosen:
            return
        scores = self.run_controls(trainer, module, chosen, controls)
        for name, parts in scores.items():
            sample = chosen[name][0].sample
            key = headline_of(sample.task, sample.protocol, parts["model"])
            logged = {
                f"blind/{stage}/{visible(name)}/{key}/{part}": values[key] for part, values in parts.items()
            }
            module.log_dict(logged, sync_dist=True)
        self.controls_table = blind.tabulate(chosen, scores)
        if not trainer.is_global_zero:
            return
        print(f"\n{HEAD}")
        print(self.controls_table.rename(index=visible).to_string(), flush=True)
        if folder is not None:
            facts = self.controls_table[["samples", "protocol"]].to_dict("index")
            write_text(folder / f"controls_{stage}.csv", self.controls_table.rename(index=csv_cell).to_csv())
            named = {name: {**facts[name], **parts} for name, parts in scores.items()}
            write_text(folder / f"controls_{stage}.json", json.dumps(named, indent=1))


def training_samples(trainer: L.Trainer) -> list[Sample] | None:
    """All training samples of the trainer's data; None if it has none or they cannot be read."""
    data: Any = getattr(trainer, "datamodule", None)
    if not hasattr(data, "train_sets"):
        return None
    try:
        return [sample for item in data.train_sets() for sample in item.samples]
    except (ValueError, OSError) as error:  # a machine that only runs tests may lack the training data
        if trainer.is_global_zero:
            print(f"\nno majority answers, as the training data cannot be read: {error}")
        return None
