"""Paths stay inside, boxes are checked, files that are missing or broken are named."""

import json
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.benchmarks.base import BadItemError, BadItems, DataFolder, DatasetNotFoundError, need
from datamodules.benchmarks.documents import load_json, parse_xml, read_lines
from datamodules.benchmarks.values import checked_box, numbers, pixel_box, take

Edges = tuple[float, float, float, float]

LAYOUT = "  <root>/list.txt\n"


def test_need_takes_the_first_that_exists(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "c").write_text("")
    assert need(tmp_path, LAYOUT, "a", "b/", "c") == tmp_path / "b"
    assert need(tmp_path, LAYOUT, "b", "c/", "c") == tmp_path / "c"


def test_need_says_what_is_missing_where_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError) as caught:
        need(tmp_path, LAYOUT, "list.txt", "list.csv")
    message = str(caught.value)
    assert f"list.txt and list.csv not found in the data folder {tmp_path}" in message
    assert "Expected layout:\n  <root>/list.txt\nPut the data set there" in message
    with pytest.raises(
        DatasetNotFoundError, match=r"data folder .*nowhere does not exist \(needed.*list.txt"
    ):
        need(tmp_path / "nowhere", LAYOUT, "list.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n "b": }', "not valid JSON at line 2, column 7"),
        (b"", "not valid JSON at line 1, column 1"),
        (b'{"a": [1, 2', "not valid JSON at line 1, column 12"),
        (b'{"a": "\xff"}', "not text in UTF-8 at byte 7"),
        (b"[" * 200_000, "not usable JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not usable JSON"),
        (b"[1]", "expected an object at its top level, found a list"),
    ],
)
def test_broken_json_is_placed(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "broken.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_json(file, dict)
    assert str(file) in str(caught.value)


def test_json_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"ü": 1}, ensure_ascii=False), encoding="utf-8-sig")
    assert load_json(tmp_path / "a.json", dict) == {"ü": 1}


def test_lines_keep_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n one \n\n two\n")
    assert read_lines(tmp_path / "a.txt") == [(2, "one"), (4, "two")]
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"a\.txt is not text in UTF-8 at byte 0"):
        read_lines(tmp_path / "a.txt")


@pytest.mark.parametrize(
    "text", ["<a><b></a>", "", "<a>\ud800</a>", b"<?xml version='1.0' encoding='no'?><a/>"]
)
def test_broken_xml_is_named(text: str | bytes) -> None:
    with pytest.raises(BadItemError, match=r"the answer is not valid XML: "):
        parse_xml(text, "the answer")


def test_xml_cannot_blow_up() -> None:
    levels = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
    bomb = f'<!DOCTYPE b [<!ENTITY l0 "lol">{levels}]><b>&l11;</b>'
    with pytest.raises(BadItemError, match="not valid XML"):
        parse_xml(bomb, "the answer")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], r"expected an object with the key 'id', found \[\]"),
        ({"name": 1}, r"the key 'id' is missing; found the keys \['name'\]"),
        ({"id": "7"}, "'id' should be a whole number, found '7'"),
        ({"id": True}, "'id' should be a whole number, found True"),
        ({"id": None}, "'id' should be a whole number, found None"),
    ],
)
def test_take_says_what_it_found(record: object, message: str) -> None:
    with pytest.raises(BadItemError, match=message):
        take(record, "id", int)


@pytest.mark.parametrize("value", [None, "1", True, float("nan"), float("inf"), -float("inf"), 10**400, [1]])
def test_only_finite_numbers_are_numbers(value: object) -> None:
    with pytest.raises(BadItemError, match=r"expected a (finite )?number, found"):
        numbers([0, value], 2)
    assert numbers([0, 2.5], 2) == (0.0, 2.5)
    with pytest.raises(BadItemError, match="expected 2 numbers, found 3"):
        numbers([0, 1, 2], 2)


# ---- boxes

side = st.integers(min_value=1, max_value=3000)


@given(width=side, height=side, data=st.data())
def test_a_box_of_pixels_survives(width: int, height: int, data: st.DataObject) -> None:
    x1 = data.draw(st.integers(0, width - 1))
    x2 = data.draw(st.integers(x1 + 1, width))
    y1 = data.draw(st.integers(0, height - 1))
    y2 = data.draw(st.integers(y1 + 1, height))
    box = pixel_box((x1, y1, x2, y2), width, height)
    assert (box[0] * width, box[1] * height) == pytest.approx((x1, y1))
    assert (box[2] * width, box[3] * height) == pytest.approx((x2, y2))


halves = st.integers(-8, 48).map(lambda n: n / 2)


