"""The world's grammar comes in, a small byte-level BPE tokenizer goes out: every word and coordinate one token."""

import json
import re
from collections.abc import Iterable, Iterator

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from datamodules.miniature import text, world
from datamodules.miniature.rooms.furniture.catalogue import KINDS
from datamodules.miniature.rooms.furniture.palette import COLOURS
from datamodules.miniature.rooms.telling import captions, exercises, questions, relations

PIECES = r" ?\[-?\d\.\d\d|, -?\d\.\d\d| ?\([A-Z]\)| ?[A-Za-z]+| ?\d+(?:\.\d+)?|\s+(?!\S)|\s+| ?[^\sA-Za-z\d]"
"""What BPE never merges across: words with their blank, `[0.25`, `, -1.25`, `(A)`, numbers, single marks."""

TAGS = ("### Human:", "\n### Assistant:", "<Img>", "</Img>", "<Pcl>", "</Pcl>")
"""The prompt's own marks, one token each; plain text, not special tokens."""


REACH = 340
"""Centimetres up to which coordinates of rooms are told, either way from their middle."""


FIELD = re.compile(r"{\w+}")


def build_tokenizer(lines: Iterable[str], size: int = 2048) -> PreTrainedTokenizerFast:
    """Trains the tokenizer on lines of text; all 256 bytes are in it, so any text can be told and read back."""
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
    """Text of the world to train a tokenizer on: captions, questions, written scenes, and every coordinate.

    Captions and questions come with a leading blank too, since a prompt puts one before them.
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
    """Text with every word of the rooms' descriptions, questions and answers, and every coordinate, each once.

    Classes that training never shows are named too: a word by itself tells nothing of what it means. The wordings
    of zero-shot sets are not.
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
    """A tokenizer that also has one token for each piece of these lines, and for each of `TAGS`.

    What it knows keeps its number, so that a model's embeddings only have to be made longer. New pieces are
    looked up whole and not merged from parts; what is not looked up is merged as before.

    Args:
        tokenizer: one that `build_tokenizer` made.
        lines: text of what is new.
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


def unmerged(tokenizer: PreTrainedTokenizerFast, lines: Iterable[str]) -> list[str]:
    """Pieces of the lines that are not yet one token each, for a look at whether `size` was enough."""
    backend, known = tokenizer.backend_tokenizer.pre_tokenizer, tokenizer.get_vocab()
    pieces = {piece for line in lines for piece, _ in backend.pre_tokenize_str(line)}
    return sorted(pieces - set(known))
