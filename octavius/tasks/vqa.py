"""Multiple choice: the question lists lettered options, the answer is the content of the right one."""

import random
from string import ascii_uppercase as LETTERS
from typing import ClassVar

from octavius.instruction.sample import Choice, Sample
from octavius.metrics import PROTOCOLS, Accuracy, Metric
from octavius.tasks import published
from octavius.tasks.base import Task, gold_of, whose
from octavius.tasks.choices import parse_choice

ANSWER_MARK = "\nAnswer: "
"""Separates a reason from its answer; unambiguous, since neither options nor reasons contain a line break."""


class VQA(Task):
    """Asks `question` + `Options: red (A), blue (B)` and answers `blue`, the content of the right option.

    Answers by letter, alone or with the content, are parsed too. A gold with a reason is answered with the
    reason, then `Answer: blue` on a new line (chain of thought as in Multimodal-CoT, Zhang et al. 2023); only
    what follows `Answer:` is scored.
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
        """The content of the right option, with its letter if the content alone would parse to another option."""
        right = self.value(sample)
        content, reason = _plain(_options(sample)[right]), _plain(gold_of(sample, Choice).reason)
        said = content if self.parse(content, sample) == right else _said(right, content)
        return f"{reason}{ANSWER_MARK}{said}" if reason else said

    def parse(self, text: str, sample: Sample) -> int | None:
        """The index of the option that the text equals, or else states (see `octavius.tasks.choices`).

        The published protocol has rules of its own, see `octavius.tasks.published.option`.
        """
        options = _options(sample)
        if sample.protocol == "published":
            return published.option(text, options)
        before, mark, after = text.partition(ANSWER_MARK.rstrip())
        said = _plain(after if mark else before)
        for form in (_said, lambda _, option: option):  # content with letter, content alone
            exact = [index for index, option in enumerate(options) if _plain(form(index, option)) == said]
            if said and exact:
                return exact[0] if len(exact) == 1 else None
        return parse_choice(f"{ANSWER_MARK.strip()} {after}" if mark else before, options)

    def candidates(self, sample: Sample) -> tuple[str, ...]:
        """The contents of all options."""
        return tuple(_plain(option) for option in _options(sample))

    def chosen(self, index: int, sample: Sample) -> int:  # noqa: ARG002
        """The index itself."""
        return index

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
                f"{whose(sample)}: the index of the right option is {answer}, but there are {len(options)} options"
            )
        return answer

    def _metrics(self, protocol: str) -> list[Metric]:  # noqa: ARG002 - the same under both protocols
        """Top-1 accuracy."""
        return [Accuracy()]


def exact_option(text: str, sample: Sample) -> int | None:
    """The option that a text equals exactly: its content, its letter, or both; after `Answer:` if present.

    Exact matching as in common multiple-choice evaluators, while `VQA.parse` also accepts longer texts that
    state an option.
    """
    said = _plain(text.rpartition(ANSWER_MARK.rstrip())[2])
    forms = [
        (option, letter, f"({letter})", f"{letter}.", _said(index, option))
        for index, (option, letter) in enumerate(zip(map(_plain, _options(sample)), LETTERS, strict=False))
    ]
    found = [index for index, known in enumerate(forms) if said in known]
    return found[0] if len(found) == 1 else None


def _options(sample: Sample) -> tuple[str, ...]:
    return gold_of(sample, Choice).options


def _said(index: int, option: str) -> str:
    """An option with its letter."""
    return f"{option} ({LETTERS[index]})"


def _plain(text: str) -> str:
    return " ".join(text.split())
