"""An instance gate that separates the questions whose samples ask for contradictory updates, without labels.

The gate `source` has to be told which data sets contradict each other. This one finds it out before training starts,
by gradient affinity (Fifty et al., 2021, group whole tasks by it; here it groups questions):

1. For some training samples, the gradient of the answer loss with respect to the matrices B of the experts is
   computed, once with the true answer and once with that of another sample of the same task. The difference is the
   update that teaches how *this* medium and *this* answer belong together; what every question of the task has in
   common (the form of the answer, the wording of the prompt) cancels.
2. The updates are whitened, since most of their variance is due to the content of the samples. A single update is
   mostly noise, so the inner products of updates are averaged by a ridge regression on the centred question
   embeddings. The inner product of an update with itself, which noise dominates, is left out.
3. The questions are embedded by the leading eigenvectors of these inner products (spectral clustering) and clustered
   by k-means, one cluster per expert.
4. Clusters that do not contradict each other are merged (see `octavius.lora_moe.conflict`).
5. The gate starts as a linear classifier of the groups, with the small learning rate of `source`. Experts are divided
   among the groups, and those of a group have equal weights.

Two sets of questions about the same images that want different answers get an expert each, however similar their
wording is. Where nothing contradicts anything there is one group, and the experts are one LoRA of their total rank.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from octavius.lora_moe.conflict import merge_compatible
from octavius.lora_moe.gates.base import FittedTo, Sketches
from octavius.lora_moe.gates.cluster import lloyd, nearest
from octavius.lora_moe.gates.source import SourceGate

RIDGE = 0.01
"""Penalty of the regression of updates on questions, relative to an input with a mean square of 1."""

SHRINKAGE = 0.3
"""Variance, relative to the mean of all directions, below which whitening scales a direction up less and less."""

RESTARTS = 16
"""Number of random initialisations of k-means, of which the best result is taken."""


class AffinityGate(SourceGate):
    """The instance gate, initialised as a classifier of groups of questions with similar updates (see the module).

    Until `fit_updates` is called the weights are random, as in the instance gate.
    """

    fitted_to: ClassVar[FittedTo] = "updates"

    @torch.no_grad()
    def fit_updates(
        self, questions: Sequence[str], sketches: Sketches, pool: Callable[[Sequence[str]], Tensor]
    ) -> str:
        """Groups the questions by their expected updates, and sets the weights to a classifier of the groups.

        Args:
            questions: the questions of N training samples.
            sketches: sketches of the samples' updates and inputs.
            pool: maps n texts to their mean embeddings (n, D), as `pooled` computes them.

        Returns:
            One line for the log that says what was done.
        """
        unique = list(dict.fromkeys(questions))
        index = {question: row for row, question in enumerate(unique)}
        rows = torch.tensor([index[question] for question in questions])
        inputs = pool(unique).double().cpu()  # fp64 on the CPU: all processes must get the same groups
        inputs = F.rms_norm(inputs - inputs[rows].mean(0), (self.width,))
        clusters = group_by_update(inputs, rows, sketches.updates.flatten(1).double().cpu(), max(self.routed))
        merged, conflict = merge_compatible(clusters[rows], sketches)
        groups = torch.zeros_like(clusters).scatter(
            0, rows, merged
        )  # all samples of a question are in one group
        right = self.classify(list(zip(unique, groups.tolist(), strict=True)), pool)
        compared = f"{len(questions)} training samples (conflict {conflict:.1f}"
        if not bool(merged.any()):
            return f"the gate finds no contradiction in {compared}): every question uses all experts alike"
        shares = ", ".join(f"{share:.0%}" for share in (torch.bincount(merged) / len(merged)).tolist())
        return (
            f"the gate separates contradictory groups of {compared} or more): {shares}; {right:.0%} of "
            f"{len(unique)} questions are classified correctly"
        )


def group_by_update(inputs: Tensor, rows: Tensor, updates: Tensor, groups: int) -> Tensor:
    """Groups questions by the expected updates of their samples.

    Args:
        inputs: centred embeddings of U questions at unit RMS, (U, D).
        rows: index of the question of each of N samples, (N,).
        updates: update of each sample, (N, P).
        groups: number of groups.

    Returns:
        Group of each question, 0..groups - 1, (U,); fewer groups if there are fewer questions.
    """
    groups = min(groups, len(inputs))
    if groups == 1:
        return torch.zeros(len(inputs), dtype=torch.long)
    counts = torch.bincount(rows, minlength=len(inputs)).double()
    inner = whitened_products(updates)
    # The squared length of one update is hundreds of times that of the mean of its group. Counted in, it would put
    # the few samples of a rare wording far from all others.
    inner.fill_diagonal_(0)
    inputs_of = inputs[rows]
    square = inputs_of.T @ inputs_of / len(rows) + RIDGE * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    regression = torch.linalg.solve(square, inputs_of.T / len(rows))  # (D, N)
    core = regression @ inner @ regression.T
    # The expected products of all pairs of questions are inputs @ core @ inputs.T, of which the eigenvectors are
    # wanted, weighted by the number of samples; a QR decomposition makes it a problem of size D instead of U.
    _, upper = torch.linalg.qr(inputs * counts.sqrt()[:, None])
    values, vectors = torch.linalg.eigh(upper @ core @ upper.T)
    # K groups differ in K - 1 directions. Two more, since noise may mix with the last ones.
    kept = slice(max(0, len(values) - groups - 1), None)
    values, vectors = values[kept], vectors[:, kept]
    # A negative eigenvalue is noise, and the coordinate becomes 0.
    lengths = values.where(values > 0, torch.inf).sqrt()
    return kmeans(inputs @ core @ upper.T @ vectors / lengths, counts, groups)


def whitened_products(updates: Tensor) -> Tensor:
    """Inner products (N, N) of updates (N, P) that are rotated and scaled to nearly equal variances.

    What an update depends on most is the content of the sample (which object, how many), not the question. These
    directions have the largest variance; without whitening four times as many samples are needed to see the others.
    """
    updates = F.normalize(updates, dim=1)  # a sample with a large loss must not outweigh all others
    updates = updates - updates.mean(0)
    values, vectors = torch.linalg.eigh(updates @ updates.T)
    values = values.clamp(min=0)
    # Directions of little variance are not scaled up fully: they are mostly rounding.
    scales = len(updates) * values / (values + SHRINKAGE * values.mean()).clamp(min=1e-12)
    return (vectors * scales) @ vectors.T


def kmeans(points: Tensor, counts: Tensor, clusters: int) -> Tensor:
    """Clusters points (N, P) that occur `counts` times each; the same points give the same clusters.

    The best of `RESTARTS` runs of Lloyd's algorithm, each from centroids drawn by k-means++ (Arthur and
    Vassilvitskii, 2007).

    Returns:
        Cluster of each point, 0..clusters - 1, (N,).
    """
    generator, best = torch.Generator().manual_seed(0), (float("inf"), torch.empty(0))
    for _ in range(RESTARTS):
        centroids = points[torch.multinomial(counts, 1, generator=generator)]
        while len(centroids) < clusters:
            spread = torch.cdist(points, centroids).amin(1).square() * counts
            if not bool(spread.any()):  # fewer distinct points than clusters
                break
            centroids = torch.cat([centroids, points[torch.multinomial(spread, 1, generator=generator)]])
        centroids = lloyd(points, centroids, counts=counts)
        found = nearest(points, centroids)
        inertia = float(((points - centroids[found]).square().sum(1) * counts).sum())
        best = min(best, (inertia, found), key=lambda run: run[0])
    return best[1]
