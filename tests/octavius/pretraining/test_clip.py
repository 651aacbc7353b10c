"""CLIP alignment of tiny models: losses, training, and the saved folder."""

import math
from pathlib import Path
from typing import Any

import lightning
import open_clip
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from octavius.encoders.image import WEIGHTS, ImageEncoder
from octavius.pretraining.clip import (
    ANSWERS,
    BOX_CODE,
    VALIDATION,
    AlignmentModule,
    augment,
    contrastive_loss,
    encode_text,
)
from tests.octavius.pretraining.tiny_clip import write_config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the configuration of a tiny model."""
    torch.manual_seed(0)
    folder = write_config(tmp_path / "model", pixels=24, words=16)
    return folder


def batch(size: int = 6) -> dict[str, Any]:
    """Made-up pairs for the tiny model: 9 patches a picture."""
    shape = (size, 9)
    foreground = torch.rand(shape) < 0.5
    face = foreground & (torch.rand(size, 1) < 0.5)
    kinds = {"class": foreground, "colour": foreground & ~face, "hair": face, "smile": face}
    labels = {
        name: torch.where(where, torch.randint(0, ANSWERS[name], shape), -100)
        for name, where in kinds.items()
    }
    ids = torch.cat(
        [torch.ones(size, 1), torch.randint(3, 16, (size, 4)), torch.full((size, 1), 2)], 1
    ).long()
    low = torch.rand(*shape, 2) / 2
    return {
        "image": torch.randint(0, 256, (size, 3, 24, 24), dtype=torch.uint8),
        "text": ids,
        "labels": labels,
        "spared": {"class": torch.where(foreground, (labels["class"] + 1) % ANSWERS["class"], -1)},
        "foreground": foreground,
        "box_code": torch.rand(*shape, BOX_CODE),
        "boxes": torch.cat([low, low + 0.4], -1),
    }


def loader(batches: list[dict[str, Any]]) -> DataLoader[Any]:
    """Hands out ready batches."""
    return DataLoader(batches, batch_size=None)


def trainer(**changes: Any) -> lightning.Trainer:
    """A quiet trainer that keeps nothing."""
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"accelerator": "cpu", "enable_model_summary": False}
    return lightning.Trainer(**(quiet | changes))


def slow_contrastive(first: Tensor, second: Tensor, scale: float, same: Tensor) -> float:
    """One pair after the other, both ways."""
    total = 0.0
    for a, b, alike in ((first, second, same), (second, first, same.T)):
        for i in range(len(a)):
            terms = {
                j: scale * torch.cosine_similarity(a[i], b[j], dim=0).item()
                for j in range(len(b))
                if j == i or not alike[i, j]
            }
            total += math.log(sum(math.exp(term) for term in terms.values())) - terms[i]
    return total / (2 * len(first))


@pytest.mark.parametrize("twins", [False, True])
def test_contrastive_loss_equals_the_slow_one(twins: bool) -> None:
    torch.manual_seed(0)
    first, second = torch.randn(5, 7), torch.randn(5, 7)
    same = torch.eye(5, dtype=torch.bool)
    same[1, 3] = same[3, 1] = twins
    found = contrastive_loss(first, second, torch.tensor(3.0), same)
    assert found.item() == pytest.approx(slow_contrastive(first, second, 3.0, same), rel=1e-5)


def test_texts_need_no_padding_to_the_full_context(folder: Path) -> None:
    tower = AlignmentModule(str(folder)).clip.text.eval()
    ids = batch()["text"]
    full = torch.nn.functional.pad(ids, (0, 10 - ids.shape[1]))
    torch.testing.assert_close(encode_text(tower, ids), tower(full))


def test_disturbed_pictures_stay_pictures_and_repeat() -> None:
    torch.manual_seed(0)
    images = torch.rand(64, 3, 24, 24)
    before = images.clone()
    found, again = (augment(images, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(found, again)
    assert torch.equal(images, before)
    assert 0 <= found.min() <= found.max() <= 1
    untouched = (found == images).flatten(1).all(1)
    assert 0 < untouched.sum() < 64


def test_a_spared_answer_is_not_held_against_a_patch(folder: Path) -> None:
    module, pairs = AlignmentModule(str(folder)), batch()
    pairs["spared"]["class"].fill_(3)
    pairs["labels"]["class"][pairs["labels"]["class"] == 3] = 4
    losses = module._dense_losses(torch.randn(6, 9, 32), pairs)
    losses["class"].backward()
    touched = module.heads["class"].weight.grad.abs().sum(1) > 0
    assert touched.tolist() == [answer != 3 for answer in range(ANSWERS["class"])]


def test_a_picture_without_things_or_faces_has_a_finite_loss(folder: Path) -> None:
    module, pairs = AlignmentModule(str(folder)), batch()
    for name in ("colour", "hair", "smile"):
        pairs["labels"][name].fill_(-100)
    losses = module._dense_losses(torch.randn(6, 9, 32), pairs)
    assert all(torch.isfinite(value) for value in losses.values())


def test_fitting_learns_a_batch_by_heart_and_saves_what_the_encoder_reads(
    folder: Path, tmp_path: Path
) -> None:
    module = AlignmentModule(str(folder), str(tmp_path / "trained"), lr=3e-3, warmup=0.1, decay=0.5)
    pairs = batch()
    seen: list[float] = []
    module.log_dict = lambda losses: seen.append(sum(losses.values()).item())  # type: ignore[method-assign]
    trainer(max_steps=60).fit(module, loader([pairs] * 60))
    assert sum(seen[-5:]) / 5 < 0.7 * sum(seen[:5]) / 5
    encoder = ImageEncoder(str(tmp_path / "trained"))
    images = torch.rand(2, 3, 24, 24)
    with torch.no_grad():
        _, expected = module.eval().encode(images)
        normal = (images - torch.tensor(encoder.mean).view(3, 1, 1)) / torch.tensor(encoder.std).view(3, 1, 1)
        torch.testing.assert_close(encoder(normal), expected, atol=2e-2, rtol=2e-2)


def test_validation_scores_the_folders_weights(folder: Path) -> None:
    made = AlignmentModule(str(folder), str(folder))
    trainer(max_steps=1).fit(made, loader([batch()]))
    module = AlignmentModule(str(folder))
    (figures,) = trainer().validate(module, [loader([batch(40)]) for _ in VALIDATION], verbose=False)[:1]
    saved = open_clip.create_model(f"local-dir:{folder}").visual.conv1.weight
    torch.testing.assert_close(module.clip.visual.conv1.weight, saved)
    for name in (
        "patch_class",
        "patch_colour/pairs",
        "patch_box50/style",
        "face_hair",
        "face_smile",
        "retrieval",
    ):
        assert any(key.startswith(f"val/{name}") for key in figures), (name, figures)


def test_validation_without_weights_is_told(folder: Path) -> None:
    module = AlignmentModule(str(folder))
    with pytest.raises(ValueError, match=WEIGHTS):
        trainer().validate(module, [loader([batch()]) for _ in VALIDATION], verbose=False)
