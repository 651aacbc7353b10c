"""Cached tokens are those of the vision tower, and never those of another image or model."""

import os
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from octavius.encoders.image import CONFIG, WEIGHTS, ImageEncoder
from octavius.instruction.sample import Media
from octavius.media.pictures import VERSION
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
    size, time = (folder / "0.png").stat().st_size, (folder / "0.png").stat().st_mtime_ns
    Image.new("RGB", (30, 20), "red").save(folder / "other.png")
    assert (folder / "other.png").stat().st_size < size
    content = (folder / "other.png").read_bytes()
    (folder / "0.png").write_bytes(content + bytes(size - len(content)))  # as large, and as old
    os.utime(folder / "0.png", ns=(time, time))
    with pytest.raises(ValueError, match=r"no features of .*0\.png"):
        encoder.loader()(media[0])
    encoder.prepare(media, "cpu")
    assert not torch.equal(encoder.loader()(media[0]), before)
    assert len(files(folder)) == 4


def test_a_picture_has_other_tokens_where_it_is_not_turned(folder: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "0.png", exif=exif)
    encoder = ImageEncoder(str(folder), cache=str(folder / "cache"))
    seen, stored = Media(path=folder / "0.png"), Media(path=folder / "0.png", stored=True)
    encoder.prepare([seen, stored], "cpu")
    assert not torch.equal(encoder.loader()(seen), encoder.loader()(stored))
    plain = ImageEncoder(str(folder))
    for medium in (seen, stored):
        expected = plain(plain.loader()(medium)[None])[0]
        torch.testing.assert_close(encoder.loader()(medium), expected)


def test_what_pictures_show_is_a_part_of_the_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ImageEncoder(str(folder), cache=str(folder / "cache")).prepare(pictures(folder), "cpu")
    monkeypatch.setattr("octavius.encoders.image.PICTURES", VERSION + 1)
    other = ImageEncoder(str(folder), cache=str(folder / "cache"))
    with pytest.raises(ValueError, match="no features"):
        other.loader()(pictures(folder)[0])


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
    with pytest.raises(ValueError, match=r"2 images cannot be encoded, the first: no file at .*1\.png"):
        encoder.prepare(pictures(folder), "cpu")
    assert len(files(folder)) == 1


def sealed(rows: np.ndarray) -> bytes:
    stream = BytesIO()
    np.save(stream, rows)
    return stream.getvalue() + zlib.crc32(stream.getvalue()).to_bytes(4, "little")


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "few bytes": lambda _: b"PK",
    "cut": lambda content: content[:-3],
    "half": lambda content: content[: len(content) // 2],
    "zeros at the end": lambda content: content[:200] + bytes(len(content) - 200),
    "a flipped bit": lambda content: content[:-90] + bytes([content[-90] ^ 8]) + content[-89:],
    "of an earlier version": lambda content: content[:-4],
    "another shape": lambda _: sealed(np.zeros((2, 2), np.float32)),
    "another type": lambda _: sealed(np.zeros((4, 8))),
    "NaN": lambda content: sealed(np.load(BytesIO(content)) * np.float32("nan")),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_tokens_are_made_anew_and_never_used(
    folder: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = ImageEncoder(str(folder), cache=str(folder / "cache"))
    media = pictures(folder)
    encoder.prepare(media, "cpu")
    whole = [encoder.loader()(one) for one in media]
    for file in files(folder):
        file.write_bytes(DAMAGE[name](file.read_bytes()))
    with pytest.raises(ValueError, match=r"damaged during this run .* start again"):
        encoder.loader()(media[0])
    with caplog.at_level("INFO"):
        encoder.prepare(media, "cpu")
    assert "2 feature files are damaged and are computed again" in caplog.text  # the first was removed
    for one, expected in zip(media, whole, strict=True):
        torch.testing.assert_close(encoder.loader()(one), expected)
    caplog.clear()
    encoder.prepare(media, "cpu")
    assert not caplog.text


def test_tokens_that_are_not_finite_are_told_and_not_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = ImageEncoder(str(folder), cache=str(folder / "cache"))
    forward = encoder.forward
    monkeypatch.setattr(
        encoder, "forward", lambda pixels: forward(pixels) * pixels.sum().sign() * float("inf")
    )
    with pytest.raises(
        ValueError, match=r"3 images cannot be encoded, .*0\.png: its features are not finite"
    ):
        encoder.prepare(pictures(folder), "cpu")
    assert files(folder) == []


def test_a_shared_cache_may_be_read_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = ImageEncoder(str(folder), cache=str(folder / "cache"))
    encoder.prepare(pictures(folder), "cpu")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("replace", "mkdir"):
        monkeypatch.setattr(os, name, refused)
    again = ImageEncoder(str(folder), cache=str(folder / "cache"))
    again.prepare(pictures(folder), "cpu")
    assert again.loader()(pictures(folder)[0]).isfinite().all()


def test_two_processes_may_fill_one_cache(folder: Path) -> None:
    encoder = ImageEncoder(str(folder), cache=str(folder / "cache"))
    children = []
    for _ in range(3):
        if not (child := os.fork()):
            try:
                encoder.prepare(pictures(folder), "cpu")
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert len(files(folder)) == 3
    assert {file.suffix for file in (folder / "cache").glob("*/*")} == {".npy", ".json"}
    assert encoder.loader()(pictures(folder)[0]).isfinite().all()
