"""A few rooms on disk, with the facts that they were made from."""

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.miniature.rooms.files import Sizes, build
from datamodules.miniature.rooms.texts.annotations import WORLDS

SIZES = Sizes(train=3, val=2, test=2, unseen=2, things_train=1, things_test=1)


@pytest.fixture(scope="session")
def rooms_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rooms on disk, seed 0, a few of each set; do not change them."""
    return build(tmp_path_factory.mktemp("data") / "rooms", sizes=SIZES, progress=False, processes=1)


@pytest.fixture(scope="session")
def facts(rooms_root: Path) -> dict[str, dict[str, Any]]:
    """What `objects.json` tells, by world and scan."""
    return {world: json.loads((rooms_root / world / "objects.json").read_text()) for world in WORLDS}
