"""Box files of any detector are read, filtered and checked; invalid boxes are reported."""

from pathlib import Path

import numpy as np
import pytest

from octavius.encoders.rois.proposals import ProposalSource, source_of
from octavius.instruction.sample import Media


def test_sources(tmp_path: Path) -> None:
    assert source_of("gold") == ProposalSource("gold")
    assert source_of(str(tmp_path)) == ProposalSource("files", tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"the folder of a detector, but .* holds no model\.safetensors"):
        source_of(str(tmp_path))
    with pytest.raises(ValueError, match="this scene is an array without a name"):
        ProposalSource("files", tmp_path).facts_of(Media(array=np.zeros((4, 3))))
