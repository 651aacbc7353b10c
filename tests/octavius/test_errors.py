"""Formatting of exceptions for users."""

from multiprocessing import get_context

import pytest
from torch.utils.data import DataLoader, Dataset

from octavius.errors import LONGEST, message, readable
from octavius.suggestions import nearest

NESTED = """Parser key "model":
  Does not validate against any of the Union subtypes
  Subtypes: [<class 'lightning.pytorch.core.module.LightningModule'>, <class 'NoneType'>]
  Errors:
    - Problem with given class_path 'octavius.training.OctaviusModule':
        Parser key "{key}":
          {said}
    - Expected a <class 'NoneType'>
  Given value type: <class 'dict'>
  Given value: {{'class_path': 'OctaviusModule'}}"""


class Broken(Dataset[int]):
    """Items that cannot be read."""

    def __init__(self, words: str) -> None:
        self.words = words

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise ValueError(self.words)


@pytest.mark.parametrize(
    "words",
    [
        "no image file at a.png",
        "two\nlines",
        "the loader said: ValueError: bad",
        "it ends with a line\n  indented",
    ],
)
def test_an_error_of_a_data_worker_is_told_in_its_own_words(words: str) -> None:
    loader = DataLoader(Broken(words), num_workers=1, multiprocessing_context=get_context("fork"))
    samples = iter(loader)
    with pytest.raises(ValueError, match="Original Traceback") as caught:
        next(samples)
    samples._shutdown_workers()  # type: ignore[attr-defined] - the garbage collector would wait for it
    assert message(caught.value) == words


@pytest.mark.parametrize("words", ["", "plain words", "Option 'a' of the encoder", "a: b\n  - c"])
def test_other_words_stay_as_they_are(words: str) -> None:
    assert message(ValueError(words)) == words


def test_of_a_long_text_the_middle_is_left_out() -> None:
    text = message(ValueError("a" * 100_000 + "the end"))
    assert len(text) < LONGEST + 100
    assert text.startswith("aaa")
    assert text.endswith("the end")
    assert " 96007 characters " in text


@pytest.mark.parametrize(
    ("key", "said", "left"),
    [
        ("lr", "Expected a <class 'float'>. Got value: fast", "model.lr: expected float, found fast"),
        (
            "lora",
            "Problem with given class_path 'octavius.model.LoRAMoEConfig':\n  Option 'exprts' is not accepted",
            "model.lora: LoRAMoEConfig has no option 'exprts' (did you mean 'experts'?)",
        ),
        ("decoder", "the folder is empty", "model.decoder: the folder is empty"),
        (
            "loss_norm",
            "Expected a typing.Literal['token', 'sample']. Got value: all",
            "model.loss_norm: expected one of 'token', 'sample', found all",
        ),
    ],
)
def test_of_all_that_the_parser_tried_the_cause_is_left(key: str, said: str, left: str) -> None:
    assert readable(NESTED.format(key=key, said=said)) == left


def test_an_option_that_is_like_no_other_is_answered_with_all_of_them() -> None:
    path = "octavius.encoders.precomputed.PrecomputedFeatures"
    text = f"Problem with given class_path '{path}':\n  Option 'qqq' is not accepted"
    assert readable(text) == "PrecomputedFeatures has no option 'qqq'; it has num_tokens, width, noise, drop"


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("fitt", ["fit", "test"], " (did you mean 'fit'?)"),
        ("zzz", ["fit", "test"], ""),
        ("fit", [], ""),
    ],
)
def test_the_nearest_name_is_asked_after(name: str, known: list[str], hint: str) -> None:
    assert nearest(name, known) == hint
