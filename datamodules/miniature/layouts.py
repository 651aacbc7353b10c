"""The official layouts in which the miniature is written: image paths and annotation files."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np

from datamodules.miniature.text import WORDINGS, Question, ask, captions
from datamodules.miniature.world import (
    HAIR,
    HELD_OUT_PAIRS,
    SHAPES,
    SIZE,
    Face,
    Scene,
    Shift,
    make_face,
    make_scene,
    make_single,
)

FACE_ATTRIBUTES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair "
    "Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup "
    "High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose "
    "Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat "
    "Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young"
)
"""CelebA's forty attributes in its order; only hair colour, beard, smile and glasses are ever true here."""


@dataclass(frozen=True)
class Item:
    """The scene or face that one image shows, and the question about it if the layout has questions."""

    facts: Scene | Face
    question: Question | None = None

    @property
    def scene(self) -> Scene:
        """The scene of an item that is not a face."""
        assert isinstance(self.facts, Scene), self.facts
        return self.facts


Splits: TypeAlias = Mapping[str, Mapping[int, Item]]
"""Items by split and number; numbers start at 1 and continue through all splits of a data set."""


@dataclass(frozen=True)
class Layout:
    """The official layout of one data set.

    Attributes:
        folder: its folder.
        make: generates an item, given a random generator, the distribution shift and its index in the split.
        picture: returns the path of an item's image in the folder, given the split, the number and the item.
        annotate: writes the annotation files of all splits to the folder.
    """

    folder: str
    make: Callable[[np.random.Generator, Shift, int], Item]
    picture: Callable[[str, int, Item], str]
    annotate: Callable[[Path, Splits], None]


def _make_scene(rng: np.random.Generator, shift: Shift, index: int) -> Item:  # noqa: ARG001
    return Item(make_scene(rng, shift))


def _make_question(rng: np.random.Generator, shift: Shift, index: int) -> Item:
    """A scene with a question, whose kinds take turns; under a shift the wording is unseen too."""
    kind = tuple(WORDINGS)[index % len(WORDINGS)]
    while True:
        scene = make_scene(rng, shift, int(rng.integers(2, 5)) if kind in ("side", "level") else None)
        question = ask(scene, kind, rng, unseen=shift != "none")
        if question is not None:
            return Item(scene, question)


def _make_single(rng: np.random.Generator, shift: Shift, index: int) -> Item:
    """One large object, whose classes take turns; under the shift `pairs` only classes that have a held-out pair."""
    unseen = {shape for _, shape in HELD_OUT_PAIRS}
    shapes = [shape for shape in SHAPES if shift != "pairs" or shape in unseen]
    return Item(make_single(rng, shift, shapes[index % len(shapes)]))


def _make_face(rng: np.random.Generator, shift: Shift, index: int) -> Item:  # noqa: ARG001
    return Item(make_face(rng, shift))


def _annotate_coco(folder: Path, splits: Splits) -> None:
    categories = [
        {"id": index, "name": name, "supercategory": "shape"} for index, name in enumerate(SHAPES, 1)
    ]
    for split, items in splits.items():
        images = [
            {"id": number, "file_name": f"{number:012d}.jpg", "width": SIZE, "height": SIZE}
            for number in items
        ]
        objects = [
            _coco_object(number, index, thing.shape, thing.pixels)
            for number, item in items.items()
            for index, thing in enumerate(item.scene.things)
        ]
        annotations = [
            {"id": 10 * number + index, "image_id": number, "caption": caption}
            for number, item in items.items()
            for index, caption in enumerate(captions(item.scene))
        ]
        frame = {"info": {"description": "miniature world", "year": 2017}, "licenses": [], "images": images}
        target = folder / "annotations"
        instances = {**frame, "annotations": objects, "categories": categories}
        _write_json(target / f"instances_{split}2017.json", instances)
        _write_json(target / f"captions_{split}2017.json", {**frame, "annotations": annotations})


def _coco_object(number: int, index: int, shape: str, pixels: tuple[int, int, int, int]) -> dict[str, Any]:
    x1, y1, x2, y2 = pixels
    return {
        "id": 10 * number + index,
        "image_id": number,
        "category_id": SHAPES.index(shape) + 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": 0,
    }


