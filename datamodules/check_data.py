"""`octavius check-data --data-root`: checks which benchmarks can be evaluated and lists the files they lack."""

import json as json_files
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from datamodules.benchmarks import read
from datamodules.benchmarks.base import BadItemError, DatasetNotFoundError, LeftOutWarning
from datamodules.benchmarks.clouds import nr3d, scannet, scanqa, scanrefer
from datamodules.benchmarks.clouds.scans import Scans
from datamodules.benchmarks.documents import load_json
from datamodules.benchmarks.values import take_text
from datamodules.sources import Source
from datamodules.suite import sources
from octavius.instruction.sample import Media
from octavius.media.clouds import read_points
from octavius.media.images import image_of
from octavius.media.rois import read_rois

MAX_LISTED = 3
"""Maximum number of missing files that are listed per benchmark."""

READERS: dict[str, Callable[[Media], object]] = {
    "image": image_of,
    "cloud": read_points,
    "rois": read_rois,
}
"""Functions by modality that read and check a medium, as its loader does before it makes a tensor."""


@dataclass(frozen=True)
class Check:
    """The result for one benchmark.

    Attributes:
        name: its name in the suite.
        folder: where its files are expected.
        split: the split that is evaluated.
        found: number of samples or scans, such as `5,823 samples`; empty if they could not be counted.
        missing: missing files and other problems, one line each; empty if the benchmark is ready.
    """

    name: str
    folder: str
    split: str
    found: str
    missing: tuple[str, ...]


def check_data(data_root: Path, benchmarks: str = "2d,3d", json: bool = False) -> None:
    """Checks which benchmarks can be evaluated; the exit status is 1 if any cannot.

    Annotation files are read, the existence of all media is checked and three media files of each benchmark are
    opened, which takes seconds.

    Args:
        data_root: folder that holds all benchmarks, laid out as in docs/data.md.
        benchmarks: comma-separated names, or the groups 2d, 3d, lamm_2d and lamm_3d.
        json: print a JSON list of objects instead of lines.

    Raises:
        ValueError: the folder does not exist, or a name is unknown.
        SystemExit: always; the status is 0 if all benchmarks are ready, otherwise 1.
    """
    if not data_root.is_dir():
        raise ValueError(
            f"the data root {data_root} does not exist; name the folder that holds the data sets"
        )
    checks = [check(data_root, source) for source in sources(benchmarks)]
    ready = sum(not item.missing for item in checks)
    if json:
        print(json_files.dumps([asdict(item) for item in checks], indent=1))
    else:
        width = max(len(item.name) for item in checks)
        for item in checks:
            state = "not ready" if item.missing else "ready"
            print(
                f"{item.name:{width}}  {state:9}  {item.found or '-':>15}  {item.folder}, split {item.split}"
            )
            print("".join(f"    {line}\n" for line in item.missing), end="")
        print(f"{ready} of {len(checks)} ready; docs/data.md says where the data come from")
    raise SystemExit(0 if ready == len(checks) else 1)


def check(data_root: Path, source: Source) -> Check:
    """Checks the files of one source."""
    folder = data_root / source.folder
    found, missing = "", list[str]()
    try:
        check_files = _scans if source.benchmark in SCANS else _samples
        found, missing = check_files(folder, source)
    except DatasetNotFoundError as error:
        missing = str(error).splitlines()[:-1]  # the last line is advice on where to put the files
    except (ValueError, OSError) as error:
        missing = [str(error)]
    return Check(source.title, str(folder), source.split, found, tuple(missing))


