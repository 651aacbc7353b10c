"""Point operations return the indices of naive loops, in either implementation."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric import typing
from torch_geometric.data import Batch, Data
from torch_geometric.nn import pool

from octavius.encoders import point_ops
from octavius.encoders.point_ops import farthest_points, k_nearest, voxel_grid

Point = tuple[int, ...]
Cloud = list[Point]

whole_points = st.tuples(*[st.integers(-4, 4)] * 3)
clouds = st.lists(st.lists(whole_points, min_size=1, max_size=9), min_size=1, max_size=3)
queries = st.lists(st.lists(whole_points, max_size=4), min_size=3, max_size=3)
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")),
]


def joined(parts: list[Cloud], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Clouds as one tensor and their batch vector; whole numbers keep every distance exact."""
    points = torch.tensor([point for part in parts for point in part], dtype=dtype).reshape(-1, 3)
    return points, torch.tensor([i for i, part in enumerate(parts) for _ in part], dtype=torch.long)


def squared(a: Point, b: Point) -> int:
    return sum((p - q) ** 2 for p, q in zip(a, b, strict=True))


def naive_farthest(cloud: Cloud, count: int) -> list[int]:
    chosen = [0]
    while len(chosen) < count:
        room = [min(squared(point, cloud[i]) for i in chosen) for point in cloud]
        chosen.append(room.index(max(room)))
    return chosen


@given(clouds, st.data())
@settings(max_examples=40)
def test_farthest_points_equal_a_naive_loop(parts: list[Cloud], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, min(map(len, parts))))
    starts = [sum(map(len, parts[:i])) for i in range(len(parts))]
    expected = [
        start + i for start, part in zip(starts, parts, strict=True) for i in naive_farthest(part, count)
    ]
    assert farthest_points(*swapped(parts, count)).tolist() == expected


def swapped(parts: list[Cloud], count: int) -> tuple[Tensor, int, Tensor]:
    points, batch = joined(parts)
    return points, count, batch


@given(clouds, queries, st.data())
@settings(max_examples=40)
def test_nearest_points_equal_a_sorted_list(
    parts: list[Cloud], asked: list[Cloud], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, min(map(len, parts))))
    (points, batch), (wanted, wanted_batch) = joined(parts), joined(asked[: len(parts)])
    rows, found = k_nearest(points, wanted, k, batch, wanted_batch)
    assert rows.tolist() == [i for i in range(len(wanted)) for _ in range(k)]
    assert torch.equal(batch[found], wanted_batch[rows])
    for i, near in enumerate(found.reshape(len(wanted), k).tolist()):
        query, cloud = wanted[i].tolist(), parts[int(wanted_batch[i])]
        assert len(set(near)) == k
        # Of equally far points any may be named, so distances are compared.
        assert [squared(points[j].tolist(), query) for j in near] == sorted(
            squared(point, query) for point in cloud
        )[:k]


@given(clouds, st.sampled_from([0.5, 1.0, 2.5, 3.0]), st.sampled_from([None, -6.0]))
@settings(max_examples=40)
def test_cells_are_counted_as_by_hand(parts: list[Cloud], size: float, start: float | None) -> None:
    points, batch = joined(parts)
    found = voxel_grid(points, size, batch, start).tolist()
    flat = [point for part in parts for point in part]
    corner = [min(point[axis] for point in flat) if start is None else start for axis in range(3)]
    cells = [[math.floor((point[axis] - corner[axis]) / size) for axis in range(3)] for point in flat]
    nx, ny, nz = (max(cell[axis] for cell in cells) + 1 for axis in range(3))
    expected = [
        x + nx * (y + ny * (z + nz * cloud)) for (x, y, z), cloud in zip(cells, batch.tolist(), strict=True)
    ]
    assert found == expected


def test_a_grid_may_have_an_edge_and_a_corner_for_each_axis() -> None:
    points = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [2.0, 0.0, 0.9]])
    assert voxel_grid(points, [1.0, 2.0, 1.0]).tolist() == [0, 4, 2]
    assert voxel_grid(points, 1.0, start=[0.0, -1.0, 0.0]).tolist() == [3, 16, 5]


@given(clouds, st.data())
@settings(max_examples=30)
def test_a_cloud_alone_is_treated_as_in_a_batch(parts: list[Cloud], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, min(map(len, parts))))
    together = farthest_points(*swapped(parts, count)).reshape(len(parts), count)
    start = 0
    for row, part in zip(together, parts, strict=True):
        assert torch.equal(farthest_points(joined([part])[0], count), row - start)
        start += len(part)


def test_results_are_indices_into_a_batch_of_torch_geometric() -> None:
    torch.manual_seed(0)
    cloud = Batch.from_data_list([Data(pos=torch.randn(size, 3)) for size in (5, 9)])
    kept = farthest_points(cloud.pos, 4, cloud.batch)
    assert cloud.batch[kept].tolist() == [0] * 4 + [1] * 4
    assert kept.dtype == torch.long
    assert (kept[0], kept[4]) == (0, 5)
    pairs = k_nearest(cloud.pos, cloud.pos[kept], 1, cloud.batch, cloud.batch[kept])
    assert torch.equal(pairs[1], kept)  # each is its own nearest


