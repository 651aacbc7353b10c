"""Byte-level BPE tokenizer for the texts of the miniature: one token per word and per coordinate."""

import json
import re
from collections.abc import Iterable, Iterator

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from datamodules.miniature import text, world
from datamodules.miniature.rooms.furniture.catalogue import KINDS
from datamodules.miniature.rooms.furniture.palette import COLOURS
from datamodules.miniature.rooms.texts import captions, exercises, questions, relations

PIECES = r" ?\[-?\d\.\d\d|, -?\d\.\d\d| ?\([A-Z]\)| ?[A-Za-z]+| ?\d+(?:\.\d+)?|\s+(?!\S)|\s+| ?[^\sA-Za-z\d]"
"""Pre-tokens, across which BPE never merges.

These are words with the space before them, coordinates (`[0.25` or `, -1.25`), option letters (`(A)`), numbers and
punctuation marks.
"""

TAGS = ("### Human:", "\n### Assistant:", "<Img>", "</Img>", "<Pcl>", "</Pcl>")
"""Fixed texts of the prompt template, one token each; ordinary tokens, which decoding does not skip."""

REACH = 340
"""Largest coordinate in texts about rooms, in centimetres from the centre of the room."""

FIELD = re.compile(r"{\w+}")
"""A field of a text template."""


def build_tokenizer(lines: Iterable[str], size: int = 2048) -> PreTrainedTokenizerFast:
    """Trains the tokenizer on lines of text; it has a token for each of the 256 bytes, so it can encode any text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def world_lines(seed: int, count: int, questions: Iterable[str] = ()) -> Iterator[str]:
    """Text about images to train the tokenizer on: captions, questions, scenes as text, and every coordinate.

    Captions and questions also occur with a leading space, as in a prompt.

    Args:
        seed: seed of the scenes and faces.
        count: number of scenes, and of faces.
        questions: further texts, which are repeated so that each word becomes one token.
    """
    for value in range(101):
        yield from (f"a [{value / 100:.2f}, {value / 100:.2f}, {value / 100:.2f}]",) * 20
    for question in questions:
        yield from (question, f" {question}") * 50
    for index in range(count):
        rng = world.generator(seed, "vocabulary", index)
        scene, face = world.make_scene(rng), world.make_face(rng)
        for line in (*text.captions(scene), *text.face_captions(face), text.positions(scene)):
            yield from (line, f" {line}")
        yield from (f" {text.write_scene(scene)}\n", f" {text.write_face(face)}\n")
        for kind in text.WORDINGS:
            asked = text.ask(scene, kind, rng)
            if asked is not None:
                pairs = zip("ABCD", asked.options, strict=False)
                letters = ", ".join(f"{option} ({letter})" for letter, option in pairs)
                yield f" {asked.text}\nOptions: {letters}"


def room_lines() -> Iterator[str]:
    """Text about rooms: every word of the descriptions, questions and answers, and every coordinate, once.

    It includes the names of held-out classes, as a token reveals nothing about its meaning, but not the wordings that
    are only used in zero-shot test sets.
    """
    for value in range(-REACH, REACH + 1):
        yield f" [{value / 100:.2f}, {value / 100:.2f}"
    yield " [-0.00, -0.00]; no objects"
    yield f" {' '.join((*COLOURS, *questions.WORDS, *'012345', 'yes no none apart small large A An a an one'))}"
    yield from (f" {name} {kind.plural}, object; {name}." for name, kind in KINDS.items())
    yield from (f" {phrase}" for phrase in relations.PHRASES.values())
    forms = [*captions.DESCRIPTIONS, *(form for forms in questions.WORDINGS.values() for form in forms)]
    yield from (f" {FIELD.sub('a', form)}" for form in (*forms, *exercises.WORDINGS))


def grow_tokenizer(tokenizer: PreTrainedTokenizerFast, lines: Iterable[str]) -> PreTrainedTokenizerFast:
    """Adds a token for each pre-token of the lines, and for each of `TAGS`.

    Existing tokens keep their ids, so that a model's embeddings only have to be extended. Pre-tokens in the
    vocabulary are encoded as one token; all others are merged as before.

    Args:
        tokenizer: a tokenizer from `build_tokenizer`.
        lines: text with the new pre-tokens.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    known = {token["content"]: token["id"] for token in state["added_tokens"]} | state["model"]["vocab"]
    state["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": PIECES}
    state["model"]["ignore_merges"] = True
    backend = Tokenizer.from_str(json.dumps(state)).pre_tokenizer
    assert backend is not None
    pieces = dict.fromkeys(piece for line in lines for piece, _ in backend.pre_tokenize_str(line))
    for piece in (*TAGS, *pieces):
        known.setdefault(piece, len(known))
    state["model"]["vocab"] = known
    grown = Tokenizer.from_str(json.dumps(state))
    grown.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=grown, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
