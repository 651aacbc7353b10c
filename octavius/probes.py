"""Frozen patch tokens and what they should tell come in, linear read-outs and their held-out scores go out."""

from collections.abc import Callable

import torch
from torch import Tensor

ReadOut = Callable[[Tensor], Tensor]
"""Maps features (N, D) to values (N, C) by one affine map."""


def ridge(features: Tensor, targets: Tensor, penalty: float = 1e-3) -> ReadOut:
    """Fits targets (N, C) from features (N, D) by least squares with a bias, in closed form and double precision.

    The penalty is relative to the features' mean variance, so that their scale does not matter.
    """
    x, y = features.double(), targets.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x
    lift = penalty * gram.diagonal().mean().clamp_min(1e-12) * torch.eye(len(gram), dtype=gram.dtype)
    weights = torch.linalg.solve(gram + lift, x.T @ y)
    return lambda queries: (queries.double() - x_mean) @ weights + y_mean


def fit_label(features: Tensor, labels: Tensor, classes: int) -> ReadOut:
    """Fits one score a class for the features (N, D) whose label (N,) is not negative."""
    known = labels >= 0
    return ridge(features[known], torch.nn.functional.one_hot(labels[known], classes))


def accuracy(read: ReadOut, features: Tensor, labels: Tensor) -> float:
    """Share of features (N, D), of those with a label, whose highest score is their label's; nan when none has."""
    known = labels >= 0
    return (read(features[known]).argmax(-1) == labels[known]).double().mean().item()


def box_share(read: ReadOut, features: Tensor, boxes: Tensor, threshold: float = 0.5) -> float:
    """Share of features (N, D) whose read-out box overlaps its true box (N, 4) by at least the threshold."""
    return (paired_iou(read(features), boxes.double()) >= threshold).double().mean().item()


def paired_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of two lists of boxes (N, 4), row by row; zero where one is empty."""
    low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
    shared = (high - low).clamp_min(0).prod(-1)
    areas = (first[:, 2:] - first[:, :2]).clamp_min(0).prod(-1) + (second[:, 2:] - second[:, :2]).clamp_min(0).prod(-1)
    return shared / (areas - shared).clamp_min(1e-12)
