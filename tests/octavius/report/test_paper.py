"""The paper's figures."""

from octavius.report.paper import PAPER, TABLES
from tests.octavius.metrics.conftest import Scored, scored  # noqa: F401 - the fixture


def test_rows_of_the_paper_are_as_long_as_its_tables() -> None:
    for title, columns in TABLES.items():
        assert all(len(row) == len(columns) for row in PAPER[title].values())
