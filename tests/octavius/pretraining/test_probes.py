"""Linear probes find what is linearly decodable in synthetic tokens, and nothing else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from octavius import boxes
from octavius.pretraining.probes import ABSENT, accuracy, paired_iou, probe_scores, retrieval, ridge

fractions = st.floats(0, 1, width=32)


def test_ridge_without_penalty_is_least_squares() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(50, 6).double(), torch.randn(50, 3).double()
    with_bias = torch.cat([x, torch.ones(50, 1)], 1)
    expected = with_bias @ torch.linalg.lstsq(with_bias, y).solution
    torch.testing.assert_close(ridge(x, y, 0.0)(x), expected)


def test_ridge_does_not_care_for_the_scale_of_the_features() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(20, 30), torch.randn(20, 2)
    torch.testing.assert_close(ridge(x, y)(x), ridge(x * 100, y)(x * 100))


@given(st.lists(fractions, min_size=4, max_size=4), st.lists(fractions, min_size=4, max_size=4))
def test_paired_overlap_equals_the_overlap_of_two_boxes(first: list[float], second: list[float]) -> None:
    first, second = (
        [min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])] for b in (first, second)
    )
    found = paired_iou(torch.tensor([first]).double(), torch.tensor([second]).double())
    assert found.item() == pytest.approx(boxes.iou(tuple(first), tuple(second)), abs=1e-6)


def test_an_empty_or_reversed_box_overlaps_nothing() -> None:
    right, reversed_box = torch.tensor([[0.1, 0.1, 0.5, 0.5]]), torch.tensor([[0.5, 0.5, 0.1, 0.1]])
    assert paired_iou(reversed_box, right).item() == 0


def test_accuracy_asks_labelled_rows_only() -> None:
    scores = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert accuracy(lambda rows: rows, scores, torch.tensor([0, 1, ABSENT])) == 0.5


def patches(count: int, tell: bool) -> dict[str, Tensor]:
    """Patches of things and faces whose tokens tell all, or are noise."""
    face, foreground = torch.rand(count) < 0.3, torch.rand(count) < 0.7
    thing, face = foreground & ~face, foreground & face
    low = torch.rand(count, 2) * 0.5
    found = {
        "foreground": foreground,
        "boxes": torch.cat([low, low + 0.2 + torch.rand(count, 2) * 0.3], 1),
        "class": torch.where(thing, torch.randint(0, 3, (count,)), torch.where(face, 3, 4)),
        "colour": torch.where(thing, torch.randint(0, 5, (count,)), ABSENT),
        "hair": torch.where(face, torch.randint(0, 4, (count,)), ABSENT),
        "smile": torch.where(face, torch.randint(0, 2, (count,)), ABSENT),
    }
    known = [
        torch.nn.functional.one_hot(found[name].clamp_min(0), 5)
        for name in ("class", "colour", "hair", "smile")
    ]
    told = torch.cat([*known, found["boxes"], foreground[:, None]], 1).float()
    mix = torch.randn(told.shape[1], 40, generator=torch.Generator().manual_seed(1))
    found["tokens"] = told @ mix if tell else torch.randn(count, 40)
    return found


def test_probes_find_what_is_linearly_there_and_nothing_in_noise() -> None:
    torch.manual_seed(0)
    told = probe_scores(patches(2000, True), {"": patches(500, True), "/other": patches(500, True)})
    assert set(told) >= {"patch_class", "patch_class/other", "patch_box50", "face_smile/other", "foreground"}
    assert all(value > 0.99 for value in told.values())
    noise = probe_scores(patches(2000, False), {"": patches(500, False)})
    chance = {"patch_class": 1 / 3, "patch_colour": 0.2, "face_hair": 0.25, "face_smile": 0.5}
    assert all(noise[name] < value + 0.15 for name, value in chance.items())


def test_retrieval_counts_pictures_that_find_their_caption() -> None:
    texts = torch.eye(4)
    images = texts[[0, 1, 3, 2]] * 5
    assert retrieval(images, texts) == 0.5
