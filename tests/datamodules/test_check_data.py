"""`check_data` lists what is present and missing of every benchmark, file by file, without reading all of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules.benchmarks import read
from datamodules.benchmarks.clouds import scans
from datamodules.check_data import check, check_data
from datamodules.suite import SUITE
from tests.datamodules import data_root
from tests.datamodules.benchmarks.scan_files import NAME

SINGLE = [name for name in SUITE if len(SUITE[name]) == 1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with everything in it; it is not to be changed."""
    return data_root.write(tmp_path_factory.mktemp("check") / "data")


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "data"))


@pytest.mark.parametrize("name", SINGLE)
def test_every_benchmark_is_ready_and_is_read(whole: Path, name: str) -> None:
    [source] = SUITE[name]
    found = check(whole, source)
    assert (found.name, found.missing) == (name, ())
    samples = read(source.benchmark, whole / source.folder, source.split)
    if "sample" in found.found:
        assert found.found.split()[0] == str(len(samples))


@pytest.mark.parametrize("name", SINGLE)
def test_nothing_at_all_is_told_with_the_layout(tmp_path: Path, name: str) -> None:
    found = check(tmp_path, SUITE[name][0])
    assert found.found == ""
    assert "does not exist (needed from it: " in found.missing[0]
    assert found.missing[1] == "Expected layout:"


def removed(path: str) -> Callable[[Path], object]:
    return lambda root: (root / path).unlink()


def emptied(path: str) -> Callable[[Path], object]:
    return lambda root: (root / path).write_bytes(b"")


