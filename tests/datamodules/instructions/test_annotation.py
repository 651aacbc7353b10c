"""COCO and ScanNet annotations, converted to one form."""

from pathlib import Path

import pytest

from datamodules.benchmarks.base import DatasetNotFoundError
from datamodules.instructions.annotation import Thing, read_images, read_scans
from tests.datamodules.benchmarks.scan_files import NAME
from tests.datamodules.instructions.official import CUP, write_coco, write_scannet


def test_a_picture_is_what_the_files_tell(tmp_path: Path) -> None:
    first, table, crowd = read_images(write_coco(tmp_path), "val2017", captions=True)
    assert [thing.label for thing in first.things] == ["person", "dog", "dog", "cup"]
    assert first.things[1] == Thing("1", "dog", "dog", (0.6, 0.4, 0.8, 0.8))
    assert first.image == tmp_path / "val2017" / "000000000007.jpg"
    assert first.captions == ("A man walks two dogs.", "Dogs & a man.")
    assert first.kinds == ("cup", "dining table", "dog", "person")
    assert first.counts == {"person": 1, "dog": 2, "cup": 1}
    assert table.absent == ["cup", "dog", "person"]
    assert (crowd.crowds, crowd.counts) == ({"dog"}, {"person": 1})
    assert crowd.absent == ["cup", "dining table"]


def test_captions_are_missed_only_where_they_are_needed(tmp_path: Path) -> None:
    write_coco(tmp_path, captions=False)
    assert read_images(tmp_path, "val2017", captions=False)[0].captions == ()
    with pytest.raises(DatasetNotFoundError, match=r"captions_val2017\.json not found"):
        read_images(tmp_path, "val2017", captions=True)


def test_a_scan_is_what_the_files_tell(tmp_path: Path) -> None:
    (room,) = read_scans(write_scannet(tmp_path, described="A low table by the door."), "train")
    assert room.name == NAME
    assert room.image is None
    assert [(thing.id, thing.label, thing.kind) for thing in room.things] == [
        ("1", "coffee table", "table"),
        ("2", "chair", "chair"),
        ("3", "cup", ""),
        ("4", "arm chair", "chair"),
    ]
    assert room.things[2].box == pytest.approx(CUP.box, abs=1e-5)
    assert room.counts == {"table": 1, "chair": 2}
    assert "bed" in room.absent
    assert "garbage bin" not in room.kinds
    assert room.descriptions == {"1": ("A low table by the door.",)}
    assert room.sentences == "A low table by the door."
