"""What a detector says at all locations comes in; the boxes that are left after choosing go out."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from octavius.boxes3d import iou3d, iou_bev
from octavius.encoders.detector.predictions import Predictions

Suppression: TypeAlias = Literal["3d", "bev"]
"""How two boxes are held to be the same: by their volumes, or seen from above.

The published detectors look from above, so that of two things of one class, one upon the other, one is lost.
"""

FIRST, LEAST, OVERLAP = 1000, 0.01, 0.5
"""Most locations that are looked at, the score that a box must pass, and the IoU above which the worse one goes."""

AT_ONCE = 64
"""Boxes that are held to each other at a time: what they cover is never held to what is left."""


@dataclass(frozen=True)
class Proposals:
    """The boxes of one scene, the surest first.

    Attributes:
        boxes: centre and size (K, 6), metres.
        scores: how sure each is (K,), in 0..1.
        labels: numbers of their classes (K,).
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def chosen(
    predictions: Predictions, mode: Suppression = "3d", least: float = LEAST, overlap: float = OVERLAP
) -> list[Proposals]:
    """The boxes of each scene: those of the surest locations, without what another box of the class covers.

    A score is the sigmoid of the class's logit, times that of the centre-ness where there is one. As in the
    published code, the surest `FIRST` locations are taken of each level with centre-ness (FCAF3D), of all
    levels together without (TR3D), and one location may give a box to several classes.
    """
    return [_scene(predictions.scene(number), mode, least, overlap) for number in range(predictions.clouds)]


def suppressed(boxes: Tensor, scores: Tensor, overlap: float = OVERLAP, mode: Suppression = "3d") -> Tensor:
    """Goes through boxes (K, 6) by falling score, and drops all that overlap one that was kept by more.

    Returns:
        Places of the boxes that are kept, by falling score; of equal scores the first comes first.
    """
    shared = iou_bev if mode == "bev" else iou3d
    order = scores.argsort(descending=True, stable=True)
    ranked = boxes[order].double()
    left, kept = torch.arange(len(order), device=order.device), [order[:0]]
    while len(left):
        head, left = left[:AT_ONCE], left[AT_ONCE:]
        head = head[_first_of_all((shared(ranked[head][:, None], ranked[head]) > overlap).cpu().numpy())]
        left = left[~(shared(ranked[head][:, None], ranked[left]) > overlap).any(0)]
        kept.append(head)
    return order[torch.cat(kept)]


def _first_of_all(covers: np.ndarray) -> list[int]:
    """Which of some boxes are kept, the best first, where `covers` (K, K) tells which overlap by too much."""
    gone, kept = np.zeros(len(covers), dtype=bool), list[int]()
    for place in range(len(covers)):
        if not gone[place]:
            kept.append(place)
            gone |= covers[place]
    return kept


def _scene(one: Predictions, mode: Suppression, least: float, overlap: float) -> Proposals:
    scores = one.logits.float().sigmoid()
    if one.centreness is not None:
        scores = scores * one.centreness.float().sigmoid()[:, None]
    rows = _surest(one, scores)
    boxes, scores = one.boxes[rows].float(), scores[rows]
    places, labels = (scores > least).nonzero(as_tuple=True)
    found = []
    for number in labels.unique().tolist():
        mine = places[labels == number]
        mine = mine[suppressed(boxes[mine], scores[mine, number], overlap, mode)]
        found.append((mine, torch.full_like(mine, number)))
    if not found:
        return Proposals(boxes[:0], scores.new_zeros(0), places[:0])
    places, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    values = scores[places, labels]
    order = values.argsort(descending=True, stable=True)
    return Proposals(boxes[places[order]], values[order], labels[order])


def _surest(one: Predictions, scores: Tensor) -> Tensor:
    """The locations whose best class scores highest."""
    best = scores.amax(1)
    everywhere = torch.arange(len(best), device=best.device)
    groups = [everywhere]
    if one.centreness is not None:
        groups = [everywhere[one.levels == number] for number in one.levels.unique().tolist()]
    return torch.cat([rows[best[rows].topk(min(FIRST, len(rows))).indices] for rows in groups])
