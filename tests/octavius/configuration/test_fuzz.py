"""Randomly changed and hostile configurations are read or refused with a message, quickly."""

import copy
import os
import resource
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavius.cli.arguments import resolve
from octavius.cli.reporting import USER_ERRORS
from octavius.configuration.parser import LightningParser
from octavius.configuration.rules import merging_rules
from tests.tiny import refused
from tests.tiny import settings as tiny_settings

SMALL = tiny_settings(Path("models"), Path("data"))
SMALL["trainer"]["callbacks"] = [{"class_path": "EarlyStopping", "init_args": {"monitor": "m"}}]
SMALL["trainer"]["logger"] = {"class_path": "CSVLogger", "init_args": {"save_dir": "s"}}
BYTES = "\x00\ud800\ufeff\u202e\n\t{}[]&*!%@`|>'\"#:,-?~ a1.eE_/\\+="

WORDS = [
    "os.system",
    "a.b.C",
    "-",
    "/dev/stdin",
    "http://a/b",
    "${a}",
    "Decoder",
    "ImageEncoder",
    "[",
    "{a: 1}",
]
KEYS = ["class_path", "init_args", "dict_kwargs", "a", "name", "+", "a.b", ""]
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**350, -(10**20), 0, 1])
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to all values of a configuration."""
    inner = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    return [path, *(found for key, part in inner for found in places(part, (*path, key)))]


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at a path."""
    if not path:
        return value
    whole = copy.deepcopy(content)
    part = whole
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return whole


def parsed(parser: LightningParser, text: str) -> None:
    """Reads a text as `--config FILE` does; anything but a refusal in words is raised."""
    Path("fuzz.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    parser.untrusted = None
    try:
        words = resolve(["--config", "fuzz.yaml"])
        with merging_rules():
            parser.parse_args(words.resolved)
    except USER_ERRORS:
        return


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


quick = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
long = settings(max_examples=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check_value(parser: LightningParser, path: tuple[Any, ...], value: Any) -> None:
    parsed(parser, yaml.dump(changed(SMALL, path, value), allow_unicode=True))


def check_text(parser: LightningParser, at: int, cut: int, inserted: str) -> None:
    text = yaml.safe_dump(SMALL)
    at %= len(text)
    parsed(parser, text[:at] + inserted + text[at + cut :])


@pytest.mark.usefixtures("here")
@quick
@given(path=st.sampled_from(places(SMALL)), value=anything)
def test_any_value_anywhere_is_read_or_refused(
    parser: LightningParser, path: tuple[Any, ...], value: Any
) -> None:
    check_value(parser, path, value)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@long
@given(path=st.sampled_from(places(SMALL)), value=anything)
def test_any_of_many_values_anywhere_is_read_or_refused(
    parser: LightningParser, path: tuple[Any, ...], value: Any
) -> None:
    check_value(parser, path, value)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@long
@given(at=st.integers(0, 10**4), cut=st.integers(0, 20), inserted=st.text(st.sampled_from(BYTES), max_size=5))
def test_any_damaged_text_is_read_or_refused(
    parser: LightningParser, at: int, cut: int, inserted: str
) -> None:
    check_text(parser, at, cut, inserted)


HEAVY = {
    "numbers": "trainer: {devices: [" + "0," * 9000 + "]}",
    "texts": "model: {init_args: {lora: {targets: [" + "a," * 9000 + "]}}}",
    "sources": "data: {class_path: ImageInstructions, init_args: {root: r, test: ["
    + "{benchmark: cifar10, split: test, name: a}," * 500
    + "]}}",
    "many keys": "model: {" + "".join(f"k{number}: 1," for number in range(9000)) + "}",
    "one long text": "model: " + "a" * 900_000,
    "text in text": "model: '" + "[" * 40_000 + "'",
    "aliases in text": "data: '{a: &a [x, x], b: &b [*a, *a], c: &c [*b, *b], d: [*c, *c]}'",
    "aliases in a number": "trainer: {max_epochs: '&a [*a]'}",
    "deep": "model: " + "{a: " * 40 + "1" + "}" * 40,
}


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("text", HEAVY.values(), ids=HEAVY.keys())
def test_heavy_ones_take_neither_long_nor_much_memory(text: str, parser: LightningParser) -> None:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    parsed(parser, text)
    assert time.process_time() - start < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * 2**20  # kB


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["pipe", "folder", "-", "/dev/zero", "http://localhost/a.yaml", "a\0b"])
@pytest.mark.parametrize(
    "command", [["fit", "--config"], ["predict", "--config"], ["fit", "--trainer"]], ids=str
)
def test_what_is_no_file_is_refused_and_nothing_waits(
    command: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo("pipe")
    Path("folder").mkdir()
    assert refused([*command, name], capsys)


@pytest.mark.usefixtures("here")
def test_an_attached_short_option_is_looked_at_too(capsys: pytest.CaptureFixture[str]) -> None:
    Path("twice.yaml").write_text("model: a\nmodel: b\n")
    os.mkfifo("pipe")
    assert "there twice" in refused(["fit", "-ctwice.yaml"], capsys)
    assert refused(["fit", "-cpipe"], capsys)
