"""Losses of FCAF3D and TR3D."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from octavius.boxes3d import edges, iou3d
from octavius.encoders.detector.assign import UNASSIGNED, assign_fcaf3d, assign_tr3d
from octavius.encoders.detector.predictions import Predictions

ALPHA = 0.25
"""Weight of a location's own class in the focal loss; the others have 1 - ALPHA. Its exponent gamma is 2."""

Truth = tuple[Tensor, Tensor]
"""Ground-truth boxes (M, 6) of one scene and the indices of their classes (M,)."""


def focal_loss(logits: Tensor, classes: Tensor, alpha: float = ALPHA) -> Tensor:
    """The summed sigmoid focal loss (arXiv 1708.02002, equation 5, with gamma = 2).

    Args:
        logits: (N, C).
        classes: (N,) class of each row, or `UNASSIGNED`.
        alpha: weight of a row's own class.
    """
    shares = logits.sigmoid()
    # All entries as negatives first; then the positive ones are replaced, which avoids an (N, C) one-hot.
    total = (1 - alpha) * (shares.square() * functional.softplus(logits)).sum()
    rows = (classes != UNASSIGNED).nonzero().squeeze(1)
    true_logits, share = logits[rows, classes[rows]], shares[rows, classes[rows]]
    right = alpha * (1 - share).square() * functional.softplus(-true_logits)
    return total + (right - (1 - alpha) * share.square() * functional.softplus(true_logits)).sum()


def distance_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU minus the squared distance of the centres over that of the hull's corners: (N,), in -1..1.

    Distance-IoU (arXiv 1911.08287), equation 7, in three dimensions.
    """
    one, other = edges(first), edges(second)
    hull = torch.maximum(one, other)[:, 3:] - torch.minimum(one, other)[:, :3]
    apart = (first[:, :3] - second[:, :3]).square().sum(1)
    return iou3d(first, second) - apart / hull.square().sum(1).clamp(min=1e-12)


def fcaf3d_losses(predictions: Predictions, truths: Sequence[Truth], levels: int) -> dict[str, Tensor]:
    """FCAF3D's losses `class`, `centre` and `box`, each computed per scene and averaged over scenes.

    FCAF3D, section 3.3. As in the published code, sums are divided by the number of assigned locations; the
    box loss is a mean of 1 - IoU weighted by centre-ness.
    """
    assert predictions.centreness is not None
    parts: dict[str, list[Tensor]] = {"class": [], "centre": [], "box": []}
    for number, (boxes, labels) in enumerate(truths):
        one = predictions.scene(number)
        assert one.centreness is not None
        with torch.no_grad():
            box, centre = assign_fcaf3d(one.positions, one.levels, boxes, levels)
        rows = (box != UNASSIGNED).nonzero().squeeze(1)
        count, weight = max(len(rows), 1), centre[rows]
        parts["class"].append(focal_loss(one.logits, _classes(box, labels)) / count)
        judged = functional.binary_cross_entropy_with_logits(one.centreness[rows], weight, reduction="sum")
        # `* 0`: every prediction stays in the graph, also if no location is assigned.
        parts["centre"].append(judged / count + one.centreness.sum() * 0)
        missed = 1 - iou3d(one.boxes[rows], boxes[box[rows]])
        parts["box"].append((missed * weight).sum() / weight.sum().clamp(min=1e-6) + one.boxes.sum() * 0)
    return {name: torch.stack(values).mean() for name, values in parts.items()}


def tr3d_losses(predictions: Predictions, truths: Sequence[Truth], class_levels: Tensor) -> dict[str, Tensor]:
    """TR3D's losses `class` and `box`, each divided by the number of assigned locations of the batch.

    TR3D, section 3.2, and its published code.

    Args:
        predictions: predictions for a batch of scenes.
        truths: per scene the ground-truth boxes (M, 6) and the indices of their classes (M,).
        class_levels: (C,) level of each class.
    """
    total, found, meant = predictions.logits.sum() * 0, [], []
    for number, (boxes, labels) in enumerate(truths):
        one = predictions.scene(number)
        with torch.no_grad():
            box = assign_tr3d(one.positions, one.levels, boxes, class_levels[labels])
        total = total + focal_loss(one.logits, _classes(box, labels))
        rows = (box != UNASSIGNED).nonzero().squeeze(1)
        found.append(one.boxes[rows])
        meant.append(boxes[box[rows]])
    boxes_found, boxes_meant = torch.cat(found), torch.cat(meant)
    count = max(len(boxes_found), 1)
    missed = (1 - distance_iou(boxes_found, boxes_meant)).sum() / count + predictions.boxes.sum() * 0
    return {"class": total / count, "box": missed}


def _classes(box: Tensor, labels: Tensor) -> Tensor:
    """Class of the box of each location (N,), `UNASSIGNED` if unassigned."""
    if not len(labels):
        return torch.full_like(box, UNASSIGNED)
    return torch.where(box == UNASSIGNED, UNASSIGNED, labels[box.clamp(min=0)])
