"""What `octavius predict` is asked: questions from the command line or a file, about files or folders."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from octavius.files import read_text
from octavius.media.cloud_forms import SUFFIXES as CLOUDS
from octavius.media.scan_frame import MESH


def joined(argv: Sequence[str]) -> list[str]:
    """Joins the files that follow `--image` or `--cloud`, as in `--image *.jpg`, into one list for the parser.

    >>> joined(["--image", "a.png", "b.png", "--question", "Why?"])
    ['--image', '["a.png", "b.png"]', '--question', 'Why?']
    """
    found, pending = list[str](), list(argv)
    while pending:
        found.append(pending.pop(0))
        if found[-1] in ("--image", "--cloud"):
            files = []
            while pending and not pending[0].startswith("--"):
                files.append(pending.pop(0))
            if files:
                found.append(files[0] if len(files) == 1 else json.dumps(files))
    return found


def questions_of(question: str | None, file: Path | None) -> list[str]:
    """The questions to ask.

    Raises:
        ValueError: there is none, the file cannot be read, or they are named in both ways.
    """
    if (question is None) == (file is None):
        raise ValueError(
            "name either --question TEXT or --questions FILE with a question on each line, "
            + ("found neither" if question is None else "found both")
        )
    if file is None:
        asked = [question or ""]
    else:
        try:
            asked = [line for line in read_text(file, "utf-8-sig").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is not text in UTF-8: {error}") from None
        except OSError as error:
            raise ValueError(
                f"there is no file of questions at {file.absolute()} ({error.strerror}); check --questions"
            ) from None
    if not any(text.strip() for text in asked):
        where = "the question is empty" if file is None else f"there is no question in {file}"
        raise ValueError(f'{where}; ask something, such as --question "Describe the picture."')
    return asked


SUFFIXES = {
    "image": (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm"),
    "cloud": CLOUDS,
}
"""Suffixes of the files of a folder that are asked about."""


def files_of(named: Sequence[Path] | Path | None, modality: str) -> list[Path]:
    """The files behind an option: files as they are named, of a folder those with a suffix of the modality, sorted.

    Raises:
        ValueError: there is no such file in a folder.
    """
    paths = [named] if isinstance(named, Path) else named or ()
    return [file for path in paths for file in _files(path, modality)]


def _files(path: Path, modality: str) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES[modality])
    if modality == "cloud" and (scans := [file for file in found if file.name.endswith(MESH)]):
        found = scans  # a folder of ScanNet, whose other meshes are the same scan
    if not found:
        raise ValueError(
            f"no {modality} in {path.absolute()}: expected files with {', '.join(SUFFIXES[modality])}"
        )
    yield from found
