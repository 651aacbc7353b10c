"""The name of a protocol comes in, the metrics with which it scores a kind of answer go out."""

from typing import Literal, TypeAlias

from torchmetrics import Metric

from octavius.metrics.accuracy import Accuracy, NameInText
from octavius.metrics.captions.bleu import Bleu
from octavius.metrics.captions.cider import Cider
from octavius.metrics.captions.rouge import RougeL
from octavius.metrics.captions.scene_captions import LastOfScene
from octavius.metrics.exact_match import ExactMatch

Protocol: TypeAlias = Literal["standard", "published"]

PROTOCOLS: dict[str, str] = {
    "standard": "every sample, against all its references; a class by its whole name or a synonym; boxes by AP too",
    "published": (
        "the last answer of each scene, against one reference; a class is right where its name (of images: or a "
        "synonym) occurs; boxes and choices by LAMM's rules for free text"
    ),
}
"""Named ways of scoring answers, and what they do, in words for the foot of a table.

`published` is how the paper's numbers came about; `standard` is what the data sets' own evaluators do. Two
numbers compare only under one protocol. Both score captions of an object whose box is given; where boxes are
predicted, see `DenseCaptions`.
"""


def caption_metrics(protocol: str) -> list[Metric]:
    """For descriptions of a scene or of one of its objects (predictions are texts, golds References)."""
    return [LastOfScene()] if _known(protocol) == "published" else [Cider(), Bleu(), RougeL()]


def answer_metrics(protocol: str) -> list[Metric]:
    """For short answers to open questions (predictions are texts, golds References)."""
    return [LastOfScene()] if _known(protocol) == "published" else [ExactMatch(), *caption_metrics(protocol)]


def class_metrics(protocol: str) -> list[Metric]:
    """For the class of an object (golds are ClassNames).

    Predictions are what the gold's name is looked for in: the whole text under `published`, the name that was
    parsed from it under `standard`.
    """
    return [NameInText()] if _known(protocol) == "published" else [Accuracy()]


def _known(protocol: str) -> str:
    if protocol not in PROTOCOLS:
        raise ValueError(f"there is no protocol {protocol!r}; expected one of {', '.join(PROTOCOLS)}")
    return protocol
