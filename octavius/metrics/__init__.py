"""Metrics of all tasks, computed from the records of all samples, without PyTorch."""

from octavius.metrics.accuracy import Accuracy, NameInText
from octavius.metrics.boxes.average_precision import VocAP
from octavius.metrics.boxes.box_matching import BoxRecallPrecision
from octavius.metrics.boxes.coco_precision import CocoAP
from octavius.metrics.boxes.detection3d import MeanAP3D
from octavius.metrics.captions.bleu import Bleu
from octavius.metrics.captions.cider import Cider
from octavius.metrics.captions.dense_captions import DenseCaptions
from octavius.metrics.captions.found_captions import FoundCaptions
from octavius.metrics.captions.rouge import RougeL
from octavius.metrics.captions.scene_captions import LastOfScene
from octavius.metrics.exact_match import ExactMatch
from octavius.metrics.protocols import (
    PROTOCOLS,
    Protocol,
    answer_metrics,
    caption_metrics,
    class_metrics,
)
from octavius.metrics.published.mentions import AnyMention
from octavius.metrics.published.synonyms import same_thing
from octavius.metrics.reporting import Metric

__all__ = [
    "PROTOCOLS",
    "Accuracy",
    "AnyMention",
    "Bleu",
    "BoxRecallPrecision",
    "Cider",
    "CocoAP",
    "DenseCaptions",
    "ExactMatch",
    "FoundCaptions",
    "LastOfScene",
    "MeanAP3D",
    "Metric",
    "NameInText",
    "Protocol",
    "RougeL",
    "VocAP",
    "answer_metrics",
    "caption_metrics",
    "class_metrics",
    "same_thing",
]
