"""Data of conventions: samples, training sets and evaluation sets."""

import numpy as np
import pytest

from datamodules.miniature.convention_data import Conventions, Scenes
from datamodules.miniature.conventions import blind_ceiling, tables
from datamodules.miniature.world import SHAPES
from octavius.instruction.sample import ClassName


def test_samples_answer_by_their_convention_and_are_made_from_their_index() -> None:
    words = tables(2)
    train = [Scenes(index, own, "key", "seen", "train", 50) for index, own in enumerate(words)]
    test = Scenes(0, words[0], "key", "seen", "test", 50)
    for index, own in enumerate(words):
        sample = train[index][7]
        assert isinstance(sample.gold, ClassName)
        assert sample.group == f"convention{index}"
        array, again = sample.media["image"].array, train[index][7].media["image"].array
        assert array is not None
        assert again is not None
        assert np.array_equal(array, again)
        shape = SHAPES[int(array[array[:, 0] > 0][0, 1 : 1 + len(SHAPES)].argmax())]
        assert sample.gold.name == own[SHAPES.index(shape)]
    first = {item.media["image"].array.tobytes() for item in train[0]}  # type: ignore[union-attr]
    assert not first & {item.media["image"].array.tobytes() for item in test}  # type: ignore[union-attr]
    with pytest.raises(IndexError):
        test[50]


def test_sets_are_one_a_convention_in_training_and_one_a_wording_in_use() -> None:
    data = Conventions(3, weights=[1, 1, 10], eval_scenes=4)
    assert [item.weight for item in data.train_sets()] == [1, 1, 10]
    sets = data.eval_sets("test")
    assert [item.name for item in sets] == ["seen", "unseen_wording", "unseen_frame"]
    assert all(len({sample.id for sample in item.samples}) == 12 for item in sets)
    assert {item.blind_ceiling for item in sets} == {blind_ceiling(data.words)}
    with pytest.raises(ValueError, match="weight for each of 3"):
        Conventions(3, weights=[1, 2])


def test_some_conventions_are_trained_on_and_all_are_tested() -> None:
    data = Conventions(
        conventions=4, trained=[2, 0], train_scenes=3, eval_scenes=1, weights=[1.0, 2.0, 3.0, 4.0]
    )
    sets = data.train_sets()
    assert [one.samples[0].group for one in sets] == ["convention2", "convention0"]
    assert [one.weight for one in sets] == [3.0, 1.0]
    assert len(data.eval_sets("test")[0].samples) == 4
    for wrong in ([], [4]):
        with pytest.raises(ValueError, match="some of the conventions 0 to 3"):
            Conventions(conventions=4, trained=wrong)
