"""The object of a scan that `predict` asks about is the one that its reader means."""

from dataclasses import replace
from pathlib import Path

from datamodules.benchmarks import read
from octavius.cli.predict import media_of
from octavius.instruction.sample import Media, Region
from octavius.media.regions import region_of


def test_an_object_of_a_scan_is_meant_as_its_reader_means_it(few_rooms: Path) -> None:
    """The mesh lies turned in its file; the box speaks of the aligned room."""
    sample = read("scannet_classification", few_rooms / "seen", "val")[3]
    meant = sample.media["cloud"]
    assert meant.pose is not None
    assert meant.region is not None
    assert meant.region.box is not None
    said = " ".join(map(repr, meant.region.box))
    found = media_of(cloud=meant.path, box=said)
    assert set(found) == {"cloud"}
    assert (found["cloud"].path, found["cloud"].pose) == (meant.path, meant.pose)
    assert found["cloud"].region == Region(said, meant.region.box)


def test_a_scene_is_meant_as_its_reader_means_it(few_rooms: Path) -> None:
    meant = read("scanqa", few_rooms / "seen", "val")[0].media["cloud"]
    assert media_of(cloud=meant.path) == {"cloud": replace(meant, objects=None)}


def test_a_whole_cloud_may_be_one_object(few_rooms: Path, tmp_path: Path) -> None:
    [file, *_] = (few_rooms / "seen" / "shapenet_pc").iterdir()
    assert media_of(cloud=file, box=" all") == {"cloud": Media(path=file, region=Region("all", None))}
    picture = tmp_path / "a.png"
    picture.touch()
    assert set(media_of(picture, file)) == {"image", "cloud"}
    assert media_of() == {}


def test_commas_part_numbers_too() -> None:
    assert region_of("-1,2, 0.5 ,1 1 1").box == (-1.0, 2.0, 0.5, 1.0, 1.0, 1.0)
