"""Every form of an answer is parsed as the option that it states, and never as another.

The forms are listed in `docs/evaluation.md`, with the program that reads each.
"""

# ruff: noqa: RUF001 - letters of other scripts are what is tested

import time
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavius.tasks.choices import parse_choice

OPTIONS = ("red", "blue ball", "dark red", "green")

# fmt: off
STATING = (
    "{}", "({})", "{}.", "{})", "({}", "[{}]", "**{}**", "__{}__", "_{}_", "`{}`", '"{}"', "'{}'", "<{}>",
    "{{{}}}", "- {}", "> {}", "# {}", "1. {}", "${}$", "\\({}\\)", "\\boxed{{{}}}", "\\boxed{{\\text{{{}}}}}",
    "$\\boxed{{({})}}$", "<answer>{}</answer>", "<ANSWER>({})</ANSWER>", "<answer>\n{}\n</answer>",
    '{{"answer": "{}"}}', "{{'answer': '{}'}}", '```json\n{{"answer": "{}"}}\n```',
    '{{"final_answer": "({})"}}', "\u200b{}\u200b", "\n\n{}\n", "{}\r\n", "{}</s>", "{}<|im_end|>",
    "\ufeff{}", "The answer is {}.", "The answer is {}",
    "the answer is ({}).", "THE ANSWER IS {}", "The answer is **{}**.", "Answer: {}",
    "answer:{}", "ANSWER: {}", "Ans: {}", "Ans. {}", "Answer = {}", "Answer -> {}", "**Answer:** {}",
    "**Answer: {}**", "**Answer**: **{}**", "### Answer\n{}", "Answer:\n\n{}", "Final answer: {}",
    "My answer: {}", "The answer would be {}", "The answer should be ({})", "The correct answer is {}.",
    "The best option is {}.", "The correct choice is: {}", "The correct option is option {}.",
    "The answer to the question is {}.", "Option: {}", "I choose {}", "I would choose {}.", "I'd go with {}.",
    "I think the answer is {}.", "I believe it is {}.", "I pick ({})", "{} is correct.",
    "Option {} is correct.", "({}) is the right answer.", "{} is the answer", "{} is the best answer.",
    "The answer is ({}) because (A) is too small.", "The answer is {}. BECAUSE: in sample A, in sample D.",
    "So {}.", "Definitely {}", "It is {}.", "It's {}!", "That's ({}).", "Therefore, {}", "Option {}",
    "the letter {}", "Choice ({})", "The symbol of boron is A. The answer is {}.",
    "A is wrong. The answer is {}.", "It is not (A) but ({}).", "First I thought A. Answer: {}",
    "A? No. Final answer: {}", "The answer is A. Wait, the answer is {}.", "Not A, so {}",
    "<think>The answer is A.</think>{}", "It might be A.</think>\n\nThe answer is {}.",
    "Let me think.\nA is small.\n{}", "reasons, then A\n**{}**", "\\boxed{{5}} The answer is {}.",
    "Question: Is it A?\nAnswer: {}", "neither A nor D: it is {}", "{}, because A is small",
    "{} because (A) is small", "{}\n\n(A) is too small, (D) is not it.", "{}. It rolls.", "{}: it rolls",
    "答案是{}。", "答案：{}", "正确答案是（{}）。", "选{}", "【{}】", "「{}」", "Die Antwort ist {}.",
    "La respuesta correcta es {}", "Die richtige Antwort lautet {}", "答案為{}",
    "La respuesta es {}", "La réponse est {}.", "Ответ: {}", "答えは{}", "정답은 {}",
    "The answer isn't A but {}.", "The answer is not A but {}.", "The answer is not A, but rather {}",
    "Not A but {}.", "Both A and D are wrong, so {}",
    "A and D are both incorrect. The answer is {}", "Yes, {}", "Sure! {}",
    "ASSISTANT: {}", "The answer is most likely to be {}.", "most likely to be {}", "\\[{}\\]",
    "{}\\.", "\\*\\*{}\\*\\*",
    "Many people think that A is correct. The answer is {}.", "Some believe that the answer is A, but it is {}.",
)
# fmt: on
"""With a letter or, most of them, with the words of an option in the place of {}."""

LETTERS_ONLY = (
    "Option {}",
    "the letter {}",
    "Choice ({})",
    "\u200b{}\u200b",
    "{{{}}}",
    "neither A nor D: it is {}",
    "选项{}正确",
    "答えは{}です",
)

