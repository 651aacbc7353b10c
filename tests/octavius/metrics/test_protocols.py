"""Answers about scenes under each evaluation protocol."""

import pytest

from octavius.evaluation.scores import computed
from octavius.instruction.sample import ClassName, References
from octavius.metrics import (
    PROTOCOLS,
    Accuracy,
    Cider,
    LastOfScene,
    NameInText,
    Protocol,
    answer_metrics,
    caption_metrics,
    class_metrics,
)

TEXTS = ["a red chair", None, "the lamp by a door", "a table near the wall", "a red lamp"]
GOLDS = [
    References(("a red chair by the wall",), "one"),
    References(("a lamp",), "two"),
    References(("the old lamp by the door", "the lamp by a door"), "one"),
    References(("a table near a wall",), "three"),
    References(("a red lamp by the wall", "the lamp"), "two"),
]
NAMES = ("table", "lamp", "TV")


def last(texts: list[str | None], golds: list[References]) -> dict[str, float]:
    metric = LastOfScene()
    metric.update(texts, golds)
    return metric.compute()


@pytest.mark.parametrize(
    ("text", "name", "held"),
    [
        ("This is a Table.", "table", True),
        ("a tablet", "table", True),  # as lax as the published evaluation is
        ("table, lamp, TV", "lamp", True),
        ("a TV", "TV", False),  # the text is put into lower case, the name is not
        ("a chair", "table", False),
        (None, "table", False),
    ],
)
def test_published_looks_for_the_name_anywhere_in_the_text(text: str | None, name: str, held: bool) -> None:
    metric = NameInText()
    metric.update([text, "lamp"], [ClassName(name, NAMES), ClassName("lamp", NAMES)])
    assert metric.compute()["acc1_name_in_text"] == (1 + held) / 2


def test_both_accuracies_keep_apart() -> None:
    gold = ClassName("lamp", NAMES)
    found = computed([Accuracy(), NameInText()], ["lamp", "a lamp"], [gold, gold])
    assert found == {"acc1": 0.5, "acc1_name_in_text": 1.0}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_scores_every_kind_of_answer(protocol: Protocol) -> None:
    captions = computed(caption_metrics(protocol), TEXTS, GOLDS)
    answers = computed(answer_metrics(protocol), TEXTS, GOLDS)
    classes = computed(class_metrics(protocol), ["lamp"], [ClassName("lamp", NAMES)])
    keys = {"cider", "rouge_l", "bleu1", "bleu2", "bleu3", "bleu4"}
    assert set(captions) == keys
    if protocol == "published":
        assert captions["cider"] == pytest.approx(last(TEXTS, GOLDS)["cider"])
        assert set(answers) == keys
        assert set(classes) == {"acc1_name_in_text"}
    else:
        cider = Cider()
        cider.update(TEXTS, GOLDS)
        assert captions["cider"] == pytest.approx(cider.compute()["cider"])
        assert set(answers) == keys | {"em1", "em1_normalised", "em1_refined"}
        assert set(classes) == {"acc1"}


@pytest.mark.parametrize("metrics", [caption_metrics, answer_metrics, class_metrics])
def test_another_protocol_is_refused_by_name(metrics: object) -> None:
    with pytest.raises(
        ValueError, match="there is no protocol 'official'; expected one of standard, published"
    ):
        metrics("official")  # type: ignore[operator]
