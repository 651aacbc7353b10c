"""Groups contradict each other if similar inputs want different changes, not if their inputs or changes differ."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from octavius.lora_moe.conflict import (
    CONTRADICTORY,
    RIDGES,
    conflict,
    errors,
    kernel_and_changes,
    merge_compatible,
    overlap,
)
from octavius.lora_moe.gates.base import Sketches

LAYERS, WIDTH = 2, 8


def drawn(*groups: tuple[int, float], each: int = 120, noise: float = 0.3) -> tuple[Tensor, Sketches]:
    """Samples of groups, each with the map from inputs to changes that it uses and an offset of its inputs."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(len(groups), LAYERS, WIDTH, WIDTH, generator=generator)
    direction = F.normalize(torch.randn(LAYERS, WIDTH, generator=generator), dim=1)
    inputs = torch.randn(len(groups), each, LAYERS, WIDTH, generator=generator)
    inputs += torch.tensor([offset for _, offset in groups])[:, None, None, None] * direction
    changes = torch.einsum("glij,gnlj->gnli", maps[[index for index, _ in groups]], inputs)
    updates = changes[..., None] * inputs[..., None, :]
    updates += noise * updates.std() * torch.randn(updates.shape, generator=generator)
    labels = torch.arange(len(groups)).repeat_interleave(each)
    return labels, Sketches(updates.flatten(0, 1), inputs.flatten(0, 1))


def measured(labels: Tensor, sketches: Sketches) -> float:
    one, other = ((labels == group).nonzero().flatten() for group in (0, 1))
    return conflict(one, other, *kernel_and_changes(sketches), torch.arange(len(labels)) % 4)


def test_similar_inputs_that_want_different_changes_are_a_conflict() -> None:
    assert measured(*drawn((0, 0.0), (1, 0.0))) > CONTRADICTORY


def test_the_same_map_is_no_conflict_also_at_different_inputs() -> None:
    assert measured(*drawn((0, 0.0), (0, 0.0))) < 0
    assert measured(*drawn((0, 0.0), (0, 1.0))) < 0


def test_different_changes_at_different_inputs_are_no_conflict() -> None:
    assert measured(*drawn((0, 0.0), (1, 20.0))) < CONTRADICTORY


def test_changes_of_different_outputs_are_no_conflict() -> None:
    labels, sketches = drawn((0, 0.0), (1, 0.0))
    updates = sketches.updates.clone()
    updates[labels == 0, :, : WIDTH // 2] = 0
    updates[labels == 1, :, WIDTH // 2 :] = 0
    _, changes = kernel_and_changes(Sketches(updates, sketches.inputs))
    assert overlap(changes[labels == 0], changes[labels == 1]) == pytest.approx(0, abs=1e-9)
    assert measured(labels, Sketches(updates, sketches.inputs)) == 0


def test_the_overlap_of_one_distribution_is_about_1() -> None:
    _, changes = kernel_and_changes(drawn((0, 0.0), (0, 0.0))[1])
    assert overlap(changes[:120], changes[120:]) == pytest.approx(1, abs=0.2)
    moments = [part.T @ part / len(part) for part in (changes[:120], changes[120:])]
    halves = [
        float((part[::2].T @ part[::2] * (part[1::2].T @ part[1::2])).sum() / 3600)
        for part in (changes[:120], changes[120:])
    ]
    expected = float((moments[0] * moments[1]).sum()) / (halves[0] * halves[1]) ** 0.5
    assert overlap(changes[:120], changes[120:]) == pytest.approx(expected)


def test_changes_of_pure_noise_are_no_conflict() -> None:
    labels, sketches = drawn((0, 0.0), (0, 0.0))
    noise = torch.randn(sketches.updates.shape, generator=torch.Generator().manual_seed(1))
    assert measured(labels, Sketches(noise, sketches.inputs)) < CONTRADICTORY


def test_all_but_contradictory_groups_are_merged_and_the_largest_is_the_first() -> None:
    labels, sketches = drawn((0, 0.0), (1, 0.0), (1, 0.0), (2, 0.0))
    merged, least = merge_compatible(labels, sketches)
    assert merged[labels == 1].tolist() == merged[labels == 2].tolist() == [0] * 120
    assert sorted({int(merged[labels == 0][0]), int(merged[labels == 3][0])}) == [1, 2]
    assert least > CONTRADICTORY
    alike, least = merge_compatible(*drawn((0, 0.0), (0, 0.0), (0, 0.0)))
    assert not alike.any()
    assert least < 0


@pytest.mark.parametrize("sizes", [[1, 1], [1, 5], [3, 200]])
def test_small_groups_are_no_fault(sizes: list[int]) -> None:
    labels, sketches = drawn((0, 0.0), (1, 0.0), each=200)
    rows = torch.cat([(labels == group).nonzero().flatten()[:size] for group, size in enumerate(sizes)])
    merged, _ = merge_compatible(labels[rows], Sketches(*(part[rows] for part in sketches)))
    assert not merged.any()  # too little is known


def test_errors_are_those_of_ridge_regression_without_the_fold() -> None:
    _, sketches = drawn((0, 0.0), each=20)
    kernel, changes = kernel_and_changes(sketches)
    rows, folds = torch.tensor([0, 2, 3, 7, 11, 12, 15]), torch.arange(20) % 3
    tried = []
    for ridge in RIDGES:
        found = []
        for row in rows.tolist():
            known = [other for other in rows.tolist() if folds[other] != folds[row]]
            inverse = torch.linalg.inv(kernel[known][:, known] + ridge * torch.eye(len(known)))
            found.append((changes[row] - kernel[row, known] @ inverse @ changes[known]).square().sum())
        tried.append(torch.stack(found))
    best = min(tried, key=lambda one: float(one.mean()))
    torch.testing.assert_close(errors(rows, kernel, changes, folds), best)
