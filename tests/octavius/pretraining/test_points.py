"""Alignment of a point encoder with a tiny CLIP: losses, scores and saved files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import open_clip
import pytest
import torch
from open_clip import factory
from safetensors.torch import save_file
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from datamodules.miniature.vocabulary import build_tokenizer
from octavius.encoders.image import CONFIG, WEIGHTS
from octavius.encoders.point_bert import PointBERT, load_point_bert, unit_sphere
from octavius.pretraining.frozen_clip import FrozenCLIP
from octavius.pretraining.points import LARGEST_SCALE, PointAlignmentModule

CLASSES = ("bed", "chair", "table")
COUNT = 9


def model_of(vocabulary: int) -> dict[str, Any]:
    text = {"context_length": 9, "vocab_size": vocabulary, "width": 16, "heads": 2, "layers": 1}
    vision = {
        "image_size": 16,
        "patch_size": 8,
        "width": 16,
        "layers": 1,
        "head_width": 8,
        "pool_type": "avg",
    }
    return {"embed_dim": 12, "custom_text": True, "vision_cfg": vision, "text_cfg": text}


def write_clip(folder: Path) -> Path:
    """Writes a tiny random CLIP with a tokenizer of its own."""
    words = build_tokenizer([f"a {name} of a red {name}" for name in CLASSES] * 20, 330)
    words.save_pretrained(folder)
    model = model_of(len(words))
    model["text_cfg"] |= {"pool_type": "eos", "eos_id": words.eos_token_id}
    looks = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    (folder / CONFIG).write_text(json.dumps({"model_cfg": model, "preprocess_cfg": looks}))
    torch.manual_seed(0)
    made = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file({name: part.contiguous() for name, part in made.state_dict().items()}, folder / WEIGHTS)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random CLIP."""
    return write_clip(tmp_path_factory.mktemp("clip"))


class Things(L.LightningDataModule):
    """Nine objects of three classes, each class of one shape and colour; the same batch each time."""

    def __init__(self) -> None:
        super().__init__()
        shapes = torch.randn(3, 16, 3)
        labels = torch.arange(COUNT) % 3
        places = shapes[labels] + torch.randn(COUNT, 16, 3) * 0.05
        colours = torch.eye(3)[labels][:, None].expand(-1, 16, -1)
        self.batch = {
            "points": torch.cat([places, colours], dim=-1),
            "label": labels,
            "classes": CLASSES,
            "text": [f"a {CLASSES[label]}" for label in labels],
            "colour": labels,
            "mentioned": torch.full((COUNT,), -1),
            "object": torch.arange(COUNT),
        }
        self.asked = {"index": torch.arange(COUNT), "set": "things", "size_baseline": 0.5}
        self.rendered = 0

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader([self.batch] * 40, batch_size=None)

    def val_dataloader(self) -> DataLoader[Any]:
        twice = {
            "points": self.batch["points"],
            "label": self.batch["label"],
            "classes": CLASSES,
        } | self.asked
        return DataLoader([twice, twice], batch_size=None)  # type: ignore[arg-type]

    def view_dataloader(self) -> DataLoader[Any]:
        things = self

        class Views(Dataset[Any]):
            def __len__(self) -> int:
                return COUNT

            def __getitem__(self, index: int) -> Any:
                things.rendered += 1
                flat = torch.full((2, 20, 20, 3), 80 * int(things.batch["label"][index]), dtype=torch.uint8)
                return {"object": index, "images": flat}

        return DataLoader(Views(), 4)


def encoder(**changes: Any) -> PointBERT:
    """A tiny point encoder."""
    sizes = {"groups": 6, "group_size": 4, "width": 16, "depth": 1, "heads": 2, "token_width": 16}
    return PointBERT(**(sizes | {"num_points": 16, "drop_path": 0.0, "projection_width": 12} | changes))


@pytest.fixture
def module(clip: Path, tmp_path: Path) -> Callable[..., PointAlignmentModule]:
    """Makes modules over the tiny CLIP that write into the test's folder."""

    def make(**changes: Any) -> PointAlignmentModule:
        settings = {"encoder": encoder(), "clip": str(clip), "save_to": str(tmp_path / "out"), "dropout": 0.2}
        return PointAlignmentModule(**(settings | {"templates": ["a {}"]} | changes))

    return make


def trainer(folder: Path, **changes: Any) -> L.Trainer:
    """A quiet trainer."""
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"accelerator": "cpu", "enable_model_summary": False, "num_sanity_val_steps": 0}
    return L.Trainer(default_root_dir=folder, **(quiet | {"max_epochs": 1} | changes))


