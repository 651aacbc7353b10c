"""YAML beyond what configurations need is refused with a message, quickly, and without much memory."""

import os
import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from octavius.configuration.text import BYTES, DEPTH, NODES, load, read_config
from octavius.presets import find_config

SHIPPED = sorted((Path(__file__).resolve().parents[3] / "configs").rglob("*.yaml"))

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
MERGED = "a0: &a0 {k: [x, x]}\n" + "".join(
    f"a{n}: &a{n} {{k: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60)
)

REFUSED = [
    ("model: &a {b: *a}", "the alias \\*a is part of what it stands for"),
    ("model: &a [1, [2, *a]]", "part of what it stands for"),
    ("&a {<<: *a}", "part of what it stands for"),
    (LAUGHS, "at most 20,000 keys and values"),
    (MERGED, "at most 20,000 keys and values"),
    ("a: " + "[" * 100_000, "deeper than 50 levels"),
    ("a: " + "{b: " * 100_000, "deeper than 50 levels"),
    ("a: [" + "1," * 300_000 + "]", "at most 20,000 keys and values"),
    ("x" * (BYTES + 1), "at most 1,048,576"),
    ("a: " + "9" * 350, "a number of 350 digits"),
    ("a: -" + "9" * 5000, "a number of 5001 digits"),
    ("a: 0x" + "f" * 5000, "a number of 5002 digits"),
    ("a: 1" + "0" * 350 + ".5", "a number of 353 digits"),
    ("lr: 1\nlr: 2", "line 2: the key 'lr' is there twice"),
    ("a: {b: 1, c: 2, 'b': 3}", "the key 'b' is there twice"),
    ("a:\n- b: 1\n  c: 2\n  b: 3", "line 4: the key 'b' is there twice"),
    ("1: a", "a key should be text, found 1"),
    ("yes: a", "a key should be text, found True"),
    ("a: {~: b}", "a key should be text, found None"),
    ("1:", "a key should be text"),
    ("? [a]\n: 1", "a key should be text"),
    ("{{a: 1}: 1}", "a key should be text"),
    (
        "!!python/object/apply:os.system [ls]",
        "the tag tag:yaml.org,2002:python/object/apply:os.system means nothing",
    ),
    ("a: !!python/name:os.system ''", "means nothing"),
    ("a: !!binary aGk=", "means nothing"),
    ("a: !!set {b}", "means nothing"),
    ("a: !!timestamp b", "means nothing"),
    ("a: !!bool b", "means nothing"),
    ("a: !mine b", "means nothing"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED, ids=[said[:30] for _, said in REFUSED])
def test_what_no_configuration_means_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1e-3", {"a": 1e-3}),
        ("a: 2020-01-01", {"a": "2020-01-01"}),
        ("a: &b [1, 2]\nc: *b\nd: *b", {"a": [1, 2], "c": [1, 2], "d": [1, 2]}),
        ("a: &b {x: 1, y: 1}\nc: {<<: *b, x: 2}", {"a": {"x": 1, "y": 1}, "c": {"x": 2, "y": 1}}),
        ("a: [{b: 1}, {b: 2}]", {"a": [{"b": 1}, {"b": 2}]}),
        ("a: '" + "9" * 350 + "'", {"a": "9" * 350}),
        ("a: !!str 1", {"a": "1"}),
        ("'1': {'yes': 2}", {"1": {"yes": 2}}),
        ("a: null", {"a": None}),
        ("", None),
    ],
)
def test_what_people_write_is_read(text: str, value: Any) -> None:
    assert load(text) == value


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_configuration_is_far_below_the_limits(path: Path) -> None:
    text = path.read_text()
    assert len(text) < BYTES / 20
    assert read_config(path) == load(text)
    assert sum(isinstance(event, yaml.NodeEvent) for event in yaml.parse(text)) < NODES / 10


FILES = [
    (b"", "should hold keys and their values, such as `model:`, found nothing"),
    (b"# nothing\n", "found nothing"),
    (b"[1, 2]", "should hold keys and their values"),
    (b"model", "should hold keys and their values"),
    (b"model: \xff\xfe", "is not text in UTF-8"),
    ("model: {}".encode("utf-16"), "is not text in UTF-8"),
    (b"model: a\0b", "is not YAML text: unacceptable character #x0000"),
    (
        b"model:\n\tlr: 1",
        "is not valid YAML at line 2, column 1: found character that cannot start any token",
    ),
    (b"model: {lr: 1", "is not valid YAML at line 2, column 1: did not find expected"),
    (b"a: 1\n---\nb: 2", "is not valid YAML"),
    (b"a: *unknown", "is not valid YAML"),
    (b'a: "\\ud800"', "is not valid YAML"),
    (b"lr: 1\nlr: 2", "bad.yaml: line 2: the key 'lr' is there twice"),
]


@pytest.mark.parametrize(("content", "said"), FILES, ids=[said[:40] for _, said in FILES])
def test_a_bad_file_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        read_config(path)
    assert str(path) in str(error.value)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbfmodel: a\r\ndata: b\r\n")
    assert read_config(path) == {"model": "a", "data": "b"}


def test_a_file_of_100_megabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(100 * 2**20)
    with pytest.raises(ValueError, match="has 104,857,600 bytes, a configuration at most 1,048,576"):
        read_config(path)


def test_nothing_waits_for_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.yaml")
    with pytest.raises(ValueError, match=r"pipe\.yaml is not a regular file"):
        read_config(Path("pipe.yaml"))
    with pytest.raises(ValueError, match="no configuration named"):
        find_config("pipe.yaml")


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a regular file"):
        read_config(tmp_path)


@given(st.text(alphabet=st.sampled_from("{}[]:,-&*a1 \n\t'\"!|>?#<%@~"), max_size=80))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    try:
        load(text)
    except (ValueError, yaml.YAMLError):
        return


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(string.printable.strip(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(string.ascii_letters, min_size=1, max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text(string.ascii_letters, min_size=1), plain, min_size=2, max_size=4))
def test_what_was_dumped_is_read_again(content: dict[str, Any]) -> None:
    assert load(yaml.safe_dump(content)) == content


def test_nesting_up_to_the_limit_is_read() -> None:
    value = load("a: " + "[" * (DEPTH - 1) + "]" * (DEPTH - 1))
    for _ in range(DEPTH - 2):
        value = value["a"] if isinstance(value, dict) else value[0]
    assert value == [[]]
