"""Seeds come in, questions about rooms that were never scanned go out, mixed with those about the drawn world.

What the miniature's language model reads of rooms before any cloud exists: symbolic rows, one for each thing that
a detector would have found. No room, pair, class or relation of a zero-shot set is among them.
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

from datamodules.instances import EvalSet, TrainSet
from datamodules.miniature import text
from datamodules.miniature.rooms.symbolic import imagined, planned
from datamodules.miniature.rooms.telling.asked import KINDS
from datamodules.miniature.vocabulary import FIELD, grow_tokenizer, room_lines, world_lines
from datamodules.miniature.world import generator
from datamodules.pretraining.language import IMAGE_TASKS, WorldLanguage, WorldQuestions
from octavius.folders import saving_folder
from octavius.instruction.batch import Processor
from octavius.instruction.sample import Media, Sample
from octavius.limits import COUNT, NOT_NEGATIVE, SHARE
from octavius.presets import find_checkpoint
from octavius.tasks import TASKS

ROOM_TASKS = ("classification3d", "captioning3d", "vqa3d", "dense_captioning3d")

POOL = 4000
"""Plans of rooms that training turns, colours and empties anew for each question."""


class RoomQuestions(Sequence[Sample]):
    """An endless-looking list: item i is made from (seed, place, i) when it is asked for."""

    def __init__(
        self, seed: int, place: str, kind: str, length: int, hidden: float = 0.0, few: float = 0.0
    ) -> None:
        """Chooses one kind of question.

        Args:
            seed: of everything.
            place: keeps training and evaluation rooms apart.
            kind: a key of `datamodules.miniature.rooms.telling.asked.KINDS`.
            length: how many items.
            hidden: share of questions in which nobody can see the classes, or the colours, where that is possible.
            few: share of rooms in which few things are left.
        """
        self.seed, self.place, self.kind, self.length = seed, place, kind, length
        self.hidden, self.few = hidden, few

    def __len__(self) -> int:
        """How many there are."""
        return self.length

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """One sample, made now."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(self.length))]
        rng = generator(self.seed, f"{self.place}/{self.kind}", index)
        while True:
            plan = planned(self.seed, self.place, int(rng.integers(min(POOL, self.length))))
            asked = KINDS[self.kind](imagined(plan, rng, self.few), rng, self.hidden)
            if asked is not None:
                break
        media = {"cloud": Media(array=asked.rows)}
        key = f"rooms/{self.kind}/{index}"
        return Sample(key, asked.task, self.kind, media, asked.question, asked.gold, group=asked.group)


class RoomsLanguage(WorldLanguage):
    """What the miniature's language model is trained on so that it knows rooms and forgets no picture."""

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
            weights: share of each kind of question about pictures.
            room_weights: share of each kind of question about rooms.
            rooms: share of all questions about rooms.
            few: share of training rooms in which few things are left; the probes' rooms are whole.
            written: share of pictures that are written into the question.
            hidden: share of training questions in which classes or colours cannot be seen, where that is possible.
            eval_count: questions of each kind in the probes.
            batch_size: instances in a step.
            eval_batch_size: instances generated at once.
            samples_per_epoch: instances between two probes.
            workers: data worker processes.
            seed: of everything.
            processor: taken from the model.
        """
        SHARE.check(rooms=rooms, few=few, written=written, hidden=hidden)
        COUNT.check(eval_count=eval_count)
        NOT_NEGATIVE.check(weights=weights, room_weights=room_weights)
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
        """Every kind about pictures, then every kind about rooms."""
        pictures, all_rooms = sum(self.weights.values()), sum(self.room_weights.values())
        sets = [
            TrainSet(item.samples, item.weight / pictures * (1 - self.rooms)) for item in super().train_sets()
        ]
        return sets + [
            TrainSet(
                RoomQuestions(self.seed, "rooms-language-train", kind, 2_000_000, self.hidden, self.few),
                weight / all_rooms * self.rooms,
            )
            for kind, weight in self.room_weights.items()
        ]

    def eval_sets(self, stage: str) -> list[EvalSet]:
        """The probes: every kind on pictures and rooms of its own, none of them written."""
        counts = {"vqa": 3 * self.eval_count, "vqa3d": 4 * self.eval_count}
        pictures = [
            EvalSet(
                f"pictures_{kind}",
                WorldQuestions(
                    self.seed, f"language-{stage}", kind, "symbolic", counts.get(kind, self.eval_count)
                ),
            )
            for kind in self.weights
        ]
        return pictures + [
            EvalSet(
                f"rooms_{kind}",
                RoomQuestions(self.seed, f"rooms-language-{stage}", kind, counts.get(kind, self.eval_count)),
            )
            for kind in self.room_weights
        ]


def grow(folder: Path, source: str = "miniature/language", seed: int = 0) -> None:
    """Writes a language model that has a word for all that rooms are told with, before it is taught them.

    All that it knew stays: tokens keep their numbers and rows. A new word starts at the mean of the known ones plus
    noise; new coordinates start along a smooth curve, so that near ones are alike.

    Args:
        folder: where its files go.
        source: a folder of a language model whose tokenizer `datamodules.pretraining.language.vocabulary` made.
        seed: of the new rows.

    Raises:
        ValueError: there is no such model.
    """
    origin = find_checkpoint(source)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(origin)
    asked = [
        question for name in (*IMAGE_TASKS, *ROOM_TASKS, "conversation") for question in TASKS[name].questions
    ]
    asked += [*text.HAIR_QUESTIONS, *text.SMILE_QUESTIONS]
    asked += [form for forms in text.WORDINGS.values() for form in forms[:-1]]  # the last is never told
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
    """First embeddings (count, D) of new pieces, and of rows beyond them, beside the known ones (V, D)."""
    mean, spread = known.mean(0), known.std()
    rows = mean + rng.normal(0, spread / 4, (count, known.shape[1]))
    waves = rng.normal(0, 1.5, 64)  # the finest of them change within half a metre
    phases, ways = rng.uniform(0, 2 * np.pi, 64), rng.normal(0, spread / np.sqrt(32), (64, known.shape[1]))
    for place, piece in enumerate(pieces):
        value = piece.lstrip("[,\u0120")
        if "." in value[1:] and value.lstrip("-").replace(".", "").isdigit():
            rows[place] += np.cos(float(value) * waves + phases) @ ways
    return rows


if __name__ == "__main__":
    auto_cli(grow)
