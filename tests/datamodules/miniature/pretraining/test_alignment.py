"""Image-text pairs are true, reproducible from their seed, and free of held-out content."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from datamodules.miniature import symbolic, world
from datamodules.miniature.pretraining.alignment import (
    ABSENT,
    ANSWERS,
    MiniaturePairs,
    Pictures,
    patch_labels,
    spared_classes,
    tokenize,
)
from octavius.presets import find_checkpoint


def small(**changes: object) -> MiniaturePairs:
    """A data module of a few pictures, without workers."""
    return MiniaturePairs(**({"pictures": 40, "probe_pictures": 12, "batch_size": 8, "workers": 0} | changes))


def test_an_item_is_the_same_always_and_differs_by_index_seed_and_place() -> None:
    first, again = Pictures("clip/train", 9, 3)[4], Pictures("clip/train", 99, 3)[4]
    assert first["caption"] == again["caption"]
    assert torch.equal(first["image"], again["image"])
    assert torch.equal(first["symbols"], again["symbols"])
    others = [Pictures("clip/train", 9, 3)[5], Pictures("clip/train", 9, 4)[4], Pictures("clip/val", 9, 3)[4]]
    assert not any(torch.equal(first["image"], other["image"]) for other in others)


def test_an_item_out_of_range_ends_iteration() -> None:
    assert len(list(Pictures("clip/train", 3, 0))) == 3


def test_training_never_shows_or_tells_what_is_held_out() -> None:
    pictures = Pictures("clip/train", 300, 0)
    for index in range(300):
        facts = pictures.facts(index)
        if isinstance(facts, world.Face):
            assert (facts.hair, facts.skin) not in world.HELD_OUT_FACES
        else:
            assert not {(thing.colour, thing.shape) for thing in facts.things} & world.HELD_OUT_PAIRS
        assert facts.style != world.UNSEEN_STYLE
        assert facts.background != world.UNSEEN_BACKGROUND


def test_patch_labels_name_the_thing_that_owns_the_patch() -> None:
    pictures = Pictures("clip/train", 40, 1)
    for index in range(40):
        facts = pictures.facts(index)
        grid = torch.from_numpy(symbolic.symbols(facts))[None]
        labels = {part: values[0].tolist() for part, values in patch_labels(grid).items()}
        spared = spared_classes(grid)[0].tolist()
        boxes = [facts.pixels] if isinstance(facts, world.Face) else [thing.pixels for thing in facts.things]
        for patch, owner in enumerate(symbolic.owners(boxes)):
            said = {
                part: ANSWERS[part][values[patch]] if values[patch] != ABSENT else None
                for part, values in labels.items()
            }
            if owner < 0:
                assert said == {"class": "background", "colour": None, "hair": None, "smile": None}
                assert spared[patch] == -1
            elif isinstance(facts, world.Face):
                mood = "yes" if facts.smile else "no"
                assert said == {
                    "class": "face",
                    "colour": None,
                    "hair": facts.hair,
                    "smile": mood,
                }
            else:
                thing = facts.things[owner]
                assert said == {"class": thing.shape, "colour": thing.colour, "hair": None, "smile": None}
                assert (thing.colour, symbolic.CLASSES[spared[patch]]) in world.HELD_OUT_PAIRS


def test_a_batch_holds_what_the_module_reads() -> None:
    data = small()
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (8, 3, 112, 112)
    assert batch["image"].dtype == torch.uint8
    assert batch["box_code"].shape == (8, 49, 4 * symbolic.WAVES)
    first = Pictures("clip/train", 40, 0)
    facts = first.facts(0)
    boxes = [facts.pixels] if isinstance(facts, world.Face) else [thing.pixels for thing in facts.things]
    owner = symbolic.owners(boxes)
    assert batch["foreground"][0].tolist() == (owner >= 0).tolist()
    true = np.array(boxes)[owner[owner >= 0]] / world.SIZE
    np.testing.assert_allclose(batch["boxes"][0][batch["foreground"][0]].numpy(), true, atol=1e-3)


def test_validation_has_five_loaders_and_their_shifts() -> None:
    loaders = small().val_dataloader()
    assert [len(loader.dataset) for loader in loaders] == [12, 3, 3, 3, 200]
    facts = loaders[2].dataset.facts(2)
    if isinstance(facts, world.Scene):
        assert {(thing.colour, thing.shape) for thing in facts.things} <= world.HELD_OUT_PAIRS
    assert loaders[3].dataset.facts(0).style == world.UNSEEN_STYLE


@pytest.fixture(scope="module")
def tokenizer() -> object:
    """The miniature's tokenizer."""
    return AutoTokenizer.from_pretrained(find_checkpoint("miniature/clip"))


def test_texts_are_marked_and_padded_right(tokenizer: object) -> None:
    ids = tokenize(tokenizer, ["red", "a picture of a red ball"])
    assert ids[:, 0].tolist() == [1, 1]
    assert (ids == 2).sum(1).tolist() == [1, 1]
    end = ids[0].tolist().index(2)
    assert set(ids[0, end + 1 :].tolist()) <= {0}
    assert tokenizer.decode(ids[1], skip_special_tokens=True) == "a picture of a red ball"
