"""The command `octavius check-data` without a configuration; with one see `datamodules.check_samples`."""

from collections.abc import Sequence
from pathlib import Path

from datamodules.check_data import check_data
from octavius.options import OptionParser


def run(argv: Sequence[str]) -> None:
    """Runs the command with its arguments; see `datamodules.check_data.check_data`."""
    options = parser().parse_all(argv)
    check_data(Path(options.data_root), options.benchmarks, options.json)


def parser() -> OptionParser:
    """The argument parser of the command."""
    option_parser = OptionParser(
        prog="octavius check-data",
        description="Check which benchmarks can be evaluated; the exit status is 1 if any cannot.",
        epilog="With --config it checks every sample of a configuration instead, and takes other options: "
        "octavius check-data --config 2d.yaml --help-all",
    )
    option_parser.add_argument(
        "--data-root",
        "--data_root",
        required=True,
        help="folder that holds all benchmarks, laid out as in docs/data.md",
    )
    option_parser.add_argument(
        "--benchmarks",
        default="2d,3d",
        help="comma-separated names, or the groups 2d, 3d, lamm_2d and lamm_3d (default: 2d,3d)",
    )
    option_parser.add_argument(
        "--json", action="store_true", help="print a JSON list of objects instead of lines"
    )
    return option_parser
