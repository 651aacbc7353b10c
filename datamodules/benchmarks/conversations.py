"""Conversations about an image, in the JSON format of LAMM and LLaVA; one sample per answer."""

from pathlib import Path

from datamodules.benchmarks.base import BadItemError, BadItems, BadPolicy, DataFolder, need
from datamodules.benchmarks.dialogues import refuse_placeholders, refuse_unknown, turns_of, without_image
from datamodules.benchmarks.documents import load_json, parse_xml
from datamodules.benchmarks.values import checked_box, identity, parsed_number, shown, take, text
from octavius.instruction.sample import Boxes, LabelledBox, Media, References, Sample

LAYOUT = """\
  <root>/<split>.json     or <root>/meta_file/<split>.json, a list of {id, image, conversations, task_type}
  <root>/...              images, where the items' `image` says, relative to the root
"""

EDGES = ("x1", "y1", "x2", "y2")
"""Elements of a box in a detection answer, as fractions of the image."""

OUTSIDE = 5e-3
"""Fraction of the image by which a box may exceed it because of rounding: two pixels of 400."""

KEYS = ("id", "image", "conversations", "task_type", "src_image")
"""Keys that an item may have; `src_image` names the data set that LAMM took the image from."""

TASK_TYPES = (
    "VQA",
    "classification",
    "commonsenseqa",
    "commomsenseqa",  # as the official files spell it
    "conversation",
    "counting",
    "description",
    "detection",
    "keypoint_detection",
    "normal",
)
"""LAMM's task types on images. All but `detection` have free-form answers."""


def read(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per turn of `gpt`, with the preceding turns as history.

    An item of task type `detection` is answered with XML documents of boxes; its turns have no history,
    because a document is not text to continue from. Items of other types become conversations, text-only ones
    if there is no `image`. Item ids are not unique in official files, so a sample's id is the item's id,
    index and turn. A sample's group is its task type.
    """
    file = need(root, LAYOUT, f"{split}.json", f"meta_file/{split}.json")
    images = DataFolder(root)
    items = BadItems(bad, file)
    samples = []
    for index, item in enumerate(load_json(file, list)):
        name = item.get("id", "none") if isinstance(item, dict) else "none"
        with items.guard(f"item {index} (id {shown(name)})"):
            samples.extend(_samples(index, item, images))
    items.report()
    return samples


def _samples(index: int, item: dict[str, object], images: DataFolder) -> list[Sample]:
    turns = turns_of(take(item, "conversations", list))
    refuse_unknown(item, KEYS)
    kind = take(item, "task_type", str) if "task_type" in item else "normal"
    if kind not in TASK_TYPES:
        raise BadItemError(f"unknown task_type {shown(kind)}; known ones are {', '.join(TASK_TYPES)}")
    media = {}
    if item.get("image") is not None:
        media["image"] = Media(path=images.file(take(item, "image", str)))
    detects = kind == "detection"
    if detects and not media:
        raise BadItemError("a detection needs an 'image'")
    questions = without_image([said for said, _ in turns], has_image=bool(media))
    key = identity(item["id"], "'id'") if item.get("id") is not None else "item"
    samples = []
    history: tuple[tuple[str, str], ...] = ()
    for number, (question, (_, answer)) in enumerate(zip(questions, turns, strict=True)):
        if not question and not detects:  # the detection task adds its own question
            raise BadItemError(f"the question of turn {number} is empty")
        refuse_placeholders(question, f"the question of turn {number}", bool(media))
        if not detects:
            refuse_placeholders(answer, f"the answer of turn {number}", bool(media))
        name = f"{key}-{index}-{number}"
        task = "detection" if detects else "conversation"
        gold = _boxes(answer) if detects else References((answer,))
        samples.append(Sample(name, task, "conversations", media, question, gold, history, kind))
        if not detects:
            history = (*history, (question, answer))
    return samples


def _boxes(answer: str) -> Boxes:
    """The objects of a detection answer: any XML document with repeated `Item` elements."""
    document = parse_xml(answer, "the detection answer")
    objects = []
    for number, element in enumerate(document.iter("Item")):
        fields = {name: (element.findtext(name) or "").strip() for name in (*EDGES, "cls")}
        missing = [name for name, text in fields.items() if not text]
        if missing:
            raise BadItemError(f"element Item {number} of the detection answer lacks {', '.join(missing)}")
        x1, y1, x2, y2 = (parsed_number(fields[name], "as a box edge") for name in EDGES)
        objects.append(LabelledBox(text(fields["cls"], "<cls>"), checked_box((x1, y1, x2, y2), OUTSIDE)))
    if not objects:
        raise BadItemError("the detection answer has no element Item, that is, no box")
    return Boxes(tuple(objects))
