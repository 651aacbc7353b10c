"""Captioning of boxes that a detector found in a point cloud."""

import random

from octavius.boxes3d import iou3d, stack
from octavius.instruction.sample import FoundObject, Sample
from octavius.metrics import FoundCaptions, Metric
from octavius.tasks.base import gold_of, whose
from octavius.tasks.captioning3d import Captioning3D


class FoundCaptioning3D(Captioning3D):
    """Like `captioning3d`, but for detected boxes; a caption counts only if its box is right too.

    Compared with captions given the true boxes, it shows how much of Scan2Cap's scores is lost to detection.
    """

    name = "found_captioning3d"
    protocols = ("standard",)
    scored_by_scene = False

    def value(self, sample: Sample) -> tuple[str, ...]:
        """The descriptions of the true object with the largest IoU with the detected box."""
        gold = gold_of(sample, FoundObject)
        if not gold.objects:
            raise ValueError(f"{whose(sample)}: nothing is described in {gold.scene}; leave such scenes out")
        overlaps = iou3d(stack([gold.box]), stack([item.box for item in gold.objects]))
        texts = gold.objects[int(overlaps.argmax())].texts
        if not any(text.strip() for text in texts):
            raise ValueError(
                f"{whose(sample)}: the object nearest to its box has no text, it needs at least one"
            )
        return tuple(text for text in texts if text.strip())

    def right_answers(self, sample: Sample) -> set[str]:
        """One of the descriptions only: each is specific to its object, so none is frequent."""
        return {self.answer(sample, random.Random(0))}

    def _metrics(self, protocol: str) -> list[Metric]:  # noqa: ARG002 - there is only one
        """m@kIoU and F1 of the captions, recall and precision of the boxes, at IoU 0.25 and 0.5."""
        return [FoundCaptions()]
