"""COCO's instance and caption files: detection and captioning."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from datamodules.benchmarks.answers import Asked, Submission, detections, records, scored_box
from datamodules.benchmarks.base import BadItemError, BadItems, BadPolicy, BlemishError, DataFolder, need
from datamodules.benchmarks.documents import load_json
from datamodules.benchmarks.values import flag, identity, numbers, pixel_box, shown, take, take_text, whole
from octavius.instruction.sample import Boxes, Gold, LabelledBox, Media, References, Sample

LAYOUT = """\
  <root>/annotations/instances_<split>.json    boxes
  <root>/annotations/captions_<split>.json     captions
  <root>/<split>/*.jpg                         images; <split> is for example train2017 or val2017
"""

Record: TypeAlias = dict[str, Any]


def read_detection(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per image that has an object which is not a crowd.

    Crowds (`iscrowd`) become ignored objects, as in COCO's own evaluation: their box surrounds many objects, none of
    which must be found, and a prediction that matches it is not an error. Boxes that exceed the image by rounding are
    clipped. A bad box that is skipped leaves out only itself, not its image. So does a box without area, a known
    blemish: the official instances_train2017.json has two.
    """
    file = need(root, LAYOUT, f"annotations/instances_{split}.json")
    folder = DataFolder(need(root, LAYOUT, f"{split}/"))
    content = load_json(file, dict)
    items = BadItems(bad, file)
    images = _images(content, file, items)
    by_id = dict(images)
    labels = _labels(content, file, items)
    objects: dict[int, list[LabelledBox]] = {}
    seen = dict[int, Record]()
    for index, annotation in enumerate(_rows(content, "annotations", file)):
        with items.guard(f"annotations[{index}]"):
            image = _image_of(annotation, by_id, seen)
            crowd = flag(annotation.get("iscrowd", 0), "'iscrowd'")
            found = replace(_object(annotation, image, labels), ignored=crowd)
            objects.setdefault(annotation["image_id"], []).append(found)
    counted = {key: boxes for key, boxes in objects.items() if not all(box.ignored for box in boxes)}
    golds = {key: Boxes(tuple(boxes)) for key, boxes in counted.items()}
    return _samples(images, golds, "detection", folder, items)


def read_captioning(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per image with a caption, with all its captions as references."""
    file = need(root, LAYOUT, f"annotations/captions_{split}.json")
    folder = DataFolder(need(root, LAYOUT, f"{split}/"))
    content = load_json(file, dict)
    items = BadItems(bad, file)
    images = _images(content, file, items)
    by_id = dict(images)
    captions: dict[int, list[str]] = {}
    seen = dict[int, Record]()
    for index, annotation in enumerate(_rows(content, "annotations", file)):
        with items.guard(f"annotations[{index}]"):
            _image_of(annotation, by_id, seen)
            text = take_text(annotation, "caption")
            captions.setdefault(annotation["image_id"], []).append(text)
    golds = {key: References(tuple(texts)) for key, texts in captions.items()}
    return _samples(images, golds, "captioning", folder, items)


def read_crowds(root: Path, split: str) -> dict[str, frozenset[str]]:
    """By image id, the classes with a crowd: the image shows more objects of them than have boxes."""
    file = need(root, LAYOUT, f"annotations/instances_{split}.json")
    content, items = load_json(file, dict), BadItems("skip", file)  # `read_detection` reports what is wrong
    labels = _labels(content, file, items)
    crowds: dict[str, set[str]] = {}
    for index, annotation in enumerate(_rows(content, "annotations", file)):
        with items.guard(f"annotations[{index}]"):
            image, category = take(annotation, "image_id", int), take(annotation, "category_id", int)
            if flag(annotation.get("iscrowd", 0), "'iscrowd'") and category in labels:
                crowds.setdefault(str(image), set()).add(labels[category])
    return {key: frozenset(names) for key, names in crowds.items()}


def read_boxes(path: Path, asked: Asked) -> Submission:
    """COCO's `[{"image_id": .., "category_id": .., "bbox": [x, y, width, height], "score": ..}, ..]`."""
    content = load_json(asked.folder / "annotations" / f"instances_{asked.split}.json", dict)
    sizes = {str(image["id"]): (image["width"], image["height"]) for image in content["images"]}
    labels = {category["id"]: category["name"] for category in content["categories"]}
    boxes = list[tuple[str, LabelledBox]]()
    for where, record in records(path):
        try:
            key = identity(record.get("image_id"), "'image_id'")
            label = labels.get(take(record, "category_id", int))
            if key not in sizes or label is None:
                name = "category_id" if key in sizes else "image_id"
                raise BadItemError(f"{name} {shown(record[name])} is not in the annotations of the split")
            left, top, width, height = numbers(take(record, "bbox", list), 4)
            edges = left, top, left + width, top + height
            (score,) = numbers([record.get("score")], 1)
            boxes.append((key, scored_box(label, edges, sizes[key], score)))
        except BadItemError as error:
            raise BadItemError(f"{where}: {error}") from None
    return detections(boxes, sizes)


def read_captions(path: Path, asked: Asked) -> Submission:
    """COCO's `[{"image_id": .., "caption": ".."}, ..]`; an image may be named by its file, without suffix too."""
    found = Submission()
    names = {Path(key).stem: key for key in asked.samples}
    for where, record in records(path):
        try:
            key = identity(record.get("image_id"), "'image_id'")
            found.add(names.get(Path(key).stem, key), take(record, "caption", str))
        except BadItemError as error:
            raise BadItemError(f"{where}: {error}") from None
    return found


def _rows(content: Record, key: str, file: Path) -> list[Record]:
    """One of the file's top-level lists."""
    rows = content.get(key)
    if not isinstance(rows, list):
        raise ValueError(
            f"{file}: expected a list under the top-level key '{key}'; found the keys {shown(sorted(content))}. "
            f"Is it an official COCO annotation file?"
        )
    return rows


def _images(content: Record, file: Path, items: BadItems) -> list[tuple[int, Record]]:
    """Pairs of id and image, in the order of the file."""
    images: dict[int, Record] = {}
    for index, image in enumerate(_rows(content, "images", file)):
        with items.guard(f"images[{index}]"):
            key = whole(take(image, "id", int), "'id'")
            if images.setdefault(key, image) is not image:
                raise BadItemError(f"the id {key} occurs twice among the images")
    return list(images.items())


def _labels(content: Record, file: Path, items: BadItems) -> dict[int, str]:
    """Category names by id."""
    labels: dict[int, str] = {}
    for index, category in enumerate(_rows(content, "categories", file)):
        with items.guard(f"categories[{index}]"):
            key, name = take(category, "id", int), take_text(category, "name")
            if labels.setdefault(key, name) != name:
                raise BadItemError(f"the id {key} is also that of the category '{labels[key]}'")
    return labels


def _image_of(annotation: Record, images: Mapping[int, Record], seen: dict[int, Record]) -> Record:
    """The image of an annotation; refuses an exact duplicate of an earlier annotation.

    Args:
        annotation: the annotation.
        images: the file's images by id.
        seen: the annotations so far by id; updated.
    """
    key = take(annotation, "image_id", int)
    if "id" in annotation:
        # Only exact duplicates: some tools give all annotations one id, which COCO's own evaluation ignores too.
        first = seen.setdefault(whole(annotation["id"], "'id'"), annotation)
        if first is not annotation and first == annotation:
            raise BadItemError(f"the annotation with id {annotation['id']} occurs twice")
    if key not in images:
        raise BadItemError(f"image_id {key} is not among the file's images")
    return images[key]


def _object(annotation: Record, image: Record, labels: Mapping[int, str]) -> LabelledBox:
    category = take(annotation, "category_id", int)
    if category not in labels:
        raise BadItemError(f"category_id {category} is not among the file's categories")
    left, top, width, height = numbers(take(annotation, "bbox", list), 4)
    if min(width, height) == 0 and max(width, height) >= 0:
        raise BlemishError(
            f"the box of annotation {annotation.get('id')} has no area: {width:g} x {height:g} pixels"
        )
    size = numbers((take(image, "width", int), take(image, "height", int)), 2)
    return LabelledBox(labels[category], pixel_box((left, top, left + width, top + height), *size))


def _samples(
    images: list[tuple[int, Record]],
    golds: Mapping[int, Gold],
    task: str,
    folder: DataFolder,
    items: BadItems,
) -> list[Sample]:
    """One sample per image that has a gold; then reports all items that were left out."""
    samples = []
    for key, image in images:
        if key in golds:
            with items.guard(f"the image with id {key}"):
                size = (image["width"], image["height"]) if isinstance(golds[key], Boxes) else None
                media = {"image": Media(path=folder.file(take(image, "file_name", str)), size=size)}
                samples.append(Sample(str(key), task, f"coco_{task}", media, "", golds[key]))
    items.report()
    return samples
