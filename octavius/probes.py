"""Frozen patch tokens and what they should tell come in, held-out scores of linear read-outs go out."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

ReadOut = Callable[[Tensor], Tensor]
"""Maps features (N, D) to values (N, C) by one affine map."""

ABSENT = -100
"""The label of a patch that a question does not apply to."""

FIGURES = {"patch_class": "class", "patch_colour": "colour", "face_hair": "hair", "face_smile": "smile"}
"""The accuracies, and the label that each one asks for."""


def ridge(features: Tensor, targets: Tensor, penalty: float = 1e-3) -> ReadOut:
    """Fits targets (N, C) from features (N, D) by least squares with a bias, in closed form.

    Args:
        features: one row an observation.
        targets: what to read off each row.
        penalty: weight decay, relative to the features' mean variance, so that their scale does not matter.
    """
    x, y = features.double(), targets.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x
    lift = penalty * gram.diagonal().mean().clamp_min(1e-12) * torch.eye(len(gram), dtype=gram.dtype)
    weights = torch.linalg.solve(gram + lift, x.T @ y)
    return lambda queries: (queries.double() - x_mean) @ weights + y_mean


def accuracy(read: ReadOut, features: Tensor, labels: Tensor) -> float:
    """Share of features (N, D), of those with a label, whose highest score is their label's."""
    known = labels >= 0
    return (read(features[known]).argmax(-1) == labels[known]).double().mean().item()


def paired_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of two lists of boxes (N, 4), row by row; zero where one is empty."""
    low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
    shared = (high - low).clamp_min(0).prod(-1)
    areas = sum((boxes[:, 2:] - boxes[:, :2]).clamp_min(0).prod(-1) for boxes in (first, second))
    return shared / (areas - shared).clamp_min(1e-12)


def probe_scores(fit: Mapping[str, Tensor], held_out: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
    """Scores linear read-outs of patch tokens, fitted on one set of pictures, on other sets.

    A set has one row a patch: `tokens` (M, D); `foreground` (M,); `boxes` (M, 4) of what owns the patch; and
    `class`, `colour`, `hair`, `smile` (M,), -100 where the question does not apply. Class, colour and box are
    asked of patches that show a thing, hair and smile of those that show a face.

    Args:
        fit: what the read-outs are fitted on.
        held_out: suffix of the figures' names to the set that they are scored on.

    Returns:
        Accuracies, `patch_box50` (share of boxes with IoU at least 0.5) and `foreground`, with each suffix.
    """
    shown = fit["foreground"]
    names = {
        figure: ridge(fit["tokens"][known], functional.one_hot(fit[part][known]))
        for figure, part in FIGURES.items()
        for known in [shown & (fit[part] >= 0)]
    }
    boxes = ridge(fit["tokens"][shown], fit["boxes"][shown])
    anything = ridge(fit["tokens"], shown[:, None])
    scores = {}
    for suffix, patches in held_out.items():
        tokens, foreground = patches["tokens"], patches["foreground"]
        thing = foreground & (patches["hair"] < 0)
        for figure, read in names.items():
            asked = foreground if figure.startswith("face") else thing
            labels = torch.where(asked, patches[FIGURES[figure]], ABSENT)
            scores[f"{figure}{suffix}"] = accuracy(read, tokens, labels)
        overlap = paired_iou(boxes(tokens[thing]), patches["boxes"][thing].double())
        scores[f"patch_box50{suffix}"] = (overlap >= 0.5).double().mean().item()
        right = (anything(tokens)[:, 0] > 0.5) == foreground
        scores[f"foreground{suffix}"] = right.double().mean().item()
    return scores


def retrieval(images: Tensor, texts: Tensor) -> float:
    """Share of pictures (B, E) whose nearest caption (B, E) is their own."""
    nearest = (functional.normalize(images, dim=-1) @ functional.normalize(texts, dim=-1).T).argmax(-1)
    return (nearest == torch.arange(len(nearest))).double().mean().item()
