"""Message lists with images, in the forms of other trainers."""

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.benchmarks import read
from octavius.instruction.sample import References, Sample

SHARE_GPT = {"user": ("from", "human", "value"), "assistant": ("from", "gpt", "value")}


def talk(*texts: Any, share_gpt: bool = False) -> list[dict[str, Any]]:
    turns = [("user", "assistant")[index % 2] for index in range(len(texts))]
    keys = SHARE_GPT if share_gpt else {name: ("role", name, "content") for name in ("user", "assistant")}
    return [
        {keys[role][0]: keys[role][1], keys[role][2]: text} for role, text in zip(turns, texts, strict=True)
    ]


def samples(root: Path, *records: Any, lines: bool = False, bad: Any = "error") -> list[Sample]:
    text = "\n".join(map(json.dumps, records)) if lines else json.dumps(records)
    (root / f"train.json{'l' if lines else ''}").write_text(text)
    return read("messages", root, "train", bad)


def paths(root: Path, sample: Sample) -> list[str]:
    assert all(name == "image" for name, _ in sample.all_media)
    return [str(item.path.relative_to(root)) for _, item in sample.all_media if item.path is not None]


TWO = ("<image><image>Which is larger?", "The first.", "And <image> or <image>?", "Neither.")
NAMES = ["a.jpg", "b/c.png", "a.jpg", "d.jpg"]


@pytest.mark.parametrize("lines", [True, False])
@pytest.mark.parametrize("share_gpt", [True, False])
@pytest.mark.parametrize("key", ["images", "image"])
def test_images_stand_at_their_placeholders(tmp_path: Path, lines: bool, share_gpt: bool, key: str) -> None:
    (tmp_path / "b").mkdir()
    record = {("messages", "conversations")[share_gpt]: talk(*TWO, share_gpt=share_gpt), key: NAMES}
    first, second = samples(tmp_path, record, lines=lines)
    assert (first.question, first.history, first.gold) == (TWO[0], (), References(("The first.",)))
    assert paths(tmp_path, first) == NAMES[:2]
    assert (second.question, second.history) == (TWO[2], ((TWO[0], TWO[1]),))
    assert paths(tmp_path, second) == NAMES
    assert {sample.task for sample in (first, second)} == {"conversation"}
    assert len({sample.id for sample in (first, second)}) == 2


@pytest.mark.parametrize("question", ["<image>\nWhat is it?", "What is it?"])
@pytest.mark.parametrize("images", ["a.jpg", ["a.jpg"], [{"path": "a.jpg"}]])
def test_one_image_in_front_is_that_of_the_sample(tmp_path: Path, question: str, images: object) -> None:
    [first, second] = samples(
        tmp_path, {"messages": talk(question, "A dog.", "Sure?", "Yes."), "images": images}
    )
    assert (first.question, first.placed, paths(tmp_path, first)) == ("What is it?", (), ["a.jpg"])
    assert (second.history, paths(tmp_path, second)) == ((("What is it?", "A dog."),), ["a.jpg"])


def test_images_without_placeholders_stand_in_front(tmp_path: Path) -> None:
    [sample] = samples(tmp_path, {"messages": talk("Which?", "Both."), "images": ["a.jpg", "d.jpg"]})
    assert sample.question == "<image><image>Which?"
    assert paths(tmp_path, sample) == ["a.jpg", "d.jpg"]


@pytest.mark.parametrize("named", [False, True])
def test_content_parts(tmp_path: Path, named: bool) -> None:
    shown: dict[str, Any] = {"type": "image"} if named else {"type": "image", "image": "a.jpg"}
    other = {"type": "image"} if named else {"type": "image_url", "image_url": {"url": "d.jpg"}}
    parts = [{"type": "text", "text": "Is "}, shown, {"type": "text", "text": " like "}, other]
    record = {"messages": talk(parts, "No."), **({"images": ["a.jpg", "d.jpg"]} if named else {})}
    [sample] = samples(tmp_path, record)
    assert (sample.question, paths(tmp_path, sample)) == ("Is <image> like <image>", ["a.jpg", "d.jpg"])


