"""Captions of an object: scored with ROUGE-L too, and by scene under the published protocol."""

import random

import pytest

from octavius.evaluation.scores import computed
from octavius.instruction.sample import References, Sample
from octavius.tasks import Captioning3D


def test_the_right_answers_of_scenes_score_best_under_each_protocol() -> None:
    golds = [References(("a red chair by the wall",), "one"), References(("a small lamp on a desk",), "two")]
    samples = [Sample(f"s{n}", "captioning3d", "rooms", {}, "", gold) for n, gold in enumerate(golds)]
    task = Captioning3D()
    for protocol in task.protocols:
        said = [task.parse(task.answer(sample, random.Random(0)), sample) for sample in samples]
        found = computed(task.metrics(protocol), said, golds)
        assert set(found) == {"cider", "rouge_l", "bleu1", "bleu2", "bleu3", "bleu4"}
        assert found["rouge_l"] == pytest.approx(1)
        assert found["cider"] == pytest.approx(10)
