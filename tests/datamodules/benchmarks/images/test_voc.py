"""VOC's XML files, invented and real, become the samples that they state."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.benchmarks.base import DatasetNotFoundError
from datamodules.benchmarks.images.voc import read
from octavius.instruction.sample import Boxes, LabelledBox, Media, Sample
from tests.datamodules.benchmarks.bad_items import kept


def obj(name: str, edges: tuple[Any, ...], difficult: int = 0, inner: str = "") -> str:
    x1, y1, x2, y2 = edges
    return (
        f"<object><name>{name}</name><pose>Left</pose><truncated>1</truncated><difficult>{difficult}</difficult>"
        f"{inner}<bndbox><xmax>{x2}</xmax><xmin>{x1}</xmin><ymax>{y2}</ymax><ymin>{y1}</ymin></bndbox></object>"
    )


def document(*elements: str, width: object = 10, height: object = 20) -> str:
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>other.jpg</filename>{size}{''.join(elements)}</annotation>"


def write(root: Path, documents: dict[str, str], names: str | None = None) -> Path:
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, text in documents.items():
        (root / "Annotations" / f"{name}.xml").write_text(text)
    listed = "\n".join(documents) + "\n" if names is None else names
    (root / "ImageSets" / "Main" / "val.txt").write_text(listed)
    return root


def sample(root: Path, name: str, *boxes: LabelledBox) -> Sample:
    media = {"image": Media(path=root / "JPEGImages" / f"{name}.jpg")}
    return Sample(name, "detection", "voc_detection", media, "", Boxes(boxes))


def objects(found: Sample) -> tuple[LabelledBox, ...]:
    assert isinstance(found.gold, Boxes)
    return found.gold.objects


def test_pixels_count_from_one(tmp_path: Path) -> None:
    write(tmp_path, {"2008_1": document(obj("dog", (1, 1, 10, 20)), obj("cat", (6, 11, 6, 11)))})
    whole = LabelledBox("dog", (0.0, 0.0, 1.0, 1.0))
    one_pixel = LabelledBox("cat", (0.5, 0.5, 0.6, 0.55))
    assert read(tmp_path, "val") == [sample(tmp_path, "2008_1", whole, one_pixel)]


def test_difficult_objects_are_ignored_unless_asked_for(tmp_path: Path) -> None:
    hard, easy = obj("cow", (1, 1, 5, 10), difficult=1), obj("dog", (1, 1, 10, 20))
    write(tmp_path, {"both": document(hard, easy), "only": document(hard), "none": document()})
    dog, cow = LabelledBox("dog", (0.0, 0.0, 1.0, 1.0)), LabelledBox("cow", (0.0, 0.0, 0.5, 0.5))
    assert read(tmp_path, "val") == [sample(tmp_path, "both", replace(cow, ignored=True), dog)]
    everything = [sample(tmp_path, "both", cow, dog), sample(tmp_path, "only", cow)]
    assert read(tmp_path, "val", difficult=True) == everything


def test_parts_of_a_person_are_no_objects(tmp_path: Path) -> None:
    head = obj("head", (2, 2, 3, 3)).replace("object>", "part>")
    write(tmp_path, {"a": document(obj("person", (1, 1, 10, 20), inner=head))})
    assert read(tmp_path, "val") == [sample(tmp_path, "a", LabelledBox("person", (0.0, 0.0, 1.0, 1.0)))]


@pytest.mark.parametrize("year", ["VOC2007", "VOCdevkit/VOC2012", "."])
def test_the_year_is_found(tmp_path: Path, year: str) -> None:
    write(tmp_path / year, {"a": document(obj("dog", (1, 1, 10, 20)))})
    [found] = read(tmp_path, "val")
    assert found.media["image"].path == tmp_path / year / "JPEGImages" / "a.jpg"


def test_a_test_split_without_annotations_is_told(tmp_path: Path) -> None:
    write(tmp_path, {"a": document(obj("dog", (1, 1, 10, 20)))})
    (tmp_path / "ImageSets" / "Main" / "test.txt").write_text("2008_000001\n2008_000004\n")
    with pytest.raises(
        ValueError, match=r"no annotation of the split 'test'\. VOC2012's are not published: take its"
    ):
        read(tmp_path, "test", bad="skip")


def test_of_a_test_split_with_annotations_only_the_missing_are_bad(tmp_path: Path) -> None:
    write(tmp_path, {"a": document(obj("dog", (1, 1, 10, 20)))})
    (tmp_path / "ImageSets" / "Main" / "test.txt").write_text("a\nb\n")
    [left] = kept(read, tmp_path, "test", r"test\.txt line 2: the annotation .*b\.xml cannot be read")
    assert left.id == "a"


def test_two_years_are_a_question_to_the_user(tmp_path: Path) -> None:
    for year in ("VOC2007", "VOC2012"):
        write(tmp_path / "VOCdevkit" / year, {"a": document(obj("dog", (1, 1, 10, 20)))})
    with pytest.raises(ValueError, match=r"several years of VOC \(VOCdevkit/VOC2007, VOCdevkit/VOC2012\)"):
        read(tmp_path, "val")
    assert len(read(tmp_path / "VOCdevkit" / "VOC2007", "val")) == 1


pixels = st.integers(1, 200).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n), st.integers(1, n)))


@given(st.lists(st.tuples(st.sampled_from(["dog", "tvmonitor"]), pixels, pixels), min_size=1, max_size=4))
def test_any_object_comes_back(tmp_path_factory: pytest.TempPathFactory, facts: list[Any]) -> None:
    documents, expected = {}, []
    for number, (label, (width, *x), (height, *y)) in enumerate(facts):
        edges = (min(x), min(y), max(x), max(y))
        documents[str(number)] = document(obj(label, edges), width=width, height=height)
        expected.append(
            (label, ((min(x) - 1) / width, (min(y) - 1) / height, max(x) / width, max(y) / height))
        )
    samples = read(write(tmp_path_factory.mktemp("voc"), documents), "val")
    golds = [found.gold for found in samples]
    assert golds == [Boxes((LabelledBox(label, edges),)) for label, edges in expected]


def test_real_images(shared_data: Path) -> None:
    root = shared_data / "voc2007-tiny"
    samples = read(root, "test") + read(root, "trainval")
    assert len(samples) == 13
    for found in samples:
        text = (root / "Annotations" / f"{found.id}.xml").read_text()
        names = re.findall(r"<name>([a-z]+)</name>(?:(?!</object>).)*<difficult>0", text, flags=re.DOTALL)
        assert [item.label for item in objects(found) if not item.ignored] == names
        assert found.media["image"].path is not None
        assert found.media["image"].path.is_file()
    everything = read(root, "test", difficult=True) + read(root, "trainval", difficult=True)
    counts = [
        sum(not one.ignored for found in some for one in objects(found)) for some in (samples, everything)
    ]
    texts = [file.read_text() for file in (root / "Annotations").glob("*.xml")]
    difficult = sum(text.count("<difficult>1") for text in texts)
    assert difficult > 0
    assert counts[1] == sum(text.count("<object>") for text in texts) == counts[0] + difficult


def test_a_real_box_by_hand(shared_data: Path) -> None:
    first = read(shared_data / "voc2007-tiny", "test")[0]
    dog = LabelledBox("dog", (47 / 353, 239 / 500, 195 / 353, 371 / 500))
    person = LabelledBox("person", (7 / 353, 11 / 500, 352 / 353, 498 / 500))
    assert (first.id, first.gold) == ("000001", Boxes((dog, person)))


GOOD = obj("dog", (1, 1, 10, 20))

BAD_OBJECTS = {
    "reversed": (obj("cat", (9, 1, 3, 20)), "object 0: bad box: x1 = 0.8 is not left of x2 = 0.3"),
    "outside": (
        obj("cat", (1, 1, 15, 20)),
        r"object 0: bad box: .*outside.*pixels \[0, 0, 15, 20\].*10 x 20",
    ),
    "not a number": (
        obj("cat", ("nan", 1, 9, 9)),
        "object 0: expected a number in <bndbox><xmin>, found 'nan'",
    ),
    "a word": (obj("cat", ("left", 1, 9, 9)), "object 0: expected a number in <bndbox><xmin>, found 'left'"),
    "no name": (obj(" ", (1, 1, 9, 9)), "object 0: <name> is missing or empty in <object>"),
    "no box": (
        "<object><name>cat</name></object>",
        "object 0: <bndbox><xmin> is missing or empty in <object>",
    ),
}


@pytest.mark.parametrize("case", BAD_OBJECTS)
def test_bad_objects(tmp_path: Path, case: str) -> None:
    text, message = BAD_OBJECTS[case]
    write(tmp_path, {"a": document(text, GOOD)})
    samples = kept(read, tmp_path, "val", r"Annotations/a\.xml " + message)
    assert samples == [sample(tmp_path, "a", LabelledBox("dog", (0.0, 0.0, 1.0, 1.0)))]


BAD_IMAGES = {
    "malformed": (
        "<annotation><object></annotation>",
        None,
        r"a\.xml is not valid XML: mismatched tag: line 1, col",
    ),
    "cut short": (document(GOOD)[:60], None, r"a\.xml is not valid XML"),
    "no size": ("<annotation></annotation>", None, "<size><width> is missing or empty in <annotation>"),
    "not there": (
        document(GOOD),
        "gone\nb",
        r"val\.txt line 1: the annotation .*gone\.xml cannot be read: No such",
    ),
    "escape": (document(GOOD), "../../a\nb", r"the path '\.\./\.\./a\.xml' leads out of the data folder"),
    "class list": (
        document(GOOD),
        "a  -1\nb",
        "expected the name of one image, found 'a  -1'; is it the list of one",
    ),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images(tmp_path: Path, case: str) -> None:
    text, names, message = BAD_IMAGES[case]
    write(tmp_path, {"a": text, "b": document(GOOD)}, names)
    samples = kept(read, tmp_path, "val", message)
    assert [found.id for found in samples] == ["b"]


@pytest.mark.parametrize("missing", ["ImageSets/Main/val.txt", "JPEGImages/", "Annotations/"])
def test_missing_files_and_folders_are_named(tmp_path: Path, missing: str) -> None:
    write(tmp_path, {})
    path = tmp_path / missing
    path.rmdir() if missing.endswith("/") else path.unlink()
    with pytest.raises(DatasetNotFoundError, match=f"{missing} not found in the data folder"):
        read(tmp_path, "val")
