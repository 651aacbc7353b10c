"""Whether groups of samples contradict each other, measured before training.

The update that a sample asks for in a layer is the outer product of the input of the layer and of a change of its
output. Two groups can share an adapter if the change is the same function of the input in both, however much their
inputs and changes differ. They contradict each other if similar inputs ask for different changes: then a predictor of
the change is better if each group has one of its own.

The predictor is a kernel ridge regression on the inputs of all layers, and is scored by cross-validation. In the
miniature, separate predictors explain 1.3 to 2.9 times as much of the changes as a joint one for questions that want
contradictory answers, and at most 1.1 times as much for ordinary tasks.
"""

from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from octavius.lora_moe.gates.base import Sketches

CONTRADICTORY = 1.2
"""Ratio of what separate predictors explain to what a joint one does, above which two groups are kept apart."""

SIGNIFICANT = 4.0
"""Mean decrease of the squared error, in standard errors, below which separate predictors count as no better."""

MOST = 256
"""Upper bound on the samples of a group that are compared: the time grows with the cube of their number."""

FOLDS, RIDGES = 4, (0.1, 0.3, 1.0)
"""Number of folds of the cross-validation, and the penalties, of which each predictor takes the best."""

SHARPNESS = 1.0
"""Factor of squared distances in the Gaussian kernel, relative to their median."""


def merge_compatible(groups: Tensor, sketches: Sketches) -> tuple[Tensor, float]:
    """Merges groups of samples that do not contradict each other, by agglomerative clustering (complete linkage).

    Args:
        groups: group of each of N samples, (N,).
        sketches: sketches of the samples.

    Returns:
        The groups that are left, numbered from 0 by decreasing size, (N,), and the smallest conflict of two of them,
        which is the largest `conflict` of their parts; if one is left, the largest of all.
    """
    kernel, changes = kernel_and_changes(sketches)
    # A sample is in the same fold whatever it is compared with, so that its errors can be subtracted.
    folds = torch.randperm(len(groups), generator=torch.Generator().manual_seed(0)) % FOLDS
    rows = [(groups == group).nonzero().flatten() for group in groups.unique()]
    found = {
        (one, other): conflict(rows[one], rows[other], kernel, changes, folds)
        for one, other in combinations(range(len(rows)), 2)
    }
    members = [[group] for group in range(len(rows))]

    def linkage(pair: tuple[int, int]) -> float:
        return max(found[min(a, b), max(a, b)] for a in members[pair[0]] for b in members[pair[1]])

    least = max(found.values(), default=1.0)
    while len(members) > 1:
        one, other = closest = min(combinations(range(len(members)), 2), key=linkage)
        if linkage(closest) > CONTRADICTORY:
            least = linkage(closest)
            break
        members[one] += members.pop(other)
    joined = sorted((torch.cat([rows[group] for group in part]) for part in members), key=len, reverse=True)
    merged = torch.zeros_like(groups)
    for group, part in enumerate(joined):
        merged[part] = group
    return merged, least


def conflict(one: Tensor, other: Tensor, kernel: Tensor, changes: Tensor, folds: Tensor) -> float:
    """How many times as much of the changes of two groups is explained separately as jointly.

    Args:
        one: indices of the samples of a group.
        other: indices of the samples of the other group.
        kernel: similarity of the inputs of N samples, (N, N).
        changes: wanted changes, (N, P).
        folds: fold of each sample, (N,).

    Returns:
        The ratio; at most 1 if separate predictors are not significantly better, infinity if a joint one explains
        nothing.
    """
    one, other = (
        rows[torch.linspace(0, len(rows) - 1, min(len(rows), MOST)).long()] for rows in (one, other)
    )
    both = torch.cat([one, other])
    total = changes[both].square().sum(1)
    joint = errors(both, kernel, changes, folds)
    separate = torch.cat([errors(rows, kernel, changes, folds) for rows in (one, other)])
    explained, explained_jointly = float((total - separate).mean()), float((total - joint).mean())
    # One sample has no deviation (nan), for which the comparison is false.
    significant = float((joint - separate).mean() / (joint - separate).std()) * len(both) ** 0.5 > SIGNIFICANT
    if explained_jointly <= 0:
        return float("inf") if significant else 1.0
    return explained / explained_jointly if significant else min(1.0, explained / explained_jointly)


def errors(rows: Tensor, kernel: Tensor, changes: Tensor, folds: Tensor) -> Tensor:
    """Squared errors (n,) of the changes of `rows`, predicted from the rows of other folds, at the best penalty."""
    found = (
        changes[rows].square().sum(1).repeat(len(RIDGES), 1)
    )  # where there is no other fold, nothing is predicted
    for fold in folds[rows].unique():
        inside = folds[rows] == fold
        held, known = rows[inside], rows[~inside]
        if len(known) == 0:
            continue
        square, across = kernel[known][:, known], kernel[held][:, known]
        for index, ridge in enumerate(RIDGES):
            factor = torch.linalg.cholesky(square + ridge * torch.eye(len(known), dtype=square.dtype))
            predicted = across @ torch.cholesky_solve(changes[known], factor)
            found[index, inside] = (changes[held] - predicted).square().sum(1)
    return found[found.mean(1).argmin()]


def kernel_and_changes(sketches: Sketches) -> tuple[Tensor, Tensor]:
    """A Gaussian kernel of the inputs of N samples, (N, N), and the changes that they ask for, (N, L * F).

    All layers count alike, and so do all samples, whatever the sizes of their gradients.
    """
    updates, inputs = (part.double().cpu() for part in sketches)
    updates = updates / updates.flatten(2).norm(dim=2).mean(0).clamp(min=1e-12)[:, None, None]
    updates = F.normalize(updates.flatten(1), dim=1).view_as(updates)
    changes = torch.einsum("nlor,nlr->nlo", updates, F.normalize(inputs, dim=2)).flatten(1)
    inputs = (inputs / inputs.norm(dim=2).mean(0).clamp(min=1e-12)[:, None]).flatten(1)
    distances = torch.cdist(inputs, inputs).square()
    return torch.exp(-SHARPNESS * distances / distances.median().clamp(min=1e-12)), changes
