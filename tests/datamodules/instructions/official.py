"""Writes annotation files in the layouts of COCO and ScanNet from a description of images and rooms."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.datamodules.benchmarks.scan_files import CHAIR, FLOOR, NAME, TABLE, Thing, alignment, write_scan

CATEGORIES = {1: "person", 18: "dog", 47: "cup", 67: "dining table", 23: "bear"}

PICTURES: list[dict[str, Any]] = [
    {
        "id": 7,
        "boxes": [(1, [0, 0, 20, 50]), (18, [60, 20, 20, 20]), (18, [82, 30, 10, 10]), (47, [70, 2, 5, 5])],
        "captions": ["A man walks two dogs.", "Dogs & a man."],
    },
    {"id": 9, "boxes": [(67, [0, 0, 100, 48])], "captions": ["A table, set for a bear."]},
    {"id": 8, "boxes": [(1, [10, 10, 20, 20])], "crowd": [(18, [0, 0, 100, 50])], "captions": ["Dogs."]},
]
"""Pictures of 100 x 50 pixels. The last shows a crowd of dogs."""

CUP = Thing("cup", (0.2, 0.1, 0.5), (0.3, 0.2, 0.6))
ARMCHAIR = Thing("arm chair", (2.0, 2.0, 0.0), (2.5, 2.5, 0.9))
ROOM = (FLOOR, TABLE, CHAIR, CUP, ARMCHAIR)
"""The cup stands on the table; of chairs there are two. Their ids are their places."""

LABELS = {"floor": 2, "coffee table": 7, "chair": 5, "arm chair": 5, "cup": 40, "bed": 4}


def write_coco(root: Path, pictures: Sequence[dict[str, Any]] = PICTURES, captions: bool = True) -> Path:
    """A split `val2017` without its JPEG files, which nothing here opens."""
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    images = [
        {"id": one["id"], "file_name": f"{one['id']:012}.jpg", "width": 100, "height": 50} for one in pictures
    ]
    boxes = [
        {"id": 1, "image_id": one["id"], "category_id": category, "bbox": box, "iscrowd": crowd}
        for one in pictures
        for crowd, key in enumerate(("boxes", "crowd"))
        for category, box in one.get(key, ())
    ]
    categories = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    if captions:
        texts = [{"image_id": one["id"], "caption": text} for one in pictures for text in one["captions"]]
        content = {"images": images, "annotations": texts}
        (root / "annotations" / "captions_val2017.json").write_text(json.dumps(content))
    return root


def write_scannet(root: Path, things: Sequence[Thing] = ROOM, described: str = "") -> Path:
    """A split `train` of one scan, turned in its file; with a sentence about object 1 when one is given."""
    write_scan(root, things, matrix=alignment())
    (root / "scannetv2_train.txt").write_text(f"{NAME}\n")
    rows = [
        "\t".join(("raw_category", "nyu40id")),
        *(f"{label}\t{number}" for label, number in LABELS.items()),
    ]
    (root / "scannetv2-labels.combined.tsv").write_text("\n".join(rows) + "\n")
    if described:
        record = {"scene_id": NAME, "object_id": "1", "object_name": "coffee_table", "description": described}
        (root / "ScanRefer_filtered_train.json").write_text(json.dumps([record]))
    return root
