"""Texts and scores from the files of the reference caption scorer."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from octavius.instruction.sample import References


class Scored(NamedTuple):
    """1,000 predictions and golds, raw and as the reference scorer tokenised them, with its scores."""

    images: list[str]
    raw: tuple[list[str], list[References]]
    tokenised: tuple[list[str], list[References]]
    scores: dict[str, Any]


@pytest.fixture(scope="session")
def scored(shared_data: Path) -> Scored:
    """What the reference scorer read and what it answered."""

    def read(name: str) -> Any:
        return json.loads((shared_data / "coco-captions-scored" / name).read_text())

    tokenised, scores = read("ptb_tokenized_gts_res.json"), read("pycocoevalcap_scores_recomputed.json")
    results = {str(row["image_id"]): row["caption"] for row in read("captions_val2014_fakecap_results.json")}
    captions: dict[str, list[str]] = {}
    for row in read("captions_val2014_fakecap_gt.json")["annotations"]:
        captions.setdefault(str(row["image_id"]), []).append(row["caption"])
    images = sorted(scores["CIDEr_per_image"])
    return Scored(
        images,
        ([results[i] for i in images], [References(tuple(captions[i])) for i in images]),
        (
            [tokenised["res"][i][0] for i in images],
            [References(tuple(tokenised["gts"][i])) for i in images],
        ),
        scores,
    )
