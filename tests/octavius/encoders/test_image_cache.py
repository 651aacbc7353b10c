"""Pictures come in; the tests see that kept tokens are those of the tower, and never those of something else."""

import os
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from octavius.encoders.image import CONFIG, WEIGHTS, ImageEncoder
from octavius.instruction.sample import Media
from tests.octavius.encoders.test_image import MODEL


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of a tiny random model and three pictures."""
    torch.manual_seed(0)
    (tmp_path / CONFIG).write_text(MODEL)
    model = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, tmp_path / WEIGHTS)
    for number in range(3):
        paint(tmp_path / f"{number}.png", number)
    return tmp_path


def paint(file: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


def pictures(folder: Path) -> list[Media]:
    return [Media(path=folder / f"{number}.png") for number in (0, 1, 2, 1)]


def files(folder: Path) -> list[Path]:
    return sorted((folder / "cache").glob("*/*.npy"))


def refuse(_: object) -> None:
    raise AssertionError("the tower should not run")


def test_kept_tokens_are_those_of_the_tower(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, cached = ImageEncoder(str(folder)), ImageEncoder(str(folder), cache=str(folder / "cache"))
    media = pictures(folder)
    cached.prepare(media, "cpu")
    assert len(files(folder)) == 3
    monkeypatch.setattr(cached.tower, "forward_intermediates", refuse)
    cached.prepare(media, "cpu")
    loader = cached.loader()
    with torch.no_grad():
        expected = plain(plain.loader().collate([plain.loader()(one) for one in media]))
    torch.testing.assert_close(cached(loader.collate([loader(one) for one in media])), expected)


def test_a_changed_file_is_encoded_anew(folder: Path) -> None:
    encoder = ImageEncoder(str(folder), cache=str(folder / "cache"))
    media = pictures(folder)
    encoder.prepare(media, "cpu")
    before = encoder.loader()(media[0])
    paint(folder / "0.png", 9)
    os.utime(folder / "0.png", (1, 1))
    with pytest.raises(ValueError, match=r"no features of .*0\.png"):
        encoder.loader()(media[0])
    encoder.prepare(media, "cpu")
    assert not torch.equal(encoder.loader()(media[0]), before)
    assert len(files(folder)) == 4


def test_other_weights_have_tokens_of_their_own(folder: Path) -> None:
    ImageEncoder(str(folder), cache=str(folder / "cache")).prepare(pictures(folder), "cpu")
    weights = load_file(folder / WEIGHTS)
    weights["visual.conv1.weight"][0, 0, 0, 0] += 1
    save_file(weights, folder / WEIGHTS)
    other = ImageEncoder(str(folder), cache=str(folder / "cache"))
    with pytest.raises(ValueError, match="no features"):
        other.loader()(pictures(folder)[0])


def test_pictures_that_cannot_be_read_are_told_when_the_others_are_done(folder: Path) -> None:
    (folder / "0.png").write_bytes((folder / "0.png").read_bytes()[:100])
    (folder / "1.png").unlink()
    encoder = ImageEncoder(str(folder), cache=str(folder / "cache"))
    with pytest.raises(ValueError, match=r"2 pictures cannot be encoded, the first: no file at .*1\.png"):
        encoder.prepare(pictures(folder), "cpu")
    assert len(files(folder)) == 1


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", None])
def test_a_damaged_file_of_tokens_is_told(folder: Path, content: bytes | None) -> None:
    encoder = ImageEncoder(str(folder), cache=str(folder / "cache"))
    media = pictures(folder)[:1]
    encoder.prepare(media, "cpu")
    (file,) = files(folder)
    if content is None:
        np.save(file, np.zeros((2, 2), dtype=np.float32))
    else:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=file.name):
        encoder.loader()(media[0])
