"""Message lists with any number of images, as other trainers read them; one sample per answer.

These forms of a record are read, from a JSON list or from JSON lines:

    {"messages": [{"role": "user", "content": "<image>Who is this?"}, ...], "images": ["1.jpg"]}
    {"conversations": [{"from": "human", "value": "<image>Who is this?"}, ...], "images": ["1.jpg"]}
    {"conversations": [...], "image": "1.jpg"}     also a list, as in the interleaved data of LLaVA
    {"messages": [{"role": "user", "content": [{"type": "image", "image": "1.jpg"}, {"type": "text", ...}]}, ...]}
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.benchmarks.base import BadItemError, BadItems, BadPolicy, DataFolder, need
from datamodules.benchmarks.dialogues import MASKS, PLACEHOLDER, refuse_placeholders, refuse_unknown
from datamodules.benchmarks.documents import load_json, parse_line, read_lines
from datamodules.benchmarks.values import full_text, identity, shown, take, text
from octavius.instruction.placement import counted
from octavius.instruction.sample import Media, References, Sample

LAYOUT = """\
  <root>/<split>.jsonl    or <root>/<split>.json, a list: {messages, images} or {conversations, images}
  <root>/...              images, where `images` says, relative to the root
"""

SPEAKERS = {"user": 0, "human": 0, "assistant": 1, "gpt": 1, "model": 1}
"""Names of the two speakers: who asks, and who answers."""

LISTS, IMAGES = ("messages", "conversations"), ("images", "image")
KEYS = (*LISTS, *IMAGES, "id")
GROUNDING = ("<bbox>", "<ref-object>")
"""Placeholders of boxes and names, which stand under `objects`."""


def read(root: Path, split: str, bad: BadPolicy = "error") -> list[Sample]:
    """One sample per answer, with the preceding turns as history.

    An image stands where `<image>` is in a question, in the order of the record's images; all stand before the first
    question if there is no `<image>` at all. There are exactly as many of one as of the other, otherwise.
    """
    file = need(root, LAYOUT, f"{split}.jsonl", f"{split}.json")
    images = DataFolder(root)
    items = BadItems(bad, file)
    samples = []
    for index, (where, record) in enumerate(_records(file)):
        with items.guard(where):
            samples.extend(_samples(index, parse_line(record) if file.suffix == ".jsonl" else record, images))
    items.report()
    return samples


def _records(file: Path) -> Iterator[tuple[str, Any]]:
    """The records of a file with their places; lines still as text."""
    if file.suffix == ".jsonl":
        yield from ((f"line {number}", line) for number, line in read_lines(file))
        return
    for index, record in enumerate(load_json(file, list)):
        name = record.get("id", "none") if isinstance(record, dict) else "none"
        yield f"item {index} (id {shown(name)})", record


def _samples(index: int, record: object, folder: DataFolder) -> list[Sample]:
    if not isinstance(record, dict):
        raise BadItemError(f"expected an object with messages and images, found {shown(record)}")
    refuse_unknown(record, KEYS)
    objects = record.get("objects")
    if any(objects.values()) if isinstance(objects, dict) else objects:
        raise BadItemError("'objects' holds boxes for placeholders in the texts, which are not read")
    found = [key for key in LISTS if record.get(key) is not None]
    if len(found) != 1:
        keys = shown(sorted(map(str, record)))
        raise BadItemError(f"expected either 'messages' or 'conversations', found the keys {keys}")
    named = _named(record)
    said, inside = _turns(take(record, found[0], list), found[0])
    if named and inside:
        raise BadItemError(
            "images stand both in the record and in the content of messages; name each in one place"
        )
    paths = [_file(name, folder) for name in named or inside]
    if paths and any(PLACEHOLDER in answer for answer in said[1::2]):
        raise BadItemError(f"an answer shows {PLACEHOLDER}; images stand in questions alone")
    questions = _placed(said[::2], len(paths))
    key = identity(record["id"], "'id'") if record.get("id") is not None else "item"
    samples, history = list[Sample](), list[tuple[str, str]]()
    first = len(paths) == 1 and questions[0].startswith(PLACEHOLDER)
    for number, (question, answer) in enumerate(zip(questions, said[1::2], strict=True)):
        asked = question.removeprefix(PLACEHOLDER).lstrip() if first and not number else question
        if not asked.replace(PLACEHOLDER, "").strip():
            raise BadItemError(f"the question of turn {number} has no words")
        earlier = [turn for turn, _ in history]
        count = counted([*earlier, asked], "image")
        placed = () if first else tuple(("image", Media(path=path)) for path in paths[:count])
        media = {"image": Media(path=paths[0])} if first else {}
        name, gold = f"{key}-{index}-{number}", References((answer,))
        samples.append(
            Sample(name, "conversation", "messages", media, asked, gold, tuple(history), placed=placed)
        )
        history.append((asked, answer))
    return samples


def _named(record: dict[str, Any]) -> list[object]:
    """The images that a record names beside its messages."""
    found = [record[key] for key in IMAGES if record.get(key)]
    if len(found) > 1:
        raise BadItemError("'image' and 'images' both name images; keep one")
    names = found[0] if found else []
    return names if isinstance(names, list) else [names]


def _turns(messages: list[object], key: str) -> tuple[list[str], list[object]]:
    """The texts of the turns, question and answer in turn, and the images that stand in their content."""
    texts, images = list[str](), list[object]()
    for message in messages:
        where = f"{key}[{len(texts)}]"
        role, content = (
            ("from", "value") if isinstance(message, dict) and "from" in message else ("role", "content")
        )
        speaker = take(message, role, str)
        assert isinstance(message, dict)
        if SPEAKERS.get(speaker) != len(texts) % 2:
            expected = ("the user", "the assistant")[len(texts) % 2]
            raise BadItemError(
                f"{where} should be from {expected}, found {shown(speaker)}; system prompts and tools are not read, "
                "and user and assistant take turns"
            )
        refuse_unknown(message, (role, content))
        if masks := [name for name in MASKS if name in message and message[name] not in (1, None)]:
            raise BadItemError(
                f"{where} has {masks[0]}: {shown(message[masks[0]])}; every answer is trained here, leave out the "
                "key or the record"
            )
        said = _content(message.get(content), where, images)
        if len(texts) % 2:
            refuse_placeholders(said, f"the answer {where}", True)
            said = full_text(said, f"the answer {where}")
        texts.append(said)
    if not texts or len(texts) % 2:
        raise BadItemError(f"expected pairs of a question and an answer, found {len(texts)} messages")
    return texts, images


def _content(content: object, where: str, images: list[object]) -> str:
    """The text of a message with placeholders; images in content parts are appended to `images`."""
    if not isinstance(content, list):
        return text(content, where)
    written = ""
    for index, part in enumerate(content):
        place = f"{where}[{index}]"
        kind = take(part, "type", str)
        assert isinstance(part, dict)
        if kind == "text":
            said = take(part, "text", str)
            if PLACEHOLDER in said:
                raise BadItemError(f"{place} shows {PLACEHOLDER} beside parts; write images as parts alone")
            written += said
        elif kind in ("image", "image_url"):
            value = next((part[key] for key in (kind, "path", "url") if part.get(key)), None)
            value = value.get("url") if isinstance(value, dict) and kind == "image_url" else value
            if value is not None:
                images.append(value)
            written += PLACEHOLDER
        else:
            raise BadItemError(f"{place} is of the type {shown(kind)}; expected text, image or image_url")
    return text(written, where)


def _placed(questions: list[str], count: int) -> list[str]:
    """The questions with a placeholder for each of the record's images.

    Raises:
        BadItemError: there are placeholders, but not one for each image, or some of another medium.
    """
    shown_count = counted(questions, "image")
    for number, question in enumerate(questions):
        what = f"the question of turn {number}"
        rest = question.replace(PLACEHOLDER, " ") if count else question
        refuse_placeholders(rest, what, has_media=bool(count))
        if mark := next((mark for mark in GROUNDING if mark in question), None):
            raise BadItemError(f"{what} shows {mark}, the placeholder of an object, which is not read")
    if not count:
        return questions
    if not shown_count:
        return [PLACEHOLDER * count + questions[0], *questions[1:]]
    if shown_count != count:
        raise BadItemError(
            f"the questions show {PLACEHOLDER} {shown_count} times, and the record has {count} images; each image "
            "needs a placeholder of its own"
        )
    return questions


def _file(name: object, folder: DataFolder) -> Path:
    """The path of an image, below the folder; an absolute path into the folder is accepted."""
    name = name.get("path") if isinstance(name, dict) else name
    path = full_text(name, "an image")
    if "://" in path or path.startswith("data:"):
        raise BadItemError(
            f"the image {shown(path)} is no file; download it, and write its path below the root"
        )
    root = folder.path.absolute()
    return folder.file(str(Path(path).relative_to(root)) if Path(path).is_relative_to(root) else path)
