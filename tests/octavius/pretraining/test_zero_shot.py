"""Zero-shot ranks, shares and tables against hand-made features."""

import pytest
import torch
from torch import Tensor

from octavius.pretraining.zero_shot import (
    Figures,
    check_templates,
    class_vectors,
    figures_of,
    ranks_of,
    table,
)

WORDS = {"a cat": (1.0, 0.0), "the cat": (0.0, 2.0), "a dog": (-3.0, 0.0), "the dog": (-1.0, 0.0)}


def encode(sentences: list[str]) -> Tensor:
    return torch.tensor([WORDS[sentence] for sentence in sentences])


def test_a_class_is_the_mean_direction_of_its_sentences() -> None:
    found = class_vectors(encode, ["cat", "dog"], ["a {}", "the {}"])
    half = 0.5**0.5  # both sentences of a class weigh alike, however long their vectors are
    torch.testing.assert_close(found, torch.tensor([[half, half], [-1.0, 0.0]]))


def test_ranks_count_the_nearer_names_and_ties_do_not_help() -> None:
    classes = torch.eye(3)
    things = torch.tensor([[0.9, 0.3, 0.1], [0.9, 0.3, 0.1], [0.9, 0.3, 0.1], [0.5, 0.5, 0.5]])
    assert ranks_of(things, classes, torch.tensor([0, 1, 2, 0])).tolist() == [0, 1, 2, 2]


def test_figures_are_shares() -> None:
    found = figures_of(torch.tensor([0, 0, 4, 5, 9]), 20, 0.25)
    assert found == Figures(5, pytest.approx(0.4), pytest.approx(0.6), pytest.approx(0.05), 0.25)


def test_the_table_has_a_line_for_each_set() -> None:
    text = table({"rooms": Figures(12, 0.75, 1.0, 0.05, 0.3), "shapes": Figures(3, 0.5, 0.5, 0.1, None)})
    rows = [line.split() for line in text.splitlines()]
    assert rows == [
        ["set", "objects", "top-1", "top-5", "chance", "size", "baseline"],
        ["rooms", "12", "0.750", "1.000", "0.050", "0.300"],
        ["shapes", "3", "0.500", "0.500", "0.100", "-"],
    ]
    assert len({len(line) for line in text.splitlines()}) == 1


@pytest.mark.parametrize("templates", [[], ["a chair"], ["{} or {}"]])
def test_templates_have_one_place_for_a_name(templates: list[str]) -> None:
    with pytest.raises(ValueError, match=r"templates with one \{\}"):
        check_templates(templates)
