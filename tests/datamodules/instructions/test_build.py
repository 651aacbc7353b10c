"""Files that the command writes are read back, written once and whole, and refused over others."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.benchmarks import read
from datamodules.benchmarks.images.coco import read_detection
from datamodules.instructions.build import build_instructions
from octavius.instruction.sample import Boxes, ClassName, References
from tests.datamodules.benchmarks.scan_files import NAME
from tests.datamodules.instructions.official import write_coco, write_scannet


def build(source: Any, root: Path, split: str, **options: Any) -> Path:
    return build_instructions(source, root, split, progress=False, **options)


def test_coco_becomes_conversations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_coco(tmp_path / "coco")
    out = build("coco", root, "val2017")
    assert out == root / "lamm_v2_val2017.json"
    said = capsys.readouterr().out
    assert "{benchmark: conversations, split: lamm_v2_val2017}" in said
    samples = read("conversations", root, "lamm_v2_val2017")
    assert len(samples) == len(json.loads(out.read_text()))
    golds = {sample.media["image"].path: sample.gold for sample in samples if sample.task == "detection"}
    for sample in read_detection(root, "val2017"):
        found, wanted = golds[sample.media["image"].path], sample.gold
        assert isinstance(found, Boxes)
        assert isinstance(wanted, Boxes)
        counted = [one for one in wanted.objects if not one.ignored]  # crowds are not told
        assert [one.label for one in found.objects] == [one.label for one in counted]
        for one, other in zip(found.objects, counted, strict=True):
            assert one.box == pytest.approx(other.box, abs=1e-6)
    kinds = Counter(sample.group for sample in samples)
    assert (kinds["detection"], kinds["description"]) == (3, 3)
    assert kinds["classification"] == 2  # a person of a fifth of the picture, and a table
    assert kinds["VQA"] >= 4
    texts = [sample.gold.texts for sample in samples if isinstance(sample.gold, References)]
    assert ("A table, set for a bear.",) in texts


def test_real_coco_becomes_conversations(shared_data: Path, tmp_path: Path) -> None:
    """The whole of the small real split is read back, and every file that it names is there."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    for kind in ("instances", "captions"):
        name = f"annotations/{kind}_val2017.json"
        (root / name).write_bytes((shared_data / "coco-tiny" / name).read_bytes())
    (root / "val2017").mkdir()
    build("coco", root, "val2017")
    samples = read("conversations", root, "lamm_v2_val2017")
    boxes = sum(len(sample.gold.objects) for sample in samples if isinstance(sample.gold, Boxes))
    wanted = [sample.gold for sample in read_detection(root, "val2017") if isinstance(sample.gold, Boxes)]
    assert boxes == sum(not one.ignored for gold in wanted for one in gold.objects)
    for sample in samples:
        path = sample.media["image"].path
        assert path is not None
        assert (shared_data / "coco-tiny" / path.relative_to(root)).is_file()


