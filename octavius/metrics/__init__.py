"""Parsed answers and golds come in; benchmark scores, equal on one process and on many, go out."""

from octavius.metrics.accuracy import Accuracy, NameInText
from octavius.metrics.bleu import Bleu
from octavius.metrics.box_matching import BoxRecallPrecision
from octavius.metrics.cider import Cider
from octavius.metrics.dense_captions import DenseCaptions
from octavius.metrics.detection3d import MeanAP3D
from octavius.metrics.exact_match import ExactMatch
from octavius.metrics.protocols import (
    PROTOCOLS,
    Protocol,
    answer_metrics,
    caption_metrics,
    class_metrics,
)
from octavius.metrics.rouge import RougeL
from octavius.metrics.scene_captions import LastOfScene

__all__ = [
    "PROTOCOLS",
    "Accuracy",
    "Bleu",
    "BoxRecallPrecision",
    "Cider",
    "DenseCaptions",
    "ExactMatch",
    "LastOfScene",
    "MeanAP3D",
    "NameInText",
    "Protocol",
    "RougeL",
    "answer_metrics",
    "caption_metrics",
    "class_metrics",
]
