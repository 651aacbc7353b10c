"""Items of a conversation are read whole or refused: no medium is dropped silently."""

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.benchmarks import conversations
from datamodules.benchmarks.base import BadItemError, BlemishError, LeftOutWarning
from datamodules.benchmarks.dialogues import refuse_placeholders, refuse_unknown, turns_of


def talk(*texts: str) -> list[dict[str, Any]]:
    return [{"from": ("human", "gpt")[index % 2], "value": text} for index, text in enumerate(texts)]


def item(*texts: str, **more: Any) -> dict[str, Any]:
    return {"id": "7", "image": "1.jpg", "conversations": talk(*texts), **more}


def read(root: Path, *items: dict[str, Any]) -> list[str]:
    (root / "train.json").write_text(json.dumps(items))
    return [sample.question for sample in conversations.read(root, "train")]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("video", "a.mp4"),
        ("videos", ["a.mp4"]),
        ("audio", "a.wav"),
        ("images", ["1.jpg", "2.jpg"]),
        ("image2", "2.jpg"),
        ("imagePath", "somewhere"),
        ("video_id", 7),
        ("point_cloud", [[0, 0, 0]]),
        ("pcl", "x"),
        ("depth", "d"),
        ("source", "train/clip.mp4"),
        ("files", [{"path": "a.png"}]),
        ("vid", "x"),
        ("url", "https://x/a.mp4?t=1"),
        ("attachments", [{"file": {"path": "x.png"}}]),
        ("System", "You are a pirate."),
        ("system", "You are a pirate."),
        ("tools", [{"name": "search"}]),
        ("system_prompt", "You are a pirate."),
        ("System-Prompt", "You are a pirate."),
        ("instruction", "Answer in French."),
        ("input", "a text"),
        ("context", "a text"),
        ("pic", "x"),
        ("pic_url", "x"),
        ("screenshot", "x"),
        ("features", [1.0]),
        ("extra", {"a": {"b": "x.avif"}}),
        ("content", [{"type": "image_url", "image_url": "x"}]),
    ],
)
def test_a_key_that_brings_what_is_not_read_refuses_the_item(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"item 0 \(id '7'\): the key '{key}' .* brings what is not read"):
        read(tmp_path, item("What?", "A dog.", **{key: value}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", ""),
        ("src_image", "coco2017"),
        ("video", None),
        ("images", []),
        ("width", 640),
        ("source", "coco"),
    ],
)
def test_remarks_are_passed_over(tmp_path: Path, key: str, value: object) -> None:
    assert read(tmp_path, item("What?", "A dog.", **{key: value})) == ["What?"]


def test_a_remark_may_be_nested_as_deep_as_json_is(tmp_path: Path) -> None:
    deep = "[" * 700 + "]" * 700
    text = json.dumps([item("What?", "A dog.", remark="DEEP")]).replace('"DEEP"', deep)
    (tmp_path / "train.json").write_text(text)
    assert [sample.question for sample in conversations.read(tmp_path, "train")] == ["What?"]


@pytest.mark.parametrize(
    "shown",
    [
        "<video>",
        "<Video_1>",
        "<|audio|>",
        "<audio_pad>",
        "<point>",
        "<pointcloud>",
        "<point_cloud>",
        "<ImageHere>",
        "<image_placeholder>",
        "<|vision_start|>",
        "</Img>",
        "<im_patch>",
        "[IMG]",
        "<image1>",
        "<image>",
        "<speech>",
        "<images>",
        "<video_frames>",
        "<depth_map>",
        "<AudioClip>",
        "<image/>",
        "&lt;image&gt;",
        "{image}",
        "![](a.jpg)",
        "![a dog](https://x/a)",
        "<img src='a.jpg'>",
        "<tactile>",
        "<screenshot>",
    ],
)
@pytest.mark.parametrize("turn", ["question", "answer"])
def test_a_placeholder_of_another_medium_is_not_trained_on_as_a_word(
    tmp_path: Path, shown: str, turn: str
) -> None:
    texts = [f"What is {shown} here?", "A dog."] if turn == "question" else ["What?", f"{shown} A dog."]
    with pytest.raises(ValueError, match=r"item 0 .*(shows|expected) <?"):
        read(tmp_path, item(*texts))
    text_only = {"conversations": talk(*texts)}
    (tmp_path / "train.json").write_text(json.dumps([text_only, item("What?", "A cat.")]))
    with pytest.warns(LeftOutWarning, match="1 item with a blemish .*the place-holder of a medium"):
        samples = conversations.read(tmp_path, "train")
    assert [sample.question for sample in samples] == ["What?"]


