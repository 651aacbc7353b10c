"""Writes texts about rooms in the layouts of ScanRefer, ScanQA and Nr3D."""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.miniature.rooms.furniture.catalogue import UNSEEN_CLASSES
from datamodules.miniature.rooms.layout import Change
from datamodules.miniature.rooms.room import Piece, Room
from datamodules.miniature.rooms.texts.captions import (
    DESCRIPTIONS,
    UTTERANCES,
    Relations,
    Text,
    describe,
    mentioned,
)
from datamodules.miniature.rooms.texts.questions import Question, balanced, questions

QA_SPLITS = {"train": "train", "val": "val", "test": "test_w_obj"}
"""ScanQA's names of the splits; unlike in its official test files, all questions have answers here."""

NR3D = (
    *("assignmentid", "stimulus_id", "utterance", "correct_guess", "speaker_id", "listener_id", "scan_id"),
    *("instance_type", "target_id", "tokens", "dataset", "mentions_target_class", "uses_object_lang"),
    *("uses_spatial_lang", "uses_color_lang", "uses_shape_lang"),
)
"""Nr3D's columns."""


@dataclass(frozen=True)
class World:
    """How the rooms of a folder and their texts differ from those of training.

    Attributes:
        change: how the objects differ.
        relations: which relations the texts use.
        meant: selects the objects that the texts are about.
        splits: its splits.
        first: number of its first scan.
    """

    change: Change
    relations: Relations
    meant: Callable[[Piece], bool]
    splits: tuple[str, ...]
    first: int


WORLDS = {
    "seen": World("none", "seen", lambda piece: True, ("train", "val", "test"), 0),  # noqa: ARG005
    "unseen_pairs": World("pairs", "seen", lambda piece: piece.appearance.held_out, ("test",), 7000),
    "unseen_relations": World("none", "unseen", lambda piece: True, ("test",), 8000),  # noqa: ARG005
    "unseen_classes": World("classes", "any", lambda piece: piece.name in UNSEEN_CLASSES, ("test",), 9000),
}
"""By folder: rooms as in training, then zero-shot test sets with three kinds of held-out content."""


@dataclass(frozen=True)
class RoomTexts:
    """All texts about a room.

    Attributes:
        room: the room.
        descriptions: ScanRefer's descriptions by object number.
        utterances: Nr3D's utterances by object number.
        questions: ScanQA's questions.
    """

    room: Room
    descriptions: Mapping[int, Sequence[Text]]
    utterances: Mapping[int, Sequence[Text]]
    questions: Sequence[Question]


def generate_texts(room: Room, world: World, rng: np.random.Generator, train: bool) -> RoomTexts:
    """Generates the texts about the objects that the world selects; no utterances for a training split."""
    meant = [piece for piece in room.pieces if world.meant(piece)]

    def texts(forms: Sequence[str]) -> dict[int, list[Text]]:
        found = {piece.number: describe(room, piece, rng, world.relations, forms) for piece in meant}
        return {number: some for number, some in found.items() if some}

    numbers = {piece.number for piece in meant}
    asked = [
        one for one in questions(room, rng, world.relations) if numbers & {*one.pieces} or _of_all(world)
    ]
    if world.relations == "unseen":
        asked = [one for one in asked if one.constraint is not None and one.constraint.held_out]
    return RoomTexts(room, texts(DESCRIPTIONS), {} if train else texts(UTTERANCES), asked)


def _of_all(world: World) -> bool:
    """Whether questions about other than the selected objects are kept; not if objects are held out."""
    return world.change == "none"


def write_scanrefer(folder: Path, split: str, rooms: Mapping[str, RoomTexts]) -> None:
    """Writes `ScanRefer_filtered_<split>.json`."""
    rows = [
        {
            "scene_id": scan,
            "object_id": str(number),
            "object_name": _name(room_texts.room, number).replace(" ", "_"),
            "ann_id": str(index),
            "description": text.text,
            "token": tokens(text.text),
        }
        for scan, room_texts in rooms.items()
        for number, texts in room_texts.descriptions.items()
        for index, text in enumerate(texts)
    ]
    _json(folder / f"ScanRefer_filtered_{split}.json", rows)


def write_scanqa(folder: Path, split: str, rooms: Mapping[str, RoomTexts], rng: np.random.Generator) -> None:
    """Writes `ScanQA_v1.0_<split>.json`, with questions dropped until answers are balanced."""
    asked = [(scan, question) for scan, room_texts in rooms.items() for question in room_texts.questions]
    kept = {id(question) for question in balanced([question for _, question in asked], rng)}
    rows: list[dict[str, Any]] = []
    last: dict[str, int] = {}
    for scan, question in asked:
        if id(question) in kept:
            number = last[scan] = last.get(scan, -1) + 1
            rows.append(
                {
                    "scene_id": scan,
                    "object_ids": list(question.pieces),
                    "object_names": [_name(rooms[scan].room, piece) for piece in question.pieces],
                    "question_id": f"{split}-{scan.partition('_')[0]}-{number}",
                    "question": question.text,
                    "answers": list(question.answers),
                }
            )
    _json(folder / f"ScanQA_v1.0_{QA_SPLITS[split]}.json", rows)


def write_nr3d(folder: Path, rooms: Mapping[str, RoomTexts]) -> None:
    """Writes `nr3d.csv`, with all splits."""
    text = io.StringIO()
    table = csv.DictWriter(text, NR3D, lineterminator="\n")
    table.writeheader()
    number = 0
    for scan, room_texts in rooms.items():
        for target, texts in room_texts.utterances.items():
            for said in texts:
                number += 1
                table.writerow(_utterance(number, scan, room_texts.room, target, said))
    (folder / "nr3d.csv").write_text(text.getvalue(), encoding="utf-8", newline="\n")


def _utterance(number: int, scan: str, room: Room, target: int, said: Text) -> dict[str, Any]:
    name = _name(room, target)
    others = [piece.number for piece in room.pieces if piece.name == name and piece.number != target]
    stimulus = [scan, name.replace(" ", "_"), len(others) + 1, target, *others]
    return {
        "assignmentid": number,
        "stimulus_id": "-".join(map(str, stimulus)),
        "utterance": said.text,
        "correct_guess": True,
        "speaker_id": 0,
        "listener_id": 0,
        "scan_id": scan,
        "instance_type": name,
        "target_id": target,
        "tokens": repr(tokens(said.text)),
        "dataset": "nr3d",
        "mentions_target_class": "name" in mentioned(said.form),
        "uses_object_lang": bool(said.constraint.anchors),
        "uses_spatial_lang": True,
        "uses_color_lang": "colour" in mentioned(said.form),
        "uses_shape_lang": False,
    }


def tokens(text: str) -> list[str]:
    """Words and punctuation, in lower case.

    >>> tokens("It is red.")
    ['it', 'is', 'red', '.']
    """
    return re.findall(r"\w+|[^\w\s]", text.lower())


def _name(room: Room, number: int) -> str:
    return next(piece.name for piece in room.pieces if piece.number == number)


def _json(path: Path, content: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8", newline="\n")
