"""Predictions of other programs, in the formats in which benchmarks take them or their scripts write them.

`FORMS` has the reader of each benchmark's format; all others, and these too, take the plain form: a JSON object
from sample ids to answers.
"""

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from datamodules.benchmarks.base import BadItemError
from datamodules.benchmarks.documents import load_json, read_lines
from datamodules.benchmarks.values import identity, numbers, parsed_number, shown, take, whole
from datamodules.sources import Source
from octavius.boxes import box_error, clip
from octavius.instruction.sample import Boxes, Choice, LabelledBox, Sample

SHOWN = 3
"""Number of ids that an error lists."""


@dataclass
class Submission:
    """The content of predictions files.

    Attributes:
        answers: answer by sample id, in a form that the sample's task parses.
        scores: confidence of each box of an answer, by sample id.
        unscored: ids of the split that are not among the samples, such as problems without an image.
        partial: whether a sample without an entry is answered, by no box.
    """

    answers: dict[str, str] = field(default_factory=dict)
    scores: dict[str, tuple[float, ...]] = field(default_factory=dict)
    unscored: Collection[str] = frozenset()
    partial: bool = False

    def add(self, key: str, answer: str) -> None:
        """Adds an answer.

        Raises:
            BadItemError: there is one with this id.
        """
        if key in self.answers:
            raise BadItemError(f"the id {shown(key)} stands twice; score one answer of each sample")
        self.answers[key] = answer


@dataclass(frozen=True)
class Asked:
    """What a submission answers.

    Attributes:
        source: the benchmark.
        folder: folder of the data set.
        samples: samples by id.
    """

    source: Source
    folder: Path
    samples: Mapping[str, Sample]


def read_submission(path: Path, source: Source, folder: Path, samples: Sequence[Sample]) -> Submission:
    """Reads predictions and checks that they are those of the samples.

    Args:
        path: the file; for VOC, the folder of the files of the classes.
        source: the benchmark.
        folder: folder of the data set.
        samples: the samples of the benchmark's split.

    Raises:
        ValueError: the file is malformed, or ids are missing, unknown, or stand twice.
    """
    if not path.exists():
        raise ValueError(f"there are no predictions at {path.absolute()}")
    asked = Asked(source, folder, {sample.id: sample for sample in samples})
    form = FORMS.get(source.benchmark, _plain)
    try:
        found = form(path, asked)
    except BadItemError as error:
        raise ValueError(f"{path}: {error}") from None
    unknown = [key for key in found.answers if key not in asked.samples and key not in found.unscored]
    if unknown:
        raise ValueError(
            f"{path}: {_some(unknown)} not among the {len(samples)} samples of {source.title}, split "
            f"{source.split}; are they of another split?"
        )
    missing = [key for key in asked.samples if key not in found.answers]
    if missing and not found.partial:
        raise ValueError(
            f"{path}: {len(found.answers)} answers, but {_some(missing)} missing of {len(samples)} samples of "
            f"{source.title}, split {source.split}; answer each, by an empty text if need be"
        )
    return found


def _some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f"{', '.join(map(shown, keys[:SHOWN]))}{more} {'is' if len(keys) == 1 else 'are'}"


def _plain(path: Path, asked: Asked) -> Submission:
    """`{"<sample id>": "<answer>", ..}`."""
    content = load_json(path, dict)
    if any(isinstance(sample.gold, Boxes) for sample in asked.samples.values()):
        raise BadItemError("boxes are not taken as texts; expected the format of VOC or COCO")
    if wrong := next((key for key, text in content.items() if not isinstance(text, str)), None):
        raise BadItemError(f"the answer of {shown(wrong)} should be a text, found {shown(content[wrong])}")
    return Submission(content)


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a JSON list, and the place of each."""
    for index, record in enumerate(load_json(path, list)):
        if not isinstance(record, dict):
            raise BadItemError(f"item {index} should be an object, found {shown(record)}")
        yield f"item {index}", record


def _questions(path: Path, asked: Asked) -> Submission:  # noqa: ARG001
    """ScanQA's `[{"question_id": .., "answer_top10": ["..", ..]}, ..]`; the first answer counts."""
    found = Submission()
    for where, record in _records(path):
        try:
            answers = take(record, "answer_top10", list)
            first = answers[0] if answers else ""
            if not isinstance(first, str):
                raise BadItemError(f"'answer_top10' should be texts, found {shown(answers)}")
            found.add(identity(record.get("question_id"), "'question_id'"), first)
        except BadItemError as error:
            raise BadItemError(f"{where}: {error}") from None
    return found


def _descriptions(path: Path, asked: Asked) -> Submission:  # noqa: ARG001
    """Scan2Cap's `{"<scan>|<object id>|<name>": ["sos .. eos"], ..}` for ground-truth boxes."""
    found = Submission()
    for key, said in load_json(path, dict).items():
        scan, *rest = key.split("|")
        if len(rest) not in (1, 2):
            raise BadItemError(
                f"the key {shown(key)} should be <scan>|<object id>|<name>, with one caption for each ground-truth "
                "box (captions of detected boxes, by scan, are not scored here)"
            )
        if not isinstance(said, list) or len(said) != 1 or not isinstance(said[0], str):
            raise BadItemError(f"{shown(key)} should have a list of one caption, found {shown(said)}")
        found.add(f"{scan}-{rest[0]}", re.sub(r"^sos\b|\beos$", "", said[0].strip()).strip())
    return found


