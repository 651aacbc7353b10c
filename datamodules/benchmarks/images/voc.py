"""Detection on one year of a PASCAL VOC devkit."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree.ElementTree import Element

from datamodules.benchmarks.answers import Asked, Submission, detections, scored_box
from datamodules.benchmarks.base import BadItemError, BadItems, BadPolicy, DataFolder, need
from datamodules.benchmarks.documents import content_of, parse_xml, read_lines
from datamodules.benchmarks.values import parsed_flag, parsed_number, pixel_box, shown
from octavius.instruction.sample import Boxes, LabelledBox, Media, Sample

LAYOUT = """\
  <root>/Annotations/*.xml                 one file per image
  <root>/ImageSets/Main/<split>.txt        names of the images, one per line; <split> is for example val
  <root>/JPEGImages/*.jpg
  (<root> may also be the folder that holds VOC20xx or VOCdevkit/VOC20xx)
"""


def read(root: Path, split: str, bad: BadPolicy = "error", difficult: bool = False) -> list[Sample]:
    """One sample per image of the split that has an object which is not ignored.

    Args:
        root: the folder of a year, or a folder above it that holds no other year.
        split: name of a list in `ImageSets/Main`.
        bad: policy for a bad image or object.
        difficult: do not ignore the objects marked as difficult. By default they are ignored, as in the VOC
            protocol: they need not be found, and finding them is no error; images with no other object are left out.

    Raises:
        ValueError: `root` holds several years, the annotations of the split are not published, or an item is bad
            (with `bad="error"`).
    """
    root = _year_folder(root)
    names_file = need(root, LAYOUT, f"ImageSets/Main/{split}.txt")
    annotations = DataFolder(need(root, LAYOUT, "Annotations/"))
    images = DataFolder(need(root, LAYOUT, "JPEGImages/"))
    items = BadItems(bad, root)
    listed = read_lines(names_file)
    if (
        split == "test"
        and listed
        and {f"{line}.xml" for _, line in listed}.isdisjoint(os.listdir(annotations.path))
    ):
        raise ValueError(
            f"{annotations.path} holds no annotation of the split 'test'. VOC2012's are not published: take its "
            "split val, or the split test of VOC2007"
        )
    samples = []
    for number, line in listed:
        with items.guard(f"ImageSets/Main/{split}.txt line {number}"):
            name = _name(line)
            document = _document(annotations.file(f"{name}.xml"))
            objects = _objects(document, name, items, difficult)
            if any(not item.ignored for item in objects):
                size = round(_number(document, "size/width")), round(_number(document, "size/height"))
                media = {"image": Media(path=images.file(f"{name}.jpg"), size=size)}
                samples.append(Sample(name, "detection", "voc_detection", media, "", Boxes(objects)))
    items.report()
    return samples


def read_boxes(path: Path, asked: Asked) -> Submission:
    """A folder with VOC's `comp3_det_val_dog.txt`, ..: lines of image, confidence, xmin, ymin, xmax, ymax."""
    split = asked.split
    files = sorted(path.glob(f"comp[34]_det_{split}_*.txt")) if path.is_dir() else []
    if not files:
        raise BadItemError(f"expected a folder with comp3_det_{split}_<class>.txt for each class")
    sizes = dict[str, tuple[int, int]]()
    labels = set[str]()
    for sample in asked.samples.values():
        size = sample.media["image"].size
        assert size is not None
        sizes[sample.id] = size
        assert isinstance(sample.gold, Boxes)
        labels |= {item.label for item in sample.gold.objects}
    names = _year_folder(asked.folder) / "ImageSets" / "Main" / f"{split}.txt"
    listed = {line.strip() for _, line in read_lines(names)}
    boxes = list[tuple[str, LabelledBox]]()
    for file in files:
        label = file.stem.partition(f"_det_{split}_")[2]
        if label not in labels:
            raise BadItemError(f"{file.name}: no object of the split is a {shown(label)}")
        for number, line in read_lines(file):
            try:
                boxes += _scored(line.split(), label, sizes, listed)
            except BadItemError as error:
                raise BadItemError(f"{file.name} line {number}: {error}") from None
    return detections(boxes, listed)


def _scored(
    words: list[str], label: str, sizes: Mapping[str, tuple[int, int]], listed: set[str]
) -> Iterator[tuple[str, LabelledBox]]:
    """The box of a line; none if its image has only difficult objects, and so no sample."""
    if len(words) != 6:
        raise BadItemError(f"expected image, confidence, xmin, ymin, xmax and ymax, found {len(words)} words")
    key, score, *edges = words
    if key not in listed:
        raise BadItemError(f"the image {shown(key)} is not in the split")
    left, top, right, bottom = (parsed_number(word, "as a coordinate") for word in edges)
    confidence = parsed_number(score, "as the confidence")
    if key in sizes:  # VOC counts pixels from 1 and includes the last
        yield key, scored_box(label, (left - 1, top - 1, right, bottom), sizes[key], confidence)


def _year_folder(root: Path) -> Path:
    """The folder that contains `Annotations`: the root, or the only year below it."""
    if (root / "Annotations").is_dir():
        return root
    years = [year for start in (root, root / "VOCdevkit") for year in sorted(start.glob("VOC20[0-9][0-9]"))]
    if len(years) > 1:
        found = ", ".join(str(year.relative_to(root)) for year in years)
        raise ValueError(f"{root} holds several years of VOC ({found}); set the root to one of these folders")
    return years[0] if years else root


def _name(line: str) -> str:
    words = line.split()
    if len(words) != 1:
        raise BadItemError(
            f"expected the name of one image, found {shown(line)}; is it the list of one class, such as dog_val.txt?"
        )
    return words[0]


def _document(file: Path) -> Element:
    try:
        content = content_of(file)
    except ValueError as error:
        raise BadItemError(f"the annotation {error}") from None
    return parse_xml(content, str(file))


def _objects(document: Element, name: str, items: BadItems, difficult: bool) -> tuple[LabelledBox, ...]:
    """The objects of one image; only direct children, because body parts of a person have boxes too."""
    width, height = _number(document, "size/width"), _number(document, "size/height")
    objects = []
    for index, element in enumerate(document.findall("object")):
        with items.guard(f"Annotations/{name}.xml object {index}"):
            # Objects annotated for other tasks than detection lack this mark.
            ignored = parsed_flag(element.findtext("difficult", "0"), "<difficult>") and not difficult
            # VOC pixels are 1-based and inclusive: 1..width spans the image.
            left, top = _number(element, "bndbox/xmin") - 1, _number(element, "bndbox/ymin") - 1
            right, bottom = _number(element, "bndbox/xmax"), _number(element, "bndbox/ymax")
            box = pixel_box((left, top, right, bottom), width, height)
            objects.append(LabelledBox(_text(element, "name"), box, ignored=ignored))
    return tuple(objects)


def _text(element: Element, path: str) -> str:
    text = element.findtext(path, "").strip()
    if not text:
        raise BadItemError(f"<{path.replace('/', '><')}> is missing or empty in <{element.tag}>")
    return text


def _number(element: Element, path: str) -> float:
    return parsed_number(_text(element, path), f"in <{path.replace('/', '><')}>")
