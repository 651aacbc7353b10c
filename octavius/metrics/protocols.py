"""Scoring protocols: which metrics score a kind of answer under `standard` and `published`."""

from typing import Literal, TypeAlias

from octavius.metrics.accuracy import Accuracy, NameInText
from octavius.metrics.captions.bleu import Bleu
from octavius.metrics.captions.cider import Cider
from octavius.metrics.captions.rouge import RougeL
from octavius.metrics.captions.scene_captions import LastOfScene
from octavius.metrics.exact_match import ExactMatch
from octavius.metrics.reporting import Metric
from octavius.suggestions import nearest

Protocol: TypeAlias = Literal["standard", "published"]

PROTOCOLS: dict[str, str] = {
    "standard": "every sample, against all its references; a class by its whole name or a synonym; boxes by AP too",
    "published": (
        "the last answer of each scene, against one reference; a class is right where its name (of images: or a "
        "synonym) occurs; boxes and choices by LAMM's rules for free text"
    ),
}
"""Named ways of scoring answers, with the description printed below tables.

`published` reproduces how the paper's numbers were computed; `standard` is what the datasets' own evaluators
do. Numbers are comparable only under the same protocol. Both score captions of an object whose box is given;
for predicted boxes see `DenseCaptions`.
"""


def caption_metrics(protocol: str) -> list[Metric]:
    """Metrics of descriptions of a scene or one of its objects (predictions are texts, golds References)."""
    return [LastOfScene()] if _known(protocol) == "published" else [Cider(), Bleu(), RougeL()]


def answer_metrics(protocol: str) -> list[Metric]:
    """Metrics of short answers to open questions (predictions are texts, golds References)."""
    return [LastOfScene()] if _known(protocol) == "published" else [ExactMatch(), *caption_metrics(protocol)]


def class_metrics(protocol: str) -> list[Metric]:
    """Metrics of the class of an object (golds are ClassNames).

    Predictions are whole texts under `published`, and parsed class names under `standard`.
    """
    return [NameInText()] if _known(protocol) == "published" else [Accuracy()]


def _known(protocol: str) -> str:
    """The protocol, after checking that it exists."""
    if protocol not in PROTOCOLS:
        raise ValueError(
            f"there is no protocol {protocol!r}{nearest(protocol, PROTOCOLS)}"
            f"; expected one of {', '.join(PROTOCOLS)}"
        )
    return protocol
