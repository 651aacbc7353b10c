"""Generates and parses the answers to a batch, gathers them over ranks, and serialises them as JSON lines."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import distributed

from octavius.callbacks.scoring.box_scores import BoxScores
from octavius.instruction.batch import Batch
from octavius.instruction.golds import to_json
from octavius.instruction.sample import DescribedObject, LabelledBox, Sample
from octavius.limits import POSITIVE, SHARE, WHOLE
from octavius.tasks import TASKS


@dataclass(frozen=True)
class Answered:
    """A sample with the model's answer.

    Attributes:
        sample: the sample as it was asked; its benchmark is the name of the evaluation set.
        question: the text of the question as the model saw it.
        text: the model's answer.
        value: the answer as parsed by the task; None if it cannot be parsed.
        gate: gate weights of the experts; None without experts.
        place: index of the sample in the evaluation dataset, which concatenates the sets.
        scores: confidence of boxes, one for each `]` in the text: mean log-probability of its tokens; empty
            for other tasks.
        likelihoods: log-probability and number of tokens of each candidate answer; empty if not computed.
        left_out: why the sample could not be read. The answer is then that of a replacement and is not
            scored.
    """

    sample: Sample
    question: str
    text: str
    value: Any
    gate: tuple[float, ...] | None
    place: int = 0
    scores: tuple[float, ...] = ()
    likelihoods: tuple[tuple[float, int], ...] = ()
    left_out: str = ""


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
        POSITIVE.check(temperature=self.temperature)
        SHARE.check(top_p=self.top_p)
        WHOLE.check(top_k=self.top_k)


def ask(
    module: Any,
    batch: Batch,
    places: Sequence[int],
    max_new_tokens: int | None = None,
    num_beams: int = 1,
    likelihood: bool = False,
    sampling: Sampling | None = None,
) -> list[Answered]:
    """Generates and parses the answers to a batch.

    Args:
        module: a module with `answer` and `processor`, such as `OctaviusModule`.
        batch: prompts without answers.
        places: dataset indices of its samples.
        max_new_tokens: maximum length of an answer in tokens; None takes the limit of each task.
        num_beams: number of beams in beam search; 1 is greedy. Only then boxes get scores.
        likelihood: also score all candidate answers, for tasks that have them.
        sampling: sample answers at random; None does not.
    """
    limits = [max_new_tokens or TASKS[sample.task].max_answer_tokens for sample in batch.samples]
    options: dict[str, Any] = {} if num_beams == 1 else {"num_beams": num_beams}
    options |= {} if sampling is None else {"do_sample": True, **asdict(sampling)}
    recorder = (
        BoxScores() if num_beams == 1 and any(one.task == "detection" for one in batch.samples) else None
    )
    if recorder is not None:
        options["logits_processor"] = [recorder]
    texts, gate = module.answer(batch, limits, **options)
    candidates = [TASKS[sample.task].candidates(sample) if likelihood else () for sample in batch.samples]
    likelihoods = module.likelihoods(batch, candidates) if likelihood else [()] * len(texts)
    weights = [None] * len(texts) if gate is None else [tuple(row) for row in gate.float().cpu().tolist()]
    tokenizer = module.processor.prompts.tokenizer
    found = []
    for row, (sample, text) in enumerate(zip(batch.samples, texts, strict=True)):
        asked = batch.question_ids[row][batch.question_mask[row].bool()].tolist()
        scores = recorder.of_row(row, tokenizer) if recorder and sample.task == "detection" else ()
        value = TASKS[sample.task].scored(text, sample, scores)
        answered = Answered(sample, tokenizer.decode(asked), text, value, weights[row], places[row], scores)
        answered = replace(answered, likelihoods=tuple(map(tuple, likelihoods[row])))
        gone = batch.left_out[row] if batch.left_out else None
        if gone is not None:
            answered = Answered(gone.sample, "", "", None, None, places[row], left_out=gone.reason)
        found.append(answered)
    return found


def gather_once(mine: list[Answered]) -> list[Answered]:
    """The answers of all ranks, each sample once, in the order of the dataset.

    Samplers repeat some samples so that all ranks get the same number.
    """
    everyone: list[list[Answered]] = [mine]
    if distributed.is_available() and distributed.is_initialized():
        everyone = [[] for _ in range(distributed.get_world_size())]
        distributed.all_gather_object(everyone, mine)
    # Reversed, because later keys override: of duplicates the first one of the lowest rank remains.
    unique = {item.place: item for answers in reversed(everyone) for item in reversed(answers)}
    return [unique[place] for place in sorted(unique)]


def readable(answers: Sequence[Answered]) -> list[Answered]:
    """The answers of samples that could be read.

    Raises:
        ValueError: there are answers, but all of unreadable samples.
    """
    found = [item for item in answers if not item.left_out]
    if answers and not found:
        raise ValueError(f"none of {len(answers)} samples could be read; the first: {answers[0].left_out}")
    return found


def told(answers: Sequence[Answered], limit: int = 3) -> list[str]:
    """Lines about unreadable samples: their number in each set, and the first reasons."""
    gone: dict[str, list[str]] = {}
    for item in answers:
        if item.left_out:
            gone.setdefault(item.sample.benchmark, []).append(item.left_out)
    lines = []
    for name, reasons in gone.items():
        count = sum(item.sample.benchmark == name for item in answers)
        lines.append(f"{name}: {len(reasons)} of {count} samples could not be read and are not in its scores")
        lines += [f"    {reason}" for reason in reasons[:limit]] + ["    ..."] * (len(reasons) > limit)
    return lines


def prediction(item: Answered) -> dict[str, Any]:
    """The content of one line of the predictions file, with all that is needed to score it again.

    A sample that could not be read has an empty prediction, and the reason under `left_out`.
    """
    sample = item.sample
    paths = {name: str(media.path) for name, media in sample.media.items() if media.path is not None}
    return {
        "set": sample.benchmark,
        "id": sample.id,
        "task": sample.task,
        "group": sample.group,
        "protocol": sample.protocol,
        "media": paths,
        "question": item.question,
        "prediction": item.text,
        "parsed": _plain(item.value),
        "gold": to_json(sample.gold),
        "gate": item.gate and [round(weight, 4) for weight in item.gate],
        **({"decimals": sample.decimals} if sample.decimals != Sample.decimals else {}),
        **({"left_out": item.left_out} if item.left_out else {}),
        **({"scores": [round(score, 4) for score in item.scores]} if item.scores else {}),
        **(
            {"likelihoods": [[round(one, 4), tokens] for one, tokens in item.likelihoods]}
            if item.likelihoods
            else {}
        ),
    }


def line_of(item: Answered) -> str:
    """The prediction as a line of JSON; falls back to ASCII escapes if a path is not valid Unicode."""
    line = json.dumps(prediction(item), ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:
        line = json.dumps(prediction(item))
    return line + "\n"


def _plain(value: Any) -> Any:
    """A parsed value in types that JSON has."""
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, LabelledBox | DescribedObject):
        said = {"label": value.label} if isinstance(value, LabelledBox) else {"texts": list(value.texts)}
        return {**said, "box": [round(number, 4) for number in value.box]}
    return value
