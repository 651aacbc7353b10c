"""Symbolic data about the miniature's rooms, to train its language model on rooms without point clouds.

Objects are given as symbolic features, one row per object that a detector would find; data about the miniature's
images are mixed in. No room, colour-class pair, class or relation of a zero-shot test set is used here.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
from jsonargparse import auto_cli
from safetensors.numpy import load_file, save_file
from transformers import PreTrainedTokenizerFast

from datamodules.examples import EvalSet, TrainSet
from datamodules.miniature import text
from datamodules.miniature.pretraining.language import (
    IMAGE_TASKS,
    TRAIN_LENGTH,
    WorldLanguage,
    WorldQuestions,
)
from datamodules.miniature.rooms.symbolic import imagined, planned
from datamodules.miniature.rooms.texts.symbolic_questions import KINDS
from datamodules.miniature.vocabulary import FIELD, grow_tokenizer, room_lines, world_lines
from datamodules.miniature.world import generator
from octavius.folders import saving_folder
from octavius.instruction.batch import Processor
from octavius.instruction.sample import Media, Sample
from octavius.limits import FRACTION, NON_NEGATIVE_NUMBER, POSITIVE_INT
from octavius.presets import find_checkpoint
from octavius.tasks import TASKS

ROOM_TASKS = ("classification3d", "captioning3d", "vqa3d", "dense_captioning3d")

POOL = 4000
"""Number of room plans; each question uses one of them, rotated, recoloured and with some objects removed."""


class RoomQuestions(Sequence[Sample]):
    """A lazy sequence of samples: item i is made on demand from the seed, the stream, the kind and i."""

    def __init__(
        self, seed: int, stream: str, kind: str, length: int, hidden: float = 0.0, few: float = 0.0
    ) -> None:
        """Selects one kind of question.

        Args:
            seed: seed of all random choices.
            stream: name of the random stream; training and evaluation draw from separate streams.
            kind: a key of `datamodules.miniature.rooms.texts.symbolic_questions.KINDS`.
            length: number of items.
            hidden: probability that classes or colours are omitted from a question, where possible.
            few: fraction of rooms in which few objects are left.
        """
        self.seed, self.stream, self.kind, self.length = seed, stream, kind, length
        self.hidden, self.few = hidden, few

    def __len__(self) -> int:
        """Number of items."""
        return self.length

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """One sample, or a list of samples for a slice."""
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(self.length))]
        rng = generator(self.seed, f"{self.stream}/{self.kind}", index)
        while True:
            plan = planned(self.seed, self.stream, int(rng.integers(min(POOL, self.length))))
            asked = KINDS[self.kind](imagined(plan, rng, self.few), rng, self.hidden)
            if asked is not None:
                break
        media = {"cloud": Media(array=asked.rows)}
        key = f"rooms/{self.kind}/{index}"
        return Sample(key, asked.task, self.kind, media, asked.question, asked.gold, group=asked.group)


class RoomsLanguage(WorldLanguage):
    """Training data of the miniature's language model on rooms, mixed with data on images so that it keeps those."""

    def __init__(
        self,
        weights: dict[str, float] | None = None,
        room_weights: dict[str, float] | None = None,
        rooms: float = 0.55,
        few: float = 0.5,
        written: float = 0.1,
        hidden: float = 0.3,
        eval_count: int = 25,
        batch_size: int = 32,
        eval_batch_size: int = 64,
        samples_per_epoch: int = 30_000,
        workers: int = 1,
        seed: int = 0,
        processor: Processor | None = None,
    ) -> None:
        """Sets the mixture.

        Args:
            weights: weight of each kind of question about images; all equal by default.
            room_weights: weight of each kind of question about rooms; all equal by default.
            rooms: fraction of questions about rooms.
            few: fraction of training rooms in which few objects are left; evaluation rooms are complete.
            written: fraction of the scenes of images that are written into the question instead of given
                symbolically.
            hidden: fraction of training questions from which classes or colours are omitted, where possible.
            eval_count: questions per kind in the evaluation; three times as many for vqa, four times for vqa3d.
            batch_size: training samples per step and rank.
            eval_batch_size: samples per batch of generation and rank.
            samples_per_epoch: training samples per epoch over all ranks.
            workers: worker processes of each loader.
            seed: seed of all random choices.
            processor: turns samples into examples for the model; the command line takes it from the model.
        """
        FRACTION.check(rooms=rooms, few=few, written=written, hidden=hidden)
        POSITIVE_INT.check(eval_count=eval_count)
        NON_NEGATIVE_NUMBER.check(weights=weights, room_weights=room_weights)
        super().__init__(
            weights,
            written,
            hidden,
            eval_count,
            batch_size,
            eval_batch_size,
            samples_per_epoch,
            workers,
            seed,
            processor,
        )
        self.room_weights, self.rooms, self.few = room_weights or dict.fromkeys(KINDS, 1.0), rooms, few

    def train_sets(self) -> list[TrainSet]:
        """Every kind about images, then every kind about rooms."""
        image_weight, room_weight = sum(self.weights.values()), sum(self.room_weights.values())
        sets = [
            TrainSet(item.samples, item.weight / image_weight * (1 - self.rooms))
            for item in super().train_sets()
        ]
        return sets + [
            TrainSet(
                RoomQuestions(self.seed, "rooms-language-train", kind, TRAIN_LENGTH, self.hidden, self.few),
                weight / room_weight * self.rooms,
            )
            for kind, weight in self.room_weights.items()
        ]

    def eval_sets(self, stage: str) -> list[EvalSet]:
        """Every kind, on images and rooms that do not occur in training, all symbolic."""
        counts = {"vqa": 3 * self.eval_count, "vqa3d": 4 * self.eval_count}
        image_sets = [
            EvalSet(
                f"pictures_{kind}",
                WorldQuestions(
                    self.seed, f"language-{stage}", kind, "symbolic", counts.get(kind, self.eval_count)
                ),
            )
            for kind in self.weights
        ]
        return image_sets + [
            EvalSet(
                f"rooms_{kind}",
                RoomQuestions(self.seed, f"rooms-language-{stage}", kind, counts.get(kind, self.eval_count)),
            )
            for kind in self.room_weights
        ]


