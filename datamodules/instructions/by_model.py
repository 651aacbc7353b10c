"""Instruction data written by a language model and validated against the annotations."""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from datamodules.instructions import images, scans
from datamodules.instructions.annotation import Annotation
from datamodules.instructions.endpoint import Endpoint, Spent, ask_all
from datamodules.instructions.images import Item
from datamodules.instructions.prompts import Job, messages
from datamodules.instructions.response_cache import ResponseCache
from datamodules.instructions.validation import Pair, check, pairs_of, vocabulary

OBJECTS = 16
"""Objects of a scan that one request asks about."""


@dataclass(frozen=True)
class Outcome:
    """Result of a run.

    Attributes:
        items: entries of the instruction file, in the order of the annotations.
        rejected: question-answer pairs that were not accepted, with reasons.
        unanswered: number of requests without an answer.
        cached: number of requests answered from the cache.
        spent: usage of the requests that were sent.
    """

    items: list[Item]
    rejected: list[dict[str, Any]]
    unanswered: int
    cached: int
    spent: Spent

    def summary(self, prices: tuple[float, float] | None) -> str:
        """One line with requests and tokens, and the cost if the prices of a million tokens (in, out) are known."""
        spent = self.spent
        text = (
            f"sent {spent.requests} requests ({spent.retried} retries, {spent.malformed} malformed responses), "
            f"{self.cached} more were answered from the cache: {spent.tokens_in:,} tokens in, "
            f"{spent.tokens_out:,} out"
        )
        if prices is None:
            return text
        cost = (spent.tokens_in * prices[0] + spent.tokens_out * prices[1]) / 1e6
        return f"{text}; cost {cost:.4f} at {prices[0]:g} and {prices[1]:g} a million"

    def rejection_reasons(self) -> str:
        """The most frequent reasons for rejection, counted with quoted names and numbers masked."""
        reasons = Counter(re.sub(r"'[^']*'|\[[^\]]*\]|\d+", "..", row["reason"]) for row in self.rejected)
        return ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))


def by_model(
    annotations: Sequence[Annotation],
    kinds: Sequence[str],
    endpoint: Endpoint,
    answers: ResponseCache,
    image_path: Callable[[Annotation], str],
    progress: bool,
) -> Outcome:
    """Asks for pairs about every annotation, and accepts those that the annotation proves.

    Args:
        annotations: of images or of scans.
        kinds: the `task_type`s to ask for.
        endpoint: the endpoint to ask.
        answers: the cache of responses.
        image_path: returns the path of an annotation's image relative to the folder of the file.
        progress: show a progress bar.

    Raises:
        ValueError: the endpoint does not answer.
    """
    jobs = [job for annotation in annotations for job in jobs_of(annotation, tuple(kinds))]
    bodies = [endpoint.body(messages(job)) for job in jobs]
    keys = [endpoint.key(body) for body in bodies]
    wanted = dict(zip(keys, bodies, strict=True))
    cached = sum(key in answers for key in wanted)
    try:
        spent, failed = ask_all(endpoint, wanted, answers, fault, progress)
    except KeyboardInterrupt:
        done = sum(key in answers for key in wanted)
        print(
            f"stopped: {done} of {len(wanted)} answers are cached in {answers.path}; run the same command again to "
            "continue",
            file=sys.stderr,
        )
        raise
    names, items, rejected = vocabulary(annotations), list[Item](), list[dict[str, Any]]()
    numbers: Counter[tuple[str, str]] = Counter()
    for job, key in zip(jobs, keys, strict=True):
        about = job.annotation.name
        if key in failed:
            rejected.append({"about": about, "reason": f"no answer: {failed[key]}", "pair": None})
            continue
        if not answers[key].text:
            rejected.append({"about": about, "reason": answers[key].fault, "pair": None})
            continue
        good, bad = check(job, answers[key].text, names)
        rejected += [{"about": about, "reason": reason, "pair": pair} for reason, pair in bad]
        for pair in good:
            items.append(entry(job.annotation, pair, numbers[about, pair.kind], image_path))
            numbers[about, pair.kind] += 1
    return Outcome(items, rejected, len(failed), cached, spent)


def jobs_of(annotation: Annotation, kinds: tuple[str, ...]) -> Iterator[Job]:
    """The requests about an image (one), or about a scan (one about the room, and one per group of objects)."""
    if annotation.image is not None:
        yield Job(annotation, kinds)
        return
    single = tuple(kind for kind in kinds if kind != "VQA3D")
    if "VQA3D" in kinds:
        yield Job(annotation, ("VQA3D",))
    for first in range(0, len(annotation.things) if single else 0, OBJECTS):
        yield Job(annotation, single, annotation.things[first : first + OBJECTS])


def fault(text: str) -> str | None:
    """What is malformed in an answer; None if nothing."""
    try:
        pairs_of(text)
    except ValueError as error:
        return str(error)
    return None


def entry(annotation: Annotation, pair: Pair, number: int, image_path: Callable[[Annotation], str]) -> Item:
    """A pair as an entry of the instruction file."""
    if annotation.image is None:
        return scans.item(annotation, pair.thing, pair.kind, pair.talk)
    return images.item(annotation, image_path(annotation), pair.kind, number, pair.talk)
