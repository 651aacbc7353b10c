"""Contradictory annotation conventions: a positive control for task interference.

Merged data sets often name the same things differently. Here K conventions ask about the same scenes, and
each answers with its own permutation of the class names: an image has K right answers, and only the wording
of the question indicates which one is wanted. A model that uses the wording can answer all; one that ignores
it is right no more often than `blind_ceiling`. The miniature's ordinary tasks do not contradict each other
and cannot show whether routing helps; these do.
"""

import random
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from datamodules.miniature.world import SHAPES
from octavius.tasks import TASKS

Cue: TypeAlias = Literal["key", "own", "style"]
"""How a question indicates its convention.

- `key`: by a word in front of it ("Like the piano: What is this?").
- `fraction`: each convention has its own questions, without a word that only serves as a key.
- `style`: by spelling, politeness and length of the same question.
"""

Wording: TypeAlias = Literal["seen", "unseen_wording", "unseen_frame"]
"""As in training; paraphrases that training does not have; training's questions in an unseen frame."""

MOST = 16
"""Number of conventions for which there are words."""

KEYS = (
    *("lamp", "sofa", "desk", "piano", "guitar", "ladder", "fan", "bench"),
    *("stool", "sink", "bed", "chair", "door", "window", "plant", "dresser"),
)
KEY_FRAMES = ("In the {}:", "For the {}:", "Like the {}:", "From the {}:", "To the {}:", "Of the {}:")
UNSEEN_KEY_FRAMES = ("On this {}, would you say:", "About a {}:")

VERBS = (
    *("Name", "Label", "Identify", "Classify", "State", "Describe", "Call", "Report"),
    *("Find", "Write", "Read", "Count", "Pick", "Give", "Tell", "Show"),
)
OWN = ("{} the object.", "{} the thing in this picture.", "{} what you see here.")
UNSEEN_OWN = ("{} this object of the image.", "{} the thing that the picture shows.")

FRAMES = ("Look at the picture. {}", "Well, {}", "{} Please say it.", "{} Thank you.", "Well, {} Thank you.")
"""Neutral frames around a question, none of which is used in training."""


def tables(conventions: int, conflict: int = len(SHAPES), seed: int = 0) -> list[tuple[str, ...]]:
    """The word of each convention for each of `SHAPES`.

    Each convention is a permutation that moves the same `conflict` names; all permutations differ.

    Raises:
        ValueError: there are no words for so many conventions, or not enough permutations of so few names.
    """
    if not 1 <= conventions <= MOST:
        raise ValueError(f"there are words for 1 to {MOST} conventions, found {conventions}")
    if conflict not in (0, *range(2, len(SHAPES) + 1)):
        raise ValueError(
            f"conventions differ in 2 to {len(SHAPES)} names, or in none (0), found conflict = {conflict}"
        )
    rng = np.random.default_rng([seed, conflict])
    moved = [int(index) for index in rng.permutation(len(SHAPES))[:conflict]]
    found: list[tuple[str, ...]] = []
    for _ in range(1000 * conventions):
        if len(found) == conventions:
            break
        to = [moved[index] for index in rng.permutation(conflict)]
        names = list(SHAPES)
        for one, other in zip(moved, to, strict=True):
            names[one] = SHAPES[other]
        fixed = any(names[index] == SHAPES[index] for index in moved)
        if not fixed and (not conflict or tuple(names) not in found):
            found.append(tuple(names))
    if len(found) < conventions:
        raise ValueError(
            f"{conflict} names have fewer than {conventions} permutations that move each of them; raise conflict, or "
            "lower conventions"
        )
    return found


def blind_ceiling(words: Sequence[Sequence[str]], weights: Sequence[float] | None = None) -> float:
    """The best accuracy of a model that sees the scene but ignores the convention.

    It answers each class with the word that most questions want.

    Args:
        words: for each convention its word for each class.
        weights: weight of each convention among the questions; equal by default.

    >>> blind_ceiling([("a", "b"), ("b", "a")])
    0.5
    """
    shares = np.array(weights or [1.0] * len(words)) / sum(weights or [1.0] * len(words))
    best = []
    for said in zip(*words, strict=True):
        share: dict[str, float] = {}
        for word, fraction in zip(said, shares, strict=True):
            share[word] = share.get(word, 0.0) + float(fraction)
        best.append(max(share.values()))
    return float(np.mean(best))


def question(told: Cue, convention: int, wording: Wording, rng: random.Random) -> str:
    """A question for the class of the single object in an image, in one convention."""
    frame = rng.choice(FRAMES) if wording == "unseen_frame" else "{}"
    unseen = wording == "unseen_wording"
    if told == "own":
        text = rng.choice(UNSEEN_OWN if unseen else OWN).format(VERBS[convention])
    else:
        forms = TASKS["classification"].unseen_questions if unseen else TASKS["classification"].questions
        text = rng.choice(forms)
        if told == "key":
            text = (
                f"{rng.choice(UNSEEN_KEY_FRAMES if unseen else KEY_FRAMES).format(KEYS[convention])} {text}"
            )
        else:
            text = styled(text, convention)
    return frame.format(text)


def styled(text: str, convention: int) -> str:
    """The question in one of sixteen styles: each bit of the index switches one trait on.

    >>> styled("What is this?", 0), styled("What is this?", 15)
    ('What is this?', 'please, what is this? it is for a list. (one word)')
    """
    if convention & 1:
        text = text[0].lower() + text[1:]
    if convention & 2:
        text = f"{'please' if convention & 1 else 'Please'}, {text[0].lower()}{text[1:]}"
    if convention & 4:
        text = f"{text} (one word)"
    if convention & 8:
        reason = "it is for a list." if convention & 1 else "It is for a list."
        text = f"{text.removesuffix(' (one word)')} {reason}" + (" (one word)" if convention & 4 else "")
    return text
