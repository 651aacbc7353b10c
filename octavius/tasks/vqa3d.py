"""Open questions about a whole point cloud, scored against several accepted answers."""

import random
from typing import ClassVar

from octavius.instruction.sample import References, Sample
from octavius.metrics import PROTOCOLS, Metric, answer_metrics
from octavius.tasks.base import gold_of
from octavius.tasks.captioning import Captioning
from octavius.tasks.vqa import ANSWER_MARK


class VQA3D(Captioning):
    """Answers with one of the accepted answers, drawn anew each epoch; the question is the dataset's own.

    A gold with a reason is answered with the reason, then `Answer: ` and the first accepted answer on a new
    line; only what follows `Answer:` is scored.
    """

    name = "vqa3d"
    questions: ClassVar[tuple[str, ...]] = ("What is in this room?",)
    unseen_questions: ClassVar[tuple[str, ...]] = ("Tell me what there is in this room.",)
    max_answer_tokens = 48
    protocols = tuple(PROTOCOLS)
    scored_by_scene = True

    def answer(self, sample: Sample, rng: random.Random) -> str:
        """One of the accepted answers; after a reason, the first of them."""
        texts, reason = self.value(sample), " ".join(gold_of(sample, References).reason.split())
        return f"{reason}{ANSWER_MARK}{' '.join(texts[0].split())}" if reason else rng.choice(texts)

    def parse(self, text: str, sample: Sample) -> str | None:
        """The text after the last `Answer:`, or all of it, on one line; None if empty."""
        return super().parse(text.rpartition(ANSWER_MARK.rstrip())[2], sample)

    def _metrics(self, protocol: str) -> list[Metric]:
        """CIDEr, BLEU-1..4 and ROUGE-L; under the standard protocol also exact match in three grades."""
        return answer_metrics(protocol)
