"""The published protocol scores the last answer of each scene."""

import pytest

from octavius.instruction.sample import References
from octavius.metrics import (
    Bleu,
    Cider,
    LastOfScene,
    RougeL,
)

TEXTS = ["a red chair", None, "the lamp by a door", "a table near the wall", "a red lamp"]


GOLDS = [
    References(("a red chair by the wall",), "one"),
    References(("a lamp",), "two"),
    References(("the old lamp by the door", "the lamp by a door"), "one"),
    References(("a table near a wall",), "three"),
    References(("a red lamp by the wall", "the lamp"), "two"),
]


def last(texts: list[str | None], golds: list[References]) -> dict[str, float]:
    metric = LastOfScene()
    metric.update(texts, golds)
    return metric.compute()


def test_published_scores_the_last_answer_of_each_scene_against_its_first_reference() -> None:
    expected = {}
    for metric in (Cider(), Bleu(), RougeL()):
        metric.update([TEXTS[i] for i in (2, 3, 4)], [References(GOLDS[i].texts[:1]) for i in (2, 3, 4)])
        expected |= metric.compute()
    assert last(TEXTS, GOLDS) == pytest.approx(expected, abs=1e-6)


def test_published_scores_hang_on_the_order_of_samples() -> None:
    assert last(TEXTS[::-1], GOLDS[::-1])["cider"] != pytest.approx(last(TEXTS, GOLDS)["cider"], abs=0.1)


def test_a_gold_of_no_scene_cannot_be_scored_by_scene() -> None:
    with pytest.raises(
        ValueError, match=r"1 of 2 golds name no scene, first gold 1; its reader sets References\.scene"
    ):
        last(["a", "b"], [GOLDS[0], References(("a",))])