@pytest.mark.parametrize(
    "said",
    [
        "Use `<video>` for films.",
        "```html\n<video>\n<img>\n```",
        "```\n<audio>",
        "List<Image> of pictures",
        "a < image > b",
        "<b>bold</b> <html>",
        "the point is <3",
        "[image] of a dog",
        "<points per game>",
    ],
)
def test_talk_of_programs_is_text(said: str) -> None:
    refuse_placeholders(said, "it", has_media=True)


def test_the_placeholder_of_the_image_stands_once() -> None:
    for texts, message in (
        (["<image>\nA?", "b", "<image>\nC?", "d"], "<image> stands 2 times"),
        (["<image>\n<image>\nA?", "b"], "<image> stands 2 times"),
        (["A <image> b?", "c"], "expected <image> at an end"),
    ):
        with pytest.raises(BadItemError, match=message):
            conversations._samples(0, item(*texts), conversations.DataFolder(Path("/tmp")))


def test_a_conversation_that_begins_with_an_answer_is_a_known_blemish() -> None:
    with pytest.raises(BlemishError, match="begins with an answer"):
        turns_of([{"from": "gpt", "value": "Hello."}, *talk("a", "b")])


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([{"from": "system", "value": "Be kind."}, *talk("a", "b")], r"conversations\[0\] .*found 'system'"),
        (
            [*talk("a"), {"from": "function_call", "value": "{}"}],
            r"conversations\[1\] .*found 'function_call'",
        ),
        (
            [*talk("a", "b"), {"from": "observation", "value": "c"}],
            r"conversations\[2\] .*found 'observation'",
        ),
        ([*talk("a", "b"), *talk("c", "d")[::-1]], r"conversations\[2\] should be from 'human', found 'gpt'"),
        ([{"from": "user", "value": "a"}], "found 'user'"),
        ([{"role": "user", "content": "a"}], "expected 'from'"),
        ([{"from": "human", "value": "a", "video": "a.mp4"}, *talk("", "b")[1:]], "the key 'video'"),
        ([*talk("a"), {"from": "gpt", "value": "b", "tool_calls": [{"id": 1}]}], "the key 'tool_calls'"),
        ([{"from": "human", "value": ["a"]}], "'value' should be a string"),
        ([{"from": None, "value": "a"}], "'from' should be a string, found None"),
        (["a", "b"], "expected an object with the key 'from'"),
        ([{"from": "human", "value": "\ud800"}, *talk("", "b")[1:]], "half of a surrogate pair"),
    ],
)
def test_turns_that_are_not_read(turns: list[Any], message: str) -> None:
    with pytest.raises(BadItemError, match=message):
        turns_of(turns)


@pytest.mark.parametrize(
    "mask", [{"loss": 0}, {"loss": False}, {"weight": 0}, {"loss_mask": False}, {"train": False}]
)
def test_an_answer_that_is_not_to_be_trained_is_refused(mask: dict[str, Any]) -> None:
    question, answer = talk("What?", "A dog.")
    with pytest.raises(BadItemError, match=r"conversations\[1\] has .*: (0|False); every answer is trained"):
        turns_of([question, {**answer, **mask}])
    assert turns_of([question, {**answer, **dict.fromkeys(mask, 1)}]) == [("What?", "A dog.")]


def test_scenes_lead_to_clouds_themselves() -> None:
    refuse_unknown({"scene_id": "scene0000_00", "pcl": "x", "point_cloud": "y"}, ("scene_id",), clouds=True)
    with pytest.raises(BadItemError, match="the key 'video'"):
        refuse_unknown({"video": "x"}, ("scene_id",), clouds=True)


@pytest.mark.parametrize(
    ("value", "fine"), [(1, True), ("1", True), (None, True), (True, False), ([1], False), (1.5, False)]
)
def test_ids_of_mixed_kinds(tmp_path: Path, value: object, fine: bool) -> None:
    if fine:
        read(tmp_path, item("a", "b", id=value))
    else:
        with pytest.raises(ValueError, match="'id' should be a whole number or a string"):
            read(tmp_path, item("a", "b", id=value))