def _samples(folder: Path, source: Source) -> tuple[str, list[str]]:
    """Reads a source's annotations, looks for its media and opens three; returns a count and the problems."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        samples = read(source.benchmark, folder, source.split, bad="skip")
    wrong = [
        str(item.message)
        for item in caught
        if isinstance(item.message, LeftOutWarning) and not all(one.known for one in item.message.reasons)
    ]
    media = [(kind, medium) for sample in samples for kind, medium in sample.all_media]
    missing = lacking(medium.path for _, medium in media if medium.path is not None)
    gone = set(missing)
    there = [(kind, medium) for kind, medium in media if medium.path not in gone]
    wrong += _named(missing, f"of {len(media):,} media")
    return _count(len(samples), "sample"), [*wrong, *_unreadable(there)]


def _scans(folder: Path, source: Source) -> tuple[str, list[str]]:
    """Looks for the scans that a source's annotations mention, and reads one; returns a count and the problems."""
    names, scans = SCANS[source.benchmark](folder, source.split), Scans(folder, scannet.LAYOUT)
    objects = source.benchmark != "scanqa"
    files, gone = dict[str, tuple[Path, ...]](), list[str]()
    for name in names:
        try:
            files[name] = scans.files(name, objects)
        except BadItemError as error:
            gone.append(str(error))
    missing = lacking(file for paths in files.values() for file in paths)
    wrong = [f"{len(gone):,} of {len(names):,} scans missing, the first: {gone[0]}"] if gone else []
    wrong += _named(missing, f"of {sum(map(len, files.values())):,} files of scans")
    gone_files = set(missing)
    complete = [name for name, paths in files.items() if gone_files.isdisjoint(paths)]
    if complete:
        try:
            scans.scan(complete[0], objects)
        except BadItemError as error:
            wrong.append(str(error))
    return _count(len(names), "scan"), wrong


def lacking(paths: Iterable[Path]) -> list[Path]:
    """The paths that do not exist, without duplicates.

    Each parent folder is listed once: with thousands of media, one `stat` per file is slow on network
    storage.
    """
    wanted, found = list(dict.fromkeys(paths)), dict[Path, set[str]]()
    for parent in dict.fromkeys(path.parent for path in wanted):
        found[parent] = set(os.listdir(parent)) if parent.is_dir() else set()
    return [path for path in wanted if path.name not in found[path.parent]]


def _count(number: int, what: str) -> str:
    """Formats a count with its noun.

    >>> _count(1, "scan"), _count(5823, "sample")
    ('1 scan', '5,823 samples')
    """
    return f"{number:,} {what}{'s' if number != 1 else ''}"


def _named(missing: list[Path], what: str) -> list[str]:
    """One line with the number of missing files and the first few of them; no line if none is missing."""
    if not missing:
        return []
    shown = ", ".join(str(path) for path in missing[:MAX_LISTED])
    return [f"{len(missing):,} {what} missing: {shown}{', ...' if len(missing) > MAX_LISTED else ''}"]


def _unreadable(media: list[tuple[str, Media]]) -> list[str]:
    """Opens the first, the middle and the last medium and returns the errors, without duplicates."""
    wrong = []
    for kind, medium in media[:1] + media[len(media) // 2 : len(media) // 2 + 1] + media[-1:]:
        if kind not in READERS:  # a modality that only a model's own encoder can open
            continue
        try:
            READERS[kind](medium)
        except ValueError as error:
            wrong.append(str(error))
    return list(dict.fromkeys(wrong))


def _of_records(file: Path) -> list[str]:
    """Scans mentioned in a JSON annotation file, without duplicates."""
    try:
        return list(dict.fromkeys(take_text(record, "scene_id") for record in load_json(file, list)))
    except BadItemError as error:
        raise ValueError(f"{file}: {error}") from None


def _of_nr3d(folder: Path, split: str) -> list[str]:
    """The scans of the split that Nr3D mentions."""
    mentioned = {row["scan_id"] for _, row in nr3d.rows(nr3d.annotations(folder))}
    return [name for name in scannet.scan_names(folder, split) if name in mentioned]


def _of_scannet(folder: Path, split: str) -> list[str]:
    """The scans of the split; the table of labels is parsed first, so that a bad one is reported."""
    scannet.nyu40_ids(folder)
    return scannet.scan_names(folder, split)


SCANS: dict[str, Callable[[Path, str], list[str]]] = {
    "scanrefer_captioning": lambda folder, split: _of_records(scanrefer.annotations(folder, split)),
    "scanqa": lambda folder, split: _of_records(scanqa.annotations(folder, split)),
    "nr3d_captioning": _of_nr3d,
    "scannet_classification": _of_scannet,
}
"""For benchmarks on scans, a function that lists the scans needed.

Their readers would also read the points of every scan, which takes minutes.
"""
