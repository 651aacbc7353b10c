"""The vocabulary and the zero-shot prompts of rooms."""

from itertools import product
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from datamodules.miniature.pretraining.alignment import tokenize
from datamodules.miniature.rooms.furniture.palette import COLOURS
from datamodules.miniature.rooms.texts.naming import (
    NAMES,
    PROMPTS,
    TEMPLATES,
    prompts,
    sentence,
    vocabulary,
)
from octavius.presets import find_checkpoint
from tests.datamodules.miniature.pieces import unmerged

FOLDER = find_checkpoint("miniature/clip_rooms")


LINES = [
    sentence(form, name, colour)
    for forms in TEMPLATES.values()
    for form in forms
    for name, colour in product(NAMES, COLOURS)
]


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return AutoTokenizer.from_pretrained(FOLDER)


def test_every_word_is_one_token_and_unseen_names_too(tokenizer: object) -> None:
    zero_shot = [
        form.format(name) for form in ("a photo of a {}.", "a point cloud model of a {}.") for name in NAMES
    ]
    assert unmerged(tokenizer, [*LINES, *zero_shot]) == []  # type: ignore[arg-type]
    assert unmerged(tokenizer, ["a zebra"]) != []  # type: ignore[arg-type]
    ids = tokenize(tokenizer, zero_shot)  # type: ignore[arg-type]
    assert len({tuple(row) for row in ids.tolist()}) == len(zero_shot)
    assert (ids[:, 0] == 1).all()
    assert ((ids == 2).sum(1) == 1).all()


def test_the_shipped_tokenizer_is_that_of_the_captions(tmp_path: Path) -> None:
    vocabulary().save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").read_text() == (FOLDER / "tokenizer.json").read_text()


def test_prompts_are_the_zero_shot_sentences(tokenizer: object) -> None:
    asked = prompts(lambda texts: tokenize(tokenizer, texts), ("chair", "bunk bed"))  # type: ignore[arg-type]
    read = tokenizer.decode(asked["class"][1, 1], skip_special_tokens=True)  # type: ignore[attr-defined]
    assert read == "a point cloud model of a bunk bed."
    assert PROMPTS["class"] == ("a photo of a {name}.", "a point cloud model of a {name}.")
    assert sentence("{a} {name}", "armchair") == "an armchair"
    assert sentence("{a} {colour} thing", colour="red") == "a red thing"
