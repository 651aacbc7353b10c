"""Callback for benchmark runs: answers and blind controls go to a folder from which an interrupted run resumes."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L

from octavius.callbacks.evaluation import HEAD, Evaluation
from octavius.evaluation import blind
from octavius.evaluation.answers import Answered, unique
from octavius.evaluation.controls import ALL, Control
from octavius.evaluation.generation import gather_once
from octavius.evaluation.prediction_files import PredictionFiles
from octavius.evaluation.scores import headline_of
from octavius.files import read_json, write_text

CONTROLS = "controls.json"
ENTRY = {"settings", "samples", "protocol", "scores"}
"""Keys of an entry of the controls file, which has one entry per evaluation set."""


class BenchmarkEvaluation(Evaluation):
    """Evaluation that resumes an interrupted one; it computes no scores but those of the blind controls.

    Controls of a set that are in the folder, with the same settings, are not run again.

    Attributes:
        files: the predictions files, one for each evaluation set.
        earlier: the answers that were in the folder before this run.
    """

    def __init__(self, configured: Evaluation, folder: Path, keys: Sequence[tuple[str, str]]) -> None:
        """Reads the answers that are in the folder.

        Args:
            configured: source of the settings.
            folder: folder of the files.
            keys: evaluation set and id of every sample, in the order of the data.
        """
        how = configured.decoding
        super().__init__(
            how.max_new_tokens,
            how.num_beams,
            configured.controls,
            configured.controls_limit,
            how.likelihood,
            how.sampling,
        )
        self.files, self.controls_file = PredictionFiles(folder), folder / CONTROLS
        self.indices = {key: index for index, key in enumerate(keys)}
        self.earlier = self.read()

    def read(self) -> list[Answered]:
        """The answers in the folder to samples of the data, in the order of the data."""
        answers = self.files.read(dict.fromkeys(name for name, _ in self.indices))
        return unique(
            replace(item, index=self.indices[item.key]) for item in answers if item.key in self.indices
        )

    def open_files(self, trainer: L.Trainer, stage: str) -> PredictionFiles:  # noqa: ARG002
        """The files of the folder, which are appended to."""
        return self.files

    def collect(self, trainer: L.Trainer) -> list[Answered]:  # noqa: ARG002
        """The answers of this run and of earlier ones."""
        return unique([*self.earlier, *gather_once(self._answers)])

    def report(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        stage: str,  # noqa: ARG002
        everything: Sequence[Answered],
    ) -> None:
        """Runs the blind controls and writes their scores."""
        chosen = self.controls_left(everything)
        if not chosen:
            return
        scores = self.run_controls(trainer, module, chosen, self.control_names)
        if trainer.is_global_zero:
            entries = {name: self._entry(chosen[name], scores[name]) for name in chosen}
            write_text(self.controls_file, json.dumps({**self.known_controls(), **entries}, indent=1))

    def controls_left(self, answers: Sequence[Answered]) -> dict[str, list[Answered]]:
        """The samples to ask again, by set, without the sets whose controls are in the file."""
        if not self.control_names:
            return {}
        seen = [item for item in answers if not item.left_out]
        chosen = blind.choose(seen, self.controls is None, self.controls_limit)
        known = self.known_controls()
        return {name: items for name, items in chosen.items() if name not in known}

    def known_controls(self) -> dict[str, Any]:
        """The entries of the controls' file that have the same settings, by set."""
        entries = read_json(self.controls_file) if self.controls_file.is_file() else {}
        if not isinstance(entries, dict) or not all({*entry} >= ENTRY for entry in entries.values()):
            raise ValueError(
                f"{self.controls_file} is damaged: expected scores by set; remove it to run the controls again"
            )
        return {
            name: entry
            for name, entry in entries.items()
            if entry["settings"] == self._settings() and "metric" in entry
        }

    @property
    def control_names(self) -> list[Control]:
        """The controls to run."""
        return list(ALL) if self.controls is None else self.controls

    def _settings(self) -> list[Any]:
        return [list(self.control_names), self.controls_limit]

    def _entry(self, items: list[Answered], scores: dict[str, dict[str, float]]) -> dict[str, Any]:
        sample = items[0].sample
        return {
            "settings": self._settings(),
            "samples": len(items),
            "protocol": sample.protocol,
            "metric": headline_of(sample.task, sample.protocol, scores["model"]),
            "scores": scores,
        }


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
