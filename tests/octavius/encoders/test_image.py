"""The image encoder returns the last block's patches, frozen and not normalised."""

from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from octavius.encoders.image import CONFIG, WEIGHTS, ImageEncoder
from octavius.instruction.sample import Media

MODEL = """{"model_cfg": {"embed_dim": 12, "custom_text": true,
  "vision_cfg": {"image_size": 24, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
  "text_cfg": {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1}},
 "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}}"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of a tiny random model."""
    torch.manual_seed(0)
    (tmp_path / CONFIG).write_text(MODEL)
    model = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, tmp_path / WEIGHTS)
    return tmp_path


def by_hand(tower: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The tower's blocks one after the other, and nothing after them."""
    hidden = tower.conv1(images).flatten(2).transpose(1, 2)
    first = tower.class_embedding.expand(len(images), 1, -1)
    hidden = tower.ln_pre(torch.cat([first, hidden], 1) + tower.positional_embedding)
    for block in tower.transformer.resblocks:
        attended = block.ln_1(hidden)
        hidden = hidden + block.attn(attended, attended, attended, need_weights=False)[0]
        hidden = hidden + block.mlp(block.ln_2(hidden))
    return hidden[:, 1:]


def test_tokens_are_the_last_blocks_patches_without_class_token_or_norm(folder: Path) -> None:
    encoder = ImageEncoder(str(folder))
    images = torch.randn(2, 3, 24, 24)
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), by_hand(model.visual, images), atol=1e-5, rtol=1e-4)


def test_weights_are_the_folders(folder: Path) -> None:
    saved = load_file(folder / WEIGHTS)
    torch.testing.assert_close(ImageEncoder(str(folder)).tower.conv1.weight, saved["visual.conv1.weight"])


def test_it_says_what_the_data_and_the_projector_must_know(folder: Path) -> None:
    encoder = ImageEncoder(str(folder))
    assert (encoder.width, encoder.num_tokens, encoder.image_size) == (32, 9, 24)
    assert encoder.mean == pytest.approx((0.1, 0.2, 0.3))
    assert encoder.std == pytest.approx((0.4, 0.5, 0.6))


def test_its_loader_makes_what_it_takes(folder: Path) -> None:
    encoder = ImageEncoder(str(folder))
    torch.manual_seed(0)
    array = torch.randint(0, 256, (30, 50, 3), dtype=torch.uint8).numpy()
    pixels = encoder.loader()(Media(array=array))
    assert encoder(pixels[None]).shape == (1, 9, 32)


def test_it_stays_frozen_and_in_evaluation_mode(folder: Path) -> None:
    encoder = ImageEncoder(str(folder)).train()
    assert not any(module.training for module in encoder.modules())
    assert not any(weight.requires_grad for weight in encoder.parameters())


def test_open_clip_names_work_without_a_folder() -> None:
    encoder = ImageEncoder("ViT-B-32")
    assert (encoder.width, encoder.num_tokens, encoder.image_size) == (768, 49, 224)


@pytest.mark.parametrize(
    ("name", "pretrained", "said"),
    [
        ("ViT-L14", None, "ViT-L-14"),
        ("ViT-B-32", "nothing", "openai"),
        ("RN50", None, "vision transformer"),
    ],
)
def test_bad_names_are_told(name: str, pretrained: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ImageEncoder(name, pretrained)


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_a_missing_file_is_told(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(ValueError, match=f"no {file}"):
        ImageEncoder(str(folder))


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_a_truncated_file_is_told(folder: Path, file: str) -> None:
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="could not read the model"):
        ImageEncoder(str(folder))


def test_a_folder_takes_no_other_weights(folder: Path) -> None:
    with pytest.raises(ValueError, match="its own weights"):
        ImageEncoder(str(folder), "openai")


def test_pictures_of_another_size_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"\(B, 3, 24, 24\)"):
        ImageEncoder(str(folder))(torch.zeros(1, 3, 32, 32))


@pytest.mark.slow
def test_the_papers_tower() -> None:
    """ViT-L/14 at 224 pixels: 16 x 16 patch tokens of width 1024, whatever its weights."""
    encoder = ImageEncoder("ViT-L-14")
    assert (encoder.num_tokens, encoder.width, encoder.image_size) == (256, 1024, 224)
    with torch.no_grad():
        tokens = encoder(torch.randn(1, 3, 224, 224))
    assert tokens.shape == (1, 256, 1024)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