def test_many_queries_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    points, centres = torch.randn(40, 3), torch.randn(17, 3)
    whole = k_nearest(points, centres, 3)
    monkeypatch.setattr(point_ops, "DISTANCES", 150)
    assert torch.equal(k_nearest(points, centres, 3), whole)


def test_small_distances_far_from_the_origin_are_kept() -> None:
    points = torch.tensor([[1000.0, 1000.0, 1000.0], [1000.0, 1000.0, 1000.001]])
    assert k_nearest(points, points, 1)[1].tolist() == [0, 1]


def test_no_query_gives_no_pair() -> None:
    points, none = torch.zeros(3, 3), torch.zeros(0, 3)
    assert k_nearest(points, none, 2).shape == (2, 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_every_float_type_is_taken(dtype: torch.dtype) -> None:
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [5, 0, 0], [2, 0, 0]], dtype=dtype, requires_grad=True)
    assert farthest_points(points, 3).tolist() == [0, 2, 3]
    assert k_nearest(points, points.double(), 2)[1].tolist()[:2] == [0, 1]
    assert voxel_grid(points, 2.0).tolist() == [0, 0, 2, 1]


@pytest.mark.parametrize("device", DEVICES)
def test_results_lie_where_the_points_lie(device: str) -> None:
    torch.manual_seed(0)
    points, batch = torch.randn(300, 3), torch.arange(3).repeat_interleave(100)
    far, near = points.to(device), batch.to(device)
    for here, there in [
        (farthest_points(points, 20, batch), farthest_points(far, 20, near)),
        (k_nearest(points, points, 4, batch, batch), k_nearest(far, far, 4, near, near)),
        (voxel_grid(points, 0.3, batch), voxel_grid(far, 0.3, near)),
    ]:
        assert there.device.type == device
        assert torch.equal(here, there.cpu())


def like_library_fps(x: Tensor, batch: Tensor, ratio: float, random_start: bool, batch_size: int) -> Tensor:
    """What the library's operation does: a share of each cloud, rounded up in single precision."""
    assert not random_start
    chosen = []
    for cloud in range(batch_size):
        rows = (batch == cloud).nonzero().flatten()
        count = int((torch.tensor(float(len(rows))) * ratio).ceil())
        part = [tuple(int(v) for v in x[row]) for row in rows]
        chosen += [int(rows[i]) for i in naive_farthest(part, count)]
    return torch.tensor(chosen)


