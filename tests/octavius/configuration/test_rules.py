"""Merging of several sources of a setting: later ones win, and nothing of another list or class is left over."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonargparse import ActionConfigFile, ArgumentError, Namespace

from octavius.cli.lightning_cli import ConfigOnlyCLI, parse
from octavius.configuration.parser import Parser
from octavius.configuration.rules import merging_rules, same_class


@dataclass
class Item:
    """An entry of a list."""

    name: str
    folder: str = "."
    limit: int | None = None


class Base:
    """What is chosen by its class."""


class One(Base):
    """A choice; `width` means something else to `Two`."""

    def __init__(self, width: int = 1, depth: int = 1, items: list[Item] | None = None) -> None:
        self.width, self.depth, self.items = width, depth, items


class Two(Base):
    """Another choice."""

    def __init__(self, width: int = 2, **more: Any) -> None:
        self.width, self.more = width, more


def parser() -> Parser:
    made = Parser(exit_on_error=False)
    made.add_argument("--config", action=ActionConfigFile)
    made.add_argument("--items", type=list[Item] | None)
    made.add_argument("--nested", type=list[list[Item]] | None)
    made.add_argument("--sets", type=dict[str, list[Item]] | None)
    made.add_argument("--one", type=Base | None)
    made.add_argument("--many", type=Base | list[Base] | None, default={"class_path": f"{__name__}.One"})
    made.add_argument("--named", type=dict[str, Base] | None)
    made.add_argument("--numbers", type=tuple[float, float] | None)
    made.add_argument("--rate", type=float, default=1.0)
    made.add_argument("--count", type=int, default=1)
    made.add_argument("--words", type=str)
    return made


def told(*sources: dict[str, Any] | str, folder: Path) -> Any:
    """The configuration of files (mappings) and words (texts), in their order."""
    words: list[str] = []
    for index, source in enumerate(sources):
        if isinstance(source, str):
            words.append(source)
        else:
            (folder / f"{index}.yaml").write_text(yaml.safe_dump(source))
            words += ["--config", str(folder / f"{index}.yaml")]
    with merging_rules():
        return parser().parse_args(words)


def plain(value: Any) -> Any:
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value.as_dict() if isinstance(value, Namespace) else value


FULL = [{"name": "a", "folder": "x", "limit": 1}, {"name": "b", "folder": "y", "limit": 2}]
LATER = [{"name": "c"}, {"name": "d"}]
FRESH = [{"name": name, "folder": ".", "limit": None} for name in "cd"]
ONE, TWO = f"{__name__}.One", f"{__name__}.Two"


@pytest.mark.parametrize("length", [0, 1, 2, 3])
@pytest.mark.parametrize("way", ["file", "words", "dotted"])
def test_a_later_list_replaces_an_earlier_one_whatever_its_length(
    length: int, way: str, tmp_path: Path
) -> None:
    later = [{"name": name} for name in "cde"[:length]]
    fresh = [{"name": name, "folder": ".", "limit": None} for name in "cde"[:length]]
    first = {"items": FULL, "one": {"class_path": ONE, "init_args": {"items": FULL, "depth": 5}}}
    second: tuple[Any, ...] = {
        "file": ({"items": later, "one": {"init_args": {"items": later}}},),
        "words": (f"--items={later}", f"--one.items={later}"),
        "dotted": ({"items": later, "one.init_args.items": later},),
    }[way]
    found = told(first, *second, folder=tmp_path)
    assert plain(found["items"]) == fresh
    assert plain(found.one.init_args["items"]) == fresh
    assert found.one.init_args.depth == 5


def test_lists_in_lists_and_in_mappings_are_replaced_too(tmp_path: Path) -> None:
    first = {"nested": [FULL], "sets": {"s": FULL, "t": FULL}}
    found = told(first, {"nested": [LATER], "sets": {"s": LATER}}, folder=tmp_path)
    assert [[item.init_args.as_dict() for item in row] for row in found.nested] == [FRESH]
    assert plain(found.sets) == {"s": FRESH}


def test_a_list_that_is_written_as_text_is_a_list(tmp_path: Path) -> None:
    found = told({"items": FULL}, {"items": str(LATER)}, folder=tmp_path)
    assert plain(found["items"]) == FRESH


def test_a_list_over_one_value_and_one_value_over_a_list_inherit_nothing(tmp_path: Path) -> None:
    single = {"class_path": ONE, "init_args": {"width": 7, "depth": 8}}
    several = [{"class_path": ONE, "init_args": {"width": 9}}]
    found = told({"many": single}, {"many": several}, folder=tmp_path)
    assert [(one.init_args.width, one.init_args.depth) for one in found.many] == [(9, 1)]
    found = told({"many": [single]}, {"many": several[0]}, folder=tmp_path)
    assert (found.many.init_args.width, found.many.init_args.depth) == (9, 1)


def test_plus_appends_and_a_key_below_a_list_means_its_last_item(tmp_path: Path) -> None:
    first = {"many": [{"class_path": ONE, "init_args": {"width": 7}}], "items": FULL}
    found = told(
        first,
        {"many+": {"class_path": TWO, "init_args": {"width": 3}}, "items+": LATER},
        f"--many+={ONE}",
        "--many.init_args.depth=4",
        "--items+={name: e}",
        folder=tmp_path,
    )
    assert [(one.class_path, one.init_args.width) for one in found.many] == [(ONE, 7), (TWO, 3), (ONE, 1)]
    assert found.many[2].init_args.depth == 4
    assert plain(found["items"]) == [*FULL, *FRESH, {"name": "e", "folder": ".", "limit": None}]


@pytest.mark.parametrize("way", ["file", "words"])
def test_another_class_begins_with_its_own_defaults(way: str, tmp_path: Path) -> None:
    first = {
        "one": {"class_path": TWO, "init_args": {"width": 7}, "dict_kwargs": {"extra": 1}},
        "named": {"a": {"class_path": ONE, "init_args": {"width": 7}}},
        "many": {"class_path": ONE, "init_args": {"width": 7}},
    }
    named = {"a": {"class_path": TWO}}
    second: tuple[Any, ...] = (
        ({"one": {"class_path": ONE}, "named": named, "many": TWO},)
        if way == "file"
        else (f"--one={ONE}", f"--named={named}", f"--many={TWO}")
    )
    found = told(first, *second, folder=tmp_path)
    assert plain(found.one) == {"class_path": ONE, "init_args": {"width": 1, "depth": 1, "items": None}}
    assert plain(found.named) == {"a": {"class_path": TWO, "init_args": {"width": 2}}}
    assert plain(found.many) == {"class_path": TWO, "init_args": {"width": 2}}


def test_the_same_class_keeps_what_is_not_set_again_under_any_of_its_names(tmp_path: Path) -> None:
    first = {"one": {"class_path": ONE, "init_args": {"width": 7, "depth": 5}}}
    for name in ("One", ONE):
        later = {"one": {"class_path": name, "init_args": {"depth": 6}}}
        assert told(first, later, folder=tmp_path).one.init_args.width == 7
    assert same_class("octavius.training.OctaviusModule", "octavius.cli.main.OctaviusModule")
    assert not same_class("not_imported.A", "not_imported.B")


def test_a_later_mapping_of_names_replaces_the_earlier_one_and_a_dotted_key_adds_to_it(
    tmp_path: Path,
) -> None:
    first = {"named": {"a": {"class_path": ONE, "init_args": {"width": 7}}}}
    found = told(first, {"named": {"b": {"class_path": ONE}}}, folder=tmp_path)
    assert list(found.named) == ["b"]
    found = told(first, f"--named.b={ONE}", "--named.a.init_args.depth=3", folder=tmp_path)
    assert {key: (one.init_args.width, one.init_args.depth) for key, one in found.named.items()} == {
        "a": (7, 3),
        "b": (1, 1),
    }


def test_null_takes_a_value_away_and_what_follows_begins_anew(tmp_path: Path) -> None:
    first = {
        "one": {"class_path": ONE, "init_args": {"width": 7}},
        "items": FULL,
        "named": {"a": {"class_path": ONE}},
    }
    gone = {"one": None, "items": None, "named": None}
    found = told(first, gone, folder=tmp_path)
    assert (found.one, found["items"], found.named) == (None, None, None)
    found = told(first, gone, {"one": {"class_path": ONE}, "items": LATER}, folder=tmp_path)
    assert (found.one.init_args.width, plain(found["items"])) == (1, FRESH)


names = st.text("abc", min_size=1, max_size=3)
items = st.lists(
    st.fixed_dictionaries(
        {"name": names}, optional={"folder": names, "limit": st.integers(1, 9) | st.none()}
    ),
    max_size=4,
)


@given(st.lists(items, min_size=1, max_size=4))
def test_of_any_sequence_of_lists_the_last_one_counts(sources: list[list[dict[str, Any]]]) -> None:
    words = [f"--items={yaml.safe_dump(source, default_flow_style=True)}" for source in sources]
    with merging_rules():
        found = parser().parse_args(words)
    assert plain(found["items"]) == [{"folder": ".", "limit": None, **item} for item in sources[-1]]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--rate=.nan", "finite"),
        ("--rate=.inf", "finite"),
        ("--rate=-.inf", "finite"),
        ("--rate=1e999", "finite"),
        ("--rate=" + "9" * 350, "out of range|finite"),
        ("--rate=true", "float"),
        ("--count=true", "int"),
        ("--count=1.0", "int"),
        ("--count=" + "9" * 350, "2\\^63"),
        ("--count=" + "9" * 5000, "digits|int"),
        ("--count=.inf", "int"),
        ("--numbers=[.nan, 1]", "finite"),
        ("--items={name: a, name: b}", "there twice"),
        ("--items=&a [*a]", "part of what it stands for"),
        ("--count=&a [*a]", "part of what it stands for"),
        ("--items=" + "[" * 5000, "deeper than"),
    ],
    ids=lambda text: text[:24],
)
def test_a_value_that_means_nothing_is_refused(word: str, said: str) -> None:
    with merging_rules(), pytest.raises((ValueError, ArgumentError), match=said):
        parser().parse_args([word])


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "{a", "[[", "1:", "9" * 400, "a: &b *b", "-", "!x y", "\ud800"]
)
def test_any_text_may_be_text(text: str) -> None:
    with merging_rules():
        assert parser().parse_args([f"--words={text}"]).words == text


def test_no_value_is_read_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("trainer.yaml").write_text("max_epochs: 3")
    with pytest.raises(ValueError, match="trainer"):
        parse(ConfigOnlyCLI, "fit", ["--trainer", "trainer.yaml"])


def test_the_rules_hold_for_every_list_of_a_run(tmp_path: Path) -> None:
    stages = ("train", "validate", "test")
    full = [{"benchmark": "cifar10", "split": "test", "folder": "f", "limit": 3, "name": "n"}]
    later = [{"benchmark": "flickr30k", "split": "test"}]
    decoder = {"class_path": "Decoder", "init_args": {"name": "x"}}
    first: dict[str, Any] = {
        "model": {"class_path": "OctaviusModule", "init_args": {"decoder": decoder, "encoders": {}}},
        "data": {
            "class_path": "ImageInstructions",
            "init_args": {"root": "r", **dict.fromkeys(stages, full)},
        },
        "trainer": {
            "callbacks": [{"class_path": "EarlyStopping", "init_args": {"monitor": "m", "patience": 7}}],
            "logger": [{"class_path": "CSVLogger", "init_args": {"save_dir": "s", "name": "n"}}],
        },
    }
    second = copy.deepcopy(first)
    second["data"]["init_args"] = dict.fromkeys(stages, later)
    second["trainer"]["callbacks"][0]["init_args"] = {"monitor": "z"}
    second["trainer"]["logger"][0]["init_args"] = {"save_dir": "t"}
    (tmp_path / "first.yaml").write_text(yaml.safe_dump(first))
    (tmp_path / "second.yaml").write_text(yaml.safe_dump(second))
    begin = ["--config", str(tmp_path / "first.yaml")]
    on_the_line = [f"--data.init_args.{stage}={later}" for stage in stages]
    for words in (
        [*begin, "--config", str(tmp_path / "second.yaml")],
        [*begin, *on_the_line, f"--trainer={second['trainer']}"],
    ):
        found = parse(ConfigOnlyCLI, "fit", words).config
        for stage in stages:
            (source,) = found[f"data.init_args.{stage}"]
            assert (source.benchmark, source.folder, source.limit, source.name) == (
                "flickr30k",
                ".",
                None,
                "",
            )
        assert found.data.init_args.root == "r"
        assert [one.init_args.patience for one in found.trainer.callbacks] == [3]
        assert [one.init_args.name for one in found.trainer.logger] == ["lightning_logs"]
