"""Views of rooms are reproducible, their captions true, and nothing is held-out content."""

import re
from itertools import product

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from datamodules.miniature.pretraining.alignment import ABSENT
from datamodules.miniature.pretraining.room_views import RoomViews, Views, collate, same, spared
from datamodules.miniature.rooms.files import Sizes, plan, room_of
from datamodules.miniature.rooms.furniture.catalogue import (
    CLASSES,
    HELD_OUT_PAIRS,
    HELD_OUT_STYLES,
    UNSEEN_CLASSES,
)
from datamodules.miniature.rooms.furniture.palette import COLOURS
from datamodules.miniature.rooms.layout import make_room
from datamodules.miniature.rooms.objects import ViewedObject, belongs, crops
from datamodules.miniature.rooms.texts.naming import (
    NAMES,
    TEMPLATES,
    sentence,
)
from datamodules.miniature.world import generator
from octavius.presets import find_checkpoint
from octavius.pretraining.views import ANSWERS, VALIDATION

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


def small(**changes: object) -> RoomViews:
    """A data module of few views, without workers."""
    return RoomViews(**({"views": 12, "probe_views": 6, "batch_size": 6, "workers": 0} | changes))


def things(views: Views, count: int) -> list[ViewedObject]:
    """What the first items show, without drawing it."""
    return [views.thing(index, generator(views.seed, views.stream, index)) for index in range(count)]


def test_an_item_is_the_same_always_and_differs_by_index_seed_and_place() -> None:
    def item(place: str, size: int, seed: int, index: int) -> dict[str, object]:
        crops.cache_clear()
        return Views(place, size, seed, turns=(2, 16))[index]

    first, again = item("clip-rooms/train", 9, 3, 4), item("clip-rooms/train", 99, 3, 4)
    assert torch.equal(first["image"], again["image"])
    assert {**first, "image": 0} == {**again, "image": 0}
    for other in (
        item("clip-rooms/train", 9, 3, 5),
        item("clip-rooms/train", 9, 4, 4),
        item("clip-rooms/x", 9, 3, 4),
    ):
        assert not torch.equal(first["image"], other["image"])


def test_items_end() -> None:
    assert len(list(Views("clip-rooms/train", 2, 0, scans=0))) == 2
    with pytest.raises(IndexError):
        Views("clip-rooms/train", 2, 0)[2]


@pytest.mark.parametrize("scans", [0.0, 1.0])
def test_training_never_shows_or_tells_what_is_held_out(scans: float) -> None:
    views = Views("clip-rooms/train", 4000, 0, scans=scans, turns=(1, 40))
    count = 200 if scans == 0 else 240
    for shown in things(views, count):
        assert (shown.appearance.colour, shown.appearance.name) not in HELD_OUT_PAIRS
        assert (shown.appearance.style, shown.appearance.name) not in HELD_OUT_STYLES
        assert shown.appearance.name in CLASSES
    held_out = re.compile(
        "|".join([*(rf"\b{c} {n}\b|\b{n} is {c}\b" for c, n in HELD_OUT_PAIRS), *UNSEEN_CLASSES])
    )
    assert sum(bool(held_out.search(line)) for line in LINES[::10]) > 50  # it would be found
    for index in range(0, count, 40):
        assert not held_out.search(views[index]["caption"])


def test_rooms_of_a_crop_hold_nothing_that_is_held_out() -> None:
    """Not even beside the thing that is told of."""
    for number in range(20):
        for piece in make_room(generator(0, "clip-rooms/train/room", number)).pieces:
            assert not piece.appearance.held_out


def test_no_room_is_one_of_a_written_set() -> None:
    written = {room_of(0, job.world, job.split, job.index).size for job in plan(Sizes(6, 3, 3, 3))}
    places = ("train", "whole", "scans", "unseen-pairs", "unseen-classes", "retrieval")
    own = [
        make_room(generator(0, f"clip-rooms/{place}/room", number)).size
        for place in places
        for number in range(4)
    ]
    assert len({*own}) == len(own)
    assert not {*own} & written


def test_zero_shot_worlds_show_what_is_unseen_alone() -> None:
    pairs = things(Views("clip-rooms/a", 60, 0, "unseen_pairs", turns=(1, 30)), 60)
    assert all(shown.appearance.held_out and shown.appearance.name in CLASSES for shown in pairs)
    classes = things(Views("clip-rooms/a", 60, 0, "unseen_classes", turns=(1, 30)), 60)
    assert {shown.appearance.name for shown in classes} <= set(UNSEEN_CLASSES)
    assert not any(belongs(shown.appearance, "seen") for shown in [*pairs, *classes])


def test_half_of_the_views_are_of_scans_and_a_tenth_of_the_others_are_colourless() -> None:
    shown = things(Views("clip-rooms/train", 4000, 1, turns=(1, 400)), 400)
    whole = [thing for thing in shown if thing.front == 0.0]
    assert 0.42 < len(whole) / len(shown) < 0.58
    grey = [thing for thing in whole if thing.colourless]
    assert 0.04 < len(grey) / len(whole) < 0.17
    assert all(np.ptp(thing.points[:, 3:]) == 0 for thing in grey)