def test_scannet_becomes_scan2inst(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_scannet(tmp_path, described="A low table by the door.")
    assert build("scannet", root, "train") == root / "scan2inst_train.json"
    assert "{benchmark: scan2inst_clouds, split: scan2inst_train}" in capsys.readouterr().out
    samples = read("scan2inst_clouds", root, "scan2inst_train")
    assert Counter(sample.task for sample in samples)["classification3d"] == 4
    names = ("arm chair", "chair", "coffee table", "cup")
    table, chair, cup, armchair = (sample for sample in samples if sample.task == "classification3d")
    assert [one.gold for one in (table, chair, cup, armchair)] == [
        ClassName(name, names) for name in ("coffee table", "chair", "cup", "arm chair")
    ]
    region = table.media["cloud"].region
    assert region is not None
    assert region.object == "1"
    assert region.box == pytest.approx((0.5, 0.25, 0.25, 1.0, 0.5, 0.5), abs=1e-5)
    described = [sample.gold for sample in samples if sample.task == "captioning3d"]
    assert described[0] == References(("A low table by the door.",), NAME)
    rooms = [sample for sample in samples if sample.task == "vqa3d"]
    assert rooms
    assert all(sample.media["cloud"].region is None for sample in rooms)


def test_the_same_file_is_read_on_stored_features(tmp_path: Path) -> None:
    """The reader of the published features finds them by the items' numbers and names."""
    root = write_scannet(tmp_path)
    build("scannet", root, "train")
    corners = np.array([(x, y, z) for x in (0, 2) for y in (1, 2) for z in (0.5, 1.5)])
    for name in ("1-coffee_table", "2-chair", "3-cup", "4-arm_chair"):
        for home in ("lamm_scannet_tr3d", "lamm_scannet_gt"):
            for kind, content in (("ins_pc_feat", np.zeros(768, "float32")), ("bbox", corners)):
                (root / home / kind / NAME).mkdir(parents=True, exist_ok=True)
                np.save(root / home / kind / NAME / f"{name}.npy", content)
    stored, clouds = (read(reader, root, "scan2inst_train") for reader in ("scan2inst", "scan2inst_clouds"))
    assert [(one.id, one.task, one.question, one.gold) for one in stored] == [
        (one.id, one.task, one.question, one.gold) for one in clouds
    ]
    assert {tuple(one.media) for one in stored} == {("rois",)}


def test_an_object_of_another_name_is_refused(tmp_path: Path) -> None:
    out = build("scannet", write_scannet(tmp_path), "train", kinds=["classification3d"])
    items = json.loads(out.read_text())
    items[0]["object_name"] = "bed"
    out.write_text(json.dumps(items))
    with pytest.raises(
        ValueError, match="object 1 of scene0000_00 is 'bed', but its label in the scan is 'coffee table'"
    ):
        read("scan2inst_clouds", tmp_path, "scan2inst_train")


def test_kinds_limit_seed_and_a_folder_above(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "data" / "coco")
    out = build(
        "coco", root, "val2017", out=tmp_path / "data" / "few.json", kinds=["detection"], limit=2, seed=3
    )
    items = json.loads(out.read_text())
    assert [item["task_type"] for item in items] == ["detection"] * 2
    assert {item["image"].rpartition("/")[0] for item in items} == {"coco/val2017"}
    assert len(read("conversations", tmp_path / "data", "few")) == 2


def test_the_same_settings_give_the_same_bytes(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "coco")
    first = build("coco", root, "val2017").read_bytes()
    assert build("coco", root, "val2017").read_bytes() == first
    assert sorted(path.name for path in root.iterdir() if path.is_file()) == [
        "lamm_v2_val2017.json",
        "lamm_v2_val2017.record.json",
    ]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "kind": ({"kinds": ["grounding"]}, "unknown kind 'grounding' in --kinds; coco has detection, .*, VQA"),
    "no kind": ({"kinds": []}, "--kinds is empty; coco has"),
    "limit": ({"limit": 0}, "limit should be a whole number of at least 1 .*, found 0"),
    "split": ({"split": "test2017"}, r"instances_test2017\.json not found"),
    "suffix": ({"out": Path("x.txt")}, r"--out should name a \.json file, found x\.txt"),
    "folder": ({"out": Path("gone/x.json")}, r"gone, where x\.json should go, does not exist"),
    "outside": ({"out": Path("elsewhere/x.json")}, "do not lie below .*elsewhere, the folder of --out"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("elsewhere").mkdir()
    root = write_coco(Path("coco"))
    options, message = BAD[case]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        build(**{"source": "coco", "root": root, "split": "val2017", **options})
    assert not list(tmp_path.rglob("lamm_v2*"))


def test_nothing_is_written_over_but_its_like(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "coco")
    out = build("coco", root, "val2017")
    with pytest.raises(ValueError, match="was made with other settings"):
        build("coco", root, "val2017", seed=1)
    out.with_suffix(".record.json").unlink()
    with pytest.raises(ValueError, match=r"lamm_v2_val2017\.json exists, and no readable"):
        build("coco", root, "val2017")
