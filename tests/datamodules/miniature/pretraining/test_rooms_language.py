"""Questions about rooms without scans: answers parse back, nothing held out is in them, all words are known."""

import json
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from transformers import AutoTokenizer, LlamaForCausalLM

from datamodules.miniature.pretraining.language import KINDS as PICTURE_KINDS
from datamodules.miniature.pretraining.language import WorldQuestions
from datamodules.miniature.pretraining.rooms_language import (
    ROOM_TASKS,
    RoomQuestions,
    RoomsLanguage,
    grow,
    new_rows,
)
from datamodules.miniature.rooms.files import room_of
from datamodules.miniature.rooms.furniture.catalogue import CLASSES, HELD_OUT_PAIRS, UNSEEN_CLASSES
from datamodules.miniature.rooms.furniture.palette import COLOURS
from datamodules.miniature.rooms.symbolic import NAMES, PARTS, STRENGTH, WIDTH, planned
from datamodules.miniature.rooms.texts.relations import HELD_OUT_RELATION_PAIRS
from datamodules.miniature.rooms.texts.symbolic_questions import KINDS
from datamodules.miniature.vocabulary import room_lines
from octavius.instruction.sample import ClassName, DescribedObjects, References, Sample
from octavius.tasks import TASKS
from tests.datamodules.miniature.pieces import unmerged
from tests.datamodules.miniature.rooms.test_leakage import UNSEEN_NAME, pairs_told, relations_told
from tests.selection import mostly_slow
from tests.tiny import SHIPPED, write_models

TASK_KINDS = [kind for kind in KINDS if kind in TASKS]
COLOUR_WORD = re.compile(rf"\b({'|'.join(COLOURS)})\b")


def said(sample: Sample) -> tuple[str, str]:
    """Question and answer as training tells them."""
    task, rng = TASKS[sample.task], random.Random(sample.id)
    return task.question(sample, rng), task.answer(sample, rng)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_read_back(kind: str) -> None:
    for sample in RoomQuestions(0, "test", kind, 30, 0.3)[:]:
        task = TASKS[sample.task]
        value, found = task.value(sample), task.parse(said(sample)[1], sample)
        if isinstance(sample.gold, DescribedObjects):
            ordered = sorted(value, key=lambda item: item.box)
            assert all(one.texts[0] in other.texts for one, other in zip(found, ordered, strict=True))
            assert [one.box for one in found] == [pytest.approx(other.box, abs=0.0051) for other in ordered]
        elif isinstance(sample.gold, References):
            assert found in value
        else:
            assert found == value


@pytest.mark.parametrize("kind", mostly_slow(KINDS, 4))
def test_nothing_held_out_is_told_or_shown(kind: str) -> None:
    for sample in RoomQuestions(0, "rooms-language-train", kind, 50, 0.3)[:]:
        gold = sample.gold
        texts = gold.texts if isinstance(gold, References) else ()
        for text in (*said(sample), *texts):
            assert not pairs_told(text) & HELD_OUT_PAIRS, text
            assert not relations_told(text) & HELD_OUT_RELATION_PAIRS, text
            assert not UNSEEN_NAME.search(text), text
        rows = sample.media["cloud"].array
        assert rows is not None
        for row in rows:
            seen = [np.flatnonzero(row[PARTS[part]] == STRENGTH) for part in ("class", "colour")]
            if all(len(places) == 1 for places in seen) and seen[0][0] < len(CLASSES):
                assert (COLOURS[seen[1][0]], CLASSES[seen[0][0]]) not in HELD_OUT_PAIRS
        if isinstance(gold, ClassName):
            assert not {*gold.names} & {*UNSEEN_CLASSES}
    if kind in ROOM_TASKS:
        unseen = {form for task in ROOM_TASKS for form in TASKS[task].unseen_questions}
        assert not unseen & {said(sample)[0] for sample in RoomQuestions(0, "t", kind, 50)[:]}


