"""Alignment of room views with a tiny CLIP: losses, figures and the saved folder."""

import math
from pathlib import Path
from typing import Any

import lightning
import open_clip
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from octavius.encoders.image import CONFIG, WEIGHTS
from octavius.folders import LIST
from octavius.presets import find_checkpoint
from octavius.pretraining.clip import encode_text
from octavius.pretraining.views import ANSWERS, VALIDATION, ViewAlignmentModule
from tests.octavius.pretraining.tiny_clip import write_config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the configuration of a tiny model, and something for a tokenizer."""
    torch.manual_seed(0)
    folder = write_config(tmp_path / "model", pixels=16, words=64)
    (folder / "tokenizer.json").write_text("{}")
    return folder


def sentences(first: Tensor, second: Tensor) -> Tensor:
    """Ids of made-up sentences of two words."""
    rows = torch.full((len(first), 4), 1)
    rows[:, 1], rows[:, 2], rows[:, 3] = first, second, 2
    return rows


def batch(size: int = 30) -> dict[str, Any]:
    """Made-up views: each class and colour has its own picture; half are told by class, half by colour."""
    kinds, colours, other = torch.arange(size) % 5, torch.arange(size) % 3, torch.tensor(49)
    images = torch.zeros(size, 3, 16, 16, dtype=torch.uint8)
    for row, (kind, colour) in enumerate(zip(kinds, colours, strict=True)):
        images[row, colour] = 200
        images[row, :, 3 * kind : 3 * kind + 3] = 90
    by_class = torch.arange(size) < size // 2
    every, paint = torch.arange(5), torch.arange(3)
    true = torch.where(by_class[None], kinds[:, None] == kinds, colours[:, None] == colours)
    return {
        "image": images,
        "text": sentences(
            torch.where(by_class, 10 + kinds, other), torch.where(by_class, other, 50 + colours)
        ),
        "labels": {"class": kinds, "colour": colours},
        "spared": {name: torch.zeros(size, count, dtype=torch.bool) for name, count in ANSWERS.items()},
        "same": true,
        "asked": {
            "class": sentences(10 + every, other.expand_as(every))[None],
            "colour": sentences(other.expand_as(paint), 50 + paint)[None],
        },
    }


def loader(batches: list[dict[str, Any]]) -> DataLoader[Any]:
    """Hands out ready batches."""
    return DataLoader(batches, batch_size=None)


def trainer(**changes: Any) -> lightning.Trainer:
    """A quiet trainer that keeps nothing."""
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"accelerator": "cpu", "enable_model_summary": False}
    return lightning.Trainer(**(quiet | changes))


def test_a_step_trains_towers_and_heads_and_spares_what_it_should(folder: Path) -> None:
    module, views = ViewAlignmentModule(str(folder)), batch()
    module.log_dict = lambda _: None  # type: ignore[method-assign, assignment]
    views["spared"]["class"][:, 7] = True
    views["labels"]["colour"][:4] = -100
    module.training_step(views, 0).backward()
    assert all(weight.grad is not None for weight in module.clip.parameters())
    touched = module.heads["class"].weight.grad.abs().sum(1) > 0
    assert touched.tolist() == [answer != 7 for answer in range(ANSWERS["class"])]


def test_a_batch_of_colourless_views_has_a_finite_loss(folder: Path) -> None:
    module, views = ViewAlignmentModule(str(folder)), batch()
    module.log_dict = lambda _: None  # type: ignore[method-assign, assignment]
    views["labels"]["colour"].fill_(-100)
    assert torch.isfinite(module.training_step(views, 0))


def test_views_of_the_same_kind_are_not_told_apart(folder: Path) -> None:
    """With all captions true of all pictures, nothing is left to learn from the contrast."""
    module, views = ViewAlignmentModule(str(folder), heads=0.0), batch()
    module.log_dict = lambda _: None  # type: ignore[method-assign, assignment]
    views["same"] = torch.ones_like(views["same"])
    assert module.training_step(views, 0).item() == pytest.approx(0, abs=1e-6)


def test_names_are_means_of_unit_sentences(folder: Path) -> None:
    module = ViewAlignmentModule(str(folder)).eval().requires_grad_(False)
    prompts = torch.stack([batch()["asked"]["class"][0], batch()["asked"]["class"][0].roll(1, 0)])
    found = module.names(prompts)
    for index in range(5):
        each = [
            functional.normalize(encode_text(module.clip.text, ids[index][None]), dim=-1)[0]
            for ids in prompts
        ]
        mean = (each[0] + each[1]) / 2
        torch.testing.assert_close(found[index], mean / math.sqrt(float((mean**2).sum())))


@pytest.mark.slow
def test_fitting_learns_names_and_saves_a_folder_that_open_clip_reads(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "trained"
    module = ViewAlignmentModule(str(folder), str(target), lr=3e-3, save_every=40)
    views = batch()
    trainer(max_steps=120).fit(module, loader([views] * 120))
    assert sorted(path.name for path in target.iterdir()) == sorted((CONFIG, WEIGHTS, LIST, "tokenizer.json"))
    model = open_clip.create_model(f"local-dir:{target}").eval()
    images = (views["image"].float() / 255 - module.mean) / module.std
    with torch.no_grad():
        torch.testing.assert_close(
            model.encode_image(images), module.eval().encode(views["image"]), atol=2e-2, rtol=2e-2
        )
        ids = functional.pad(views["text"], (0, 6))
        torch.testing.assert_close(
            model.encode_text(ids), encode_text(module.clip.text, views["text"]), atol=2e-2, rtol=2e-2
        )
    again = ViewAlignmentModule(str(target), str(tmp_path / "never"))
    (figures,) = trainer().validate(again, [loader([views]) for _ in VALIDATION], verbose=False)[:1]
    for name in ("class", "colour"):
        assert any(key.startswith(f"val/{name}") and value == 1 for key, value in figures.items()), figures
    assert not (tmp_path / "never").exists()


def test_figures_count_what_is_named_rightly(folder: Path) -> None:
    """Features are set by hand: picture i points at the name that `chosen` says."""
    module, views = ViewAlignmentModule(str(folder)), batch(10)
    chosen = views["labels"]["class"].clone()
    chosen[:4] = 30
    module.names = lambda _: torch.eye(31)  # type: ignore[method-assign]
    module.encode = lambda _: torch.eye(31)[chosen]  # type: ignore[method-assign]
    module.on_validation_epoch_start()
    views["asked"] = {"class": views["asked"]["class"]}
    views["labels"]["class"][9] = -100
    module.validation_step(views, 0, 0)
    (rows,) = module.seen[0]["class"]
    assert rows.tolist() == [False] * 4 + [True] * 5


def test_validation_without_weights_is_told(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"open_clip_model.safetensors.*clip_rooms.yaml"):
        trainer().validate(
            ViewAlignmentModule(str(folder)), [loader([batch()]) for _ in VALIDATION], verbose=False
        )


def test_the_shipped_folder_is_small_and_whole() -> None:
    shipped = find_checkpoint("miniature/clip_rooms")
    assert {path.name for path in shipped.iterdir()} >= {CONFIG, WEIGHTS, "tokenizer.json"}
    assert (shipped / WEIGHTS).stat().st_size <= 2.5e6
    model = open_clip.create_model(f"local-dir:{shipped}")
    assert all(torch.isfinite(weight).all() for weight in model.parameters())
