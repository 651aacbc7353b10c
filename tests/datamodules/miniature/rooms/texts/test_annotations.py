"""Every text on disk is parsed again: it refers to exactly one object, and answers agree with the facts."""

import ast
import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from datamodules.miniature.rooms.texts.annotations import NR3D, WORLDS, tokens
from tests.datamodules.miniature.rooms.oracle import (
    COLOUR,
    MANY,
    NAME,
    PLURALS,
    Fact,
    called,
    caption_of,
    fitting,
    relation_of,
    standing,
    volume,
)

Facts = dict[str, dict[str, Any]]
WORDS = ("zero", "one", "two", "three", "four", "five")
SETS = [(world, split) for world, facts in WORLDS.items() for split in facts.splits]
QA = {"train": "train", "val": "val", "test": "test_w_obj"}


def load(root: Path, world: str, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((root / world / name).read_text())
    return found


@pytest.mark.parametrize(("world", "split"), SETS)
def test_a_description_fits_one_object_alone(rooms_root: Path, facts: Facts, world: str, split: str) -> None:
    rows = load(rooms_root, world, f"ScanRefer_filtered_{split}.json")
    assert len(rows) >= 6
    told: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        room = facts[world][row["scene_id"]]
        assert fitting(room, caption_of(row["description"])) == [int(row["object_id"])], row
        [thing] = [thing for thing in room["objects"] if thing["id"] == int(row["object_id"])]
        assert row["object_name"] == thing["name"].replace(" ", "_")
        assert "".join(row["token"]) == row["description"].lower().replace(" ", "")
        told.setdefault((row["scene_id"], row["object_id"]), []).append(row["ann_id"])
    assert all(ids == [str(i) for i in range(len(ids))] and len(ids) <= 3 for ids in told.values())
    if world == "seen":
        objects = sum(len(facts[world][scan]["objects"]) for scan in {scan for scan, _ in told})
        assert len(told) >= 0.95 * objects


@pytest.mark.parametrize("world", WORLDS)
def test_an_utterance_fits_one_object_alone(rooms_root: Path, facts: Facts, world: str) -> None:
    with (rooms_root / world / "nr3d.csv").open(newline="") as file:
        table = csv.DictReader(file)
        rows = list(table)
    assert tuple(table.fieldnames or ()) == NR3D
    assert len(rows) >= 6
    for row in rows:
        room, target = facts[world][row["scan_id"]], int(row["target_id"])
        told = caption_of(row["utterance"])
        assert fitting(room, told) == [target], row
        [thing] = [thing for thing in room["objects"] if thing["id"] == target]
        assert row["instance_type"] == thing["name"]
        assert ast.literal_eval(row["tokens"]) == tokens(row["utterance"])
        assert row["mentions_target_class"] == str("name" in told)
        assert row["uses_color_lang"] == str("colour" in told)
        scan, name, count, first, *others = row["stimulus_id"].split("-")
        twins = [other["id"] for other in room["objects"] if other["name"] == thing["name"]]
        assert (scan, name, int(count), int(first)) == (
            row["scan_id"],
            thing["name"].replace(" ", "_"),
            len(twins),
            target,
        )
        assert sorted([target, *map(int, others)]) == twins


def meant(room: Fact, words: str) -> Fact:
    """The one object that words after `the` mean: `desk`, `red desk`, `desk next to the bed`."""
    found = called(room, words)
    if not found:
        match = re.fullmatch(rf"({NAME}) (.+)", words)
        assert match, words
        found = standing(room, called(room, match[1]), match[2])
    assert len(found) == 1, words
    return found[0]


def check_object(room: Fact, text: str, answers: list[str]) -> None:
    match = re.fullmatch(r"(?:What is|Which object is|What do you see) (.+)\?", text)
    assert match
    [thing] = standing(room, room["objects"], match[1])
    assert answers == [thing["name"], f"{thing['colour']} {thing['name']}"]


def check_colour(room: Fact, text: str, answers: list[str]) -> None:
    match = re.fullmatch(
        r"(?:What colour is|What is the colour of|Which colour does) the (.+?)(?: have)?\?", text
    )
    assert match
    assert answers == [meant(room, match[1])["colour"]]


def check_count(room: Fact, text: str, answers: list[str]) -> None:
    match = re.fullmatch(
        rf"How many (?:({COLOUR}) )?({MANY}) (?:are there|are in the room|can you see)\?", text
    )
    assert match
    found = [
        thing
        for thing in room["objects"]
        if thing["name"] == PLURALS[match[2]] and match[1] in (None, thing["colour"])
    ]
    assert answers == [str(len(found)), WORDS[len(found)]]


def check_place(room: Fact, text: str, answers: list[str]) -> None:
    match = re.fullmatch(r"Where (?:is|does|can you find) the (.+?)(?: stand)?\?", text)
    assert match
    thing = meant(room, match[1])
    assert answers
    assert len(set(answers)) == len(answers)
    for answer in answers:
        assert standing(room, [thing], answer) == [thing], (text, answer)


def check_exists(room: Fact, text: str, answers: list[str]) -> None:
    match = re.fullmatch(
        rf"(?:Is there|Is|Does the room have) an? ({COLOUR}) ({NAME})(?: in the room| in this room)?\?", text
    )
    assert match
    assert answers == ["yes" if called(room, f"{match[1]} {match[2]}") else "no"]


def check_larger(room: Fact, text: str, answers: list[str]) -> None:
    match = re.fullmatch(r"(?:Which is larger|What is bigger), the (.+) or the (.+)\?", text)
    assert match
    pair = [meant(room, words) for words in (match[1], match[2])]
    sizes = [volume(thing) for thing in pair]
    right = int(sizes[1] > sizes[0])
    assert sizes[right] >= 1.5 * sizes[1 - right]
    accepted = {match[right + 1], f"the {match[right + 1]}"}
    names = {thing["name"] for thing in pair}
    assert set(answers) == accepted | ({pair[right]["name"]} if len(names) == 2 else set())


CHECKS = {
    r"How many": check_count,
    r"(What|Which) colour|What is the colour": check_colour,
    r"Where": check_place,
    r"Is|Does": check_exists,
    r"Which is larger|What is bigger": check_larger,
    r"What|Which": check_object,
}


@pytest.mark.parametrize(("world", "split"), SETS)
def test_every_answer_follows_from_the_facts(rooms_root: Path, facts: Facts, world: str, split: str) -> None:
    rows = load(rooms_root, world, f"ScanQA_v1.0_{QA[split]}.json")
    kinds = set()
    for row in rows:
        room = facts[world][row["scene_id"]]
        check = next(check for words, check in CHECKS.items() if re.match(words, row["question"]))
        check(room, row["question"], row["answers"])
        kinds.add(check)
        named = {thing["id"]: thing["name"] for thing in room["objects"]}
        assert row["object_names"] == [named[number] for number in row["object_ids"]]
    ids = [row["question_id"] for row in rows]
    assert len(set(ids)) == len(ids) > 3
    assert all(re.fullmatch(rf"{split}-scene\d{{4}}-\d+", key) for key in ids)
    if world == "seen":
        assert kinds == set(CHECKS.values())


def test_the_oracle_reads_places() -> None:
    assert relation_of("between the red chair and the tv stand") == ("between", ["red chair", "tv stand"])
    assert relation_of("in front of the coffee table") == ("front", ["coffee table"])
    assert relation_of("the colour of the desk") is None