@settings(max_examples=300)
@given(edges=st.tuples(halves, halves, halves, halves), width=st.integers(5, 20), height=st.integers(5, 20))
def test_a_box_is_clipped_or_refused(edges: Edges, width: int, height: int) -> None:
    x1, y1, x2, y2 = edges
    near = all(-2 <= x <= width + 2 for x in (x1, x2)) and all(-2 <= y <= height + 2 for y in (y1, y2))
    left, right = max(0, min(width, x1)), max(0, min(width, x2))
    top, bottom = max(0, min(height, y1)), max(0, min(height, y2))
    if near and left < right and top < bottom:
        expected = (left / width, top / height, right / width, bottom / height)
        assert pixel_box(edges, width, height) == expected
    else:
        with pytest.raises(BadItemError, match="bad box"):
            pixel_box(edges, width, height)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ((5, 1, 3, 4), "x1 = 0.5 is not left of x2 = 0.3"),
        ((1, 4, 3, 4), "y1 = 0.4 is not above y2 = 0.4"),
        ((1, 1, 3, 13), "more than 2 pixels outside the image"),
        ((float("nan"), 1, 3, 4), "more than 2 pixels outside the image"),
        ((-2, 1, -1, 4), "x1 = 0 is not left of x2 = 0"),
    ],
)
def test_a_bad_box_is_shown_in_pixels(edges: Edges, message: str) -> None:
    with pytest.raises(BadItemError, match=message) as caught:
        pixel_box(edges, 10, 10)
    assert "in an image of 10 x 10" in str(caught.value)


def test_an_image_without_a_size_is_refused() -> None:
    with pytest.raises(BadItemError, match="size should be positive, found 0 x 10"):
        pixel_box((0, 0, 1, 1), 0, 10)


def test_a_box_of_fractions_is_clipped_within_the_tolerance() -> None:
    assert checked_box((-0.004, 0.5, 1.004, 0.75), 0.005) == (0.0, 0.5, 1.0, 0.75)
    with pytest.raises(BadItemError, match="outside"):
        checked_box((-0.006, 0.5, 1.0, 0.75), 0.005)


# ---- paths


def test_a_file_below_is_found(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    folder = DataFolder(tmp_path)
    assert folder.file("a b.jpg") == tmp_path / "a b.jpg"
    assert folder.file("deep/a.jpg") == tmp_path / "deep" / "a.jpg"
    assert folder.file("./deep//a.jpg") == tmp_path / "deep" / "a.jpg"


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../a.jpg", "deep/../../a.jpg", "..", "C:\\a.jpg", "c:a.jpg", "\\a", "..\\a.jpg", "a\0b"],
)
def test_a_path_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadItemError, match="leads out of the data folder"):
        DataFolder(tmp_path).file(name)


@pytest.mark.parametrize("name", ["", " ", ".", "./"])
def test_a_path_to_nothing_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadItemError, match="name of the file is empty"):
        DataFolder(tmp_path).file(name)


def test_links_are_followed_only_inside(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    for place in (root / "real", other):
        place.mkdir(parents=True)
        (place / "a.jpg").write_bytes(b"")
    (root / "inner").symlink_to(root / "real")
    (root / "outer").symlink_to(other)
    (root / "in.jpg").symlink_to(root / "real" / "a.jpg")
    (root / "out.jpg").symlink_to(other / "a.jpg")
    (root / "circle").symlink_to(root / "circle")
    folder = DataFolder(root)
    assert folder.file("inner/a.jpg").read_bytes() == b""
    assert folder.file("in.jpg").read_bytes() == b""
    for name in ("outer/a.jpg", "out.jpg", "circle", "circle/a.jpg"):
        with pytest.raises(BadItemError, match=f"'{name}' leads out of the data folder"):
            folder.file(name)


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "images").symlink_to(tmp_path / "real")
    assert DataFolder(tmp_path / "images").file("a.jpg") == tmp_path / "images" / "a.jpg"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadItemError, match=r"the folder .*gone, which should hold 'a\.jpg', cannot be read"):
        DataFolder(tmp_path).file("gone/a.jpg")


@given(st.text(alphabet="a./\\ :~", max_size=12))
def test_whatever_the_name_the_file_is_inside(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = tmp_path_factory.getbasetemp()
    try:
        path = DataFolder(root).file(name)
    except BadItemError:
        return
    assert path.resolve().is_relative_to(root.resolve())
    assert path != root


# ---- what happens to bad items


def test_error_stops_and_says_where(tmp_path: Path) -> None:
    items = BadItems("error", tmp_path / "a.json")
    message = r"a\.json, item 3: it is red\. Correct it, or .* bad=skip"
    with pytest.raises(ValueError, match=message), items.guard("item 3"):
        raise BadItemError("it is red")


def test_skip_counts_and_warns_once(tmp_path: Path) -> None:
    items = BadItems("skip", tmp_path / "a.json")
    for number in range(3):
        with items.guard(f"item {number}"):
            raise BadItemError(f"reason {number}")
    with pytest.warns(
        UserWarning, match=r"3 bad items left out of .*a\.json; .*, item 0: reason 0"
    ) as caught:
        items.report()
    assert len(caught) == 1


def test_nothing_bad_no_warning(tmp_path: Path) -> None:
    items = BadItems("skip", tmp_path)
    with items.guard("item 0"):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        items.report()


def test_a_fault_of_the_code_is_not_a_bad_item(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), BadItems("skip", tmp_path).guard("item 0"):
        raise ZeroDivisionError
