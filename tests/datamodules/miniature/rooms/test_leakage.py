"""Nothing of a zero-shot set occurs in training, nor in the test set of the same distribution."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from datamodules.miniature.rooms.files import Sizes, plan, room_of, texts_of
from datamodules.miniature.rooms.furniture.catalogue import (
    CLASSES,
    HELD_OUT_PAIRS,
    HELD_OUT_STYLES,
    UNSEEN_CLASSES,
)
from datamodules.miniature.rooms.room import Room
from datamodules.miniature.rooms.shapenet import appearance_of
from datamodules.miniature.rooms.texts.annotations import WORLDS
from datamodules.miniature.rooms.texts.relations import HELD_OUT_RELATION_PAIRS
from tests.datamodules.miniature.rooms.oracle import COLOUR, NAME, ONE_ANCHOR

Facts = dict[str, dict[str, Any]]
PHRASES = {relation: phrase for phrase, relation in ONE_ANCHOR.items()}
ANCHOR = rf"the (?:(?:{COLOUR}) )?({NAME})"
TOLD_RELATIONS = {
    **{relation: re.compile(rf"\b{phrase} {ANCHOR}\b") for relation, phrase in PHRASES.items()},
    "between": re.compile(rf"\bbetween {ANCHOR} and {ANCHOR}\b"),
}
PAIR = re.compile(rf"\b({COLOUR}) ({NAME})(?:s|es)?\b")
UNSEEN_NAME = re.compile(rf"\b({'|'.join(UNSEEN_CLASSES)})s?\b")
ZERO_SHOT_WORDS = re.compile(r"\b(choose|pick|select|find)\b|\bone\b")


def pairs_told(text: str) -> set[tuple[str, str]]:
    """Colours and classes that a text puts together, also as `the chair is red`."""
    apart = re.findall(rf"\b({NAME}) is ({COLOUR})\b", text)
    return {(match[1], match[2]) for match in PAIR.finditer(text)} | {
        (colour, name) for name, colour in apart
    }


def relations_told(text: str) -> set[tuple[str, str]]:
    """Relations and the classes of their anchors."""
    return {
        (relation, name)
        for relation, form in TOLD_RELATIONS.items()
        for match in form.finditer(text)
        for name in match.groups()
    }


def seen_texts(root: Path) -> list[str]:
    """All that is told for training, and what is told of new rooms like those."""
    files = sorted((root / "seen").glob("*.json"))
    assert len([file for file in files if file.name.startswith("Scan")]) == 6
    texts = []
    for file in files:
        if file.name.startswith("Scan"):
            for row in json.loads(file.read_text()):
                texts += [row["description"]] if "description" in row else [row["question"], *row["answers"]]
    return texts


def test_training_tells_nothing_that_is_held_out(rooms_root: Path) -> None:
    texts = seen_texts(rooms_root)
    assert len(texts) > 500
    for text in texts:
        assert not pairs_told(text) & HELD_OUT_PAIRS, text
        assert not relations_told(text) & HELD_OUT_RELATION_PAIRS, text
        assert not UNSEEN_NAME.search(text), text
        if not text.startswith("Where can you find"):
            assert not ZERO_SHOT_WORDS.search(text) or text == "one", text


def test_the_reading_of_texts_finds_what_is_told() -> None:
    assert pairs_told("How many red benches can you see?") == {("red", "bench")}
    assert pairs_told("The tv stand is grey. It is left of the blue tv.") == {
        ("grey", "tv stand"),
        ("blue", "tv"),
    }
    assert relations_told("between the red desk and the tv stand") == {
        ("between", "desk"),
        ("between", "tv stand"),
    }
    assert relations_told("It is on the desk.") == {("on", "desk")}


def test_training_tells_all_else() -> None:
    """The check above is not passed by silence."""
    told = [texts_of(0, "seen", "train", i, room_of(0, "seen", "train", i)) for i in range(40)]
    texts = [text.text for words in told for texts in words.descriptions.values() for text in texts]
    texts += [
        part for words in told for question in words.questions for part in (question.text, *question.answers)
    ]
    pairs = set().union(*map(pairs_told, texts))
    assert {name for _, name in pairs} == set(CLASSES)
    assert len(pairs) > 200
    assert {relation for relation, _ in set().union(*map(relations_told, texts))} >= {*PHRASES} - {
        "above",
        "below",
    }
    assert not any(words.utterances for words in told)


def test_seen_rooms_hold_nothing_that_is_held_out(rooms_root: Path, facts: Facts) -> None:
    things = [thing for room in facts["seen"].values() for thing in room["objects"]]
    assert {(thing["colour"], thing["name"]) for thing in things}.isdisjoint(HELD_OUT_PAIRS)
    assert {(thing["style"], thing["name"]) for thing in things}.isdisjoint(HELD_OUT_STYLES)
    assert {thing["name"] for thing in things} <= set(CLASSES)
    for file in (rooms_root / "seen" / "scans").glob("*/*.aggregation.json"):
        assert not UNSEEN_NAME.search(file.read_text())
    for name in ("scannetv2-labels.combined.tsv", "taxonomy.json", "shapenet_synset_dict.json"):
        assert not UNSEEN_NAME.search((rooms_root / "seen" / name).read_text())


def told_objects(root: Path, world: str) -> set[tuple[str, int]]:
    """The objects that descriptions and utterances of a world are about."""
    rows = json.loads((root / world / "ScanRefer_filtered_test.json").read_text())
    with (root / world / "nr3d.csv").open(newline="") as file:
        said = [(row["scan_id"], int(row["target_id"])) for row in csv.DictReader(file)]
    return {(row["scene_id"], int(row["object_id"])) for row in rows} | set(said)


@pytest.mark.parametrize("world", ["unseen_pairs", "unseen_classes"])
def test_zero_shot_targets_are_all_unseen(rooms_root: Path, facts: Facts, world: str) -> None:
    named = {(scan, thing["id"]): thing for scan, room in facts[world].items() for thing in room["objects"]}

    def unseen(thing: dict[str, Any]) -> bool:
        pair, style = (thing["colour"], thing["name"]), (thing["style"], thing["name"])
        if world == "unseen_classes":
            return thing["name"] in UNSEEN_CLASSES
        return pair in HELD_OUT_PAIRS or style in HELD_OUT_STYLES

    assert all(unseen(named[key]) for key in told_objects(rooms_root, world))
    for row in json.loads((rooms_root / world / "ScanQA_v1.0_test_w_obj.json").read_text()):
        assert any(unseen(named[row["scene_id"], number]) for number in row["object_ids"]), row


def test_unseen_relations_are_all_that_this_world_tells(rooms_root: Path, facts: Facts) -> None:
    world = "unseen_relations"
    for row in json.loads((rooms_root / world / "ScanRefer_filtered_test.json").read_text()):
        assert relations_told(row["description"]) & HELD_OUT_RELATION_PAIRS, row
    for row in json.loads((rooms_root / world / "ScanQA_v1.0_test_w_obj.json").read_text()):
        assert relations_told(row["question"]) & HELD_OUT_RELATION_PAIRS, row
    things = [thing for room in facts[world].values() for thing in room["objects"]]
    assert {(thing["colour"], thing["name"]) for thing in things}.isdisjoint(HELD_OUT_PAIRS)


def test_other_worlds_differ_in_their_own_way_alone(rooms_root: Path, facts: Facts) -> None:
    for world in ("unseen_pairs", "unseen_classes"):
        rows = json.loads((rooms_root / world / "ScanRefer_filtered_test.json").read_text())
        names = {thing["name"] for room in facts[world].values() for thing in room["objects"]}
        assert bool(names & set(UNSEEN_CLASSES)) == (world == "unseen_classes")
        if world == "unseen_pairs":
            assert not any(relations_told(row["description"]) & HELD_OUT_RELATION_PAIRS for row in rows)
    seen = [thing for thing in facts["unseen_classes"].values()]
    known = [thing for room in seen for thing in room["objects"] if thing["name"] in CLASSES]
    assert {(thing["colour"], thing["name"]) for thing in known}.isdisjoint(HELD_OUT_PAIRS)


def test_no_room_is_in_two_sets() -> None:
    rooms: dict[Room, str] = {}
    for job in plan(Sizes(8, 4, 4, 4)):
        room = room_of(0, job.world, job.split, job.index)
        assert room not in rooms, f"{job} is also {rooms[room]}"
        rooms[room] = f"{job.world}/{job.split}"
    sizes = {room.size for room in rooms}
    assert len(sizes) == len(rooms) == 8 + 4 + 4 + 3 * 4
    assert len({job.scan for job in plan(Sizes())}) == 280 + 30 + 50 + 3 * 30


@pytest.mark.parametrize("world", ["seen", "unseen_pairs"])
def test_single_things_are_of_their_world(world: str) -> None:
    names = CLASSES if world == "seen" else sorted({name for _, name in HELD_OUT_STYLES})
    for name in names:
        appearance = appearance_of(0, world, "test", name, 0)
        assert ((appearance.style, name) in HELD_OUT_STYLES) == (world == "unseen_pairs")
    assert set(WORLDS) == {"seen", "unseen_pairs", "unseen_relations", "unseen_classes"}
