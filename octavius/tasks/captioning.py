"""Free text scored against references: image captions, and open turns of a conversation."""

import random
from typing import ClassVar

from octavius.instruction.sample import References, Sample
from octavius.metrics import PROTOCOLS, Bleu, Cider, Metric, RougeL
from octavius.tasks.base import Task, gold_of, whose


class Captioning(Task):
    """Free text; the training target is one randomly drawn reference."""

    name = "captioning"
    questions: ClassVar[tuple[str, ...]] = (
        "Describe the picture.",
        "What is in the picture?",
        "Give a caption for this picture.",
        "Tell me what you can see.",
        "Describe this image.",
        "Write one sentence about this picture.",
        "Say in one sentence what the image shows.",
        "What can be seen here?",
        "Write a caption of this image.",
        "Tell me about this picture.",
        "How would you describe the scene?",
        "Please describe what is here.",
    )
    unseen_questions: ClassVar[tuple[str, ...]] = (
        "Describe what you can see in this picture.",
        "Give a caption of what you can see in the picture.",
    )
    max_answer_tokens = 64
    protocols: ClassVar[tuple[str, ...]] = tuple(PROTOCOLS)

    def answer(self, sample: Sample, rng: random.Random) -> str:
        """One of the references."""
        return rng.choice(self.value(sample))

    def parse(self, text: str, sample: Sample) -> str | None:  # noqa: ARG002
        """The text on one line; None if empty."""
        return " ".join(text.split()) or None

    def value(self, sample: Sample) -> tuple[str, ...]:
        """The non-empty references."""
        texts = tuple(text for text in gold_of(sample, References).texts if text.strip())
        if not texts:
            raise ValueError(f"{whose(sample)}: it has no non-empty reference; at least one is needed")
        return texts

    def one_value(self, sample: Sample) -> str:
        """The first reference."""
        return self.value(sample)[0]

    def right_answers(self, sample: Sample) -> set[str]:
        """All references."""
        return {*self.value(sample)}

    def _metrics(self, protocol: str) -> list[Metric]:
        """CIDEr and BLEU-1..4 with all references; under the published protocol also ROUGE-L."""
        return [Cider(), Bleu(), RougeL()] if protocol == "published" else [Cider(), Bleu()]


class Conversation(Captioning):
    """One open turn of a dialogue, whose question the dataset gives.

    The inherited questions serve only samples without a question of their own.
    """

    name = "conversation"
    protocols = ("standard",)
    max_answer_tokens = 256