# fmt: off
SILENT = (
    "not B", "Not (B).", "It is not B.", "The answer is not B.", "The answer isn't B", "B is wrong",
    "(B) is incorrect.", "B is not correct.", "Option B is not the answer", "Probably not B",
    "anything but not B", "all except B", "rule out B", "I do not think the answer is B.",
    "I don't think it's B", "I doubt the answer is B", "unless the answer is B", "if the answer is B",
    "Is the answer B?", "The answer could be B", "It is wrong that the answer is B", "B cannot be right",
    "A or B", "A and B", "A, B", "A/B", "A & B", "A B", "A+B", "A-C", "AB", "either A or B", "both A and B",
    "A, B and C", "(A) or (B)", "(A)(B)", "neither A nor B", "B (or maybe C)", "B, possibly C",
    "between (A) and (B)", "options A and B", "The answer is A or B.", "The answers are A and C.",
    "Answer: A, C", "Answer: (A)(C)", "The answer is either (A) or (B).", "The answer is A. The answer is B.",
    "<answer>A, C</answer>", "\\boxed{A, C}", '{"answer": ["A", "C"]}', '{"answer": null}', '{"answer": 1}',
    '{"answer": "E"}', '{"answer": "A", "answer": "B"}', "<answer>none</answer> (B)",
    "A. red\nB. blue ball\nC. dark red\nD. green", "(A) red (B) blue ball", "A: red, B: blue ball", "A) x B) y",
    "All of the above", "None of the above", "none of these (B)", "I cannot answer.", "I don't know",
    "cannot be determined", "A dog", "a dog", "A nice one", "The answer is a dog.", "The answer is a",
    "An apple", "I see it", "As I said", "Because", "vitamin C", "The vitamin is vitamin C, of course",
    "hepatitis B", "plan B", "point B", "grade A", "B-cell", "B.C.", "B's", "C++", "f(b)", "x_B", "B1",
    "C:\\path", "www.b.com", "T cells", "C major", "The answer is C major", "e.g. this", "A.I.", "E", "(E)",
    "The answer is E.", "Answer: Z", "\\boxed{E}", "<answer>E</answer>", "I", "Ω", "В", "🅱",
    "The symbol of boron is B.", "The symbol for carbon is C", "Carbon is C, boron is B", "Figure B shows it",
    "red or green", "red and dark red", "either red or green", "It is not red.", "It isn't the blue ball.",
    "no red", "reddish", "infrared", "a dark-red thing", "greener", "red is wrong", "red? green?", "", " ",
    "\n", "?", "(", "()", "<think>The answer is B", "不是B", "答案不是B", "答案是A或B", "B是错误的",
    "Die Antwort ist nicht B", "La respuesta no es B", "The incorrect option is B", "Incorrect answer: B",
    "The least likely answer is B", "The worst choice is B", "The second best answer is B",
    "Not the answer: B", "Not the best choice: B", "I am unable to choose B.", "You might choose B",
    "The answer would be B if the ball were blue.", "An incorrect answer would be B.",
    "Some people say the answer is B. They are wrong.", "People choose B", "Many believe that B is correct",
    "The answer is not A but", "A and B are wrong", "It isn't A but it may be C", "I doubt that B is correct.", "Yes",
)
# fmt: on
"""None of these states one option."""


def filled(form: str, word: str) -> str:
    return form.format(word)


@pytest.mark.parametrize("form", STATING)
def test_a_form_with_a_letter(form: str) -> None:
    assert [parse_choice(filled(form, letter), OPTIONS) for letter in "BC"] == [1, 2]


@pytest.mark.parametrize("form", [form for form in STATING if "{{'" not in form and form not in LETTERS_ONLY])
def test_a_form_with_the_words_of_an_option(form: str) -> None:
    assert [parse_choice(filled(form, OPTIONS[place]), OPTIONS) for place in (1, 2)] == [1, 2]


@pytest.mark.parametrize("text", SILENT)
def test_what_states_no_option(text: str) -> None:
    assert parse_choice(text, OPTIONS) is None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("b", 1),
        ("(b)", 1),
        ("answer: b", 1),
        ("a", 0),
        ("the answer is a.", 0),
        ("Ｂ", 1),
        ("（Ｂ）", 1),
        ("答案：Ｂ", 1),
        ("Ⓑ", 1),
        ("𝐁", 1),
        ("A red one", 0),
        ("A green one", 3),
        ("green (A)", 0),
        ("D. green", 3),
        ("green, not red", 3),
        ("Red is warm. The answer is green.", 3),
        ("the blue ball rather than the red", 1),
        ("It's not A, B, or C. It's D.", 3),
        ("The answer is B and A is wrong", 1),
        ("I pick A... no, B", 1),
        ('{"reasoning": "maybe A", "answer": "C"}', 2),
        ("If it were (A) it would be red, so (B).", 1),
        ("At least the answer is B.", 1),
        ("I would say B if I had to guess.", 1),
    ],
)
def test_single_texts(text: str, place: int) -> None:
    assert parse_choice(text, OPTIONS) == place


