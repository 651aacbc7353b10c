"""Deterministic k-means against a plain implementation of Lloyd's algorithm, and the cluster gate."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavius.lora_moe.gates.base import GateSize
from octavius.lora_moe.gates.cluster import ClusterGate, centroids_of


def slow_k_means(points: list[list[float]], clusters: int) -> list[list[float]]:
    """Lloyd's algorithm with lists and loops."""

    def distance(a: list[float], b: list[float]) -> float:
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))

    def mean(rows: list[list[float]]) -> list[float]:
        return [sum(column) / len(rows) for column in zip(*rows, strict=True)]

    middle = mean(points)
    centroids = [min(points, key=lambda point: distance(point, middle))]
    while len(centroids) < clusters:
        centroids.append(max(points, key=lambda point: min(distance(point, c) for c in centroids)))
    for _ in range(100):
        groups: list[list[list[float]]] = [[] for _ in centroids]
        for point in points:
            groups[min(range(clusters), key=lambda c: distance(point, centroids[c]))].append(point)
        new = [mean(group) if group else old for group, old in zip(groups, centroids, strict=True)]
        if new == centroids:
            break
        centroids = new
    return centroids


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999), count=st.integers(3, 30), clusters=st.integers(1, 3))
def test_centroids_equal_lloyds(seed: int, count: int, clusters: int) -> None:
    torch.manual_seed(seed)
    points = torch.randn(count, 3, dtype=torch.float64)
    expected = torch.tensor(slow_k_means(points.tolist(), clusters), dtype=torch.float64)
    found = centroids_of(points, clusters)
    torch.testing.assert_close(found, expected)
    assert torch.equal(found, centroids_of(points, clusters))


def blobs() -> torch.Tensor:
    """Twenty questions around each of three directions, of unit scale."""
    torch.manual_seed(0)
    middles = torch.eye(3, 8) * 3
    points = (middles[:, None] + 0.1 * torch.randn(3, 20, 8)).flatten(0, 1)
    return torch.nn.functional.rms_norm(points, (8,))


def test_near_questions_share_their_experts() -> None:
    gate = ClusterGate(GateSize(8, 4), top_k=2, clusters=3)
    points = blobs()
    gate.fit(points)
    embeddings, mask = points[:, None], torch.ones(60, 1)
    clusters = gate.cluster_of(embeddings, mask).view(3, 20)
    assert (clusters == clusters[:, :1]).all()
    assert clusters[:, 0].unique().numel() == 3
    weights = gate(embeddings, mask)
    for row, cluster in zip(weights, clusters.flatten(), strict=True):
        kept = gate.weight[:, cluster].topk(2)
        expected = torch.zeros(4).index_put((kept.indices,), kept.values.softmax(0))
        torch.testing.assert_close(row, expected)
    weights[:, 0].sum().backward()
    assert gate.weight.grad is not None


def test_what_is_not_fitted_or_cannot_be_is_told() -> None:
    gate = ClusterGate(GateSize(8, 4), top_k=2, clusters=3)
    with pytest.raises(ValueError, match="has no clusters: they are fitted to the training questions"):
        gate(torch.randn(2, 3, 8), torch.ones(2, 3))
    with pytest.raises(ValueError, match="3 clusters cannot be fitted to 2 different questions"):
        gate.fit(torch.eye(2, 8)[[0, 1, 0, 1]])
    with pytest.raises(ValueError, match=r"clusters should be a whole number of at least 1 .*, found 0"):
        ClusterGate(GateSize(8, 4), top_k=2, clusters=0)


def test_clusters_travel_with_the_state() -> None:
    gate, other = (
        ClusterGate(GateSize(8, 4), top_k=2, clusters=3),
        ClusterGate(GateSize(8, 4), top_k=2, clusters=3),
    )
    gate.fit(blobs())
    other.load_state_dict(gate.state_dict())
    questions, mask = torch.randn(5, 2, 8), torch.ones(5, 2)
    assert torch.equal(other(questions, mask), gate(questions, mask))
