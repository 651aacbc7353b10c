"""Text goes to ids and back; nothing is added, nothing in a data set's words is a special token."""

import copy
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavius.instruction.tokenizer import Tokenizer, load_tokenizer

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)


@given(WORDS)
def test_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text.strip()


@given(st.lists(st.sampled_from(["<s>", "</s>", "<pad>", " a", "red", " "])).map("".join))
def test_words_of_data_hold_no_special_token(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert not {tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id} & set(ids)
    assert tokenizer.decode(ids) == text.strip()


def test_a_template_may_name_special_tokens(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a</s>", special=True)
    assert ids == [*tokenizer.encode("a"), tokenizer.eos_id]
    assert tokenizer.encode("a</s>") != ids  # whichever was asked first is not remembered for the other


def test_decoding_stops_at_the_first_end(tokenizer: Tokenizer) -> None:
    a, b = tokenizer.encode(" a red cat"), tokenizer.encode(" and more")
    assert tokenizer.decode([*a, tokenizer.eos_id, *b, tokenizer.eos_id]) == "a red cat"
    assert tokenizer.decode([tokenizer.eos_id, *b]) == ""
    assert tokenizer.decode([tokenizer.pad_id, *a, tokenizer.pad_id]) == "a red cat"
    assert tokenizer.decode([]) == ""


def test_what_is_encoded_cannot_be_spoilt_by_the_caller(tokenizer: Tokenizer) -> None:
    first = tokenizer.encode("a red cat")
    first.append(7)
    assert tokenizer.encode("a red cat") == first[:-1]


@pytest.mark.parametrize("copied", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
def test_it_reaches_worker_processes(tokenizer: Tokenizer, copied: Any) -> None:
    tokenizer.encode("something remembered")
    other = copied(tokenizer)
    text = "a dark grey ring [0.12, 0.30]"
    assert other.encode(text) == tokenizer.encode(text)
    assert (other.eos_id, other.bos_id, other.pad_id) == (
        tokenizer.eos_id,
        tokenizer.bos_id,
        tokenizer.pad_id,
    )


def test_without_an_end_there_is_no_tokenizer(tokenizer: Tokenizer) -> None:
    backend = copy.deepcopy(tokenizer.backend)
    backend.eos_token = None
    with pytest.raises(ValueError, match=r"has no eos token.*Set eos_token in its tokenizer_config\.json"):
        Tokenizer(backend)


def test_without_padding_the_end_pads() -> None:
    backend: Any = SimpleNamespace(eos_token_id=9, bos_token_id=None, pad_token_id=None, name_or_path="x")
    tokenizer = Tokenizer(backend)
    assert (tokenizer.pad_id, tokenizer.bos_id) == (9, None)


def test_a_folder_is_loaded(decoder_folder: Any, tokenizer: Tokenizer) -> None:
    loaded = load_tokenizer(decoder_folder)
    assert loaded.encode("two rings") == tokenizer.encode("two rings")
