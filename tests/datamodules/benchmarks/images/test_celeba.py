"""CelebA's lists, in all variants in circulation, become questions about faces."""

from pathlib import Path

import pytest

from datamodules.benchmarks.base import DatasetNotFoundError
from datamodules.benchmarks.images.celeba import HAIR_QUESTION, SMILE_QUESTION, read_hair, read_smile
from octavius.instruction.sample import ClassName, Media, Sample
from tests.datamodules.benchmarks.bad_items import kept

HEADER = ["Bald", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Smiling", "Young"]
FACES = {
    "000001.jpg": ("-1  1 -1 -1 -1  1  1", "0"),
    "000002.jpg": ("-1 -1  1 -1 -1 -1  1", "2"),
    "000003.jpg": ("-1 -1 -1  1 -1  1 -1", "2"),
    "000004.jpg": ("-1 -1 -1 -1  1 -1  1", "2"),
    "000005.jpg": ("-1  1 -1  1 -1  1  1", "2"),
    "000006.jpg": (" 1 -1 -1 -1 -1 -1  1", "2"),
    "000007.jpg": ("-1  1 -1 -1 -1  1  1", "1"),
}
ROWS = [f"{name} {values}" for name, (values, _) in FACES.items()]
PARTS = [f"{name} {part}" for name, (_, part) in FACES.items()]
OFFICIAL = ["7", " ".join(HEADER), *ROWS]


def write(root: Path, attributes: list[str], parts: list[str], suffix: str = "txt") -> Path:
    (root / "img_align_celeba").mkdir(exist_ok=True)
    (root / f"list_attr_celeba.{suffix}").write_text("\n".join(attributes) + "\n")
    (root / f"list_eval_partition.{suffix}").write_text("\n".join(parts) + "\n")
    return root


def sample(root: Path, number: int, benchmark: str, question: str, gold: ClassName) -> Sample:
    name = f"{number:06}.jpg"
    media = {"image": Media(path=root / "img_align_celeba" / name)}
    return Sample(name, "facial_attributes", benchmark, media, question, gold)


VARIANTS = {
    "official": (OFFICIAL, PARTS, "txt"),
    "no count": (OFFICIAL[1:], PARTS, "txt"),
    "named first column": (["7", "image_id " + OFFICIAL[1], *ROWS], PARTS, "txt"),
    "csv": (
        [",".join(["image_id", *HEADER]), *[",".join(row.split()) for row in ROWS]],
        ["image_id,partition", *[",".join(part.split()) for part in PARTS]],
        "csv",
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_states_the_same_faces(tmp_path: Path, variant: str) -> None:
    write(tmp_path, *VARIANTS[variant])
    colours = ("black", "blond", "brown", "gray")
    hair = [(2, "blond"), (3, "brown"), (4, "gray")]  # 5 has two colours, 6 none
    assert read_hair(tmp_path, "test") == [
        sample(tmp_path, n, "celeba_hair", HAIR_QUESTION, ClassName(name, colours)) for n, name in hair
    ]
    smiles = [(2, "no"), (3, "yes"), (4, "no"), (5, "yes"), (6, "no")]
    assert read_smile(tmp_path, "test") == [
        sample(tmp_path, n, "celeba_smile", SMILE_QUESTION, ClassName(name, ("yes", "no")))
        for n, name in smiles
    ]
    assert [face.id for face in read_smile(tmp_path, "train")] == ["000001.jpg"]
    assert [face.id for face in read_smile(tmp_path, "val")] == ["000007.jpg"]


def changed(lines: list[str], index: int, line: str) -> list[str]:
    return [*lines[:index], line, *lines[index + 1 :]]


BAD = {
    "cut short": (
        OFFICIAL[:-1],
        PARTS,
        r"attr_celeba\.txt line 1: expected 7 images, found 6; is the file cut",
    ),
    "cut row": (changed(OFFICIAL, 3, "000002.jpg -1 -1"), PARTS, "line 4: expected 8 columns, found 3"),
    "odd value": (
        changed(OFFICIAL, 3, ROWS[1].replace("-1", "no")),
        PARTS,
        "line 4: Smiling should be 1 or -1, fo",
    ),
    "odd part": (
        OFFICIAL,
        changed(PARTS, 1, "000002.jpg 7"),
        "partition.txt line 2: expected an image and 0, 1 or",
    ),
    "escape": (
        changed(OFFICIAL, 3, ROWS[1].replace("000002", "../../a")),
        changed(PARTS, 1, "../../a.jpg 2"),
        "line 4: the path '../../a.jpg' leads out of the data folder",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_lists(tmp_path: Path, case: str) -> None:
    attributes, parts, message = BAD[case]
    write(tmp_path, attributes, parts)
    samples = kept(read_smile, tmp_path, "test", message)
    assert len(samples) == (5 if case == "cut short" else 4)


def test_a_file_without_the_attribute_is_told(tmp_path: Path) -> None:
    write(tmp_path, ["Bald Young", "000001.jpg 1 1"], PARTS)
    with pytest.raises(ValueError, match=r"expected columns Smiling, found image, Bald, Young"):
        read_smile(tmp_path, "test")


@pytest.mark.parametrize("attributes", [[], ["0"], ["7", " ".join(HEADER)]])
def test_an_empty_list_is_told(tmp_path: Path, attributes: list[str]) -> None:
    write(tmp_path, attributes, PARTS)
    with pytest.raises(ValueError, match=r"is empty|expected 7 images, found 0|expected columns"):
        read_smile(tmp_path, "test")


def test_an_unknown_split_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="CelebA has no split 'dev'; it has train, val, test"):
        read_hair(tmp_path, "dev")


@pytest.mark.parametrize("missing", ["list_attr_celeba.txt", "list_eval_partition.txt", "img_align_celeba/"])
def test_missing_files_and_folders_are_named(tmp_path: Path, missing: str) -> None:
    write(tmp_path, OFFICIAL, PARTS)
    path = tmp_path / missing
    path.rmdir() if missing.endswith("/") else path.unlink()
    with pytest.raises(DatasetNotFoundError, match=missing):
        read_hair(tmp_path, "test")
