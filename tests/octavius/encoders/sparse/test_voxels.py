"""Coarser and finer voxels and neighbours equal those of sets and loops."""

import gc
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavius.encoders.sparse.keys import kernel_offsets, pack
from octavius.encoders.sparse.voxels import Voxels
from tests.octavius.encoders.sparse.dense import CLOUDS, Site, sites, sparse, strides


def listed(voxels: Voxels) -> list[Site]:
    return [tuple(row) for row in voxels.coords.tolist()]


def pairs_of(voxels: Voxels, kernel_size: int, factor: int) -> set[tuple[int, Site, Site]]:
    """Who meets whom, as (offset, source, target), of a kernel map."""
    found = voxels.kernel_map(kernel_size, factor)
    offsets = torch.arange(len(found.counts)).repeat_interleave(torch.tensor(found.counts))
    assert found.size == len(voxels.coarser(factor))
    assert len(found.sources) == len(found.targets) == len(offsets)
    here, there = listed(voxels), listed(voxels.coarser(factor))
    rows = zip(offsets.tolist(), found.sources.tolist(), found.targets.tolist(), strict=True)
    return {(offset, here[source], there[target]) for offset, source, target in rows}


@given(sites, strides, st.sampled_from([1, 2, 3]))
@settings(max_examples=40)
def test_coarser_voxels_are_those_that_hold_one(rows: list[Site], stride: int, factor: int) -> None:
    voxels = sparse(rows, 1, stride).voxels
    coarse = voxels.coarser(factor)
    wide = stride * factor
    assert listed(coarse) == sorted({(b, *(v * stride // wide * wide for v in row)) for b, *row in rows})
    assert coarse.stride == wide
    assert coarse is voxels.coarser(factor)


@given(sites, strides, st.sampled_from([(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2), (5, 1)]))
@settings(max_examples=40)
def test_neighbours_are_those_of_a_loop(rows: list[Site], stride: int, sizes: tuple[int, int]) -> None:
    voxels = sparse(rows, 1, stride).voxels
    here = set(listed(voxels))
    expected = set()
    for b, *centre in listed(voxels.coarser(sizes[1])):
        for k, offset in enumerate(kernel_offsets(sizes[0], stride)):
            source = (b, *(c + o for c, o in zip(centre, offset, strict=True)))
            if source in here:
                expected.add((k, source, (b, *centre)))
    assert pairs_of(voxels, *sizes) == expected
    assert voxels.kernel_map(*sizes) is voxels.kernel_map(*sizes)


@given(sites, st.sampled_from([(2, 2), (3, 2), (1, 2), (4, 4), (2, 1)]))
@settings(max_examples=40)
def test_finer_voxels_lie_at_all_offsets(rows: list[Site], sizes: tuple[int, int]) -> None:
    kernel_size, factor = sizes
    voxels = sparse(rows, 1, 4).voxels
    fine, pairs = voxels.finer(kernel_size, factor)
    offsets = kernel_offsets(kernel_size, 4 // factor)
    expected = [
        [(b, *(c + o for c, o in zip(corner, offset, strict=True))) for b, *corner in listed(voxels)]
        for offset in offsets
    ]
    assert fine.stride == 4 // factor
    assert listed(fine) == sorted({site for line in expected for site in line})
    assert pairs.counts == (len(voxels),) * len(offsets)
    assert pairs.sources.tolist() == list(range(len(voxels))) * len(offsets)
    assert [listed(fine)[row] for row in pairs.targets.tolist()] == [s for line in expected for s in line]


@given(sites, st.sampled_from([(3, 1), (3, 2), (2, 2), (5, 1)]))
@settings(max_examples=20)
def test_at_one_offset_rows_ascend_on_either_side(rows: list[Site], sizes: tuple[int, int]) -> None:
    voxels = sparse(rows, 1, 2).voxels
    for pairs in (voxels.kernel_map(*sizes), voxels.finer(sizes[0], 2)[1]):
        for side in (pairs.sources, pairs.targets):
            assert all(bool((part.diff() > 0).all()) for part in side.split(pairs.counts))


def test_voxels_are_counted_cloud_by_cloud() -> None:
    voxels = sparse([(1, 0, 0, 0), (1, 2, 0, 0)], 1).voxels
    assert voxels.counts == [0, 2]
    assert voxels.batch.tolist() == [1, 1]
    assert voxels.batch_size == CLOUDS


def test_what_is_known_goes_with_the_voxels() -> None:
    gc.disable()  # a circle of references would keep them until a collection
    try:
        voxels = Voxels(pack(torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0]])), 1, 1)
        voxels.kernel_map(3, 1), voxels.kernel_map(2, 2)
        watched = weakref.ref(voxels), weakref.ref(voxels.coarser(2).finer(2, 2)[0])
        del voxels
        assert [reference() for reference in watched] == [None, None]
    finally:
        gc.enable()


def test_strides_that_do_not_divide_are_refused() -> None:
    voxels = sparse([(0, 0, 0, 0)], 1, 2).voxels
    with pytest.raises(ValueError, match="voxels of stride 2 cannot be made finer by a factor of 4"):
        voxels.finer(2, 4)
    with pytest.raises(ValueError, match="a stride of 1 or more, found 0"):
        voxels.coarser(0)