def test_questions_of_all_kinds_with_and_without_reasons() -> None:
    samples = RoomQuestions(0, "test", "vqa3d", 150)[:]
    kinds = Counter(sample.group for sample in samples)
    assert set(kinds) == {"object", "colour", "count", "place", "exists", "larger"}
    assert min(kinds.values()) > 8
    for sample in samples:
        gold = sample.gold
        assert isinstance(gold, References)
        if gold.reason:
            assert gold.reason.endswith(f" {gold.texts[0]}")
            assert said(sample)[1] == f"{gold.reason}\nAnswer: {gold.texts[0]}"
        if sample.group == "colour":
            assert gold.reason.split()[-1] in COLOURS
        if sample.group in ("exists", "object"):
            assert not gold.reason


@pytest.mark.parametrize("kind", mostly_slow(KINDS, 4))
def test_what_is_hidden_is_neither_told_nor_shown(kind: str) -> None:
    hidden = Counter[str]()
    for sample in RoomQuestions(0, "hidden", kind, 60, 0.6)[:]:
        rows = sample.media["cloud"].array
        assert rows is not None
        if not len(rows) or (kind == "classification3d" and sample.group == "single"):
            continue
        shown = {part: bool((rows[:, PARTS[part]].max(1) == STRENGTH).all()) for part in ("class", "colour")}
        hidden.update([part for part, seen in shown.items() if not seen] or ["nothing"])
        text = " ".join((sample.question, *getattr(sample.gold, "texts", ())))
        if not shown["colour"]:
            assert not COLOUR_WORD.search(text)
            assert "  " not in text
        if not shown["class"]:
            assert "object" in text
            assert not any(re.search(rf"\b{name}\b", text) for name in NAMES)
    assert hidden["nothing"] > 10
    assert (hidden["class"] > 5) == (kind in ("captioning3d", "at"))
    assert (hidden["colour"] > 5) == (kind not in ("dense_captioning3d", "colours", "listed"))


@pytest.mark.parametrize("kind", ["classification3d", "captioning3d"])
def test_one_thing_is_one_row(kind: str) -> None:
    for sample in RoomQuestions(0, "test", kind, 30)[:]:
        rows = sample.media["cloud"].array
        assert rows is not None
        assert rows.shape == (1, WIDTH + 6)
        if isinstance(sample.gold, ClassName):
            assert NAMES[rows[0, PARTS["class"]].argmax()] == sample.gold.name


def test_a_room_that_is_described_whole_shows_what_is_described() -> None:
    for sample in RoomQuestions(0, "test", "dense_captioning3d", 20)[:]:
        rows, gold = sample.media["cloud"].array, sample.gold
        assert rows is not None
        assert isinstance(gold, DescribedObjects)
        for row in rows[rows[:, NAMES.index("unknown")] == 0]:
            box = np.array([row[WIDTH:]], np.float64)
            true = np.array([item.box for item in gold.objects])
            assert np.abs(box - true).max(1).min() < 0.25


def test_an_item_is_the_same_whenever_it_is_asked_for() -> None:
    questions = RoomQuestions(0, "test", "vqa3d", 1_000_000)
    assert len(questions) == 1_000_000
    once, again = questions[765_432], questions[765_432]
    assert once == again
    assert np.array_equal(once.media["cloud"].array, again.media["cloud"].array)
    assert questions[3:5][1].id == questions[4].id


def test_rooms_share_no_plan_with_data_sets_or_probes() -> None:
    places = [f"rooms-language-{stage}" for stage in ("train", "validate", "test")]
    sizes = [planned(0, place, index).size for place in places for index in range(8)]
    sizes += [
        room_of(0, "seen", split, index).size for split in ("train", "val", "test") for index in range(8)
    ]
    assert len(set(sizes)) == 48


