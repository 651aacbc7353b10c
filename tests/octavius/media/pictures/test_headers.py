"""Metadata of JPEG files do not reach the decoder."""

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from octavius.media.pictures.headers import split_jpeg

NOISE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "junk", [b"", b"\0\1", b"\xff\0", b"\xff\xff", b"\xff\xf0", b"\xff\x01", b"\xff\xc8", b"\xff\xd0"]
)
def test_no_metadata_of_a_jpeg_file_reach_the_decoder(junk: bytes) -> None:
    stream = BytesIO()
    Image.fromarray(NOISE).save(stream, "JPEG", icc_profile=b"profile", comment=b"words")
    plain, words = stream.getvalue(), b"Exif\0\0II*\0"
    hidden = junk + (b"\xff\xe1" + struct.pack(">H", 2 + len(words)) + words) * 3
    kept, found = split_jpeg(plain[:2] + hidden + plain[2:])
    assert b"Exif" not in kept
    assert b"words" not in kept
    assert b"profile" in kept
    assert found == b"II*\0"
    with Image.open(BytesIO(plain)) as before, Image.open(BytesIO(kept)) as after:
        np.testing.assert_array_equal(after, before)
