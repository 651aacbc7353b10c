"""Contradictory annotation conventions: a positive control for task interference.

Merged data sets often name the same objects differently. Here K conventions ask about the same scenes, and each
answers with its own permutation of the class names: an image has K right answers, and only the wording of the
question determines which one is expected. A model that uses the wording can answer all questions; the accuracy of one
that ignores it is at most `blind_ceiling`. The ordinary tasks of the miniature do not contradict each other, so they
cannot show whether routing helps.
"""

import random
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from datamodules.miniature.world import SHAPES
from octavius.tasks import TASKS

Cue: TypeAlias = Literal["key", "own", "style"]
"""How a question indicates its convention.

- `key`: by a word in front of the question ("Like the piano: What is this?").
- `own`: each convention has its own questions, which begin with its own verb ("Label the object.").
- `style`: by capital letters, politeness and length of the same question; see `styled`.
"""

Wording: TypeAlias = Literal["seen", "unseen_wording", "unseen_frame"]
"""Wording of a question.

- `seen`: as in training.
- `unseen_wording`: a paraphrase that training does not use.
- `unseen_frame`: a question of training, with an unseen phrase before or after it.
"""

MOST = 16
"""Largest number of conventions: there are as many keys, verbs and styles."""

KEYS = (
    *("lamp", "sofa", "desk", "piano", "guitar", "ladder", "fan", "bench"),
    *("stool", "sink", "bed", "chair", "door", "window", "plant", "dresser"),
)
"""Cue `key`: the word of each convention, which has nothing to do with the question."""
KEY_FRAMES = ("In the {}:", "For the {}:", "Like the {}:", "From the {}:", "To the {}:", "Of the {}:")
UNSEEN_KEY_FRAMES = ("On this {}, would you say:", "About a {}:")

VERBS = (
    *("Name", "Label", "Identify", "Classify", "State", "Describe", "Call", "Report"),
    *("Find", "Write", "Read", "Count", "Pick", "Give", "Tell", "Show"),
)
"""Cue `own`: the verb of each convention."""
OWN = ("{} the object.", "{} the thing in this picture.", "{} what you see here.")
UNSEEN_OWN = ("{} this object of the image.", "{} the thing that the picture shows.")

FRAMES = ("Look at the picture. {}", "Well, {}", "{} Please say it.", "{} Thank you.", "Well, {} Thank you.")
"""Phrases around a question that do not depend on the convention; none is used in training."""


def tables(conventions: int, conflict: int = len(SHAPES), seed: int = 0) -> list[tuple[str, ...]]:
    """The name that each convention gives to each of `SHAPES`.

    All conventions permute the same `conflict` names, leave none of these in its place, and differ from each other
    (unless `conflict` is 0).

    Raises:
        ValueError: `conventions` or `conflict` is out of range, or there are too few such permutations.
    """
    if not 1 <= conventions <= MOST:
        raise ValueError(f"conventions should be 1 to {MOST}, found {conventions}")
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

    Such a model answers each class with the name that most questions expect.

    Args:
        words: for each convention its name of each class.
        weights: weight of each convention among the questions; equal by default.

    >>> blind_ceiling([("a", "b"), ("b", "a")])
    0.5
    """
    weights = weights or [1.0] * len(words)
    best = []
    for names in zip(*words, strict=True):  # the names of one class
        totals: dict[str, float] = {}
        for name, weight in zip(names, weights, strict=True):
            totals[name] = totals.get(name, 0.0) + weight
        best.append(max(totals.values()) / sum(weights))
    return float(np.mean(best))


def question(cue: Cue, convention: int, wording: Wording, rng: random.Random) -> str:
    """Draws a question for the class of the single object of an image, whose wording indicates the convention."""
    frame = rng.choice(FRAMES) if wording == "unseen_frame" else "{}"
    unseen = wording == "unseen_wording"
    if cue == "own":
        text = rng.choice(UNSEEN_OWN if unseen else OWN).format(VERBS[convention])
    else:
        forms = TASKS["classification"].unseen_questions if unseen else TASKS["classification"].questions
        text = rng.choice(forms)
        if cue == "key":
            text = (
                f"{rng.choice(UNSEEN_KEY_FRAMES if unseen else KEY_FRAMES).format(KEYS[convention])} {text}"
            )
        else:
            text = styled(text, convention)
    return frame.format(text)


def styled(text: str, convention: int) -> str:
    """The question in one of sixteen styles, one bit of the index each.

    The bits, from the lowest: lower case, "please", "(one word)", and a reason.

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
