"""Captions of found boxes come in, one by one and in any order; caption scores at IoU thresholds go out."""

from collections.abc import Sequence

from torch import Tensor

from octavius.instruction.sample import DescribedObject, DescribedObjects, FoundObject
from octavius.metrics.captions.dense_captions import DenseCaptions
from octavius.metrics.pairs import check_pairs
from octavius.metrics.records import Records


class FoundCaptions(Records):
    """What `DenseCaptions` says of scenes, where each box of a scene is a sample of its own.

    A scene takes part once one of its boxes does: one without any box must not be left out by the reader
    silently. A text of None is an empty caption. Without any update the values are nan.
    """

    def __init__(self) -> None:
        """Starts from no boxes."""
        super().__init__("found")

    def update(self, predictions: Sequence[str | None], golds: Sequence[FoundObject]) -> None:
        """Adds one text, or None, for each found box."""
        check_pairs(predictions, golds, FoundObject)
        self.keep(
            [gold.scene, said or "", gold.box, [[item.box, item.texts] for item in gold.objects]]
            for said, gold in zip(predictions, golds, strict=True)
        )

    def compute(self) -> dict[str, Tensor]:
        """The keys of `DenseCaptions`."""
        found: dict[str, list[DescribedObject]] = {}
        true: dict[str, DescribedObjects] = {}
        for scene, said, box, objects in self.kept():
            found.setdefault(scene, []).append(DescribedObject(tuple(box), (said,)))
            true[scene] = DescribedObjects(
                tuple(DescribedObject(tuple(where), tuple(texts)) for where, texts in objects)
            )
        scores = DenseCaptions().to(self.device)
        scores.update([*found.values()], [*true.values()])
        return scores.compute()
