"""Captions of found boxes come in, one by one and in any order; caption scores at IoU thresholds go out."""

from collections.abc import Sequence

from torch import Tensor

from octavius.instruction.sample import DescribedObject, DescribedObjects, FoundObject
from octavius.metrics.captions.dense_captions import COLUMNS, DenseCaptions
from octavius.metrics.pairs import check_pairs
from octavius.metrics.records import Records
from octavius.metrics.reporting import Weigh


class FoundCaptions(Records):
    """What `DenseCaptions` says of scenes, where each box of a scene is a sample of its own.

    A scene takes part once one of its boxes does: one without any box must not be left out by the reader
    silently. A text of None is an empty caption. Without any update the values are nan.
    """

    columns = COLUMNS
    headline = "cider_at50"

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

    def weighted(self, predictions: Sequence[str | None], golds: Sequence[FoundObject]) -> Weigh:
        """As `DenseCaptions`; all boxes of a scene count as often, so that any of them tells how often."""
        places: dict[str, list[int]] = {}
        for place, gold in enumerate(golds):
            places.setdefault(gold.scene, []).append(place)
        found = [
            tuple(DescribedObject(golds[n].box, (predictions[n] or "",)) for n in rows)
            for rows in places.values()
        ]
        last = [rows[-1] for rows in places.values()]
        weigh = DenseCaptions().weighted(found, [DescribedObjects(golds[n].objects) for n in last])
        return lambda weights: weigh(weights[:, last])
