"""Official COCO files, invented and real, become the samples that they state."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from datamodules.benchmarks import read
from datamodules.benchmarks.base import DatasetNotFoundError, LeftOutWarning
from datamodules.benchmarks.images.coco import read_captioning, read_crowds, read_detection
from octavius.instruction.sample import Boxes, LabelledBox, Media, References, Sample
from octavius.media.images import ImageLoader
from tests.datamodules.benchmarks.bad_items import kept

Content = dict[str, Any]

IMAGES = [
    {"id": 7, "file_name": "000000000007.jpg", "width": 40, "height": 20, "license": 1},
    {"id": 3, "file_name": "000000000003.jpg", "width": 10, "height": 10, "license": 1},
    {"id": 5, "file_name": "000000000005.jpg", "width": 10, "height": 10, "license": 1},
]
CATEGORIES = [{"id": 1, "name": "person"}, {"id": 67, "name": "dining table"}]


def box(image: int, category: int, bbox: list[Any], crowd: object = 0, number: int = 1) -> Content:
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": bbox,
        "iscrowd": crowd,
        "area": 1.0,
    }


def instances() -> Content:
    boxes = [
        box(3, 67, [0, 0, 10, 10]),
        box(7, 1, [10, 5, 20, 10]),
        box(7, 1, [0, 0, 40, 20], crowd=1),
        box(5, 1, [0, 0, 9, 9], crowd=1),
        box(7, 67, [-0.5, 10, 41.5, 10.25]),
    ]
    return {"images": IMAGES, "annotations": boxes, "categories": CATEGORIES, "info": {}, "licenses": []}


def captions() -> Content:
    texts = [(7, "A man eats. "), (3, "A table."), (7, "Dinner for one"), (5, "A crowd.")]
    notes = [{"id": n, "image_id": image, "caption": text} for n, (image, text) in enumerate(texts)]
    return {"images": IMAGES, "annotations": notes, "info": {}, "licenses": []}


def write(root: Path, kind: str, content: Content) -> Path:
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "train2017").mkdir(exist_ok=True)
    (root / "annotations" / f"{kind}_train2017.json").write_text(json.dumps(content))
    return root


def image(root: Path, number: int) -> dict[str, Media]:
    return {"image": Media(path=root / "train2017" / f"{number:012}.jpg")}


def test_boxes_are_what_the_file_states(tmp_path: Path) -> None:
    write(tmp_path, "instances", instances())
    person = LabelledBox("person", (0.25, 0.25, 0.75, 0.75))
    people = LabelledBox("person", (0.0, 0.0, 1.0, 1.0), ignored=True)
    overshooting = LabelledBox("dining table", (0.0, 0.5, 1.0, 1.0))
    table = LabelledBox("dining table", (0.0, 0.0, 1.0, 1.0))
    assert read_detection(tmp_path, "train2017") == [
        Sample(
            "7", "detection", "coco_detection", image(tmp_path, 7), "", Boxes((person, people, overshooting))
        ),
        Sample("3", "detection", "coco_detection", image(tmp_path, 3), "", Boxes((table,))),
    ]


def test_pictures_are_turned_for_captions_and_stay_as_boxes_were_told_on_them(tmp_path: Path) -> None:
    write(tmp_path, "instances", instances())
    write(tmp_path, "captions", captions())
    exif = Image.Exif()
    exif[274] = 6  # shown after a quarter turn, clockwise
    picture = Image.new("RGB", (40, 20))
    picture.paste((255, 0, 0), (10, 5, 30, 15))  # the person
    picture.save(tmp_path / "train2017" / "000000000007.jpg", exif=exif, quality=100)
    loader = ImageLoader(40, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    found, _ = read("coco_detection", tmp_path, "train2017")
    told, *_ = read("coco_captioning", tmp_path, "train2017")
    upright = loader(found.media["image"])[0] > 0.5  # (row, column)
    assert (upright[20, 11], upright[20, 28], upright[8, 20], upright[32, 20]) == (1, 1, 0, 0)
    turned = loader(told.media["image"])[0] > 0.5
    assert torch.equal(turned, upright.rot90(-1))
    # As annotated by a tool that shows the turned picture.
    other = instances()
    other["images"] = [{**IMAGES[0], "width": 20, "height": 40}]
    other["annotations"] = [box(7, 1, [5, 10, 10, 20])]
    write(tmp_path, "instances", other)
    [found] = read("coco_detection", tmp_path, "train2017")
    assert torch.equal(loader(found.media["image"])[0] > 0.5, turned)


def test_all_captions_of_an_image_are_references(tmp_path: Path) -> None:
    write(tmp_path, "captions", captions())
    facts = [(7, ("A man eats.", "Dinner for one")), (3, ("A table.",)), (5, ("A crowd.",))]
    assert read_captioning(tmp_path, "train2017") == [
        Sample(str(n), "captioning", "coco_captioning", image(tmp_path, n), "", References(texts))
        for n, texts in facts
    ]


side = st.integers(1, 640)
facts = st.lists(
    st.tuples(
        side, side, st.lists(st.tuples(st.sampled_from(CATEGORIES), *[st.floats(0.05, 0.45)] * 4), max_size=4)
    ),
    min_size=1,
    max_size=5,
)


@given(facts)
def test_any_scene_comes_back(tmp_path_factory: pytest.TempPathFactory, scenes: list[Any]) -> None:
    content: Content = {"images": [], "annotations": [], "categories": CATEGORIES}
    expected: dict[str, list[Any]] = {}
    for key, (width, height, objects) in enumerate(scenes):
        content["images"].append({"id": key, "file_name": f"{key}.jpg", "width": width, "height": height})
        for category, x, y, w, h in objects:
            pixels = [x * width, y * height, w * width, h * height]
            content["annotations"].append(
                box(key, category["id"], pixels, number=len(content["annotations"]))
            )
            expected.setdefault(str(key), []).append((category["name"], (x, y, x + w, y + h)))
    samples = read_detection(write(tmp_path_factory.mktemp("coco"), "instances", content), "train2017")
    assert [sample.id for sample in samples] == list(expected)
    for sample in samples:
        assert isinstance(sample.gold, Boxes)
        for found, (label, edges) in zip(sample.gold.objects, expected[sample.id], strict=True):
            assert found.label == label
            assert found.box == pytest.approx(edges)


@pytest.mark.parametrize(("split", "boxes", "crowds"), [("train2017", 470, 5), ("val2017", 382, 5)])
def test_real_boxes_equal_pycocotools(shared_data: Path, split: str, boxes: int, crowds: int) -> None:
    root = shared_data / "coco-tiny"
    coco = COCO(root / "annotations" / f"instances_{split}.json")
    assert (len(coco.getAnnIds()), len(coco.getAnnIds(iscrowd=True))) == (boxes, crowds)
    samples = read_detection(root, split)
    total = 0
    for sample in samples:
        path = sample.media["image"].path
        assert path is not None
        with Image.open(path) as picture:
            width, height = picture.size
        notes = coco.loadAnns(coco.getAnnIds(imgIds=int(sample.id)))
        assert isinstance(sample.gold, Boxes)
        assert [box.ignored for box in sample.gold.objects] == [bool(note["iscrowd"]) for note in notes]
        for found, note in zip(sample.gold.objects, notes, strict=True):
            x1, y1, x2, y2 = found.box
            assert found.label == coco.cats[note["category_id"]]["name"]
            pixels = [x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height]
            assert pixels == pytest.approx(note["bbox"], abs=1e-6)
        total += sum(not box.ignored for box in sample.gold.objects)
    assert total == boxes - crowds


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_real_captions_are_five_an_image(shared_data: Path, split: str) -> None:
    samples = read_captioning(shared_data / "coco-tiny", split)
    assert len(samples) == 50
    for sample in samples:
        assert isinstance(sample.gold, References)
        assert len(sample.gold.texts) == 5
        assert sample.media["image"].path is not None
        assert sample.media["image"].path.is_file()


def change(key: str, index: int, **values: Any) -> Callable[[Content], None]:
    """Changes one record of a top-level list."""

    def apply(content: Content) -> None:
        content[key][index] = {**content[key][index], **values}

    return apply


BAD_INSTANCES = {
    "reversed": (
        change("annotations", 0, bbox=[5, 5, -2, 3]),
        r"annotations\[0\].*x1 = 0.5 is not left of x2",
    ),
    "outside": (
        change("annotations", 0, bbox=[5, 5, 9, 3]),
        r"annotations\[0\].*pixels \[5, 5, 14, 8\].*10 x 10",
    ),
    "not a number": (
        change("annotations", 0, bbox=[0, 0, float("nan"), 1]),
        "expected a finite number, found nan",
    ),
    "a text": (change("annotations", 0, bbox=[0, 0, "9", 1]), "expected a number, found '9'"),
    "three numbers": (change("annotations", 0, bbox=[0, 0, 9]), "expected 4 numbers, found 3"),
    "no box": (change("annotations", 0, bbox=None), "'bbox' should be a list, found None"),
    "no such image": (change("annotations", 0, image_id=99), "image_id 99 is not among the file's images"),
    "no such category": (
        change("annotations", 0, category_id=99),
        "category_id 99 is not among the file's categ",
    ),
    "crowd as a text": (change("annotations", 0, iscrowd="0"), "'iscrowd' should be 0 or 1, found '0'"),
    "crowd of another kind": (
        change("annotations", 0, iscrowd="zz"),
        "'iscrowd' should be 0 or 1, found 'zz'",
    ),
    "crowd without a number": (
        change("annotations", 0, iscrowd=float("nan")),
        "'iscrowd' should be 0 or 1, found nan",
    ),
    "two crowds": (change("annotations", 0, iscrowd=2), "'iscrowd' should be 0 or 1, found 2"),
    "null for a crowd": (change("annotations", 0, iscrowd=None), "'iscrowd' should be 0 or 1, found None"),
    "an id as a text": (
        change("annotations", 0, image_id="3"),
        "'image_id' should be a whole number, found '3'",
    ),
    "a negative id": (change("annotations", 0, id=-1), "'id' should be 0 to"),
    "width as a text": (change("images", 1, width="10"), "'width' should be a whole number, found '10'"),
    "half a pair": (
        change("images", 1, file_name="\ud800.jpg"),
        "'file_name' has half of a surrogate pair",
    ),
    "a name too long": (
        change("images", 1, file_name="a" * 300),
        "longer than operating systems allow: 255 bytes for a name",
    ),
    "a list for a record": (
        lambda content: content["annotations"].insert(0, []),
        r"annotations\[0\]: expected an",
    ),
    "no width": (lambda content: content["images"][1].pop("width"), "the key 'width' is missing"),
    "no size": (change("images", 1, width=0), "size should be positive"),
    "huge size": (change("images", 1, width=10**400), "expected a finite number"),
    "escape": (
        change("images", 1, file_name="../../secret.jpg"),
        "id 3: the path '../../secret.jpg' leads out",
    ),
    "absolute": (change("images", 1, file_name="/etc/passwd"), "id 3: the path '/etc/passwd' leads out"),
}


@pytest.mark.parametrize("case", BAD_INSTANCES)
def test_bad_instances(tmp_path: Path, case: str) -> None:
    spoil, message = BAD_INSTANCES[case]
    content = json.loads(json.dumps(instances()))
    spoil(content)
    write(tmp_path, "instances", content)
    with pytest.raises(ValueError, match=message) as caught:
        read_detection(tmp_path, "train2017")
    assert str(tmp_path / "annotations" / "instances_train2017.json") in str(caught.value)
    with pytest.warns(UserWarning, match=r"1 bad item left out .*; the first: .*" + message):
        samples = read_detection(tmp_path, "train2017", bad="skip")
    kept = ["7", "3"] if case == "a list for a record" else ["7"]
    assert [sample.id for sample in samples] == kept


def test_boxes_without_an_area_are_left_out_and_told_as_the_official_file_has_them(tmp_path: Path) -> None:
    content = instances()
    content["annotations"].append(
        box(7, 1, [296.65 / 16, 18.33, 1.03, 0.0], number=918)
    )  # as in image 200365
    content["annotations"].append(box(5, 1, [1, 1, 0, 0], number=2206849))
    write(tmp_path, "instances", content)
    with pytest.warns(
        LeftOutWarning, match="2 items with a blemish that official files have left out"
    ) as told:
        samples = read_detection(tmp_path, "train2017")
    write(tmp_path, "instances", instances())
    assert samples == read_detection(tmp_path, "train2017")
    [warning] = told
    assert isinstance(warning.message, LeftOutWarning)
    assert [reason.what for reason in warning.message.reasons] == [
        "the box of annotation 918 has no area: 1.03 x 0 pixels",
        "the box of annotation 2206849 has no area: 0 x 0 pixels",
    ]


def test_an_annotation_that_stands_twice_is_one(tmp_path: Path) -> None:
    content = instances()
    content["annotations"].append(dict(content["annotations"][0]))
    write(tmp_path, "instances", content)
    with pytest.raises(ValueError, match=r"annotations\[5\]: the annotation with id 1 occurs twice"):
        read_detection(tmp_path, "train2017")


def test_an_image_or_a_category_that_stands_twice_is_told(tmp_path: Path) -> None:
    content = instances()
    write(tmp_path, "instances", {**content, "images": [*IMAGES, {**IMAGES[0], "width": 80}]})
    with pytest.raises(ValueError, match=r"images\[3\]: the id 7 occurs twice among the images"):
        read_detection(tmp_path, "train2017")
    write(tmp_path, "instances", {**content, "categories": [*CATEGORIES, {"id": 1, "name": "dog"}]})
    with pytest.raises(ValueError, match=r"categories\[2\]: the id 1 is also that of the category 'person'"):
        read_detection(tmp_path, "train2017")


def test_crowds_are_told_by_the_same_mark(tmp_path: Path) -> None:
    content = instances()
    content["annotations"] += [[], box(7, 67, [0, 0, 1, 1], crowd="1"), {"category_id": []}]
    write(tmp_path, "instances", content)
    assert read_crowds(tmp_path, "train2017") == {"7": {"person"}, "5": {"person"}}


def test_an_empty_caption_is_bad(tmp_path: Path) -> None:
    content = captions()
    content["annotations"][1]["caption"] = " \n"
    write(tmp_path, "captions", content)
    samples = kept(read_captioning, tmp_path, "train2017", r"annotations\[1\]: 'caption' is empty")
    assert [sample.id for sample in samples] == ["7", "5"]  # the image had no other caption


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_another_kind_of_file_is_told(tmp_path: Path, key: str) -> None:
    content = instances()
    del content[key]
    write(tmp_path, "instances", content)
    with pytest.raises(ValueError, match=f"expected a list under the top-level key '{key}'"):
        read_detection(tmp_path, "train2017", bad="skip")


@pytest.mark.parametrize("reader", [read_detection, read_captioning])
def test_missing_files_and_folders_are_named(
    tmp_path: Path, reader: Callable[[Path, str], list[Sample]]
) -> None:
    kind = "instances" if reader is read_detection else "captions"
    with pytest.raises(DatasetNotFoundError, match=f"annotations/{kind}_train2017.json"):
        reader(tmp_path, "train2017")
    write(tmp_path, kind, instances())
    (tmp_path / "train2017").rmdir()
    with pytest.raises(DatasetNotFoundError, match=r"train2017/ not found in the data folder"):
        reader(tmp_path, "train2017")
