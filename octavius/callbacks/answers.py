"""A model and a batch come in; its answers, from all processes once and in the data's order, go out, also as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import distributed

from octavius.instruction.batch import Batch
from octavius.instruction.sample import DescribedObject, LabelledBox, Sample
from octavius.tasks import TASKS


@dataclass(frozen=True)
class Answered:
    """One sample with the model's answer.

    Attributes:
        sample: as it was asked; its benchmark is the name of the evaluation set.
        question: the question text as the model read it.
        text: the model's answer.
        value: what the task parsed from it, None for nothing.
        gate: routing weights of the experts; None without experts.
        place: of the sample in the evaluation's data set, which holds set after set in the order of their files.
    """

    sample: Sample
    question: str
    text: str
    value: Any
    gate: tuple[float, ...] | None
    place: int = 0


def ask(
    module: Any, batch: Batch, places: Sequence[int], max_new_tokens: int | None = None, num_beams: int = 1
) -> list[Answered]:
    """The model's answers to a batch, parsed.

    Args:
        module: with `answer` and `processor`, as `OctaviusModule`.
        batch: prompts without answers.
        places: of its samples in the data set.
        max_new_tokens: longest answer; none takes each task's own limit.
        num_beams: beams of the search; 1 is greedy.
    """
    limits = [max_new_tokens or TASKS[sample.task].max_answer_tokens for sample in batch.samples]
    texts, gate = module.answer(batch, limits, **({} if num_beams == 1 else {"num_beams": num_beams}))
    weights = [None] * len(texts) if gate is None else [tuple(row) for row in gate.float().cpu().tolist()]
    tokenizer = module.processor.prompts.tokenizer
    found = []
    for row, (sample, text) in enumerate(zip(batch.samples, texts, strict=True)):
        asked = batch.question_ids[row][batch.question_mask[row].bool()].tolist()
        value = TASKS[sample.task].parse(text, sample)
        found.append(Answered(sample, tokenizer.decode(asked), text, value, weights[row], places[row]))
    return found


def gather_once(mine: list[Answered]) -> list[Answered]:
    """The answers of all processes, each place once, in the order of the data set."""
    everyone: list[list[Answered]] = [mine]
    if distributed.is_available() and distributed.is_initialized():
        everyone = [[] for _ in range(distributed.get_world_size())]
        distributed.all_gather_object(everyone, mine)
    unique = {item.place: item for answers in reversed(everyone) for item in reversed(answers)}
    return [unique[place] for place in sorted(unique)]


def prediction(item: Answered) -> dict[str, Any]:
    """One line of the predictions file: what was asked, said, parsed and true, and how it is scored."""
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
        "gold": _plain(TASKS[sample.task].value(sample)),
        "gate": item.gate and [round(weight, 4) for weight in item.gate],
    }


def _plain(value: Any) -> Any:
    """A parsed or gold value as JSON can hold it."""
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, LabelledBox | DescribedObject):
        said = {"label": value.label} if isinstance(value, LabelledBox) else {"texts": list(value.texts)}
        return {**said, "box": [round(number, 4) for number in value.box]}
    return value
