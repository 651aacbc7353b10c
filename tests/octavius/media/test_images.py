"""Pictures of every format become equal tensors; anything else is refused in one line."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from octavius.instruction.sample import Media
from octavius.media.images import ArrayLoader, ImageLoader

LOADER = ImageLoader(4, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
RED = (204, 0, 51)


def load(folder: Path, image: Image.Image, name: str = "a.png", **options: Any) -> torch.Tensor:
    image.save(folder / name, **options)
    return LOADER(Media(path=folder / name))


def test_pixels_are_resized_and_normalised(tmp_path: Path) -> None:
    half = Image.new("RGB", (16, 8), RED)
    half.paste((0, 0, 0), (8, 0, 16, 8))
    half.save(tmp_path / "a.png")
    loader = ImageLoader(8, (0.1, 0.2, 0.3), (0.5, 0.25, 2.0))
    pixels = loader(Media(path=tmp_path / "a.png"))
    assert (pixels.shape, pixels.dtype) == ((3, 8, 8), torch.float32)
    left, right = pixels[:, :, 0], pixels[:, :, 7]
    for channel, (mean, std) in enumerate(zip((0.1, 0.2, 0.3), (0.5, 0.25, 2.0), strict=True)):
        torch.testing.assert_close(left[channel], torch.full((8,), (RED[channel] / 255 - mean) / std))
        torch.testing.assert_close(right[channel], torch.full((8,), -mean / std))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_modes_with_colour(tmp_path: Path, mode: str) -> None:
    pixels = load(tmp_path, Image.new("RGB", (6, 6), RED).convert(mode))
    torch.testing.assert_close(pixels[:, 0, 0], torch.tensor(RED) / 255, atol=0.02, rtol=0)


def test_cmyk(tmp_path: Path) -> None:
    pixels = load(tmp_path, Image.new("RGB", (16, 16), RED).convert("CMYK"), "a.jpg", quality=95)
    torch.testing.assert_close(pixels[:, 2, 2], torch.tensor(RED) / 255, atol=0.03, rtol=0)


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_modes_without_colour(tmp_path: Path, mode: str) -> None:
    pixels = load(tmp_path, Image.new("L", (6, 6), 255).convert(mode))
    assert (pixels == 1).all()


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    grey = np.full((6, 6), 128 * 256, dtype=np.uint16)
    pixels = load(tmp_path, Image.fromarray(grey))
    torch.testing.assert_close(pixels, torch.full((3, 4, 4), 128 / 255))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no image file at .*b\.png; check the data root"):
        LOADER(Media(path=tmp_path / "b.png"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_file_that_is_cut_short(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(noise).save(buffer, kind)
    data = buffer.getvalue()
    path = tmp_path / f"a.{kind.lower()}"
    for size in (0, 3, 20, len(data) // 3, len(data) // 2):
        path.write_bytes(data[:size])
        with pytest.raises(
            ValueError, match=rf"a\.{kind.lower()} is not an image that can be read.*; replace or remove it"
        ):
            LOADER(Media(path=path))


@pytest.mark.parametrize("content", [b"<svg/>", b"{}", bytes(100)])
def test_a_file_of_another_kind(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match="is not an image that can be read; replace"):
        LOADER(Media(path=tmp_path / "a.png"))


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not an image that can be read"):
        LOADER(Media(path=tmp_path))


def test_arrays_of_bytes() -> None:
    array = np.full((6, 6, 3), RED, dtype=np.uint8)
    torch.testing.assert_close(LOADER(Media(array=array))[:, 0, 0], torch.tensor(RED) / 255)
    assert (LOADER(Media(array=np.full((6, 6), 255, dtype=np.uint8))) == 1).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((6, 6, 3)),
        np.zeros((6, 6, 4), np.uint8),
        np.zeros((3, 6, 6), np.uint8),
        np.zeros(6, np.uint8),
        np.zeros((0, 6, 3), np.uint8),
    ],
)
def test_arrays_of_another_kind(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected an image array uint8 \(H, W, 3\) or \(H, W\), found"):
        LOADER(Media(array=array))


def test_a_fixed_array() -> None:
    loader = ArrayLoader((2, 3))
    array = np.arange(6, dtype=np.float64).reshape(2, 3)
    assert loader(Media(array=array)).tolist() == array.tolist()
    assert loader(Media(array=array[::-1])).tolist() == array[::-1].tolist()
    assert loader(Media(array=array)).dtype == torch.float32
    with pytest.raises(ValueError, match=r"expected an array of shape \(2, 3\), found one of shape \(3, 2\)"):
        loader(Media(array=array.T))
    with pytest.raises(ValueError, match=r"expected an array of shape \(2, 3\), found the file a\.png"):
        loader(Media(path=Path("a.png")))


@pytest.mark.parametrize("facts", [{}, {"path": Path("a"), "array": np.zeros(1)}])
def test_a_medium_is_one_thing(facts: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exactly one of them"):
        Media(**facts)
