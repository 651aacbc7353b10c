"""The published pickles give the same samples as folders of features; mismatches with the JSON are reported."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.benchmarks.base import DatasetNotFoundError
from datamodules.benchmarks.clouds import scan2inst, scan2inst_pickle
from datamodules.benchmarks.pickles import load_pickle
from octavius.media.rois import StoredRoiLoader
from tests.datamodules.benchmarks.bad_items import kept

SCENE = "scene0000_00"
LOW, HIGH = np.array([0, 1, 0.5]), np.array([2, 2, 1.5])
CORNERS = np.array([(x, y, z) for x in (0, 2) for y in (1, 2) for z in (0.5, 1.5)])
WIDTH = 768


def item(kind: str, *texts: str, **changes: Any) -> dict[str, Any]:
    said = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]
    usual = {"scene_id": SCENE, "object_id": "3", "object_name": "coffee_table", "task_type": kind}
    return {**usual, "conversations": said, **changes}


ITEMS = [
    item("classification3d", "What is it?", "A coffee table."),
    item("description3d", "Describe it.", "A low table.", "Where?", "By the wall."),
    item("VQA3D", "How many chairs?", "2", object_id=None, object_name=None),
    item("VQA3D", "Is there a table?", "yes", object_id=None, object_name=None),
]


def feature(number: int) -> np.ndarray:
    return (np.arange(WIDTH) % 50 + number).astype("float32")


def content(items: list[dict[str, Any]]) -> dict[str, Any]:
    """What the published code pickles: half precision, corners of boxes, the scenes' tensors shared by items."""
    edges = torch.tensor(np.concatenate([LOW, HIGH]), dtype=torch.float16)
    scene = torch.stack([torch.tensor(feature(n), dtype=torch.float16) for n in range(2)])
    boxes = torch.stack([edges, edges])
    asks_scene = [one["task_type"] == "VQA3D" for one in items]
    thing = torch.tensor(feature(9), dtype=torch.float16)
    return {
        "caption_list": [one["conversations"] for one in items],
        "task_type_list": [one["task_type"] for one in items],
        "vision_embeds_3d_ref_list": [torch.zeros(WIDTH).half() if whole else thing for whole in asks_scene],
        "vision_embeds_3d_scene_prop_list": [scene for _ in items],
        "vision_pos_3d_ref_list": [torch.zeros(6).half() if whole else edges for whole in asks_scene],
        "vision_pos_3d_scene_prop_list": [boxes for _ in items],
        "max_proposal_num": 2,
        "scene_id_list": [one["scene_id"] for one in items],
    }


def write(root: Path, items: list[dict[str, Any]], stored: dict[str, Any] | None = None) -> Path:
    (root / "meta_file").mkdir(exist_ok=True)
    (root / "meta_file" / "Caption_scannet.json").write_text(json.dumps(items))
    (root / "meta_file" / "Caption_scannet.pickle").write_bytes(pickle.dumps(stored or content(items)))
    return root


def write_folders(root: Path) -> None:
    for home, things in (
        ("lamm_scannet_tr3d", {"0-chair": 0, "1-chair": 1}),
        ("lamm_scannet_gt", {"3-coffee_table": 9}),
    ):
        for kind in ("ins_pc_feat", "bbox"):
            (root / home / kind / SCENE).mkdir(parents=True)
            for name, number in things.items():
                np.save(
                    root / home / kind / SCENE / f"{name}.npy",
                    feature(number) if kind == "ins_pc_feat" else CORNERS,
                )


def test_both_forms_state_the_same(tmp_path: Path) -> None:
    write_folders(write(tmp_path, ITEMS))
    stored = scan2inst_pickle.read(tmp_path, "Caption_scannet")
    files = scan2inst.read(tmp_path, "Caption_scannet")
    assert len(stored) == len(files) == 5
    for one, other in zip(stored, files, strict=True):
        assert (one.id, one.task, one.question, one.gold, one.history) == (
            other.id, other.task, other.question, other.gold, other.history,
        )  # fmt: skip
        assert one.media["rois"].region == other.media["rois"].region
        ours, theirs = StoredRoiLoader(WIDTH)(one.media["rois"]), StoredRoiLoader(WIDTH)(other.media["rois"])
        torch.testing.assert_close(ours.x, theirs.x)
        torch.testing.assert_close(ours.boxes, theirs.boxes)
    assert [len(one.media["rois"].array) for one in stored] == [1, 1, 1, 2, 2]  # type: ignore[arg-type]


def test_items_about_one_scene_share_its_rows(tmp_path: Path) -> None:
    first, second = scan2inst_pickle.read(write(tmp_path, ITEMS), "Caption_scannet")[3:]
    assert first.media["rois"].array is second.media["rois"].array


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", [torch.float16, torch.float32, torch.float64, torch.int64])
def test_tensors_come_as_arrays(tmp_path: Path, protocol: int, kind: torch.dtype) -> None:
    whole = torch.arange(12).reshape(3, 4).to(kind)
    tensors = {"whole": whole, "part": whole[1:], "row": whole[2], "one": whole[0, 0], "none": whole[:0]}
    (tmp_path / "a").write_bytes(pickle.dumps(tensors, protocol))
    found = load_pickle(tmp_path / "a", scan2inst_pickle.TENSORS)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())
        assert found[name].dtype == tensor.numpy().dtype


