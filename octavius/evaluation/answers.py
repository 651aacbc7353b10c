"""Generates and parses the answers to a batch, and gathers answers over ranks."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import distributed

from octavius.evaluation.box_scores import BoxScores
from octavius.instruction.batch import Batch
from octavius.instruction.sample import Sample
from octavius.limits import FRACTION, NON_NEGATIVE_INT, POSITIVE_NUMBER
from octavius.tasks import TASKS

DECIMALS = 4
"""Decimals of log-probabilities. The rest of a float32 depends on which samples share a batch."""


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


def answer_batch(module: Any, batch: Batch, decoding: Decoding = GREEDY) -> list[Answered]:
    """Generates and parses the answers to a batch.

    Args:
        module: a module with `answer`, `likelihoods` and `processor`, such as `OctaviusModule`.
        batch: prompts without answers.
        decoding: how answers are generated.
    """
    limits = [decoding.max_new_tokens or TASKS[sample.task].max_answer_tokens for sample in batch.samples]
    options: dict[str, Any] = {} if decoding.num_beams == 1 else {"num_beams": decoding.num_beams}
    options |= {} if decoding.sampling is None else {"do_sample": True, **asdict(decoding.sampling)}
    has_boxes = any(sample.task == "detection" for sample in batch.samples)
    recorder = BoxScores() if decoding.num_beams == 1 and has_boxes else None
    if recorder is not None:
        options["logits_processor"] = [recorder]
    texts, gate = module.answer(batch, limits, **options)
    likelihoods: list[list[tuple[float, int]]] = [[]] * len(texts)
    if decoding.likelihood:
        likelihoods = module.likelihoods(batch, [TASKS[one.task].candidates(one) for one in batch.samples])
    weights: list[tuple[float, ...] | None] = [None] * len(texts)
    if gate is not None:
        weights = [tuple(row) for row in gate.float().cpu().tolist()]
    tokenizer = module.processor.prompts.tokenizer
    answers = []
    for row, (sample, text) in enumerate(zip(batch.samples, texts, strict=True)):
        one = batch.metadata[row]
        failed = batch.replaces[row] if batch.replaces else None
        if failed is not None:
            answers.append(
                Answered(
                    failed.sample,
                    "",
                    "",
                    None,
                    None,
                    one.index,
                    left_out=failed.reason,
                    set_name=one.set_name,
                )
            )
            continue
        exact = recorder.of_row(row, tokenizer) if recorder and sample.task == "detection" else ()
        # The answer may be cut at the template's end mark, behind which tokens have scores too.
        scores = tuple(round(score, DECIMALS) for score in exact[: text.count("]")])
        value = TASKS[sample.task].scored(text, sample, scores)
        likely = tuple((round(total, DECIMALS), tokens) for total, tokens in likelihoods[row])
        answers.append(
            Answered(
                sample,
                one.question,
                text,
                value,
                weights[row],
                one.index,
                scores,
                likely,
                set_name=one.set_name,
                gate_text=one.gate_text,
            )
        )
    return answers


def gather_once(mine: list[Answered]) -> list[Answered]:
    """The answers of all ranks in the order of the dataset, each sample once by its set and id.

    Samplers repeat some samples so that all ranks get the same number.
    """
    everyone: list[list[Answered]] = [mine]
    if distributed.is_available() and distributed.is_initialized():
        everyone = [[] for _ in range(distributed.get_world_size())]
        distributed.all_gather_object(everyone, mine)
    return unique(item for answers in everyone for item in answers)


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
