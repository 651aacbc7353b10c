"""The conversation JSON of LAMM and LLaVA comes in; a sample for every answer in it goes out."""

from pathlib import Path

from datamodules.benchmarks.base import (
    BadItemError,
    BadItems,
    BadPolicy,
    DataFolder,
    checked_box,
    load_json,
    need,
    parse_xml,
    take,
)
from octavius.instruction.sample import Boxes, LabelledBox, Media, References, Sample

LAYOUT = """\
  <root>/<split>.json     or <root>/meta_file/<split>.json, a list of {id, image, conversations, task_type}
  <root>/...              images, where the items' `image` says, relative to the root
"""

PLACEHOLDER = "<image>"
SPEAKERS = ("human", "gpt")
EDGES = ("x1", "y1", "x2", "y2")
OUTSIDE = 5e-3  # of the image: two pixels of 400, rounding

# The image task types of LAMM. All but detection are answered in free words.
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


def read(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample for every turn of `gpt`, with the turns before it as history.

    An item of task type `detection` answers with XML documents of boxes; its turns stand alone, because a
    document is no text for a history. Items of the other types become conversations, without an `image`
    text-only ones. Ids of items repeat in official files, so a sample's id adds the item's index and the
    turn. A sample's group is the task type.
    """
    file = need(root, LAYOUT, f"{split}.json", f"meta_file/{split}.json")
    images = DataFolder(root)
    items = BadItems(bad, file)
    samples = []
    for index, item in enumerate(load_json(file, list)):
        shown = item.get("id", "none") if isinstance(item, dict) else "none"
        with items.guard(f"item {index} (id {shown!r:.60})"):
            samples.extend(_samples(index, item, images))
    items.report()
    return samples


def _samples(index: int, item: dict[str, object], images: DataFolder) -> list[Sample]:
    turns = turns_of(take(item, "conversations", list))
    kind = take(item, "task_type", str) if "task_type" in item else "normal"
    if kind not in TASK_TYPES:
        raise BadItemError(f"unknown task_type '{kind[:60]}'; known ones are {', '.join(TASK_TYPES)}")
    media = {}
    if item.get("image") is not None:
        media["image"] = Media(path=images.file(take(item, "image", str)))
    detects = kind == "detection"
    if detects and not media:
        raise BadItemError("a detection needs an 'image'")
    samples = []
    history: tuple[tuple[str, str], ...] = ()
    for number, (said, answer) in enumerate(turns):
        question = _question(said, has_image=bool(media))
        if not question and not detects:  # the detection task has a question of its own
            raise BadItemError(f"the question of turn {number} is empty")
        name = f"{item.get('id', 'item')}-{index}-{number}"
        task = "detection" if detects else "conversation"
        gold = _boxes(answer) if detects else References((answer,))
        samples.append(Sample(name, task, "conversations", media, question, gold, history, kind))
        if not detects:
            history = (*history, (question, answer))
    return samples


def turns_of(conversation: list[object]) -> list[tuple[str, str]]:
    """The (human, gpt) pairs of a conversation."""
    texts = []
    for place, turn in enumerate(conversation):
        speaker, expected = take(turn, "from", str), SPEAKERS[place % 2]
        if speaker != expected:
            raise BadItemError(f"conversations[{place}] should be from '{expected}', found '{speaker[:20]}'")
        text = take(turn, "value", str).strip()
        if not text and expected == "gpt":
            raise BadItemError(f"the answer conversations[{place}] is empty")
        texts.append(text)
    if not texts or len(texts) % 2:
        raise BadItemError(f"expected pairs of a human and a gpt turn, found {len(texts)} turns")
    return list(zip(texts[::2], texts[1::2], strict=True))


def _question(text: str, has_image: bool) -> str:
    """What the human said, without the place-holder of the image at either end."""
    bare = text.removeprefix(PLACEHOLDER)
    if bare == text:
        bare = text.removesuffix(PLACEHOLDER)
    if has_image and PLACEHOLDER in bare:
        raise BadItemError(f"expected {PLACEHOLDER} once, at an end of the question, found '{text[:60]}'")
    if not has_image and bare != text:
        raise BadItemError(f"a question shows {PLACEHOLDER}, but the item has no 'image'")
    return bare.strip()


def _boxes(answer: str) -> Boxes:
    """The objects of a detection answer: any XML document with repeated `Item`s."""
    document = parse_xml(answer, "the detection answer")
    objects = []
    for number, element in enumerate(document.iter("Item")):
        fields = {name: (element.findtext(name) or "").strip() for name in (*EDGES, "cls")}
        missing = [name for name, text in fields.items() if not text]
        if missing:
            raise BadItemError(f"Item {number} of the detection answer lacks {', '.join(missing)}")
        x1, y1, x2, y2 = (_edge(fields[name]) for name in EDGES)
        objects.append(LabelledBox(fields["cls"], checked_box((x1, y1, x2, y2), OUTSIDE)))
    if not objects:
        raise BadItemError("the detection answer holds no Item")
    return Boxes(tuple(objects))


def _edge(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadItemError(f"expected a number as a box edge, found '{text[:60]}'") from None
