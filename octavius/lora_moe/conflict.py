"""Whether groups of samples contradict each other, measured before training.

The update that a sample asks for in a layer is the outer product of the input of the layer and of a change of its
output. Two groups can share an adapter if the change is the same function of the input in both, however much their
inputs differ, or if they change different outputs, as tasks with answers of different kinds do. They contradict each
other if similar inputs ask for different changes of the same outputs: then a predictor of the change is better if
each group has one of its own.

The predictor is a kernel ridge regression on the inputs of all layers, and is scored by cross-validation.
"""

from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from octavius.lora_moe.gates.base import Sketches

CONTRADICTORY = 2.5
"""Conflict above which two groups are kept apart, in standard errors (see `conflict`)."""

SAME_OUTPUTS = 0.4
"""Overlap of changes below which two groups do not contradict each other (see `overlap`). In the miniature it is .53
to 1 for questions that want contradictory answers, and below .25 for tasks with answers of different kinds."""

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

    least = max(found.values(), default=0.0)
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
    """How much better the changes of two groups are predicted separately than jointly.

    Args:
        one: indices of the samples of a group.
        other: indices of the samples of the other group.
        kernel: similarity of the inputs of N samples, (N, N).
        changes: wanted changes, (N, P).
        folds: fold of each sample, (N,).

    Returns:
        Mean decrease of the squared error, in standard errors; 0 if the groups change different outputs, or one has
        fewer than two samples per fold.
    """
    one, other = (
        rows[torch.linspace(0, len(rows) - 1, min(len(rows), MOST)).long()] for rows in (one, other)
    )
    few = min(len(one), len(other)) < 2 * FOLDS  # too few to tell
    if few or overlap(changes[one], changes[other]) < SAME_OUTPUTS:
        return 0.0
    separate = torch.cat([errors(rows, kernel, changes, folds) for rows in (one, other)])
    gain = errors(torch.cat([one, other]), kernel, changes, folds) - separate
    deviation = float(gain.std())
    return float(gain.mean()) / deviation * len(gain) ** 0.5 if deviation > 0 else 0.0


def overlap(one: Tensor, other: Tensor) -> float:
    """Whether two groups change the same outputs: the cosine similarity of the second moments of their changes.

    Second moments of n samples are longer than those of the population. Their lengths are therefore the roots of the
    inner products of two halves.

    Args:
        one: changes of a group, (n, P).
        other: changes of the other group, (m, P).

    Returns:
        About 1 for changes of the same distribution, 0 for orthogonal ones.
    """

    def inner(a: Tensor, b: Tensor) -> float:
        return float((a @ b.T).square().mean())  # the inner product of the second moments

    within = [max(0.0, inner(part[::2], part[1::2])) for part in (one, other) if len(part) > 1]
    length = (within[0] * within[1]) ** 0.5 if len(within) == 2 else 0.0
    return inner(one, other) / length if length > 0 else 0.0


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
