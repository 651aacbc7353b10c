"""Questions and files of predict, as they are named on the command line."""

from pathlib import Path

import pytest

from octavius.cli.questions import files_of, joined, questions_of


def test_files_after_an_option_become_one_list() -> None:
    argv = ["--image", "a.png", "b c.png", "--json", "--cloud", "x.ply", "--question", "a"]
    assert joined(argv) == [
        "--image",
        '["a.png", "b c.png"]',
        "--json",
        "--cloud",
        "x.ply",
        "--question",
        "a",
    ]
    assert joined(["--image"]) == ["--image"]
    assert joined(["--image=a.png", "b.png"]) == ["--image=a.png", "b.png"]


def test_questions_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "q.txt"
    file.write_bytes("\ufeffWhat?\r\n\n  \nWhy?".encode())
    assert questions_of(None, file) == ["What?", "Why?"]
    assert questions_of("What?", None) == ["What?"]


@pytest.mark.parametrize(
    ("question", "content", "said"),
    [
        (None, None, "found neither"),
        ("a", b"b", "found both"),
        (" ", None, "the question is empty"),
        (None, b" \n", "there is no question in"),
        (None, b"\xff\xfe", "is not text in UTF-8"),
    ],
)
def test_mistakes_in_questions(
    tmp_path: Path, question: str | None, content: bytes | None, said: str
) -> None:
    file = None if content is None else tmp_path / "q.txt"
    if file is not None and content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        questions_of(question, file)


def test_files_of_a_folder_by_their_suffix(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "c.ply", "notes.txt"):
        (tmp_path / name).touch()
    assert [file.name for file in files_of(tmp_path, "image")] == ["a.png", "b.JPG"]
    assert [file.name for file in files_of([tmp_path, Path("x.npy")], "cloud")] == ["c.ply", "x.npy"]
    assert files_of(Path("missing.png"), "image") == [Path("missing.png")]
    assert files_of(None, "image") == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no image in .*empty: expected files with \.jpg, "):
        files_of(tmp_path / "empty", "image")


def test_of_a_scan_of_scannet_one_mesh_is_taken(tmp_path: Path) -> None:
    for end in ("_vh_clean.ply", "_vh_clean_2.ply", "_vh_clean_2.labels.ply", ".txt"):
        (tmp_path / f"scene0000_00{end}").touch()
    assert files_of(tmp_path, "cloud") == [tmp_path / "scene0000_00_vh_clean_2.ply"]


def test_a_file_of_questions_that_is_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone.txt"):
        with pytest.raises(ValueError, match=rf"there is no file of questions at {path} .*check --questions"):
            questions_of(None, path)