def test_the_mixture_has_the_asked_weights() -> None:
    data = RoomsLanguage(
        {"vqa": 3.0, "hair": 1.0}, {"at": 1.0, "vqa3d": 3.0}, rooms=0.6, written=0.25, eval_count=4
    )
    weights = {
        (item.samples.kind, getattr(item.samples, "form", "room")): item.weight for item in data.train_sets()
    }
    assert weights == pytest.approx(
        {
            ("vqa", "symbolic"): 0.225,
            ("vqa", "written"): 0.075,
            ("hair", "symbolic"): 0.075,
            ("hair", "written"): 0.025,
            ("at", "room"): 0.15,
            ("vqa3d", "room"): 0.45,
        }
    )
    sets = {item.name: len(item.samples) for item in data.eval_sets("validate")}
    assert sets == {"pictures_vqa": 12, "pictures_hair": 4, "rooms_at": 4, "rooms_vqa3d": 16}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny language model, and the same with words for rooms."""
    folder = tmp_path_factory.mktemp("grown")
    source = write_models(folder) / "language"
    (source / "projectors.safetensors").write_bytes(b"as it is")
    grow(folder / "rooms", str(source))
    return source, folder / "rooms"


def test_a_grown_model_knows_what_it_knew(grown: tuple[Path, Path]) -> None:
    old, new = (load_file(folder / "model.safetensors") for folder in grown)
    tokens, more = (AutoTokenizer.from_pretrained(folder) for folder in grown)
    assert {key: more.convert_tokens_to_ids(key) for key in tokens.get_vocab()} == tokens.get_vocab()
    assert old.keys() == new.keys()
    for name, tensor in old.items():
        rows = len(tokens) if name == "model.embed_tokens.weight" else len(tensor)
        np.testing.assert_array_equal(new[name][:rows], tensor[:rows])
        assert new[name].shape[1:] == tensor.shape[1:]
    assert len(new["model.embed_tokens.weight"]) >= len(more)
    assert np.isfinite(new["model.embed_tokens.weight"]).all()
    model = LlamaForCausalLM.from_pretrained(grown[1])
    assert model.config.vocab_size == len(new["model.embed_tokens.weight"])
    configs = [json.loads((folder / "config.json").read_text()) for folder in grown]
    assert {key for key in configs[0] if configs[0][key] != configs[1][key]} <= {"vocab_size"}
    assert (grown[1] / "projectors.safetensors").read_bytes() == b"as it is"


def test_all_that_is_told_is_one_token_a_piece(grown: tuple[Path, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(grown[1])
    samples = [sample for kind in KINDS for sample in RoomQuestions(0, "words", kind, 40, 0.3)[:]]
    samples += [
        sample
        for kind in PICTURE_KINDS
        for form in ("symbolic", "written")
        for sample in WorldQuestions(0, "words", kind, form, 30, 0.3)[:]
    ]
    lines = [f" {text}" for sample in samples for text in said(sample)]
    assert unmerged(tokenizer, lines) == []
    assert unmerged(tokenizer, [" zebra"]) == ["\u0120zebra"]
    for line in lines[::7]:
        assert tokenizer.decode(tokenizer(line, add_special_tokens=False).input_ids) == line


def test_words_of_zero_shot_wordings_are_no_words_yet(grown: tuple[Path, Path]) -> None:
    lines = [*room_lines()]
    assert not [line for line in lines if re.search(r"\b(choose|pick|select)\b", line)]
    tokenizer = AutoTokenizer.from_pretrained(grown[1])
    assert unmerged(tokenizer, [f" {name}" for name in (*CLASSES, *UNSEEN_CLASSES)]) == []


def test_near_coordinates_start_alike() -> None:
    rng = np.random.default_rng(0)
    known = rng.normal(0, 0.05, (300, 64)).astype(np.float32)
    pieces = [f",\u0120{value / 100:.2f}" for value in range(-340, 341)] + ["\u0120chair", "\u0120[2.50", ","]
    rows = new_rows(pieces, known, len(pieces) + 2, rng)
    assert rows.shape == (686, 64)
    away = np.linalg.norm(rows[:681, None] - rows[None, :681], axis=2)
    near = np.mean([away[i, i + 1] for i in range(680)])
    assert near < 0.6 * away[0, 340]
    assert np.linalg.norm(rows[682] - rows[590]) < np.linalg.norm(rows[682] - rows[100])
    assert np.abs(rows[[681, 683, 684, 685]] - known.mean(0)).max() < 0.07


def test_the_shipped_tokenizer_of_the_image_tower_is_its_own() -> None:
    """The text tower of the pictures was trained with these numbers; the language model's words may grow."""
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED / "clip")
    words = json.loads((SHIPPED / "clip" / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
    assert len(tokenizer) <= words["vocab_size"]
