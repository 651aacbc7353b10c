"""Generates and parses the answers to a batch, and gathers what the ranks have."""

from dataclasses import asdict
from typing import Any, TypeVar

from torch import distributed

from octavius.evaluation.answers import GREEDY, Answered, Decoding, unique
from octavius.evaluation.box_scores import BoxScores
from octavius.instruction.batch import Batch
from octavius.tasks import TASKS

T = TypeVar("T")

DECIMALS = 4
"""Decimals of log-probabilities. The rest of a float32 depends on which samples share a batch."""


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
    return unique(gathered(mine))


def gathered(mine: list[T]) -> list[T]:
    """The items of all ranks, rank by rank; of this process alone if there is one."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return mine
    everyone: list[list[T]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(everyone, mine)
    return [item for items in everyone for item in items]
