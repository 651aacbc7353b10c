"""The miniature is written before it is read; the data modules of other files write nothing."""

from pathlib import Path

import pytest

from datamodules.clouds import CloudInstructions
from datamodules.images import ImageInstructions
from datamodules.miniature import files
from datamodules.miniature.data import MiniatureClouds, MiniatureImages
from datamodules.miniature.rooms import files as rooms


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        (MiniatureImages, files),
        (ImageInstructions, None),
        (MiniatureClouds, rooms),
        (CloudInstructions, None),
    ],
)
def test_the_miniature_alone_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[ImageInstructions], module: object
) -> None:
    built: list[Path] = []
    for one in (files, rooms):
        monkeypatch.setattr(one, "build", built.append if one is module else pytest.fail)
    kind(str(tmp_path / "root"), seed=5).prepare_data()
    assert built == ([] if module is None else [tmp_path / "root"])
