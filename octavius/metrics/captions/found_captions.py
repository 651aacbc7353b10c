"""Dense captioning metrics where each detected box is a sample of its own."""

from collections.abc import Sequence

from octavius.instruction.sample import DescribedObject, DescribedObjects, FoundObject
from octavius.metrics.captions.dense_captions import COLUMNS, DenseCaptions
from octavius.metrics.pairs import check_pairs
from octavius.metrics.records import Records
from octavius.metrics.reporting import Weigh


class FoundCaptions(Records):
    """The metrics of `DenseCaptions`, computed from one sample per detected box, in any order.

    A scene is scored once it has at least one box: scenes in which nothing was detected are missing, and a
    reader must not drop them silently. A text of None is an empty caption. Without any update the values are
    nan.
    """

    columns = COLUMNS
    headline = "cider_at50"

    def update(self, predictions: Sequence[str | None], golds: Sequence[FoundObject]) -> None:
        """Adds one text, or None, per detected box."""
        check_pairs(predictions, golds, FoundObject)
        self.records += [(said or "", gold) for said, gold in zip(predictions, golds, strict=True)]

    def compute(self) -> dict[str, float]:
        """The keys of `DenseCaptions`."""
        found: dict[str, list[DescribedObject]] = {}
        true: dict[str, DescribedObjects] = {}
        for said, gold in self.records:
            found.setdefault(gold.scene, []).append(DescribedObject(gold.box, (said,)))
            true[gold.scene] = DescribedObjects(gold.objects)
        scores = DenseCaptions()
        scores.update([*found.values()], [*true.values()])
        return scores.compute()

    def weighted(self, predictions: Sequence[str | None], golds: Sequence[FoundObject]) -> Weigh:
        """As in `DenseCaptions`. All boxes of a scene have the same weight, so that of the last is the scene's."""
        by_scene: dict[str, list[int]] = {}
        for index, gold in enumerate(golds):
            by_scene.setdefault(gold.scene, []).append(index)
        found = [
            tuple(DescribedObject(golds[n].box, (predictions[n] or "",)) for n in rows)
            for rows in by_scene.values()
        ]
        last = [rows[-1] for rows in by_scene.values()]
        weigh = DenseCaptions().weighted(found, [DescribedObjects(golds[n].objects) for n in last])
        return lambda weights: weigh(weights[:, last])