def grow(folder: Path, source: str = "miniature/language", seed: int = 0) -> None:
    """Adds the vocabulary of rooms to a language model, before it is trained on them.

    Existing tokens keep their ids and embeddings. A new word starts at the mean embedding plus noise; new
    coordinates start along a smooth curve, so that close ones are similar.

    Args:
        folder: folder to which the model is written.
        source: folder of a language model whose tokenizer was built by
            `datamodules.miniature.pretraining.language.build_vocabulary`.
        seed: seed of the new embeddings.

    Raises:
        ValueError: there is no such model.
    """
    origin = find_checkpoint(source)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(origin)
    asked = [
        question for name in (*IMAGE_TASKS, *ROOM_TASKS, "conversation") for question in TASKS[name].questions
    ]
    asked += [*text.HAIR_QUESTIONS, *text.SMILE_QUESTIONS]
    asked += [form for forms in text.WORDINGS.values() for form in forms[:-1]]  # the last wording is held out
    asked += [*text.LOOK_UP_WORDINGS, "Compare the ball.", "Name the shape of each: ball.", "Answer: no"]
    forms = [FIELD.sub("ball", form) for form in asked]
    grown = grow_tokenizer(tokenizer, [*world_lines(seed, 300, forms), *room_lines()])
    with saving_folder(folder, new=True) as partial:
        shutil.copytree(origin, partial, dirs_exist_ok=True)
        grown.save_pretrained(str(partial))
        config = json.loads((partial / "config.json").read_text())
        rows = -(-len(grown) // 64) * 64
        weights = load_file(partial / "model.safetensors")
        for name in weights.keys() & {"model.embed_tokens.weight", "lm_head.weight"}:
            known = weights[name][: len(tokenizer)]
            pieces = grown.convert_ids_to_tokens([*range(len(tokenizer), len(grown))])
            fresh = new_rows(
                pieces, known.astype(np.float32), rows - len(tokenizer), np.random.default_rng(seed)
            )
            weights[name] = np.concatenate([known, fresh.astype(known.dtype)])
        save_file(weights, partial / "model.safetensors", {"format": "pt"})
        (partial / "config.json").write_text(json.dumps(config | {"vocab_size": rows}, indent=2) + "\n")


def new_rows(pieces: Sequence[str], known: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Initial embeddings (count, D) of new tokens, and of rows that pad the vocabulary size.

    Args:
        pieces: the new tokens.
        known: (V, D) existing embeddings.
        count: number of rows, at least that of the new tokens.
        rng: random generator.
    """
    mean, spread = known.mean(0), known.std()
    rows = mean + rng.normal(0, spread / 4, (count, known.shape[1]))
    waves = rng.normal(0, 1.5, 64)  # the highest frequencies vary within half a metre
    phases, directions = (
        rng.uniform(0, 2 * np.pi, 64),
        rng.normal(0, spread / np.sqrt(32), (64, known.shape[1])),
    )
    for index, piece in enumerate(pieces):
        value = piece.lstrip("[,\u0120")
        if "." in value[1:] and value.lstrip("-").replace(".", "").isdigit():
            rows[index] += np.cos(float(value) * waves + phases) @ directions
    return rows


if __name__ == "__main__":
    auto_cli(grow)
