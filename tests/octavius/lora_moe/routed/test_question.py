"""Location of the question in a batch, and batches in which it is undefined."""

from typing import Any

import pytest
import torch
from hypothesis import given as cases
from hypothesis import strategies as st

from octavius.lora_moe.routed.question import IGNORED, given, of_prompt

IDS = torch.tensor([[5, 6, 7, 8, 9], [0, 0, 7, 8, 9]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])


def labels(*starts: int) -> torch.Tensor:
    """Labels of the ids from a column on, a column for each row."""
    columns = torch.arange(IDS.shape[1])
    return torch.where(columns >= torch.tensor(starts)[:, None], IDS, IGNORED)


def told(**inputs: Any) -> list[list[int]]:
    question = of_prompt({"input_ids": IDS, **inputs}, inputs.pop("pad", None))
    return [ids[mask].tolist() for ids, mask in zip(*question, strict=True)]


def test_the_question_is_what_stands_before_the_answer_without_padding() -> None:
    assert told(labels=labels(3, 4), attention_mask=MASK) == [[5, 6, 7], [7, 8]]


def test_without_labels_all_real_tokens_are_the_question() -> None:
    assert told(attention_mask=MASK) == [[5, 6, 7, 8, 9], [7, 8, 9]]


def test_without_a_mask_padding_is_told_by_its_id() -> None:
    assert told(labels=labels(3, 4), pad=0) == [[5, 6, 7], [7, 8]]


def test_nothing_behind_the_first_answer_token_is_read_not_even_a_later_question_or_padding() -> None:
    later = labels(2, 3)
    later[:, 4] = IGNORED
    assert told(labels=later, attention_mask=MASK) == [[5, 6], [7]]


def test_labels_that_are_cut_to_the_logits_that_are_kept_are_those_of_the_last_tokens() -> None:
    cut = {"labels": labels(3, 4)[:, -3:], "logits_to_keep": 3, "attention_mask": MASK}
    assert told(**cut) == [[5, 6, 7], [7, 8]]


def test_labels_of_single_logits_are_of_the_tokens_behind_them() -> None:
    # The answers 7 and 9 of one row: the logits of 6 and 8 predict them, and those of the last token come along.
    row = {"input_ids": IDS[:1], "labels": torch.tensor([[IGNORED, 7, 9]])}
    for kept in (torch.tensor([False, True, False, True, True]), torch.tensor([1, 3, 4])):
        assert told(**row, logits_to_keep=kept) == [[5, 6]]


def test_a_row_that_lost_its_answer_is_all_question() -> None:
    assert told(labels=labels(5, 4), attention_mask=MASK)[0] == [5, 6, 7, 8, 9]


@cases(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=4))
def test_prompts_are_found_with_padding_on_either_side(sizes: list[tuple[int, int, int]]) -> None:
    rows = [
        ([0] * left, [*range(10, 10 + prompt)], [*range(30, 30 + answer)]) for prompt, answer, left in sizes
    ]
    width = max(sum(map(len, row)) for row in rows)
    ids, mask, answers = [], [], []
    for pads, prompt, answer in rows:
        rest = width - len(pads) - len(prompt) - len(answer)
        ids.append(pads + prompt + answer + [0] * rest)
        mask.append([0] * len(pads) + [1] * len(prompt + answer) + [0] * rest)
        answers.append([IGNORED] * len(pads + prompt) + answer + [IGNORED] * rest)
    inputs = {
        "input_ids": torch.tensor(ids),
        "labels": torch.tensor(answers),
        "attention_mask": torch.tensor(mask),
    }
    question = of_prompt(inputs, None)
    assert [row[real].tolist() for row, real in zip(*question, strict=True)] == [row[1] for row in rows]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"labels": labels(0, 3)}, r"in the rows \[0\] of the batch labels begin with the first token"),
        ({"labels": labels(3, 3)[:, :4]}, r"labels \(2, 4\) of input_ids \(2, 5\)"),
        ({"input_ids": None, "inputs_embeds": torch.zeros(2, 5, 3)}, "pass question_ids"),
        ({"attention_mask": torch.ones(2, 1, 5, 5)}, r"attention_mask \(2, 1, 5, 5\)"),
        ({"position_ids": torch.tensor([[0, 1, 0, 1, 2]] * 2)}, "several sequences"),
        ({"position_ids": torch.tensor([[0, 0, 1, 0, 0]] * 2)}, "several sequences"),
        ({"cu_seq_lens_q": torch.tensor([0, 5, 10])}, "several sequences"),
    ],
)
def test_batches_without_one_question_for_a_row_are_refused(inputs: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        of_prompt({"input_ids": IDS, **inputs}, None)


def test_positions_that_begin_behind_padding_are_no_second_sequence() -> None:
    positions = torch.tensor([[0, 1, 2, 3, 4], [1, 1, 0, 1, 2]])
    assert told(attention_mask=MASK, position_ids=positions)[1] == [7, 8, 9]


def test_one_question_serves_a_batch_and_other_numbers_are_refused() -> None:
    assert given(torch.tensor([5, 6]), None, None, 4).ids.tolist() == [[5, 6]]
    assert given(torch.tensor([[5, 0]]), None, 0, 4).mask.tolist() == [[True, False]]
    with pytest.raises(ValueError, match="2 questions for a batch of 4 samples"):
        given(IDS, MASK, None, 4)
