"""Samples with the answers of a model, from a batch or from a predictions file, and settings of the decoding."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from octavius.instruction.sample import Sample
from octavius.limits import FRACTION, NON_NEGATIVE_INT, POSITIVE_NUMBER


@dataclass(frozen=True)
class Answered:
    """A sample with the model's answer.

    Attributes:
        sample: the sample as it was read; its protocol is that of the evaluation set.
        question: the question as text.
        text: the model's answer.
        value: the answer as parsed by the task; None if it cannot be parsed.
        gate: gate weights of the experts; None without experts.
        index: index of the sample in the evaluation dataset, which concatenates the sets.
        scores: confidence of boxes, one for each `]` in the text: mean log-probability of its tokens; empty
            for other tasks.
        likelihoods: log-probability and number of tokens of each candidate answer; empty if not computed.
        left_out: why the sample could not be read. The answer is then that of a replacement and is not
            scored.
        set_name: name of the evaluation set; by default the sample's benchmark.
        gate_text: the text that the gate read (see `Template.gate`); by default the question.
    """

    sample: Sample
    question: str
    text: str
    value: Any
    gate: tuple[float, ...] | None
    index: int = 0
    scores: tuple[float, ...] = ()
    likelihoods: tuple[tuple[float, int], ...] = ()
    left_out: str = ""
    set_name: str = ""
    gate_text: str = ""

    def __post_init__(self) -> None:
        """Fills in the defaults that depend on other attributes."""
        for name, default in (("set_name", self.sample.benchmark), ("gate_text", self.question)):
            if not getattr(self, name):
                object.__setattr__(self, name, default)

    @property
    def key(self) -> tuple[str, str]:
        """Evaluation set and id, which together identify a sample in an evaluation."""
        return self.set_name, self.sample.id


@dataclass(frozen=True)
class Sampling:
    """Random sampling of answers instead of greedy decoding.

    Attributes:
        temperature: divisor of the logits.
        top_p: nucleus sampling: only the most likely tokens with this total probability are drawn.
        top_k: number of most likely tokens to draw from.
    """

    temperature: float = 1.0
    top_p: float = 0.9
    top_k: int = 50

    def __post_init__(self) -> None:
        """Checks the ranges."""
        POSITIVE_NUMBER.check(temperature=self.temperature)
        FRACTION.check(top_p=self.top_p)
        NON_NEGATIVE_INT.check(top_k=self.top_k)


@dataclass(frozen=True)
class Decoding:
    """How answers are generated.

    Attributes:
        max_new_tokens: maximum length of an answer in tokens; None takes the limit of each task.
        num_beams: number of beams in beam search; 1 is greedy. Boxes get scores without beam search only.
        likelihood: also score all candidate answers, for tasks that have them.
        sampling: sample answers at random; None does not.
    """

    max_new_tokens: int | None = None
    num_beams: int = 1
    likelihood: bool = False
    sampling: Sampling | None = None


GREEDY = Decoding()


def unique(answers: Iterable[Answered]) -> list[Answered]:
    """The answers in the order of the dataset; of several to one sample, the first."""
    first: dict[tuple[str, str], Answered] = {}
    for item in answers:
        first.setdefault(item.key, item)
    return sorted(first.values(), key=lambda item: item.index)


def readable(answers: Sequence[Answered]) -> list[Answered]:
    """The answers of samples that could be read.

    Raises:
        ValueError: there are answers, but all of unreadable samples.
    """
    found = [item for item in answers if not item.left_out]
    if answers and not found:
        raise ValueError(f"none of {len(answers)} samples could be read; the first: {answers[0].left_out}")
    return found


def left_out_lines(answers: Sequence[Answered], limit: int = 3) -> list[str]:
    """Lines about unreadable samples: their number in each set, and the first reasons."""
    gone: dict[str, list[str]] = {}
    for item in answers:
        if item.left_out:
            gone.setdefault(item.set_name, []).append(item.left_out)
    lines = []
    for name, reasons in gone.items():
        count = sum(item.set_name == name for item in answers)
        lines.append(f"{name}: {len(reasons)} of {count} samples could not be read and are not in its scores")
        lines += [f"    {reason}" for reason in reasons[:limit]] + ["    ..."] * (len(reasons) > limit)
    return lines