@pytest.mark.parametrize("changes", [{}, {"negatives": "bank", "bank_size": 5, "bank_draws": 8}])
def test_it_learns_the_names_of_things_and_writes_the_encoder(
    changes: dict[str, Any],
    module: Callable[..., PointAlignmentModule],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made, things = module(**changes), Things()
    before = {name: part.clone() for name, part in made.clip.state_dict().items()}
    trainer(tmp_path).fit(made, things)
    assert made.figures["things"].top1 == 1
    assert made.figures["things"].objects == COUNT  # though the set came twice
    assert "things" in capsys.readouterr().out
    assert things.rendered == COUNT
    assert all(torch.equal(part, before[name]) for name, part in made.clip.state_dict().items())
    saved = load_point_bert(str(tmp_path / "out"))
    points = unit_sphere(things.batch["points"])
    with torch.no_grad():
        again = functional.normalize(saved.project(saved(points)), dim=-1)
        torch.testing.assert_close(again, made.eval()(points), atol=2e-2, rtol=2e-2)


def test_a_saved_encoder_is_scored_by_validation_alone(
    module: Callable[..., PointAlignmentModule], tmp_path: Path
) -> None:
    first, things = module(image_weight=0.0), Things()
    trainer(tmp_path).fit(first, things)
    assert things.rendered == 0
    scored = module(start=str(tmp_path / "out"))
    (figures,) = trainer(tmp_path).validate(scored, things, verbose=False)
    assert figures["val/top1/things"] == pytest.approx(first.figures["things"].top1)
    with pytest.raises(ValueError, match="has other sizes than the configured one"):
        trainer(tmp_path).validate(module(start=str(tmp_path / "out"), encoder=encoder(depth=2)), things)


def test_checkpoints_leave_clip_out_and_load_again(
    module: Callable[..., PointAlignmentModule], tmp_path: Path
) -> None:
    made, things = module(), Things()
    fitted = trainer(tmp_path, limit_train_batches=2)
    fitted.fit(made, things)
    fitted.save_checkpoint(tmp_path / "last.ckpt")
    stored = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert stored
    assert not [name for name in stored if name.startswith("clip.")]
    assert "encoder.encoder.first_conv.1.running_mean" in stored
    again = module()
    trainer(tmp_path).validate(again, things, ckpt_path=tmp_path / "last.ckpt", verbose=False)
    assert torch.equal(again.encoder.cls_pos, made.encoder.cls_pos)


def test_the_temperature_stays_in_its_limits(
    module: Callable[..., PointAlignmentModule], tmp_path: Path
) -> None:
    for start, end in ((9.0, LARGEST_SCALE), (-3.0, 0.0)):
        made = module()
        made.logit_scale.data.fill_(start)
        trainer(tmp_path, limit_train_batches=1, limit_val_batches=0).fit(made, Things())
        assert made.logit_scale.item() == pytest.approx(end)


def test_vectors_decay_not_and_clip_is_not_trained(
    module: Callable[..., PointAlignmentModule], tmp_path: Path
) -> None:
    made, fitted = module(), trainer(tmp_path, limit_train_batches=1, limit_val_batches=0)
    fitted.fit(made, Things())
    matrices, vectors = fitted.optimizers[0].param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)
    assert {part.ndim for part in vectors["params"]} == {0, 1}
    assert min(part.ndim for part in matrices["params"]) == 2
    trained = {id(part) for group in (matrices, vectors) for part in group["params"]}
    assert trained == {id(part) for part in made.encoder.parameters()} | {id(made.logit_scale)}


def test_what_cannot_be_aligned_is_told(module: Callable[..., PointAlignmentModule], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 12 numbers, but the encoder's projection leads to 13"):
        module(encoder=encoder(projection_width=13))
    with pytest.raises(ValueError, match="nothing to align to"):
        module(text_weight=0.0, image_weight=0.0)
    with pytest.raises(ValueError, match="templates"):
        module(templates=["chair"])
    batches = DataLoader([Things().batch], batch_size=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no views of its objects"):
        trainer(tmp_path).fit(module(), batches)


def test_sentences_and_pictures_are_what_the_towers_say(clip: Path) -> None:
    frozen, sentences = FrozenCLIP(str(clip)), ["a chair", "a photo of a red bed", "a chair " * 9]
    words = frozen._tokenize(sentences)
    assert words.shape == (3, 9)
    assert (words == 1).sum(1).tolist() == [1, 1, 1]
    assert (words == 2).sum(1).tolist() == [1, 1, 1]  # even where the sentence had to be cut
    expected = functional.normalize(frozen.clip.encode_text(words), dim=-1)
    torch.testing.assert_close(frozen.texts(sentences), expected)
    torch.testing.assert_close(frozen.texts(sentences[1:2]), expected[1:2], atol=1e-5, rtol=1e-5)
    pictures = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    pixels = ((pictures / 255 - mean) / std).permute(0, 3, 1, 2)
    expected = functional.normalize(frozen.clip.encode_image(pixels), dim=-1)
    torch.testing.assert_close(frozen.images(pictures), expected, atol=1e-5, rtol=1e-5)
    larger = pictures.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert frozen.images(larger).shape == (2, 12)
    assert not frozen.train().training
    assert not any(part.requires_grad for part in frozen.parameters())


def test_a_tokenizer_may_leave_its_marks_to_their_names(clip: Path, tmp_path: Path) -> None:
    for name in (CONFIG, WEIGHTS, "tokenizer.json"):
        (tmp_path / name).write_bytes((clip / name).read_bytes())
    torch.testing.assert_close(
        FrozenCLIP(str(tmp_path)).texts(["a bed"]), FrozenCLIP(str(clip)).texts(["a bed"])
    )
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="could not read the tokenizer"):
        FrozenCLIP(str(tmp_path))


def test_a_model_by_name_has_open_clips_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "tiny-for-a-test"
    monkeypatch.setitem(factory._MODEL_CONFIGS, name, model_of(49408) | {"custom_text": False})
    frozen = FrozenCLIP(name)
    assert frozen.width == 12
    assert torch.equal(frozen._tokenize(["a bed"]), open_clip.get_tokenizer(name)(["a bed"]))
