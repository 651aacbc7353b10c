"""Linear probes of frozen image features: how well class, colour, box and face can be read off each patch."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

ReadOut = Callable[[Tensor], Tensor]
"""An affine map from features (N, D) to values (N, C)."""

ABSENT = -100
"""Label of a patch to which a question does not apply."""

FIGURES = {"patch_class": "class", "patch_colour": "colour", "face_hair": "hair", "face_smile": "smile"}
"""Name of each accuracy, and the label that it measures."""


def ridge(features: Tensor, targets: Tensor, penalty: float = 1e-3) -> ReadOut:
    """Fits targets (N, C) from features (N, D) by ridge regression with a bias, in closed form and float64.

    Args:
        features: (N, D), one row per observation.
        targets: (N, C) values to predict.
        penalty: weight decay relative to the mean variance of the features, so their scale does not matter.
    """
    x, y = features.double(), targets.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x
    lift = penalty * gram.diagonal().mean().clamp_min(1e-12) * torch.eye(len(gram), dtype=gram.dtype)
    weights = torch.linalg.solve(gram + lift, x.T @ y)
    return lambda queries: (queries.double() - x_mean) @ weights + y_mean


def accuracy(read: ReadOut, features: Tensor, labels: Tensor) -> float:
    """Fraction of the labelled features (N, D) whose highest score is that of their label (negative: no label)."""
    known = labels >= 0
    return (read(features[known]).argmax(-1) == labels[known]).double().mean().item()


def paired_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of two lists of boxes (N, 4) as x0, y0, x1, y1, row by row; zero if either box is empty."""
    low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
    shared = (high - low).clamp_min(0).prod(-1)
    areas = sum((boxes[:, 2:] - boxes[:, :2]).clamp_min(0).prod(-1) for boxes in (first, second))
    return shared / (areas - shared).clamp_min(1e-12)


def probe_scores(fit: Mapping[str, Tensor], held_out: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
    """Fits linear probes of patch tokens on one set of images and scores them on others.

    A set has one row per patch: `tokens` (M, D); `foreground` (M,); `boxes` (M, 4) of the object that the
    patch belongs to; and the labels `class`, `colour`, `hair`, `smile` (M,), -100 where one does not apply.
    Class, colour and box are scored on patches of objects, hair and smile on patches of faces.

    Args:
        fit: the set that the probes are fitted on.
        held_out: suffix of the scores' names to the set that they are computed on.

    Returns:
        Accuracies, `patch_box50` (fraction of boxes with IoU of at least 0.5) and `foreground`, with each
            suffix.
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
        thing = foreground & (patches["hair"] < 0)  # objects other than faces
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
    """Fraction of images (B, E) whose nearest caption (B, E) by cosine similarity is their own."""
    nearest = (functional.normalize(images, dim=-1) @ functional.normalize(texts, dim=-1).T).argmax(-1)
    return (nearest == torch.arange(len(nearest))).double().mean().item()
