"""How a metric is shown and resampled: declared attributes, and weighted values against samples drawn again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavius.instruction.sample import ClassName, References
from octavius.metrics import Accuracy, Bleu
from octavius.metrics.reporting import averaged, columns, headline, replayed, shares

COUNTS = st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=3)


@given(COUNTS)
def test_weighted_shares_are_those_of_samples_drawn_as_often(counts: list[list[int]]) -> None:
    right, seen = np.array([1, 0, 2, 1]), np.array([1, 2, 2, 4])
    by_sample = shares({"acc": right.tolist()})(np.array(counts))["acc"]
    by_whole = shares({"acc": right.tolist()}, seen.tolist())(np.array(counts))["acc"]
    for row, own in enumerate(counts):
        drawn = np.repeat(np.arange(4), own)
        if len(drawn):
            assert by_sample[row] == pytest.approx(right[drawn].sum() / len(drawn))
            assert by_whole[row] == pytest.approx(right[drawn].sum() / seen[drawn].sum())
        else:
            assert np.isnan(by_sample[row])


def test_a_metric_is_computed_anew_on_each_resample() -> None:
    said = ["a red dog", "a cat", "the blue bus"]
    golds = [References(("a dog",)), References(("a black cat",)), References(("the blue bus",))]
    metric = Bleu()
    metric.update(["what was measured before"], golds[:1])
    found = replayed(metric, said, golds)(np.array([[2, 0, 1], [0, 3, 0]]))
    for row, drawn in enumerate(([0, 0, 2], [1, 1, 1])):
        alone = Bleu()
        alone.update([said[index] for index in drawn], [golds[index] for index in drawn])
        for key, value in alone.compute().items():
            assert found[key][row] == pytest.approx(value)


def test_what_a_metric_does_not_declare_has_a_default() -> None:
    accuracy, bleu = Accuracy(), Bleu()
    accuracy.update(["cat"], [ClassName("cat", ("cat", "dog"))])
    assert headline(accuracy) == "acc1"
    assert averaged(accuracy) == ("acc1",)
    assert averaged(bleu) == ()
    assert columns(bleu) is None or set(columns(bleu) or ()) <= {"bleu1", "bleu2", "bleu3", "bleu4"}
