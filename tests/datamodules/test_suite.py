"""Names of the paper's benchmarks become sources below one data root."""

from pathlib import Path

import pytest

from datamodules.benchmarks import BENCHMARKS
from datamodules.suite import SUITE, sources
from octavius.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("2d", "3d", "lamm_2d", "lamm_3d")
PAPER = {
    "2d": ["voc2012", "scienceqa", "flickr30k", "cifar10", "celeba_hair", "celeba_smile"],
    "3d": ["scan2cap", "scanqa", "scannet", "shapenet55", "nr3d"],
}


def test_every_name_is_the_title_of_its_source() -> None:
    assert {name: [source.title for source in SUITE[name]] for name in SUITE if name not in GROUPS} == {
        name: [name] for name in SUITE if name not in GROUPS
    }


@pytest.mark.parametrize("group", PAPER)
def test_groups_hold_the_columns_of_the_papers_tables_in_both_layouts(group: str) -> None:
    assert [source.title for source in SUITE[group]] == PAPER[group]
    assert [source.title for source in SUITE[f"lamm_{group}"]] == [f"lamm_{name}" for name in PAPER[group]]


def test_every_source_has_a_reader_and_a_protocol_of_some_task() -> None:
    found = [source for chosen in SUITE.values() for source in chosen]
    assert {source.benchmark for source in found} <= set(BENCHMARKS)
    assert {source.protocol for source in found} <= {
        name for task in TASKS.values() for name in task.protocols
    }


def test_names_are_listed_with_commas_and_each_source_comes_once() -> None:
    assert [source.title for source in sources(" cifar10,2d , voc2007")] == [
        "cifar10", "voc2012", "scienceqa", "flickr30k", "celeba_hair", "celeba_smile", "voc2007",
    ]  # fmt: skip


@pytest.mark.parametrize("names", ["voc2012,imagenet", "", " , "])
def test_what_is_not_known_is_answered_with_what_is(names: str) -> None:
    with pytest.raises(
        ValueError, match=r"expected names of benchmarks .*; known are voc2012, scienceqa, .*lamm_3d"
    ):
        sources(names)


def test_the_documentation_names_all_of_them() -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    assert [name for name in SUITE if f"`{name}`" not in page] == []
    homes = {source.folder for name in ("2d", "3d") for source in SUITE[name]}
    assert [folder for folder in homes if f"`{folder}`" not in page] == []
    assert [folder for folder in homes if f"\n  {folder.split('/')[0]}/ " not in page] == []
