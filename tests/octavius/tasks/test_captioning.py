"""A caption is one of the references, on one line."""

import random

from octavius.instruction.sample import References, Sample
from octavius.tasks import Captioning


def test_references_are_drawn_anew() -> None:
    sample = Sample("s", "captioning", "b", {}, "", References(("one", "two", " ", "three")))
    drawn = {Captioning().answer(sample, random.Random(seed)) for seed in range(50)}
    assert drawn == {"one", "two", "three"}
    assert Captioning().answer(sample, random.Random(5)) == Captioning().answer(sample, random.Random(5))


def test_a_caption_is_one_line() -> None:
    sample = Sample("s", "captioning", "b", {}, "", References(("one",)))
    assert Captioning().parse(" a cat\n on  a mat\t", sample) == "a cat on a mat"
    assert Captioning().parse(" \n", sample) is None
