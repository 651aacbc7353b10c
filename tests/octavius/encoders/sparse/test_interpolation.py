"""Interpolation on voxels equals that of PyTorch on a dense grid."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from octavius.encoders.sparse.interpolation import trilinear
from octavius.encoders.sparse.keys import LIMIT
from octavius.encoders.sparse.tensor import SparseTensor, prune
from tests.octavius.encoders.sparse.dense import LOW, SIDE, Site, sites, sparse, strides, volume

Query = tuple[int, tuple[float, ...]]

eighths = st.integers(-8, 8).map(lambda eighth: eighth / 8)
queries = st.lists(st.tuples(st.integers(0, 24), st.tuples(*[eighths] * 3)), min_size=5, max_size=20)


def asked(rows: list[Site], points: list[Query], stride: int) -> tuple[Tensor, Tensor]:
    """Positions near to voxels, in finest voxels, and their batch vector."""
    near = torch.tensor([rows[place % len(rows)] for place, _ in points])
    steps = torch.tensor([step for _, step in points], dtype=torch.float64)
    return (near[:, 1:] + steps) * stride, near[:, 0]


@given(sites, strides, queries)
@settings(max_examples=40)
def test_trilinear_equals_a_dense_grid_with_zeros(rows: list[Site], stride: int, points: list[Query]) -> None:
    tensor = sparse(rows, 2, stride)
    positions, batch = asked(rows, points, stride)
    found = trilinear(tensor, positions, batch)
    spread = 2 * (positions / stride - LOW) / (SIDE - 1) - 1  # -1 and 1 are the outer lattice points
    grid = spread.flip(1).reshape(1, 1, 1, -1, 3).expand(2, -1, -1, -1, -1)  # z, y, x
    dense = F.grid_sample(volume(tensor), grid, mode="bilinear", align_corners=True)[:, :, 0, 0]
    expected = dense[batch, :, torch.arange(len(batch))]
    assert torch.allclose(found, expected, atol=1e-12)


def test_a_lattice_point_has_its_own_value_and_missing_neighbours_lower_the_rest() -> None:
    tensor = sparse([(0, 0, 0, 0)], 1, 4)
    tensor = tensor.with_features(torch.tensor([[8.0]]))
    positions = torch.tensor([[0, 0, 0], [2, 0, 0], [2, 2, 2], [-2, 0, 0], [4, 0, 0]])
    found = trilinear(tensor, positions, torch.zeros(5, dtype=torch.long))
    assert found.flatten().tolist() == [8.0, 4.0, 1.0, 4.0, 0.0]
    other = trilinear(tensor, positions, torch.ones(5, dtype=torch.long))
    assert not other.any()


def test_gradients_of_interpolation() -> None:
    tensor = sparse([(0, 0, 0, 0), (0, 1, 0, 0), (0, 1, 1, 1), (1, 0, 0, 0)], 2, 2)
    batch = torch.tensor([0, 0, 1])
    positions = torch.tensor([[0.3, 1.2, 0.7], [3.1, 1.9, 2.6], [-0.4, 0.2, 1.1]]).double()

    def between(features: Tensor, where: Tensor) -> Tensor:
        return trilinear(tensor.with_features(features), where, batch)

    inputs = tensor.features.requires_grad_(), positions.requires_grad_()
    assert torch.autograd.gradcheck(between, inputs)


def test_nothing_is_interpolated_as_zero() -> None:
    empty: SparseTensor = prune(sparse([(0, 0, 0, 0)], 2), torch.tensor([False]))
    where, batch = torch.zeros(3, 3), torch.zeros(3, dtype=torch.long)
    assert torch.equal(trilinear(empty, where, batch), torch.zeros(3, 2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("positions", "batch", "words"),
    [
        (torch.zeros(2, 4), torch.zeros(2, dtype=torch.long), r"positions \(M, 3\).*found \(2, 4\)"),
        (torch.zeros(2, 3), torch.zeros(1, dtype=torch.long), r"found \(2, 3\) and \(1,\)"),
        (torch.full((1, 3), math.nan), torch.zeros(1, dtype=torch.long), "of the origin, found"),
        (torch.full((1, 3), 4.0 * LIMIT), torch.zeros(1, dtype=torch.long), "of the origin, found"),
        (torch.zeros(2, 3), torch.tensor([0, 2]), "clouds 0 to 1, found some in clouds 0 to 2"),
    ],
)
def test_positions_that_cannot_be_are_refused(positions: Tensor, batch: Tensor, words: str) -> None:
    tensor = sparse([(0, 0, 0, 0)], 2)
    with pytest.raises(ValueError, match=words):
        trilinear(tensor, positions, batch)
