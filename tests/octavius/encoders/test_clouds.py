"""Sizes of clouds in a batch against a count, and what is refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from octavius.encoders.clouds import cloud_sizes, query_sizes


def batch_of(sizes: list[int]) -> Tensor:
    return torch.tensor([cloud for cloud, size in enumerate(sizes) for _ in range(size)], dtype=torch.long)


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    asked=st.lists(st.integers(0, 3), max_size=4),
)
def test_sizes_are_counted(sizes: list[int], asked: list[int]) -> None:
    points, queries = torch.rand(sum(sizes), 3), torch.rand(sum(asked), 3)
    assert cloud_sizes(points, batch_of(sizes)) == cloud_sizes(points, batch_of(sizes), len(sizes)) == sizes
    assert cloud_sizes(points, None) == [sum(sizes)]
    asked = (asked + [0] * 4)[: len(sizes)]
    queries = torch.rand(sum(asked), 3)
    assert query_sizes(points, queries, batch_of(asked), len(sizes)) == asked


@pytest.mark.parametrize(
    ("points", "batch", "count", "message"),
    [
        (torch.rand(2, 3), torch.tensor([0, 2]), None, "cloud 1 of 3 has no points"),
        (torch.rand(2, 3), torch.tensor([0, 1]), 1, "expected 1 clouds, found points of cloud 1"),
        (torch.rand(2, 3), torch.tensor([0, 0]), 2, "cloud 1 of 2 has no points"),
        (torch.rand(2, 3), torch.tensor([1, 0]), None, "must ascend from 0"),
        (torch.rand(2, 3), torch.tensor([0.0, 0.0]), None, "expected a batch vector of 2 integers"),
        (torch.rand(2, 3), torch.tensor([0]), None, "for 2 points, found"),
        (torch.ones(2, 3, dtype=torch.long), None, None, "as a float tensor"),
        (torch.tensor([[0.0, 0, 0], [0, torch.inf, 0]]), None, None, "1 of 2 points are NaN or infinite"),
        (torch.rand(0, 3), None, None, "cloud 0 of 1 has no points"),
    ],
)
def test_malformed_batches_are_refused(
    points: Tensor, batch: Tensor | None, count: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cloud_sizes(points, batch, count)


def test_queries_have_the_axes_and_clouds_of_the_points() -> None:
    with pytest.raises(ValueError, match="points have 3 axes, but queries have 2"):
        query_sizes(torch.rand(2, 3), torch.rand(1, 2), None, 1)
    with pytest.raises(ValueError, match="queries of cloud 1, but points of 1 clouds only"):
        query_sizes(torch.rand(2, 3), torch.rand(2, 3), torch.tensor([0, 1]), 1)
