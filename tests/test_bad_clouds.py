"""Broken scans and clouds of every kind give one complete message, or are skipped and counted."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.clouds import CloudInstructions
from datamodules.examples import EvaluationExamples
from datamodules.sources import Source
from octavius.errors import message
from octavius.instruction.batch import Processor
from octavius.instruction.prompt import PromptBuilder
from octavius.instruction.tokenizer import load_tokenizer
from octavius.media.clouds import CloudLoader
from tests.datamodules.benchmarks.scan_files import (
    AGGREGATION,
    INFO,
    MESH,
    NAME,
    SEGMENTS,
    edit,
    ply,
    write_labels,
    write_scan,
)
from tests.tiny import SHIPPED, refused

GOOD = "scene0001_00"
NAN = float("nan")
BED = "02818832"


def described(scene: str, number: str = "1", text: str = "a low table") -> dict[str, str]:
    return {
        "scene_id": scene,
        "object_id": number,
        "object_name": "table",
        "ann_id": "0",
        "description": text,
    }


def asked(scene: str, **changes: Any) -> dict[str, Any]:
    facts = {"scene_id": scene, "question_id": scene, "question": "Where?", "answers": ["here"]}
    return {**facts, **changes}


@dataclass(frozen=True)
class Root:
    """A data folder with two scans, which all benchmarks speak of, and two single objects.

    Attributes:
        path: the folder.
        scan: the folder of the first scan, which a case spoils.
    """

    path: Path
    scan: Path

    def file(self, pattern: str) -> Path:
        return self.scan / pattern.format(NAME)

    def object(self, place: int, **changes: Any) -> None:
        """Changes an object of the first scan in its aggregation file."""
        groups = json.loads(self.file(AGGREGATION).read_text())["segGroups"]
        groups[place] |= changes
        edit(self.file(AGGREGATION), segGroups=groups)

    def json(self, name: str, first: Any) -> None:
        """Writes other first words of an annotation file."""
        _, second = json.loads((self.path / name).read_text())
        (self.path / name).write_text(json.dumps([first, second]))

    def cloud(self, content: Any) -> None:
        """Writes another first single object."""
        file = self.path / "shapenet_pc" / f"{BED}-1.npy"
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            np.save(file, content)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    scan = write_scan(tmp_path)
    write_scan(tmp_path, name=GOOD)
    write_labels(tmp_path)
    (tmp_path / "scannetv2_val.txt").write_text(f"{NAME}\n{GOOD}\n")
    (tmp_path / "ScanRefer_filtered_val.json").write_text(json.dumps([described(NAME), described(GOOD)]))
    (tmp_path / "ScanQA_v1.0_val.json").write_text(json.dumps([asked(NAME), asked(GOOD)]))
    rows = ["scan_id,target_id,utterance", f"{NAME},1,the table", f"{GOOD},1,the table"]
    (tmp_path / "nr3d.csv").write_text("\n".join(rows))
    for folder in ("shapenet-55", "shapenet_pc"):
        (tmp_path / folder).mkdir()
    (tmp_path / "shapenet-55" / "val.txt").write_text(f"{BED}-1.npy\n{BED}-2.npy\n")
    (tmp_path / "shapenet_synset_dict.json").write_text(json.dumps({BED: "bed"}))
    for number in (1, 2):
        np.save(tmp_path / "shapenet_pc" / f"{BED}-{number}.npy", np.eye(3, dtype="float32"))
    return Root(tmp_path, scan)


Spoil = Callable[[Root], object]
SCANS = (
    "scannet_classification",
    "scanrefer_captioning",
    "scanrefer_dense_captioning",
    "scanqa",
    "nr3d_captioning",
)
OBJECTS = ("scanrefer_captioning", "scanrefer_dense_captioning", "nr3d_captioning")
WITH_OBJECTS = tuple(name for name in SCANS if name != "scanqa")
SHAPES = ("shapenet_classification",)

CASES: dict[str, tuple[tuple[str, ...], Spoil, list[str]]] = {
    # files of a scan
    "missing mesh": (
        SCANS,
        lambda root: root.file(MESH).unlink(),
        [f"the scan {NAME} lacks {MESH.format(NAME)} in", "bad=skip"],
    ),
    "missing segments": (
        WITH_OBJECTS,
        lambda root: root.file(SEGMENTS).unlink(),
        [f"the scan {NAME} lacks {SEGMENTS.format(NAME)} in"],
    ),
    "missing objects": (
        WITH_OBJECTS,
        lambda root: root.file(AGGREGATION).unlink(),
        [f"the scan {NAME} lacks {AGGREGATION.format(NAME)} in"],
    ),
    "missing alignment": (SCANS, lambda root: root.file(INFO).unlink(), [f"lacks {INFO.format(NAME)} in"]),
    "segments of another number of vertices": (
        SCANS,
        lambda root: edit(root.file(SEGMENTS), segIndices=[1] * 24),
        [
            "has the segments of 24 vertices, but the mesh has 25",
            "cut short, or they are of different scans",
        ],
    ),
    "malformed segments": (
        SCANS,
        lambda root: root.file(SEGMENTS).write_text('{"segIndices": [1,'),
        [SEGMENTS.format(NAME), "is not valid JSON at line 1, column 19", "copy it again"],
    ),
    "mesh cut short": (
        SCANS,
        lambda root: root.file(MESH).write_bytes(root.file(MESH).read_bytes()[:-5]),
        [MESH.format(NAME), "its header promises 25 of the element 'vertex', 24 follow", "copy it again"],
    ),
    "text for a mesh": (
        SCANS,
        lambda root: root.file(MESH).write_text("404 not found"),
        [MESH.format(NAME), "its points cannot be read as text", "clouds are read from PLY"],
    ),
    "NaN points": (
        SCANS,
        lambda root: root.file(MESH).write_bytes(ply([(1, 2, 3)] * 24 + [(NAN, 0, 0)])),
        [
            MESH.format(NAME),
            "1 of 25 points are NaN or infinite, the first is number 24",
            "remove such points",
        ],
    ),
    "infinite points": (
        SCANS,
        lambda root: root.file(MESH).write_bytes(ply([(1, 2, 3)] * 24 + [(float("inf"), 0, 0)])),
        ["1 of 25 points are NaN or infinite"],
    ),
    "empty cloud": (
        SCANS,
        lambda root: root.file(MESH).write_bytes(ply([])),
        [MESH.format(NAME), "the cloud is empty, it has no point; leave it out"],
    ),
    "one point": (
        SCANS,
        lambda root: root.file(MESH).write_bytes(ply([(1, 2, 3)])),
        [MESH.format(NAME), "it has a single point, a cloud needs an extent; leave it out"],
    ),
    "all points at one place": (
        SCANS,
        lambda root: root.file(MESH).write_bytes(ply([(1, 2, 3)] * 25)),
        ["all its 25 points lie at one place"],
    ),
    "alignment that is none": (
        SCANS,
        lambda root: root.file(INFO).write_text("axisAlignment = 2 0 0 0 0 2 0 0 0 0 2 0 0 0 0 1"),
        [INFO.format(NAME), "is no rigid motion"],
    ),
    "short alignment": (
        SCANS,
        lambda root: root.file(INFO).write_text("axisAlignment = 1 0 0"),
        [INFO.format(NAME), "is not 16 numbers, found 3"],
    ),
    # objects
    "object of unknown segments": (
        WITH_OBJECTS,
        lambda root: root.object(1, segments=[101, 55]),
        [f"object 1 of {NAME} has segments without vertices: [55]"],
    ),
    "object that does not exist": (
        OBJECTS,
        lambda root: root.object(1, objectId=9),
        [f"{NAME} has no object '1'; it has 0, 9, 2"],
    ),
    "label that is no category": (
        ("scannet_classification",),
        lambda root: root.object(1, label="flying carpet"),
        [f"{NAME}, object 1", "'flying carpet' is not a raw category of scannetv2-labels.combined.tsv"],
    ),
    # words about scans
    "unknown scan": (
        ("scanrefer_captioning", "scanrefer_dense_captioning"),
        lambda root: root.json("ScanRefer_filtered_val.json", described("scene0099_00")),
        ["item 0", "scene0099_00, which should hold", "cannot be read"],
    ),
    "no description": (
        ("scanrefer_captioning", "scanrefer_dense_captioning"),
        lambda root: root.json("ScanRefer_filtered_val.json", described(NAME, text=" ")),
        ["item 0: 'description' is empty"],
    ),
    "name for an object's number": (
        ("scanrefer_captioning", "scanrefer_dense_captioning"),
        lambda root: root.json("ScanRefer_filtered_val.json", described(NAME, "table")),
        ["item 0: 'object_id' should be the number of an object, found 'table'"],
    ),
    "question without answers": (
        ("scanqa",),
        lambda root: root.json("ScanQA_v1.0_val.json", asked(NAME, answers=[])),
        ["item 0: 'answers'"],
    ),
    "scan out of the root": (
        ("scanqa",),
        lambda root: root.json("ScanQA_v1.0_val.json", asked("../../etc")),
        ["item 0", "leads out of the data folder", "expected a relative path"],
    ),
    # single objects
    "no cloud file": (
        SHAPES,
        lambda root: (root.path / "shapenet_pc" / f"{BED}-1.npy").unlink(),
        [f"the object {BED}-1.npy: there is no file"],
    ),
    "empty object": (
        SHAPES,
        lambda root: root.cloud(np.zeros((0, 3), "float32")),
        [f"{BED}-1.npy: expected at least 2 points, found 0; leave it out"],
    ),
    "object of a single point": (
        SHAPES,
        lambda root: root.cloud(np.zeros((1, 3), "float32")),
        [f"{BED}-1.npy: expected at least 2 points, found 1"],
    ),
    "object of another shape": (
        SHAPES,
        lambda root: root.cloud(np.zeros((9, 4), "float32")),
        [f"{BED}-1.npy: expected points (P, 3), or with colours (P, 6), found float32 (9, 4)"],
    ),
    "damaged object": (
        SHAPES,
        lambda root: root.cloud(b"\x93NUMPY\x01\x00v\x00{'descr'"),
        [f"{BED}-1.npy is not an array that can be read", "copy it again"],
    ),
}

AT_LOAD: dict[str, tuple[Any, list[str]]] = {
    "NaN": (
        np.array([[0, 0, 0], [NAN, 1, 1]], "float32"),
        ["1 of 2 points are NaN or infinite, the first is number 1"],
    ),
    "all at one place": (np.ones((5, 3), "float32"), ["all its 5 points lie at one place"]),
    "normals for colours": (
        np.array([[0, 0, 0, -1, 0, 0], [1, 1, 1, 0, 1, 0]], "float32"),
        ["expected colours in 0..1 or 0..255", "if these are normals, keep the first three columns alone"],
    ),
}


def data(root: Root, benchmark: str, **options: Any) -> CloudInstructions:
    return CloudInstructions(str(root.path), [Source(benchmark, "val")], **options)


@pytest.mark.parametrize(("case", "benchmark"), [(case, name) for case in CASES for name in CASES[case][0]])
def test_one_message_says_it_all(root: Root, case: str, benchmark: str) -> None:
    _, spoil, expected = CASES[case]
    spoil(root)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are looked at below
        data(root, benchmark).train_sets()
    text = message(caught.value)
    assert [part for part in expected if part not in text] == [], text
    assert "Correct it, or leave such items out with bad=skip" in text
    assert len(text) < 900, text


@pytest.mark.parametrize(("case", "benchmark"), [(case, name) for case in CASES for name in CASES[case][0]])
def test_or_it_is_counted_and_left_out(root: Root, case: str, benchmark: str) -> None:
    [whole] = data(root, benchmark).train_sets()
    _, spoil, expected = CASES[case]
    spoil(root)
    with pytest.warns(UserWarning, match="1 bad item left out of") as warned:
        [kept] = data(root, benchmark, bad="skip").train_sets()
    told = str(warned[0].message)
    first_words = [part for part in expected if part not in ("bad=skip",)]
    assert [part for part in first_words if part not in told] == [], told
    good = [sample for sample in whole.samples if GOOD in sample.id or f"{BED}-2" in sample.id]
    ids = [sample.id for sample in kept.samples]
    assert [sample.id for sample in good] == [name for name in ids if GOOD in name or f"{BED}-2" in name]
    assert len(ids) < len(whole.samples)


@pytest.mark.parametrize("case", AT_LOAD)
def test_points_are_looked_at_when_they_are_loaded(root: Root, case: str) -> None:
    content, expected = AT_LOAD[case]
    root.cloud(content)
    sets = CloudInstructions(str(root.path), test=[Source("shapenet_classification", "val")]).eval_sets(
        "test"
    )
    processor = Processor(
        PromptBuilder(load_tokenizer(SHIPPED / "language"), {"cloud": 16}), {"cloud": CloudLoader()}
    )
    examples = EvaluationExamples(sets, processor)
    assert len(examples) == 2
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are looked at below
        examples[0]
    text = str(caught.value)
    assert [
        part for part in [f"sample {BED}-1 of shapenet_classification", *expected] if part not in text
    ] == []
    assert examples[1].media["cloud"][0].shape == (3, 6)


def test_a_scan_that_was_broken_is_told_by_each_benchmark_that_speaks_of_it(root: Root) -> None:
    root.file(MESH).write_bytes(ply([]))
    both = [Source("scanqa", "val"), Source("nr3d_captioning", "val")]
    with pytest.warns(UserWarning, match="1 bad item left out of") as warned:
        sets = CloudInstructions(str(root.path), both, bad="skip").train_sets()
    assert [len(item.samples) for item in sets] == [1, 1]
    assert ["ScanQA" in str(warned[0].message), "nr3d.csv" in str(warned[1].message)] == [True, True]


@pytest.mark.parametrize("segments", [[7], []])
@pytest.mark.parametrize("benchmark", WITH_OBJECTS)
@pytest.mark.parametrize("bad", ["error", "skip"])
def test_an_object_without_extent_is_a_known_blemish(
    root: Root, segments: list[int], benchmark: str, bad: Any
) -> None:
    root.object(1, segments=segments)
    with pytest.warns(UserWarning, match="1 item with a blemish that official files have left out of"):
        data(root, benchmark, bad=bad).train_sets()


ASKED: dict[str, tuple[list[str], list[str]]] = {
    "missing cloud": (["--cloud", "gone.ply"], ["there is no cloud file at", "gone.ply", "check --cloud"]),
    "box of five numbers": (
        ["--cloud", "scan.ply", "--box", "1 2 3 4 5"],
        ['--box "1 2 3 4 5" is no box: it has 5 numbers', '"x y z dx dy dz"'],
    ),
    "box of words": (["--cloud", "scan.ply", "--box", "the chair"], ["it has a word that is no number"]),
    "box of no size": (
        ["--cloud", "scan.ply", "--box", "-1 2 3 1 0 1"],
        ["its size along y is 0, not above 0", "or all"],
    ),
    "box without a cloud": (["--box", "1 2 3 1 1 1"], ["name that with --cloud"]),
}


@pytest.mark.parametrize("case", ASKED)
def test_questions_about_clouds(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scan.ply").write_bytes(ply([(0, 0, 0), (1, 1, 1)]))
    words, expected = ASKED[case]
    text = refused(["predict", "--question", "What is this?", *words], capsys)
    assert [part for part in expected if part not in text] == [], text


def test_an_alignment_that_cannot_be_read_is_told_when_a_scan_is_asked_about(
    root: Root, capsys: pytest.CaptureFixture[str]
) -> None:
    root.file(INFO).write_text("axisAlignment = one two three")
    words = ["predict", "--question", "What is in the room?", "--cloud", str(root.file(MESH))]
    assert "is not 16 numbers: could not convert string to float: 'one'" in refused(words, capsys)