def _annotate_voc(folder: Path, splits: Splits) -> None:
    for split, items in splits.items():
        names = [f"2012_{number:06d}" for number in items]
        _write_text(folder / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{name}\n" for name in names))
        for name, item in zip(names, items.values(), strict=True):
            path = folder / "Annotations" / f"{name}.xml"
            path.parent.mkdir(parents=True, exist_ok=True)
            _voc_document(name, item.scene).write(path, encoding="utf-8")


def _voc_document(name: str, scene: Scene) -> ElementTree:
    """The annotation of one image; as in the official files, pixel coordinates are 1-based and inclusive."""
    root = Element("annotation")
    for tag, value in (("folder", "VOC2012"), ("filename", f"{name}.jpg"), ("segmented", "0")):
        SubElement(root, tag).text = value
    size = SubElement(root, "size")
    for tag, extent in (("width", SIZE), ("height", SIZE), ("depth", 3)):
        SubElement(size, tag).text = str(extent)
    for thing in scene.things:
        element = SubElement(root, "object")
        marks = (("name", thing.shape), ("pose", "Unspecified"), ("truncated", "0"), ("difficult", "0"))
        for tag, value in marks:
            SubElement(element, tag).text = value
        x1, y1, x2, y2 = thing.pixels
        box = SubElement(element, "bndbox")
        for tag, edge in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
            SubElement(box, tag).text = str(edge)
    indent(root)
    return ElementTree(root)


def _annotate_scienceqa(folder: Path, splits: Splits) -> None:
    problems = {
        str(number): _problem(split, item.question)
        for split, items in splits.items()
        for number, item in items.items()
        if item.question is not None
    }
    _write_json(folder / "problems.json", problems)
    _write_json(
        folder / "pid_splits.json", {split: [str(key) for key in items] for split, items in splits.items()}
    )


def _problem(split: str, question: Question) -> dict[str, Any]:
    return {
        "question": question.text,
        "choices": list(question.options),
        "answer": question.answer,
        "hint": "",
        "image": "image.png",
        "task": "closed choice",
        "grade": "grade1",
        "subject": "natural science",
        "topic": question.kind,
        "category": "",
        "skill": "",
        "lecture": "",
        "solution": question.reason,
        "split": split,
    }


def _annotate_classes(folder: Path, splits: Splits) -> None:
    """Writes nothing: the folder names are the classes."""


def _annotate_celeba(folder: Path, splits: Splits) -> None:
    partitions, rows = [], []
    for split, items in splits.items():
        for number, item in items.items():
            assert isinstance(item.facts, Face), item.facts
            true = _attributes(item.facts)
            flags = " ".join(f"{1 if name in true else -1:2d}" for name in FACE_ATTRIBUTES.split())
            rows.append(f"{number:06d}.jpg {flags}\n")
            partitions.append(f"{number:06d}.jpg {('train', 'val', 'test').index(split)}\n")
    header = f"{len(rows)}\n{FACE_ATTRIBUTES}\n"
    _write_text(folder / "list_attr_celeba.txt", header + "".join(rows))
    _write_text(folder / "list_eval_partition.txt", "".join(partitions))


def _attributes(face: Face) -> set[str]:
    """CelebA's attributes that are true of a face."""
    hair = dict(zip(HAIR, ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"), strict=True))
    true = {hair[face.hair], "No_Beard"}
    return true | ({"Smiling"} if face.smile else set()) | ({"Eyeglasses"} if face.glasses else set())


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _write_text(path, json.dumps(content))


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


LAYOUTS = {
    "coco": Layout(
        "coco", _make_scene, lambda split, number, _: f"{split}2017/{number:012d}.jpg", _annotate_coco
    ),
    "voc": Layout(
        "VOCdevkit/VOC2012",
        _make_scene,
        lambda _, number, __: f"JPEGImages/2012_{number:06d}.jpg",
        _annotate_voc,
    ),
    "scienceqa": Layout(
        "scienceqa",
        _make_question,
        lambda split, number, _: f"images/{split}/{number}/image.png",
        _annotate_scienceqa,
    ),
    "classes": Layout(
        "classes",
        _make_single,
        lambda split, number, item: f"{split}/{item.scene.things[0].shape}/{number:06d}.jpg",
        _annotate_classes,
    ),
    "celeba": Layout(
        "celeba", _make_face, lambda _, number, __: f"img_align_celeba/{number:06d}.jpg", _annotate_celeba
    ),
}
"""The layouts by name."""
