"""Blind controls for benchmark runs, kept in a file so that an interrupted run can resume."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L

from octavius.callbacks.evaluation import HEAD, Evaluation, training_samples
from octavius.callbacks.scoring import blind
from octavius.callbacks.scoring.answers import Answered, ask
from octavius.callbacks.scoring.controls import ALL
from octavius.files import read_json, write_text

FILE = "controls.json"
ENTRY = {"settings", "samples", "protocol", "scores"}
"""Keys of the file's entry for a set."""


class BlindControls(L.Callback):
    """Callback that, once all samples are answered, runs the blind controls on some of them.

    It does the same as `Evaluation`, but stores the scores in a file; a set that is in the file with the same
    settings is not run again.
    """

    def __init__(self, folder: Path, evaluation: Evaluation, answers: Callable[[], list[Answered]]) -> None:
        """Sets where results are stored and what is run.

        Args:
            folder: folder of the file.
            evaluation: source of the settings: decoding, controls, number of samples.
            answers: returns all answers so far, with the dataset indices of their samples.
        """
        self.file, self.evaluation, self.answers = folder / FILE, evaluation, answers
        self.names = list(ALL) if evaluation.controls is None else evaluation.controls

    def wanted(self) -> dict[str, list[Answered]]:
        """The samples to ask again, by set, without the sets that are already in the file."""
        if not self.names:
            return {}
        how = self.evaluation
        chosen = blind.choose(self.answers(), how.controls is None, how.controls_limit)
        return {name: items for name, items in chosen.items() if name not in self.known()}

    def known(self) -> dict[str, Any]:
        """The entries in the file that have the same settings, by set."""
        kept = read_json(self.file) if self.file.is_file() else {}
        if not isinstance(kept, dict) or not all({*entry} >= ENTRY for entry in kept.values()):
            raise ValueError(
                f"{self.file} is damaged: expected scores by set; remove it, and it is made anew"
            )
        return {
            name: entry
            for name, entry in kept.items()
            if entry["settings"] == self._settings() and "metric" in entry
        }

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Runs the controls and writes their scores."""
        trainer.strategy.barrier("answers are written")
        chosen = self.wanted()
        if not chosen:
            return
        if trainer.is_global_zero:
            count = sum(len(items) for items in chosen.values())
            print(f"\nblind controls ask {count} samples again ...", flush=True)
        how: Evaluation = self.evaluation
        loader: Any = trainer.test_dataloaders
        again = partial(
            ask, max_new_tokens=how.max_new_tokens, num_beams=how.num_beams, sampling=how.sampling
        )
        processes = trainer.global_rank, trainer.world_size
        blinded = blind.ask_again(
            chosen, self.names, loader, partial(again, pl_module), pl_module.device, *processes
        )
        training = training_samples(trainer) if "majority" in self.names else None
        scores = blind.compare(chosen, blinded, training)
        if trainer.is_global_zero:
            self._write(
                {**self.known(), **{name: self._entry(chosen[name], scores[name]) for name in chosen}}
            )

    def _settings(self) -> list[Any]:
        return [list(self.names), self.evaluation.controls_limit]

    def _entry(self, items: list[Answered], scores: dict[str, dict[str, float]]) -> dict[str, Any]:
        sample = items[0].sample
        return {
            "settings": self._settings(),
            "samples": len(items),
            "protocol": sample.protocol,
            "metric": blind.headline_of(sample.task, sample.protocol, scores["model"]),
            "scores": scores,
        }

    def _write(self, entries: dict[str, Any]) -> None:
        write_text(self.file, json.dumps(entries, indent=1))


def lines(entries: dict[str, Any]) -> list[list[str]]:
    """Table of the controls: a header, and a row per set with the main metric of model, controls and chance."""
    body = []
    for name, entry in entries.items():
        scores, metric = entry["scores"], entry["metric"]
        cells = [
            f"{scores[part][metric]:.3f}" if part in scores else "-" for part in ("model", *ALL, "chance")
        ]
        body.append([name, str(entry["samples"]), entry["protocol"], metric, *cells])
    return [["set", "samples", "protocol", "metric", "model", *ALL, "chance"], *body] if body else []


def explained() -> str:
    """A description of the controls, on one line."""
    return " ".join(HEAD.split())
