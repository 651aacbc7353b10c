"""Visual questions with lettered choices: options in, the content of the right one out, after its reason if any."""

import random
import re
from string import ascii_uppercase as LETTERS
from typing import ClassVar

from torchmetrics import Metric

from octavius.instruction.sample import Choice, Sample
from octavius.metrics import PROTOCOLS, Accuracy
from octavius.tasks import published
from octavius.tasks.base import Task, gold_of, named, whose

_SO = "\nAnswer: "
"""Stands between a reason and its answer; no option and no reason has a line break in it when it is said."""

_ENDS = r"(?=\s*(?:$|[.,:;)/]|\b(?:or|and)\b))"
_LETTER = re.compile(
    r"(?<!\w)\(([A-Za-z])\)"  # (B)
    rf"|(?:^|\b(?i:answer|answer is|option|choice)\b:?)\s*([A-Za-z]){_ENDS}"  # `B`, `answer is B`
    rf"|(?:[,;/]|\b(?:is|or|and)\b)\s*([A-Z]){_ENDS}"  # A or B
    r"|(?:^|\b(?:is|option|choice)\b)\s*([B-HJ-Z])(?=\s)"  # `B because ..`, not the words A and I
)


class VQA(Task):
    """Asks `question` + `Options: red (A), blue (B)` and answers `blue`, the right option's content.

    A model that answers with a letter, alone or beside the content, is understood as well. A gold with a reason
    is answered `reason`, then `Answer: blue` on a line of its own (a chain of thought, as in Multimodal-CoT,
    Zhang et al. 2023); only what follows `Answer:` is scored.
    """

    name = "vqa"
    questions: ClassVar[tuple[str, ...]] = ("Which option is right?",)
    unseen_questions: ClassVar[tuple[str, ...]] = ("Which of these options is the right one?",)
    max_answer_tokens = 256
    protocols = tuple(PROTOCOLS)

    def question(self, sample: Sample, rng: random.Random, unseen: bool = False) -> str:
        """The question, then all options with their letters."""
        asked = super().question(sample, rng, unseen)
        options = ", ".join(_said(index, option) for index, option in enumerate(_options(sample)))
        return f"{asked}\nOptions: {options}"

    def answer(self, sample: Sample, rng: random.Random) -> str:  # noqa: ARG002
        """Content of the right option, with its letter where the content alone would be read as another."""
        right = self.value(sample)
        content, reason = _plain(_options(sample)[right]), _plain(gold_of(sample, Choice).reason)
        said = content if self.parse(content, sample) == right else _said(right, content)
        return f"{reason}{_SO}{said}" if reason else said

    def parse(self, text: str, sample: Sample) -> int | None:
        """The index of the answer that the text is, else of the one letter named, else of the one option.

        Letters inside an option, such as the C of `C major`, are not read as one. The published protocol has rules of
        its own, `octavius.tasks.published.option`.
        """
        options = _options(sample)
        if sample.protocol == "published":
            return published.option(text, options)
        reason, so, rest = text.partition(_SO.rstrip())
        said = _plain(rest if so else reason)
        for form in (_said, lambda _, option: option):  # content with letter, content alone
            exact = [index for index, option in enumerate(options) if _plain(form(index, option)) == said]
            if said and exact:
                return exact[0] if len(exact) == 1 else None
        letters = {"".join(groups).upper() for groups in _LETTER.findall(_without(options, said))}
        indices = {LETTERS.index(letter) for letter in letters if letter in LETTERS[: len(options)]}
        if indices:
            return indices.pop() if len(indices) == 1 else None
        found = named(said, options)
        return found[0] if len(found) == 1 else None

    def candidates(self, sample: Sample) -> tuple[str, ...]:
        """The contents of all options."""
        return tuple(_plain(option) for option in _options(sample))

    def chosen(self, place: int, sample: Sample) -> int:  # noqa: ARG002
        """The place itself."""
        return place

    def value(self, sample: Sample) -> int:
        """The index of the right option."""
        options, answer = _options(sample), gold_of(sample, Choice).answer
        if not 0 < len(options) <= len(LETTERS) or not all(option.strip() for option in options):
            raise ValueError(
                f"{whose(sample)}: expected 1 to {len(LETTERS)} options, none empty, found {len(options)}: "
                f"{', '.join(map(repr, options[:30]))}"
            )
        if not 0 <= answer < len(options):
            raise ValueError(
                f"{whose(sample)}: the right option is number {answer} (from 0), there are {len(options)}"
            )
        return answer

    def _metrics(self, protocol: str) -> list[Metric]:  # noqa: ARG002 - there is one alone
        """Acc@1."""
        return [Accuracy()]


def exact_option(text: str, sample: Sample) -> int | None:
    """The option that a text is letter by letter, as its content, its letter, or both; after `Answer:` if it has one.

    This is exact multiple choice, where `VQA.parse` also takes an option that a longer text names or holds.
    """
    said = _plain(text.rpartition(_SO.rstrip())[2])
    forms = [
        (option, letter, f"({letter})", f"{letter}.", _said(place, option))
        for place, (option, letter) in enumerate(zip(map(_plain, _options(sample)), LETTERS, strict=False))
    ]
    found = [place for place, known in enumerate(forms) if said in known]
    return found[0] if len(found) == 1 else None


def _options(sample: Sample) -> tuple[str, ...]:
    return gold_of(sample, Choice).options


def _said(index: int, option: str) -> str:
    """An answer: the option and its letter."""
    return f"{option} ({LETTERS[index]})"


def _without(options: tuple[str, ...], text: str) -> str:
    """The text without the options' own words; an option of one letter stays, as it looks like a letter."""
    forms = sorted((_plain(option) for option in options if len(_plain(option)) > 1), key=len, reverse=True)
    words = "|".join(rf"(?<!\w){re.escape(form)}(?!\w)" for form in forms)
    return re.sub(words, "*", text, flags=re.IGNORECASE) if words else text


def _plain(text: str) -> str:
    return " ".join(text.split())
