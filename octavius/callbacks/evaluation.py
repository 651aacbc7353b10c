"""Callback that generates, parses and scores answers at every validation and test."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
from torch.utils.data import DataLoader

from octavius.callbacks.board import log_folder
from octavius.callbacks.scoring import blind
from octavius.callbacks.scoring.answers import (
    Answered,
    Sampling,
    ask,
    gather_once,
    line_of,
    readable,
    told,
)
from octavius.callbacks.scoring.controls import ALL, Control
from octavius.callbacks.scoring.scores import printed, rows, score, set_intervals, tabulate
from octavius.display import csv_cell, visible
from octavius.files import write_text
from octavius.instruction.batch import Batch
from octavius.instruction.sample import Sample
from octavius.limits import COUNT, SIZE

HEAD = """\
blind controls, on the same samples (majority: most frequent training answer; text: media hidden; box: boxes without
features; shuffled: features of another scene)"""


class Evaluation(L.Callback):
    """Generates answers and scores them; each sample counts once, whatever the number of ranks.

    Samples that cannot be read are excluded from all scores and listed below the table.

    Callbacks with a method `on_answers(trainer, module, stage, answers)` receive all answers on every rank.

    Attributes:
        table: scores of the last evaluation, one row per set and group.
        controls_table: blind controls of the last evaluation, one row per set; None if there were none.
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
            max_new_tokens: maximum length of an answer in tokens; null takes the limit of each task.
            num_beams: number of beams in beam search; 1 is greedy.
            controls: blind controls to compute at every evaluation for samples with media, out of majority,
                text, box and shuffled; null computes all of them at tests only, for samples with point
                clouds.
            controls_limit: number of samples per set that are asked again for the controls, drawn at random;
                null asks all.
            likelihood: also score the most likely of all candidate answers, for tasks that have them, as
                `acc1_likelihood`.
            sampling: sample answers at random, as for the published numbers; null decodes without sampling, which is
                reproducible.
        """
        SIZE.check(max_new_tokens=max_new_tokens, num_beams=num_beams)
        if unknown := set(controls or ()) - set(ALL):
            raise ValueError(f"there is no control {sorted(unknown)[0]!r}; known ones are {', '.join(ALL)}")
        if controls_limit is not None and controls_limit < 1:
            raise ValueError(
                f"controls_limit must be at least 1 or null, found {controls_limit}; for no controls set "
                "`controls` to []"
            )
        COUNT.check(controls_limit=controls_limit)
        self.max_new_tokens, self.num_beams, self.sampling = max_new_tokens, num_beams, sampling
        self._ask = partial(ask, max_new_tokens=max_new_tokens, num_beams=num_beams, sampling=sampling)
        self.controls, self.controls_limit = controls, controls_limit
        self.likelihood = likelihood
        self.table: pd.DataFrame | None = None
        self.controls_table: pd.DataFrame | None = None
        self._mine: list[Answered] = []
        self._loader: DataLoader[Any] | None = None
        self._places: list[int] = []

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Resets the state, which an interrupted evaluation may have left behind."""
        self._begin(trainer.val_dataloaders)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Resets the state, which an interrupted evaluation may have left behind."""
        self._begin(trainer.test_dataloaders)

    def on_validation_batch_end(self, *hook: Any) -> None:
        """Generates the answers of one batch."""
        _, module, _, batch, *_ = hook
        self._answer(module, batch)

    def on_test_batch_end(self, *hook: Any) -> None:
        """Generates the answers of one batch."""
        _, module, _, batch, *_ = hook
        self._answer(module, batch)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Scores all answers."""
        self._finish(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Scores all answers."""
        self._finish(trainer, pl_module, "test")

    def _begin(self, loader: Any) -> None:
        if not isinstance(loader, DataLoader):
            raise ValueError(
                f"the evaluation takes one DataLoader over all its sets, found {type(loader).__name__}; join the "
                "sets, as InstructionDataModule does"
            )
        self._mine, self._loader, self._places = [], loader, list(loader.sampler)

    def _answer(self, module: L.LightningModule, batch: Batch) -> None:
        places = self._places[len(self._mine) : len(self._mine) + len(batch)]
        self._mine += self._ask(module, batch, places, likelihood=self.likelihood)

    def _finish(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        everything = gather_once(self._mine)
        self._mine = []
        answers = readable(everything)
        scores = score(answers)
        for name, row in scores.items():
            # All ranks have the same value; sync_dist only silences Lightning's warning about each key.
            module.log_dict(
                {f"{stage}/{visible(name)}/{key}": value for key, value in row.items()}, sync_dist=True
            )
        self.table = tabulate(answers, scores)
        folder = log_folder(trainer)
        if trainer.is_global_zero and not trainer.sanity_checking:
            self._write(trainer, stage, answers, scores, folder, [one for one in everything if one.left_out])
        if not trainer.sanity_checking:
            self._blind(trainer, module, stage, answers, folder)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if hasattr(callback, "on_answers") and not trainer.sanity_checking:
                callback.on_answers(trainer, module, stage, answers)

    def _write(
        self,
        trainer: L.Trainer,
        stage: str,
        answers: Sequence[Answered],
        scores: dict[str, dict[str, float]],
        folder: Path | None,
        left_out: Sequence[Answered],
    ) -> None:
        """Prints the table and writes it to the log folder: CSV, all scores as JSON, predictions as JSON lines."""
        assert self.table is not None
        between = (
            {name: set_intervals(items) for name, items in rows(answers).items()} if stage == "test" else {}
        )
        if between:
            self.table = tabulate(answers, scores, between)
        training = trainer.state.fn == "fit"
        when = f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}" if training else stage
        head = "score [95 % interval]" if between else "score"
        print(f"\n{when}: {head} (chance: each sample gets another's true answer)")
        print("\n".join([printed(self.table), *told([*answers, *left_out])]), flush=True)
        if folder is None:
            return
        protocols = {name: items[0].sample.protocol for name, items in rows(answers).items()}
        named: dict[str, dict[str, Any]] = {}
        for name, row in scores.items():
            named[name] = {"protocol": protocols[name], **row}
            named[name] |= {"intervals": between[name]} if name in between else {}
            gone = sum(item.sample.benchmark == name for item in left_out)
            named[name] |= {"left_out": gone} if gone else {}
        everyone = sorted([*answers, *left_out], key=lambda one: one.place)
        write_text(folder / f"predictions_{stage}.jsonl", "".join(map(line_of, everyone)))
        write_text(folder / f"metrics_{stage}.csv", self.table.rename(index=csv_cell).to_csv())
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
        if trainer.is_global_zero:
            count = sum(len(items) for items in chosen.values())
            print(f"\nblind controls ask {count} samples again ...", flush=True)
        answer = partial(self._ask, module)
        processes = trainer.global_rank, trainer.world_size
        assert self._loader is not None
        blinded = blind.ask_again(chosen, controls, self._loader, answer, module.device, *processes)
        training = training_samples(trainer) if "majority" in controls else None
        scores = blind.compare(chosen, blinded, training)
        for name, parts in scores.items():
            sample = chosen[name][0].sample
            key = blind.headline_of(sample.task, sample.protocol, parts["model"])
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
