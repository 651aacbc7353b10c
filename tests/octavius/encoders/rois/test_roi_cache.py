"""A feature file gets another name if any of its inputs changes, and is complete or absent."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from octavius.encoders.feature_cache import FeatureCache, key_of
from octavius.encoders.rois.proposals import ProposalSource
from octavius.encoders.rois.roi_cache import CachedRoiLoader
from octavius.instruction.sample import Media, Region
from octavius.media.clouds import Y_UP

BOX = (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)
OTHER = (0.0, 0.0, 0.0, 1.0, 1.0, 2.0)
GOLD = ProposalSource("gold")


def cache(root: Path, source: ProposalSource = GOLD, **words: object) -> FeatureCache:
    return FeatureCache(root / "cache", key_of({"version": 1, **words}), source.facts_of)


def cloud(folder: Path) -> Media:
    file = folder / "room.npy"
    file.write_bytes(b"points")
    os.utime(file, ns=(5, 5))
    return Media(path=file, objects=(BOX,))


def change(media: Media) -> Media:
    """As many other bytes, and the same time."""
    assert media.path is not None
    media.path.write_bytes(b"others")
    os.utime(media.path, ns=(5, 5))
    return media


def touch(media: Media) -> Media:
    assert media.path is not None
    os.utime(media.path, ns=(5, 6))
    return media


def move(media: Media) -> Media:
    assert media.path is not None
    return replace(media, path=media.path.rename(media.path.with_name("other.npy")))


CHANGES: dict[str, Callable[[Media], Media]] = {
    "content": change,
    "pose": lambda media: replace(media, pose=Y_UP),
    "region": lambda media: replace(media, region=Region("1", BOX)),
    "all of the cloud": lambda media: replace(media, region=Region("1", None)),
    "annotated boxes": lambda media: replace(media, objects=(BOX, OTHER)),
    "no annotated boxes": lambda media: replace(media, objects=None),
}


@pytest.mark.parametrize("same", [touch, move])
def test_neither_time_nor_place_of_a_file_are_in_its_name(
    tmp_path: Path, same: Callable[[Media], Media]
) -> None:
    kept, media = cache(tmp_path), cloud(tmp_path)
    before = kept.file(media)
    assert kept.file(same(media)) == before


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_known_of_a_cloud_is_in_its_name(tmp_path: Path, change: str) -> None:
    kept, media = cache(tmp_path), cloud(tmp_path)
    before = kept.file(media)
    assert kept.file(replace(media)) == before
    assert kept.file(CHANGES[change](media)) != before


def test_regions_are_told_apart_by_their_boxes_alone(tmp_path: Path) -> None:
    kept, media = cache(tmp_path), cloud(tmp_path)
    first, same, other = (
        kept.file(replace(media, region=Region(name, box)))
        for name, box in (("1", BOX), ("2", BOX), ("1", OTHER))
    )
    assert first == same != other
    assert kept.file(replace(media, region=Region("1", BOX), objects=None)) == first


def test_of_a_file_of_proposals_the_content_is_known(tmp_path: Path) -> None:
    found = tmp_path / "found" / "room.npy"
    found.parent.mkdir()
    np.save(found, np.zeros((0, 7)))
    kept, media = cache(tmp_path, ProposalSource("files", found.parent)), cloud(tmp_path)
    before, region = kept.file(media), kept.file(replace(media, region=Region("1", BOX)))
    np.save(found, np.zeros((1, 7)))
    assert kept.file(media) != before
    assert kept.file(replace(media, region=Region("1", BOX))) == region
    found.unlink()
    with pytest.raises(ValueError, match=r"no proposals in .*found; expected one of room"):
        kept.file(media)


def test_a_detector_needs_nothing_told(tmp_path: Path) -> None:
    kept, media = cache(tmp_path, ProposalSource("detector", tmp_path)), cloud(tmp_path)
    assert kept.file(replace(media, objects=())) == kept.file(media)


def test_arrays_are_known_by_their_content(tmp_path: Path) -> None:
    kept = cache(tmp_path)
    files = [
        kept.file(Media(array=array))
        for array in (
            np.zeros((4, 3)),
            np.zeros((4, 3)),
            np.ones((4, 3)),
            np.zeros((2, 6)),
            np.zeros((4, 3), "f"),
        )
    ]
    assert files[0] == files[1]
    assert len(set(files)) == 4


def test_settings_have_folders_of_their_own_that_say_which(tmp_path: Path) -> None:
    first, second = cache(tmp_path), cache(tmp_path, rois=8)
    first.open(), second.open(), second.open()
    assert first.folder != second.folder
    assert (second.folder / "key.json").read_text() == '{\n  "version": 1,\n  "rois": 8\n}\n'
    assert [file.name for file in second.folder.iterdir()] == ["key.json"]


@pytest.mark.parametrize("count", [0, 3])
def test_what_is_written_is_read(tmp_path: Path, count: int) -> None:
    kept, media = cache(tmp_path), cloud(tmp_path)
    kept.open()
    features, boxes = torch.randn(count, 5), torch.rand(count, 6)
    kept.write(kept.file(media), torch.cat([features, boxes], dim=1))
    found = CachedRoiLoader(kept, 5)(media)
    assert torch.equal(found.x, features)
    assert torch.equal(found.boxes, boxes)


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, media = cache(tmp_path), cloud(tmp_path)
    kept.open()

    def cut_short(stream: object, rows: np.ndarray) -> None:  # noqa: ARG001
        stream.write(b"half")  # type: ignore[attr-defined]
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", cut_short)
        with pytest.raises(OSError, match="no space"):
            kept.write(kept.file(media), torch.zeros(1, 8))
    assert [file.name for file in kept.folder.iterdir()] == ["key.json"]


def test_missing_and_damaged_files_are_told(tmp_path: Path) -> None:
    kept, media = cache(tmp_path), cloud(tmp_path)
    load = CachedRoiLoader(kept, 2)
    with pytest.raises(ValueError, match=r"no features of .*room\.npy"):
        load(media)
    kept.open()
    kept.file(media).write_bytes(b"")
    with pytest.raises(ValueError, match="its checksum does not match"):
        load(media)
    kept.write(kept.file(media), torch.zeros(3))
    with pytest.raises(ValueError, match=r"expected float32 \(any, 8\), found float32 \(3,\)"):
        load(media)
    assert media.path is not None
    media.path.unlink()
    with pytest.raises(ValueError, match=r"no file at .*room\.npy; check the data root"):
        load(media)