def test_text_alone_and_paths_into_the_folder(tmp_path: Path) -> None:
    code = "What does `<image>` mean?"
    inside = str(tmp_path / "a.jpg")
    first, second = samples(
        tmp_path,
        {"messages": talk(code, "A tag.")},
        {"messages": talk("What?", "A dog."), "images": [inside]},
    )
    assert (first.question, first.all_media) == (code, [])
    assert paths(tmp_path, second) == ["a.jpg"]


ONE = {"images": ["a.jpg"]}
BAD: dict[str, tuple[Any, str]] = {
    "fewer images": (
        {"messages": talk(TWO[0], "b"), **ONE},
        "show <image> 2 times, and the record has 1 images",
    ),
    "more images": (
        {"messages": talk("<image>a", "b"), "images": ["a.jpg", "d.jpg"]},
        "1 times, .* has 2 images",
    ),
    "an image in an answer": ({"messages": talk("<image>a", "`<image>`"), **ONE}, "an answer shows <image>"),
    "no words": ({"messages": talk("<image>", "b"), **ONE}, "question of turn 0 has no words"),
    "a video": ({"messages": talk("<video>a", "b"), **ONE}, "shows <video>"),
    "videos": ({"messages": talk("a", "b"), "videos": ["a.mp4"]}, "the key 'videos'"),
    "objects": ({"messages": talk("a", "b"), "objects": {"bbox": [[1, 2, 3, 4]]}}, "'objects' holds boxes"),
    "a box": ({"messages": talk("<image>a <bbox>", "b"), **ONE}, "shows <bbox>"),
    "a system prompt": (
        {"messages": [{"role": "system", "content": "Be kind."}, *talk("a", "b")]},
        r"messages\[0\] should be from the user, found 'system'",
    ),
    "a system key": ({"conversations": talk("a", "b"), "system": "Be kind."}, "the key 'system'"),
    "no answer": ({"messages": talk("a")}, "pairs of a question and an answer, found 1"),
    "an empty answer": ({"messages": talk("a", " ")}, r"the answer messages\[1\] is empty"),
    "masked": ({"messages": [*talk("a"), {**talk("a", "b")[1], "loss": False}]}, "has loss: False"),
    "neither": ({"text": "a"}, "expected either 'messages' or 'conversations'"),
    "twice": ({"messages": talk("a", "b"), "image": "a.jpg", **ONE}, "both name images"),
    "an address": ({"messages": talk("a", "b"), "images": ["https://x/a.jpg"]}, "is no file; download it"),
    "outside": ({"messages": talk("a", "b"), "images": ["../a.jpg"]}, "leads out of the data folder"),
    "elsewhere": ({"messages": talk("a", "b"), "images": ["/etc/a.jpg"]}, "leads out of the data folder"),
    "a number": ({"messages": talk("a", "b"), "images": [3]}, "an image should be a string, found 3"),
    "bytes": (
        {"messages": talk("a", "b"), "images": [{"bytes": "x"}]},
        "an image should be a string, found None",
    ),
    "another part": ({"messages": talk([{"type": "video", "video": "x"}], "b")}, "is of the type 'video'"),
    "both": (
        {"messages": talk([{"type": "image", "image": "a.jpg"}, {"type": "text", "text": "a"}], "b"), **ONE},
        "both in the record and in the content",
    ),
    "mixed": (
        {"messages": talk([{"type": "image"}, {"type": "text", "text": "<image>"}], "b"), **ONE},
        "beside parts",
    ),
    "a text": ("text", "expected an object with messages and images"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("lines", [True, False])
def test_bad_records_are_named(tmp_path: Path, case: str, lines: bool) -> None:
    bad, message = BAD[case]
    good = {"messages": talk("a", "b")}
    with pytest.raises(ValueError, match=message) as caught:
        samples(tmp_path, bad, good, lines=lines)
    assert f"train.json{'l, line 1:' if lines else ', item 0 (id'}" in str(caught.value)
    with pytest.warns(UserWarning, match="1 bad item left out"):
        assert len(samples(tmp_path, bad, good, lines=lines, bad="skip")) == 1


def test_a_line_that_is_cut_short_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"messages": [')
    with pytest.raises(ValueError, match=r"train\.jsonl, line 1: it is not JSON"):
        read("messages", tmp_path, "train")
