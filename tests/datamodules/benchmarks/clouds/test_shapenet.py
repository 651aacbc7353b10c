"""ShapeNet55's lists become samples of single objects, turned to have z up."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.benchmarks.base import DatasetNotFoundError
from datamodules.benchmarks.clouds.shapenet import read
from octavius.instruction.sample import ClassName, Media, Region, Sample
from octavius.media.clouds import Y_UP, CloudLoader
from tests.datamodules.benchmarks.bad_items import kept

PLANE, PHONE, BED = "02691156", "02992529", "02818832"
NAMES = {PLANE: "airplane", PHONE: "cellular telephone", BED: "bed"}
TAXONOMY = [
    {"synsetId": synset, "name": f"{name},other name", "children": []} for synset, name in NAMES.items()
]


def write(root: Path, *lines: str, lists: str = "shapenet-55", clouds: str = "shapenet_pc") -> Path:
    for folder in (lists, clouds):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / lists / "test.txt").write_text("".join(f"{line}\n" for line in lines))
    for line in lines:
        if line.endswith(".npy") and ".." not in line:
            np.save(root / clouds / line, np.eye(3, dtype="float32"))
    (root / "shapenet_synset_dict.json").write_text(json.dumps(NAMES))
    return root


@pytest.mark.parametrize("clouds", ["shapenet_pc", "shapenet-55/shapenet_pc"])
@pytest.mark.parametrize("lists", ["shapenet-55", "ShapeNet-55"])
def test_objects_become_samples(tmp_path: Path, lists: str, clouds: str) -> None:
    lines = [f"{PLANE}-1a-b.npy", f"{PHONE}-2.npy", f"{PLANE}-3.npy"]
    samples = read(write(tmp_path, *lines, lists=lists, clouds=clouds), "test")
    key, names = f"{PLANE}-1a-b", ("airplane", "cellular telephone")
    media = Media(path=tmp_path / clouds / f"{key}.npy", pose=Y_UP, region=Region(key, None))
    gold = ClassName("airplane", names)
    assert samples[0] == Sample(
        key, "classification3d", "shapenet_classification", {"cloud": media}, "", gold
    )
    assert [sample.gold for sample in samples[1:]] == [ClassName(name, names) for name in reversed(names)]


@pytest.mark.parametrize("place", ["taxonomy.json", "shapenet-55/taxonomy.json"])
def test_names_from_the_taxonomy(tmp_path: Path, place: str) -> None:
    write(tmp_path, f"{PHONE}-2.npy")
    (tmp_path / "shapenet_synset_dict.json").unlink()
    (tmp_path / place).write_text(json.dumps(TAXONOMY))
    [sample] = read(tmp_path, "test")
    assert sample.gold == ClassName("cellular telephone", ("cellular telephone",))


def test_what_is_up_in_the_file_is_up_for_the_model(tmp_path: Path) -> None:
    write(tmp_path, f"{PLANE}-1.npy")
    np.save(tmp_path / "shapenet_pc" / f"{PLANE}-1.npy", np.array([[0, 0, 0], [0, 2, 0]], "float32"))
    [sample] = read(tmp_path, "test")
    assert CloudLoader()(sample.media["cloud"])[1, :3].tolist() == [0, 0, 2]


BAD = {
    "no suffix": (f"{PLANE}-1", "expected <synset>-<model>.npy, found '02691156-1'"),
    "no model": (f"{PLANE}.npy", "expected <synset>-<model>.npy"),
    "unknown synset": ("0-1.npy", "the synset '0' has no name"),
    "escape": (f"{PLANE}-1/../../../1.npy", "leads out of the data folder"),
}
CLOUDS: dict[str, tuple[Any, str]] = {
    "no point": (np.zeros((0, 3), "float32"), "expected at least 2 points, found 0; leave it out"),
    "one point": (np.zeros((1, 3), "float32"), "expected at least 2 points, found 1"),
    "two numbers a point": (
        np.zeros((9, 2), "float32"),
        r"expected points \(P, 3\), .*, found float32 \(9, 2\)",
    ),
    "a list of numbers": (np.zeros(9, "float32"), r"found float32 \(9,\)"),
    "texts": (np.array([["a", "b", "c"]] * 2), r"expected points \(P, 3\), .*, found <U1 \(2, 3\)"),
    "a pickle": (np.array([[None] * 3] * 2), "is not an array that can be read"),
    "cut short": (b"\x93NUMPY\x01\x00v\x00{'descr'", "is not an array that can be read"),
    "empty file": (b"", "is not an array that can be read"),
    "text": (b"0 0 0\n1 1 1\n", "is not an array that can be read"),
    "missing": (None, "there is no file"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_lines(tmp_path: Path, case: str) -> None:
    line, message = BAD[case]
    write(tmp_path, line, f"{BED}-2.npy")
    [sample] = kept(read, tmp_path, "test", rf"test\.txt, (line 1|the object .*): .*{message}")
    assert sample.id == f"{BED}-2"


@pytest.mark.parametrize("case", CLOUDS)
def test_files_that_can_be_no_cloud(tmp_path: Path, case: str) -> None:
    content, message = CLOUDS[case]
    write(tmp_path, f"{PLANE}-1.npy", f"{BED}-2.npy")
    file = tmp_path / "shapenet_pc" / f"{PLANE}-1.npy"
    file.unlink()
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        np.save(file, content)
    [sample] = kept(read, tmp_path, "test", rf"the object {PLANE}-1\.npy: .*{message}")
    assert sample.id == f"{BED}-2"


def test_a_cloud_whose_end_is_missing(tmp_path: Path) -> None:
    """The header promises more points than follow."""
    write(tmp_path, f"{PLANE}-1.npy")
    file = tmp_path / "shapenet_pc" / f"{PLANE}-1.npy"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ValueError, match=rf"{file.name} is not an array that can be read .*; copy it again"):
        read(tmp_path, "test")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "shapenet_synset_dict.json",
            {PLANE: 7},
            "'02691156' should be a string, found 7; copy the official file",
        ),
        ("shapenet_synset_dict.json", [], "expected an object at its top level"),
        (
            "taxonomy.json",
            [{"synsetId": PLANE}],
            "the key 'name' is missing; .* copy the official file again",
        ),
        ("taxonomy.json", {}, "expected a list at its top level"),
    ],
)
def test_bad_names(tmp_path: Path, file: str, content: Any, message: str) -> None:
    write(tmp_path, f"{PLANE}-1.npy")
    (tmp_path / "shapenet_synset_dict.json").unlink()
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"{file}: {message}"):
        read(tmp_path, "test")


def test_missing_files_are_named(tmp_path: Path) -> None:
    write(tmp_path, f"{PLANE}-1.npy")
    with pytest.raises(
        DatasetNotFoundError, match=r"shapenet-55/train\.txt and ShapeNet-55/train\.txt not found"
    ):
        read(tmp_path, "train")
    (tmp_path / "shapenet_synset_dict.json").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"shapenet_synset_dict\.json and taxonomy\.json and"):
        read(tmp_path, "test")
    (tmp_path / "shapenet_pc").rename(tmp_path / "clouds")
    with pytest.raises(DatasetNotFoundError, match="shapenet_pc/ and shapenet-55/shapenet_pc/ not found"):
        read(tmp_path, "test")
