"""Prompts read as designed, piece by piece; marks fall on exactly the answer, the question and the slots."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavius.instruction.prompt import Prompt, PromptBuilder, Template
from octavius.instruction.sample import Media, Sample
from octavius.instruction.tokenizer import Tokenizer

MakeSample = Callable[..., Sample]
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).filter(
    str.strip
)
TURNS = st.lists(st.tuples(WORDS, WORDS), max_size=2).map(tuple)


@pytest.fixture
def builder(tokenizer: Tokenizer) -> PromptBuilder:
    return PromptBuilder(tokenizer, {"image": 3, "sound": 2})


def shown(builder: PromptBuilder, prompt: Prompt) -> str:
    """The prompt as text: `_` for a slot, special tokens by name."""
    slots = {place for places in prompt.slots.values() for place in places}
    out, run = "", list[int]()
    for place, token in enumerate(prompt.ids):
        special = token in builder.tokenizer.backend.all_special_ids
        if special or place in slots:
            out += builder.tokenizer.backend.decode(run)
            out += "_" if place in slots else str(builder.tokenizer.backend.convert_ids_to_tokens(token))
            run = []
        else:
            run.append(token)
    return out + str(builder.tokenizer.backend.decode(run))


def test_one_turn(builder: PromptBuilder, make_sample: MakeSample) -> None:
    prompt = builder.build(make_sample("s", "image"), "What is this?", "ring")
    assert shown(builder, prompt) == "<s>### Human:<Img>___</Img> What is this?\n### Assistant: ring</s>"


def test_text_alone(builder: PromptBuilder, make_sample: MakeSample) -> None:
    prompt = builder.build(make_sample(), "What is this?", None)
    assert shown(builder, prompt) == "<s>### Human: What is this?\n### Assistant:"
    assert prompt.slots == {}


def test_history_comes_between_the_picture_and_the_question(
    builder: PromptBuilder, make_sample: MakeSample
) -> None:
    sample = make_sample("s", "image", history=(("Is it red?", "no"), ("Is it blue?", "yes, very")))
    assert shown(builder, builder.build(sample, "What is it?", "a sea")) == (
        "<s>### Human:<Img>___</Img> Is it red?\n### Assistant: no\n"
        "### Human: Is it blue?\n### Assistant: yes, very\n"
        "### Human: What is it?\n### Assistant: a sea</s>"
    )


def test_a_template_and_two_modalities(tokenizer: Tokenizer, make_sample: MakeSample) -> None:
    template = Template("Be brief.</s>", "User:", " Bot:", "<s>", {"sound": ("{", "}")})
    builder = PromptBuilder(tokenizer, {"image": 1, "sound": 2}, template)
    sample = make_sample("s", "sound", "image", history=(("</s>", "<pad>"),))
    prompt = builder.build(sample, "And?", "ok")
    text = shown(builder, prompt)
    assert text == "<s>Be brief.</s>User:{__}_ </s> Bot: <pad><s>User: And? Bot: ok</s>"
    specials = [token for token in prompt.ids if token in tokenizer.backend.all_special_ids]
    # Those of the template, three slots (which hold the padding id) and the end; none of what the turns say.
    assert len(specials) == 1 + 1 + 3 + 1 + 1


@given(WORDS, WORDS, TURNS, st.lists(st.sampled_from(["image", "sound"]), unique=True))
def test_marks(
    tokenizer: Tokenizer,
    make_sample: MakeSample,
    question: str,
    answer: str,
    history: object,
    media: list[str],
) -> None:
    builder = PromptBuilder(tokenizer, {"image": 3, "sound": 2})
    sample = make_sample("s", *media, history=history)
    fit, use = builder.build(sample, question, answer), builder.build(sample, question, None)
    assert use.answer_start == len(use.ids) == fit.answer_start
    assert fit.ids[: fit.answer_start] == use.ids
    assert fit.ids[-1] == tokenizer.eos_id
    assert tokenizer.decode(fit.ids[fit.answer_start :]) == answer.strip()
    assert (fit.slots, fit.gate_ids) == (use.slots, use.gate_ids)
    assert {name: len(places) for name, places in fit.slots.items()} == {
        name: builder.slots[name] for name in media
    }
    assert all(fit.ids[place] == tokenizer.pad_id for places in fit.slots.values() for place in places)
    assert tokenizer.decode(fit.gate_ids) == question.strip()
    assert fit.question == fit.gate_text == use.gate_text == question
    size = len(fit.gate_ids)
    ends = [end for end in range(size, fit.answer_start + 1) if fit.ids[end - size : end] == fit.gate_ids]
    assert ends[-1] == fit.answer_start - len(tokenizer.encode(builder.template.assistant))


@pytest.mark.parametrize(
    ("question", "answer", "message"),
    [
        (" \n", "yes", "sample s: the question is empty"),
        ("What?", "", "sample s: the answer is empty"),
        ("What?", " \t", "sample s: the answer is empty"),
    ],
)
def test_empty_words(
    builder: PromptBuilder, make_sample: MakeSample, question: str, answer: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        builder.build(make_sample(), question, answer)


def test_an_unknown_modality(builder: PromptBuilder, make_sample: MakeSample) -> None:
    with pytest.raises(
        ValueError, match="has the modality 'smell', but this model takes image, sound; add an"
    ):
        builder.build(make_sample("s", "smell"), "What?", "it")


def test_the_longest_prompt(tokenizer: Tokenizer, make_sample: MakeSample) -> None:
    whole = PromptBuilder(tokenizer, {}).build(make_sample(), "What?", "a long answer")
    said = len(whole.ids) - whole.answer_start
    assert PromptBuilder(tokenizer, {}, max_tokens=len(whole.ids)).build(
        make_sample(), "What?", "a long answer"
    )
    with pytest.raises(
        ValueError,
        match=rf"sample s: {len(whole.ids)} tokens, {said} of them the answer's.*is {len(whole.ids) - 1};",
    ):
        PromptBuilder(tokenizer, {}, max_tokens=len(whole.ids) - 1).build(
            make_sample(), "What?", "a long answer"
        )


def placed(*modalities: str) -> tuple[tuple[str, Media], ...]:
    return tuple((name, Media(path=Path(f"{index}.x"))) for index, name in enumerate(modalities))


def test_media_stand_where_their_placeholders_are(builder: PromptBuilder, make_sample: MakeSample) -> None:
    turn = ("<image> <image>Which is larger?", "the first")
    sample = make_sample("s", history=(turn,), placed=placed("image", "image", "sound", "image"))
    prompt = builder.build(sample, "Is <sound> like <image>?", "no")
    assert shown(builder, prompt) == (
        "<s>### Human:<Img>___</Img><Img>___</Img> Which is larger?\n### Assistant: the first\n"
        "### Human: Is __ like <Img>___</Img>?\n### Assistant: no</s>"
    )
    assert [len(prompt.slots[name]) for name in ("image", "sound")] == [9, 2]
    assert prompt.slots["image"] == sorted(prompt.slots["image"])
    assert builder.tokenizer.decode(prompt.gate_ids) == "Is like ?"
    assert (prompt.question, prompt.gate_text) == ("Is <sound> like <image>?", "Is like ?")


def test_one_image_in_front_is_as_without_a_placeholder(
    builder: PromptBuilder, make_sample: MakeSample
) -> None:
    bare = builder.build(make_sample("s", "image"), "What is this?", "ring")
    marked = builder.build(make_sample("s", placed=placed("image")), "<image>\nWhat is this?", "ring")
    assert (marked.ids, marked.slots, marked.gate_ids) == (bare.ids, bare.slots, bare.gate_ids)


def test_a_placeholder_without_media_is_text(builder: PromptBuilder, make_sample: MakeSample) -> None:
    assert "What is <image>?" in shown(builder, builder.build(make_sample(), "What is <image>?", None))


@pytest.mark.parametrize(
    ("question", "media", "history", "said"),
    [
        ("<image> a?", ("image", "image"), (), "have <image>, and its placed media are <image>, <image>"),
        ("<image> <image> a?", ("image",), (), "have <image>, <image>, and its placed media are <image>"),
        ("a?", ("image",), (), "have no placeholder"),
        ("<image> a <sound>?", ("sound", "image"), (), "in the same order"),
        ("a?", ("image",), (("<image>b?", "<image>"),), "an answer has a placeholder"),
        ("<image>", ("image",), (), "the question is empty"),
        ("<smell> a?", ("smell",), (), "has the modality 'smell'"),
    ],
)
def test_media_without_their_placeholders_are_refused(
    builder: PromptBuilder,
    make_sample: MakeSample,
    question: str,
    media: tuple[str, ...],
    history: tuple[tuple[str, str], ...],
    said: str,
) -> None:
    with pytest.raises(ValueError, match=said):
        builder.build(make_sample("s", placed=placed(*media), history=history), question, None)