def _captions(path: Path, asked: Asked) -> Submission:
    """COCO's `[{"image_id": .., "caption": ".."}, ..]`; an image may be named by its file, without suffix too."""
    found = Submission()
    names = {Path(key).stem: key for key in asked.samples}
    for where, record in _records(path):
        try:
            key = identity(record.get("image_id"), "'image_id'")
            found.add(names.get(Path(key).stem, key), take(record, "caption", str))
        except BadItemError as error:
            raise BadItemError(f"{where}: {error}") from None
    return found


def _problems(path: Path, asked: Asked) -> Submission:
    """ScienceQA's `{"results": {"<problem id>": <index of the option>}, ..}`; -1 is no option."""
    content = load_json(path, dict)
    found = Submission(unscored=_without_image(asked))
    for key, index in take(content, "results", dict).items():
        sample = asked.samples.get(key)
        gold = None if sample is None else sample.gold
        most = len(gold.options) - 1 if isinstance(gold, Choice) else 25
        option = whole(index, f"the result of {shown(key)}, the index of an option or -1,", -1, most)
        found.add(key, f"The answer is {chr(ord('A') + option)}." if option >= 0 else "")
    return found


def _without_image(asked: Asked) -> set[str]:
    splits = load_json(asked.folder / "pid_splits.json", dict)
    return {str(key) for key in splits[asked.source.split]} - asked.samples.keys()


def _coco_boxes(path: Path, asked: Asked) -> Submission:
    """COCO's `[{"image_id": .., "category_id": .., "bbox": [x, y, width, height], "score": ..}, ..]`."""
    content = load_json(asked.folder / "annotations" / f"instances_{asked.source.split}.json", dict)
    sizes = {str(image["id"]): (image["width"], image["height"]) for image in content["images"]}
    labels = {category["id"]: category["name"] for category in content["categories"]}
    boxes = list[tuple[str, LabelledBox]]()
    for where, record in _records(path):
        try:
            key = identity(record.get("image_id"), "'image_id'")
            label = labels.get(take(record, "category_id", int))
            if key not in sizes or label is None:
                name = "category_id" if key in sizes else "image_id"
                raise BadItemError(f"{name} {shown(record[name])} is not in the annotations of the split")
            left, top, width, height = numbers(take(record, "bbox", list), 4)
            edges = left, top, left + width, top + height
            (score,) = numbers([record.get("score")], 1)
            boxes.append((key, _box(label, edges, sizes[key], score)))
        except BadItemError as error:
            raise BadItemError(f"{where}: {error}") from None
    return _detections(boxes, sizes)


def _voc_boxes(path: Path, asked: Asked) -> Submission:
    """A folder with VOC's `comp3_det_val_dog.txt`, ..: lines of image, confidence, xmin, ymin, xmax, ymax."""
    split = asked.source.split
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
    folder = next(one for one in (asked.folder, *asked.folder.glob("VOC*")) if (one / "ImageSets").is_dir())
    listed = {line.strip() for _, line in read_lines(folder / "ImageSets" / "Main" / f"{split}.txt")}
    boxes = list[tuple[str, LabelledBox]]()
    for file in files:
        label = file.stem.partition(f"_det_{split}_")[2]
        if label not in labels:
            raise BadItemError(f"{file.name}: no object of the split is a {shown(label)}")
        for number, line in read_lines(file):
            try:
                boxes += _voc_line(line.split(), label, sizes, listed)
            except BadItemError as error:
                raise BadItemError(f"{file.name} line {number}: {error}") from None
    return _detections(boxes, listed)


def _voc_line(
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
        yield key, _box(label, (left - 1, top - 1, right, bottom), sizes[key], confidence)


def _box(label: str, edges: Sequence[float], size: tuple[int, int], score: float) -> LabelledBox:
    """A box in pixels as fractions of the image; what lies outside of the image is cut off."""
    width, height = size
    box = clip((edges[0] / width, edges[1] / height, edges[2] / width, edges[3] / height))
    if not math.isfinite(score) or (wrong := box_error(box)):
        raise BadItemError(
            f"the box {shown(list(edges))} is wrong: {wrong if math.isfinite(score) else 'its score'}"
        )
    return LabelledBox(label, box, score)


def _detections(boxes: list[tuple[str, LabelledBox]], known: Collection[str]) -> Submission:
    """Boxes by image as answers of the task `detection`, those of highest score first."""
    found = Submission(unscored=known, partial=True)
    for key, group in groupby(
        sorted(boxes, key=lambda item: (item[0], -item[1].score)), lambda item: item[0]
    ):
        items = [item for _, item in group]
        found.answers[key] = ", ".join(
            f"{item.label} [{', '.join(f'{edge:.7f}' for edge in item.box)}]" for item in items
        )
        found.scores[key] = tuple(item.score for item in items)
    return found


FORMS: dict[str, Callable[[Path, Asked], Submission]] = {
    "scanqa": _questions,
    "scanrefer_captioning": _descriptions,
    "nr3d_captioning": _descriptions,
    "scienceqa": _problems,
    "coco_captioning": _captions,
    "flickr30k": _captions,
    "coco_detection": _coco_boxes,
    "voc_detection": _voc_boxes,
}
"""Readers of submission formats by benchmark, a key of `datamodules.benchmarks.BENCHMARKS`."""
