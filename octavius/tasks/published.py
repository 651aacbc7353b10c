"""Parsing of free-text answers by the rules of the published evaluation (the LAMM benchmark).

Source: its published code (`detection.py`, `vqa.py`). The rules expect the sentences of LAMM's own
instruction data; a short answer such as `dog [..]` does not contain a box under them.
"""

import re
from collections.abc import Sequence
from string import ascii_uppercase as LETTERS

from octavius.instruction.sample import LabelledBox

_EDGE = r"\s?([\d.]{1,20})"
_BOX = re.compile(rf"\[{_EDGE},{_EDGE},{_EDGE},{_EDGE}\s?\]")
_CATEGORY = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"The (.*?)object",
        r"classified as(.*?)(?: is| and| within|\.|,)",
        r"categorized as(.*?)(?: can| at|\.|,)",
        r"belong(?:s|ing) to the category of(.*?)(?: at|\.|,)",
        r"belong(?:s|ing) to the (.*) category",
        r"falls under the category of(.*?)(?:\.|,)",
        r"falls under the (.*) category",
        r"its category is(.*?)(?:\.|,)",
    )
)
"""Tried in this order; the last match names the class."""

_LONGEST = 2000
"""Characters of a sentence that are searched. No real one is longer, and it bounds the time of the patterns."""


def sentence_boxes(text: str) -> list[tuple[LabelledBox, int]]:
    """Each box with its class, at most one per sentence, and the number of `]` up to its end.

    A box may be outside the image or empty, but its corners are in order. Labels are unchanged.
    """
    found, closed = [], 0
    for piece in text.split(". "):
        sentence = f"{piece[:_LONGEST].strip().rstrip('.')}."
        match = _BOX.search(sentence)
        label = category(sentence)
        box = None if match is None else _floats(match.groups())
        if match is not None and label and box is not None and box[0] <= box[2] and box[1] <= box[3]:
            found.append((LabelledBox(label, box), closed + sentence.count("]", 0, match.end())))
        closed += piece.count("]")
    return found


def category(sentence: str) -> str:
    """The class that a sentence names; empty if none."""
    named = ""
    for pattern in _CATEGORY:
        if match := pattern.search(sentence):
            named = match[1].strip()
    return named


def option(text: str, options: Sequence[str]) -> int | None:
    """The index of the option given by the first rule that matches, or None.

    The rules in order: every `answer is X`; the first `ANSWER: X`; every `(X)`; the only option whose text
    occurs. A rule that matches different letters gives None.
    """
    every = re.findall(r"[Tt]he answer is \(?([A-E])\)?\W", text)
    first = re.findall(r"ANSWER: ([A-E])", text)[:1]
    letters = every or first or re.findall(r"\(([A-E])\)", text)
    if letters:
        choice = LETTERS.index(letters[0])
        return choice if len(set(letters)) == 1 and choice < len(options) else None
    found = [choice for choice, said in enumerate(options) if said.lower() in text.lower()]
    return found[0] if len(found) == 1 else None


def _floats(words: Sequence[str]) -> tuple[float, float, float, float] | None:
    try:
        x1, y1, x2, y2 = map(float, words)
    except ValueError:  # such as 0.1.2
        return None
    return x1, y1, x2, y2
