"""The command `octavius score`: scores predictions without a model, Octavius' own or those of other programs."""

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
from octavius.metrics import PROTOCOLS
from octavius.options import OptionParser
from octavius.report.score import scores_of
from octavius.report.tables import Score, markdown, score_all, write_tables
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
    if options.out is not None:
        check_writable(Path(options.out))
    files = [Path(name) for name in options.predictions]
    if options.benchmark is None:
        found = scores_of(files, options.protocol)
    else:
        found = scores_of_submission(files, options.benchmark, Path(options.data_root), options.protocol)
    print(
        markdown(found) if options.out is None else write_tables(found, Path(options.out), "scores"), end=""
    )


def parser() -> OptionParser:
    """The argument parser of the command."""
    option_parser = OptionParser(
        prog="octavius score",
        description="Score predictions without a model: with intervals, in the paper's tables.",
    )
    option_parser.add_argument(
        "predictions",
        nargs="+",
        help="files that `octavius test` wrote, a line of JSON a sample; with --benchmark one file or folder in the "
        "format of that benchmark",
    )
    option_parser.add_argument(
        "--protocol", choices=list(PROTOCOLS), help="by which to score (default: each that the task knows)"
    )
    option_parser.add_argument(
        "--benchmark",
        help="score predictions of any program on this benchmark, such as scanqa, voc2012, scienceqa",
    )
    option_parser.add_argument(
        "--data-root",
        "--data_root",
        default="data",
        help="the folder that holds the annotations of the benchmark (default: data)",
    )
    option_parser.add_argument(
        "--out", help="folder to write the tables to: scores.md, scores.json and two of CSV"
    )
    return option_parser


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
