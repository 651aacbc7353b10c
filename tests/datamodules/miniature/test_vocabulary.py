"""The tokenizer gives every text back, and has one token for each word and coordinate of the world."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from datamodules.miniature.vocabulary import TAGS, build_tokenizer, grow_tokenizer, world_lines
from datamodules.miniature.world import COLOURS, HAIR, SHAPES
from tests.datamodules.miniature.pieces import unmerged


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


@pytest.fixture(scope="module")
def grown(vocabulary: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    return grow_tokenizer(vocabulary, ["a zebra [-1.25, 3.00] on the Zebra.", " zebra"])


def test_new_pieces_get_the_next_numbers(
    vocabulary: PreTrainedTokenizerFast, grown: PreTrainedTokenizerFast
) -> None:
    assert grown.convert_ids_to_tokens(range(len(vocabulary))) == vocabulary.convert_ids_to_tokens(
        range(len(vocabulary))
    )
    assert len(ids(vocabulary, " zebra [-1.25, 3.00]")) > 4
    assert ids(grown, " zebra [-1.25, 3.00]")[0] >= len(vocabulary)
    assert len(ids(grown, " zebra [-1.25, 3.00]")) == 4
    assert unmerged(grown, [" zebra [-1.25, 3.00] Zebra"]) == []
    for tag in TAGS:
        assert ids(grown, tag) == ids(vocabulary, tag)


def test_old_text_is_read_as_before(
    vocabulary: PreTrainedTokenizerFast, grown: PreTrainedTokenizerFast
) -> None:
    lines = [*world_lines(1, 10, ["Where is it?"])]
    assert [ids(grown, line) for line in lines] == [ids(vocabulary, line) for line in lines]


@given(text=st.text())
@example(text="  a  [-0.25, 0.5]\n\n\t(A)(B)  ### Human:<Pcl></Pcl>\r\n zebras")
def test_every_text_is_given_back_by_a_grown_one(grown: PreTrainedTokenizerFast, text: str) -> None:
    assert grown.decode(ids(grown, text)) == text
