"""Blinded batches: media are removed or shuffled as specified, and nothing else changes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch as CloudBatch
from torch_geometric.data import Data

from octavius.decoder.decoder import Decoder
from octavius.encoders.rois.object_as_scene import ReaderSizes
from octavius.encoders.rois.precomputed_rois import PrecomputedRois
from octavius.evaluation.controls import box_only, majority, partners, shuffled, text_only
from octavius.instruction.batch import Batch
from octavius.instruction.sample import Choice, Media, References, Sample
from octavius.model import Octavius
from tests.octavius.callbacks.fake_module import answered, detections, objects, questions, sample


def clouds(*scenes: tuple[str, int], width: int = 4) -> Batch:
    """A sample for each (file, number of objects); every number in the features is unlike any other."""
    generator = torch.Generator().manual_seed(0)
    items = [
        Data(x=torch.rand(count, width, generator=generator), boxes=torch.rand(count, 6, generator=generator))
        for _, count in scenes
    ]
    asked = [
        replace(one, media={"cloud": Media(path=Path(file))})
        for one, (file, _) in zip(questions(len(scenes)), scenes, strict=True)
    ]
    zeros = torch.zeros(len(scenes), 3, dtype=torch.long)
    slots = {"cloud": torch.tensor([(row, 1) for row in range(len(scenes))])}
    media = {"cloud": CloudBatch.from_data_list(items)}
    return Batch(zeros, zeros + 1, zeros, zeros, zeros, slots, media, asked)


def origins(batch: Batch, changed: Batch) -> list[int]:
    """For each object the one that its features come from."""
    before, after = batch.media["cloud"].x, changed.media["cloud"].x
    same = (after[:, None] == before).all(-1)
    assert (same.sum(1) == 1).all()
    return same.long().argmax(1).tolist()


def owners(batch: Batch) -> list[str]:
    """The file of each object."""
    return [str(batch.samples[place].media["cloud"].path) for place in batch.media["cloud"].batch]


def test_without_its_media_the_model_answers_the_same_whatever_they_are(
    make_model: Callable[..., Octavius], make_sample: Callable[..., Sample], write: Callable[..., Batch]
) -> None:
    model = make_model().eval()
    processor = model.processor()
    texts = []
    for names in (("red", "blue", "green"), ("one", "two", "three")):
        rows = [make_sample(name, "image") for name in names[:2]] + [make_sample(names[2], "sound", "image")]
        batch = write(processor, *((one, f"What is it{'?' * n}", None) for n, one in enumerate(rows)))
        seen, blind = (model.generate(part, 6, min_new_tokens=6)[0] for part in (batch, text_only(batch)))
        texts.append((seen, blind))
    assert texts[0][1] == texts[1][1]
    assert texts[0][0] != texts[1][0], "with its media it does not"


def test_with_boxes_alone_the_reader_gets_what_objects_without_features_give(
    decoder_folder: Path, write: Callable[..., Batch]
) -> None:
    torch.manual_seed(0)
    reader = ReaderSizes(width=8, queries=2, heads=2, dropout=0.0, hidden=8)
    model = Octavius(Decoder(str(decoder_folder)), {"rois": PrecomputedRois(4, reader=reader)}).eval()
    arrays = [np.random.default_rng(index).normal(size=(2 + index, 10)) for index in range(3)]
    asked = [
        [
            replace(one, media={"rois": Media(array=rows * part)})
            for one, rows in zip(ones, arrays, strict=True)
        ]
        for part in (np.ones(10), np.array([0] * 4 + [1] * 6))
        for ones in [questions(3)]
    ]
    full, bare = (write(model.processor(), *((one, "What is it?", None) for one in ones)) for ones in asked)
    with torch.no_grad():
        slots = [model.embed(batch) for batch in (full, bare, box_only(full), shuffled(full))]
    assert torch.equal(slots[2], slots[1])
    assert not torch.allclose(slots[0], slots[1], atol=1e-3)
    assert not torch.allclose(slots[0], slots[3], atol=1e-3)


def test_text_only_hides_the_slots_and_nothing_else() -> None:
    batch = clouds(("a", 2), ("b", 1))
    hidden = text_only(batch)
    assert hidden.attention_mask.tolist() == [[1, 0, 1], [1, 0, 1]]
    assert batch.attention_mask.all(), "the batch itself is left alone"
    assert hidden.media is batch.media


def test_box_only_leaves_the_boxes() -> None:
    batch = clouds(("a", 2), ("b", 0), ("c", 1))
    kept = batch.media["cloud"].clone()
    bare = box_only(batch).media["cloud"]
    assert not bare.x.any()
    assert bare.x.shape == kept.x.shape
    assert torch.equal(bare.boxes, kept.boxes)
    assert torch.equal(bare.ptr, kept.ptr)
    assert torch.equal(batch.media["cloud"].x, kept.x), "the batch itself is left alone"


def test_box_only_leaves_pictures() -> None:
    batch = replace(clouds(("a", 1)), media={"image": torch.ones(1, 3, 2, 2)})
    assert box_only(batch).media["image"] is batch.media["image"]


def test_shuffled_features_come_from_another_scene_and_boxes_stay() -> None:
    """Two questions about scene a are one scene; a scene without objects has none to give."""
    batch = clouds(("a", 2), ("b", 3), ("none", 0), ("a", 2), ("c", 1))
    changed = shuffled(batch)
    files, places = owners(batch), origins(batch, changed)
    assert sorted(places) == list(range(8)), "each is given once"
    assert all(files[index] != files[other] for index, other in enumerate(places))
    for key in ("boxes", "batch", "ptr"):
        assert torch.equal(changed.media["cloud"][key], batch.media["cloud"][key])
    assert origins(batch, shuffled(batch)) == places, "the same each time"


def test_shuffled_pictures_are_changed_as_wholes() -> None:
    pictures = torch.arange(4.0).view(4, 1)
    media = [{"image": Media(array=np.zeros((1, 1, 3), np.uint8))} for _ in range(4)]
    asked = [replace(one, media=files) for one, files in zip(questions(4), media, strict=True)]
    batch = replace(clouds(("a", 1)), samples=asked, media={"image": pictures})
    found = shuffled(batch).media["image"].flatten().tolist()
    assert sorted(found) == [0, 1, 2, 3]
    assert all(number != index for index, number in enumerate(found))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=7))
def test_as_few_as_possible_stay_in_their_scene(scenes: list[int]) -> None:
    """The oracle tries all orders."""
    found = partners(torch.tensor(scenes)).tolist()
    assert sorted(found) == list(range(len(scenes)))
    fewest = min(
        sum(scenes[index] == scenes[other] for index, other in enumerate(order))
        for order in permutations(range(len(scenes)))
    )
    assert sum(scenes[index] == scenes[other] for index, other in enumerate(found)) == fewest


def test_objects_of_no_scene_have_no_partners() -> None:
    assert partners(torch.tensor([], dtype=torch.long)).tolist() == []


def test_neighbours_in_the_file_are_not_always_partners() -> None:
    """A file sorted by class would else give each object the features of one of its own class."""
    found = partners(torch.arange(60))
    ahead = Counter(((found - torch.arange(60)) % 60).tolist())
    assert len(ahead) > 20


def said(task: str, group: str, *texts: str) -> Sample:
    return sample("t", task, References(texts), group)


TRAINING = [
    said("vqa3d", "colour", "red", "dark red"),
    said("vqa3d", "colour", "red"),
    said("vqa3d", "colour", "blue"),
    said("vqa3d", "number", "two"),
    said("vqa3d", "number", "two", "2"),
    said("vqa3d", "number", "three"),
    said("vqa3d", "yes or no", "two"),
    said("captioning3d", "colour", "a blue chair"),
]


@pytest.mark.parametrize(
    ("task", "group", "answer"),
    [
        ("vqa3d", "colour", "red"),
        ("vqa3d", "number", "two"),
        ("vqa3d", "place", "two"),  # a kind of question that training does not have takes them all
        ("captioning3d", "", "a blue chair"),
    ],
)
def test_the_majority_is_that_of_the_training_answers_to_its_kind_of_question(
    task: str, group: str, answer: str
) -> None:
    gold = References(("seventeen",), "scene")
    (found,) = majority(TRAINING, answered([sample("s", task, gold, group)]))
    assert (found.text, found.value) == (answer, answer)
    (turned,) = majority(TRAINING[::-1], answered([sample("s", task, gold, group)]))
    assert turned == found


def test_the_majority_of_classes_and_of_choices_is_parsed_as_an_answer() -> None:
    classes = majority([*objects(4), *questions(3)], answered(objects(3)))
    assert [item.value for item in classes] == ["cat"] * 3
    other = Choice(("green", "blue"), 0)
    asked = [sample("s", "vqa", other), sample("s", "vqa", Choice(("black", "white"), 0))]
    training = [sample("t", "vqa", Choice(("red", "blue"), 1))]
    assert [item.value for item in majority(training, answered(asked))] == [1, None]


def test_a_task_that_training_does_not_have_has_no_majority() -> None:
    items: list[Any] = answered([*objects(2), *detections(2)])
    assert [item.sample.task for item in majority(detections(1), items)] == ["detection"] * 2
