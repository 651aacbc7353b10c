"""References to media: exactly one source, equal when the content is."""

from pathlib import Path

import numpy as np
import pytest

from octavius.instruction.sample import Media, Region


def test_a_medium_is_a_file_or_an_array() -> None:
    for both in ({}, {"path": Path("a.png"), "array": np.zeros((2, 2))}):
        with pytest.raises(ValueError, match="either a path or an array, exactly one of them"):
            Media(**both)  # type: ignore[arg-type]


def test_media_are_equal_when_their_content_is() -> None:
    one = Media(Path("a.png"))
    assert one == Media(Path("a.png"), stored=True, size=(4, 5))  # only shown differently
    assert len({one, Media(Path("a.png")), Media(Path("b.png"))}) == 2
    assert one != Media(Path("a.png"), region=Region("3", None))
