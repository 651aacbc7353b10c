"""Bad requests: each gets a clear message, the right status and the place of the mistake."""

from typing import Any

import pytest

from octavius.serve.app import CHAT
from tests.octavius.serve.conftest import Call, asking, data_url

PART = {"type": "text", "text": "a"}
BAD: dict[str, tuple[Any, str]] = {
    "no JSON": (b"{", "not valid JSON"),
    "no UTF-8": (b'{"a": "\xff"}', "not valid JSON in UTF-8"),
    "nested": (b"[" * 30000, "nested too deeply"),
    "NaN": (b'{"temperature": NaN}', "NaN is no JSON number"),
    "long number": (b'{"seed": ' + b"9" * 5000 + b"}", "not valid JSON"),
    "list": ([], "should be a JSON object, found list"),
    "empty": ({}, "messages is missing"),
    "unknown field": ({"messages": [asking("a")], "foo": 1}, "Unrecognized request argument supplied: foo"),
    "several": ({"messages": [asking("a")], "n": 2}, "n is not supported"),
    "tools": ({"messages": [asking("a")], "tools": [{}]}, "tools is not supported"),
    "no messages": ({"messages": []}, "at least one user message"),
    "no role": ({"messages": [{}]}, r"messages\[0\].role should be 'user'"),
    "system": ({"messages": [{"role": "system", "content": "a"}]}, "fixed system prompt"),
    "twice": ({"messages": [asking("a"), asking("a")]}, "take turns"),
    "assistant last": (
        {"messages": [asking("a"), {"role": "assistant", "content": "a"}]},
        "the last message should be the user's",
    ),
    "blank": ({"messages": [asking(" ")]}, "has no text"),
    "surrogate": (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "surrogate"),
    "audio": (
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        "should be one of text, image_url, cloud_url",
    ),
    "message field": ({"messages": [{**asking("a"), "x": 1}]}, "has the field 'x'"),
    "not a picture": ({"messages": [asking("a", b"MZ")]}, "image_url is not an image"),
    "bomb": (
        {"messages": [asking("a", b"P5 9000 9000 255\n")]},
        "image_url is not an image that can be read .it says 9000 x 9000",
    ),
    "not a cloud": ({"messages": [asking("a", None, b"MZ")]}, "cloud_url is no point cloud that can be read"),
    "two pictures, of which one is none": (
        {
            "messages": [
                asking("a", b"P5 1 1 255\n0"),
                {"role": "assistant", "content": "a"},
                asking("a", b"MZ"),
            ]
        },
        r"messages\[2\].*image_url is not an image",
    ),
    "many pictures": (
        {"messages": [{"role": "user", "content": [PART, *asking("a", b"MZ")["content"][1:] * 33]}]},
        "messages have 33 media, more than 32",
    ),
    "two pictures and a placeholder": (
        {
            "messages": [
                asking("a", b"MZ"),
                {"role": "assistant", "content": "a"},
                asking("an <image>?", b"MZ"),
            ]
        },
        r"messages\[2\].content holds <image>, which stands for a medium",
    ),
    "temperature": ({"messages": [asking("a")], "temperature": 3}, "temperature should be a number"),
    "bool": ({"messages": [asking("a")], "temperature": True}, "temperature should be a number"),
    "infinite": (b'{"messages": [{"role": "user", "content": "a"}], "top_p": 1e999}', "top_p should be"),
    "too many tokens": ({"messages": [asking("a")], "max_tokens": 51}, "at most 50"),
    "no tokens": ({"messages": [asking("a")], "max_completion_tokens": 0}, "at least 1"),
    "both": ({"messages": [asking("a")], "max_completion_tokens": 1, "max_tokens": 1}, "not both"),
    "stop": ({"messages": [asking("a")], "stop": [""]}, "stop should be"),
    "seed": ({"messages": [asking("a")], "seed": 1.5}, "seed should be a whole number"),
    "stream": ({"messages": [asking("a")], "stream": "yes"}, "stream should be true or false"),
    "options": ({"messages": [asking("a")], "stream_options": {"include_usage": True}}, "stream_options"),
    "experts": ({"messages": [asking("a")], "experts": [1, 0]}, "expected 3 weights"),
    "expert": ({"messages": [asking("a")], "experts": [1, 0, -1]}, "experts should be a number"),
    "words": ({"messages": [asking("word " * 3000)]}, "more than the 2,048 tokens"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_what_is_wrong(call: Call, name: str) -> None:
    body, words = BAD[name]
    found = call(body)
    assert found.status == 400
    with pytest.raises(ValueError, match=words):
        raise ValueError(found.error["message"])
    assert found.error["type"] == "invalid_request_error"
    assert "/tmp" not in found.error["message"]


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "http://127.0.0.1/a.png",
        "data:image/png,abc",
        "data:image/png;base64,a",
        "data:image/png;base64,",
        None,
    ],
)
@pytest.mark.parametrize("kind", ["image_url", "cloud_url"])
def test_only_data_urls_are_read(call: Call, url: str | None, kind: str) -> None:
    found = call({"messages": [{"role": "user", "content": [PART, {"type": kind, kind: {"url": url}}]}]})
    assert found.status == 400
    assert found.error["message"].startswith(f"messages[0].content[1].{kind}")


@pytest.mark.parametrize("box", ["some", [1, 2, 3], [0, 0, 0, 1, 1, -1], [0, 0, 0, 1, 1, True]])
def test_a_box_has_to_be_one(call: Call, cloud: bytes, box: Any) -> None:
    part = {"type": "cloud_url", "cloud_url": {"url": data_url(cloud), "box": box}}
    found = call({"messages": [{"role": "user", "content": [PART, part]}]})
    assert (found.status, "cloud_url.box should be" in found.error["message"]) == (400, True)


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"body": {"messages": [asking("a")], "model": "gpt-4"}}, 404, "model_not_found"),
        ({"path": "/v1/models/gpt-4", "method": "GET"}, 404, "model_not_found"),
        ({"path": "/v1/embeddings"}, 404, None),
        ({"path": CHAT, "method": "GET"}, 405, None),
        ({"body": {"messages": [asking("a")]}, "headers": {"content-type": "text/plain"}}, 415, None),
    ],
)
def test_other_mistakes_have_their_own_status(
    call: Call, request_: dict[str, Any], status: int, code: str | None
) -> None:
    found = call(**request_)
    assert (found.status, found.error["code"]) == (status, code)
