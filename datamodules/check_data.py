"""A data root and names of benchmarks come in; which of them are ready, and what is missing, file by file, go out."""

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
from datamodules.benchmarks.suite import sources
from datamodules.benchmarks.values import take_text
from datamodules.sources import Source
from octavius.instruction.clouds import CloudLoader
from octavius.instruction.media import ImageLoader, Loader
from octavius.instruction.rois import StoredRoiLoader
from octavius.instruction.sample import Media

NAMED = 3
"""How many missing files are named of each benchmark."""

LOADERS: dict[str, Loader] = {
    "image": ImageLoader(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "cloud": CloudLoader(),
    "rois": StoredRoiLoader(),
}
"""What opens a medium of each modality, as in training."""


@dataclass(frozen=True)
class Check:
    """What was found of one benchmark.

    Attributes:
        name: its name in the suite.
        folder: where it should lie.
        split: the split that is evaluated.
        found: how much of it, in words; empty where nothing could be counted.
        missing: what stands in its way, a line each; empty where it is ready.
    """

    name: str
    folder: str
    split: str
    found: str
    missing: tuple[str, ...]


def check_data(data_root: Path, benchmarks: str = "2d,3d", json: bool = False) -> None:
    """Tells which benchmarks can be evaluated; the exit status is 1 where one of them cannot.

    Annotation files are read, media are looked for, and three of each benchmark are opened: that takes seconds.

    Args:
        data_root: the folder that holds all of them, in the tree of docs/data.md.
        benchmarks: names with commas between them; also the groups 2d, 3d, lamm_2d and lamm_3d.
        json: prints a list of objects instead of lines.
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
    """Looks for what one source needs."""
    folder = data_root / source.folder
    found, missing = "", list[str]()
    try:
        looked_at = _scans if source.benchmark in SCANS else _samples
        found, missing = looked_at(folder, source)
    except DatasetNotFoundError as error:
        missing = str(error).splitlines()[:-1]  # its last line says where to put them
    except (ValueError, OSError) as error:
        missing = [str(error)]
    return Check(source.title, str(folder), source.split, found, tuple(missing))


def _samples(folder: Path, source: Source) -> tuple[str, list[str]]:
    """Reads the annotations of a source, looks for its media and opens some."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        samples = read(source.benchmark, folder, source.split, bad="skip")
    wrong = [
        str(item.message)
        for item in told
        if isinstance(item.message, LeftOutWarning) and not all(one.known for one in item.message.reasons)
    ]
    media = [(kind, medium) for sample in samples for kind, medium in sample.media.items()]
    missing = lacking(medium.path for _, medium in media if medium.path is not None)
    gone = set(missing)
    there = [(kind, medium) for kind, medium in media if medium.path not in gone]
    wrong += _named(missing, f"of {len(media):,} media")
    return _count(len(samples), "sample"), [*wrong, *_unreadable(there)]


def _scans(folder: Path, source: Source) -> tuple[str, list[str]]:
    """Looks for the scans that a source speaks of, and reads one of them."""
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
    short = set(missing)
    whole = [name for name, paths in files.items() if short.isdisjoint(paths)]
    if whole:
        try:
            scans.scan(whole[0], objects)
        except BadItemError as error:
            wrong.append(str(error))
    return _count(len(names), "scan"), wrong


def lacking(paths: Iterable[Path]) -> list[Path]:
    """Those paths, each once, at which there is nothing; a folder is listed once for all that it should hold."""
    wanted, found = list(dict.fromkeys(paths)), dict[Path, set[str]]()
    for parent in dict.fromkeys(path.parent for path in wanted):
        found[parent] = set(os.listdir(parent)) if parent.is_dir() else set()
    return [path for path in wanted if path.name not in found[path.parent]]


def _count(number: int, what: str) -> str:
    """A number of things.

    >>> _count(1, "scan"), _count(5823, "sample")
    ('1 scan', '5,823 samples')
    """
    return f"{number:,} {what}{'s' if number != 1 else ''}"


def _named(missing: list[Path], what: str) -> list[str]:
    """Says how many are missing, and the first of them."""
    if not missing:
        return []
    shown = ", ".join(str(path) for path in missing[:NAMED])
    return [f"{len(missing):,} {what} missing: {shown}{', ...' if len(missing) > NAMED else ''}"]


def _unreadable(media: list[tuple[str, Media]]) -> list[str]:
    """Opens the first, the middle and the last, and says what is wrong with them."""
    wrong = []
    for kind, medium in media[:1] + media[len(media) // 2 : len(media) // 2 + 1] + media[-1:]:
        try:
            LOADERS[kind](medium)
        except ValueError as error:
            wrong.append(str(error))
    return list(dict.fromkeys(wrong))


def _of_records(file: Path) -> list[str]:
    """The scans that an annotation file in JSON speaks of, each once."""
    try:
        return list(dict.fromkeys(take_text(record, "scene_id") for record in load_json(file, list)))
    except BadItemError as error:
        raise ValueError(f"{file}: {error}") from None


def _of_nr3d(folder: Path, split: str) -> list[str]:
    """The split's scans that Nr3D speaks of."""
    spoken_of = {row["scan_id"] for _, row in nr3d.rows(nr3d.annotations(folder))}
    return [name for name in scannet.scan_names(folder, split) if name in spoken_of]


def _of_scannet(folder: Path, split: str) -> list[str]:
    """The split's scans, after a look at the table of labels."""
    scannet.nyu40_ids(folder)
    return scannet.scan_names(folder, split)


SCANS: dict[str, Callable[[Path, str], list[str]]] = {
    "scanrefer_captioning": lambda folder, split: _of_records(scanrefer.annotations(folder, split)),
    "scanqa": lambda folder, split: _of_records(scanqa.annotations(folder, split)),
    "nr3d_captioning": _of_nr3d,
    "scannet_classification": _of_scannet,
}
"""The scans that a split of each benchmark speaks of: its reader would read every point of them."""
