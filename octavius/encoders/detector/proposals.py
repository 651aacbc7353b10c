"""Selection of a detector's boxes: top scores and non-maximum suppression."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from octavius.boxes3d import iou3d, iou_bev
from octavius.encoders.detector.predictions import Predictions

Suppression: TypeAlias = Literal["3d", "bev"]
"""Overlap measure of non-maximum suppression: IoU of volumes, or in bird's-eye view.

The published detectors use bird's-eye view, which loses one of two objects of a class that lie on top of each
other.
"""

FIRST, LEAST, OVERLAP = 1000, 0.01, 0.5
"""Locations considered, smallest score, and IoU above which the lower-scored box is suppressed."""

AT_ONCE = 64
"""Boxes compared at a time, so that no (K, K) matrix is built."""


@dataclass(frozen=True)
class Proposals:
    """The boxes detected in one scene, by descending score.

    Attributes:
        boxes: (K, 6) centre and size in metres.
        scores: (K,) in 0..1.
        labels: (K,) indices of the classes.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def chosen(
    predictions: Predictions, mode: Suppression = "3d", least: float = LEAST, overlap: float = OVERLAP
) -> list[Proposals]:
    """Selects the boxes of each scene: those with the highest scores, after suppression within each class.

    A score is the sigmoid of the class logit, times that of the centre-ness if the head has one. As in the
    published code, the best `FIRST` locations are taken per level with centre-ness (FCAF3D), over all levels
    without (TR3D), and a location may yield a box for several classes.
    """
    return [_scene(predictions.scene(number), mode, least, overlap) for number in range(predictions.clouds)]


def suppressed(boxes: Tensor, scores: Tensor, overlap: float = OVERLAP, mode: Suppression = "3d") -> Tensor:
    """Non-maximum suppression: drops each box that overlaps a higher-scored kept one by more than `overlap`.

    Args:
        boxes: (K, 6) centre and size.
        scores: (K,).
        overlap: largest IoU between kept boxes.
        mode: overlap measure.

    Returns:
        Indices of the kept boxes by descending score; ties keep their order.
    """
    overlap_of = iou_bev if mode == "bev" else iou3d
    order = scores.argsort(descending=True, stable=True)
    ranked = boxes[order].double()
    left, kept = torch.arange(len(order), device=order.device), [order[:0]]
    while len(left):
        head, left = left[:AT_ONCE], left[AT_ONCE:]
        head = head[_greedy((overlap_of(ranked[head][:, None], ranked[head]) > overlap).cpu().numpy())]
        left = left[~(overlap_of(ranked[head][:, None], ranked[left]) > overlap).any(0)]
        kept.append(head)
    return order[torch.cat(kept)]


def _greedy(covers: np.ndarray) -> list[int]:
    """Indices that remain of K boxes, sorted by score; `covers` (K, K) is true where two overlap too much."""
    gone, kept = np.zeros(len(covers), dtype=bool), list[int]()
    for index in range(len(covers)):
        if not gone[index]:
            kept.append(index)
            gone |= covers[index]
    return kept


def _scene(one: Predictions, mode: Suppression, least: float, overlap: float) -> Proposals:
    scores = one.logits.float().sigmoid()
    if one.centreness is not None:
        scores = scores * one.centreness.float().sigmoid()[:, None]
    rows = _top_locations(one, scores)
    boxes, scores = one.boxes[rows].float(), scores[rows]
    indices, labels = (scores > least).nonzero(as_tuple=True)
    found = []
    for number in labels.unique().tolist():
        mine = indices[labels == number]
        mine = mine[suppressed(boxes[mine], scores[mine, number], overlap, mode)]
        found.append((mine, torch.full_like(mine, number)))
    if not found:
        return Proposals(boxes[:0], scores.new_zeros(0), indices[:0])
    indices, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    values = scores[indices, labels]
    order = values.argsort(descending=True, stable=True)
    return Proposals(boxes[indices[order]], values[order], labels[order])


def _top_locations(one: Predictions, scores: Tensor) -> Tensor:
    """Indices of the `FIRST` locations with the highest class score: per level if there is centre-ness."""
    best = scores.amax(1)
    everywhere = torch.arange(len(best), device=best.device)
    groups = [everywhere]
    if one.centreness is not None:
        groups = [everywhere[one.levels == number] for number in one.levels.unique().tolist()]
    return torch.cat([rows[best[rows].topk(min(FIRST, len(rows))).indices] for rows in groups])
