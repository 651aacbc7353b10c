"""The miniature is written once and whole, the same bytes for the same seed; readers find the facts."""

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from datamodules.benchmarks import read
from datamodules.miniature import files
from datamodules.miniature.draw import draw_face, draw_scene
from datamodules.miniature.files import WORLDS, Sizes, build, make_item
from datamodules.miniature.layouts import FACE_ATTRIBUTES, LAYOUTS, Item
from datamodules.miniature.text import WORDINGS, captions
from datamodules.miniature.world import HAIR, HELD_OUT_PAIRS, SHAPES, Face
from octavius.instruction.sample import Boxes, Choice, ClassName, References, Sample

TINY = Sizes(10, 10, 10, 10, val=10, test=10, val_questions=10, test_questions=10)
SETS = [
    (world, split)
    for world in WORLDS
    for split in ("train", "val", "test")
    if split != "train" or world == "seen"
]
FIRST = {"train": 0, "val": 20, "test": 30}


def facts(layout: str, world: str, split: str) -> list[Item]:
    """The items of a set of `miniature_root`, made anew."""
    return [make_item(0, world, layout, split, index) for index in range(20 if split == "train" else 10)]


def same_picture(sample: Sample, item: Item) -> None:
    """The file shows what the facts draw, but for the loss of JPEG."""
    path = sample.media["image"].path
    assert path is not None
    drawn = draw_face(item.facts) if isinstance(item.facts, Face) else draw_scene(item.scene)
    with Image.open(path) as image:
        difference = np.abs(np.asarray(image.convert("RGB"), float) - np.asarray(drawn, float))
    assert difference.mean() <= (0 if path.suffix == ".png" else 3), path


def boxes(item: Item) -> list[tuple[str, list[float]]]:
    return [(thing.shape, [edge / 112 for edge in thing.pixels]) for thing in item.scene.things]


@pytest.mark.parametrize(
    ("layout", "world", "split"),
    [("coco", *place) for place in SETS] + [("voc", *place) for place in SETS if place[1] != "train"],
)
def test_detection(miniature_root: Path, layout: str, world: str, split: str) -> None:
    folder = miniature_root / world / ("coco" if layout == "coco" else "VOCdevkit/VOC2012")
    samples = read(f"{layout}_detection", folder, f"{split}2017" if layout == "coco" else split)
    items = facts(layout, world, split)
    assert len(samples) == len(items)
    for sample, item in zip(samples, items, strict=True):
        assert isinstance(sample.gold, Boxes)
        found = [(thing.label, list(thing.box)) for thing in sample.gold.objects]
        assert [label for label, _ in found] == [label for label, _ in boxes(item)]
        for (_, edges), (_, right) in zip(found, boxes(item), strict=True):
            assert edges == pytest.approx(right, abs=1e-9)
        same_picture(sample, item)


@pytest.mark.parametrize(("world", "split"), SETS)
def test_captioning(miniature_root: Path, world: str, split: str) -> None:
    samples = read("coco_captioning", miniature_root / world / "coco", f"{split}2017")
    items = facts("coco", world, split)
    assert [sample.gold for sample in samples] == [References(captions(item.scene)) for item in items]
    found = read("coco_detection", miniature_root / world / "coco", f"{split}2017")
    assert [sample.media for sample in samples] == [sample.media for sample in found]


@pytest.mark.parametrize(("world", "split"), SETS)
def test_questions(miniature_root: Path, world: str, split: str) -> None:
    samples = read("scienceqa", miniature_root / world / "scienceqa", split)
    items = facts("scienceqa", world, split)
    for sample, item in zip(samples, items, strict=True):
        question = item.question
        assert question is not None
        assert (sample.question, sample.group) == (question.text, question.kind)
        assert sample.gold == Choice(question.options, question.answer)
        same_picture(sample, item)
    each = len(items) // len(WORDINGS)
    assert Counter(sample.group for sample in samples) == dict.fromkeys(WORDINGS, each)


@pytest.mark.parametrize(("world", "split"), SETS)
def test_classes(miniature_root: Path, world: str, split: str) -> None:
    samples = {
        sample.id: sample for sample in read("class_folder", miniature_root / world / "classes", split)
    }
    items = facts("classes", world, split)
    shapes = {shape for _, shape in HELD_OUT_PAIRS} if world == "unseen_pairs" else set(SHAPES)
    assert len(samples) == len(items)
    for index, item in enumerate(items):
        [thing] = item.scene.things
        number = 1 + index + start(world, split)
        sample = samples[f"{thing.shape}/{number:06d}.jpg"]
        assert sample.gold == ClassName(thing.shape, tuple(sorted(shapes)))
        same_picture(sample, item)
    counts = Counter(sample.gold.name for sample in samples.values() if isinstance(sample.gold, ClassName))
    assert set(counts) == shapes
    assert max(counts.values()) - min(counts.values()) <= 1


