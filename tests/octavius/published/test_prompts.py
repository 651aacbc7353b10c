"""The templates of the published code reproduce its token sequences exactly."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from octavius.instruction.batch import IGNORE_INDEX, Example, collate_examples
from octavius.instruction.prompt import PromptBuilder, Template
from octavius.instruction.sample import Sample
from octavius.instruction.tokenizer import Tokenizer
from octavius.published.prompts import PublishedPromptBuilder, prompt_builder

MakeSample = Callable[..., Sample]
PRESET = Path(__file__).resolve().parents[3] / "configs" / "published.yaml"
SYSTEMS = {"vqa": "You answer questions.", "detection": "You find boxes."}
SLOTS = {"image": 3, "cloud": 2}
PADDED = 5
ONE_BY_ONE = {"</Img>", "<Img>", "<Pcl>", "</Pcl>"}


def templates() -> tuple[Template, Template]:
    """Those of the preset, with texts for two tasks and fewer slots."""
    model = yaml.safe_load(PRESET.read_text())["model"]["init_args"]
    training: dict[str, Any] = model["template"] | {"systems": SYSTEMS, "padded": {"cloud": PADDED}}
    return Template(**training), Template(**model["test_template"] | {"systems": SYSTEMS})


@pytest.fixture
def builder(tokenizer: Tokenizer) -> PromptBuilder:
    training, asking = templates()
    return prompt_builder(tokenizer, SLOTS, training, 2048, asking)


def pieces(tokenizer: Tokenizer, *texts: str | int) -> list[int]:
    """Tokens of texts that are tokenised one by one; a number stands for so many slots."""
    ids: list[int] = []
    for text in texts:
        if isinstance(text, int):
            ids += [tokenizer.pad_id] * text
        else:
            ids += tokenizer.encode(text, special=text in ONE_BY_ONE)
    return ids


def test_training(builder: PromptBuilder, tokenizer: Tokenizer, make_sample: MakeSample) -> None:
    """[BOS] system, blank line, ### Human: <Img> | vision | </Img> question, ### Assistant: | answer, ###."""
    sample = make_sample("s", "image", task="vqa")
    prompt = builder.build(sample, "What is this?", "A ring.")
    start = pieces(tokenizer, "You answer questions.\n\n### Human:", "<Img>", 3, "</Img>")
    asked = pieces(tokenizer, "What is this?\n### Assistant:")
    assert prompt.ids == [tokenizer.bos_id, *start, *asked, *tokenizer.encode("A ring.\n###")]
    assert prompt.answer_start == 1 + len(start) + len(asked)
    assert prompt.gate_ids == tokenizer.encode("What is this?")
    assert tokenizer.eos_id not in prompt.ids
    assert prompt.masked == []


def test_later_turns(builder: PromptBuilder, tokenizer: Tokenizer, make_sample: MakeSample) -> None:
    sample = make_sample("s", "image", task="vqa", history=(("Is it red?", "No."), ("Blue?", "Yes.")))
    prompt = builder.build(sample, "What is it?", "A sea.")
    expected = pieces(
        tokenizer,
        "You answer questions.\n\n### Human:",
        "<Img>",
        3,
        "</Img>",
        "Is it red?\n### Assistant:",
        "No.\n###",
        "Human: Blue?\n### Assistant:",
        "Yes.\n###",
        "Human: What is it?\n### Assistant:",
        "A sea.\n###",
    )
    assert prompt.ids[1:] == expected
    assert prompt.gate_ids == tokenizer.encode("Is it red?")
    assert (prompt.question, prompt.gate_text) == ("What is it?", "Is it red?")


def test_asking(builder: PromptBuilder, tokenizer: Tokenizer, make_sample: MakeSample) -> None:
    """[BOS] ### Human: <Img> | vision | </Img> system, blank line, Human: question, ###, ### Assistant:."""
    sample = make_sample("s", "image", task="detection")
    prompt = builder.build(sample, "What is where?", None)
    last = "You find boxes.\n\nHuman: What is where?\n###\n### Assistant:"
    read = pieces(tokenizer, "</Img>", last)
    assert prompt.ids == [tokenizer.bos_id, *pieces(tokenizer, "### Human:", "<Img>", 3), *read]
    assert prompt.gate_ids == read
    assert (prompt.question, prompt.gate_text) == ("What is where?", f"</Img>{last}")
    assert prompt.answer_start == len(prompt.ids)