@given(st.integers(1, 100_000), st.data())
@settings(max_examples=100)
def test_a_share_of_a_cloud_rounds_up_to_the_count(size: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, size))
    assert int((torch.tensor(float(size)) * ((count - 0.5) / size)).ceil()) == count


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pretends that `pyg-lib` is there; notes which of its operations are called."""
    called: list[str] = []

    def fps(*args: Tensor | float, **options: bool | int) -> Tensor:
        called.append("fps")
        return like_library_fps(*args, **options)  # type: ignore[arg-type]

    def knn(x: Tensor, y: Tensor, k: int, bx: Tensor, by: Tensor, batch_size: int) -> Tensor:
        called.append("knn")
        apart = torch.where(by[:, None] == bx, torch.cdist(y, x), math.inf)
        assert int(bx.max()) < batch_size
        return torch.stack([torch.arange(len(y)).repeat_interleave(k), apart.argsort(1)[:, :k].flatten()])

    def grid(pos: Tensor, size: Tensor, batch: Tensor, start: Tensor) -> Tensor:
        called.append("grid")
        cells = torch.cat([((pos - start) / size).long(), batch[:, None]], 1)
        steps = torch.cat([torch.ones(1), (cells.amax(0) + 1).cumprod(0)[:-1]]).long()
        return (cells * steps).sum(1)

    for flag in ("WITH_FPS", "WITH_KNN", "WITH_GRID_CLUSTER"):
        monkeypatch.setattr(typing, flag, True)
    for name, operation in {"fps": fps, "knn": knn, "voxel_grid": grid}.items():
        monkeypatch.setattr(pool, name, operation)
    return called


@pytest.mark.parametrize("sizes", [(6, 6), (5, 8, 3)])
def test_the_library_is_asked_for_the_same(
    sizes: tuple[int, ...], library: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(1)
    points = torch.randint(-50, 50, (sum(sizes), 3), generator=generator).float()
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    centres, centre_batch = points[::2] + 0.25, batch[::2]

    def results() -> list[Tensor]:
        return [
            farthest_points(points, 3, batch),
            k_nearest(points, centres, 2, batch, centre_batch),
            voxel_grid(points, 7.0, batch),
        ]

    theirs = results()
    assert set(library) == {"fps", "knn", "grid"}
    monkeypatch.undo()
    assert all(map(torch.equal, results(), theirs))


@pytest.mark.skipif(not typing.WITH_FPS, reason="pyg-lib is not installed")
def test_the_true_library_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    points, batch = torch.randn(900, 3), torch.arange(3).repeat_interleave(torch.tensor([200, 300, 400]))

    def results() -> list[Tensor]:
        return [
            farthest_points(points, 64, batch),
            k_nearest(points, points[::9], 16, batch, batch[::9]),
            voxel_grid(points, 0.2, batch),
        ]

    theirs = results()
    for flag in ("WITH_FPS", "WITH_KNN", "WITH_GRID_CLUSTER"):
        monkeypatch.setattr(typing, flag, False)
    assert all(map(torch.equal, results(), theirs))


@pytest.mark.parametrize("count", [0, 4])
def test_a_count_beyond_the_smallest_cloud_is_refused(count: int) -> None:
    points, batch = torch.rand(8, 3), torch.tensor([0] * 5 + [1] * 3)
    with pytest.raises(ValueError, match=rf"from 1 to 3.*smallest cloud \(number 1\), found {count}"):
        farthest_points(points, count, batch)
    with pytest.raises(ValueError, match=rf"from 1 to 3.*smallest cloud \(number 1\), found k = {count}"):
        k_nearest(points, points, count, batch, batch)


@pytest.mark.parametrize("operation", ["far", "near", "grid"])
@pytest.mark.parametrize(
    ("points", "batch", "words"),
    [
        (torch.zeros(0, 3), None, "cloud 0 of 1 has no points"),
        (torch.zeros(2, 3), torch.tensor([0, 2]), "cloud 1 of 3 has no points"),
        (torch.tensor([[0.0, 0], [1, math.nan]]), None, "1 of 2 points are NaN or infinite, first number 1"),
        (torch.tensor([[math.inf, 0.0]]), None, "NaN or infinite"),
        (torch.zeros(3), None, r"float tensor \(P, D\), found torch.float32 of shape \(3,\)"),
        (torch.zeros(2, 3, dtype=torch.long), None, "found torch.int64"),
        (torch.zeros(2, 0), None, r"shape \(2, 0\)"),
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.long), "a batch vector of 2 integers"),
        (torch.zeros(2, 3), torch.zeros(2), "found torch.float32"),
        (torch.zeros(2, 3), torch.tensor([1, 0]), "must ascend from 0"),
        (torch.zeros(2, 3), torch.tensor([-1, 0]), "must ascend from 0"),
    ],
)
def test_what_is_no_batch_of_clouds_is_told(
    operation: str, points: Tensor, batch: Tensor | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        {
            "far": lambda: farthest_points(points, 1, batch),
            "near": lambda: k_nearest(points, torch.zeros(1, 3), 1, batch),
            "grid": lambda: voxel_grid(points, 1.0, batch),
        }[operation]()


@pytest.mark.parametrize(
    ("asked", "batch", "words"),
    [
        (torch.zeros(1, 2), None, "points have 3 axes, but queries have 2"),
        (torch.zeros(1, 3), torch.tensor([1]), "queries of cloud 1, but points of 1 clouds"),
        (torch.full((1, 3), math.nan), None, "1 of 1 queries are NaN"),
    ],
)
def test_queries_must_fit_the_points(asked: Tensor, batch: Tensor | None, words: str) -> None:
    points = torch.zeros(4, 3)
    with pytest.raises(ValueError, match=words):
        k_nearest(points, asked, 1, None, batch)


@pytest.mark.parametrize(
    ("size", "start", "words"),
    [
        (0.0, None, "a voxel size above 0"),
        (math.nan, None, "expected one number or 3 as size"),
        ([1.0, 1.0], None, "expected one number or 3 as size"),
        (1.0, [0.0, 0.0], "expected one number or 3 as start"),
        (1.0, 0.5, r"starts at 0.5 misses the points down to \[0.0, 0.0, 0.0\]"),
        (1e-9, None, "too large to be numbered"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(
    size: float | list[float], start: float | list[float] | None, words: str
) -> None:
    points = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match=words):
        voxel_grid(points, size, None, start)


def test_a_span_beyond_all_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="too large to be numbered"):
        voxel_grid(torch.tensor([[-3e38, 0.0, 0.0], [3e38, 0.0, 0.0]]), 1.0)


@given(clouds)
@settings(max_examples=30)
def test_each_point_is_in_the_cell_of_its_neighbours_only(parts: list[Cloud]) -> None:
    points, batch = joined(parts)
    assume(len(points) > 1)
    found = voxel_grid(points, 0.25, batch)
    same = found[:, None] == found
    twins = (batch[:, None] == batch) & (torch.cdist(points, points) == 0)
    assert torch.equal(same, twins)