def test_captions_are_true_and_all_kinds_occur() -> None:
    views = Views("clip-rooms/train", 200, 2, scans=0)
    kinds = set()
    for index in range(120):
        item = views[index]
        name, colour = item["mentioned"]
        assert name in (ABSENT, item["class"])
        assert colour in (ABSENT, item["colour"])
        said = item["caption"]
        assert (NAMES[item["class"]] in said) == (name != ABSENT)
        assert any(re.search(rf"\b{c}\b", said) for c in COLOURS) == (colour != ABSENT)
        kinds.add((name == ABSENT, colour == ABSENT))
    assert kinds == {(False, False), (False, True), (True, False)}


def test_pictures_show_their_colour() -> None:
    """The middle of a red thing's view is redder than the rest of the palette's."""
    chosen = tuple(
        (colour, "sofa") for colour in ("green", "blue", "yellow") if (colour, "sofa") not in HELD_OUT_PAIRS
    )
    for index, (colour, _) in enumerate(chosen):
        red, green, blue = (
            Views("clip-rooms/x", 3, 0, distinct=chosen)[index]["image"][:, 24:44, 16:48].float().mean((1, 2))
        )
        assert {"green": green > red, "blue": blue > red, "yellow": red > blue + 30}[colour]


def slow_same(labels: dict[str, torch.Tensor], told: list[tuple[int, int]]) -> list[list[bool]]:
    """One pair of picture and caption after the other."""
    rows = []
    for name, colour in zip(labels["class"].tolist(), labels["colour"].tolist(), strict=True):
        row = []
        for said_name, said_colour in told:
            held = False
            if said_name == ABSENT:
                held = (COLOURS[said_colour], NAMES[name]) in HELD_OUT_PAIRS
            elif said_colour == ABSENT and colour != ABSENT:
                held = (COLOURS[colour], NAMES[said_name]) in HELD_OUT_PAIRS
            right_name = said_name in (ABSENT, name)
            right_colour = colour == ABSENT or said_colour in (ABSENT, colour)
            row.append((right_name and right_colour) or held)
        rows.append(row)
    return rows


def test_what_is_not_held_against_a_view_equals_the_slow_answer() -> None:
    rng = np.random.default_rng(0)
    names, colours = rng.integers(len(CLASSES), size=80), rng.integers(len(COLOURS), size=80)
    labels = {
        "class": torch.from_numpy(names),
        "colour": torch.from_numpy(np.where(rng.random(80) < 0.2, ABSENT, colours)),
    }
    told = []
    for name, colour in zip(labels["class"].tolist(), labels["colour"].tolist(), strict=True):
        kind = "class" if colour == ABSENT else str(rng.choice(("class", "colour", "both")))
        told.append((ABSENT if kind == "colour" else name, ABSENT if kind == "class" else colour))
    assert same(labels, torch.tensor(told)).tolist() == slow_same(labels, told)


def test_spared_answers_are_the_held_out_pairs() -> None:
    by_colour, by_class = spared("class"), spared("colour")
    assert by_colour.shape == (len(COLOURS), len(CLASSES)) == (ANSWERS["colour"], ANSWERS["class"])
    assert {(COLOURS[i], CLASSES[j]) for i, j in by_colour.nonzero().tolist()} == HELD_OUT_PAIRS
    assert {(COLOURS[j], NAMES[i]) for i, j in by_class.nonzero().tolist()} == HELD_OUT_PAIRS


def test_a_batch_never_spares_its_own_label(tokenizer: object) -> None:
    views = Views("clip-rooms/train", 100, 0, scans=0)
    batch = collate([views[index] for index in range(60)], tokenizer)  # type: ignore[arg-type]
    assert batch["image"].dtype == torch.uint8
    assert batch["image"].shape == (60, 3, 64, 64)
    assert batch["same"].diagonal().all()
    for part, table in batch["spared"].items():
        labels = batch["labels"][part]
        known = labels >= 0
        assert not table[known].gather(1, labels[known][:, None]).any()
    colourless = batch["labels"]["colour"] == ABSENT
    assert colourless.any()
    assert not batch["spared"]["class"][colourless].any()


def test_validation_has_a_loader_for_each_figure() -> None:
    data = small()
    loaders = data.val_dataloader()
    assert len(loaders) == len(VALIDATION)
    assert [len(loader.dataset) for loader in loaders] == [6, 6, 6, 6, 100]  # type: ignore[arg-type]
    retrieval = loaders[-1].dataset
    told = {retrieval.distinct[index] for index in range(100)}  # type: ignore[attr-defined]
    assert len(told) == 100
    assert not told & HELD_OUT_PAIRS
    item = retrieval[7]
    colour, name = retrieval.distinct[7]  # type: ignore[attr-defined]
    assert item["caption"] in (f"a {colour} {name}", f"an {colour} {name}")
    batch = next(iter(loaders[0]))
    assert batch["asked"]["class"].shape[:2] == (2, len(CLASSES))
    assert batch["asked"]["colour"].shape[:2] == (2, len(COLOURS))
    assert len(next(iter(data.train_dataloader()))["text"]) == 6
