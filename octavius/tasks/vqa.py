"""Visual questions with lettered choices: options in, a letter with its content out."""

import random
import re
import string

from torchmetrics import MetricCollection

from octavius.instruction.sample import Choice, Sample
from octavius.metrics import Accuracy
from octavius.tasks.base import Task

_LETTER = re.compile(r"\(([A-Z])\)|(?:^|answer is|answer:)\s*([A-Z])(?=$|[\s.,:;)])", re.IGNORECASE)


class VQA(Task):
    """Asks `question` + `Options: (A) red (B) blue`; answers `red (B)`: the content, then its letter."""

    name = "vqa"
    questions = ("Which option is right?",)
    unseen_questions = ("Which of these options is the right one?",)
    max_answer_tokens = 48

    def question(self, sample: Sample, rng: random.Random, unseen: bool = False) -> str:
        """The question, then all options behind their letters."""
        options = " ".join(
            f"({letter}) {option}" for letter, option in zip(string.ascii_uppercase, _options(sample), strict=False)
        )
        return f"{super().question(sample, rng, unseen)}\nOptions: {options}"

    def answer(self, sample: Sample, rng: random.Random) -> str:  # noqa: ARG002
        """Content and letter of the right option."""
        right = self.value(sample)
        return f"{_options(sample)[right]} ({string.ascii_uppercase[right]})"

    def parse(self, text: str, sample: Sample) -> int | None:
        """The index of the one letter named; else of the one option whose text is there; else None."""
        options = _options(sample)
        letters = {(first or second).upper() for first, second in _LETTER.findall(text)}
        if len(letters) == 1:
            index = string.ascii_uppercase.index(letters.pop())
            return index if index < len(options) else None
        words = text.casefold()
        named = [
            index
            for index, option in enumerate(options)
            if re.search(rf"(?<!\w){re.escape(option.casefold())}(?!\w)", words)
        ]
        return named[0] if len(named) == 1 and not letters else None

    def value(self, sample: Sample) -> int:
        """The index of the right option."""
        assert isinstance(sample.gold, Choice), sample.gold
        return sample.gold.answer

    def metrics(self) -> MetricCollection:
        """Acc@1."""
        return MetricCollection([Accuracy()])


def _options(sample: Sample) -> tuple[str, ...]:
    assert isinstance(sample.gold, Choice), sample.gold
    return sample.gold.options
