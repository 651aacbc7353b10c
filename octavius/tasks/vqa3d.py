"""Questions about a whole point cloud, answered in free words: any of several accepted answers is right."""

import random
from typing import ClassVar

from torchmetrics import Metric

from octavius.instruction.sample import References, Sample
from octavius.metrics import PROTOCOLS, answer_metrics
from octavius.tasks.base import gold_of
from octavius.tasks.captioning import Captioning

_SO = "\nAnswer: "
"""Stands between a reason and its answer, as in `vqa`."""


class VQA3D(Captioning):
    """Answers with one of the accepted answers, drawn anew each epoch; the question is the data's own.

    A gold with a reason is answered `reason`, then `Answer: ` and the first accepted answer on a line of its own;
    only what follows `Answer:` is scored.
    """

    name = "vqa3d"
    questions: ClassVar[tuple[str, ...]] = ("What is in this room?",)
    unseen_questions: ClassVar[tuple[str, ...]] = ("Tell me what there is in this room.",)
    max_answer_tokens = 48
    protocols = tuple(PROTOCOLS)
    scored_by_scene = True

    def answer(self, sample: Sample, rng: random.Random) -> str:
        """One of the accepted answers; after a reason the first of them."""
        texts, reason = self.value(sample), " ".join(gold_of(sample, References).reason.split())
        return f"{reason}{_SO}{' '.join(texts[0].split())}" if reason else rng.choice(texts)

    def parse(self, text: str, sample: Sample) -> str | None:
        """What stands behind the last `Answer:`, or all of the text, on one line; None for nothing."""
        return super().parse(text.rpartition(_SO.rstrip())[2], sample)

    def _metrics(self, protocol: str) -> list[Metric]:
        """CIDEr, BLEU-1..4 and ROUGE-L; by the standard protocol exact match in three grades too."""
        return answer_metrics(protocol)
