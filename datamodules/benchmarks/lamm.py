"""LAMM's benchmark JSON on images: the same data sets as read from their official layouts, with LAMM's questions."""

import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from datamodules.benchmarks.base import BadItemError, BadItems, BadPolicy, DataFolder, need
from datamodules.benchmarks.dialogues import refuse_placeholders
from datamodules.benchmarks.documents import load_json
from datamodules.benchmarks.images import cifar10
from datamodules.benchmarks.images.celeba import HAIR
from datamodules.benchmarks.values import (
    checked_box,
    full_text,
    identity,
    numbers,
    shown,
    take,
    take_text,
    texts,
    whole,
)
from octavius.instruction.sample import Boxes, Choice, ClassName, Gold, LabelledBox, Media, References, Sample
from octavius.suggestions import nearest

LAYOUT = """\
  <root>/meta_file/<split>.json     a list of {image, query, id}, each with its answer; or <root>/<split>.json;
                                    <split> is for example Detection_VOC2012 or VQA_SQAimage
  <root>/...                        images, where the items' `image` says, for example voc2012_images/*.jpg
"""

OUTSIDE = 5e-3
"""Fraction of the image by which a box may exceed it because of rounding: two pixels of 400."""

BALD = "bald"
"""Answer that the hair question may have besides CelebA's four colours."""

Record = dict[str, Any]


def read(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per item of the file named after the split, a key of `FILES`.

    The question is the item's `query`. Options that it lists are removed, as the task adds them. A question for a
    class of CIFAR-10 is followed by the ten names in an order seeded by the item's index, as in the published
    benchmark.

    Raises:
        ValueError: the file is unknown or malformed, or an item is bad (with `bad="error"`).
    """
    file = need(root, LAYOUT, f"meta_file/{split}.json", f"{split}.json")
    if split not in FILES:
        raise ValueError(
            f"{file} is not a known benchmark file of LAMM{nearest(split, FILES)}; known ones are {', '.join(FILES)}"
        )
    task, read_item = FILES[split]
    images, items = DataFolder(root), BadItems(bad, file)
    samples = []
    for index, record in enumerate(load_json(file, list)):
        name = record.get("id", index) if isinstance(record, dict) else index
        with items.guard(f"item {index} (id {shown(name)})"):
            own = identity(name, "'id'")
            media = {"image": Media(path=images.file(take_text(record, "image")))}
            question, gold = read_item(record, index)
            refuse_placeholders(question, "'query'", has_media=True)
            samples.append(Sample(f"{own}-{index}", task, "lamm", media, question, gold))
    items.report()
    return _with_bald(samples)


def _detection(record: Record, _: int) -> tuple[str, Gold]:
    objects = []
    for number, found in enumerate(take(record, "object", list)):
        x1, y1, x2, y2 = numbers(take(found, "bbox", list), 4)
        try:
            box = checked_box((x1, y1, x2, y2), OUTSIDE)
        except BadItemError as error:
            raise BadItemError(f"object {number}: {error}") from None
        objects.append(LabelledBox(take_text(found, "label"), box))
    if not objects:
        raise BadItemError("'object' is empty; expected at least one object to detect")
    return take_text(record, "query"), Boxes(tuple(objects))


def _vqa(record: Record, _: int) -> tuple[str, Gold]:
    options = texts(record, "gt_choices", least=2)
    answer = whole(take(record, "gt_choice", int), "'gt_choice'", 0, len(options) - 1)
    question, written, listed = take_text(record, "query").rpartition("Options:")
    letters = " ".join(f"({letter}) {option}" for letter, option in zip("ABCDEFGHIJ", options, strict=False))
    if not written:
        question = listed
    elif _plain(listed) != _plain(letters):
        raise BadItemError(
            f"its 'query' lists the options {_plain(listed)[:60]!r}, but its 'gt_choices' are {letters[:60]!r}"
        )
    return question.strip(), Choice(options, answer)


def _cifar10(record: Record, index: int) -> tuple[str, Gold]:
    label = take_text(record, "label").lower()
    if label not in cifar10.CLASSES:
        raise BadItemError(f"'label' should be one of {', '.join(cifar10.CLASSES)}, found {shown(label)}")
    names = random.Random(index).sample(cifar10.CLASSES, len(cifar10.CLASSES))
    question = f"{take_text(record, 'query')} Choose one of these: {', '.join(names)}."
    return question, ClassName(label, cifar10.CLASSES)


def _caption(record: Record, _: int) -> tuple[str, Gold]:
    return take_text(record, "query"), References(texts(record, "sentences"))


def _hair(record: Record, _: int) -> tuple[str, Gold]:
    colour = take_text(record, "attr").lower()
    if colour not in (*HAIR, BALD):
        raise BadItemError(f"'attr' should be one of {', '.join((*HAIR, BALD))}, found {shown(colour)}")
    return take_text(record, "query"), ClassName(colour, tuple(HAIR))


def _with_bald(samples: list[Sample]) -> list[Sample]:
    """Adds "bald" to the candidates of all samples if it is the right answer of any."""
    if not any(isinstance(sample.gold, ClassName) and sample.gold.name == BALD for sample in samples):
        return samples
    return [
        replace(sample, gold=ClassName(sample.gold.name, (*HAIR, BALD)))
        for sample in samples
        if isinstance(sample.gold, ClassName)
    ]


def _smile(record: Record, _: int) -> tuple[str, Gold]:
    value = take(record, "attr", object)  # a string in official files
    value = full_text(value, "'attr'") if isinstance(value, str) else str(whole(value, "'attr'", -1, 1))
    if value not in ("1", "-1"):
        raise BadItemError(f"'attr' should be 1 or -1, found {shown(value)}")
    return take_text(record, "query"), ClassName("yes" if value == "1" else "no", ("yes", "no"))


def _plain(text: str) -> str:
    """The text on one line, with a space after each option letter."""
    return " ".join(re.sub(r"\(([A-J])\)", r"(\1) ", text).split())


FILES: dict[str, tuple[str, Callable[[Record, int], tuple[str, Gold]]]] = {
    "Detection_VOC2012": ("detection", _detection),
    "VQA_SQAimage": ("vqa", _vqa),
    "VQA_ScienceQA": ("vqa", _vqa),  # the same file under its later name
    "Classification_CIFAR10": ("classification", _cifar10),
    "Caption_flickr30k": ("captioning", _caption),
    "Facial_Classification_CelebA(Hair)": ("facial_attributes", _hair),
    "Facial_Classification_CelebA(Smile)": ("facial_attributes", _smile),
}
"""Files of the paper's benchmarks, each with its task and the function that reads question and gold of an item."""
