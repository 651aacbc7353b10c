"""Captions of found boxes, one by one and in any order, score as those of whole scenes do."""

import random

import pytest

from octavius.instruction.sample import DescribedObject, DescribedObjects, FoundObject, References
from octavius.metrics import DenseCaptions, FoundCaptions

WORDS = ["a", "red", "blue", "chair", "table", "stands", "at", "the", "wall", "near", "door"]


def scene(number: int) -> tuple[list[DescribedObject], DescribedObjects]:
    """Some found objects and the true ones, of which some lie near."""
    rng = random.Random(number)
    true = [
        DescribedObject((2.0 * index, 0, 0, 1, 1, 1), tuple(text(rng) for _ in range(rng.randint(1, 3))))
        for index in range(rng.randint(1, 4))
    ]
    found = [
        DescribedObject((2.0 * rng.randint(0, 4) + rng.random() / 2, 0, 0, 1, 1, 1), (text(rng),))
        for _ in range(rng.randint(1, 6))
    ]
    return found, DescribedObjects(tuple(true))


def text(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=6))


def test_they_are_those_of_the_scenes() -> None:
    scenes = {f"room{number}": scene(number) for number in range(6)}
    dense, one_by_one = DenseCaptions(), FoundCaptions()
    dense.update([tuple(found) for found, _ in scenes.values()], [gold for _, gold in scenes.values()])
    rows = [
        (item.texts[0], FoundObject(name, item.box, gold.objects))
        for name, (found, gold) in scenes.items()
        for item in found
    ]
    random.Random(1).shuffle(rows)
    for row in rows:
        one_by_one.update([row[0]], [row[1]])
    expected, got = dense.compute(), one_by_one.compute()
    assert expected.keys() == got.keys()
    assert float(expected["cider_at25"]) > 0
    for key, value in expected.items():
        assert got[key] == pytest.approx(value), key


def test_nothing_said_scores_nothing() -> None:
    found, gold = scene(1)
    metric = FoundCaptions()
    metric.update([None] * len(found), [FoundObject("room", item.box, gold.objects) for item in found])
    assert float(metric.compute()["cider_at25"]) == 0
    assert float(metric.compute()["recall25"]) >= 0


def test_other_golds_are_told() -> None:
    with pytest.raises(ValueError, match="gold 0 is a References, but this metric scores FoundObject"):
        FoundCaptions().update(["a chair"], [References(("a chair",))])  # type: ignore[list-item]
