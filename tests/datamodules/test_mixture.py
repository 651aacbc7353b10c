"""The plan of batches: ranks take slices, nothing repeats early, shares are exact, resuming is a suffix."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from datamodules.mixture import STEPS_TO_GROUP, Draw, MixtureSampler

SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=4)
SEEDS = st.integers(0, 10_000)


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[list[int], list[float]]:
    sizes = draw(SIZES)
    weights = draw(st.lists(st.sampled_from([0.25, 1.0, 2.0, 3.5]), min_size=len(sizes), max_size=len(sizes)))
    return sizes, weights


@given(mixtures(), st.integers(1, 4), st.integers(1, 4), st.integers(0, 70), SEEDS, st.integers(0, 5))
def test_slices_of_all_ranks_make_the_plan(
    mixture: tuple[list[int], list[float]], batch: int, world: int, rest: int, seed: int, epoch: int
) -> None:
    length = batch * world + rest
    ranks = [MixtureSampler(*mixture, length, batch, seed, rank, world) for rank in range(world)]
    alone = MixtureSampler(*mixture, length, batch * world, seed)
    for sampler in (*ranks, alone):
        sampler.set_epoch(epoch)
    slices, whole = [list(sampler) for sampler in ranks], list(alone)
    assert whole == ranks[0].plan(epoch)
    assert len(whole) == len(alone) == length // (batch * world) * batch * world
    for rank, part in enumerate(slices):
        assert len(part) == len(ranks[rank]) == len(whole) // world
    steps = [
        [draw for part in slices for draw in part[step * batch : (step + 1) * batch]]
        for step in range(ranks[0].steps)
    ]
    assert [draw for step in steps for draw in step] == whole


@given(mixtures(), st.integers(1, 80), SEEDS)
def test_no_sample_returns_before_all_have_been_drawn(
    mixture: tuple[list[int], list[float]], length: int, seed: int
) -> None:
    sizes, _ = mixture
    sampler = MixtureSampler(*mixture, length, 1, seed)
    drawn: list[list[int]] = [[] for _ in sizes]
    for epoch in range(5):
        for draw in sampler.plan(epoch):
            assert draw.epoch == epoch
            drawn[draw.source].append(draw.sample_index)
    for size, indices in zip(sizes, drawn, strict=True):
        for start in range(0, len(indices), size):
            cycle = indices[start : start + size]
            assert len(set(cycle)) == len(cycle)
            assert set(cycle) <= set(range(size))


@given(mixtures(), st.integers(1, 200), SEEDS)
def test_shares_are_exact(mixture: tuple[list[int], list[float]], length: int, seed: int) -> None:
    sizes, weights = mixture
    sampler = MixtureSampler(sizes, weights, length, 1, seed)
    counts = [Counter(draw.source for draw in sampler.plan(epoch)) for epoch in range(2)]
    assert counts[0] == counts[1]
    assert sum(counts[0].values()) == length
    for source, weight in enumerate(weights):
        exact = Fraction(weight) / sum(map(Fraction, weights)) * length
        assert abs(counts[0][source] - exact) < 1
        if exact.denominator == 1:
            assert counts[0][source] == exact


@given(mixtures(), st.integers(1, 3), st.integers(1, 2), st.integers(0, 60), SEEDS, st.data())
def test_resuming_gives_the_rest(
    mixture: tuple[list[int], list[float]], batch: int, world: int, rest: int, seed: int, data: st.DataObject
) -> None:
    length = batch * world + rest
    whole, resumed = (MixtureSampler(*mixture, length, batch, seed, world - 1, world) for _ in range(2))
    epoch, step = data.draw(st.integers(0, 3)), data.draw(st.integers(0, whole.steps))
    whole.set_epoch(epoch)
    resumed.resume(epoch, step)
    resumed.set_epoch(epoch)
    assert list(resumed) == list(whole)[step * batch :]
    for sampler in (whole, resumed):
        sampler.set_epoch(epoch + 1)
    assert list(resumed) == list(whole)


@given(SEEDS)
def test_epochs_and_seeds_differ(seed: int) -> None:
    sampler = MixtureSampler([40, 40], [1, 1], 40, 4, seed)
    other = MixtureSampler([40, 40], [1, 1], 40, 4, seed + 1)
    plans = [[draw[:2] for draw in plan] for plan in (sampler.plan(0), sampler.plan(1), other.plan(0))]
    assert plans[0] != plans[1]
    assert plans[0] != plans[2]
    assert sampler.plan(0) == MixtureSampler([40, 40], [1, 1], 40, 4, seed).plan(0)


def test_an_iterator_follows_the_epoch() -> None:
    sampler = MixtureSampler([7], [1.0], 6, 2, 0)
    assert list(sampler) == list(sampler) == sampler.plan(0)
    sampler.set_epoch(3)
    assert list(sampler) == sampler.plan(3)
    assert all(isinstance(draw, Draw) and draw.epoch == 3 for draw in sampler)


@given(st.integers(1, 10), st.integers(1, 10), st.integers(0, 99))
def test_less_than_a_batch_is_refused(batch: int, world: int, length: int) -> None:
    assume(length < batch * world)
    with pytest.raises(
        ValueError, match=r"does not fill one batch.*lower batch_size or raise samples_per_epoch"
    ):
        MixtureSampler([5], [1.0], length, batch, 0, 0, world)


@pytest.mark.parametrize(("sizes", "weights"), [([3, 0], [1, 1]), ([3, 3], [1, 0]), ([3, 3], [1, -1])])
def test_empty_sets_and_weights_are_refused(sizes: list[int], weights: list[float]) -> None:
    with pytest.raises(
        ValueError, match=r"training set 1 has \d samples and weight -?\d; both must be positive"
    ):
        MixtureSampler(sizes, weights, 4, 1, 0)


def lengths_by_place(draw: Draw) -> int:
    return 10 + draw.sample_index * 7 % 50


def grouped(rank: int = 0, world: int = 1, batch_size: int = 4) -> MixtureSampler:
    return MixtureSampler([300, 60], [2, 1], 300, batch_size, 3, rank, world, None, lengths_by_place)


def test_grouping_deals_out_the_same_instances_by_length() -> None:
    sampler = grouped()
    plan, found = sampler.plan(0), list(sampler)
    stretch = STEPS_TO_GROUP * 4
    assert len(plan) > 2 * stretch
    assert found != plan
    for start in range(0, len(plan), stretch):
        assert sorted(found[start : start + stretch]) == sorted(plan[start : start + stretch])

    def spread(draws: list[Draw]) -> int:
        steps = [draws[first : first + 4] for first in range(0, len(draws), 4)]
        return sum(max(map(lengths_by_place, step)) - min(map(lengths_by_place, step)) for step in steps)

    assert spread(found) < spread(plan) / 5
    firsts = [lengths_by_place(draw) for draw in found[:stretch:4]]
    assert firsts != sorted(firsts), "the order of the steps tells nothing of their lengths"


def test_grouped_ranks_share_the_plan_of_one() -> None:
    alone = list(grouped(batch_size=4))
    ranks = [list(grouped(rank, 2, batch_size=2)) for rank in range(2)]
    woven = [
        draw for step in range(len(alone) // 4) for rank in ranks for draw in rank[2 * step : 2 * step + 2]
    ]
    assert woven == alone


def test_a_grouped_run_goes_on_where_it_was() -> None:
    whole = list(grouped())
    for step in (1, STEPS_TO_GROUP - 1, STEPS_TO_GROUP, STEPS_TO_GROUP + 5):
        rest = grouped()
        rest.resume(0, step)
        assert list(rest) == whole[4 * step :]
    other = grouped()
    other.set_epoch(1)
    assert list(other) != whole