def start(world: str, split: str) -> int:
    """Items before a split in the running numbers of a layout."""
    return FIRST[split] - (0 if world == "seen" else FIRST["val"])


@pytest.mark.parametrize(("world", "split"), SETS)
def test_faces(miniature_root: Path, world: str, split: str) -> None:
    folder = miniature_root / world / "celeba"
    hair, smiles = read("celeba_hair", folder, split), read("celeba_smile", folder, split)
    items = facts("celeba", world, split)
    for first, second, item in zip(hair, smiles, items, strict=True):
        face = item.facts
        assert isinstance(face, Face)
        assert first.gold == ClassName(face.hair, HAIR)
        assert second.gold == ClassName("yes" if face.smile else "no", ("yes", "no"))
        same_picture(first, item)


def test_official_details(miniature_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (miniature_root / "seen/celeba/list_attr_celeba.txt").read_text().splitlines()
    assert lines[0] == "40"
    assert lines[1].split() == FACE_ATTRIBUTES.split()
    assert len(set(FACE_ATTRIBUTES.split())) == 40
    coco = COCO(str(miniature_root / "seen/coco/annotations/instances_train2017.json"))
    capsys.readouterr()
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(SHAPES)
    assert len(coco.getImgIds()) == 20
    assert len(set(coco.getAnnIds())) == sum(
        len(item.scene.things) for item in facts("coco", "seen", "train")
    )
    splits = json.loads((miniature_root / "seen/scienceqa/pid_splits.json").read_text())
    assert sorted(pid for pids in splits.values() for pid in pids) == sorted(str(pid) for pid in range(1, 41))


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes(
    miniature_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = Sizes(**json.loads((miniature_root / files.RECORD).read_text())["sizes"])
    monkeypatch.setattr(files, "FEW", 0)  # by two processes, where the fixture took none
    again = digests(build(tmp_path / "again", 0, sizes, progress=False, processes=2))
    assert again == digests(miniature_root)
    assert len(again) > 380


def test_another_seed_gives_other_facts() -> None:
    for layout in LAYOUTS:
        first, second = (
            [make_item(seed, "seen", layout, "val", index) for index in range(10)] for seed in (0, 1)
        )
        assert not any(one == other for one in first for other in second)


def test_a_complete_root_is_left_alone_and_another_is_refused(miniature_root: Path) -> None:
    recorded = json.loads((miniature_root / files.RECORD).read_text())
    sizes = Sizes(**recorded["sizes"])
    before = digests(miniature_root)
    assert build(miniature_root, sizes=sizes) == miniature_root
    with pytest.raises(
        ValueError, match=r"of other settings(.|\n)*'seed': 0(.|\n)*'seed': 1(.|\n)*another root"
    ):
        build(miniature_root, 1, sizes)
    with pytest.raises(ValueError, match="of other settings"):
        build(miniature_root, sizes=replace(sizes, faces=21))
    assert digests(miniature_root) == before


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(
        ValueError, match=r"not a miniature: it holds no miniature\.json\. Choose another root"
    ):
        build(tmp_path, sizes=TINY)
    (tmp_path / files.RECORD).write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        build(tmp_path, sizes=TINY)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def write_little(root: Path, *_: object) -> None:
    """Stands in for the drawing."""
    (root / "seen").mkdir(parents=True)


def test_a_build_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: Path, *_: object) -> None:
        write_little(root)
        raise OSError("disk full")

    monkeypatch.setattr(files, "_write", fail)
    with pytest.raises(OSError, match="disk full"):
        build(tmp_path / "deep" / "root")
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_build_that_cannot_be_put_in_place_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr(files, "_write", write_little)
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError, match="not here"):
        build(tmp_path / "root")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_write", write_little)
    (tmp_path / "root").mkdir()
    build(tmp_path / "root")
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == [files.RECORD, "seen"]
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_faster_of_two_builds_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    def overtaken(root: Path, *_: object) -> None:
        write_little(root)
        monkeypatch.setattr(files, "_write", write_little)
        build(tmp_path / "root", seed)

    monkeypatch.setattr(files, "_write", overtaken)
    if seed == 0:
        build(tmp_path / "root")
    else:
        with pytest.raises(ValueError, match="of other settings"):
            build(tmp_path / "root")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]
    assert json.loads((tmp_path / "root" / files.RECORD).read_text())["seed"] == seed


def test_sizes_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 10.*\{'faces': 9\}"):
        Sizes(faces=9)