def test_clouds_are_padded_in_training_alone(
    builder: PromptBuilder, tokenizer: Tokenizer, make_sample: MakeSample
) -> None:
    sample = make_sample("s", "cloud", task="vqa")
    prompt = builder.build(sample, "What is this?", "A ring.")
    first = len(prompt.ids) - len(
        pieces(tokenizer, PADDED, "</Pcl>", "What is this?\n### Assistant:", "A ring.\n###")
    )
    assert prompt.slots == {"cloud": [first, first + 1]}
    assert prompt.masked == [first + 2, first + 3, first + 4]
    asked = builder.build(sample, "What is this?", None)
    assert (len(asked.slots["cloud"]), asked.masked) == (2, [])
    batch = collate_examples(
        [Example(sample, prompt, {"cloud": [torch.zeros(1)]})], 0, "right", {"cloud": Stacked()}
    )
    assert batch.attention_mask[0].tolist() == [
        int(index not in prompt.masked) for index in range(len(prompt.ids))
    ]
    assert batch.labels[0, : prompt.answer_start].eq(IGNORE_INDEX).all()
    assert batch.slots["cloud"].tolist() == [[0, first], [0, first + 1]]


class Stacked:
    """A loader that only batches."""

    def collate(self, items: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(items)


def test_what_is_too_long_is_cut_on_the_right(tokenizer: Tokenizer, make_sample: MakeSample) -> None:
    whole, _ = templates()
    sample = make_sample("s", "image", task="vqa")
    question, answer = "What is this?", "A ring and a ball."
    entire = prompt_builder(tokenizer, SLOTS, whole).build(sample, question, answer)
    after = len(entire.ids) - entire.slots["image"][-1] - 1
    for kept in range(after - len(entire.ids) + entire.answer_start + 1, after + 2):
        builder = prompt_builder(tokenizer, SLOTS, replace(whole, longest=kept))
        assert builder.build(sample, question, answer).ids == entire.ids[: len(entire.ids) - after + kept]
        assert builder.build(sample, question, None).ids == entire.ids[: entire.answer_start]
    shorter = prompt_builder(tokenizer, SLOTS, replace(whole, longest=4))
    with pytest.raises(ValueError, match="nothing of the answer is left within 4 tokens; raise `longest`"):
        shorter.build(sample, question, answer)


def test_special_tokens_in_words_of_data_are_words(
    builder: PromptBuilder, tokenizer: Tokenizer, make_sample: MakeSample
) -> None:
    prompt = builder.build(make_sample("s", task="vqa"), "</s>?", "<s> </s>")
    assert tokenizer.eos_id not in prompt.ids
    assert prompt.ids.count(tokenizer.bos_id) == 1


PLAIN = (
    Template(),
    Template("Be brief.", "User:", " Bot:", "<s>", {"image": ("{", "}")}, space=""),
    Template("Be brief.", end="\n###"),
)


@pytest.mark.parametrize("template", PLAIN)
@pytest.mark.parametrize("answer", ["A ring.", None])
@pytest.mark.parametrize("history", [(), (("What is it?", "A ball."), ("Where?", "Here."))])
def test_without_these_options_it_builds_the_usual_prompts(
    template: Template,
    answer: str | None,
    history: tuple[tuple[str, str], ...],
    tokenizer: Tokenizer,
    make_sample: MakeSample,
) -> None:
    sample = replace(make_sample("s", "image", "cloud", task="vqa"), history=history)
    usual = PromptBuilder(tokenizer, SLOTS, template)
    assert type(prompt_builder(tokenizer, SLOTS, template)) is PromptBuilder
    both = [
        one.build(sample, "Why?", answer)
        for one in (usual, PublishedPromptBuilder(tokenizer, SLOTS, template))
    ]
    assert both[0] == both[1]


@pytest.mark.parametrize(
    "option",
    [
        {"systems": {"vqa": "a"}},
        {"opening": "a"},
        {"again": ""},
        {"joined": True},
        {"gate": "first"},
        {"padded": {"image": 4}},
        {"longest": 4},
        {"human": "{system} a"},
    ],
    ids=lambda option: next(iter(option)),
)
def test_the_usual_builder_refuses_each_of_these_options(
    option: dict[str, Any], tokenizer: Tokenizer
) -> None:
    assert type(prompt_builder(tokenizer, SLOTS, None, 2048, Template(**option))) is PublishedPromptBuilder
    with pytest.raises(ValueError, match="the template has options of the published code: "):
        PromptBuilder(tokenizer, SLOTS, Template(**option))
