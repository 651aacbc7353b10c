"""open_clip models with another activation or normalisation are distinguished, or refused."""

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from octavius.encoders import image, open_clip_weights
from octavius.encoders.image import ImageEncoder
from octavius.encoders.open_clip_weights import check_weights

OPENAI = (0.48145466, 0.4578275, 0.40821073)


def activations() -> list[tuple[str, str, bool]]:
    """Every model and tag of open_clip, with whether the model's activation is that of the weights."""
    return [
        (
            name,
            tag,
            bool(open_clip.get_model_config(name).get("quick_gelu", False))
            is bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False)),
        )
        for name, tag in open_clip.list_pretrained()
    ]


def test_every_tag_is_taken_by_a_model_of_its_activation_and_refused_by_the_other() -> None:
    refused = []
    for name, tag, fits in activations():
        if fits or (name, tag) == ("roberta-ViT-B-32", "laion2b_s12b_b32k"):
            assert check_weights(name, tag) == {}
        else:
            with pytest.raises(ValueError, match=f"Set the encoder's name to '{name}-quickgelu'"):
                check_weights(name, tag)
            assert check_weights(f"{name}-quickgelu", tag) == {}
            refused.append((name, tag))
    assert ("ViT-B-16", "openai") in refused
    assert ("ViT-H-14", "dfn5b") in refused


def test_the_other_way_round_and_unknown_tags_are_told() -> None:
    with pytest.raises(ValueError, match="they are of 'ViT-L-14', which differs from it in its activation"):
        ImageEncoder("ViT-L-14-quickgelu", "laion2b_s32b_b82k")
    with pytest.raises(ValueError, match=r"weights of that name are of .*ViT-L-16-SigLIP-256"):
        ImageEncoder("ViT-B-32", "webli")
    with pytest.raises(ValueError, match="no such file; known tags: openai"):
        ImageEncoder("ViT-B-32", "no-such-tag")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A tiny model under the names ViT-B-32 and ViT-B-32-quickgelu; gives its configuration."""
    config: dict[str, Any] = {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", config)
    monkeypatch.setitem(
        open_clip.factory._MODEL_CONFIGS, "ViT-B-32-quickgelu", {**config, "quick_gelu": True}
    )
    return config


def weights(file: Path, name: str = "ViT-B-32") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    state = open_clip.create_model(name).state_dict()
    if file.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, file)
    else:
        torch.save(state, file)
    return file


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "place",
    [
        "ViT-B-32.safetensors/../vit_b_32-quickgelu-laion400m_e31-d867053b.pt",
        "models--timm--vit_base_patch32_clip_224.openai/snapshots/0/open_clip_model.safetensors",
        "vit_base_patch32_clip_224.openai/open_clip_model.safetensors",
    ],
)
def test_a_file_is_known_by_its_published_name_or_its_repository(place: str, tmp_path: Path) -> None:
    file = weights((tmp_path / place).resolve())
    with pytest.raises(ValueError, match=r"trained with QuickGELU, .*name to 'ViT-B-32-quickgelu'"):
        ImageEncoder("ViT-B-32", str(file))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert ImageEncoder("ViT-B-32-quickgelu", str(file)).mean == pytest.approx(OPENAI)


@pytest.mark.usefixtures("tiny")
def test_the_configuration_beside_a_file_decides(tmp_path: Path) -> None:
    file = weights(tmp_path / "mine.safetensors")
    facts = {"model_cfg": {"quick_gelu": True}, "preprocess_cfg": {"mean": [0.1] * 3, "std": [0.2] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"as .*open_clip_config\.json says"):
        ImageEncoder("ViT-B-32", str(file))
    encoder = ImageEncoder("ViT-B-32-quickgelu", str(file))
    assert (encoder.mean, encoder.std) == ((0.1,) * 3, (0.2,) * 3)
    (tmp_path / "open_clip_config.json").write_text("[]")
    with pytest.raises(ValueError, match="cannot be read as a configuration of open_clip"):
        ImageEncoder("ViT-B-32", str(file))


@pytest.mark.usefixtures("tiny")
def test_a_file_that_nothing_is_known_of_is_taken_with_a_warning(tmp_path: Path) -> None:
    file = weights(tmp_path / "mine.pt")
    with pytest.warns(
        UserWarning, match=r"nothing tells how .* trained: they are read as 'ViT-B-32', with GELU"
    ):
        encoder = ImageEncoder("ViT-B-32", str(file))
    assert encoder.mean == pytest.approx(OPENAI)


def test_pixels_are_normalised_as_for_all_published_weights_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").touch()
    found = check_weights("ViT-B-16-SigLIP", str(tmp_path / "mine.safetensors"))
    assert found == {"force_preprocess_cfg": {"mean": (0.5,) * 3, "std": (0.5,) * 3}}


@pytest.mark.usefixtures("tiny")
def test_files_that_cannot_be_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "jit.pt", "w") as archive:
        archive.writestr("jit/constants.pkl", b"")
    with pytest.raises(ValueError, match=r"TorchScript archive, .*the tag 'openai' of ViT-B-32-quickgelu"):
        ImageEncoder("ViT-B-32", str(tmp_path / "jit.pt"))
    (tmp_path / "cut.pt").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"cut\.pt' of 'ViT-B-32' could not be loaded"):
        ImageEncoder("ViT-B-32", str(tmp_path / "cut.pt"))
    monkeypatch.setattr(open_clip_weights, "_twin", lambda _: None)
    other = tmp_path / "other.pt"
    torch.save({"logit_scale": torch.ones(())}, other)
    with pytest.raises(ValueError, match="a file has to be of this very model"):
        image.open_model("ViT-B-32", str(other))
