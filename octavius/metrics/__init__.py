"""Parsed answers and golds come in; benchmark scores, equal on one process and on many, go out."""

from octavius.metrics.accuracy import Accuracy
from octavius.metrics.bleu import Bleu
from octavius.metrics.box_matching import BoxRecallPrecision
from octavius.metrics.cider import Cider

__all__ = ["Accuracy", "Bleu", "BoxRecallPrecision", "Cider"]
