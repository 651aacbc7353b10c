"""The tokenizer gives every text back, and has one token for each word and coordinate of the world."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from datamodules.miniature.vocabulary import TAGS, build_tokenizer, unmerged, world_lines
from datamodules.miniature.world import COLOURS, HAIR, SHAPES


@pytest.fixture(scope="module")
def vocabulary() -> PreTrainedTokenizerFast:
    return build_tokenizer(world_lines(0, 150, ["Where is it?"]), 2048)


def ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)


@given(text=st.text())
@example(text="".join(map(chr, range(256))))
@example(text="  a  [0.25, 0.5]\n\n\t(A)(B)  ### Human:<Img></Img>\r\n")
@example(text="ein Bär, 熊, 🐻 and \u200d\ufeff")
def test_every_text_is_given_back(vocabulary: PreTrainedTokenizerFast, text: str) -> None:
    assert vocabulary.decode(ids(vocabulary, text)) == text


@given(raw=st.binary())
@example(raw=bytes(range(256)))
def test_every_byte_string_is_given_back(vocabulary: PreTrainedTokenizerFast, raw: bytes) -> None:
    text = raw.decode("latin-1")
    assert vocabulary.decode(ids(vocabulary, text)).encode("latin-1") == raw


def test_every_piece_of_the_world_is_one_token(vocabulary: PreTrainedTokenizerFast) -> None:
    words = [f" {word}" for word in (*COLOURS, *SHAPES, *HAIR)]
    coordinates = [f"{before}{value / 100:.2f}" for value in range(101) for before in (" [", ", ")]
    letters = [f" ({letter})" for letter in "ABCD"]
    for piece in (*words, *coordinates, *letters, *TAGS):
        assert len(ids(vocabulary, piece)) == 1, piece
    assert unmerged(vocabulary, words + coordinates + letters) == []
    assert unmerged(vocabulary, [" zebra"]) == ["Ġzebra"]


def test_a_box_costs_a_token_an_edge(vocabulary: PreTrainedTokenizerFast) -> None:
    assert len(ids(vocabulary, " ball [0.06, 0.10, 0.41, 1.00]")) == 6  # name, four edges, bracket


def test_the_same_text_gives_the_same_tokenizer() -> None:
    first, second = (build_tokenizer(world_lines(3, 5), 400).get_vocab() for _ in range(2))
    assert first == second
