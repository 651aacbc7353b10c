"""Everything that could end a run, or be left out of it, is listed in advance with its file and position."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datamodules.check_samples import check_samples, options_parser, spread
from datamodules.clouds import CloudInstructions
from datamodules.images import ImageInstructions
from datamodules.mixed import MixedInstructions
from datamodules.sources import Source
from octavius.cli.main import main
from octavius.instruction.batch import Processor

SPLIT = "train2017"


def picture(root: Path, name: str, cut: int | None = None) -> None:
    file = root / "coco" / SPLIT / name
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((60, 60), 40).convert("RGB").save(file)
    file.write_bytes(file.read_bytes()[:cut])


def write_coco(root: Path, sound: bool = False) -> Path:
    """Seven pictures; unless all is sound, one is missing, one cut, one has a bad mark, one a caption without end."""
    for number in range(7):
        if sound or number != 2:
            picture(root, f"{number}.jpg", None if sound or number != 3 else 900)
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 60, "height": 60} for n in range(7)]
    boxes: list[dict[str, Any]] = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 0} for n in range(7)
    ]
    boxes.append({**boxes[0], "id": 918, "bbox": [296.65 / 9, 38.33, 1.03, 0.0]})
    captions = [{"id": n, "image_id": n, "caption": "A dog."} for n in range(7)]
    if not sound:
        boxes[4]["iscrowd"] = "0"
        captions[5]["caption"] = "dog " * 5000
        captions.append({"id": 9, "image_id": 6, "caption": "\ud83d"})
    (root / "coco" / "annotations").mkdir(exist_ok=True)
    for kind, rows in (("instances", boxes), ("captions", captions)):
        content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "dog"}]}
        (root / "coco" / "annotations" / f"{kind}_{SPLIT}.json").write_text(json.dumps(content))
    return root


def data(root: Path, **options: Any) -> ImageInstructions:
    train = [Source(name, SPLIT, "coco") for name in ("coco_detection", "coco_captioning")]
    return ImageInstructions(str(root), train, **options)


def options(*words: str) -> Namespace:
    return options_parser().parse_args(["--jobs", "1", *words])


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_what_is_wrong_is_listed_by_kind(
    tmp_path: Path, processor: Processor, capsys: pytest.CaptureFixture[str], jobs: str
) -> None:
    out = tmp_path / "found.jsonl"
    with pytest.raises(SystemExit) as ended:
        check_samples(data(write_coco(tmp_path)), processor, options("--out", str(out), "--jobs", jobs))
    assert ended.value.code == 2
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted((one["kind"], one["place"]) for one in found) == [
        ("annotation", "annotations[4]"),
        ("annotation", "annotations[7]"),
        ("medium", "sample 2 of coco_detection"),
        ("medium", "sample 3 of coco_detection"),
        ("prompt", "sample 5 of coco_captioning"),
    ]
    reasons = {one["place"]: one["reason"] for one in found}
    assert reasons["annotations[4]"] == "'iscrowd' should be 0 or 1, found '0'"
    assert "half of a surrogate pair" in reasons["annotations[7]"]
    assert "no image file at" in reasons["sample 2 of coco_detection"]
    assert "truncated" in reasons["sample 3 of coco_detection"]
    assert "max_tokens" in reasons["sample 5 of coco_captioning"]
    said = capsys.readouterr().out
    for line in (
        "coco_detection, split train2017: 6 samples",
        "2 items of annotation files",
        "1 samples whose prompt cannot be built",
        "2 media that cannot be opened",
        "1 items have blemishes that official files are known to have",
        "5 problems",
    ):
        assert line in said


def test_sound_data_end_with_nothing(
    tmp_path: Path, processor: Processor, capsys: pytest.CaptureFixture[str]
) -> None:
    check_samples(data(write_coco(tmp_path, sound=True)), processor, options())
    assert "\nnothing is wrong\n" in capsys.readouterr().out


def test_a_source_that_is_not_there_is_one_problem_of_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = data(write_coco(tmp_path, sound=True), validate=[Source("flickr30k", "val", "flickr30k")])
    with pytest.raises(SystemExit):
        check_samples(made, None, options())
    said = capsys.readouterr().out
    assert "1 sources that cannot be read at all" in said
    assert "flickr30k does not exist" in said
    assert "1 problems" in said


def test_a_mixture_is_read_in_its_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clouds = CloudInstructions(str(tmp_path), [Source("scanqa", "val", "scannet")])
    with pytest.raises(SystemExit):
        check_samples(MixedInstructions(data(write_coco(tmp_path)), clouds), None, options())
    said = capsys.readouterr().out
    assert "coco_captioning, split train2017: 7 samples" in said
    assert "scannet does not exist" in said


def test_a_limit_is_spread_evenly() -> None:
    assert spread([*range(10)], 4) == [0, 2, 5, 7]  # type: ignore[list-item, comparison-overlap]
    assert spread([*range(3)], 9) == [0, 1, 2]  # type: ignore[list-item, comparison-overlap]
    assert spread([], 9) == []


def test_the_command_needs_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check-data", "--config", "2d.yaml", "--jobs", "1", "--data", "ImageInstructions"]
    words += ["--data.init_args.root", str(write_coco(tmp_path)), "--data.init_args.validate", "[]"]
    words += ["--data.init_args.test", "[]", "--data.init_args.train"]
    source = "{benchmark: coco_captioning, split: train2017, folder: coco}"
    with pytest.raises(SystemExit) as ended:
        main([*words, f"[{source}]"])
    assert ended.value.code == 2
    said = capsys.readouterr().out
    assert "no image file at" in said
    assert "tokens of them the answer's" in said or "but max_tokens is" in said
    with pytest.raises(SystemExit) as ended:
        main([*words, f"[{source}]", "--limit", "0"])
    assert ended.value.code == 2
    assert "--limit should be at least 1" in capsys.readouterr().err
