"""Files with the published names and shapes are loaded into Point-BERT; wrong ones are refused."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from octavius.encoders.point_bert import PointBERT
from octavius.encoders.point_bert_published import import_published

DEPTH = {"point_bert": 12, "ulip1": 12, "ulip2": 18}


def encoder_tensors(channels: int, depth: int) -> dict[str, Tensor]:
    """The published encoder's tensors, names and shapes written out by hand, of random numbers."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, 384),
        "cls_pos": (1, 1, 384),
        "encoder.first_conv.0.weight": (128, channels, 1),
        "encoder.first_conv.0.bias": (128,),
        "encoder.first_conv.3.weight": (256, 128, 1),
        "encoder.first_conv.3.bias": (256,),
        "encoder.second_conv.0.weight": (512, 512, 1),
        "encoder.second_conv.0.bias": (512,),
        "encoder.second_conv.3.weight": (256, 512, 1),
        "encoder.second_conv.3.bias": (256,),
        "reduce_dim.weight": (384, 256),
        "reduce_dim.bias": (384,),
        "pos_embed.0.weight": (128, 3),
        "pos_embed.0.bias": (128,),
        "pos_embed.2.weight": (384, 128),
        "pos_embed.2.bias": (384,),
        "norm.weight": (384,),
        "norm.bias": (384,),
    }
    for layer, width in (("encoder.first_conv.1", 128), ("encoder.second_conv.1", 512)):
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{layer}.{part}"] = (width,)
        shapes[f"{layer}.num_batches_tracked"] = ()
    for number in range(depth):
        block = f"blocks.blocks.{number}"
        for norm in ("norm1", "norm2"):
            shapes |= {f"{block}.{norm}.weight": (384,), f"{block}.{norm}.bias": (384,)}
        shapes |= {
            f"{block}.attn.qkv.weight": (1152, 384),
            f"{block}.attn.proj.weight": (384, 384),
            f"{block}.attn.proj.bias": (384,),
            f"{block}.mlp.fc1.weight": (1536, 384),
            f"{block}.mlp.fc1.bias": (1536,),
            f"{block}.mlp.fc2.weight": (384, 1536),
            f"{block}.mlp.fc2.bias": (384,),
        }
    return {
        name: torch.tensor(7) if name.endswith("tracked") else torch.rand(1).expand(shape)  # small on disk
        for name, shape in shapes.items()
    }


def published_size(channels: int, **changes: int) -> PointBERT:
    """An encoder of the published sizes, its numbers whatever lay in memory."""
    with torch.device("meta"):
        model = PointBERT(channels, **changes)
    return model.to_empty(device="cpu")


def prefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": part for name, part in tensors.items()}


def published(kind: str) -> tuple[dict[str, Any], dict[str, Tensor], PointBERT]:
    """A file's content, the encoder's tensors in it, and an encoder of these sizes."""
    own = encoder_tensors(6 if kind == "ulip2" else 3, DEPTH[kind])
    if kind == "point_bert":
        rest = {
            "cls_head.0.weight": torch.rand(2),
            "lm_head.weight": torch.rand(2),
            "mask_token": torch.rand(2),
        }
        content = prefixed(own | rest, "module.transformer_q.") | prefixed(own, "module.transformer_k.")
        content |= {"module.dvae.codebook": torch.rand(3), "module.queue": torch.rand(3)}
        return {"base_model": content, "epoch": 300, "metrics": {"acc": 1.0}}, own, published_size(3)
    space = 512 if kind == "ulip1" else 1280
    beside = {"pc_projection": torch.rand(1).expand(768, space), "logit_scale": torch.tensor(4.6)}
    tower = "visual" if kind == "ulip1" else "open_clip_model.visual"
    beside |= {f"{tower}.cls_token": torch.rand(3), "text_projection": torch.rand(3)}
    content = prefixed(prefixed(own, "point_encoder.") | beside, "module.")
    file = {"state_dict": content, "args": argparse.Namespace(lr=3e-3), "epoch": 250, "best_acc1": 60.3}
    model = published_size(6 if kind == "ulip2" else 3, depth=DEPTH[kind], projection_width=space)
    return file, own | {"projection": beside["pc_projection"]}, model


@pytest.mark.parametrize("kind", ["point_bert", "ulip1", "ulip2"])
def test_published_weights_load_by_name(kind: str, tmp_path: Path) -> None:
    content, expected, model = published(kind)
    torch.save(content, tmp_path / "weights.pt")
    assert import_published(tmp_path / "weights.pt", model) == []
    state = model.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], part) for name, part in expected.items())


def fine_tuned(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    """A fine-tuned Point-BERT, whose tensors have no prefix but that of several processes."""
    own = encoder_tensors(3, 12)
    heads = {"cls_head_finetune.0.weight": torch.rand(2), "cls_head_finetune.3.weight": torch.rand(2)}
    torch.save({"base_model": prefixed(own | heads, "module.")}, tmp_path / "tuned.pth")
    return tmp_path / "tuned.pth", own


def test_a_fine_tuned_file_has_no_projection_and_that_is_said(tmp_path: Path) -> None:
    path, own = fine_tuned(tmp_path)
    model = published_size(3, projection_width=16)
    model.state_dict()["projection"].fill_(5)
    assert import_published(path, model) == ["projection"]
    assert bool((model.state_dict()["projection"] == 5).all())
    assert torch.equal(model.state_dict()["norm.bias"], own["norm.bias"])


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"channels": 6}, r"first_conv.0.weight is \(128, 3, 1\) in the file and \(128, 6, 1\) here"),
        ({"channels": 3, "depth": 11}, "11 more are in the file, the first is blocks.blocks.11"),
        ({"channels": 3, "depth": 13}, "11 tensors are missing in the file, the first is blocks.blocks.12"),
    ],
)
def test_other_sizes_are_told_and_nothing_is_changed(
    sizes: dict[str, int], said: str, tmp_path: Path
) -> None:
    path, _ = fine_tuned(tmp_path)
    model = published_size(**sizes)
    for part in model.state_dict().values():
        part.fill_(5)
    with pytest.raises(ValueError, match=said):
        import_published(path, model)
    assert all(bool((part == 5).all()) for part in model.state_dict().values())


def test_another_space_is_told(tmp_path: Path) -> None:
    content, _, _ = published("ulip1")
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"projection is \(768, 512\) in the file and \(768, 1280\) here"):
        import_published(tmp_path / "weights.pt", published_size(3, projection_width=1280))


def test_wrong_files_are_told(tmp_path: Path) -> None:
    file, model = tmp_path / "weights.pt", published_size(3, depth=1)
    with pytest.raises(ValueError, match="no file at"):
        import_published(file, model)
    file.write_bytes(b"no weights at all")
    with pytest.raises(ValueError, match="cannot be read as published weights"):
        import_published(file, model)
    torch.save({"state_dict": {"visual.conv1.weight": torch.rand(2)}}, file)
    with pytest.raises(ValueError, match="expected a tensor 'cls_token', found visual"):
        import_published(file, model)
    torch.save([torch.rand(2)], file)
    with pytest.raises(ValueError, match="holds a list"):
        import_published(file, model)
    torch.save({"state_dict": {}, "args": Path("anything")}, file)
    with pytest.raises(ValueError, match="more than tensors and plain values"):
        import_published(file, model)
