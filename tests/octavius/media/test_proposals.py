"""Files of proposals: which boxes are kept, and what is refused."""

import json
import math
import os
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from octavius.encoders.rois.proposals import source_of
from octavius.instruction.sample import Media
from octavius.media.proposals import read_proposals

BOX = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 4)] * 4), max_size=7))
def test_the_best_boxes_stay_without_what_they_cover(found: list[tuple[int, ...]]) -> None:
    boxes = [[0.35 * place for place in places] + [1.0] * 3 for *places, _ in found]  # no IoU near the limit
    scores = [score / 4 for *_, score in found]
    expected: list[list[float]] = []
    for place in sorted(range(len(found)), key=lambda place: -scores[place]):
        box = boxes[place]
        shared = [overlap(box, other) for other in expected]
        if all(part / (2 - part) <= 0.25 for part in shared):
            expected.append(box)
    with TemporaryDirectory() as folder:
        (Path(folder) / "room.json").write_text(json.dumps({"boxes": boxes, "scores": scores}))
        find = source_of(folder).finder("cpu")
        kept = find(Media(path=Path("rooms/room.ply")), torch.zeros(1, 6))
    torch.testing.assert_close(kept, torch.tensor(expected).reshape(-1, 6))


def overlap(box: list[float], other: list[float]) -> float:
    """What two unit cubes share."""
    return math.prod(max(0.0, 1 - abs(box[axis] - other[axis])) for axis in range(3))


def test_without_scores_the_first_is_the_surest(tmp_path: Path) -> None:
    boxes = np.array([BOX, [5.0, *BOX[1:]], [9.0, *BOX[1:]]])
    np.save(tmp_path / "a.npy", boxes)
    np.savez(tmp_path / "b.npz", boxes=boxes)
    (tmp_path / "c.json").write_text(json.dumps({"boxes": boxes.tolist()}))
    for file in tmp_path.iterdir():
        found, scores = read_proposals(file)
        assert found.tolist() == boxes.tolist()
        assert scores.tolist() == sorted(set(scores.tolist()), reverse=True)


def test_files_of_no_boxes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((0, 7)))
    np.savez(tmp_path / "b.npz", boxes=np.zeros((0, 6)), scores=np.zeros(0))
    (tmp_path / "c.json").write_text('{"boxes": [], "scores": []}')
    for file in tmp_path.iterdir():
        found, scores = read_proposals(file)
        assert (found.shape, scores.shape) == ((0, 6), (0,))


BAD: dict[str, tuple[Any, str]] = {
    "corners": ({"boxes": [[[0, 0, 0]] * 8]}, r"expected boxes \(K, 6\), .* found \(1, 8, 3\)"),
    "turned": ({"boxes": [[*BOX, 0.3]]}, r"found \(1, 7\)"),
    "one box": ({"boxes": BOX}, r"found \(6,\)"),
    "fewer scores": ({"boxes": [BOX, BOX], "scores": [1.0]}, r"found \(2, 6\) and \(1,\)"),
    "flat": ({"boxes": [BOX, [0, 0, 0, 1, 0, 1]]}, "box 1: its size along y is 0"),
    "no finite score": ({"boxes": [BOX], "scores": [float("nan")]}, "a score is not finite"),
    "ragged": ({"boxes": [BOX, BOX[:3]]}, "no numbers"),
    "words": ({"boxes": [["a"] * 6]}, "no numbers"),
    "texts of numbers": ({"boxes": [["1"] * 6]}, "no numbers"),
    "a long text": ({"boxes": [["1" * 100_000]] * 300}, "no numbers"),
    "truths": ({"boxes": [[True] * 6]}, "no numbers"),
    "a text": ({"boxes": "123456"}, "no numbers"),
    "a number": ({"boxes": 1}, "no numbers"),
    "scores of texts": ({"boxes": [BOX], "scores": ["1"]}, "no numbers"),
    "a number of 350 digits": ({"boxes": [[10**350, *BOX[1:]]]}, "no numbers"),
    "a place beyond all measure": ({"boxes": [[1e300, *BOX[1:]]]}, "box 0: a number is beyond 1e.09 metres"),
    "other names": ({"bbox": [BOX]}, "expected `boxes` and `scores`, found bbox"),
    "a list": ([BOX], "found list"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path: Path, case: str) -> None:
    content, message = BAD[case]
    (tmp_path / "scene.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"scene\.json: .*" + message):
        read_proposals(tmp_path / "scene.json")


@pytest.mark.parametrize("ending", [".json", ".npz", ".npy"])
def test_files_that_cannot_be_read(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"scene{ending}"
    file.write_bytes(b"\x93broken")
    with pytest.raises(ValueError, match=r"scene\.\w+ (cannot be read|is not an array)"):
        read_proposals(file)


def test_odd_files_are_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ValueError, match=r"pipe\.json cannot be read \(Is a pipe"):
        read_proposals(tmp_path / "pipe.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"deep\.json cannot be read"):
        read_proposals(tmp_path / "deep.json")
    for kind in ("c16", "U9", "?", "M8[s]"):
        np.save(tmp_path / "a.npy", np.ones((1, 7)).astype("i8").astype(kind))
        with pytest.raises(ValueError, match=r"a\.npy: its boxes or scores are no numbers"):
            read_proposals(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("boxes.npy", bytes(200_000_000))
    with pytest.raises(
        ValueError, match=r"bomb\.npz cannot be read \(its member boxes\.npy says 200,000,000"
    ):
        read_proposals(tmp_path / "bomb.npz")