TENSOR = pickle.dumps({"a": torch.arange(4.0)}, 2)
REFUSED = {
    "expanded": (pickle.dumps({"a": torch.zeros(1).expand(10**6)}), "not contiguous"),
    "transposed": (pickle.dumps({"a": torch.zeros(2, 3).T}), "not contiguous"),
    "complex": (pickle.dumps({"a": torch.zeros(2, dtype=torch.complex64)}), "it names torch.ComplexFloatStor"),
    "sparse": (pickle.dumps({"a": torch.zeros(2).to_sparse()}), "it names torch"),
    "a size beyond the storage": (TENSOR.replace(b"K\x00K\x04\x85", b"K\x00K\x05\x85"), "beyond its storage"),
    "an offset beyond the storage": (TENSOR.replace(b"K\x00K\x04\x85", b"K\x01K\x04\x85"), "beyond its storage"),
    "an offset below zero": (
        TENSOR.replace(b"K\x00K\x04\x85", b"J\xff\xff\xff\xffK\x04\x85"),
        "the size of a tensor is malformed",
    ),
    "more values than there are": (TENSOR.replace(b"cpuq\x03K\x04N", b"cpuq\x03K\x05N"), "has another length"),
    "a file of another machine": (TENSOR.replace(b"endianq\x02\xc2\x88", b"endianq\x02\xc2\x89"), "byte order"),
    "no file of torch": (
        pickle.dumps({"a": 1}, 2).replace(b"K\x01", b"ctorch.storage\n_load_from_bytes\nN\x85R"),
        "the content of a tensor is not bytes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_tensors_that_lie_are_refused(tmp_path: Path, case: str) -> None:
    content, message = REFUSED[case]
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_pickle(tmp_path / "a", scan2inst_pickle.TENSORS)


def changed(key: str, change: Callable[[list[Any]], Any]) -> dict[str, Any]:
    stored = content(ITEMS)
    return {**stored, key: change(stored[key])}


BAD_FILES = {
    "another release": (
        changed("scene_id_list", lambda ids: ["scene9", *ids[1:]]),
        "item 0 differs from item 0 of the JSON",
    ),
    "other captions": (
        changed("caption_list", lambda said: [*said[:-1], []]),
        "item 3 differs from item 3 of the JSON",
    ),
    "cut short": (
        changed("vision_pos_3d_ref_list", lambda boxes: boxes[1:]),
        "of 4 entries, .* found 3 entries",
    ),
    "a missing list": (
        {"caption_list": []},
        r"'vision_embeds_3d_ref_list' of 4 entries, .* keys \['caption_list'\]",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_pickles_that_do_not_fit(tmp_path: Path, case: str) -> None:
    stored, message = BAD_FILES[case]
    write(tmp_path, ITEMS, stored)
    with pytest.raises(ValueError, match=message):
        scan2inst_pickle.read(tmp_path, "Caption_scannet", bad="skip")


def first(value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda entries: [value, *entries[1:]]


BAD_ITEMS = {
    "no tensor": (
        changed("vision_embeds_3d_ref_list", first("text")),
        "expected a tensor of features or corners",
    ),
    "five edges": (
        changed("vision_pos_3d_ref_list", first(torch.ones(5))),
        r"corners \(O, 6\), found .* \[1, 5\]",
    ),
    "a flat box": (changed("vision_pos_3d_ref_list", first(torch.ones(6))), "the box of object 3 is invalid"),
    "not finite": (
        changed("vision_embeds_3d_ref_list", first(torch.full((WIDTH,), torch.nan))),
        "not finite",
    ),
}


@pytest.mark.parametrize("case", BAD_ITEMS)
def test_bad_items(tmp_path: Path, case: str) -> None:
    stored, message = BAD_ITEMS[case]
    write(tmp_path, ITEMS, stored)
    left = kept(
        scan2inst_pickle.read, tmp_path, "Caption_scannet", r"Caption_scannet\.json, item 0: .*" + message
    )
    assert left[0].id == f"{SCENE}-1-0"


class Harmful:
    def __reduce__(self) -> tuple[Any, Any]:
        return os.mkdir, ("made-by-a-pickle",)


def test_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, ITEMS, {**content(ITEMS), "max_proposal_num": Harmful()})
    with pytest.raises(ValueError, match=r"it names posix\.mkdir, which is not plain data"):
        scan2inst_pickle.read(tmp_path, "Caption_scannet")
    assert not (tmp_path / "made-by-a-pickle").exists()


def test_a_missing_pickle_is_named(tmp_path: Path) -> None:
    (write(tmp_path, ITEMS) / "meta_file" / "Caption_scannet.pickle").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"Caption_scannet\.pickle and meta_file/.* not found"):
        scan2inst_pickle.read(tmp_path, "Caption_scannet")
