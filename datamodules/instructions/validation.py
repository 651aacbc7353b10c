"""Validates a language model's pairs against the annotation; every rejected pair gets a reason."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from datamodules.benchmarks.values import plain_label
from datamodules.instructions.annotation import Annotation, Thing
from datamodules.instructions.images import Talk, boxes_xml
from datamodules.instructions.prompts import Job, box
from datamodules.instructions.wordings import mentioned, plural

ROUNDED = 0.0051
"""Tolerance for box edges, which the model sees with two decimals."""

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBER = re.compile(rf"\b(\d{{1,9}}|{'|'.join(NUMBERS)})\b", re.IGNORECASE)
HOW_MANY = re.compile(r"\bhow many\b|\bnumber of\b|\bcount the\b", re.IGNORECASE)
ARE_THERE = re.compile(
    r"(?:is|are) there (?:an?|any|some) (.+?)(?: (?:in|on) (?:the|this) \w+| here)?\?", re.IGNORECASE
)
BRACKETS = re.compile(r"\[([^\[\]]*)\]")


DEEPEST = 20
"""Largest nesting depth of an answer; the format asked for has five levels."""
FARTHEST = 1e6
"""Bound on coordinates; integers with hundreds of digits do not convert to float."""
LONGEST = 4000
"""Largest number of characters of a question or an answer."""


class RejectedError(ValueError):
    """A pair is rejected; the message is the reason."""


@dataclass(frozen=True)
class Pair:
    """An accepted pair: its kind, the object that it is about (for scans), and its text."""

    kind: str
    thing: Thing | None
    talk: Talk


@dataclass(frozen=True)
class Said:
    """A pair as the model gave it, with its objects looked up in the annotation."""

    kind: str
    question: str
    answer: str
    things: list[Thing]
    absent: set[str]

    @property
    def text(self) -> str:
        """Question and answer."""
        return f"{self.question} {self.answer}"


Rejected: TypeAlias = tuple[str, Any]
"""The reason for rejection, and the pair."""


def pairs_of(text: str) -> list[Any]:
    """Parses the pairs of an answer, without validating them.

    Raises:
        ValueError: the answer is not the JSON asked for.
    """
    # Some models wrap JSON in a Markdown code block.
    bare = re.sub(r"^\s*```(?:json)?\s*|\s*```\s*$", "", text)
    try:
        content = json.loads(bare)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the answer is not JSON: {error}") from None
    if deeper(content, DEEPEST):
        raise ValueError(f"the answer is JSON nested more than {DEEPEST} deep")
    pairs = content.get("pairs") if isinstance(content, dict) else None
    if not isinstance(pairs, list):
        raise ValueError('the answer is JSON, but holds no list "pairs"')
    return pairs


def deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested deeper than `levels`; iterative, so that no input exhausts the stack."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not layer:
            return False
    return True


def check(job: Job, text: str, names: tuple[str, ...]) -> tuple[list[Pair], list[Rejected]]:
    """Splits the pairs of an answer into those that the annotation proves, and the others.

    Args:
        job: the request.
        text: the answer.
        names: class names that must not occur where the annotation does not have them.
    """
    try:
        pairs = pairs_of(text)
    except ValueError as error:
        return [], [(str(error), text)]
    good, bad = list[Pair](), list[Rejected]()
    for pair in pairs:
        try:
            found = accepted(job, pair, names)
            if found in good:
                raise RejectedError("it repeats an earlier pair")
            good.append(found)
        except RejectedError as error:
            bad.append((str(error), pair))
    return good, bad


def accepted(job: Job, pair: Any, names: tuple[str, ...]) -> Pair:
    """Validates one pair.

    Raises:
        RejectedError: it is malformed, or the annotation does not prove it.
    """
    said = read(job, pair)
    check_classes(job.annotation, said, names)
    if said.kind == "detection":
        return Pair(said.kind, None, (said.question, boxes_xml(detected(job.annotation, said))))
    check_boxes(job.annotation, said.text)
    check_counts(job.annotation, said)
    check_presence(job.annotation, said)
    thing = ABOUT[said.kind](job, said) if said.kind in ABOUT else None
    return Pair(said.kind, thing, (said.question, said.answer))


def read(job: Job, pair: Any) -> Said:
    """Checks the format of a pair, and looks its objects up."""
    if not isinstance(pair, dict):
        raise RejectedError("it is not a JSON object")
    kind = pair.get("kind")
    if kind not in job.kinds:
        raise RejectedError(f"the kind {kind!r:.40} was not asked for")
    for key in ("question", "answer"):
        text = pair.get(key)
        if isinstance(text, str) and len(text) > LONGEST:
            raise RejectedError(f"its {key} has more than {LONGEST} characters")
        if not (isinstance(text, str) and text.strip()) and (key, kind) != ("answer", "detection"):
            raise RejectedError(f"it has no {key}")
    lists = [pair.get(key) or [] for key in ("objects", "absent")]
    if not all(isinstance(entries, list) for entries in lists):
        raise RejectedError('"objects" and "absent" should be lists')
    things = [thing_of(job.annotation, entry) for entry in lists[0]]
    if len(set(things)) < len(things):
        raise RejectedError("an object is listed twice")
    absent = {str(name).strip() for name in lists[1]}
    if there := sorted(absent - set(job.annotation.absent)):
        raise RejectedError(
            f"the class {there[0]!r:.40} is said to be absent, which the annotation does not prove"
        )
    return Said(kind, pair["question"].strip(), str(pair.get("answer") or "").strip(), things, absent)


def thing_of(annotation: Annotation, entry: Any) -> Thing:
    """The object that an entry of `objects` refers to: in images by class and box, in scans by number and class."""
    if not isinstance(entry, dict) or not isinstance(entry.get("class"), str):
        raise RejectedError(f"an object should have a class, found {entry!r:.60}")
    label = plain_label(entry["class"])
    alike = [thing for thing in annotation.things if label in (thing.label, thing.kind)]
    if not alike:
        raise RejectedError(f"the class '{label[:40]}' is not in the annotation")
    if annotation.image is None:
        number = str(entry.get("id")).strip()
        found = [thing for thing in alike if thing.id == number]
        if not found:
            raise RejectedError(f"object {number[:20]} is not in the annotation, or is no {label[:40]}")
        return found[0]
    found = [thing for thing in alike if same_box(entry.get("box"), thing)]
    if not found:
        raise RejectedError(f"the box {entry.get('box')!r:.60} of '{label[:40]}' is not in the annotation")
    return found[0]


def same_box(numbers: Any, thing: Thing) -> bool:
    """Whether numbers are the box of an object, up to rounding."""
    if not isinstance(numbers, list | tuple) or len(numbers) != len(thing.box):
        return False
    if not all(isinstance(number, int | float) and abs(number) < FARTHEST for number in numbers):
        return False
    return all(abs(one - other) <= ROUNDED for one, other in zip(numbers, thing.box, strict=True))


def check_classes(annotation: Annotation, said: Said, names: tuple[str, ...]) -> None:
    """Refuses a class that is neither annotated nor in a human sentence, unless it is said to be absent."""
    known = {name for thing in annotation.things for name in (thing.label, thing.kind)} | annotation.crowds
    for name in sorted(mentioned(said.text, names) - known - said.absent):
        if not any(label.endswith(f" {name}") for label in known) and not mentioned(
            annotation.sentences, (name,)
        ):
            raise RejectedError(f"it names the class '{name}', which is not in the annotation")


def detected(annotation: Annotation, said: Said) -> list[Thing]:
    """The objects of a detection: all, or all of the classes that the question names."""
    if not said.things:
        raise RejectedError("a detection lists no object")
    labels = {thing.label for thing in said.things}
    missing = [thing for thing in annotation.things if thing.label in labels and thing not in said.things]
    if missing:
        raise RejectedError(f"it leaves out a {missing[0].label} at {box(missing[0].box)}")
    named = mentioned(said.question, tuple({thing.label for thing in annotation.things}))
    if labels != (named or {thing.label for thing in annotation.things}):
        raise RejectedError("its objects are not those that its question asks for")
    return said.things


def check_boxes(annotation: Annotation, text: str) -> None:
    """Refuses numbers in brackets that are not an annotated box."""
    for inside in BRACKETS.findall(text):
        try:
            numbers = [float(word) for word in inside.split(",")]
        except ValueError:
            continue
        if not any(same_box(numbers, thing) for thing in annotation.things):
            raise RejectedError(f"the box [{inside[:60]}] is not in the annotation")


def check_counts(annotation: Annotation, said: Said) -> None:
    """Refuses wrong answers to "how many", and mentions of more objects than annotated."""
    counts = annotation.counts
    if HOW_MANY.search(said.question):
        kinds = mentioned(said.question, annotation.kinds)
        number = NUMBER.search(said.answer)
        if len(kinds) != 1 or not kinds <= {*counts, *annotation.absent}:
            raise RejectedError("it counts objects that are not all annotated")
        (kind,) = kinds
        if number is None or value_of(number[1]) != counts.get(kind, 0):
            raise RejectedError(
                f"it counts '{said.answer[:40]}', the annotation has {counts.get(kind, 0)} {kind}"
            )
    for kind in counts:
        pattern = rf"{NUMBER.pattern}(?: \w+)? {re.escape(plural(kind))}\b"
        for found in re.finditer(pattern, said.text, re.IGNORECASE):
            if value_of(found[1]) > counts[kind]:
                raise RejectedError(
                    f"it mentions '{found[0][:40]}', the annotation has {counts[kind]} {kind}"
                )


def check_presence(annotation: Annotation, said: Said) -> None:
    """Refuses a wrong yes or no to "are there any"."""
    asked = ARE_THERE.fullmatch(said.question)
    if asked is None or not (word := re.match(r"yes\b|no\b", said.answer, re.IGNORECASE)):
        return
    name = asked[1].lower()
    for kind in annotation.kinds:
        if name in (kind, plural(kind)) and (word[0].lower() == "yes") != (kind not in annotation.absent):
            count = annotation.counts.get(kind, 0)
            raise RejectedError(f"it says '{said.answer[:40]}', the annotation has {count} {kind}")


def main_object(job: Job, said: Said) -> None:
    """Checks that an image classification lists and names one class."""
    labels = {thing.label for thing in said.things}
    if len(labels) != 1 or mentioned(said.answer, job.annotation.kinds) != labels:
        raise RejectedError("a classification should list and name one class")


def named_object(job: Job, said: Said) -> Thing:
    """The one object of a scan that is named, by its own label."""
    thing = described_object(job, said)
    if thing.label not in mentioned(said.answer, (thing.label,)):
        raise RejectedError(f"the answer does not name the object, which is '{thing.label}'")
    return thing


def described_object(job: Job, said: Said) -> Thing:
    """The one object of a scan that the pair is about."""
    if len(said.things) != 1 or said.things[0] not in job.targets:
        raise RejectedError("it should be about one of the objects that were asked for")
    return said.things[0]


ABOUT: dict[str, Callable[[Job, Said], Thing | None]] = {
    "classification": main_object,
    "classification3d": named_object,
    "description3d": described_object,
}
"""Further checks by kind; for scans they return the object that the pair is about."""


def value_of(word: str) -> int:
    """The value of a number in digits or words."""
    return int(word) if word.isdecimal() else NUMBERS.index(word.lower())


def vocabulary(annotations: Sequence[Annotation]) -> tuple[str, ...]:
    """All class names that occur in any of the annotations."""
    labels = {
        name for one in annotations for thing in one.things for name in (thing.label, thing.kind) if name
    }
    return tuple(sorted(labels | {kind for one in annotations for kind in one.kinds}))
