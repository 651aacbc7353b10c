"""The 3D instruction JSON becomes samples on the stored features of one object, or of all objects of a scene."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.benchmarks.base import DatasetNotFoundError
from datamodules.benchmarks.clouds.scan2inst import read
from octavius.instruction.sample import ClassName, Media, References, Region, Sample
from octavius.media.rois import StoredRoiLoader
from tests.datamodules.benchmarks.bad_items import kept

SCENE = "scene0000_00"
CORNERS = np.array([(x, y, z) for x in (0, 2) for y in (1, 2) for z in (0.5, 1.5)], "float64")
BOX = (1.0, 1.5, 1.0, 2.0, 1.0, 1.0)


def item(kind: str, *texts: str, **changes: Any) -> dict[str, Any]:
    said = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]
    usual = {"scene_id": SCENE, "object_id": "3", "object_name": "coffee_table", "task_type": kind}
    return {**usual, "conversations": said, **changes}


def store(root: Path, folder: str, name: str, corners: Any = CORNERS) -> Path:
    for kind, content in (("ins_pc_feat", np.arange(768, dtype="float32")), ("bbox", corners)):
        (root / folder / kind / SCENE).mkdir(parents=True, exist_ok=True)
        np.save(root / folder / kind / SCENE / f"{name}.npy", content)
    return root / folder / "ins_pc_feat" / SCENE / f"{name}.npy"


def write(root: Path, *items: Any, name: str = "scan2inst_train.json") -> Path:
    for number in range(2):
        store(root, "lamm_scannet_tr3d", f"{number}-chair")
    for thing in ("3-coffee_table", "4-bed"):
        store(root, "lamm_scannet_gt", thing)
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(json.dumps(list(items)))
    return root


ASKED = (
    item("classification3d", "What is it?", "The object is a coffee table."),
    item(
        "description3d",
        "Describe it.",
        "A low table.",
        "Where?",
        "By the wall.",
        object_id=4,
        object_name="bed",
    ),
    item("VQA3D", "How many chairs?", "2", object_id=None, object_name=None),
)


@pytest.mark.parametrize("folder", [".", "meta_file"])
def test_items_become_samples(tmp_path: Path, folder: str) -> None:
    samples = read(write(tmp_path, *ASKED, name=f"{folder}/scan2inst_train.json"), "scan2inst_train")
    table = Media(
        path=tmp_path / "lamm_scannet_gt" / "ins_pc_feat" / SCENE / "3-coffee_table.npy",
        region=Region("3", BOX),
    )
    gold = ClassName("coffee table", ("coffee table",))
    first = Sample(f"{SCENE}-0-0", "classification3d", "scan2inst", {"rois": table}, "What is it?", gold)
    assert samples[0] == first
    _, told, where, counted = samples
    assert (told.task, told.question, told.gold) == (
        "captioning3d",
        "Describe it.",
        References(("A low table.",), SCENE),
    )
    assert (where.question, where.history) == ("Where?", (("Describe it.", "A low table."),))
    assert where.media["rois"].region == Region("4", BOX)
    assert (counted.task, counted.gold) == ("vqa3d", References(("2",), SCENE))
    assert counted.media["rois"] == Media(path=tmp_path / "lamm_scannet_tr3d" / "ins_pc_feat" / SCENE)


def test_the_loader_takes_what_the_samples_refer_to(tmp_path: Path) -> None:
    samples = read(write(tmp_path, *ASKED), "scan2inst_train")
    shapes = [StoredRoiLoader()(sample.media["rois"]).x.shape for sample in samples]
    assert shapes == [(1, 768), (1, 768), (1, 768), (2, 768)]


def test_shapenet_has_folders_of_its_own(tmp_path: Path) -> None:
    file = store(tmp_path, "shapenet_pcls", "3-coffee_table")
    (tmp_path / "Classification_shapenet.json").write_text(
        json.dumps([item("classification3d", "What?", "A table.")])
    )
    [sample] = read(tmp_path, "Classification_shapenet")
    assert sample.media["rois"].path == file


@pytest.mark.parametrize("stored", ["3-coffee table", "3-coffee_table"])
def test_names_of_files_have_blanks_or_underscores(tmp_path: Path, stored: str) -> None:
    write(tmp_path, item("classification3d", "What?", "A table.", object_name="coffee table"))
    for kind in ("ins_pc_feat", "bbox"):
        (tmp_path / "lamm_scannet_gt" / kind / SCENE / "3-coffee_table.npy").unlink()
    file = store(tmp_path, "lamm_scannet_gt", stored)
    [sample] = read(tmp_path, "scan2inst_train")
    assert sample.media["rois"].path == file


def classify(**changes: Any) -> dict[str, Any]:
    return item("classification3d", "What is it?", "A table.", **changes)


BAD: dict[str, tuple[Any, str]] = {
    "another kind": ("text", "expected an object with the key 'task_type', found 'text'"),
    "unknown task": (
        item("grounding3d", "a", "b"),
        "unknown task_type 'grounding3d'; known ones are classification3d",
    ),
    "no name": (classify(object_name=None), "'object_name' should be a string, found None"),
    "an empty name": (classify(object_name=" "), "'object_name' is empty"),
    "no object": (classify(object_id=None), "'object_id' should be a whole number or a string, found None"),
    "an unknown object": (
        classify(object_id=9),
        f"object 9 of {SCENE} has no feature file .*9-coffee_table.npy",
    ),
    "an unknown scene": (
        item("VQA3D", "a", "b", scene_id="scene9"),
        "the scene scene9 has no folder of features in",
    ),
    "no turns": (item("VQA3D"), "expected pairs of a human and a gpt turn, found 0 turns"),
    "an empty question": (item("VQA3D", " ", "b"), "the question of turn 0 is empty"),
    "a name in two turns": (
        item("classification3d", "a", "b", "c", "d"),
        "a classification item must have one turn, found 2",
    ),
    "escape by scene": (item("VQA3D", "a", "b", scene_id="../bbox"), "leads out of the data folder"),
    "escape by object": (classify(object_id="../../../x"), "leads out of the data folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_items(tmp_path: Path, case: str) -> None:
    bad, message = BAD[case]
    write(tmp_path, bad, ASKED[2])
    [sample] = kept(read, tmp_path, "scan2inst_train", r"scan2inst_train\.json, item 0: .*" + message)
    assert sample.id == f"{SCENE}-1-0"


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        (CORNERS[:, :2], r"its box should be corners \(N, 3\), found float64 \(8, 2\)"),
        (CORNERS * (1, 1, 0), r"the box of .*coffee_table\.npy is invalid: its size along z is 0"),
    ],
)
def test_bad_boxes(tmp_path: Path, corners: np.ndarray, message: str) -> None:
    write(tmp_path, ASKED[0])
    store(tmp_path, "lamm_scannet_gt", "3-coffee_table", corners)
    with pytest.raises(ValueError, match=r"item 0: .*" + message):
        read(tmp_path, "scan2inst_train")


@pytest.mark.parametrize("missing", ["lamm_scannet_tr3d", "lamm_scannet_gt"])
def test_missing_folders_are_named(tmp_path: Path, missing: str) -> None:
    write(tmp_path, *ASKED)
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetNotFoundError, match=f"{missing}/ins_pc_feat/ not found"):
        read(tmp_path, "scan2inst_train")
