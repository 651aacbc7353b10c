"""The command `octavius score` for predictions files of Octavius, which hold all that is needed to score them."""

import sys
from collections.abc import Sequence
from pathlib import Path

from octavius.evaluation.answers import left_out_lines, readable
from octavius.evaluation.predictions import read_predictions
from octavius.evaluation.scores import sets
from octavius.files import check_writable
from octavius.metrics import PROTOCOLS
from octavius.options import OptionParser
from octavius.report.tables import Score, markdown, score_all, write_tables


def score_files(argv: Sequence[str]) -> None:
    """Scores predictions files of Octavius and prints the tables.

    Args:
        argv: arguments of the command, without `--benchmark`.

    Raises:
        ValueError: a file is missing or damaged, or the protocol cannot score it.
    """
    options = parser().parse_all(argv)
    assert options.benchmark is None
    if options.out is not None:
        check_writable(Path(options.out))
    show(scores_of([Path(name) for name in options.predictions], options.protocol), options.out)


def show(found: Sequence[Score], out: str | None) -> None:
    """Prints the tables, and writes them to a folder if one is named."""
    print(markdown(found) if out is None else write_tables(found, Path(out), "scores"), end="")


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


def scores_of(files: list[Path], protocol: str | None = None) -> list[Score]:
    """Scores every set in some predictions files.

    Raises:
        ValueError: a file is missing or damaged, or a sample occurs twice; or the protocol cannot score a
            set.
    """
    answers = []
    for path in files:
        if not path.is_file():
            raise ValueError(
                f"there is no file of predictions at {path.absolute()}; `octavius test` writes them"
            )
        answers += read_predictions(path)
    seen: set[tuple[str, str, str]] = set()
    for item in answers:
        key = (item.set_name, item.sample.task, item.sample.id)
        if key in seen:
            raise ValueError(
                f"the sample {key[2]} of {key[0]} stands twice in these predictions; score it once"
            )
        seen.add(key)
    print("".join(f"{line}\n" for line in left_out_lines(answers)), end="", file=sys.stderr)
    return [
        one for name, items in sets(readable(answers)).items() for one in score_all(name, items, protocol)
    ]
