"""Scores of predictions files, without a model."""

import sys
from pathlib import Path

from octavius.evaluation.answers import left_out_lines, readable
from octavius.evaluation.predictions import read_predictions
from octavius.evaluation.scores import sets
from octavius.report.tables import Score, score_all


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
