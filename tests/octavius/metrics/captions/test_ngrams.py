"""Tokens equal those of the reference tokenizer, and n-gram counts a plain search."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavius.metrics.captions.ngrams import ngram_counts, ptb_tokens

# What the caption scorer made of these texts (Stanford CoreNLP 3.4.1, lower-cased, punctuation struck out).
REFERENCE = {
    "A dog (brown) sits [here] {now}.": "a dog -lrb- brown -rrb- sits -lsb- here -rsb- -lcb- now -rcb-",
    "He can't, won't & doesn't; I'm you're they've we'll he'd it's.": (
        "he ca n't wo n't & does n't i 'm you 're they 've we 'll he 'd it 's"
    ),
    "I cannot gonna wanna gotta lemme gimme 'twas 'tis more'n": (
        "i can not gon na wan na got ta lem me gim me 't was 't is more 'n"
    ),
    "o'clock at 5 o'clock, rock 'n' roll, the '80s and 80's ol' man": (
        "o'clock at 5 o'clock rock 'n' roll the '80s and 80 's ol' man"
    ),
    "It costs $5.00, 50% off #1 @home & co.": "it costs $ 5.00 50 % off # 1 @home & co.",
    "Mr. Smith, Dr. No and Jr. of the U.S. and U.K. T.V. set": (
        "mr. smith dr. no and jr. of the u.s. and u.k. t.v. set"
    ),
    "on/off/standby a / b, w/ cheese and 1/2 of a man/woman/child/dog": (
        "on/off/standby a / b w / cheese and 1/2 of a man/woman/child / dog"
    ),
    "The end.The beginning... what?! no!! ok......": "the end.the beginning what ?! no !! ok",
    "0.5m 5m 1.20 1,000 10:30am 3:45 p.m. 5'9\" 2x4": "0.5 m 5m 1.20 1,000 10:30 am 3:45 p.m. 5 9 2x4",
    "A t-shirt -- mother-in-law \u2013 semi -truck semi- bus": "a t-shirt mother-in-law semi truck semi bus",
    "me@host.com www.google.com http://a.b/c": "me@host.com www.google.com http://a.b/c",
    "a*b a+b a=b a_b a~b a^b a|b": "a * b a + b a = b a_b a ~ b a ^ b a | b",
    "St. Louis, 5th Ave. No. 5 vs. say no. Art. in. lbs.": "st. louis 5th ave. no. 5 vs. say no art in lbs",
    "AT&T and M&M's and b&w": "at&t and m&m 's and b & w",
    "the dogs' bones, James's book, d'art l'eau": "the dogs bones james 's book d'art l'eau",
    'a sign that says "don\'t walk".': "a sign that says do n't walk",
    "don\u2019t it\u2019s \u201cquoted\u201d \u2018single\u2019": "do n't it 's quoted single",
    "I'd've y'all ain't shouldn't've": "i 'd 've y' all ai n't should n't 've",
    "getting ready to bat., in a tv.": "getting ready to bat. in a tv",
    "3,4 +5 -5 = 0 v1.2 747-400 12/25/2012": "3,4 +5 -5 = 0 v1 .2 747-400 12/25/2012",
    "caf\u00e9 Z\u00fcrich": "caf\u00e9 z\u00fcrich",
    ' " . ! ': "",
}


@pytest.mark.parametrize("text", REFERENCE)
def test_tokens_equal_the_reference_tokenizer(text: str) -> None:
    assert ptb_tokens(text) == REFERENCE[text].split()


def test_tokens_of_real_captions_equal_the_reference_tokenizer(shared_data: Path) -> None:
    folder = shared_data / "coco-captions-scored"
    tokenised = json.loads((folder / "ptb_tokenized_gts_res.json").read_text())
    annotations = json.loads((folder / "captions_val2014_fakecap_gt.json").read_text())["annotations"]
    texts: dict[str, list[str]] = {}
    for annotation in annotations:
        texts.setdefault(str(annotation["image_id"]), []).append(annotation["caption"])
    found = {image: [" ".join(ptb_tokens(text)) for text in texts[image]] for image in tokenised["gts"]}
    assert len(annotations) == 5005
    assert found == tokenised["gts"]


@given(st.text() | st.text(alphabet="aB1.,-/'\"n t&<>@#()\u2019\u2014", max_size=40))
def test_any_text_has_tokens_that_survive_being_joined(text: str) -> None:
    tokens = ptb_tokens(text)
    assert " ".join(tokens).split() == tokens
    assert [token.lower() for token in tokens] == tokens


@pytest.mark.parametrize("piece", ["a", "a.", "!.", "'n", "-", "1.", "a@", "<a ", "a/"])
def test_long_garbage_takes_no_long_time(piece: str) -> None:
    assert len(ptb_tokens(piece * 5000)) <= 10000  # a rule that backtracks would hang here


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 5))
def test_ngram_counts_equal_a_search_for_each_ngram(tokens: list[str], longest: int) -> None:
    counts = ngram_counts(tokens, longest)
    text = "".join(tokens)
    assert sum(counts.values()) == sum(max(0, len(text) - size + 1) for size in range(1, longest + 1))
    for gram, count in counts.items():
        assert 1 <= len(gram) <= longest
        assert count == sum(text.startswith("".join(gram), start) for start in range(len(text)))
