"""The command `octavius score` for predictions of any program, which are compared with the data of a benchmark."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from datamodules.benchmarks import read
from datamodules.sources import Source
from datamodules.submissions import read_submission
from datamodules.suite import sources
from octavius.evaluation.answers import Answered
from octavius.files import check_writable
from octavius.instruction.sample import Boxes
from octavius.report.score import parser, score_files, show
from octavius.report.tables import Score, score_all
from octavius.tasks import TASKS


def score(argv: Sequence[str]) -> None:
    """Scores predictions files and prints the tables.

    Args:
        argv: arguments of the command.

    Raises:
        ValueError: a file is missing or damaged, the protocol cannot score it, or its ids are not those of the
            benchmark.
    """
    options = parser().parse_all(argv)
    if options.benchmark is None:
        score_files(argv)
        return
    if options.out is not None:
        check_writable(Path(options.out))
    files = [Path(name) for name in options.predictions]
    show(
        scores_of_submission(files, options.benchmark, Path(options.data_root), options.protocol), options.out
    )


def scores_of_submission(files: Sequence[Path], name: str, root: Path, protocol: str | None) -> list[Score]:
    """Scores predictions in the format of a benchmark.

    Args:
        files: one file or folder.
        name: name of the benchmark, a key of `datamodules.suite.SUITE` that stands for one set.
        root: folder of the benchmarks' data.
        protocol: protocol to score under; None for all that apply.

    Raises:
        ValueError: the name, the file or the protocol is wrong, or ids are missing, unknown or repeated.
    """
    chosen = sources(name)
    if len(chosen) != 1 or len(files) != 1:
        raise ValueError(
            f"expected one benchmark and one file or folder of predictions, found {len(chosen)} and {len(files)}"
        )
    source, path = chosen[0], files[0]
    folder = root / source.folder
    if not folder.is_dir():
        raise ValueError(
            f"{source.title} is read from {folder}, which does not exist; name the folder above it by --data-root"
        )
    items = answered(path, source, folder)
    if protocol is None and isinstance(items[0].sample.gold, Boxes):
        protocol = "standard"
    if protocol == "published" and isinstance(items[0].sample.gold, Boxes):
        raise ValueError(
            "the protocol published reads boxes from sentences, which a file of boxes does not have; score it by "
            "--protocol standard"
        )
    return score_all(source.title, items, protocol)


def answered(path: Path, source: Source, folder: Path) -> list[Answered]:
    """The samples of a benchmark with the answers of a submission, in the order of the data."""
    samples = read(source.benchmark, folder, source.split)
    found = read_submission(path, source, folder, samples)
    known = {sample.id for sample in samples}
    if others := found.answers.keys() - known:
        print(
            f"{len(others)} answers are not scored: they are to images or problems without gold",
            file=sys.stderr,
        )
    items = []
    for index, sample in enumerate(samples):
        text, scores = found.answers.get(sample.id, ""), found.scores.get(sample.id, ())
        asked = replace(sample, protocol="standard")
        value = TASKS[sample.task].scored(text, asked, scores)
        items.append(
            Answered(asked, sample.question, text, value, None, index, scores, set_name=source.title)
        )
    return items