SCAN = f"scannet/scans/{NAME}/{NAME}"
DAMAGE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "picture": (
        "voc2012",
        removed("VOCdevkit/VOC2012/JPEGImages/b.jpg"),
        "1 of 2 media missing: .*JPEGImages/b.jpg",
    ),
    "annotation": (
        "voc2012",
        removed("VOCdevkit/VOC2012/Annotations/a.xml"),
        "1 bad item left out of .*Annotations/a.xml cannot be read",
    ),
    "broken picture": ("voc2012", emptied("VOCdevkit/VOC2012/JPEGImages/b.jpg"), "b.jpg is not an image"),
    "list": (
        "voc2012",
        removed("VOCdevkit/VOC2012/ImageSets/Main/val.txt"),
        "ImageSets/Main/val.txt not found",
    ),
    "folder of a picture": (
        "scienceqa",
        lambda root: shutil.rmtree(root / "scienceqa/images/test/4"),
        "1 bad item left out of .*the folder .*images/test/4, which should hold 'image.png'",
    ),
    "problems": ("scienceqa", removed("scienceqa/pid_splits.json"), "pid_splits.json not found"),
    "cut batch": ("cifar10", emptied("cifar10/cifar-10-batches-py/test_batch"), "test_batch is not a pickle"),
    "no batch": ("cifar10", removed("cifar10/cifar-10-batches-py/test_batch"), "test_batch not found"),
    "captions": (
        "flickr30k",
        removed("flickr30k/dataset_flickr30k.json"),
        "dataset_flickr30k.json and results_20130124.token not found",
    ),
    "face": (
        "celeba_smile",
        removed("celeba/img_align_celeba/0.jpg"),
        "1 of 2 media missing: .*img_align_celeba/0.jpg",
    ),
    "mesh": (
        "scannet",
        removed(f"{SCAN}_vh_clean_2.ply"),
        f"1 of 8 files of scans missing: .*{NAME}_vh_clean_2.ply",
    ),
    "broken mesh": ("scannet", emptied(f"{SCAN}_vh_clean_2.ply"), f"the scan {NAME} cannot be used"),
    "labels": ("scannet", removed("scannet/scannetv2-labels.combined.tsv"), "labels.combined.tsv"),
    "objects": (
        "scan2cap",
        removed(f"{SCAN}.aggregation.json"),
        f"1 of 4 files of scans missing: .*{NAME}.aggregation",
    ),
    "descriptions": (
        "scan2cap",
        removed("scannet/ScanRefer/ScanRefer_filtered_val.json"),
        "filtered_val.json",
    ),
    "odd descriptions": (
        "scan2cap",
        lambda root: (root / "scannet/ScanRefer/ScanRefer_filtered_val.json").write_text(
            '[{"object_id": 1}]'
        ),
        "ScanRefer_filtered_val.json: the key 'scene_id' is missing",
    ),
    "questions": ("scanqa", removed("scannet/qa/ScanQA_v1.0_val.json"), "ScanQA_v1.0_val.json"),
    "utterances": ("nr3d", removed("scannet/ReferIt3D/nr3d.csv"), "nr3d.csv"),
    "cloud": (
        "shapenet55",
        removed("shapenet55/shapenet_pc/02691156-1a.npy"),
        "no sample found|there is no file",
    ),
    "features": (
        "lamm_scan2cap",
        emptied("Octavius/3D_Benchmark/meta_file/Caption_scannet.pickle"),
        "Caption_scannet.pickle is not a pickle that can be read safely",
    ),
    "LAMM's picture": (
        "lamm_scienceqa",
        removed("LAMM/2D_Benchmark/VQA_SQAimage_images/7.jpg"),
        "1 of 1 media missing: .*VQA_SQAimage_images/7.jpg",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_what_is_missing_is_named(root: Path, case: str) -> None:
    name, damage, message = DAMAGE[case]
    damage(root)
    found = check(root, SUITE[name][0])
    with pytest.raises(ValueError, match=message):
        raise ValueError("\n".join(found.missing))


def test_questions_need_no_objects(root: Path) -> None:
    (root / f"{SCAN}.aggregation.json").unlink()
    assert check(root, SUITE["scanqa"][0]).missing == ()


def test_only_the_first_of_many_are_named(root: Path) -> None:
    for name in (NAME, "scene0001_00"):
        for file in (root / "scannet" / "scans" / name).iterdir():
            file.unlink()
    [line] = check(root, SUITE["scannet"][0]).missing
    assert line.startswith("8 of 8 files of scans missing: ")
    assert line.count(".ply") + line.count(".txt") + line.count(".json") == 3
    assert line.endswith(", ...")


def test_scans_without_a_folder_are_counted(root: Path) -> None:
    for name in (NAME, "scene0001_00"):
        shutil.rmtree(root / "scannet" / "scans" / name)
    [line] = check(root, SUITE["scannet"][0]).missing
    assert line.startswith("2 of 2 scans missing, the first: the folder ")
    assert f"{NAME}, which should hold" in line


def test_of_many_scans_one_is_read(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    scan = scans.Scans.scan
    monkeypatch.setattr(scans.Scans, "scan", lambda *args: opened.append(args[1]) or scan(*args))
    check(whole, SUITE["scannet"][0])
    assert opened == [NAME]


def test_lines_and_status(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        check_data(root, "2d,3d")
    assert ended.value.code == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("11 of 11 ready; docs/data.md")
    shutil.rmtree(root / "cifar10")
    with pytest.raises(SystemExit) as ended:
        check_data(root, "cifar10,scienceqa")
    assert ended.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"cifar10    not ready                -  {root}/cifar10, split test"
    assert lines[1].startswith("    the data folder ")
    assert f"scienceqa  ready            2 samples  {root}/scienceqa, split test" in lines


def test_json_says_the_same(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        check_data(whole, "nr3d", json=True)
    folder = str(whole / "scannet")
    expected = {"name": "nr3d", "folder": folder, "split": "val", "found": "1 scan", "missing": []}
    assert json.loads(capsys.readouterr().out) == [expected]


def test_real_samples_are_ready(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "VOCdevkit").mkdir()
    (tmp_path / "VOCdevkit" / "VOC2007").symlink_to(shared_data / "voc2007-tiny")
    (tmp_path / "coco").symlink_to(shared_data / "coco-tiny")
    for name in ("voc2007", "coco_detection", "coco_captioning"):
        assert check(tmp_path, SUITE[name][0]).missing == ()


def test_a_root_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the data root .*nowhere does not exist; name the folder"):
        check_data(tmp_path / "nowhere")
