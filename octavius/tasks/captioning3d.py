"""Captioning of one object in a point cloud, given its box."""

from typing import ClassVar

from octavius.metrics import PROTOCOLS, Metric, caption_metrics
from octavius.tasks.captioning import Captioning


class Captioning3D(Captioning):
    """Answers with one of the object's descriptions, drawn anew each epoch."""

    name = "captioning3d"
    questions: ClassVar[tuple[str, ...]] = (
        "Describe this object.",
        "What is this object like?",
        "Give a caption for this object.",
        "Tell me what this object is, and where it stands.",
        "Describe the object and its place in the room.",
        "Write one sentence about this object.",
        "Say in one sentence what the object looks like.",
        "What can be said about this object?",
    )
    unseen_questions: ClassVar[tuple[str, ...]] = (
        "Describe what this object looks like.",
        "Tell me about the object in one sentence.",
    )
    max_answer_tokens = 96
    protocols = tuple(PROTOCOLS)
    scored_by_scene = True

    def _metrics(self, protocol: str) -> list[Metric]:
        """CIDEr, BLEU-1..4 and ROUGE-L; under the published protocol of the last answer per scene only."""
        return caption_metrics(protocol)
