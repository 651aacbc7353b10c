"""A gate that routes by k-means clusters of the training questions (MoCLE)."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from octavius.limits import SIZE_RANGE
from octavius.lora_moe.gates.base import Gate, GateInputs, GateOutput, GateSize, TopKRouter
from octavius.lora_moe.gates.question import pooled


class ClusterGate(Gate):
    """Routes by the cluster of the question, as MoCLE (Gou et al., 2023): similar questions share their experts.

    A question is represented by its mean word embedding at unit RMS, as in the instance gate, and assigned to the
    nearest of K centroids. Each cluster has learned logits over the experts, followed by top-k selection. The
    centroids are fitted once, before training, and saved with the model.

    Args:
        size: sizes of the model that the gate is for.
        top_k: number of experts that a sample uses, 1..E; None uses all.
        clusters: number K of clusters.
        per_layer: whether each layer of the language model gets a routing decision of its own.
        universal: whether the last expert is always on, with the weight that the others leave to 1 (MoCLE).
        temperature: divisor of the logits.
    """

    fitted_buffers: ClassVar[tuple[str, ...]] = ("centroids", "fitted")

    def __init__(
        self,
        size: GateSize,
        /,
        *,
        top_k: int | None = 2,
        clusters: int = 16,
        per_layer: bool = False,
        universal: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(size, per_layer=per_layer)
        SIZE_RANGE.check(clusters=clusters)
        self.router = TopKRouter(top_k, universal, temperature)
        self.routed = [self.router.routed(count) for count in self.counts]
        self.top_k, self.clusters = top_k, clusters
        self.weight = nn.Parameter(torch.empty(sum(self.routed), clusters))
        self.register_buffer("centroids", torch.zeros(clusters, self.width))
        self.register_buffer("fitted", torch.tensor(False))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws logits with a standard deviation of 1, that of a new instance gate."""
        nn.init.normal_(self.weight)

    def fit_questions(
        self,
        questions: Sequence[str],
        sources: Sequence[int],  # noqa: ARG002
        pool: Callable[[Sequence[str]], Tensor],
    ) -> str:
        """Fits the clusters to the questions of all sources together."""
        self.fit(pool(questions))
        return f"the gate has {self.clusters} clusters of {len(questions)} questions"

    @torch.no_grad()
    def fit(self, questions: Tensor) -> None:
        """Fits the centroids; the same questions give the same centroids, bit for bit.

        Args:
            questions: mean embeddings of N questions from `pooled`, (N, D).

        Raises:
            ValueError: there are fewer distinct questions than clusters.
        """
        # In fp64 on the CPU: every process, on any device, must come to the same centroids.
        self.get_buffer("centroids").copy_(centroids_of(questions.double().cpu(), self.clusters))
        self.get_buffer("fitted").fill_(True)

    def cluster_of(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Index of the cluster of each question, (B,).

        Args:
            embeddings: word embeddings of the questions, (B, Q, D).
            mask: true (or 1) at real question tokens, (B, Q).

        Raises:
            ValueError: the clusters are not fitted.
        """
        if not bool(self.get_buffer("fitted")):
            raise ValueError(
                "the cluster gate has no clusters: they are fitted to the training questions when training begins; "
                "train it, load a checkpoint of it, or call `fit`"
            )
        return nearest(pooled(embeddings, mask, self.width), self.get_buffer("centroids").float())

    @property
    def max_active(self) -> int | None:
        """See `TopKRouter`."""
        return self.router.max_active

    def choices(self, asked: GateInputs) -> list[GateOutput]:
        """Routes by the question alone."""
        # Distances and logits in fp32, whatever the precision of training.
        with torch.autocast(asked.embeddings.device.type, enabled=False):
            logits = self.weight.float().T[self.cluster_of(asked.embeddings, asked.mask)]
            return [self.router.choose(part) for part in logits.split(self.routed, dim=-1)]

    def extra_repr(self) -> str:
        """Settings shown when the model is printed."""
        return f"width={self.width}, clusters={self.clusters}, experts={self.experts}, {self.router}"


def centroids_of(points: Tensor, clusters: int, rounds: int = 100) -> Tensor:
    """Centroids (K, D) of points (N, D) by Lloyd's k-means, deterministically.

    The first centroid is the point nearest to the mean, each further one the point farthest from those before it.
    Lloyd's iterations run until the assignment no longer changes, at most `rounds` times. Duplicate points count.

    Raises:
        ValueError: there are fewer distinct points than clusters.
    """
    different = len(points.unique(dim=0))
    if different < clusters:
        raise ValueError(
            f"{clusters} clusters cannot be fitted to {different} different questions; ask for fewer clusters, or "
            "train on more questions"
        )
    first = (points - points.mean(0)).square().sum(1).argmin()
    centroids = points[first][None]
    while len(centroids) < clusters:
        farthest = torch.cdist(points, centroids).min(1).values.argmax()
        centroids = torch.cat([centroids, points[farthest][None]])
    return lloyd(points, centroids, rounds)


def lloyd(points: Tensor, centroids: Tensor, rounds: int = 100, counts: Tensor | None = None) -> Tensor:
    """Lloyd's algorithm: moves centroids to the means of their points until no assignment changes.

    Args:
        points: (N, D).
        centroids: the initial centroids, (K, D). One that has lost all its points stays where it is.
        rounds: upper bound on the number of iterations.
        counts: how often each point counts, (N,); once by default.

    Returns:
        The final centroids, (K, D).
    """
    counts = points.new_ones(len(points)) if counts is None else counts
    assignment = nearest(points, centroids)
    for _ in range(rounds):
        sums = torch.zeros_like(centroids).index_add(0, assignment, points * counts[:, None])
        totals = counts.new_zeros(len(centroids)).index_add(0, assignment, counts)[:, None]
        centroids = torch.where(totals > 0, sums / totals.clamp(min=1), centroids)
        before, assignment = assignment, nearest(points, centroids)
        if torch.equal(before, assignment):
            break
    return centroids


def nearest(points: Tensor, centroids: Tensor) -> Tensor:
    """Index of the nearest centroid of each point, (N,); the first of equally near ones."""
    # By default cdist uses a matrix product for larger inputs: less exact, and dependent on the batch size.
    return torch.cdist(points, centroids, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
