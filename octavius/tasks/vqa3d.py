"""Questions about a whole point cloud, answered in free words: any of several accepted answers is right."""

from typing import ClassVar

from torchmetrics import Metric

from octavius.metrics import PROTOCOLS, answer_metrics
from octavius.tasks.captioning import Captioning


class VQA3D(Captioning):
    """Answers with one of the accepted answers, drawn anew each epoch; the question is the data's own."""

    name = "vqa3d"
    questions: ClassVar[tuple[str, ...]] = ("What is in this room?",)
    unseen_questions: ClassVar[tuple[str, ...]] = ("Tell me what there is in this room.",)
    max_answer_tokens = 48
    protocols = tuple(PROTOCOLS)

    def _metrics(self, protocol: str) -> list[Metric]:
        """CIDEr, BLEU-1..4 and ROUGE-L; by the standard protocol exact match in three grades too."""
        return answer_metrics(protocol)