@pytest.mark.parametrize(
    ("options", "text", "place"),
    [
        (("yes", "no"), "Yes, there is no dog.", 0),
        (("yes", "no"), "No.", 1),
        (("yes", "no"), "No, it is not.", 1),
        (("yes", "no"), "There is no dog.", 1),
        (("is", "are", "was"), "The answer is B.", 1),
        (("has wings", "does not have wings"), "It does not have wings.", 1),
        (("has wings", "does not have wings"), "The bird has wings.", 0),
        (("C major", "A minor", "D minor"), "It is D minor.", 2),
        (("vitamin A", "vitamin C"), "It is rich in vitamin C.", 1),
        (("sample A", "sample B", "neither"), "neither; they are equal", 2),
        (("sample A", "sample B", "neither"), "The answer is sample A.", 0),
        (("$5", "$50"), "It costs $50.", 1),
        (("B", "A"), "The answer is B.", None),  # the letter of one and the words of the other
        (("x", "y", "z"), "It is y.", 1),
        (("1", "2", "12"), "12", 2),
        (("红色", "蓝色"), "答案是蓝色。", 1),
        (("all of the above", "none of these"), "All of the above.", 0),
        (tuple("abcdefghijkl"), "I think it is k.", 10),
        (("*", "+"), "A", 0),
        (("yes", "yes"), "yes", None),
        (("yes", "yes"), "yes (B)", 1),
    ],
)
def test_options_of_other_kinds(options: tuple[str, ...], text: str, place: int | None) -> None:
    assert parse_choice(text, options) == place


WORDS = (
    "the answer is not option or and either because so if think ( ) . , : ? ! ** ` \\boxed{ } <answer> </answer> "
    'dog vitamin red green {"answer": " 答案是 不是 no'
)
PARTS = st.sampled_from([*WORDS.split(), "\n"])


@given(st.lists(PARTS, max_size=12))
def test_an_option_that_does_not_stand_in_a_text_is_never_read(parts: list[str]) -> None:
    assert parse_choice(" ".join(parts), ("ochre", "mauve", "teal")) is None


@given(st.lists(PARTS, max_size=6), st.lists(PARTS, max_size=6))
def test_two_letters_joined_by_or_are_never_one(before: list[str], after: list[str]) -> None:
    """Unless one of the two is denied."""
    found = parse_choice(" ".join([*before, "B or C", *after]), ("ochre", "mauve", "teal"))
    assert found is None or {"not", "no", "不是"} & {*before, *after}


@given(st.text(max_size=60), st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=8))
def test_no_text_raises(text: str, options: list[str]) -> None:
    assert parse_choice(text, options) in (None, *range(len(options)))


@pytest.mark.parametrize(
    "part",
    [
        "The answer is ",
        "not ",
        "B or ",
        "(A) ",
        "<think>",
        "\\boxed{",
        '{"answer": ',
        '"answer":[',
        "\n",
        " ",
        "[",
        "A ",
        "it is ",
        "'A'",
        "\\text{",
        "if the answer is B ",
        "I would ",
        "B is the most ",
        "red ",
        ". ",
        "no the ",
        "-",
        "\0",
    ],
)
def test_a_long_text_takes_no_long_time(part: str) -> None:
    start = time.process_time()
    parse_choice(part * (50_000 // len(part)), OPTIONS)
    assert time.process_time() - start < 5


def test_one_class_is_named_without_letters() -> None:
    """As a closed list of classes is read: several words may mean one class, and no letter means any."""
    read = {
        text: parse_choice(text, ("dog", "cat", "puppy"), (0, 1, 0), lettered=False)
        for text in (
            "It is a dog, a puppy.",
            "A",
            "not a dog but a cat",
            "a cat or a dog",
            "hot-dog",
            "The answer is B.",
        )
    }
    assert list(read.values()) == [0, None, 1, None, None, None]


def test_letters_may_be_the_classes() -> None:
    letters = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    for text, letter in product(("{}", "It is a {}.", "The answer is {}."), "BQ"):
        assert parse_choice(text.format(letter), letters, lettered=False) == letters.index(letter)
